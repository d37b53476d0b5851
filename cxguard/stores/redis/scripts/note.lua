-- Append a fact and make the record due; make a stub for an id that is not there.
-- Touches {prefix:N}: m, o:ID, and the lists x g d f r p.
-- ARGV: now, id, event id, note, names that it brings, stub due seconds, then the stub.
local id, event, note, names = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local row = load(id)
if not row then
  row = insert(id, sent(7), NOW_TEXT)
  row.due = exact(NOW + tonumber(ARGV[6]))
else
  local known = '\n' .. (redis.call('HGET', row.key, 'e') or '') .. '\n'
  if string.find(known, '\n' .. event .. '\n', 1, true) then return whole(row) end
  row.revision = number()
  row.due = min_due(row.due)
  row.updated = NOW_TEXT
end
local fields = redis.call('HMGET', row.key, 'n', 'e')
put(row, 'n', fields[1] and fields[1] .. '\n' .. note or note)
put(row, 'e', fields[2] and fields[2] .. '\n' .. event or event)
if names ~= '' then
  put(row, 'y', row.noted ~= '' and row.noted .. '\t' .. names or names)
  list(row, names, '')
end
row.notes = exact(tonumber(row.notes) + 1)
shelve(row)
return whole(row)
