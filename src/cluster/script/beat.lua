-- Registers a node for another while, and tells how the cluster stands.
-- KEYS: 1 nodes by the time of their last sign of life, 2 this node's facts, 3 version, 4 what is known of the list. ARGV: 1 node, 2 boot, 3 milliseconds after which
-- a silent node counts as gone, then fields and values of its facts.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local boot, seen = redis.call('HGET', KEYS[2], 'boot'), tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
if boot and boot ~= ARGV[2] and tonumber(boot) > tonumber(ARGV[2]) and seen + tonumber(ARGV[3]) > now then
  return {'taken', boot, tostring(now)}
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], 'boot', ARGV[2], unpack(ARGV, 4))
local online = redis.call('ZCOUNT', KEYS[1], now - tonumber(ARGV[3]), '+inf')
return {'ok', redis.call('GET', KEYS[3]) or '0', tostring(now), tostring(online),
  redis.call('HGET', KEYS[4], 'history') or ''}
