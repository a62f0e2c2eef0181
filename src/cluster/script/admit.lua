-- Admits addresses of accounts that may have a limited number of them over all nodes.
-- ARGV: 1 prefix, 2 node, 3 milliseconds that an admission holds; then per wish: account, address, limit (0: none, -1: the address is
-- not used on this node any more).
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ends = string.format('%.0f', now + tonumber(ARGV[3]))
local answer = {}
for at = 4, #ARGV, 3 do
  local key, address, limit = ARGV[1] .. ':addresses:' .. ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local field = ARGV[2] .. '|' .. address
  local addresses, count, is_known = {}, 0, false
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    if tonumber(fields[i + 1]) <= now then redis.call('HDEL', key, fields[i])
    else
      local held = string.match(fields[i], '|(.*)$')
      if held == address then is_known = true end
      if not addresses[held] then addresses[held] = true; count = count + 1 end
    end
  end
  local is_admitted = limit >= 0 and (is_known or limit == 0 or count < limit)
  if limit < 0 then
    redis.call('HDEL', key, field)
  elseif is_admitted then
    redis.call('HSET', key, field, ends)
    local holds = 2 * tonumber(ARGV[3])
    if redis.call('PTTL', key) < holds then redis.call('PEXPIRE', key, holds) end
  end
  answer[#answer + 1] = is_admitted and 1 or 0
end
return answer
