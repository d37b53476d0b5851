"""A spool whose file is really damaged: the shop starts all the same, the file is kept for a person, and a new one takes orders in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import apsw
import pytest
import pytest_asyncio
from shopworld import KEYS, SECRET, Worlds
from spoolworld import SpoolWorld, spool_world

from cxguard.config import Secrets
from cxguard.core.operation import Operation, changed
from cxguard.engine.doctor import Health
from cxguard.engine.spool import Spool
from cxguard.engine.spool_doctor import examine_spool_file
from cxguard.errors import NotADatabase
from cxguard.events import Event
from cxguard.stores.base import PAGE_MAX
from cxguard.stores.sqlite.aside import those_aside
from cxguard.testing import ManualClock
from cxguard.testing.contract.base import charged_note, queued

pytestmark = pytest.mark.asyncio
NAMES = Secrets(SECRET, tuple(KEYS), "a test")
PAGE = 4_096
ORDERS = 40

Damage = Callable[[bytes], bytes]


def no_header(whole: bytes) -> bytes:
    return b"\xff" * 100 + whole[100:]


def no_first_pages(whole: bytes) -> bytes:
    return bytes(3 * PAGE) + whole[3 * PAGE :]


def no_other_pages(whole: bytes) -> bytes:
    return whole[:PAGE] + b"\xa5" * (len(whole) - PAGE)


def cut_off(whole: bytes) -> bytes:
    return whole[: 2 * PAGE + 7]


DAMAGES = pytest.mark.parametrize("damage", [no_header, no_first_pages, no_other_pages, cut_off])


@pytest_asyncio.fixture
async def world() -> AsyncIterator[Worlds]:
    async with AsyncExitStack() as stack:
        yield Worlds(stack)


def spool_in(folder: Path) -> Spool:
    return Spool(folder / "spool.db", clock=ManualClock(), namespace="shop", holder="test", items_max=100, bytes_max=2**24)


async def damaged(folder: Path, damage: Damage) -> bytes:
    """A spool with an order in it, then damaged on the disk. Returns what the file holds then."""
    spool = spool_in(folder)
    await spool.start(NAMES)
    await spool.lay(queued("a"), lambda there: pytest.fail("there is none"), None)  # type: ignore[arg-type]
    await spool.stop()
    spool.path.write_bytes(damage(spool.path.read_bytes()))
    return spool.path.read_bytes()


@DAMAGES
async def test_the_shop_starts_and_a_new_spool_takes_orders_in(world: Worlds, tmp_path: Path, damage: Damage) -> None:
    """The outage of the store is survived as ever; what the old file holds stays as it is, under another name."""
    held = await damaged(tmp_path, damage)
    heard: list[Event] = []
    shop: SpoolWorld = await spool_world(world, tmp_path, listeners=[heard.append])
    shop.go_away()
    kept = await shop.press()
    await shop.come_back()
    await shop.rest()
    [aside] = those_aside(shop.spool.path)
    told = [event.detail for event in heard if event.name == "spool.damaged"]
    assert (kept.status_code, kept.json()["situation"], len(shop.gateway.standing)) == (202, "spooled", 1)
    assert told == [{"path": str(shop.spool.path), "aside": str(aside), "taken_over": 0}]
    assert aside.read_bytes() == held


async def test_the_doctor_says_whose_orders_have_to_be_looked_for(tmp_path: Path) -> None:
    """Every time, until somebody has moved the file away."""
    await damaged(tmp_path, no_header)
    spool = spool_in(tmp_path)
    aside = await spool.start(NAMES)
    await spool.stop()
    assert aside is not None
    found = examine_spool_file(spool.path)[0]
    assert (found.health, "was not brought to the store" in found.found, aside.path.name in found.do) == (Health.FAIL, True, True)
    aside.path.unlink()
    assert all("put aside" not in one.found for one in examine_spool_file(spool.path))


def page_of(path: Path, name: str) -> int:
    """The first page of a table or an index: where the file begins to be damaged."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    [(number,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchall()
    connection.close()
    return int(number) - 1


