-- Every statement that the store sends, by name. `{whole}` stands for the fragment of that name, `{schema}` for the schema's.
--
-- Plans are made once a connection, when a table may still be empty and reading all of it looks cheap. So a row that is
-- changed is named by `= ANY(...)`, beside the join that says with what: the planner then has no other way than the index.
-- A join alone has read the whole table for every batch, once there were many rows.

-- name: schema
{schema}

-- name: whole
o.seq, o.id, o.namespace, o.rule, o.state, o.money, o.reference, o.session, o.contact_hash, o.created_at, o.updated_at, o.due_at,
o.keep_until, o.lease_holder, o.lease_token, o.lease_until, o.lease_attempt, o.amount_minor, o.currency, o.notes_seen, o.revision,
o.version, o.claims, o.request, o.answer, o.contact, o.body,
CASE WHEN o.notes > 0 THEN (SELECT array_agg(n.body ORDER BY n.number) FROM {schema}.notes n WHERE n.id = o.id) END,
o.opened_by, o.pruned, o.notes

-- name: now
SELECT extract(epoch FROM clock_timestamp())::float8, left(pg_walfile_name(pg_current_wal_lsn()), 8)

-- name: settings
SELECT {set}

-- name: set
set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true),
set_config('lock_timeout', '3000', true), set_config('statement_timeout', '4000', true),
set_config('idle_in_transaction_session_timeout', '10000', true)

-- name: ready
SELECT {set}, c.now, c.timeline, c.timeline = %(timeline)s AND abs(c.now - coalesce(%(guess)s::float8, c.now)) <= 0.25 AS fits
FROM (
    SELECT coalesce(%(clock)s::float8, extract(epoch FROM clock_timestamp())::float8) AS now,
        left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline
) c

-- name: life
SELECT coalesce(l.number, 0), s.system, s.timeline, coalesce((l.system, l.timeline) = (s.system, s.timeline), false)
FROM (
    SELECT system_identifier::text AS system, left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline FROM pg_control_system()
) s
LEFT JOIN LATERAL (SELECT * FROM {schema}.lives ORDER BY number DESC LIMIT 1) l ON true

-- name: lock_lives
SELECT pg_advisory_xact_lock(hashtext('cxguard'), hashtext('{schema}'))

-- name: begin_life
WITH known (number, system, timeline, on_record) AS ({life}),
begun AS (
    INSERT INTO {schema}.lives (number, system, timeline, reason)
    SELECT number + 1, system, timeline, %(reason)s FROM known WHERE NOT on_record OR %(reason)s = 'restored'
    RETURNING number
)
SELECT setval('{schema}.numbers', greatest((SELECT last_value FROM {schema}.numbers), (number - 1) * 4294967296, %(last)s) + 4294967296)
FROM begun WHERE number > 1

-- name: last_number
SELECT greatest(max(revision), max(lease_token), 0) FROM {schema}.operations

-- name: numbers
SELECT nextval('{schema}.numbers') FROM generate_series(1, %s)

-- name: held_claims
SELECT key, id FROM {schema}.claims WHERE key = ANY(%s)

-- name: lock
SELECT {whole} FROM {schema}.operations o
WHERE o.id = ANY(%(ids)s::text[] || ARRAY(SELECT c.id FROM {schema}.claims c WHERE c.key = ANY(%(claims)s)))
ORDER BY o.id FOR UPDATE

-- name: lock_ids
SELECT {whole} FROM {schema}.operations o WHERE o.id = ANY(%(ids)s) ORDER BY o.id FOR UPDATE

-- name: present
SELECT o.id FROM {schema}.operations o
WHERE o.id = ANY(%(ids)s::text[] || ARRAY(SELECT c.id FROM {schema}.claims c WHERE c.key = ANY(%(claims)s::text[])))

-- name: take
WITH ready AS MATERIALIZED ({ready}),
ripe AS MATERIALIZED (
    SELECT each.id, each.ripe_at, each.seq, ready.now, row_number() OVER (ORDER BY each.ripe_at, each.seq) AS place
    FROM ready CROSS JOIN unnest(%(rules)s::text[]) AS wanted (rule)
    CROSS JOIN LATERAL (
        SELECT r.id, r.ripe_at, r.seq FROM {schema}.operations r
        WHERE r.namespace = %(namespace)s AND r.rule = wanted.rule AND r.version <= %(version)s AND r.ripe_at <= ready.now
        ORDER BY r.ripe_at, r.seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) each
    WHERE ready.fits
    ORDER BY each.ripe_at, each.seq LIMIT %(limit)s
)
UPDATE {schema}.operations o
SET lease_holder = (%(holders)s::text[])[ripe.place], lease_token = nextval('{schema}.numbers'),
    lease_until = ripe.now + %(lease_seconds)s,
    lease_attempt = CASE WHEN o.lease_token IS NULL THEN '' ELSE 'left behind' END,
    ripe_at = ripe.now + %(lease_seconds)s, prune_at = NULL, revision = nextval('{schema}.numbers'), updated_at = ripe.now
