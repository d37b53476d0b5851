"""A spool whose file is really damaged: the shop starts all the same, the file is kept for a person, and a new one takes orders in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from shopworld import KEYS, SECRET, Worlds
from spoolworld import SpoolWorld, spool_world

from cxguard.config import Secrets
from cxguard.engine.doctor import Health
from cxguard.engine.spool import Spool
from cxguard.engine.spool_doctor import examine_spool_file
from cxguard.errors import NotADatabase
from cxguard.events import Event
from cxguard.stores.sqlite.aside import those_aside
from cxguard.testing import ManualClock
from cxguard.testing.contract.base import queued

pytestmark = pytest.mark.asyncio
NAMES = Secrets(SECRET, tuple(KEYS), "a test")
PAGE = 4_096

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
    assert told == [{"path": str(shop.spool.path), "aside": str(aside)}]
    assert aside.read_bytes() == held


async def test_the_doctor_says_whose_orders_have_to_be_looked_for(tmp_path: Path) -> None:
    """Every time, until somebody has moved the file away."""
    await damaged(tmp_path, no_header)
    spool = spool_in(tmp_path)
    aside = await spool.start(NAMES)
    await spool.stop()
    assert aside is not None
    found = examine_spool_file(spool.path)[0]
    assert (found.health, "was not brought to the store" in found.found, aside.name in found.do) == (Health.FAIL, True, True)
    aside.unlink()
    assert all("put aside" not in one.found for one in examine_spool_file(spool.path))


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
