"""What the SQLite store says and does when its file, its folder or its disk is not as it should be."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
import pytest_asyncio

from cxguard.core.operation import State
from cxguard.errors import ConfigurationError, CxguardError, StoreUnavailable, StoreUnfit
from cxguard.stores.base import Query
from cxguard.stores.sqlite import SQLiteStore
from cxguard.stores.sqlite.statements import SCHEMA, STATEMENTS
from cxguard.testing.clock import ManualClock
from cxguard.testing.contract.base import SHOP, charge_send, charged_note, got, open_leased, put, queued, sample, take, token_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


def new_store(path: Path, **settings: float) -> SQLiteStore:
    return SQLiteStore(path, clock=ManualClock(), **settings)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SQLiteStore]:
    store = new_store(path)
    await store.start()
    yield store
    await store.stop()


async def refusal(path: Path) -> CxguardError:
    """The error of a start that must fail."""
    store = new_store(path)
    with pytest.raises(CxguardError) as caught:
        await store.start()
    await store.stop()
    return caught.value


# --- files


@pytest.mark.asyncio
async def test_file_is_for_its_user_only(store: SQLiteStore, path: Path) -> None:
    """Orders are readable by nobody else: the file, its log and its lock are 0600."""
    await put(store, sample())
    files = sorted(path.parent.glob("shop.db*"))
    assert len(files) >= 3
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


@pytest.mark.asyncio
async def test_file_that_is_no_database_is_refused(path: Path) -> None:
    """Some other file is left as it is."""
    diary = b"dear diary, " * 200
    write(path, diary)
    error = await refusal(path)
    assert isinstance(error, ConfigurationError)
    assert "is not a SQLite database: name another file" in str(error)
    assert read(path) == diary


@pytest.mark.asyncio
async def test_database_of_another_program_is_refused(path: Path) -> None:
    """The shop's own database is left as it is."""
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE orders (id)")
    other.close()
    error = await refusal(path)
    assert isinstance(error, ConfigurationError)
    assert "another program's database: give cxguard a file of its own" in str(error)


@pytest.mark.asyncio
async def test_newer_schema_is_refused(store: SQLiteStore, path: Path) -> None:
    """A file that a newer cxguard has changed is not touched by an older one."""
    await store.stop()
    change(path, "UPDATE meta SET value = '2' WHERE name = 'schema_version'")
    error = await refusal(path)
    assert isinstance(error, ConfigurationError)
    assert "has schema 2, this cxguard knows 1: install the newer cxguard" in str(error)


@pytest.mark.asyncio
async def test_damaged_file_is_unfit(store: SQLiteStore, path: Path) -> None:
    """A file whose pages were overwritten is found at start, and nothing is charged on it."""
    for n in range(200):
        await put(store, sample(f"n{n}", request=b"x" * 500))
    await store.stop()
    with path.open("r+b") as file:
        for page in range(10, 60):
            file.seek(page * 4096)
            file.write(b"\xa5" * 1000)
    error = await refusal(path)
    assert isinstance(error, StoreUnfit)
    assert "is damaged" in str(error)
    assert "restore it from a backup" in str(error)


@pytest.mark.asyncio
@pytest.mark.parametrize("then", ["deleted", "replaced"])
async def test_file_that_went_away_takes_no_more_orders(store: SQLiteStore, path: Path, then: str) -> None:
    """A file that is deleted or replaced under a running program would take orders into nothing: it says so instead."""
    aside = path.with_suffix(".old")
    move(path, aside)
    if then == "replaced":
        write(path, b"")
    with pytest.raises(StoreUnavailable, match="deleted or replaced while in use: put it back, then restart"):
        await put(store, sample())
    move(aside, path)
    await put(store, sample())


