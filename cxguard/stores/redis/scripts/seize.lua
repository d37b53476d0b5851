-- Lease a record, if it is free or lapsed and still as it was seen.
-- Touches {prefix:N}: m, o:ID, c: of the claims, o: of whoever holds one of those, and the lists d f r p.
-- ARGV: now, id, revision, holder, attempt, lease seconds, newest version that is understood, claims, superseded records.
local row = load(ARGV[2])
if not row then return { 'none' } end
local holder, attempt, seconds, claims = ARGV[4], ARGV[5], ARGV[6], ARGV[8]
if attempt ~= '' and row.token ~= '' and row.attempt == attempt then
  lengthen(row, seconds)
  return { 'won', NOW_TEXT, whole(row) }
end
if row.revision ~= ARGV[3] or tonumber(row.version) > tonumber(ARGV[7]) or leased(row) then
  return { 'there', NOW_TEXT, whole(row) }
end
local claim, other = taken(row.id, claims, superseded(9))
if claim then return { 'claimed', NOW_TEXT, claim, other.id, whole(other) } end

lease(row, holder, attempt, seconds)
move_claims(row.id, claims)
each(claims, function(name)
  if row.claims == '' then
    row.claims = name
  elseif not has(row.claims, name) then
    row.claims = row.claims .. '\t' .. name
  end
end)
shelve(row)
return { 'won', NOW_TEXT, whole(row) }
