-- Schema 1. Rows are appended in the order of their coming (seq), so that a million of them grow at one end of the file;
-- only what must be found by a random name costs a page of its own. Every index is either such a name or grows with time.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The last lease token or revision that was given out. One sequence for both; it never goes back.
CREATE TABLE numbers (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    last INTEGER NOT NULL
) STRICT;

CREATE TABLE operations (
    seq           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    namespace     TEXT NOT NULL,
    rule          TEXT NOT NULL,
    state         TEXT NOT NULL,
    money         TEXT NOT NULL,
    reference     TEXT,              -- NULL: the one that derives from the id, found through the id's own index
    session       TEXT,
    contact_hash  TEXT,
    created_at    REAL NOT NULL,
    updated_at    REAL NOT NULL,
    due_at        REAL,
    ripe_at       REAL,              -- when it may be taken: its lease's end, or without one its due time
    keep_until    REAL,
    prune_at      REAL,              -- when its next stage of forgetting comes
    pruned        INTEGER NOT NULL DEFAULT 0,
    lease_holder  TEXT,
    lease_token   INTEGER,
    lease_until   REAL,
    lease_attempt TEXT,
    opened_by     TEXT NOT NULL,     -- the attempt that inserted it: how a repeated open without a lease is known
    amount_minor  INTEGER,
    currency      TEXT,
    notes         INTEGER NOT NULL,  -- how many; they live in a table of their own, where no save can lose them
    notes_seen    INTEGER NOT NULL,
    sends         INTEGER NOT NULL,  -- how many: a save looks at gateway keys only when this changes
    revision      INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    claims        TEXT,              -- JSON list, or NULL for none
    body          TEXT NOT NULL,     -- JSON: every member without a column
    request       BLOB,              -- sealed, like the next two
    answer        BLOB,
    contact       BLOB
) STRICT;

CREATE INDEX operations_reference ON operations (reference, created_at) WHERE reference IS NOT NULL;
CREATE INDEX operations_session ON operations (session, created_at) WHERE session IS NOT NULL;
CREATE INDEX operations_contact ON operations (contact_hash, created_at) WHERE contact_hash IS NOT NULL;
CREATE INDEX operations_kept_by ON operations (namespace, iif(json_valid(body), body ->> 'owner', NULL), created_at) WHERE state = 'queued';
CREATE INDEX operations_listed ON operations (namespace, state, money, created_at);
CREATE INDEX operations_due ON operations (namespace, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX operations_ripe ON operations (namespace, rule, ripe_at) WHERE ripe_at IS NOT NULL;
CREATE INDEX operations_prune ON operations (namespace, prune_at) WHERE prune_at IS NOT NULL;

CREATE TABLE claims (
    key TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE gateway_keys (
    key TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE notes (
    seq      INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

-- Counts by (state, money) and sums by currency, changed in the same commit as the records.
CREATE TABLE tallies (
    namespace TEXT NOT NULL,
    kind      TEXT NOT NULL,         -- operations, unpaid
    first     TEXT NOT NULL,         -- state; currency
    second    TEXT NOT NULL,         -- money; nothing
    value     INTEGER NOT NULL,
    PRIMARY KEY (namespace, kind, first, second)
) STRICT, WITHOUT ROWID;

CREATE TABLE small_values (
    key      TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    value    BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id         TEXT NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    body       BLOB NOT NULL,
    updated_at REAL NOT NULL
) STRICT;

CREATE TABLE session_batches (
    id TEXT PRIMARY KEY,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_batches_at ON session_batches (at);

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value REAL NOT NULL
) STRICT, WITHOUT ROWID;
