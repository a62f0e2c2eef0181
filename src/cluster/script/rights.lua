-- Names the commands that the user of this connection may not use on the cluster's keys; none where the engine cannot say.
-- ARGV: 1 prefix.
local key, lacking = ARGV[1] .. ':rights', {}
if not redis.acl_check_cmd then return lacking end
local calls = {
  {'time'}, {'get', key}, {'incr', key}, {'hget', key, 'x'}, {'hgetall', key}, {'hscan', key, '0'}, {'hset', key, 'x', '1'},
  {'hdel', key, 'x'}, {'hincrby', key, 'x', '1'}, {'xadd', key, '*', 'x', '1'}, {'xread', 'STREAMS', key, '0'},
  {'xrevrange', key, '+', '-'}, {'zadd', key, '1', 'x'}, {'zcount', key, '0', '1'}, {'zscore', key, 'x'},
  {'zrange', key, '0', '-1'}, {'zrem', key, 'x'}, {'pttl', key}, {'pexpire', key, '1'},
}
for _, call in ipairs(calls) do
  if not redis.acl_check_cmd(unpack(call)) then lacking[#lacking + 1] = call[1] end
end
return lacking
