"""Lost answers: it happened, or it did not, and the caller was not told. Repeating must be safe either way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.operation import State
from cxguard.errors import LeaseLost, StoreUnavailable
from cxguard.stores.base import SessionBatch, Store
from cxguard.testing.clock import ManualClock
from cxguard.testing.contract.base import (
    LEASE_SECONDS,
    SHOP,
    ContractBase,
    charged_note,
    got,
    open_leased,
    put,
    queued,
    sample,
    seize,
    take,
    token_of,
)
from cxguard.testing.faulty_store import Fault, FaultyStore

both = pytest.mark.parametrize("fault", list(Fault))


@pytest.mark.asyncio
class LosingContract(ContractBase):
    @both
    async def test_open_is_repeated(self, store: Store, fault: Fault) -> None:
        """Whether the first open happened or not, the repetition wins, and there is one record."""
        faulty = FaultyStore(store)
        faulty.plan("open", fault)
        with pytest.raises(StoreUnavailable):
            await open_leased(faulty, sample(claims=("basket",)), attempt="one")
        won = await open_leased(faulty, sample(claims=("basket",)), attempt="one")
        assert await store.get(won.id) == won
        assert (await store.tally(SHOP)).operations == {("running", "none"): 1}

    @both
    async def test_open_without_a_lease_is_repeated(self, store: Store, fault: Fault) -> None:
        """The same for an order that is queued at once: one record, and the caller knows that it is its own."""
        faulty = FaultyStore(store)
        faulty.plan("open", fault)
        with pytest.raises(StoreUnavailable):
            await put(faulty, queued("a"))
        await put(faulty, queued("a"))
        assert (await store.tally(SHOP)).operations == {("queued", "none"): 1}

    @both
    async def test_seize_is_repeated(self, store: Store, fault: Fault) -> None:
        """Whether the first seize happened or not, the repetition holds the lease."""
        stored = await put(store, sample())
        faulty = FaultyStore(store)
        faulty.plan("seize", fault)
        with pytest.raises(StoreUnavailable):
            await seize(faulty, stored, attempt="one", claims=("basket",))
        again = await seize(faulty, stored, attempt="one", claims=("basket",))
        assert (again.won, again.operation.claims) == (True, ("basket",))
        assert await store.get(stored.id) == again.operation

    @both
    async def test_save_that_keeps_the_lease_is_repeated(self, store: Store, fault: Fault) -> None:
        """A save under a kept lease may be repeated with the same token."""
        opened = await open_leased(store, sample())
        faulty = FaultyStore(store)
        faulty.plan("save", fault)
        with pytest.raises(StoreUnavailable):
            await faulty.save(replace(opened, why="sent"), token=token_of(opened), keep_lease=True)
        await faulty.save(replace(opened, why="sent"), token=token_of(opened), keep_lease=True)
        assert (await got(store, opened.id)).why == "sent"

    async def test_lost_answer_to_the_last_save_is_seen_by_reading(self, store: Store) -> None:
        """A last save whose answer was lost ended the lease: repeating it is refused, and a look shows it done."""
        opened = await open_leased(store, sample())
        faulty = FaultyStore(store)
        faulty.plan("save", Fault.ANSWER_LOST)
        finished = replace(opened, state=State.FINISHED)
        with pytest.raises(StoreUnavailable):
            await faulty.save(finished, token=token_of(opened), keep_lease=False)
        with pytest.raises(LeaseLost):
            await faulty.save(finished, token=token_of(opened), keep_lease=False)
        assert (await got(faulty, opened.id)).state is State.FINISHED

    async def test_lost_answer_to_a_take_lapses(self, store: Store, clock: ManualClock) -> None:
        """Records that were leased to somebody who was not told come back when the lease has run out."""
        await put(store, queued("a"))
        faulty = FaultyStore(store)
        faulty.plan("take", Fault.ANSWER_LOST)
        with pytest.raises(StoreUnavailable):
            await take(faulty)
        assert await take(faulty) == ()
        clock.advance(LEASE_SECONDS)
        assert len(await take(faulty)) == 1

    @both
    async def test_note_is_repeated(self, store: Store, fault: Fault) -> None:
        """A fact is told once, however often it is sent."""
        faulty = FaultyStore(store)
        faulty.plan("note", fault)
        with pytest.raises(StoreUnavailable):
            await faulty.note(sample().id, charged_note(), namespace=SHOP)
        noted = await faulty.note(sample().id, charged_note(), namespace=SHOP)
        assert noted.notes == (charged_note(),)

    @both
    async def test_session_batch_is_repeated(self, store: Store, fault: Fault) -> None:
        """A flush counts once, however often it is sent."""
        faulty = FaultyStore(store)
        faulty.plan("record", fault)
        with pytest.raises(StoreUnavailable):
            await faulty.record(SessionBatch("b1", counters={"a": 1}))
        assert await faulty.record(SessionBatch("b1", counters={"a": 1}))
        assert await store.counters("") == {"a": 1}
