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
local HOME = string.sub(KEYS[1], 1, -2)
if redis.call('HEXISTS', KEYS[1], 'life') == 0 then
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

-- Lease tokens and revisions: one sequence for both, which never goes back. It follows the time, in steps of 10 us since
-- 2025, so that what a failover or a restore has forgotten is not given out again; the partition's number is its end.
local PARTITION = tonumber(string.match(HOME, ':(%d+)}:$'))
local TICK = (tonumber(TIME[1]) - 1735689600) * 100000 + math.floor(tonumber(TIME[2]) / 10)
local last = nil
local function number()
  if last == nil then last = tonumber(redis.call('HGET', KEYS[1], 'number') or '0') end
  last = math.max(last + 1, TICK)
  redis.call('HSET', KEYS[1], 'number', exact(last))
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
  if due == '' or tonumber(due) > NOW then return exact(NOW) end
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
  local head = redis.call('HGET', key, 'h')
  if not head then return nil end
  local row, n = { id = id, key = key }, 0
  for part in string.gmatch(head .. '\n', '(.-)\n') do
    n = n + 1
    row[HEAD[n]] = part
  end
  row.was = times_of(row)
  return row
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

local function shelve(row) -- writes the head
  local parts = {}
  for n, name in ipairs(HEAD) do parts[n] = row[name] end
  redis.call('HSET', row.key, 'h', table.concat(parts, '\n'))
  local now = times_of(row)
  settle(row, now, row.was or NOWHERE)
  row.was = now
end

local function listed(row, name) -- in which list, and as what
  if string.sub(name, 1, 2) == 'g:' then return HOME .. name, spot(row.created, row.id) end
  return HOME .. 'x:' .. string.sub(name, 1, 3), name .. spot(row.created, row.id)
end

local function list(row, names)
  each(names, function(name)
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
  local fields = redis.call('HMGET', row.key, 'x', 'y')
  local before, noted = fields[1] or '', fields[2] or ''
  if before == names then return end
  redis.call('HSET', row.key, 'x', names)
  unlist(row, before, names .. '\t' .. noted)
  list(row, names)
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

local function fill(row, given) -- body, blobs and lists; the head follows by `shelve`
  row.seen, row.keep, row.line, row.version, row.unpaid = given.seen, given.keep, given.line, given.version, given.unpaid
  redis.call('HSET', row.key, 'b', given.body)
  for _, blob in ipairs(BLOBS) do
    if given[blob] then
      redis.call('HSET', row.key, blob, given[blob])
    else
      redis.call('HDEL', row.key, blob)
    end
  end
  rename(row, given.names)
end

local function insert(id, given, created) -- a new record, not yet shelved
  local row = {
    id = id, key = HOME .. 'o:' .. id, token = '', lease_until = '', holder = '', attempt = '', opened_by = '', created = created,
    updated = exact(NOW), due = given.due, notes = '0', pruned = '', claims = given.claims, space = given.space,
  }
  row.revision = number()
  fill(row, given)
  return row
end

local function free_claims(row)
  each(row.claims, function(claim) redis.call('DEL', HOME .. 'c:' .. claim) end)
end

local function remove(row)
  local fields = redis.call('HMGET', row.key, 'x', 'y')
  free_claims(row)
  unlist(row, fields[1] or '', '')
  unlist(row, fields[2] or '', '')
  settle(row, NOWHERE, row.was)
  redis.call('DEL', row.key)
end

-- Leases and claims

local function lease(row, holder, attempt, seconds)
  row.token, row.holder, row.attempt = number(), holder, attempt
  row.lease_until = exact(NOW + tonumber(seconds))
  row.updated = exact(NOW)
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
