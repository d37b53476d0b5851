-- The times of the most overdue records that `take` may have.
-- Touches {prefix:N}: r:LINE of each line. Writes nothing.
-- ARGV: now, limit, lines.
local times = {}
for n = 3, #ARGV do
  local found = redis.call('ZRANGEBYSCORE', HOME .. 'r:' .. ARGV[n], '-inf', NOW_TEXT, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
  for m = 2, #found, 2 do times[#times + 1] = found[m] end
end
return times
