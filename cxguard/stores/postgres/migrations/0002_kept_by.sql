-- Whose orders wait in the queue: kept for queued ones alone, so that an order which is paid at once costs nothing here.
-- Not read as JSON: a lone surrogate or a NUL elsewhere in the body would make the whole write fail.
CREATE INDEX operations_kept_by ON operations (namespace, substring(body from '"owner":"([^"\\]*)"'), created_at)
    WHERE state = 'queued';
