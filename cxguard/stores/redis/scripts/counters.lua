-- Counters whose name begins with a prefix.
-- Touches {prefix:0}: counters. Writes nothing.
-- ARGV: now, prefix.
local answer = {}
local all = redis.call('HGETALL', HOME .. 'counters')
for n = 1, #all, 2 do
  if string.sub(all[n], 1, #ARGV[2]) == ARGV[2] then
    answer[#answer + 1] = all[n]
    answer[#answer + 1] = all[n + 1]
  end
end
return answer
