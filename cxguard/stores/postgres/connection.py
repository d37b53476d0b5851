"""Connections: what they must be like, what the server behind them is, and which life of the data it holds.

Nothing that has to be right depends on the session: names are written with their schema, and what a transaction needs is
set in the transaction. So a pooler may give each transaction another server connection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from cxguard.errors import ConfigurationError, StoreUnavailable, StoreUnfit
from cxguard.stores.base import Level
from cxguard.stores.postgres.schema import check_schema, migrate_schema, refused
from cxguard.stores.postgres.statements import statements_of

Connection = psycopg.AsyncConnection[Any]

CONNECT_SECONDS = 2
PREPARE_AFTER = 2  # runs of a statement; only where nobody stands between us and the server

_WRONG_SETTING = (errors.InvalidPassword, errors.InvalidAuthorizationSpecification, errors.InvalidCatalogName, errors.InsufficientPrivilege)
# How to plan, never what is done: every statement of ours finds its rows by an index, however small its table was when
# the plan was made. `force_generic_plan`: plan once a connection.
_PLANS = (
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; "
    "SET plan_cache_mode = force_generic_plan"
)


@dataclass(frozen=True, slots=True)
class Server:
    """A connection, and what it was when it was made.

    Attributes:
        timeline: of the server's log, eight hex digits: another one after each failover.
        ahead: seconds by which the server's clock is ahead of our monotonic one; at most too small, by the answer's way.
    """

    connection: Connection
    sql: Mapping[str, str]
    level: Level
    epoch: str
    timeline: str
    ahead: float


async def connect(url: str) -> Connection:
    """A connection that commits each statement by itself, unless one begins a transaction.

    Raises:
        StoreUnavailable: nobody answers.
        ConfigurationError: it can never work as it is set.
    """
    try:
        return await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            prepare_threshold=None,
            application_name="cxguard",
            tcp_user_timeout=5_000,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
    except _WRONG_SETTING as error:
        raise ConfigurationError(f"PostgreSQL refuses us: {first_line(error)}") from None
    except psycopg.Error as error:  # of a role or a password that is wrong, the driver says no more than of a server that is down
        do = "nothing was asked of it; look whether it runs, and at address, role and password"
        raise StoreUnavailable(f"PostgreSQL did not answer ({type(error).__name__}: {first_line(error)}): {do}") from None


async def serving(url: str, *, schema: str, migrate: bool) -> Server:
    """A connection to a server that is fit, with a schema that we know, in a life that is on record.

    Raises:
        StoreUnavailable: nobody answers.
        StoreUnfit: the server may lose what it acknowledged, or takes no writes.
        ConfigurationError: it can never work as it is set, or the schema is missing.
    """
    connection = await connect(url)
    try:
        level = await check_server(connection)
        await check_schema(connection, schema=schema, migrate=migrate)
        await _plan(connection)
        statements = statements_of(schema)
        epoch, timeline = await _life(connection, statements)
        asked = await one(connection, statements["now"])
        return Server(connection, statements, level, epoch, timeline, float(asked[0]) - time.monotonic())
    except errors.InsufficientPrivilege as error:
        await connection.close()
        raise refused(schema, error) from None
    except psycopg.Error as error:
        await connection.close()
        raise told(error) from None
    except BaseException:
        connection.pgconn.finish()  # refused, or interrupted: an answer may still be under way
        raise


async def migrated(url: str, *, schema: str, restored: bool) -> tuple[list[int], str]:
    """Bring the schema up to date; with *restored*, begin another life of the data. The numbers applied, and the epoch.

    Raises:
        StoreUnavailable: nobody answers.
        StoreUnfit: the server may lose what it acknowledged, or takes no writes.
        ConfigurationError: the role may not.
    """
    connection = await connect(url)
    try:
        await check_server(connection)
        applied = await migrate_schema(connection, schema=schema)
        statements = statements_of(schema)
        if restored:
            last = await one(connection, statements["last_number"])  # a logical copy has the rows, and not where the sequence was
            await begin_life(connection, statements, reason="restored", last=last[0])
        epoch, _ = await _life(connection, statements)
        return applied, epoch
    except psycopg.Error as error:
        raise told(error) from None
    finally:
        await connection.close()


def told(error: BaseException) -> StoreUnavailable:
    """What a failed call means to whoever asked: it may have happened or not. The text names no password."""
    return StoreUnavailable(f"PostgreSQL did not answer ({type(error).__name__}: {first_line(error)}): look before you act again")


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


async def check_server(connection: Connection) -> Level:
    """What an acknowledged write has survived.

    Raises:
        StoreUnfit: it may lose what it acknowledged, or takes no writes.
    """
    fsync, full_page_writes, standbys, in_recovery, read_only = await one(
        connection,
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_standby_names'), "
        "pg_is_in_recovery(), current_setting('default_transaction_read_only')",
    )
    if fsync != "on" or full_page_writes != "on":
        raise StoreUnfit("this PostgreSQL runs with fsync or full_page_writes off, and may lose what it acknowledged: turn both on")
    if in_recovery or read_only == "on":
        raise StoreUnfit("this PostgreSQL takes no writes (a standby, or default_transaction_read_only): give the address of the primary")
    return Level.REPLICATED if standbys else Level.FSYNC


async def _plan(connection: Connection) -> None:
    """Prepare statements, and say how to plan them, if we talk to the server itself."""
    if await is_direct(connection):
        await connection.execute(_PLANS)
        connection.prepare_threshold = PREPARE_AFTER


async def is_direct(connection: Connection) -> bool:
    """Whether nobody stands between us and the server.

    A pooler hands out keys of its own for cancelling, so that the process it names is not the one that answers.
    """
    pid = await one(connection, "SELECT pg_backend_pid()")
    return bool(pid[0] == connection.info.backend_pid)


async def _life(connection: Connection, statements: Mapping[str, str]) -> tuple[str, str]:
    """The epoch and the timeline; a life that is not on record yet is put there first."""
    number, system, timeline, on_record = await one(connection, statements["life"])
    if not on_record:
        await begin_life(connection, statements, reason="failover" if number else "first")
        number, system, timeline, on_record = await one(connection, statements["life"])
    return f"{system}:{timeline}:{number}", timeline


async def begin_life(connection: Connection, statements: Mapping[str, str], *, reason: str, last: int = 0) -> None:
    """Put a life on record, one process at a time, and let tokens and revisions jump ahead of any that were lost.

    Args:
        reason: `restored` always begins one; another only if the server's life is not on record yet.
        last: the highest number on record, where somebody has looked.
    """
    async with connection.transaction():
        await connection.execute(statements["settings"])
        await connection.execute(statements["lock_lives"])
        await connection.execute(statements["begin_life"], {"reason": reason, "last": last})


async def one(connection: Connection, text: str | sql.Composed) -> tuple[Any, ...]:
    row = await (await connection.execute(text.encode() if isinstance(text, str) else text)).fetchone()
    assert row is not None, "these questions have one answer"
    return tuple(row)
