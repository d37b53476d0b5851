"""Several processes on one file: fair, correct, and whole whoever is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from cxguard.clock import SystemClock
from cxguard.stores.base import Query
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.contract.base import SHOP, pages, put, sample

PROCESSES = 4
ROUNDS = 3  # of killing

HAMMER = """
import asyncio, sys
from dataclasses import replace
from cxguard.clock import SystemClock
from cxguard.core.operation import State
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.contract.base import PAY, charged_note, queued, SHOP, token_of

async def main(path, me):
    store = SQLiteStore(path, clock=SystemClock())
    await store.start()
    print("started", flush=True)

    async def submit(caller):
        for n in range(100_000):
            order = queued(f"{me} {caller} {n}", due_at=0.0, amount_minor=100, currency="EUR", claims=(f"{me} {caller} {n}",))
            await store.open(order, holder=me, attempt=order.id, lease_seconds=None)
            print("kept", order.id, flush=True)

    async def work():
        while True:
            for each in await store.take(namespace=SHOP, rules=[PAY], holder=me, lease_seconds=60, limit=5):
                print("token", token_of(each), flush=True)
                await store.note(each.id, charged_note(), namespace=SHOP)
                done = replace(each, state=State.FINISHED, due_at=None, notes_seen=1)
                await store.save(done, token=token_of(each), keep_lease=False)
                print("finished", each.id, flush=True)

    await asyncio.gather(submit(1), submit(2), work())

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""

FORK = """
import asyncio, os, sys
from cxguard.clock import SystemClock
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.contract.base import put, sample

store = SQLiteStore(sys.argv[1], clock=SystemClock())

async def use(name):
    for n in range(20):
        await put(store, sample(f"{name} {n}"))

async def load():
    await store.start()
    await use("before")

asyncio.run(load())
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        asyncio.run(use(f"child {child}"))
        os._exit(0)
    children.append(pid)
asyncio.run(use("parent"))
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
asyncio.run(use("after"))
asyncio.run(store.stop())
print(codes)
"""

FORK_AND_HAMMER = """
import asyncio, os, signal, sys
from cxguard.clock import SystemClock
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.contract.base import put, sample

async def tick():
    while True:
        print("at work", flush=True)
        await asyncio.sleep(0)

async def main(path, me):
    store = SQLiteStore(path, clock=SystemClock())
    await store.start()
    child = os.fork()
    if child == 0:
        signal.pause()
    print(child, flush=True)
    ticking = asyncio.create_task(tick())
    for n in range(1000):
        await asyncio.gather(*(put(store, sample(f"{me} {n} {each}", request=bytes(500_000))) for each in range(20)))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@contextmanager
def hammering(path: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HAMMER, str(path), name], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], lines: int) -> list[str]:
    """The next *lines* lines, and with them the knowledge that the process is in the middle of its work."""
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(lines)]


def kill(process: subprocess.Popen[str]) -> list[str]:
    """End it without warning; every line that it had still said. A line that was cut off was not said."""
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    return [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]


async def judge(path: Path, said: list[str]) -> None:
    """All that was acknowledged is there, nothing was leased twice, the counters are right, the file is sound."""
    store = SQLiteStore(path, clock=SystemClock())
    await store.start()
    records = {each.id: each for each in await pages(store, Query(SHOP, limit=200))}
    words = [line.split() for line in said]
    assert {word[1] for word in words if word[0] == "kept"} <= set(records)
    assert {str(records[word[1]].state) for word in words if word[0] == "finished"} == {"finished"}
    tokens = [word[1] for word in words if word[0] == "token"]
    assert len(tokens) == len(set(tokens))
    tally = await store.tally(SHOP)
    assert sum(tally.operations.values()) == len(records)
    assert tally.unpaid_minor["EUR"] == 100 * tally.operations["queued", "none"]
    await store.stop()
    assert apsw.Connection(str(path)).execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.long
@pytest.mark.asyncio
async def test_killed_processes_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Four processes hammer one file and are killed in the middle, again and again: all that they were told is true."""
    path = tmp_path / "shop.db"
    said: list[str] = []
    for turn in range(ROUNDS):
        for line in await asyncio.to_thread(hammer_and_kill, path, turn):
            said.append(line)
    assert len([line for line in said if line.startswith("finished")]) > 50
    await judge(path, said)


