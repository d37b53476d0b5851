"""What a guard is put together from: its name among holders, the path of its pages, its secrets, its ids, and who hears of its breakers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.breaker import Label
from cxguard.core.names import OWNER_DIGITS
from cxguard.engine.mode import Mode, holder_name, mode_of, prefix_of
from cxguard.engine.secrets import file_of, secrets_of, shared_secrets
from cxguard.errors import ConfigurationError
from cxguard.events import Event
from cxguard.guard import Guard
from cxguard.stores.base import Versioned
from cxguard.stores.memory import MemoryStore
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing import FaultyStore, ManualClock


@pytest.mark.parametrize("prefix", ["/_cxguard", "/shop/orders", "/a"])
def test_a_path_for_the_pages_is_taken_as_it_is(prefix: str) -> None:
    """Any path of the shop's own."""
    assert prefix_of(prefix) == prefix


@pytest.mark.parametrize(
    "prefix", ["", "/", "orders", "/orders/", "orders/", "/shop//orders", "//orders", "orders//of", "/a b", "/a?b", "/a#b", "/ü", "/../a"]
)
def test_what_cannot_be_a_path_is_refused(prefix: str) -> None:
    """With the line to write."""
    with pytest.raises(ConfigurationError, match=r'write Guard\(..., prefix="/_cxguard"\)'):
        prefix_of(prefix)


def test_there_are_two_modes() -> None:
    """By name, or as they are."""
    assert (mode_of("watch"), mode_of(Mode.GUARD)) == (Mode.WATCH, Mode.GUARD)
    with pytest.raises(ConfigurationError, match=r'write Guard\(..., mode="guard"\)'):
        mode_of("wach")


def test_a_process_has_another_name_each_time() -> None:
    """An earlier process may have had the same number."""
    names = {holder_name() for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) < 64 for name in names)


@pytest.mark.asyncio
async def test_secret_that_is_gone_is_not_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orders are named and sealed with the old one: whoever mended it by a new one would find none of them."""
    monkeypatch.delenv("CXGUARD_SECRET", raising=False)
    monkeypatch.delenv("CXGUARD_KEYS", raising=False)
    url, secret = f"sqlite:///{tmp_path / 'shop.db'}", tmp_path / "shop.db.secret"
    async with Guard(url, shop=SHOP, duties=False):
        assert secret.exists()
    secret.unlink()
    guard = Guard(url, shop=SHOP, duties=False)
    with pytest.raises(ConfigurationError):
        await guard.start()
    await guard.stop()
    assert not secret.exists()


def test_secrets_of_a_shared_store_are_those_given() -> None:
    """They come from elsewhere; where nobody gave any, only a store in memory makes its own."""
    secrets = shared_secrets((SECRET, KEYS), in_memory=False)
    assert (secrets.naming, secrets.ring) == (SECRET, tuple(KEYS))
    assert shared_secrets((None, ()), in_memory=True).naming != SECRET
    with pytest.raises(ConfigurationError, match="secrets that they share"):
        shared_secrets((None, ()), in_memory=False)


@pytest.mark.asyncio
async def test_an_embedded_store_has_its_secrets_beside_it(tmp_path: Path) -> None:
    """Made on first use, and found again; a store that was used before is not given others."""
    store = SQLiteStore(tmp_path / "shop.db", clock=ManualClock())
    assert (file_of(store), file_of(MemoryStore(clock=ManualClock()))) == (tmp_path / "shop.db", None)
    await store.start()
    try:
        made = await secrets_of(store, file_of(store), namespace="shop", given=(None, ()))
        assert await secrets_of(store, file_of(store), namespace="shop", given=(None, ())) == made
        with pytest.raises(ConfigurationError):
            await secrets_of(store, None, namespace="shop", given=(SECRET, KEYS))
    finally:
        await store.stop()


class Gathering(FaultyStore):
    """Keeps together what belongs to one owner, as a cluster does."""

    @property
    def ids_led_by_owner(self) -> bool:
        return True


@pytest.mark.asyncio
@pytest.mark.parametrize(("wrap", "together"), [(FaultyStore, False), (Gathering, True)])
async def test_ids_of_one_owner_begin_alike_where_the_store_wants_it(wrap: type[FaultyStore], together: bool) -> None:
    """And of two owners never: a cluster finds the place of a record by how its id begins."""
    clock = ManualClock()
    async with Guard(wrap(MemoryStore(clock=clock)), shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock) as guard:
        ids = [
            guard.engine.operation_id(purpose="order", owner=owner, key=key)[:OWNER_DIGITS]
            for owner, key in (("ann", "1"), ("ann", "2"), ("bob", "1"))
        ]
    assert (ids[0] == ids[1], ids[0] == ids[2]) == (together, False)


@pytest.mark.asyncio
async def test_listeners_of_the_guard_hear_of_its_breakers() -> None:
    """A person's word about a gateway is told like everything else."""
    heard: list[Event] = []
    clock = ManualClock()
    async with Guard(
        MemoryStore(clock=clock), shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock, listeners=[heard.append]
    ) as guard:
        guard.engine.breakers.force("cards", "charge", Label.OPEN, reason="bank holiday", seconds=60.0)
    assert [event.detail["why"] for event in heard if event.name == "breaker.opened"] == ["bank holiday"]