FROM ripe WHERE o.id = ANY(ARRAY(SELECT id FROM ripe)) AND o.id = ripe.id
RETURNING {whole}, ripe.ripe_at, ripe.place

-- name: leave
UPDATE {schema}.operations o
SET lease_holder = NULL, lease_token = NULL, lease_until = NULL, lease_attempt = NULL, ripe_at = %(until)s
FROM unnest(%(ids)s::text[], %(tokens)s::bigint[]) AS held (id, token)
WHERE o.id = ANY(%(ids)s::text[]) AND o.id = held.id AND o.lease_token = held.token

-- name: renew
WITH ready AS MATERIALIZED ({ready})
UPDATE {schema}.operations o
SET lease_until = ready.now + %(lease_seconds)s, ripe_at = ready.now + %(lease_seconds)s
FROM ready, unnest(%(ids)s::text[], %(tokens)s::bigint[]) AS held (id, token)
WHERE ready.fits AND o.id = ANY(%(ids)s::text[]) AND o.id = held.id AND o.lease_token = held.token
RETURNING o.id

-- name: write_known
WITH ready AS MATERIALIZED ({ready}),
fresh AS MATERIALIZED (
    SELECT r.* FROM ready, json_to_recordset(%(opens)s::json) AS r (
        id text, namespace text, rule text, state text, money text, reference text, session text, contact_hash text,
        created_at float8, updated_at float8, due_at float8, ripe_at float8, keep_until float8, prune_at float8, lease_holder text,
        lease_until float8, lease_attempt text, opened_by text, amount_minor bigint, currency text, notes_seen int, version int,
        claims text, body text, request int, answer int, contact int, claimed text[], keys text[], delta int
    )
    WHERE ready.fits
        AND NOT EXISTS (SELECT FROM {schema}.operations o WHERE o.id = r.id OFFSET 0)
        AND NOT EXISTS (SELECT FROM {schema}.claims c WHERE c.key = ANY(r.claimed) OFFSET 0)
),
opened AS (
    INSERT INTO {schema}.operations (
        id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at, ripe_at, keep_until,
        prune_at, lease_holder, lease_token, lease_until, lease_attempt, opened_by, amount_minor, currency, notes, notes_seen,
        revision, version, claims, body, request, answer, contact
    )
    SELECT id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at, ripe_at, keep_until,
        prune_at, lease_holder, CASE WHEN lease_until IS NOT NULL THEN nextval('{schema}.numbers') END, lease_until, lease_attempt,
        opened_by, amount_minor, currency, 0, notes_seen, nextval('{schema}.numbers'), version, claims, body,
        (%(sealed)b::bytea[])[request], (%(sealed)b::bytea[])[answer], (%(sealed)b::bytea[])[contact]
    FROM fresh ORDER BY id
    RETURNING id, lease_token, revision
),
asked AS MATERIALIZED (
    SELECT r.* FROM ready, json_to_recordset(%(saves)s::json) AS r (
        id text, namespace text, rule text, state text, money text, reference text, session text, contact_hash text,
        updated_at float8, due_at float8, keep_until float8, prune_at float8, kept boolean, amount_minor bigint, currency text,
        notes_seen int, version int, claims text, body text, request int, answer int, contact int, sealed boolean,
        seen bigint, token bigint, freed text[], keys text[], delta int
    )
    WHERE ready.fits
),
saved AS (
    UPDATE {schema}.operations o
    SET rule = a.rule, state = a.state, money = a.money, reference = a.reference, session = a.session, contact_hash = a.contact_hash,
        updated_at = a.updated_at, due_at = a.due_at, ripe_at = CASE WHEN a.kept THEN o.lease_until ELSE a.due_at END,
        keep_until = a.keep_until, prune_at = a.prune_at, pruned = false,
        lease_holder = CASE WHEN a.kept THEN o.lease_holder END, lease_token = CASE WHEN a.kept THEN o.lease_token END,
        lease_until = CASE WHEN a.kept THEN o.lease_until END, lease_attempt = CASE WHEN a.kept THEN o.lease_attempt END,
        amount_minor = a.amount_minor, currency = a.currency, notes_seen = a.notes_seen, revision = nextval('{schema}.numbers'),
        version = a.version, claims = a.claims, body = a.body,
        request = CASE WHEN a.sealed THEN (%(sealed)b::bytea[])[a.request] ELSE o.request END,
        answer = CASE WHEN a.sealed THEN (%(sealed)b::bytea[])[a.answer] ELSE o.answer END,
        contact = CASE WHEN a.sealed THEN (%(sealed)b::bytea[])[a.contact] ELSE o.contact END
    FROM asked a
    WHERE o.id = ANY(%(saved)s::text[]) AND o.id = a.id AND o.revision = a.seen AND o.lease_token = a.token
    RETURNING o.id, o.revision, o.lease_until
),
done AS MATERIALIZED (
    SELECT f.id, f.namespace, f.keys, f.delta, NULL::text[] AS freed FROM fresh f
    UNION ALL
    SELECT a.id, a.namespace, a.keys, a.delta, a.freed FROM asked a JOIN saved s ON s.id = a.id
),
let_go AS MATERIALIZED (SELECT f.key, d.id FROM done d, unnest(d.freed) AS f (key)),
claimed AS (INSERT INTO {schema}.claims (key, id) SELECT c.key, f.id FROM fresh f, unnest(f.claimed) AS c (key) ORDER BY 1),
freed AS (
    DELETE FROM {schema}.claims c
    WHERE c.key = ANY(ARRAY(SELECT g.key FROM let_go g)) AND c.id = (SELECT g.id FROM let_go g WHERE g.key = c.key LIMIT 1)
),
keyed AS (
    INSERT INTO {schema}.gateway_keys (key, id) SELECT k.key, d.id FROM done d, unnest(d.keys) AS k (key) ORDER BY 1
    ON CONFLICT DO NOTHING
),
counted AS (
    INSERT INTO {schema}.tallies (namespace, kind, first, second, slot, value)
    SELECT d.namespace, c.kind, c.first, c.second, %(slot)s, sum(c.by * d.times)
    FROM (SELECT namespace, delta, count(*)::bigint AS times FROM done GROUP BY namespace, delta) d
    JOIN json_to_recordset(%(deltas)s::json) AS c (delta int, kind text, first text, second text, by bigint) ON c.delta = d.delta
    GROUP BY d.namespace, c.kind, c.first, c.second HAVING sum(c.by * d.times) <> 0
    ORDER BY 1, 2, 3, 4
    ON CONFLICT (namespace, kind, first, second, slot) DO UPDATE SET value = tallies.value + excluded.value
)
SELECT id, lease_token, revision, NULL::float8, NULL::json, NULL::float8, NULL FROM opened
UNION ALL SELECT id, NULL, revision, lease_until, NULL, NULL, NULL FROM saved
UNION ALL SELECT o.id, NULL, NULL, NULL, json_build_array({whole}), NULL, NULL
FROM ready, {schema}.operations o WHERE ready.fits AND o.id = ANY(%(ids)s::text[])
UNION ALL SELECT '', NULL, NULL, NULL, NULL, now, timeline FROM ready

