-- older ones may go on: 3
-- When a session was first written, so that the oldest are found and cleared away. It never changes after that: an index on
-- `updated_at` would be written at every step of a visit.
ALTER TABLE sessions ADD COLUMN began_at double precision NOT NULL DEFAULT extract(epoch FROM now());
CREATE INDEX sessions_began ON sessions (began_at);
