-- Insert a whole record that another store has given up, or replace one that is still as it was seen.
-- Touches {prefix:N}: m, o:ID, c: of its claims, o: of whoever holds one of those, and the lists x g d f r p u.
-- ARGV: now, id, revision of the one to replace ('' : none), created, updated, notes, their event ids, names that they bring,
-- how many, superseded records, then the record.
local id = ARGV[2]
local seen, first = superseded(10)
local row = load(id)
if row and (row.revision ~= ARGV[3] or leased(row)) then return { 'there', NOW_TEXT, whole(row) } end
local given = sent(first)
local claim, other = taken(id, given.claims, seen)
if claim then return { 'claimed', NOW_TEXT, claim, other.id, whole(other) } end

if row then remove(row) end
row = insert(id, given, ARGV[4])
row.updated, row.notes = ARGV[5], ARGV[9]
if ARGV[6] ~= '' then keep_notes(row, ARGV[6], ARGV[7], ARGV[8]) end
list(row, ARGV[8], '')
move_claims(id, given.claims)
shelve(row)
return { 'new', NOW_TEXT, row.revision }
