"""The store in one file: for one machine, any number of processes."""

from cxguard.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
