"""Which store an address names, and what is said to one that names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxguard.errors import ConfigurationError
from cxguard.stores.address import open_store
from cxguard.stores.memory import MemoryStore
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.redis import RedisStore
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


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"])
def test_redis_address(scheme: str) -> None:
    """One server, Sentinel and Cluster, each with TLS or without; nothing is opened yet."""
    place = "/shop" if "sentinel" in scheme else ""
    assert isinstance(open_store(f"{scheme}://shop:secret@db.example:7000{place}", clock=ManualClock()), RedisStore)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h1,h2", 'names 2 servers: write "redis://host:6379/0"'),
        ("redis://", 'names 0 servers: write "redis://host:6379/0"'),
        ("redis://host:port", 'is no host and port: write "host:6379"'),
        ("redis://host/x", 'is no database: write "redis://host:6379/0"'),
        ("redis+cluster://h1,h2/1", "a cluster has only 0"),
        ("redis+sentinel://h1,h2", 'write "redis+sentinel://h1,h2,h3/mymaster"'),
        ("redis://host?replica=1", "has no option 'replica': there are answer_seconds"),
        ("redis://host?replicas=0", "write replicas= and a number from 1 to 16"),
        ("redis://host?partitions=65", "write partitions= and a number from 1 to 64"),
        ("redis://host?prefix={x}", "use 1 to 40 letters"),
        ("redis://host?may_lose_orders=1", "write may_lose_orders=yes"),
        ("redis://host?answer_seconds=60", "write 0.02 to 10"),
        ("redis://host?ssl_ca_certs=ca.pem", "has no option 'ssl_ca_certs'"),
    ],
)
def test_wrong_redis_address_is_corrected(url: str, says: str) -> None:
    """What is wrong in a Redis address is said, with what to write; nothing is passed on unread."""
    with pytest.raises(ConfigurationError) as error:
        open_store(url.replace("://", "://shop:hunter2@", 1), clock=ManualClock())
    assert says in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://shop.db", 'too few slashes: write "sqlite:///shop.db"'),
        ("sqlite:shop.db", 'too few slashes: write "sqlite:///shop.db"'),
        ("sqlite:///", 'names no file: write "sqlite:///shop.db"'),
        ("sqlite:///:memory:", 'or "memory://" for a test'),
        ("mysql://host/db", 'write "sqlite:///shop.db", or "postgresql://host/shop"'),
        ("", 'write "sqlite:///shop.db"'),
        ("postgresql://host:port/shop", 'a port that is none: write "postgresql://shop@host:5432/shop"'),
        ("postgresql://host:99999/shop", 'a port that is none: write "postgresql://shop@host:5432/shop"'),
        ("postgresql://host/shop?sslmod=require", '(invalid URI query parameter: "sslmod"): write "postgresql://'),
        ("postgresql:host", "it cannot be read"),
        ("postgresql://shop:hunt@er2@host/shop", "write it as %40, or put it into PGPASSWORD"),  # pragma: allowlist secret
    ],
)
def test_wrong_address_is_corrected(url: str, says: str) -> None:
    """An address that names no store is answered with one that would do."""
    with pytest.raises(ConfigurationError) as error:
        open_store(url, clock=ManualClock())
    assert says in str(error.value)


def test_password_is_not_repeated() -> None:
    """The text of the error does not carry the address's password."""
    for address in ("mysql://{}@host/db", "postgresql://{}@ho st/db", "postgresql://{}/x@host/db"):
        with pytest.raises(ConfigurationError) as error:
            open_store(address.format("shop:hunter2"), clock=ManualClock())
        assert "hunter2" not in str(error.value)