async def full(folder: Path) -> list[Operation]:
    """A spool with many orders, one of them with a fact, and a fact alone; what it holds then."""
    spool = spool_in(folder)
    await spool.start(NAMES)
    for number in range(ORDERS):
        order = queued(str(number), request=f"sealed {number} ".encode() * 50)
        await spool.lay(order, lambda there: pytest.fail("there is none"), None)  # type: ignore[arg-type]
    await spool.note(queued("0").id, charged_note())
    await spool.note(queued("unheard of").id, charged_note(key="key-2"))
    held = await all_of(spool)
    await spool.stop()
    return held


async def all_of(spool: Spool) -> list[Operation]:
    """What waits in it, apart from what each file numbers by itself."""
    found = [changed(one, revision=0) for one in await spool.due(limit=PAGE_MAX)]
    return sorted(found, key=lambda one: one.id)


def spoil(path: Path, page: int) -> bytes:
    """One page of the file holds something else now."""
    whole = path.read_bytes()
    path.write_bytes(whole[: page * PAGE] + b"\xa5" * PAGE + whole[(page + 1) * PAGE :])
    return path.read_bytes()


@pytest.mark.parametrize("name", ["operations_due", "operations_listed", "claims", "sqlite_autoindex_operations_1"])
async def test_orders_that_can_be_read_are_in_the_new_spool(tmp_path: Path, name: str) -> None:
    """With their facts, and the facts alone; what was damaged stays as it is."""
    held, path = await full(tmp_path), tmp_path / "spool.db"
    left = spoil(path, page_of(path, name))
    spool = spool_in(tmp_path)
    aside = await spool.start(NAMES)
    assert aside is not None
    assert (aside.taken_over, await all_of(spool)) == (len(held), held)
    assert aside.path.read_bytes() == left
    await spool.stop()


async def test_order_of_which_a_part_is_lost_is_not_taken_for_whole(tmp_path: Path) -> None:
    """The facts cannot be read: the orders without any are taken over, those that had some are left for a person."""
    held, path = await full(tmp_path), tmp_path / "spool.db"
    spoil(path, page_of(path, "notes"))
    spool = spool_in(tmp_path)
    await spool.start(NAMES)
    assert await all_of(spool) == [one for one in held if not one.notes]
    await spool.stop()


async def test_page_of_orders_that_is_lost_takes_no_others_with_it(tmp_path: Path) -> None:
    """Those before it are read, and those behind it."""
    held, path = await full(tmp_path), tmp_path / "spool.db"
    spoil(path, path.read_bytes().index(f"sealed {ORDERS // 2} ".encode()) // PAGE)
    spool = spool_in(tmp_path)
    await spool.start(NAMES)
    found = await all_of(spool)
    assert 0 < len(held) - len(found) < 10
    assert all(one in held for one in found)
    await spool.stop()


async def test_orders_of_another_shop_are_left_alone(tmp_path: Path) -> None:
    """Named with another secret, the same order has another name: it would be taken for a new one."""
    await full(tmp_path)
    spoil(tmp_path / "spool.db", page_of(tmp_path / "spool.db", "claims"))
    spool = spool_in(tmp_path)
    aside = await spool.start(Secrets(bytes(32), tuple(KEYS), "another test"))
    assert aside is not None
    assert (aside.taken_over, await all_of(spool)) == (0, [])
    await spool.stop()


async def test_processes_that_start_at_once_put_it_aside_once(tmp_path: Path) -> None:
    """A new spool that another process has made is not taken for the damaged one."""
    await damaged(tmp_path, no_header)
    spools = [spool_in(tmp_path) for _ in range(4)]
    found = await asyncio.gather(*(spool.start(NAMES) for spool in spools))
    assert [spool.open for spool in spools] == [True] * 4
    assert len([one for one in found if one is not None]) == len(those_aside(tmp_path / "spool.db")) == 1
    for spool in spools:
        await spool.stop()


async def test_another_programs_file_stays_where_it_is(tmp_path: Path) -> None:
    """A slip in the path is a wrong setting, at the second start as at the first."""
    path = tmp_path / "spool.db"
    path.write_text("a diary\n" * 1_000)
    for _ in range(2):
        with pytest.raises(NotADatabase, match="name another file"):
            await spool_in(tmp_path).start(NAMES)
    assert (path.read_text()[:7], those_aside(path)) == ("a diary", [])
