"""Small values, sessions, counters, and what a restart must not lose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.operation import State
from cxguard.stores.base import Level, SessionBatch, SessionRow, Store, Versioned
from cxguard.testing.clock import START, ManualClock
from cxguard.testing.contract.base import (
    SHOP,
    ContractBase,
    StoreFactory,
    charged_note,
    open_leased,
    put,
    queued,
    race,
    sample,
    take,
    token_of,
)

DAY = 86_400.0


def row(id: str = "s1", revision: int = 0, body: bytes = b"body") -> SessionRow:
    return SessionRow(id, revision, body, START)


@pytest.mark.asyncio
class SwappingContract(ContractBase):
    async def test_value_that_was_never_written_is_revision_zero(self, store: Store) -> None:
        """An unknown key reads as empty at revision 0."""
        assert await store.load("breaker") == Versioned(0, b"")

    async def test_swap_replaces_what_was_seen(self, store: Store) -> None:
        """A swap at the stored revision succeeds, and the revision grows by one."""
        assert await store.swap("breaker", revision=0, value=b"\x00one")
        assert await store.swap("breaker", revision=1, value=b"two")
        assert await store.load("breaker") == Versioned(2, b"two")

    @pytest.mark.parametrize("revision", [0, 2, -1])
    async def test_swap_of_something_else_is_refused(self, store: Store, revision: int) -> None:
        """A swap at any other revision changes nothing."""
        await store.swap("breaker", revision=0, value=b"one")
        assert not await store.swap("breaker", revision=revision, value=b"mine")
        assert await store.load("breaker") == Versioned(1, b"one")

    async def test_race_to_swap_has_one_winner(self, store: Store) -> None:
        """Of a hundred who swap the same revision exactly one succeeds."""
        answers = await race(lambda n: store.swap("breaker", revision=0, value=str(n).encode()))
        assert answers.count(True) == 1
        assert (await store.load("breaker")).value == str(answers.index(True)).encode()


@pytest.mark.asyncio
class RecordingContract(ContractBase):
    async def test_sessions_and_counters_are_written_together(self, store: Store) -> None:
        """One batch writes its sessions, each one revision higher, and adds its counters."""
        assert await store.record(SessionBatch("b1", (row("s1"), row("s2")), {"errors:pay": 2, "orders": 1.5}))
        assert await store.sessions(["s1", "s2", "s3"]) == {"s1": row("s1", 1), "s2": row("s2", 1)}
        assert await store.counters("") == {"errors:pay": 2, "orders": 1.5}

    async def test_counters_are_added_up(self, store: Store) -> None:
        """A counter is the sum of what every batch added."""
        await store.record(SessionBatch("b1", counters={"a": 1, "b": 1}))
        await store.record(SessionBatch("b2", counters={"a": 2}))
        assert await store.counters("") == {"a": 3, "b": 1}

    async def test_counters_are_read_by_prefix(self, store: Store) -> None:
        """A prefix is taken literally: nothing in it is a wildcard."""
        await store.record(SessionBatch("b1", counters={"pay:a": 1, "pay:b": 2, "pay%": 3, "paz": 4, "PAY:c": 5, "pay_": 6}))
        assert await store.counters("pay:") == {"pay:a": 1, "pay:b": 2}
        assert await store.counters("pay%") == {"pay%": 3}
        assert await store.counters("pay_") == {"pay_": 6}

    async def test_batch_with_one_outdated_session_writes_nothing(self, store: Store) -> None:
        """When one session has moved on, neither the others nor the counters are written: load, fold, repeat."""
        await store.record(SessionBatch("b1", (row("s1"),)))
        assert not await store.record(SessionBatch("b2", (row("s2"), row("s1", 0, b"mine")), {"a": 1}))
        assert await store.sessions(["s1", "s2"]) == {"s1": row("s1", 1)}
        assert await store.counters("") == {}
        assert await store.record(SessionBatch("b2", (row("s2"), row("s1", 1, b"mine")), {"a": 1}))

    async def test_repeated_batch_counts_once(self, store: Store, clock: ManualClock) -> None:
        """A flush whose answer was lost may be repeated, an hour long."""
        batch = SessionBatch("b1", (row("s1"),), {"a": 1})
        assert await store.record(batch)
        clock.advance(3600)
        await store.record(SessionBatch("b2", counters={"b": 1}))
        assert await store.record(batch)
        assert await store.counters("a") == {"a": 1}
        assert await store.sessions(["s1"]) == {"s1": row("s1", 1)}

    async def test_race_of_one_batch_counts_once(self, store: Store) -> None:
        """The same flush by a hundred callers at once counts once."""
        assert all(await race(lambda n: store.record(SessionBatch("b1", (row("s1"),), {"a": 1}))))
        assert await store.counters("") == {"a": 1}

    async def test_many_sessions_are_read_at_once(self, store: Store) -> None:
        """A thousand sessions are written by one batch and read by one call."""
        rows = tuple(row(f"s{n}") for n in range(1000))
        await store.record(SessionBatch("b1", rows))
        assert len(await store.sessions([each.id for each in rows])) == 1000


@pytest.mark.asyncio
class ForgettingContract(ContractBase):
    """Of stores that clear sessions away by the clock they were given; one whose server does it goes by that server's."""

    async def test_sessions_are_forgotten_after_400_days(self, store: Store, clock: ManualClock) -> None:
        """What nobody has written to for 400 days goes with the next batches; the counters stay."""
        old = tuple(row(f"s{n}") for n in range(150))
        await store.record(SessionBatch("b1", (*old, row("kept")), {"a": 1}))
        clock.advance(399 * DAY)
        await store.record(SessionBatch("b2", (SessionRow("kept", 1, b"body", START + 399 * DAY),)))
        assert len(await store.sessions([each.id for each in old])) == 150
        clock.advance(2 * DAY)
        for number in range(2):
            await store.record(SessionBatch(f"b{3 + number}", counters={"a": 1}))
        assert await store.sessions(["kept", *(each.id for each in old)]) == {"kept": SessionRow("kept", 2, b"body", START + 399 * DAY)}
        assert await store.record(SessionBatch("b5", (row("s1"),)))
        assert await store.counters("") == {"a": 3}


