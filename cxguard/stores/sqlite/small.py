"""The writing verbs beside the operations: small values, sessions and counters."""

from __future__ import annotations

from cxguard.stores.base import SessionBatch
from cxguard.stores.record import BATCH_IDS_KEPT_SECONDS, SESSIONS_FORGOTTEN_MAX, SESSIONS_KEPT_SECONDS
from cxguard.stores.sqlite.transaction import Transaction


def swap_value(tx: Transaction, key: str, *, revision: int, value: bytes) -> bool:
    row = tx.one("load", (key,))
    if (row[0] if row is not None else 0) != revision:
        return False
    tx.run("put_small_value", (key, revision + 1, value))
    return True


def record_batch(tx: Transaction, batch: SessionBatch) -> bool:
    if tx.one("batch_is_known", (batch.id,)) is not None:
        return True
    for row in batch.rows:
        stored = tx.one("session_revision", (row.id,))
        if (stored[0] if stored is not None else 0) != row.revision:
            return False
    for row in batch.rows:
        tx.run("put_session", (row.id, row.revision + 1, row.body, row.updated_at))
    for name, amount in batch.counters.items():
        tx.run("add_counter", (name, amount))
    now = tx.clock.now()
    tx.run("forget_batches", (now - BATCH_IDS_KEPT_SECONDS,))
    tx.run("forget_sessions", (SESSIONS_FORGOTTEN_MAX, now - SESSIONS_KEPT_SECONDS))
    tx.run("remember_batch", (batch.id, now))
    return True
