-- Which lives the data has had: a failover, a restore into another server, or one that an operator announced, begins the
-- next. Lease tokens and revisions jump ahead then, since what was lost may have used the next ones already.
CREATE TABLE lives (
    number   bigint PRIMARY KEY,
    system   text NOT NULL,
    timeline text NOT NULL,
    reason   text NOT NULL,                   -- first, failover, restored
    at       timestamptz NOT NULL DEFAULT now()
);

-- Ids and keys are plain ASCII: comparing them needs no language, and a prefix is a range.
ALTER TABLE operations ALTER COLUMN id TYPE text COLLATE "C";
ALTER TABLE claims ALTER COLUMN key TYPE text COLLATE "C", ALTER COLUMN id TYPE text COLLATE "C";
ALTER TABLE gateway_keys ALTER COLUMN key TYPE text COLLATE "C", ALTER COLUMN id TYPE text COLLATE "C";
ALTER TABLE notes ALTER COLUMN id TYPE text COLLATE "C";

-- A reference says the first sixty bits of the id, and is found by them. Only others are kept: no index for the many.
ALTER TABLE operations ALTER COLUMN reference DROP NOT NULL;
DROP INDEX operations_reference;
CREATE INDEX operations_reference ON operations (reference, created_at) WHERE reference IS NOT NULL;
