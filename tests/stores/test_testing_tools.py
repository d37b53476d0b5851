"""The tools that tests are made with: the manual clock and the faulty store."""

from __future__ import annotations

import pytest

from cxguard.errors import StoreUnavailable
from cxguard.stores.memory import MemoryStore
from cxguard.testing import Fault, FaultyStore, ManualClock
from cxguard.testing.contract.base import open_leased, sample
from cxguard.testing.store_contract import StoreContract


class TestFaultyStoreWithoutFaults(StoreContract):
    """A faulty store that nobody told to fail keeps the contract itself."""

    durable = False

    @pytest.fixture
    def store_factory(self) -> object:
        return lambda clock: FaultyStore(MemoryStore(clock=clock))


def test_advance_moves_both_clocks() -> None:
    """Time that passes is seen on both clocks."""
    clock = ManualClock(1000.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (1002.5, 2.5)


def test_jump_moves_the_wall_clock_alone() -> None:
    """A clock that is set back has no meaning for how long something took."""
    clock = ManualClock(1000.0)
    clock.jump(-3600)
    assert (clock.now(), clock.monotonic()) == (-2600.0, 0.0)


def test_time_does_not_go_back() -> None:
    """Advancing by less than nothing is a mistake in the test."""
    with pytest.raises(ValueError, match="use jump"):
        ManualClock().advance(-1)


@pytest.mark.asyncio
async def test_fault_before_the_store() -> None:
    """A call that was not done leaves the store as it was."""
    store = MemoryStore(clock=ManualClock())
    faulty = FaultyStore(store)
    faulty.plan("open", Fault.NOT_DONE)
    with pytest.raises(StoreUnavailable):
        await open_leased(faulty, sample())
    assert await store.get(sample().id) is None


@pytest.mark.asyncio
async def test_fault_after_the_store() -> None:
    """A call whose answer was lost has been done."""
    store = MemoryStore(clock=ManualClock())
    faulty = FaultyStore(store)
    faulty.plan("open", Fault.ANSWER_LOST)
    with pytest.raises(StoreUnavailable):
        await open_leased(faulty, sample())
    assert await store.get(sample().id) is not None
    assert faulty.faults == {("open", Fault.ANSWER_LOST): 1}


@pytest.mark.asyncio
async def test_plan_is_kept_in_order() -> None:
    """Faults strike after the calls that were to go well, as often as planned, and no more."""
    faulty = FaultyStore(MemoryStore(clock=ManualClock()))
    faulty.plan("clock", Fault.NOT_DONE, times=2, after=1)
    struck = []
    for _ in range(5):
        try:
            await faulty.clock()
            struck.append(False)
        except StoreUnavailable:
            struck.append(True)
    assert struck == [False, True, True, False, False]
    assert faulty.calls["clock"] == 5


@pytest.mark.asyncio
async def test_function_decides_where_the_plan_is_silent() -> None:
    """A simulator's dice are asked for every call, until the store is healed."""
    faulty = FaultyStore(MemoryStore(clock=ManualClock()), decide=lambda verb: Fault.NOT_DONE if verb == "get" else None)
    await faulty.clock()
    with pytest.raises(StoreUnavailable):
        await faulty.get("a")
    faulty.heal()
    assert await faulty.get("a") is None
