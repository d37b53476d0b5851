"""The memory store: the contract, and its own limit."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from cxguard.core.operation import Operation, State
from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Level
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.contract.base import LEASE_SECONDS, SHOP, StoreFactory, charged_note, open_leased, put, sample, take, token_of
from cxguard.testing.contract.hinting import HintingContract
from cxguard.testing.contract.keeping import ForgettingContract
from cxguard.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract, HintingContract, ForgettingContract):
    durable = False

    @pytest.fixture
    def store_factory(self) -> StoreFactory:
        return lambda clock: MemoryStore(clock=clock)


@pytest.mark.asyncio
async def test_full_store_refuses_new_records_only() -> None:
    """A full memory store says so, and still serves the records that it has."""
    store = MemoryStore(clock=ManualClock(), operations_max=1)
    opened = await open_leased(store, sample("a"))
    with pytest.raises(StoreUnavailable, match="operations_max"):
        await put(store, sample("b"))
    with pytest.raises(StoreUnavailable, match="operations_max"):
        await store.note(sample("b").id, charged_note(), namespace=SHOP)
    await store.save(opened, token=token_of(opened), keep_lease=False, gone=True)
    await put(store, sample("b"))


@pytest.mark.asyncio
async def test_level_is_memory() -> None:
    """Nobody may take the memory store for a durable one, and each has an epoch of its own."""
    first, second = MemoryStore(clock=ManualClock()), MemoryStore(clock=ManualClock())
    assert first.level is Level.MEMORY
    assert first.epoch != second.epoch


@pytest.mark.asyncio
async def test_older_copy_is_another_life_without_what_came_after_it() -> None:
    """As a replica that lagged: later records and writes are gone, and no token or revision is given out again."""
    store = MemoryStore(clock=ManualClock())
    before = await open_leased(store, sample("a"))
    copy, epoch = store.copied(), store.epoch
    await store.save(before, token=token_of(before), keep_lease=False)
    after = await open_leased(store, sample("b"))
    store.go_back(copy)
    assert store.epoch != epoch
    assert (await store.get(sample("a").id), await store.get(sample("b").id)) == (before, None)
    assert token_of(await open_leased(store, sample("b"))) > token_of(after)


@pytest.mark.asyncio
async def test_queue_stays_small_when_nobody_takes() -> None:
    """Thousands of renewals and saves of few records leave few entries behind: nothing grows with time alone."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    opened = [await open_leased(store, sample(f"n{n}")) for n in range(10)]
    for _ in range(1000):
        clock.advance(1)
        await store.renew({each.id: token_of(each) for each in opened}, lease_seconds=LEASE_SECONDS)
    assert store.queue_entries < 200
    for each in opened:
        await store.save(replace(each, state=State.FINISHED), token=token_of(each), keep_lease=False)
    clock.advance(LEASE_SECONDS * 2)
    assert await take(store) == ()


def test_threads_do_not_come_between_the_lines_of_a_verb() -> None:
    """A heartbeat that renews from its own thread never undoes what a request saves at the same moment."""
    store = MemoryStore(clock=ManualClock())
    names = [f"n{n}" for n in range(300)]
    opened = asyncio.run(_open_all(store, names))
    ended = threading.Event()

    def heartbeat() -> None:
        tokens = {each.id: token_of(each) for each in opened}
        while not ended.is_set():
            asyncio.run(store.renew(tokens, lease_seconds=LEASE_SECONDS))

    thread = threading.Thread(target=heartbeat)
    thread.start()
    asyncio.run(_finish_all(store, opened))
    ended.set()
    thread.join()
    assert asyncio.run(store.tally(SHOP)).operations == {("finished", "none"): len(names)}


async def _open_all(store: MemoryStore, names: list[str]) -> list[Operation]:
    return [await open_leased(store, sample(name)) for name in names]


async def _finish_all(store: MemoryStore, opened: list[Operation]) -> None:
    for each in opened:
        await store.save(replace(each, state=State.FINISHED), token=token_of(each), keep_lease=False)


def test_no_part_of_the_suite_hides_a_test_of_another() -> None:
    """Two parts with a test of the same name would run only one of them."""
    names = [name for part in StoreContract.__bases__ for name in vars(part) if name.startswith("test_")]
    assert len(names) == len(set(names))
    assert len(names) > 90
