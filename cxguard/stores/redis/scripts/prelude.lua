-- What every script begins with. The store swaps: conditions and index entries here, meaning in `cxguard.core`.
--
-- KEYS[1]  {prefix:N}:m  the partition's own hash: life, the last number, and in partition 0 the layout
-- KEYS[2]  {prefix:N}:-  never exists: while a cluster moves the slot, the server refuses the script before it begins,
--                        and not in the middle, when some of its keys have gone already
-- All else that a script touches has the same hash tag, and so lives in the same slot:
--          {prefix:N}:o:ID      an operation: h head, b body, q request, a answer, c contact, n notes, e their event ids,
--                               x names of the lists it is in, y names that its notes brought
--          {prefix:N}:c:CLAIM   the id of the record that holds the claim
--          {prefix:N}:x:BUCKET  exact names: sorted set, all scores 0, member = hash .. time .. id
--          {prefix:N}:g:SPACE:STATE:MONEY  lists, newest last: sorted set, all scores 0, member = time .. id
--          {prefix:N}:d:SPACE   what has a due time, leased or not: sorted set, all scores 0, member = time .. id
--          {prefix:N}:f:SPACE   due times of what nobody has leased: score time, member id
--          {prefix:N}:r:LINE    when `take` may have it: score time, member id
--          {prefix:N}:p:SPACE:VERSION  when it may be forgotten: score time, member id
--          {prefix:N}:u:SPACE   sums of unpaid amounts: hash by currency
-- SPACE stands for a namespace, LINE for a namespace, a rule and a version. An empty string means: none.
--
-- A record's fields are gathered and written in one command (`put`, `shelve`): each command more is one more in the
-- append-only file, too.
local HOME = string.sub(KEYS[1], 1, -2)
local OWN = redis.call('HMGET', KEYS[1], 'life', 'number')
if not OWN[1] then
  return redis.error_reply('NOLIFE this partition was emptied')
end

local HEAD = {
  'revision', 'token', 'lease_until', 'holder', 'attempt', 'opened_by', 'created', 'updated', 'due', 'notes', 'seen', 'keep',
  'pruned', 'claims', 'space', 'line', 'version', 'unpaid',
}
local BLOBS = { 'q', 'a', 'c' }

local function exact(number) -- a number as text that is read back as the very same number
  return string.format('%.17g', number)
end

local TIME = redis.call('TIME')
local NOW = tonumber(TIME[1]) + tonumber(TIME[2]) / 1000000
if ARGV[1] ~= '' then NOW = tonumber(ARGV[1]) end -- a test brings its own clock
local NOW_TEXT = exact(NOW)

-- Lease tokens and revisions: one sequence for both, which never goes back. It follows the time, in steps of 10 us since
-- 2025, so that what a failover or a restore has forgotten is not given out again; the partition's number is its end.
local PARTITION = tonumber(string.match(HOME, ':(%d+)}:$'))
local TICK = (tonumber(TIME[1]) - 1735689600) * 100000 + math.floor(tonumber(TIME[2]) / 10)
-- A record that is leased takes two, so two at a time are marked as given.
local last, marked = tonumber(OWN[2] or '0'), 0
local function number()
  last = math.max(last + 1, TICK)
  if last > marked then
    marked = last + 1
    redis.call('HSET', KEYS[1], 'number', exact(marked))
  end
  return exact(last * 64 + PARTITION)
end

local function each(list, call) -- names in one text, a tab between two
  for name in string.gmatch(list, '[^\t]+') do call(name) end
end

local function has(list, name)
  return string.find('\t' .. list .. '\t', '\t' .. name .. '\t', 1, true) ~= nil
end

