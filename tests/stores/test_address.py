"""Which store an address names, and what is said to one that names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxguard.errors import ConfigurationError
from cxguard.stores.address import open_store
from cxguard.stores.memory import MemoryStore
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.clock import ManualClock


def test_memory_address() -> None:
    """`memory://` is a memory store."""
    assert isinstance(open_store("memory://", clock=ManualClock()), MemoryStore)


@pytest.mark.parametrize(
    ("url", "path"), [("sqlite:///shop.db", Path("shop.db")), ("sqlite:////var/lib/shop.db", Path("/var/lib/shop.db"))]
)
def test_sqlite_address(url: str, path: Path) -> None:
    """Three slashes name a file below the working folder, four one from the root."""
    store = open_store(url, clock=ManualClock())
    assert isinstance(store, SQLiteStore)
    assert store.path == path.absolute()


@pytest.mark.parametrize("url", ["postgresql://shop@db.example/shop", "postgres://db.example/shop?sslmode=require"])
def test_postgres_address(url: str) -> None:
    """Both of libpq's spellings name a PostgreSQL store; nothing is opened yet."""
    assert isinstance(open_store(url, clock=ManualClock()), PostgresStore)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://shop.db", 'too few slashes: write "sqlite:///shop.db"'),
        ("sqlite:shop.db", 'too few slashes: write "sqlite:///shop.db"'),
        ("sqlite:///", 'names no file: write "sqlite:///shop.db"'),
        ("sqlite:///:memory:", 'or "memory://" for a test'),
        ("mysql://host/db", 'write "sqlite:///shop.db", or "postgresql://host/shop"'),
        ("", 'write "sqlite:///shop.db"'),
    ],
)
def test_wrong_address_is_corrected(url: str, says: str) -> None:
    """An address that names no store is answered with one that would do."""
    with pytest.raises(ConfigurationError) as error:
        open_store(url, clock=ManualClock())
    assert says in str(error.value)


def test_password_is_not_repeated() -> None:
    """The text of the error does not carry the address's password."""
    with pytest.raises(ConfigurationError) as error:
        open_store("mysql://shop:hunter2@host/db", clock=ManualClock())
    assert "hunter2" not in str(error.value)
