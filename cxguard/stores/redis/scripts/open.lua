-- Insert a record, or tell what is there.
-- Touches {prefix:N}: m, o:ID, c: of its claims, o: of whoever holds one of those, and the lists x g d f r p u.
-- ARGV: now, id, holder, attempt, lease seconds ('' : without a lease), created, superseded records, then the record.
local id, holder, attempt, seconds = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local seen, first = superseded(7)
local row = load(id)
if row then
  if seconds ~= '' and attempt ~= '' and row.token ~= '' and row.attempt == attempt then
    lengthen(row, seconds)
    return { 'won', NOW_TEXT, whole(row) }
  end
  if seconds == '' and attempt ~= '' and row.opened_by == attempt then return { 'won', NOW_TEXT, whole(row) } end
  return { 'there', NOW_TEXT, whole(row) }
end
local given = sent(first)
local claim, other = taken(id, given.claims, seen)
if claim then return { 'claimed', NOW_TEXT, claim, other.id, whole(other) } end

row = insert(id, given, ARGV[6])
row.opened_by = attempt
if seconds ~= '' then lease(row, holder, attempt, seconds) end
move_claims(id, given.claims)
shelve(row)
return { 'new', NOW_TEXT, row.revision, row.token, row.lease_until }
