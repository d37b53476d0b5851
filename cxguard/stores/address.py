"""A store by its address."""

from __future__ import annotations

from importlib.util import find_spec

from cxguard.clock import Clock
from cxguard.errors import ConfigurationError
from cxguard.stores.base import Store
from cxguard.stores.memory import OPERATIONS_MAX, MemoryStore


def open_store(url: str, *, clock: Clock, operations_max: int = OPERATIONS_MAX) -> Store:
    """Make the store that *url* names; `start` opens it.

    Args:
        url: `sqlite:///shop.db` (below the working folder), `sqlite:////var/lib/shop.db` (from the root),
            `postgresql://user@host/database` (as libpq reads it), `redis://host/0`, `redis+sentinel://h1,h2,h3/service`,
            `redis+cluster://h1,h2,h3`, or `memory://`.
        operations_max: how many records a memory store holds.

    Raises:
        ConfigurationError: it names no store of this cxguard. The text shows one that would do.
    """
    if url == "memory://":
        return MemoryStore(clock=clock, operations_max=operations_max)
    scheme, slashes, path = url.partition(":///")
    if scheme == "sqlite" and slashes:
        if not path or path == ":memory:":
            raise ConfigurationError(f'{url!r} names no file: write "sqlite:///shop.db", or "memory://" for a test')
        from cxguard.stores.sqlite import SQLiteStore  # here, so that a program on another store loads no SQLite

        return SQLiteStore(path, clock=clock)
    if scheme.partition(":")[0] in _POSTGRES:
        return _postgres(url)
    if scheme.partition(":")[0] in _REDIS:
        from cxguard.stores.redis import RedisStore  # here, so that a program on another store loads no driver

        return RedisStore(url)
    if scheme.startswith("sqlite"):
        raise ConfigurationError(f'{url!r} has too few slashes: write "sqlite:///shop.db", or "sqlite:////var/lib/shop.db" from the root')
    raise ConfigurationError(f'there is no store for {without_password(url)!r}: write "sqlite:///shop.db", or "postgresql://host/shop"')


_WRITE_POSTGRES = 'write "postgresql://shop@host:5432/shop"'
_POSTGRES = frozenset({"postgresql", "postgres"})
_REDIS = frozenset({"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"})


def _postgres(url: str) -> Store:
    if find_spec("psycopg") is None:
        raise ConfigurationError("PostgreSQL needs its driver: run pip install 'cxguard[postgres]'")
    from cxguard.stores.postgres import PostgresStore  # here, so that a program on another store loads no driver

    _check_postgres(url)
    return PostgresStore(url)


def _check_postgres(url: str) -> None:
    """An address that cannot be one would be taken for a server that is away, for ever."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        told = str(error).strip() if "query parameter" in str(error) else "it cannot be read"  # other words may quote a password
        raise ConfigurationError(f"that is no address of a PostgreSQL ({told}): {_WRITE_POSTGRES}") from None
    if "@" in str(parts.get("host") or "")[1:]:
        raise ConfigurationError("the password in the address has an @ in it: write it as %40, or put it into PGPASSWORD")
    ports = [port for port in str(parts.get("port") or "").split(",") if port]
    if not all(port.isdecimal() and 0 < int(port) < 65_536 for port in ports):
        raise ConfigurationError(f"that address of a PostgreSQL has a port that is none: {_WRITE_POSTGRES}")


def without_password(url: str) -> str:
    """An address may carry a password, and an error's text is logged."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://***{at}{after}" if at else url