class Unhurried(FaultyStore):
    """Others come in between when a small value is read or written."""

    async def load(self, key: str) -> Versioned:
        await asyncio.sleep(0)
        return await super().load(key)

    async def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        await asyncio.sleep(0)
        return await super().swap(key, revision=revision, value=value)


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(12))
async def test_a_start_that_was_interrupted_anywhere_is_made_good_by_the_next(turns: int) -> None:
    """Whoever presses first may go away while the guard starts: its heartbeat, its duties and its breakers are not left out for ever."""
    clock = ManualClock()
    guard = Guard(Unhurried(MemoryStore(clock=clock)), shop=SHOP, secret=SECRET, keys=KEYS, clock=clock)
    starting = asyncio.ensure_future(guard.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait({starting})
    await guard.start()
    assert guard.breakers.look_seconds > 0
    await guard.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(1, 6))
@pytest.mark.parametrize("whole", [True, False])
async def test_a_stop_that_was_interrupted_leaves_the_next_start_its_duties(turns: int, whole: bool) -> None:
    """The duties had been told to stop, and were taken for running: kept orders of that process stayed where they were."""
    clock = ManualClock()
    guard = Guard(Unhurried(MemoryStore(clock=clock)), shop=SHOP, secret=SECRET, keys=KEYS, clock=clock, duties=True)
    await guard.start()
    stopping = asyncio.ensure_future(guard.stop() if whole else guard.stop_duties())
    for _ in range(turns):
        await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping})
    before = asyncio.all_tasks()
    await guard.start()
    guard.start_wanted()
    assert [task.get_name() for task in asyncio.all_tasks() - before if task.get_name() == "cxguard-queue"] == ["cxguard-queue"]
    await guard.stop()


async def _used(guard: Guard, key: str, *, stops: bool) -> object:
    await guard.start()
    result = await guard.run(_noted, purpose="note", key=key, owner="ann")
    if stops:
        await guard.stop()
    return result


async def _noted(op: object) -> str:
    return "noted"


@pytest.mark.parametrize("address", ["memory://", "sqlite:///shop.db"])
@pytest.mark.parametrize("stops", [True, False])
def test_a_guard_is_used_in_one_event_loop_after_the_other(
    address: str, stops: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shop's tests start its app again and again, each time in a loop of their own, and some of them never stop it. A store in
    memory was taken for one of another shop's, and what belongs to a closed loop was waited for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXGUARD_SECRET", raising=False)
    monkeypatch.delenv("CXGUARD_KEYS", raising=False)
    guard = Guard(address, shop=SHOP)
    for key, last in (("1", False), ("2", False), ("1", True)):
        assert asyncio.run(_used(guard, key, stops=stops or last)) == "noted"
    assert not guard.started
