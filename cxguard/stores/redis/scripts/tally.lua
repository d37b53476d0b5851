-- How many records there are in each list, what is unpaid, and the oldest due time that nobody works on.
-- Touches {prefix:N}: g:SPACE:STATE:MONEY of each pair, u:SPACE, f:SPACE. Writes nothing.
-- ARGV: now, space, pairs ('queued:none').
local counts = {}
for n = 3, #ARGV do counts[n - 2] = redis.call('ZCARD', HOME .. 'g:' .. ARGV[2] .. ':' .. ARGV[n]) end
local oldest = redis.call('ZRANGE', HOME .. 'f:' .. ARGV[2], 0, 0, 'WITHSCORES')
return { counts, redis.call('HGETALL', HOME .. 'u:' .. ARGV[2]), oldest[2] or '' }