@pytest.mark.asyncio
class RestartContract(ContractBase):
    async def test_clock_is_the_store_s(self, store: Store, clock: ManualClock) -> None:
        """The store tells its own time, and it moves on."""
        before = await store.clock()
        clock.advance(7)
        assert await store.clock() == before + 7

    async def test_start_and_stop_may_be_repeated(self, store: Store) -> None:
        """Starting twice and stopping twice is harmless."""
        await store.start()
        await put(store, sample())
        await store.stop()
        await store.stop()

    async def test_level_and_epoch_are_told(self, store: Store) -> None:
        """A store says what its acknowledgement stands for, and which life of the data it is."""
        assert store.level in set(Level)
        assert len(store.epoch) >= 16

    async def test_everything_survives_a_restart(self, store: Store, store_factory: StoreFactory, clock: ManualClock) -> None:
        """What was acknowledged is there after a restart, under the same epoch."""
        if not self.durable:
            pytest.skip("a memory store has nothing to survive with")
        opened = await open_leased(store, sample(claims=("basket",)))
        noted = await store.note(opened.id, charged_note(), namespace=SHOP)
        await store.swap("breaker", revision=0, value=b"one")
        await store.record(SessionBatch("b1", (row("s1"),), {"a": 1}))
        tally, epoch = await store.tally(SHOP), store.epoch
        await store.stop()
        again = store_factory(clock)
        await again.start()
        assert again.epoch == epoch
        assert await again.get(opened.id) == noted
        assert await again.tally(SHOP) == tally
        assert (await again.load("breaker"), await again.counters("")) == (Versioned(1, b"one"), {"a": 1})
        assert await again.sessions(["s1"]) == {"s1": row("s1", 1)}
        saved = await again.save(replace(noted, state=State.FINISHED), token=token_of(opened), keep_lease=False)
        assert saved.lease is None
        await again.stop()

    async def test_tokens_are_not_reused_after_a_restart(self, store: Store, store_factory: StoreFactory, clock: ManualClock) -> None:
        """A token of before the restart never equals one of after it, even for the same id."""
        if not self.durable:
            pytest.skip("a memory store has nothing to survive with")
        first = await open_leased(store, sample())
        await store.save(first, token=token_of(first), keep_lease=False, gone=True)
        await store.stop()
        again = store_factory(clock)
        await again.start()
        second = await open_leased(again, sample())
        assert token_of(second) > token_of(first)
        assert second.revision > first.revision
        await again.stop()

    async def test_two_stores_on_one_storage_share_everything(self, store: Store, store_factory: StoreFactory, clock: ManualClock) -> None:
        """Two processes on one storage see each other's records and never take the same one."""
        if not self.durable:
            pytest.skip("a memory store belongs to one process")
        other = store_factory(clock)
        await other.start()
        for n in range(20):
            await put((store, other)[n % 2], queued(f"n{n}"))
        answers = await race(lambda n: take((store, other)[n % 2], limit=3), callers=20)
        taken = [each for answer in answers for each in answer]
        assert sorted(each.id for each in taken) == sorted(sample(f"n{n}").id for n in range(20))
        assert len({token_of(each) for each in taken}) == 20
        await other.stop()
