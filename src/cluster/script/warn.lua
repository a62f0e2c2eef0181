-- Notes that a warning of an account is told, and answers 1 where no node has told it of this period of the quota.
-- KEYS: 1 what the account has used. ARGV: 1 the warning, 2 what it warns of, such as the quota or the end of the account.
local function noted(name) return redis.call('HGET', KEYS[1], name) or '0' end
local mark = ARGV[2] .. '|' .. noted('period') .. '|' .. noted('base')
if noted('warned:' .. ARGV[1]) == mark then return 0 end
redis.call('HSET', KEYS[1], 'warned:' .. ARGV[1], mark)
return 1
