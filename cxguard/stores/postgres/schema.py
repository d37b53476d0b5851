"""The schema: which migrations it has, and how it gets the others."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import psycopg
from psycopg import errors, sql

from cxguard.errors import ConfigurationError
from cxguard.stores.postgres.statements import MIGRATIONS

Connection = psycopg.AsyncConnection[Any]

SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
SCHEMA_NEWEST = max(number for number, _ in MIGRATIONS)
_ADVISORY = 0x6378_6775_6172_6400  # "cxguard": one migration at a time
_OLDEST = re.compile(r"^-- older ones may go on: (\d+)$", re.MULTILINE)


class Version(NamedTuple):
    """How far a schema is, and the oldest `SCHEMA_NEWEST` of a cxguard that may still work on it: both run during an upgrade."""

    number: int
    oldest: int


async def check_schema(connection: Connection, *, schema: str, migrate: bool) -> None:
    """Make the schema, or bring it up to date.

    Raises:
        ConfigurationError: it is out of date and may not be changed here, or a newer cxguard made it that leaves us behind.
    """
    have = await schema_version(connection, schema=schema)
    if have.oldest > SCHEMA_NEWEST:
        raise ConfigurationError(
            f"schema {schema!r} was made by a newer cxguard, and this one cannot work on it "
            f"(its version is {have.number}, this one knows {SCHEMA_NEWEST}): update cxguard here"
        )
    if have.number >= SCHEMA_NEWEST:
        return
    if not migrate:
        raise ConfigurationError(
            f"schema {schema!r} is at version {have.number} of {SCHEMA_NEWEST}: run `cxguard migrate`, as a role that may"
        )
    await migrate_schema(connection, schema=schema)


async def schema_version(connection: Connection, *, schema: str) -> Version:
    """How far the schema is; 0: there is none. A migration that does not say who may go on leaves all older ones behind.

    Raises:
        ConfigurationError: it is there, and this role may not read it.
    """
    there = await connection.execute("SELECT to_regclass(%s)::text", (f"{schema}.migrations",))
    if (await there.fetchone() or (None,))[0] is None:
        return Version(0, 0)
    asked = "SELECT coalesce(max(number), 0), coalesce(max(coalesce((to_jsonb(m) ->> 'oldest')::int, number)), 0) FROM {} m"
    try:
        found = await connection.execute(sql.SQL(asked).format(sql.Identifier(schema, "migrations")))
        number, oldest = await found.fetchone() or (0, 0)
        return Version(number, oldest)
    except errors.InsufficientPrivilege as error:
        raise refused(schema, error) from None


async def migrate_schema(connection: Connection, *, schema: str) -> list[int]:
    """Apply what is missing, all or nothing, one process at a time. Returns the numbers that were applied.

    Raises:
        ConfigurationError: the role may not create tables.
    """
    try:
        async with connection.transaction():
            return await _migrate(connection, schema=schema)
    except errors.InsufficientPrivilege as error:
        raise refused(schema, error) from None


async def _migrate(connection: Connection, *, schema: str) -> list[int]:
    await connection.execute(sql.SQL("SELECT pg_advisory_xact_lock({})").format(_ADVISORY))
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    await connection.execute("SELECT set_config('search_path', %s, true), set_config('synchronous_commit', 'on', true)", (schema,))
    await connection.execute("CREATE TABLE IF NOT EXISTS migrations (number int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")
    await connection.execute("ALTER TABLE migrations ADD COLUMN IF NOT EXISTS oldest int")
    have = int((await (await connection.execute("SELECT coalesce(max(number), 0) FROM migrations")).fetchone() or (0,))[0])
    missing = [(number, text) for number, text in MIGRATIONS if number > have]
    for number, text in missing:
        await connection.execute(text.encode())
        await connection.execute("INSERT INTO migrations (number, oldest) VALUES (%s, %s)", (number, _oldest(number, text)))
    return [number for number, _ in missing]


def _oldest(number: int, text: str) -> int:
    """Whom a migration lets go on beside it: its head may say "older ones may go on: 3"."""
    said = _OLDEST.search(text)
    return int(said[1]) if said is not None else number


def refused(schema: str, error: errors.InsufficientPrivilege) -> ConfigurationError:
    """What a role that lacks a right is told."""
    what = str(error).strip().partition("\n")[0][:200]
    return ConfigurationError(
        f"this role may not make or read the schema {schema!r} ({what}): run `cxguard migrate` once, as a role that may, "
        "and grant this one what examples/deploy/roles.sql does"
    )
