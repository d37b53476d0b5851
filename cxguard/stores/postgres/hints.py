"""Hints by LISTEN and NOTIFY: a word to the other processes, which look now and then by themselves all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

from cxguard.stores.base import EVERYTHING
from cxguard.stores.postgres.connection import Server, connect, is_direct, told

CHANNEL_CHARS_MAX = 63  # of a name in PostgreSQL; two that are cut to the same hear each other's hints, which harms nobody


def channel_of(schema: str) -> str:
    return f"cxguard_{schema}"[:CHANNEL_CHARS_MAX]


async def announce_topics(server: Server, *, channel: str, topics: Sequence[str]) -> None:
    await server.connection.execute(server.sql["announce"], {"channel": channel, "topics": list(topics)})


async def listen_on(url: str, *, channel: str, hear: Callable[[str], None]) -> None:
    """Listen on a connection of its own, until cancelled.

    A pooler gives each transaction another server connection, and nobody would hear: there, hints do not come.

    Raises:
        StoreUnavailable: no longer listening, or not yet.
    """
    connection = await connect(url)
    try:
        if await is_direct(connection):
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            hear(EVERYTHING)
            async for notify in connection.notifies():
                hear(notify.payload)
        else:
            hear(EVERYTHING)
            await asyncio.Event().wait()
    except psycopg.Error as error:
        raise told(error) from None
    finally:
        connection.pgconn.finish()
