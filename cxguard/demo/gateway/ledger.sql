-- The gateway's own books. Nothing in here is ever read or written by cxguard or by the shop.
CREATE TABLE IF NOT EXISTS payments (
    number         INTEGER PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    key            TEXT,              -- the caller's Idempotency-Key
    amount_minor   INTEGER NOT NULL,
    currency       TEXT NOT NULL,
    source         TEXT NOT NULL,     -- whose card: what the judge goes by
    reference      TEXT NOT NULL,     -- the shop's name of the order
    status         TEXT NOT NULL,     -- succeeded, authorised, declined, requires_action, cancelled
    decline_code   TEXT NOT NULL,
    captured_minor INTEGER NOT NULL,
    created_at     REAL NOT NULL,
    metadata       TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX IF NOT EXISTS payments_by_key ON payments (key);

-- With keys on: what a key stands for. A cancelled key charges nothing any more.
CREATE TABLE IF NOT EXISTS keys (
    key          TEXT PRIMARY KEY,
    fingerprint  TEXT NOT NULL,
    payment_id   TEXT,
    cancelled_at REAL
) STRICT;

-- Captures, refunds and voids.
CREATE TABLE IF NOT EXISTS movements (
    number       INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    kind         TEXT NOT NULL,       -- capture, refund
    payment_id   TEXT NOT NULL,
    key          TEXT UNIQUE,
    amount_minor INTEGER NOT NULL,
    created_at   REAL NOT NULL
) STRICT;

-- Every request to charge that arrived, also those that charged nothing.
CREATE TABLE IF NOT EXISTS sends (
    number      INTEGER PRIMARY KEY,
    received_at REAL NOT NULL,
    key         TEXT,
    source      TEXT NOT NULL,
    reference   TEXT NOT NULL,
    mode        TEXT NOT NULL,        -- the fault at that time
    payment_id  TEXT,
    result      TEXT NOT NULL         -- nothing, charged, declined, replayed, refused
) STRICT;