@pytest.mark.asyncio
async def test_unreadable_body_is_shown_and_stands_in_nobody_s_way(store: SQLiteStore, path: Path) -> None:
    """One damaged record is on the list, is never leased, and those behind it are taken."""
    await put(store, queued("a", due_at=1.0, sends=(charge_send(),)))
    await put(store, queued("b"))
    change(path, "UPDATE operations SET body = '{' WHERE id = ?", sample("a").id)
    assert (await got(store, sample("a").id)).why == "unreadable"
    assert [each.why for each in (await store.search(Query(SHOP, due=True))).operations] == ["unreadable", ""]
    assert await take(store, limit=1) == ()
    assert [each.id for each in await take(store, limit=1)] == [sample("b").id]


# --- disks


@pytest.mark.asyncio
async def test_almost_full_disk_takes_no_new_order(path: Path) -> None:
    """With little space left no new order is kept, while those that are open still end and facts are still noted."""
    store = new_store(path)
    await store.start()
    opened = await open_leased(store, sample())
    await store.stop()
    store = new_store(path, free_bytes_min=1 << 60)
    await store.start()
    with pytest.raises(StoreUnavailable, match=r"almost full .*no new order was kept; free some space"):
        await put(store, sample("b"))
    await store.note(opened.id, charged_note(), namespace=SHOP)
    assert (await store.open(sample(), holder="h", attempt="two", lease_seconds=30)).operation.notes == (charged_note(),)
    finished = replace(opened, state=State.FINISHED)
    assert (await store.save(finished, token=token_of(opened), keep_lease=False)).state is State.FINISHED
    await store.stop()


def test_full_disk_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """When the disk is full orders are refused; those acknowledged are there, the file is sound, and it goes on with space."""
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert int(said[0]) > 10
    assert re.search(r"StoreUnavailable: .*(look at its disk|free some space)", said[1])
    assert said[2:] == ["all there", "ok", "goes on"]


@pytest.mark.asyncio
async def test_other_program_that_holds_the_file_is_waited_for_and_named(path: Path) -> None:
    """A shell that holds the write lock is waited for a while, then the caller hears of it; nothing is half done."""
    store = new_store(path, patience_seconds=0.2)
    await store.start()
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"another program holds .*nothing was kept; end it"):
        await put(store, sample())
    other.execute("ROLLBACK")
    other.close()
    await put(store, sample())
    await store.stop()


@pytest.mark.asyncio
async def test_process_that_stopped_in_the_middle_is_not_waited_for_for_ever(path: Path) -> None:
    """While another process holds its turn and does not go on, callers are told so; when it ends, all goes on."""
    store = new_store(path, patience_seconds=0.05)
    await store.start()
    turn = os.open(f"{path}.lock", os.O_RDWR)
    fcntl.flock(turn, fcntl.LOCK_EX)
    with pytest.raises(StoreUnavailable, match="it may have happened; look before you act again"):
        await put(store, sample())
    with pytest.raises(StoreUnavailable, match="a process that was stopped while writing"):
        await put(store, sample("b"))
    assert await store.get(sample().id) is None
    os.close(turn)
    await until_answered(store)
    await put(store, sample("b"))
    await store.stop()


@pytest.mark.asyncio
async def test_stop_does_not_wait_for_ever(path: Path) -> None:
    """A store that cannot finish says so instead of hanging."""
    store = new_store(path, patience_seconds=0.05)
    await store.start()
    turn = os.open(f"{path}.lock", os.O_RDWR)
    fcntl.flock(turn, fcntl.LOCK_EX)
    asked = asyncio.create_task(put(store, sample()))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="did not close"):
        await store.stop()
    with pytest.raises(StoreUnavailable):
        await asked
    os.close(turn)


# --- misuse


@pytest.mark.asyncio
async def test_store_that_was_not_started_says_so(path: Path) -> None:
    """A verb before `start` is a mistake in the program."""
    with pytest.raises(ConfigurationError, match=r"await store.start\(\) first"):
        await new_store(path).get("a")


