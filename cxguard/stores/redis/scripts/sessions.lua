-- Sessions by their ids.
-- Touches {prefix:0}: s:ID of each. Writes nothing.
-- ARGV: now, ids.
local answer = {}
for n = 2, #ARGV do
  local found = redis.call('HMGET', HOME .. 's:' .. ARGV[n], 'r', 'b', 't')
  if found[1] then answer[#answer + 1] = { ARGV[n], found[1], found[2], found[3] } end
end
return answer
