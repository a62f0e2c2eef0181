-- Takes a node off the list that has given no sign of life for a while. What it has told, and which of its batches were
-- applied, stays: should it come back, nothing is counted twice. What was lent to it ends with its time.
-- KEYS: 1 nodes by the time of their last sign of life, 2 the node's facts. ARGV: 1 node, 2 milliseconds after which a
-- silent node counts as gone.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local seen = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not seen then return {'unknown', '0'} end
local silent = math.max(0, now - tonumber(seen))
if silent < tonumber(ARGV[2]) then return {'there', string.format('%.0f', silent)} end
redis.call('ZREM', KEYS[1], ARGV[1])
local facts = redis.call('HGETALL', KEYS[2])
for i = 1, #facts, 2 do redis.call('HDEL', KEYS[2], facts[i]) end
return {'forgotten', string.format('%.0f', silent)}
