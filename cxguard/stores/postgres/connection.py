"""Connections, what they must be like, and the schema."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg import errors, sql

from cxguard.errors import ConfigurationError, StoreUnavailable, StoreUnfit
from cxguard.stores.base import Level
from cxguard.stores.postgres.statements import MIGRATIONS

Connection = psycopg.AsyncConnection[Any]

SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SCHEMA_NEWEST = max(number for number, _ in MIGRATIONS)
CONNECT_SECONDS = 2
LOCK_MILLISECONDS = 3_000  # another process's batch takes milliseconds; whoever waits longer waits for a mistake
STATEMENT_MILLISECONDS = 4_000  # below the caller's patience, so that an error comes before it ends
_ADVISORY = 0x6378_6775_6172_6400  # "cxguard": one migration at a time

_WRONG_SETTING = (errors.InvalidPassword, errors.InvalidAuthorizationSpecification, errors.InvalidCatalogName, errors.InsufficientPrivilege)


async def connect(url: str, *, schema: str) -> Connection:
    """A connection with everything that the store relies on.

    No prepared statements and no session state beyond start-up options, so that a pooler may stand in between.

    Raises:
        StoreUnavailable: nobody answers.
        ConfigurationError: it can never work as it is set.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(
            url, connect_timeout=CONNECT_SECONDS, prepare_threshold=None, application_name="cxguard", tcp_user_timeout=5_000
        )
    except _WRONG_SETTING as error:
        raise ConfigurationError(f"PostgreSQL refuses us: {_first_line(error)}") from None
    except psycopg.Error as error:
        raise told(error) from None
    try:
        await connection.execute(
            sql.SQL(
                "SELECT set_config('search_path', {}, false), set_config('synchronous_commit', 'on', false), "
                "set_config('lock_timeout', {}, false), set_config('statement_timeout', {}, false)"
            ).format(schema, str(LOCK_MILLISECONDS), str(STATEMENT_MILLISECONDS))
        )
        await connection.commit()
    except psycopg.Error as error:
        await connection.close()
        raise told(error) from None
    except BaseException:
        connection.pgconn.finish()  # interrupted: an answer may still be under way
        raise
    return connection


def told(error: BaseException) -> StoreUnavailable:
    """What a failed call means to whoever asked: it may have happened or not. The text names no password."""
    return StoreUnavailable(f"PostgreSQL did not answer ({type(error).__name__}: {_first_line(error)}): look before you act again")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


async def check_server(connection: Connection) -> tuple[Level, str]:
    """What an acknowledged write has survived, and which life of the data this is.

    Raises:
        StoreUnfit: it may lose what it acknowledged, or takes no writes.
    """
    row = await _one(
        connection,
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_standby_names'), "
        "pg_is_in_recovery(), current_setting('default_transaction_read_only')",
    )
    fsync, full_page_writes, standbys, in_recovery, read_only = row
    if fsync != "on" or full_page_writes != "on":
        raise StoreUnfit("this PostgreSQL runs with fsync or full_page_writes off, and may lose what it acknowledged: turn both on")
    if in_recovery or read_only == "on":
        raise StoreUnfit("this PostgreSQL takes no writes (a standby, or default_transaction_read_only): give the address of the primary")
    life = await _one(
        connection,
        "SELECT system_identifier, (SELECT timeline_id FROM pg_control_checkpoint()) FROM pg_control_system()",
    )
    return (Level.REPLICATED if standbys else Level.FSYNC), f"{life[0]}:{life[1]}"


async def check_schema(connection: Connection, *, schema: str, migrate: bool) -> None:
    """Make the schema, or bring it up to date.

    Raises:
        ConfigurationError: it is out of date and may not be changed here, or a newer cxguard made it.
    """
    have = await schema_version(connection, schema=schema)
    if have > SCHEMA_NEWEST:
        raise ConfigurationError(
            f"schema {schema!r} was made by a newer cxguard (its version is {have}, this one knows {SCHEMA_NEWEST}): update cxguard here"
        )
    if have == SCHEMA_NEWEST:
        return
    if not migrate:
        raise ConfigurationError(f"schema {schema!r} is at version {have} of {SCHEMA_NEWEST}: run `cxguard migrate`, as a role that may")
    await migrate_schema(connection, schema=schema)


async def schema_version(connection: Connection, *, schema: str) -> int:
    """How far the schema is; 0: there is none."""
    there = await _one(connection, "SELECT to_regclass({})::text", f"{schema}.migrations")
    if there[0] is None:
        return 0
    found = await _one(connection, "SELECT coalesce(max(number), 0) FROM migrations")
    return int(found[0])


async def migrate_schema(connection: Connection, *, schema: str) -> list[int]:
    """Apply what is missing, all or nothing, one process at a time. Returns the numbers that were applied.

    Raises:
        ConfigurationError: the role may not create tables.
    """
    applied = []
    try:
        await connection.execute(sql.SQL("SELECT pg_advisory_xact_lock({})").format(_ADVISORY))
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        await connection.execute("CREATE TABLE IF NOT EXISTS migrations (number int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
        have = (await _one(connection, "SELECT coalesce(max(number), 0) FROM migrations"))[0]
        for number, text in MIGRATIONS:
            if number > have:
                await connection.execute(text.encode())
                await connection.execute("INSERT INTO migrations (number) VALUES (%s)", (number,))
                applied.append(number)
        await connection.commit()
    except errors.InsufficientPrivilege as error:
        await connection.rollback()
        raise ConfigurationError(
            f"this role may not make the schema {schema!r} ({_first_line(error)}): run `cxguard migrate` once, as a role that may"
        ) from None
    return applied


async def _one(connection: Connection, text: str, *values: str) -> tuple[Any, ...]:
    query = sql.SQL(text).format(*values) if values else sql.SQL(text)
    row = await (await connection.execute(query)).fetchone()
    assert row is not None, "these questions have one answer"
    return tuple(row)
