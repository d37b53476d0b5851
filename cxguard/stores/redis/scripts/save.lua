-- Replace a record, or remove it, if the token is its newest.
-- Touches {prefix:N}: m, o:ID, c: of claims that it gives up, and the lists x g d f r p u.
-- ARGV: now, id, token, keep the lease ('1'), remove ('1'), then the record.
local row = load(ARGV[2])
if not row or row.token == '' or row.token ~= ARGV[3] then return { 'lost' } end
local given = sent(6)
local news = tonumber(row.notes) > tonumber(given.seen)
local notes = row.notes ~= '0' and redis.call('HGET', row.key, 'n') or ''
if ARGV[5] == '1' and not news then
  remove(row)
  return { 'gone', notes }
end

row.revision = number()
row.updated, row.due, row.pruned = NOW_TEXT, given.due, ''
if ARGV[4] ~= '1' then
  row.token, row.lease_until, row.holder, row.attempt = '', '', '', ''
  if news then row.due = min_due(given.due) end
end
local kept = {}
each(row.claims, function(claim)
  if not has(given.claims, claim) then redis.call('DEL', HOME .. 'c:' .. claim) end
end)
each(given.claims, function(claim)
  if has(row.claims, claim) then kept[#kept + 1] = claim end
end)
row.claims = table.concat(kept, '\t')
fill(row, given)
shelve(row)
return { 'saved', notes, row.revision, row.updated, row.due, row.claims, row.lease_until, row.holder, row.attempt }