local function without(list, name)
  local left = {}
  each(list, function(other) if other ~= name then left[#left + 1] = other end end)
  return table.concat(left, '\t')
end

local function leased(row)
  return row.token ~= '' and tonumber(row.lease_until) > NOW
end

local function min_due(due)
  if due == '' or tonumber(due) > NOW then return NOW_TEXT end
  return due
end

-- Records

local function times_of(row) -- where the row stands in the lists by time; '' : not there
  local ripe, free, prune = row.due, row.due, ''
  if row.token ~= '' then ripe, free = row.lease_until, '' end
  if row.due == '' and row.token == '' and tonumber(row.notes) <= tonumber(row.seen) then prune = row.keep end
  return { d = row.due, f = free, r = ripe, p = prune, line = row.line, space = row.space, version = row.version, unpaid = row.unpaid }
end

local function load(id)
  local key = HOME .. 'o:' .. id
  local fields = redis.call('HMGET', key, 'h', 'x', 'y')
  if not fields[1] then
    if redis.call('EXISTS', key) == 1 then error('a record without its head') end -- it may stand for a charge: not free
    return nil
  end
  local row, n = { id = id, key = key, names = fields[2] or '', noted = fields[3] or '', fields = {} }, 0
  for part in string.gmatch(fields[1] .. '\n', '(.-)\n') do
    n = n + 1
    row[HEAD[n]] = part
  end
  row.was = times_of(row)
  return row
end

local function sound(id) -- the record, if its head can be read to the end; whoever names a single record gets the error instead
  local fine, row = pcall(load, id)
  if not fine or not row or not row.unpaid then return nil end
  for _, name in ipairs({ 'revision', 'created', 'updated', 'notes', 'seen', 'version' }) do
    if not tonumber(row[name]) then return nil end
  end
  for _, name in ipairs({ 'token', 'lease_until', 'due', 'keep' }) do
    if row[name] ~= '' and not tonumber(row[name]) then return nil end
  end
  return row
end

local function put(row, field, value) -- `shelve` writes it
  row.fields[#row.fields + 1] = field
  row.fields[#row.fields + 1] = value
end

local function whole(row)
  return redis.call('HGETALL', row.key)
end

local function spot(time, id)
  return struct.pack('>d', math.max(0, tonumber(time))) .. id
end

local function place(key, time, before, id)
  if time == before then return end
  if time == '' then
    redis.call('ZREM', key, id)
  else
    redis.call('ZADD', key, time, id)
  end
end

local function place_due(row, time, before)
  local key = HOME .. 'd:' .. row.space
  if time == before then return end
  if before ~= '' then redis.call('ZREM', key, spot(before, row.id)) end
  if time ~= '' then redis.call('ZADD', key, 0, spot(time, row.id)) end
end

local function count_unpaid(row, unpaid, sign) -- 'EUR 4999'
  local currency, amount = string.match(unpaid, '^(.*) (%d+)$')
  if currency then redis.call('HINCRBY', HOME .. 'u:' .. row.space, currency, sign .. amount) end
end

local NOWHERE = { d = '', f = '', r = '', p = '', line = '', version = '', unpaid = '' }

local function settle(row, now, was) -- brings the lists by time, and the sums, up to date
  if was.line ~= now.line or was.version ~= now.version then
    place(HOME .. 'r:' .. was.line, '', was.r, row.id)
    place(HOME .. 'p:' .. row.space .. ':' .. was.version, '', was.p, row.id)
    was = { d = was.d, f = was.f, r = '', p = '', unpaid = was.unpaid }
  end
  place_due(row, now.d, was.d)
  place(HOME .. 'f:' .. row.space, now.f, was.f, row.id)
  place(HOME .. 'r:' .. now.line, now.r, was.r, row.id)
  place(HOME .. 'p:' .. row.space .. ':' .. now.version, now.p, was.p, row.id)
  if now.unpaid ~= was.unpaid then
    count_unpaid(row, was.unpaid, '-')
    count_unpaid(row, now.unpaid, '')
  end
end

local function shelve(row) -- writes the head, and what was put
  local parts = {}
  for n, name in ipairs(HEAD) do parts[n] = row[name] end
  put(row, 'h', table.concat(parts, '\n'))
  redis.call('HSET', row.key, unpack(row.fields))
  row.fields = {}
  local now = times_of(row)
  settle(row, now, row.was or NOWHERE)
  row.was = now
end

local function listed(row, name) -- in which list, and as what
  if string.sub(name, 1, 2) == 'g:' then return HOME .. name, spot(row.created, row.id) end
  return HOME .. 'x:' .. string.sub(name, 1, 3), name .. spot(row.created, row.id)
end

local function list(row, names, but) -- *but*: names that are there already
  each(names, function(name)
    if but ~= '' and has(but, name) then return end
    local key, member = listed(row, name)
    redis.call('ZADD', key, 0, member)
  end)
end

local function unlist(row, names, but)
  each(names, function(name)
    if has(but, name) then return end
    local key, member = listed(row, name)
    redis.call('ZREM', key, member)
  end)
end

local function rename(row, names)
  if row.names == names then return end
  if row.names ~= '' then unlist(row, row.names, names .. '\t' .. row.noted) end
  list(row, names, row.names)
  row.names = names
  put(row, 'x', names)
end

local function keep_notes(row, notes, events, names) -- all notes of a record, and the names that they bring
  put(row, 'n', notes)
  put(row, 'e', events)
  put(row, 'y', names)
  row.noted = names
end

-- What a caller sends of a record: ARGV from *first* on.
-- due, seen, keep, claims, space, line, version, unpaid, names, body, which blobs ('qac'), then those blobs.
local function sent(first)
  local given = {
    due = ARGV[first], seen = ARGV[first + 1], keep = ARGV[first + 2], claims = ARGV[first + 3], space = ARGV[first + 4],
    line = ARGV[first + 5], version = ARGV[first + 6], unpaid = ARGV[first + 7], names = ARGV[first + 8], body = ARGV[first + 9],
  }
  local next = first + 11
  for _, blob in ipairs(BLOBS) do
    if string.find(ARGV[first + 10], blob, 1, true) then
      given[blob] = ARGV[next]
      next = next + 1
    end
  end
  return given
end

local function fill(row, given) -- body, blobs and lists; `shelve` writes them
  row.seen, row.keep, row.line, row.version, row.unpaid = given.seen, given.keep, given.line, given.version, given.unpaid
  put(row, 'b', given.body)
  local gone = {}
  for _, blob in ipairs(BLOBS) do
    if given[blob] then
      put(row, blob, given[blob])
    else
      gone[#gone + 1] = blob
    end
  end
  if row.was and #gone > 0 then redis.call('HDEL', row.key, unpack(gone)) end -- a new record has none
  rename(row, given.names)
end

local function insert(id, given, created) -- a new record, not yet shelved
  local row = {
    id = id, key = HOME .. 'o:' .. id, token = '', lease_until = '', holder = '', attempt = '', opened_by = '', created = created,
    updated = NOW_TEXT, due = given.due, notes = '0', pruned = '', claims = given.claims, space = given.space,
    names = '', noted = '', fields = {},
  }
  row.revision = number()
  fill(row, given)
  return row
end

local function free_claims(row)
  each(row.claims, function(claim) redis.call('DEL', HOME .. 'c:' .. claim) end)
end

local function forget_names(row)
  free_claims(row)
  unlist(row, row.names, '')
  unlist(row, row.noted, '')
end

local function remove(row)
  forget_names(row)
  settle(row, NOWHERE, row.was)
  redis.call('DEL', row.key)
end

-- Leases and claims

local function lease(row, holder, attempt, seconds)
  row.token, row.holder, row.attempt = number(), holder, attempt
  row.lease_until = exact(NOW + tonumber(seconds))
  row.updated = NOW_TEXT
  row.revision = number()
end

local function lengthen(row, seconds)
  row.lease_until = exact(NOW + tonumber(seconds))
  shelve(row)
end

local function superseded(first) -- ARGV from *first* on: how many, then id and revision of each
  local seen = {}
  for n = 1, tonumber(ARGV[first]) do seen[ARGV[first + 2 * n - 1]] = ARGV[first + 2 * n] end
  return seen, first + 1 + 2 * tonumber(ARGV[first])
end

local function taken(id, claims, seen) -- the first claim that another record holds and that may not be taken from it
  local found, holder = nil, nil
  each(claims, function(claim)
    if found then return end
    local other = redis.call('GET', HOME .. 'c:' .. claim)
    if not other or other == id then return end
    local row = load(other)
    if row and seen[other] ~= row.revision then found, holder = claim, row end
  end)
  return found, holder
end

local function move_claims(id, claims)
  each(claims, function(claim)
    local other = redis.call('GET', HOME .. 'c:' .. claim)
    local row = other and other ~= id and load(other)
    if row then
      row.claims = without(row.claims, claim)
      row.revision = number()
      shelve(row)
    end
    redis.call('SET', HOME .. 'c:' .. claim, id)
  end)
end
