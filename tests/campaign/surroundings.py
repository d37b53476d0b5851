"""What happens around a shop while it is shopping: clocks are set, keys forgotten, a file is held, a log is not read."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from campaign.playing import Scene, pause
from fleet_world import Fleet

BEGIN_SECONDS = 1.0
HOUR = 3_600.0
LOCKED_SECONDS = 6.0
REMEMBERED_SECONDS = 3.0
PIPE_BYTES = 4_096
KEYS_LOOKS, LOOK_SECONDS = 25, 0.3


async def _clocks_set(fleet: Fleet, *hours: float) -> int:
    """The clock of every machine, in a file that each reads all the time."""
    for ahead in hours:
        await pause(BEGIN_SECONDS)
        file = fleet.orders.with_name("clock")
        new = file.with_suffix(".new")
        new.write_text(f"{ahead * HOUR}", "ascii")
        new.replace(file)
    return len(hours)


def clocks(*hours: float) -> Scene:
    """Set ahead by so much, one after the other."""
    return Scene(lambda fleet: _clocks_set(fleet, *hours), script="healthy 1s, error_after 1s, healthy", settings={"FLEET_CLOCK": "set"})


async def keys_forgotten(fleet: Fleet) -> int:
    """The gateway forgets keys after some seconds, as it has said that it would after a day."""
    forgotten = 0
    for _ in range(KEYS_LOOKS):
        await pause(LOOK_SECONDS)
        forgotten += await asyncio.to_thread(_forget, fleet.orders.parent / "gateway.db", time.time() - REMEMBERED_SECONDS)
    return forgotten


def _forget(ledger: Path, before: float) -> int:
    old = "key IN (SELECT key FROM payments WHERE created_at < ?)"
    with closing(sqlite3.connect(ledger, timeout=5.0)) as connection, connection:
        return connection.execute(f"DELETE FROM keys WHERE {old}", (before,)).rowcount


async def file_held(fleet: Fleet) -> int:
    """Another program holds the store's file for longer than anybody waits."""
    await pause(BEGIN_SECONDS)
    file = fleet.judge_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=5.0, check_same_thread=False)) as connection:
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        await pause(LOCKED_SECONDS)
        connection.rollback()
    return 1


async def log_unread(fleet: Fleet) -> int:
    """One process of the shop is started anew, with a log full of events in a pipe that nobody reads; at last somebody does."""
    app = fleet.apps[0]
    await app.kill()
    fifo = app.log.with_suffix(".pipe")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        app.log, app.environment["FLEET_LOG_LEVEL"] = fifo, "INFO"
        await app.again()
        await pause(LOCKED_SECONDS)
        unread = len(os.read(reader, PIPE_BYTES))
        await _read(reader)
    finally:
        os.close(reader)
    return int(unread >= PIPE_BYTES // 2)


async def _read(reader: int) -> None:
    """As fast as it comes, for a while."""
    for _ in range(100):
        await pause(0.05)
        with suppress(BlockingIOError):
            os.read(reader, 1 << 16)


SCENES: Mapping[str, Scene] = {
    "clocks an hour ahead": clocks(1.0),
    "clocks an hour back": clocks(-1.0),
    "clocks there and back": clocks(1.0, 0.0),
    "the gateway forgets keys": Scene(
        keys_forgotten,
        script="healthy 1s, error_after 2s, time_out_before 2s, healthy",
        settings={"FLEET_KEY_SECONDS": f"{REMEMBERED_SECONDS:g}"},
        waits=80,  # what nobody can say any more is a person's
    ),
    "the file is held for 6 s": Scene(file_held, guarded=True),
    "nobody reads the log": Scene(log_unread, dies=True, guarded=True),
}
