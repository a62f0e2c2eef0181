-- Changes one account of the list, if the list is still what the caller has seen.
-- KEYS: 1 version, 2 accounts, 3 account keys by email, 4 account keys by id, 5 quotas, 6 log of changes, 7 what is known
-- of the list.
-- ARGV: 1 prefix, 2 expected version ('' = any), 3 'put' or 'remove' or 'reset', 4 account, 5 record, 6 email, 7 masked id, 8 quota,
-- 9 who did it, 10 changes that the log keeps, 11 the name of the list's history, should it have none.
local version = tonumber(redis.call('GET', KEYS[1]) or '0')
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= version then return {'stale', tostring(version)} end
local operation, account = ARGV[3], ARGV[4]
local old = redis.call('HGET', KEYS[2], account)
local record = old and cjson.decode(old) or nil
if operation == 'put' then
  local holder = redis.call('HGET', KEYS[3], ARGV[6])
  if holder and holder ~= account then return {'email_taken', tostring(version)} end
  holder = redis.call('HGET', KEYS[4], ARGV[7])
  if holder and holder ~= account then return {'id_taken', tostring(version)} end
elseif not record then
  return {'unknown', tostring(version)}
end

-- The engine takes nothing back of a script that fails, such as at a command that the node may not use. So what nodes read
-- the whole list for comes first, and a change that goes no further changes nobody.
version = redis.call('INCR', KEYS[1])
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[10], '*', 'version', version, 'operation', operation, 'account', account,
  'record', operation == 'put' and ARGV[5] or '', 'by', ARGV[9])
if not redis.call('HGET', KEYS[7], 'history') then redis.call('HSET', KEYS[7], 'history', ARGV[11]) end
if record and operation ~= 'reset' then
  redis.call('HDEL', KEYS[3], record.email)
  redis.call('HDEL', KEYS[4], record.masked_id)
end
if operation == 'put' then
  redis.call('HSET', KEYS[2], account, ARGV[5])
  redis.call('HSET', KEYS[3], ARGV[6], account)
  redis.call('HSET', KEYS[4], ARGV[7], account)
  redis.call('HSET', KEYS[5], account, ARGV[8])
elseif operation == 'remove' then
  redis.call('HDEL', KEYS[2], account)
  redis.call('HDEL', KEYS[5], account)
else
  local use = ARGV[1] .. ':use:' .. account
  local used = tonumber(redis.call('HGET', use, 'up') or '0') + tonumber(redis.call('HGET', use, 'down') or '0')
  redis.call('HSET', use, 'base', string.format('%.0f', used))
end
return {'changed', tostring(version)}