def hammer_and_kill(path: Path, turn: int) -> list[str]:
    said: list[str] = []
    names = [f"{turn}-{n}" for n in range(PROCESSES)]
    first, second, third, fourth = names
    with hammering(path, first) as a, hammering(path, second) as b, hammering(path, third) as c, hammering(path, fourth) as d:
        for process in (a, b, c, d):
            said += read_until(process, 30)
        said += kill(a) + kill(c)
        for process in (b, d):  # the others go on
            said += read_until(process, 60)
        said += kill(b) + kill(d)
    return said


@pytest.mark.asyncio
async def test_process_that_is_stopped_and_goes_on_harms_nobody(tmp_path: Path) -> None:
    """A process that sleeps in the middle of its work and wakes later finds its leases gone or its own, never shared."""
    path = tmp_path / "shop.db"

    def run() -> list[str]:
        with hammering(path, "a") as sleeper, hammering(path, "b") as other:
            said = read_until(sleeper, 30) + read_until(other, 30)
            sleeper.send_signal(signal.SIGSTOP)
            sleeper.send_signal(signal.SIGCONT)
            said += read_until(sleeper, 30) + read_until(other, 30)
            return said + kill(sleeper) + kill(other)

    await judge(path, await asyncio.to_thread(run))


@pytest.mark.asyncio
async def test_forked_children_open_the_file_anew(tmp_path: Path) -> None:
    """A server that loads the program, then forks: parent and children all write, and nothing of it is lost."""
    path = tmp_path / "shop.db"
    run = [sys.executable, "-c", FORK, str(path)]
    done = await asyncio.to_thread(subprocess.run, run, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[0, 0, 0]", done.stderr
    store = SQLiteStore(path, clock=SystemClock())
    await store.start()
    names = ["before", "parent", "after", "child 0", "child 1", "child 2"]
    there = [await store.get(sample(f"{name} {n}").id) is not None for name in names for n in range(20)]
    assert there == [True] * 120
    assert (await store.tally(SHOP)).operations == {("running", "none"): 120}
    await store.stop()


@pytest.mark.asyncio
async def test_turn_of_a_killed_parent_ends_with_it(tmp_path: Path) -> None:
    """A parent that is killed while it writes leaves its forked children alive: they do not hold its turn for it."""
    path = tmp_path / "shop.db"

    def fork_and_kill(turn: int) -> int:
        process = subprocess.Popen([sys.executable, "-c", FORK_AND_HAMMER, str(path), str(turn)], stdout=subprocess.PIPE, text=True)
        lines = read_until(process, 500)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        return int(lines[0])

    for turn in range(4):
        child = await asyncio.to_thread(fork_and_kill, turn)
        try:
            store = SQLiteStore(path, clock=SystemClock())
            async with asyncio.timeout(10):
                await store.start()
                await put(store, sample(f"after {turn}"))
                await store.stop()
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.asyncio
async def test_log_is_carried_over_while_orders_come_in(tmp_path: Path) -> None:
    """However many orders come without a pause, the log stays short: it is carried over and begun anew beside them."""
    path = tmp_path / "shop.db"
    store = SQLiteStore(path, clock=SystemClock())
    await store.start()
    written = 0
    for start in range(0, 6000, 100):
        await asyncio.gather(*(put(store, sample(f"n{n}", request=os.urandom(4000))) for n in range(start, start + 100)))
        written += 100 * 4000
    log = path.with_name("shop.db-wal").stat().st_size
    assert written == 24_000_000
    assert log < 20_000_000
    await store.stop()
    assert not path.with_name("shop.db-wal").exists()
