-- Every statement that the store sends, by name. `{whole}` stands for the fragment of that name.

-- name: whole
o.seq, o.id, o.namespace, o.rule, o.state, o.money, o.reference, o.session, o.contact_hash, o.created_at, o.updated_at, o.due_at,
o.keep_until, o.lease_holder, o.lease_token, o.lease_until, o.lease_attempt, o.amount_minor, o.currency, o.notes_seen, o.revision,
o.version, o.claims, o.request, o.answer, o.contact, o.body,
CASE WHEN o.notes > 0 THEN (SELECT array_agg(n.body ORDER BY n.number) FROM notes n WHERE n.id = o.id) END,
o.opened_by, o.pruned, o.notes

-- name: now
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: numbers
SELECT nextval('numbers') FROM generate_series(1, %s)

-- name: lock_claims
SELECT key, id FROM claims WHERE key = ANY(%s) ORDER BY key FOR UPDATE

-- name: lock
SELECT {whole} FROM operations o
WHERE o.id = ANY(%(ids)s) OR o.id IN (SELECT c.id FROM claims c WHERE c.key = ANY(%(claims)s))
ORDER BY o.id FOR UPDATE

-- name: lock_ids
SELECT {whole} FROM operations o WHERE o.id = ANY(%(ids)s) ORDER BY o.id FOR UPDATE

-- name: take
SELECT r.id FROM operations r
WHERE r.namespace = %(namespace)s AND r.rule = ANY(%(rules)s) AND r.version <= %(version)s AND r.ripe_at <= %(now)s
ORDER BY r.ripe_at, r.seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: prunable
SELECT r.id FROM operations r
WHERE r.namespace = %(namespace)s AND r.version <= %(version)s AND r.prune_at <= %(now)s
ORDER BY r.prune_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED

-- name: insert
INSERT INTO operations (
    id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at, ripe_at, keep_until,
    prune_at, lease_holder, lease_token, lease_until, lease_attempt, opened_by, amount_minor, currency, notes, notes_seen,
    revision, version, claims, body, request, answer, contact
) VALUES (
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
)

-- name: update
UPDATE operations
SET rule = %s, state = %s, money = %s, reference = %s, session = %s, contact_hash = %s, updated_at = %s, due_at = %s,
    ripe_at = %s, keep_until = %s, prune_at = %s, pruned = %s, lease_holder = %s, lease_token = %s, lease_until = %s,
    lease_attempt = %s, amount_minor = %s, currency = %s, notes = %s, notes_seen = %s, revision = %s, version = %s, claims = %s,
    body = %s
WHERE id = %s

-- name: update_lease
UPDATE operations
SET updated_at = %s, due_at = %s, ripe_at = %s, prune_at = %s, lease_holder = %s, lease_token = %s, lease_until = %s,
    lease_attempt = %s, notes = %s, revision = %s, claims = %s
WHERE id = %s

-- name: update_sealed
UPDATE operations SET request = %s, answer = %s, contact = %s WHERE id = %s

-- name: put_off
UPDATE operations SET ripe_at = %s WHERE id = ANY(%s)

-- name: put_off_pruning
UPDATE operations SET prune_at = %s WHERE id = ANY(%s)

-- name: delete
DELETE FROM operations WHERE id = %s

-- name: add_claim
INSERT INTO claims (key, id) VALUES (%s, %s)

-- name: move_claim
UPDATE claims SET id = %s WHERE key = %s

-- name: free_claim
DELETE FROM claims WHERE key = %s

-- name: add_gateway_key
INSERT INTO gateway_keys (key, id) VALUES (%s, %s) ON CONFLICT DO NOTHING

-- name: drop_gateway_key
DELETE FROM gateway_keys WHERE key = %s AND id = %s

-- name: add_note
INSERT INTO notes (id, number, event_id, body) VALUES (%s, %s, %s, %s)

-- name: delete_notes
DELETE FROM notes WHERE id = %s

-- name: add_tally
INSERT INTO tallies (namespace, kind, first, second, slot, value) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (namespace, kind, first, second, slot) DO UPDATE SET value = tallies.value + excluded.value

-- name: find
SELECT {whole} FROM operations o WHERE o.id = %(id)s

-- name: tally
SELECT kind, first, second, sum(value)::bigint FROM tallies WHERE namespace = %(namespace)s
GROUP BY kind, first, second HAVING sum(value) <> 0

-- name: oldest_due
SELECT due_at FROM operations
WHERE namespace = %(namespace)s AND due_at IS NOT NULL AND lease_token IS NULL
ORDER BY due_at LIMIT 1

-- name: load
SELECT revision, value FROM small_values WHERE key = %(key)s

-- name: first_swap
INSERT INTO small_values (key, revision, value) VALUES (%s, 1, %s) ON CONFLICT DO NOTHING RETURNING 1

-- name: swap
UPDATE small_values SET revision = revision + 1, value = %s WHERE key = %s AND revision = %s RETURNING 1

-- name: sessions
SELECT id, revision, body, updated_at FROM sessions WHERE id = ANY(%(ids)s)

-- name: lock_sessions
SELECT id, revision FROM sessions WHERE id = ANY(%s) ORDER BY id FOR UPDATE

-- name: known_batches
SELECT id FROM session_batches WHERE id = ANY(%s)

-- name: add_session
INSERT INTO sessions (id, revision, body, updated_at) VALUES (%s, %s, %s, %s)

-- name: put_session
UPDATE sessions SET revision = %s, body = %s, updated_at = %s WHERE id = %s

-- name: remember_batch
INSERT INTO session_batches (id, at) VALUES (%s, %s)

-- name: forget_batches
DELETE FROM session_batches WHERE at < %s

-- name: add_counter
INSERT INTO counters (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value

-- name: counters
SELECT name, value FROM counters WHERE starts_with(name, %(prefix)s)