@pytest.mark.asyncio
async def test_started_by_many_at_once_it_opens_once(path: Path) -> None:
    """Many first requests at once start one store between them."""
    store = new_store(path)
    await asyncio.gather(*(store.start() for _ in range(20)))
    await put(store, sample())
    await store.stop()


@pytest.mark.asyncio
async def test_one_caller_s_nonsense_does_not_hurt_the_others(store: SQLiteStore) -> None:
    """A value that the file cannot hold fails for its own caller; all others of the batch are kept."""
    calls = [put(store, sample(f"n{n}", amount_minor=1 << 70 if n == 3 else 100)) for n in range(6)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, answer in enumerate(answers) if isinstance(answer, Exception)] == [3]
    assert isinstance(answers[3], OverflowError)
    assert (await store.tally(SHOP)).operations == {("running", "none"): 5}


@pytest.mark.asyncio
async def test_cancelled_caller_leaves_the_store_whole(store: SQLiteStore) -> None:
    """Callers that are cancelled at any moment leave records that are there whole or not at all, and are counted right."""
    for n in range(60):
        task = asyncio.create_task(put(store, sample(f"n{n}")))
        for _ in range(n % 6):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await put(store, sample("last"))
    found = [each for each in [await store.get(sample(f"n{n}").id) for n in range(60)] if each is not None]
    assert (await store.tally(SHOP)).operations == {("running", "none"): len(found) + 1}


def test_store_serves_one_event_loop_after_the_other(path: Path) -> None:
    """A program whose event loop ends and begins anew goes on with the same store."""
    store = new_store(path)

    async def use(name: str) -> None:
        await store.start()
        await put(store, sample(name))

    asyncio.run(use("a"))
    asyncio.run(use("b"))
    asyncio.run(store.stop())


def test_no_statement_walks_over_all_records() -> None:
    """Every statement finds its records by an index: none grows with the number of records."""
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA).fetchall()
    tables = {"operations", "notes", "claims", "gateway_keys", "sessions", "tallies", "counters", "session_batches"}
    fragments = {"whole", "narrowed", "newest_first", "most_overdue_first"}
    salvage = {"seqs_up", "seqs_down", "seqs_due"}  # of a damaged file, which nobody works with
    for name, text in STATEMENTS.items():
        if name in fragments | salvage or not text.startswith(("SELECT", "UPDATE", "DELETE")):
            continue
        names = re.findall(r":(\w+)", text)
        count = max([int(n) for n in re.findall(r"\?(\d)", text)] or [text.count("?")])
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", dict.fromkeys(names) if names else (None,) * count).fetchall()
        steps = [str(row[3]) for row in plan]
        assert not [step for step in steps if step.startswith("SCAN") and step.split()[1] in tables], name


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return path.read_bytes()


def move(path: Path, to: Path) -> None:
    path.rename(to)


def change(path: Path, statement: str, *values: str) -> None:
    """Write to the file behind the store's back."""
    connection = apsw.Connection(str(path))
    connection.execute(statement, values)
    connection.close()


async def until_answered(store: SQLiteStore) -> None:
    """Come back when the store takes questions again."""
    async with asyncio.timeout(10):
        while True:
            try:
                await store.swap("probe", revision=-1, value=b"")
                return
            except StoreUnavailable:
                await asyncio.sleep(0)


FILL = """
import asyncio, resource, sys
import apsw
from cxguard.clock import SystemClock
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.contract.base import put, sample

async def main(path):
    store = SQLiteStore(path, clock=SystemClock())
    await store.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    kept = []
    try:
        for n in range(5000):
            kept.append((await put(store, sample(f"n{n}", request=b"x" * 2000))).id)
    except Exception as error:
        print(len(kept))
        print(type(error).__name__ + ":", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print("all there" if all([await store.get(id) for id in kept]) else "lost")
    print(apsw.Connection(path).execute("PRAGMA integrity_check").fetchall()[0][0])
    await put(store, sample("later"))
    print("goes on")
    await store.stop()

asyncio.run(main(sys.argv[1]))
"""