-- name: prunable
SELECT {whole} FROM {schema}.operations o
WHERE o.id IN (
    SELECT r.id FROM {schema}.operations r
    WHERE r.namespace = %(namespace)s AND r.version <= %(version)s AND r.prune_at <= coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8)
    ORDER BY r.prune_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
ORDER BY o.prune_at

-- name: insert
INSERT INTO {schema}.operations (
    id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at, ripe_at, keep_until,
    prune_at, lease_holder, lease_token, lease_until, lease_attempt, opened_by, amount_minor, currency, notes, notes_seen,
    revision, version, claims, body, request, answer, contact
) VALUES (
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s
)

-- name: update
UPDATE {schema}.operations
SET rule = %s, state = %s, money = %s, reference = %s, session = %s, contact_hash = %s, updated_at = %s, due_at = %s,
    ripe_at = %s, keep_until = %s, prune_at = %s, pruned = %s, lease_holder = %s, lease_token = %s, lease_until = %s,
    lease_attempt = %s, amount_minor = %s, currency = %s, notes = %s, notes_seen = %s, revision = %s, version = %s, claims = %s,
    body = %s
WHERE id = %s

-- name: update_lease
UPDATE {schema}.operations
SET updated_at = %s, due_at = %s, ripe_at = %s, prune_at = %s, lease_holder = %s, lease_token = %s, lease_until = %s,
    lease_attempt = %s, notes = %s, revision = %s, claims = %s
