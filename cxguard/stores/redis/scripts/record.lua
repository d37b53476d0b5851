-- Write sessions and counters, or nothing.
-- Touches {prefix:0}: batches (sorted set of batch ids by time), s:ID of each session (hash: r revision, b body, t time),
-- counters (hash).
-- ARGV: now, batch id, batch ids are kept for so many seconds, a session's seconds, how many sessions, id, revision, body
-- and time of each, then name and amount of each counter.
local batches = HOME .. 'batches'
if redis.call('ZSCORE', batches, ARGV[2]) then return 1 end
local first = 6
local after = first + 4 * tonumber(ARGV[5])
for n = first, after - 1, 4 do
  if (redis.call('HGET', HOME .. 's:' .. ARGV[n], 'r') or '0') ~= ARGV[n + 1] then return 0 end
end
redis.call('ZADD', batches, NOW_TEXT, ARGV[2])
redis.call('ZREMRANGEBYSCORE', batches, '-inf', '(' .. exact(NOW - tonumber(ARGV[3])))
for n = first, after - 1, 4 do
  local key = HOME .. 's:' .. ARGV[n]
  redis.call('HSET', key, 'r', exact(tonumber(ARGV[n + 1]) + 1), 'b', ARGV[n + 2], 't', ARGV[n + 3])
  redis.call('EXPIRE', key, ARGV[4])
end
for n = after, #ARGV, 2 do
  local amount = tonumber(redis.call('HGET', HOME .. 'counters', ARGV[n]) or '0') + tonumber(ARGV[n + 1])
  redis.call('HSET', HOME .. 'counters', ARGV[n], exact(amount))
end
return 1
