-- Counts sessions of accounts over all nodes. What each argument means stands in `script.rs`.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local node, holds = ARGV[2], tonumber(ARGV[3])
local answer = {}
for at = 4, #ARGV, 2 do
  local key, count = ARGV[1] .. ':sessions:' .. ARGV[at], ARGV[at + 1]
  local fields, others = redis.call('HGETALL', key), 0
  for i = 1, #fields, 2 do
    local held, ends = string.match(fields[i + 1], '^(%d+)|(%d+)$')
    if not held or tonumber(ends) <= now then redis.call('HDEL', key, fields[i])
    elseif fields[i] ~= node then others = others + tonumber(held) end
  end
  if count == '0' then redis.call('HDEL', key, node)
  else
    redis.call('HSET', key, node, count .. '|' .. string.format('%.0f', now + holds))
    if redis.call('PTTL', key) < 2 * holds then redis.call('PEXPIRE', key, 2 * holds) end
  end
  answer[#answer + 1] = others
end
return answer
