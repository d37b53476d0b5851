"""`cxguard migrate`."""

from __future__ import annotations

import asyncio

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.errors import ConfigurationError


@click.command("migrate", short_help="Make a PostgreSQL schema, or bring it up to date.", epilog=EXIT_CODES)
@click.argument("url")
@click.option("--schema", default="cxguard", show_default=True, help="Where the tables are.")
def command(url: str, schema: str) -> None:
    """Make the schema on the PostgreSQL server at URL, or bring it up to date: all of it, or nothing.

    It needs a role that may create tables; the shop's own role needs no more than to use them. Running it twice is
    harmless, and so is running it while shops with the older version work: a newer schema only adds.

    \b
    Examples:
      cxguard migrate postgresql://owner@db.example/shop
      cxguard migrate postgresql://owner@db.example/shop --schema cxguard_eu
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError("only PostgreSQL has migrations (a SQLite file is brought up to date when it is opened): give postgresql://...")
    applied = asyncio.run(_migrate(url, schema=schema))
    if applied:
        click.echo(f"schema {schema}: applied {', '.join(map(str, applied))}")
    else:
        click.echo(f"schema {schema}: up to date")


async def _migrate(url: str, *, schema: str) -> list[int]:
    from cxguard.stores.postgres.connection import check_server, connect, migrate_schema

    connection = await connect(url, schema=schema)
    try:
        await check_server(connection)
        return await migrate_schema(connection, schema=schema)
    finally:
        await connection.close()
