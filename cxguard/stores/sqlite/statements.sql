-- Every statement that the store sends, by name. `{whole}` stands for the fragment of that name.

-- name: whole
operations.seq, id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at,
keep_until, lease_holder, lease_token, lease_until, lease_attempt, amount_minor, currency, notes_seen, revision, version,
claims, request, answer, contact, body,
CASE WHEN notes = 0 THEN NULL ELSE (
    SELECT json_group_array(body) FROM (SELECT body FROM notes WHERE notes.seq = operations.seq ORDER BY number)
) END

-- name: find
SELECT {whole} FROM operations WHERE id = ?

-- name: find_by_seq
SELECT {whole} FROM operations WHERE seq = ?

-- name: find_opened
SELECT opened_by FROM operations WHERE seq = ?

-- name: find_head
SELECT seq, namespace, state, money, rule, reference, session, contact_hash, lease_holder, lease_token, lease_until,
       lease_attempt, amount_minor, currency, due_at, notes, sends, revision, version, claims
FROM operations WHERE id = ?

-- name: insert
INSERT INTO operations (
    id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at, ripe_at, keep_until,
    prune_at, lease_holder, lease_token, lease_until, lease_attempt, opened_by, amount_minor, currency, notes, notes_seen,
    sends, revision, version, claims, body, request, answer, contact
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: update
UPDATE operations
SET state = ?, money = ?, updated_at = ?, due_at = ?, ripe_at = ?, keep_until = ?, prune_at = ?, pruned = ?,
    lease_holder = ?, lease_token = ?, lease_until = ?, lease_attempt = ?, amount_minor = ?, currency = ?, notes_seen = ?,
    sends = ?, revision = ?, version = ?, claims = ?, body = ?, request = ?, answer = ?, contact = ?
WHERE seq = ?

-- name: update_names
UPDATE operations SET rule = ?, reference = ?, session = ?, contact_hash = ? WHERE seq = ?

-- name: update_lease
UPDATE operations
SET lease_holder = ?, lease_token = ?, lease_until = ?, lease_attempt = ?, ripe_at = ?, prune_at = NULL, revision = ?,
    updated_at = ?
WHERE seq = ?

-- name: renew
UPDATE operations SET lease_until = ?1, ripe_at = ?1 WHERE id = ?2 AND lease_token = ?3

-- name: bring_times_back
UPDATE operations SET
    lease_until = lease_until - ?1, ripe_at = coalesce(lease_until, due_at) - ?1, due_at = due_at - iif(lease_until IS NULL, ?1, 0)
WHERE (lease_until > ?2 OR (lease_until IS NULL AND due_at > ?3 AND due_at <= ?4)) AND seq IN (
    WITH RECURSIVE
    shops (namespace) AS (
        VALUES ('')
        UNION ALL
        SELECT (SELECT min(o.namespace) FROM operations AS o WHERE o.ripe_at IS NOT NULL AND o.namespace > shops.namespace)
        FROM shops WHERE shops.namespace IS NOT NULL
    ),
    lines (namespace, rule) AS (
        SELECT namespace, '' FROM shops WHERE namespace IS NOT NULL
        UNION ALL
        SELECT lines.namespace, (
            SELECT min(o.rule) FROM operations AS o
            WHERE o.ripe_at IS NOT NULL AND o.namespace = lines.namespace AND o.rule > lines.rule
        )
        FROM lines WHERE lines.rule IS NOT NULL
    )
    SELECT o.seq FROM lines CROSS JOIN operations AS o ON o.namespace = lines.namespace AND o.rule = lines.rule WHERE o.ripe_at > ?3
)

-- name: update_noted
UPDATE operations
SET notes = ?, due_at = ?, ripe_at = ?, prune_at = NULL, revision = ?, updated_at = ?
WHERE seq = ?

-- name: update_claims
UPDATE operations SET claims = ?, revision = ? WHERE seq = ?

-- name: set_note_count
UPDATE operations SET notes = ? WHERE seq = ?

-- name: put_off
UPDATE operations SET ripe_at = ? WHERE seq = ?

-- name: put_off_pruning
UPDATE operations SET prune_at = ? WHERE seq = ?

-- name: delete
DELETE FROM operations WHERE seq = ?

-- name: delete_notes
DELETE FROM notes WHERE seq = ?

-- name: claim_holder
SELECT claims.seq, operations.id, operations.revision
FROM claims JOIN operations ON operations.seq = claims.seq
WHERE claims.key = ?

-- name: set_claim
INSERT INTO claims (key, seq) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET seq = excluded.seq

-- name: free_claim
DELETE FROM claims WHERE key = ? AND seq = ?

-- name: claims_of
SELECT claims FROM operations WHERE seq = ?

-- name: add_gateway_key
INSERT INTO gateway_keys (key, seq) VALUES (?, ?) ON CONFLICT DO NOTHING

-- name: drop_gateway_key
DELETE FROM gateway_keys WHERE key = ? AND seq = ?

-- name: notes_of
SELECT body FROM notes WHERE seq = ? ORDER BY number

-- name: has_note
SELECT 1 FROM notes WHERE seq = ? AND event_id = ?

-- name: add_note
INSERT INTO notes (seq, number, event_id, body) VALUES (?, ?, ?, ?)

-- name: ripe
SELECT ripe_at, seq FROM operations
WHERE namespace = ? AND rule = ? AND ripe_at <= ? AND version <= ?
ORDER BY ripe_at, seq LIMIT ?

-- name: prunable
SELECT seq, pruned FROM operations
WHERE namespace = ? AND prune_at <= ? AND version <= ?
ORDER BY prune_at LIMIT ?

-- name: last_number
SELECT last FROM numbers

-- name: set_last_number
UPDATE numbers SET last = ?

-- name: add_tally
INSERT INTO tallies (namespace, kind, first, second, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (namespace, kind, first, second) DO UPDATE SET value = value + excluded.value

-- name: tally
SELECT kind, first, second, value FROM tallies WHERE namespace = ? AND value <> 0

-- name: oldest_due
SELECT due_at FROM operations
WHERE namespace = ? AND due_at IS NOT NULL AND lease_token IS NULL
ORDER BY due_at LIMIT 1

-- name: narrowed
AND +namespace = :namespace
AND (:rule IS NULL OR rule = :rule)
AND (:reference IS NULL OR reference = :reference OR (reference IS NULL AND id >= :id_low AND id < :id_high))
AND (:session IS NULL OR session = :session)
AND (:contact_hash IS NULL OR contact_hash = :contact_hash)
AND (:states IS NULL OR state IN (SELECT value FROM json_each(:states)))
AND (:money IS NULL OR money IN (SELECT value FROM json_each(:money)))
AND (:gateway_key IS NULL OR EXISTS (SELECT 1 FROM gateway_keys WHERE key = :gateway_key AND seq = operations.seq))
AND (:claim IS NULL OR EXISTS (SELECT 1 FROM claims WHERE key = :claim AND seq = operations.seq))
AND (:kept_by IS NULL OR (state = 'queued' AND iif(json_valid(body), body ->> 'owner', NULL) = :kept_by))

-- name: by_reference
SELECT {place}, seq FROM operations
WHERE seq IN (
    SELECT seq FROM operations WHERE id >= :id_low AND id < :id_high
    UNION
    SELECT seq FROM operations WHERE reference = :reference
)
{narrowed} {ordered}

-- name: by_gateway_key
SELECT {place}, seq FROM operations
WHERE seq IN (SELECT seq FROM gateway_keys WHERE key = :gateway_key)
{narrowed} {ordered}

-- name: by_claim
SELECT {place}, seq FROM operations
WHERE seq IN (SELECT seq FROM claims WHERE key = :claim)
{narrowed} {ordered}

-- name: by_session
SELECT {place}, seq FROM operations WHERE session = :session
{narrowed} {ordered}

-- name: by_kept_by
SELECT {place}, seq FROM operations
WHERE namespace = :namespace AND iif(json_valid(body), body ->> 'owner', NULL) = :kept_by AND state = 'queued'
{narrowed} {ordered}

-- name: by_contact_hash
SELECT {place}, seq FROM operations WHERE contact_hash = :contact_hash
{narrowed} {ordered}

-- name: newest_first
AND (created_at, seq) < (:time, :number)
ORDER BY created_at DESC, seq DESC LIMIT :limit

-- name: most_overdue_first
AND due_at IS NOT NULL AND (due_at, seq) > (:time, :number)
ORDER BY due_at, seq LIMIT :limit

-- name: due
SELECT due_at, seq FROM operations
WHERE namespace = :namespace AND due_at IS NOT NULL
{narrowed} {most_overdue_first}

-- name: listed
SELECT created_at, seq FROM operations
WHERE namespace = :namespace AND state = :state AND money = :kind
AND (:rule IS NULL OR rule = :rule)
{newest_first}

-- name: load
SELECT revision, value FROM small_values WHERE key = ?

-- name: put_small_value
INSERT INTO small_values (key, revision, value) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value

-- name: sessions
SELECT id, revision, body, updated_at FROM sessions WHERE id IN (SELECT value FROM json_each(?))

-- name: session_revision
SELECT revision FROM sessions WHERE id = ?

-- name: put_session
INSERT INTO sessions (id, revision, body, updated_at) VALUES (?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, body = excluded.body, updated_at = excluded.updated_at

-- name: forget_sessions
DELETE FROM sessions WHERE rowid IN (SELECT rowid FROM sessions WHERE rowid > 0 ORDER BY rowid LIMIT ?) AND updated_at < ?

-- name: batch_is_known
SELECT 1 FROM session_batches WHERE id = ?

-- name: remember_batch
INSERT INTO session_batches (id, at) VALUES (?, ?)

-- name: forget_batches
DELETE FROM session_batches WHERE at < ?

-- name: add_counter
INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value

-- name: counters
SELECT name, value FROM counters WHERE name >= ?1 AND name < ?1 || char(1114111)

-- name: get_meta
SELECT value FROM meta WHERE name = ?

-- name: set_meta
INSERT INTO meta (name, value) VALUES (?, ?)

-- name: seqs_up
SELECT seq FROM operations NOT INDEXED ORDER BY seq

-- name: seqs_down
SELECT seq FROM operations NOT INDEXED ORDER BY seq DESC

-- name: seqs_due
SELECT seq FROM operations INDEXED BY operations_due WHERE due_at IS NOT NULL ORDER BY namespace DESC, due_at DESC

-- name: note_count
SELECT notes FROM operations WHERE seq = ?

-- name: put_meta
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: begin
BEGIN IMMEDIATE

-- name: begin_reading
BEGIN

-- name: commit
COMMIT

-- name: rollback
ROLLBACK