WHERE id = %s

-- name: update_sealed
UPDATE {schema}.operations SET request = %s, answer = %s, contact = %s WHERE id = %s

-- name: put_off_pruning
UPDATE {schema}.operations SET prune_at = %s WHERE id = ANY(%s)

-- name: delete
DELETE FROM {schema}.operations WHERE id = %s

-- name: add_claim
INSERT INTO {schema}.claims (key, id) VALUES (%s, %s)

-- name: move_claim
UPDATE {schema}.claims SET id = %s WHERE key = %s

-- name: free_claim
DELETE FROM {schema}.claims WHERE key = %s

-- name: add_gateway_key
INSERT INTO {schema}.gateway_keys (key, id) VALUES (%s, %s) ON CONFLICT DO NOTHING

-- name: drop_gateway_key
DELETE FROM {schema}.gateway_keys WHERE key = %s AND id = %s

-- name: add_note
INSERT INTO {schema}.notes (id, number, event_id, body) VALUES (%s, %s, %s, %s)

-- name: delete_notes
DELETE FROM {schema}.notes WHERE id = %s

-- name: add_tally
INSERT INTO {schema}.tallies (namespace, kind, first, second, slot, value) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (namespace, kind, first, second, slot) DO UPDATE SET value = tallies.value + excluded.value

-- name: find
SELECT {whole} FROM {schema}.operations o WHERE o.id = %(id)s

-- name: tally
SELECT kind, first, second, sum(value)::bigint FROM {schema}.tallies WHERE namespace = %(namespace)s
GROUP BY kind, first, second HAVING sum(value) <> 0

-- name: oldest_due
SELECT due_at FROM {schema}.operations
WHERE namespace = %(namespace)s AND due_at IS NOT NULL AND lease_token IS NULL
ORDER BY due_at LIMIT 1

-- name: load
SELECT revision, value FROM {schema}.small_values WHERE key = %(key)s

-- name: first_swap
INSERT INTO {schema}.small_values (key, revision, value) VALUES (%s, 1, %s) ON CONFLICT DO NOTHING RETURNING 1

-- name: swap
UPDATE {schema}.small_values SET revision = revision + 1, value = %s WHERE key = %s AND revision = %s RETURNING 1

-- name: sessions
SELECT id, revision, body, updated_at FROM {schema}.sessions WHERE id = ANY(%(ids)s)

-- name: lock_sessions
SELECT id, revision FROM {schema}.sessions WHERE id = ANY(%s) ORDER BY id FOR UPDATE

-- name: known_batches
SELECT id FROM {schema}.session_batches WHERE id = ANY(%s)

-- name: add_session
INSERT INTO {schema}.sessions (id, revision, body, updated_at, began_at) VALUES (%s, %s, %s, %s, %s)

-- name: put_session
UPDATE {schema}.sessions SET revision = %s, body = %s, updated_at = %s WHERE id = %s

-- name: remember_batch
INSERT INTO {schema}.session_batches (id, at) VALUES (%s, %s)

-- name: forget_batches
DELETE FROM {schema}.session_batches WHERE at < %s

-- name: forget_sessions
DELETE FROM {schema}.sessions WHERE updated_at < %(before)s AND id IN (
    SELECT id FROM {schema}.sessions WHERE began_at < %(before)s ORDER BY began_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)

-- name: add_counter
INSERT INTO {schema}.counters (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value

-- name: counters
SELECT name, value FROM {schema}.counters WHERE starts_with(name, %(prefix)s)

-- name: announce
SELECT pg_notify(%(channel)s, t.topic) FROM unnest(%(topics)s::text[]) WITH ORDINALITY AS t (topic, place) ORDER BY t.place

-- name: place
SELECT current_database()::text, system_identifier::text, left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()

-- name: is_open
SELECT coalesce(txid_status(%(name)s::bigint) = 'in progress', false)

-- name: join
SELECT current_database()::text, system_identifier::text,
    CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
    current_setting('transaction_read_only'), current_setting('lock_timeout'),
    CASE WHEN NOT pg_is_in_recovery() THEN txid_current()::text END,
    coalesce(
        (SELECT n FROM generate_series(%(first)s::int, %(last)s::int) n WHERE pg_try_advisory_xact_lock(hashtext('tallies {schema}'), n) LIMIT 1),
        %(last)s::int
    )
FROM pg_control_system()

-- name: set_joined
SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true),
    set_config('lock_timeout', '3000', true)

-- name: lock_timeout
SELECT set_config('lock_timeout', %(lock_timeout)s, true)
