-- Rows change often while an order is under way and never after it has ended: room is left in each page for the former,
-- and the dead versions are cleared away early.

CREATE SEQUENCE numbers;  -- lease tokens and revisions: one sequence for both, never going back

CREATE TABLE operations (
    id            text PRIMARY KEY,
    seq           bigint GENERATED ALWAYS AS IDENTITY,
    namespace     text NOT NULL,
    rule          text NOT NULL,
    state         text NOT NULL,
    money         text NOT NULL,
    reference     text,
    session       text,
    contact_hash  text,
    created_at    double precision NOT NULL,
    updated_at    double precision NOT NULL,
    due_at        double precision,
    ripe_at       double precision,           -- when it may be taken: its lease's end, or without one its due time
    keep_until    double precision,
    prune_at      double precision,           -- when its next stage of forgetting comes
    pruned        boolean NOT NULL DEFAULT false,
    lease_holder  text,
    lease_token   bigint,
    lease_until   double precision,
    lease_attempt text,
    opened_by     text NOT NULL,              -- the attempt that inserted it
    amount_minor  bigint,
    currency      text,
    notes         integer NOT NULL,           -- how many; they live in a table of their own
    notes_seen    integer NOT NULL,
    revision      bigint NOT NULL,
    version       integer NOT NULL,
    claims        text,                       -- JSON list, or NULL for none
    body          text NOT NULL,              -- JSON: every member without a column
    request       bytea,                      -- sealed, like the next two
    answer        bytea,
    contact       bytea
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

CREATE INDEX operations_reference ON operations (reference, created_at) WHERE reference <> '';
CREATE INDEX operations_session ON operations (session, created_at) WHERE session IS NOT NULL;
CREATE INDEX operations_contact ON operations (contact_hash, created_at) WHERE contact_hash IS NOT NULL;
CREATE INDEX operations_listed ON operations (namespace, state, money, created_at, seq);
CREATE INDEX operations_due ON operations (namespace, due_at, seq) WHERE due_at IS NOT NULL;
CREATE INDEX operations_ripe ON operations (namespace, rule, ripe_at, seq) WHERE ripe_at IS NOT NULL;
CREATE INDEX operations_prune ON operations (namespace, prune_at) WHERE prune_at IS NOT NULL;

CREATE TABLE claims (
    key text PRIMARY KEY,
    id  text NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE gateway_keys (
    key text NOT NULL,
    id  text NOT NULL,
    PRIMARY KEY (key, id)
);

CREATE TABLE notes (
    id       text NOT NULL,
    number   integer NOT NULL,
    event_id text NOT NULL,
    body     text NOT NULL,
    PRIMARY KEY (id, number)
);

-- Counts by (state, money) and sums by currency, changed in the same commit as the records; each process adds to a slot
-- of its own, so that they do not wait for one another, and a reader adds the slots up.
CREATE TABLE tallies (
    namespace text NOT NULL,
    kind      text NOT NULL,                  -- operations, unpaid
    first     text NOT NULL,                  -- state; currency
    second    text NOT NULL,                  -- money; nothing
    slot      smallint NOT NULL,
    value     bigint NOT NULL,
    PRIMARY KEY (namespace, kind, first, second, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE small_values (
    key      text PRIMARY KEY,
    revision bigint NOT NULL,
    value    bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE sessions (
    id         text PRIMARY KEY,
    revision   bigint NOT NULL,
    body       bytea NOT NULL,
    updated_at double precision NOT NULL
) WITH (fillfactor = 80);

CREATE TABLE session_batches (
    id text PRIMARY KEY,
    at double precision NOT NULL
);

CREATE INDEX session_batches_at ON session_batches (at);

CREATE TABLE counters (
    name  text PRIMARY KEY,
    value double precision NOT NULL
) WITH (fillfactor = 50);
