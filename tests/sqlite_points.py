"""A small life of a SQLite store that ends at one write or flush of its file; and whether what it had said is true afterwards.

    python -m sqlite_points FOLDER kill 1            a life for each point, one after another; JSON of what was found, by point
    python -m sqlite_points FOLDER swallow 10        the judge's own test, at every tenth: a disk that forgets what it said it has

SQLite calls our file system (`apsw.VFS`), which counts what is written and flushed: every process here is a fork that dies there
by its own hand, or gets the disk's error. No part of the product knows.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from cxguard.core.operation import State
from cxguard.errors import StoreError
from cxguard.stores.base import Query
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.contract.base import SHOP, charge_send, charged_note, pages, queued, sample, take, token_of

POINTS_MAX = 400  # a life that writes more is another one


class Doom:
    """What happens at one point: a write or a flush, counted over all files of the store.

    kill: dies before it. torn: dies after half of the bytes. late: dies after it, before SQLite hears of it.
    eio, full: the disk's error, there and ever after. swallow: from there on a write is told as done and is not.
    """

    def __init__(self, way: str, at: int) -> None:
        self._way, self._at = way, at
        self._numbers = itertools.count(1)
        self.passed = 0

    def meet(self, do: Callable[[], Any], half: Callable[[], Any]) -> Any:
        self.passed = next(self._numbers)
        if self.passed < self._at:
            return do()
        match self._way:
            case "eio":
                raise apsw.IOError
            case "full":
                raise apsw.FullError
            case "swallow":
                return None
        if self._way != "kill":
            (half if self._way == "torn" else do)()
        os.kill(os.getpid(), signal.SIGKILL)
        return None


class DoomedFile(apsw.VFSFile):
    """One of the store's files."""

    doom: Doom

    def xWrite(self, data: bytes, offset: int) -> None:
        write = super().xWrite
        self.doom.meet(lambda: write(data, offset), lambda: write(data[: len(data) // 2], offset))

    def xSync(self, flags: int) -> None:
        sync = super().xSync
        self.doom.meet(lambda: sync(flags), lambda: None)


class DoomedDisk(apsw.VFS):
    """The file system that every connection of this process gets."""

    def __init__(self, doom: Doom) -> None:
        DoomedFile.doom = doom
        super().__init__("doomed", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> DoomedFile:
        return DoomedFile("unix", name, flags)


async def live(path: Path, say: Callable[[str, str], None]) -> None:
    """Every kind of write once, each said when the store has said it."""
    store = SQLiteStore(path, clock=ManualClock())
    await store.start()
    for name in ("first", "second"):
        opened = await store.open(sample(name, claims=(name,)), holder="h", attempt=f"a {name}", lease_seconds=30.0)
        say("kept", opened.operation.id)
        leased = await store.save(replace(opened.operation, sends=(charge_send(),)), token=token_of(opened.operation), keep_lease=True)
        say("sent", leased.id)
        noted = await store.note(leased.id, charged_note(), namespace=SHOP)
        say("noted", noted.id)
        ended = replace(leased, state=State.FINISHED, due_at=None, claims=(), notes_seen=1)
        await store.save(ended, token=token_of(leased), keep_lease=False)
        say("finished", leased.id)
    waiting = await store.open(queued("third", amount_minor=100, currency="EUR"), holder="h", attempt="a third", lease_seconds=None)
    say("kept", waiting.operation.id)
    for each in await take(store):
        say("token", str(token_of(each)))
    await store.stop()


async def untrue(path: Path, said: list[list[str]]) -> list[str]:
    """What was said and is not so; and whether another life works on this file."""
    connection = apsw.Connection(str(path))
    found = [] if connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)] else ["the file is damaged"]
    connection.close()
    store = SQLiteStore(path, clock=ManualClock())
    await store.start()
    records = {each.id: each for each in await pages(store, Query(SHOP, limit=200))}
    for what, name in said:
        record = records.get(name)
        if what != "token" and not (record is not None and _is_true(what, record)):
            found.append(f"{what} {name[:8]} is not so")
    tally = await store.tally(SHOP)
    if sum(tally.operations.values()) != len(records):
        found.append("the counters are wrong")
    await store.stop()
    return found


def _is_true(what: str, record: Any) -> bool:
    return {
        "kept": True,
        "sent": bool(record.sends),
        "noted": bool(record.notes),
        "finished": record.state is State.FINISHED,
    }[what]


def lived(path: Path, way: str, at: int) -> tuple[list[list[str]], int, int]:
    """A life in a process of its own: what it said, its exit code, and how many points it passed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os._exit(_die(path, Doom(way, at), write))
    os.close(write)
    with os.fdopen(read, encoding="ascii") as pipe:
        lines = [line.split() for line in pipe.read().splitlines()]
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    passed = [int(line[1]) for line in lines if line[0] == "points"]
    return [line for line in lines if line[0] != "points"], code, passed[0] if passed else 0


def _die(path: Path, doom: Doom, out: int) -> int:
    """In the child: 0 when it lived to its end, 3 when the store refused in its own words."""
    disk = DoomedDisk(doom)
    try:
        asyncio.run(live(path, lambda what, name: _say(out, f"{what} {name}")))
    except (StoreError, apsw.Error):  # the latter: from a last flush while the file is closed, which real disks keep to themselves
        return 3
    finally:
        _say(out, f"points {doom.passed}")
    return 0 if disk is not None else 1


def _say(out: int, line: str) -> None:
    os.write(out, f"{line}\n".encode("ascii"))


def found_at(folder: Path, way: str, at: int) -> tuple[list[str], int]:
    """One life that ends at a point, and what the judge says, in a process of its own too. The exit code of the life."""
    path = folder / f"{way}{at}.db"
    said, code, _ = lived(path, way, at)
    read, write = os.pipe()
    if os.fork() == 0:
        _say(write, json.dumps(asyncio.run(untrue(path, said))))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="ascii") as pipe:
        told = pipe.read()
    os.wait()
    for file in folder.glob(f"{path.name}*"):
        file.unlink()
    return (json.loads(told) if told else ["the judge could not open it"]), code


def main(folder: Path, way: str, every: int) -> None:
    _, code, points = lived(folder / "whole.db", "kill", POINTS_MAX)
    assert (code, 0 < points < POINTS_MAX) == (0, True), "a life without a fault ends well"
    results = {at: found_at(folder, way, at) for at in range(1, points + 1, every)}
    wrong = {at: found for at, (found, _) in results.items() if found}
    json.dump({"points": points, "codes": [code for _, code in results.values()], "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
