"""PostgreSQL: one ledger for many machines. Needs the extra `postgres` (psycopg 3)."""

from cxguard.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
