"""`cxguard migrate`."""

from __future__ import annotations

import asyncio

import click

from cxguard.cli.main import EXIT_CODES


@click.command("migrate", short_help="Make a PostgreSQL schema, or bring it up to date.", epilog=EXIT_CODES)
@click.argument("url")
@click.option("--schema", default="cxguard", show_default=True, help="Where the tables are.")
@click.option("--restored", is_flag=True, help="The data came back from a backup: what was written after it is lost.")
def command(url: str, schema: str, restored: bool) -> None:
    """Make the schema on the PostgreSQL server at URL, or bring it up to date: all of it, or nothing.

    It needs a role that may create tables; the shop's own role needs no more than to use them. Running it twice is
    harmless, and so is running it while shops with the older version work: a newer schema only adds.

    After a restore from a backup, run it with --restored before the shop is let in again: orders that the backup does not
    know may have been charged, and each order that looks new then asks the gateway first. A failover, and a restore into
    another server, are noticed without it.

    \b
    Examples:
      cxguard migrate postgresql://owner@db.example/shop
      cxguard migrate postgresql://owner@db.example/shop --schema cxguard_eu
      cxguard migrate postgresql://owner@db.example/shop --restored
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise click.UsageError(
            "only PostgreSQL has migrations (a SQLite file is brought up to date when it is opened): give postgresql://..."
        )
    applied, epoch = asyncio.run(_migrate(url, schema=schema, restored=restored))
    if applied:
        click.echo(f"schema {schema}: applied {', '.join(map(str, applied))}")
    else:
        click.echo(f"schema {schema}: up to date")
    if restored:
        click.echo(f"schema {schema}: restored, epoch {epoch}")


async def _migrate(url: str, *, schema: str, restored: bool) -> tuple[list[int], str]:
    from cxguard.stores.postgres.connection import migrated

    return await migrated(url, schema=schema, restored=restored)
