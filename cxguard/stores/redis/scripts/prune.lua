-- Keep names and money of a record only, or nothing, if it is still as it was seen.
-- Touches {prefix:N}: m, o:ID, c: of its claims, and the lists x g d f r p u.
-- ARGV: now, id, revision, remove ('1'), notes that stay, their event ids, names that they bring, how many, then the record.
local row = load(ARGV[2])
if not row or row.revision ~= ARGV[3] then return 0 end
if ARGV[4] == '1' then
  remove(row)
  return 1
end
row.revision = number()
forget_names(row)
redis.call('HDEL', row.key, 'x', 'y', 'n', 'e')
row.names, row.noted = '', ''
if ARGV[5] ~= '' then keep_notes(row, ARGV[5], ARGV[6], ARGV[7]) end
list(row, ARGV[7], '')
row.claims, row.notes, row.pruned = '', ARGV[8], '1'
fill(row, sent(9))
shelve(row)
return 1
