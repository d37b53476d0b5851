-- Lease the most overdue records of some lines.
-- Touches {prefix:N}: m, r:LINE of each line, o: of each record found, and the lists f r.
-- ARGV: now, holder, lease seconds, limit, lines.
local ripe = {}
for n = 5, #ARGV do
  local key = HOME .. 'r:' .. ARGV[n]
  local found = redis.call('ZRANGEBYSCORE', key, '-inf', NOW_TEXT, 'WITHSCORES', 'LIMIT', 0, ARGV[4])
  for m = 1, #found, 2 do ripe[#ripe + 1] = { found[m], tonumber(found[m + 1]), key } end
end
table.sort(ripe, function(a, b)
  if a[2] ~= b[2] then return a[2] < b[2] end
  return a[1] < b[1]
end)
local answer = {}
for n = 1, math.min(#ripe, tonumber(ARGV[4])) do
  local row = sound(ripe[n][1])
  if row then
    lease(row, ARGV[2], row.token == '' and '' or 'left behind', ARGV[3]) -- core/operation.py knows the word
    shelve(row)
    answer[#answer + 1] = { row.id, exact(ripe[n][2]), whole(row) }
  else -- somebody deleted or spoilt its key by hand: it holds up nobody behind it, and stays in the counts and in the list of what is due
    redis.call('ZREM', ripe[n][3], ripe[n][1])
  end
end
return answer
