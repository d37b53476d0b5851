-- Records whose next stage of forgetting has come.
-- Touches {prefix:N}: p:SPACE:VERSION of each version, o: of each record found. Writes nothing.
-- ARGV: now, limit, space, newest version that is understood. Of one whose head cannot be read: no fields.
local answer = {}
for version = 1, tonumber(ARGV[4]) do
  local key = HOME .. 'p:' .. ARGV[3] .. ':' .. version
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', NOW_TEXT, 'LIMIT', 0, ARGV[2])) do
    local row = sound(id)
    if #answer < tonumber(ARGV[2]) then answer[#answer + 1] = { id, row and whole(row) or {} } end
  end
end
return answer
