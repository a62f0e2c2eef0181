-- Applies one batch of a node once, and grants leases of quotas. What each argument means stands in `script.rs`.
local prefix, node, boot, sequence, skip = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lease_ms, lease_min = tonumber(ARGV[6]), tonumber(ARGV[7])
local function whole(number) return string.format('%.0f', number) end
local function count(text)
  local number = tonumber(text or '0')
  return number and number >= 0 and number < 1e19 and number or 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = tonumber(redis.call('HGET', KEYS[1], boot) or '0')
if sequence > last + 1 and skip ~= sequence then return {'gap', whole(last), whole(now)} end
local is_new = sequence > last

-- The engine takes nothing back of a script that fails. So whatever fails once something was counted, such as a command
-- that the node may not use, is told with the answer instead: the batch would be counted again with every further attempt.
-- Where something else was put in the place of what an account has used, the account stays as it is.
local has_counted, trouble = false, nil
local function on_account(...)
  local done = redis.pcall(...)
  if type(done) ~= 'table' or not done.err then return done end
  for _, words in ipairs({'WRONGTYPE', 'not an integer', 'would overflow'}) do
    if string.find(done.err, words, 1, true) then return {} end
  end
  if has_counted then
    trouble = trouble or done.err
    return {}
  end
  if is_new then redis.call('HSET', KEYS[1], boot, whole(last)) end
  return error(done.err)
end
if is_new then redis.call('HSET', KEYS[1], boot, whole(sequence)) end

local answer = {is_new and 'applied' or 'repeated', whole(math.max(sequence, last)), whole(now)}
for at = 8, #ARGV, 5 do
  local account, up, down = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local target, period = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local use = prefix .. ':use:' .. account
  local fields, used, leases, ends = on_account('HGETALL', use), 0, {}, {}
  local base, known_period = 0, 0
  for i = 1, #fields, 2 do
    local name, value = fields[i], count(fields[i + 1])
    if name == 'up' or name == 'down' then used = used + value
    elseif name == 'base' then base = value
    elseif name == 'period' then known_period = value
    elseif string.sub(name, 1, 6) == 'lease:' then leases[string.sub(name, 7)] = value
    elseif string.sub(name, 1, 5) == 'ends:' then ends[string.sub(name, 6)] = value end
  end
  -- A period begins by this clock: a node whose own is ahead must not begin it for all.
  if period > known_period and period * 1000 <= now then
    base = used
    on_account('HSET', use, 'period', whole(period), 'base', whole(base))
  end
  if is_new then
    if up ~= '0' then on_account('HINCRBY', use, 'up', up) end
    if down ~= '0' then on_account('HINCRBY', use, 'down', down) end
    has_counted = true
    used = used + tonumber(up) + tonumber(down)
    leases[node] = math.max(0, (leases[node] or 0) - tonumber(up) - tonumber(down))
  end
  local known = on_account('HGET', KEYS[2], account)
  local quota = type(known) == 'string' and count(known) or 0
  if quota > 0 then
    local out = 0
    for holder, bytes in pairs(leases) do
      if holder ~= node then
        if (ends[holder] or 0) <= now then on_account('HDEL', use, 'lease:' .. holder, 'ends:' .. holder)
        else out = out + bytes end
      end
    end
    -- What this node had and does not want any more goes back first; then there is one sum to grant from.
    local lease = math.min(leases[node] or 0, target)
    local left = math.max(0, quota - (used - base) - out - lease)
    if target > lease then
      local grant = math.min(target - lease, math.max(lease_min, math.floor(left / 4)), left)
      lease, left = lease + grant, left - grant
    end
    on_account('HSET', use, 'lease:' .. node, whole(lease), 'ends:' .. node, whole(now + lease_ms))
    answer[#answer + 1] = account
    answer[#answer + 1] = whole(lease)
    answer[#answer + 1] = whole(left)
    answer[#answer + 1] = whole(used - base)
  end
end
if trouble then answer[#answer + 1] = trouble end
return answer
