-- Lengthen leases whose token is still the newest; give back the ids of the others.
-- Touches {prefix:N}: o: of each, and its list r.
-- ARGV: now, lease seconds, then id and token of each.
local lost = {}
for n = 3, #ARGV, 2 do
  local row = load(ARGV[n])
  if row and row.token ~= '' and row.token == ARGV[n + 1] then
    lengthen(row, ARGV[2])
  else
    lost[#lost + 1] = ARGV[n]
  end
end
return lost
