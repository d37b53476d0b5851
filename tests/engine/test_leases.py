"""The leases of one process: how long each counts, and what ends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import pytest

from cxguard.engine.leases import MARGIN, HeldLease, Leases
from cxguard.stores.base import Level, Seen
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.contract.base import LEASE_SECONDS, open_leased, sample, token_of

pytestmark = pytest.mark.asyncio


class Process:
    """One process with its leases, on a store in memory."""

    def __init__(self, store: type[MemoryStore] = MemoryStore) -> None:
        self.clock = ManualClock()
        self.store = store(clock=self.clock)
        self.lost: list[str] = []
        self.leases = Leases(self.store, self.clock, beat_seconds=5.0, on_lost=self.lost.append)

    async def holds(self, name: str, *, run_seconds_max: float = 600.0) -> HeldLease:
        won = await open_leased(self.store, sample(name))
        at = self.clock.monotonic()
        return self.leases.add(won.id, token_of(won), lease_seconds=LEASE_SECONDS, run_seconds_max=run_seconds_max, asked_at=at)

    async def takes(self, name: str) -> None:
        """Another process, once the lease has lapsed in the store."""
        there = await self.store.get(sample(name).id)
        assert there is not None
        won = await self.store.seize(
            Seen(there.id, there.revision), holder="another", attempt="one", lease_seconds=LEASE_SECONDS, claims=(), superseding=()
        )
        assert won.won


async def started() -> Process:
    process = Process()
    await process.store.start()
    return process


async def test_lease_counts_from_when_it_was_asked_for_and_ends_a_margin_early() -> None:
    """At that very moment it is over: the store may be a little ahead of us."""
    process = await started()
    lease = await process.holds("a")
    process.clock.advance(LEASE_SECONDS * (1 - MARGIN) - 0.001)
    assert lease.alive()
    process.clock.advance(0.001)
    assert not lease.alive()


async def test_renewed_lease_counts_from_when_the_renewal_was_sent() -> None:
    """As long again, and no longer."""
    process = await started()
    lease = await process.holds("a")
    process.clock.advance(LEASE_SECONDS / 2)
    assert await process.leases.renew_once() == 1
    assert lease.safe_until == process.clock.monotonic() + LEASE_SECONDS * (1 - MARGIN)
    assert process.lost == []


async def test_lease_that_another_has_is_lost_at_once_and_told_once() -> None:
    """Nothing is done under it any more, and it is renewed no more; the other ones go on."""
    process = await started()
    lease, other = await process.holds("a"), await process.holds("b")
    process.clock.advance(LEASE_SECONDS + 1)
    await process.takes("a")
    lease.renewed(process.clock.monotonic())  # as if we had not seen how late it is
    other.renewed(process.clock.monotonic())
    await process.leases.renew_once()
    await process.leases.renew_once()
    assert (lease.alive(), process.lost) == (False, [lease.id])
    assert (process.leases.on(lease.id), process.leases.held()) == (None, (other,))
    assert other.alive()


async def test_lease_that_was_ended_while_its_renewal_was_on_its_way_is_not_told_as_lost() -> None:
    """The store refuses to renew what we have given back: that is no news."""

    class Slow(MemoryStore):
        async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
            process.leases.drop(lease)
            return frozenset(tokens)

    process = Process()
    process.store = Slow(clock=process.clock)
    process.leases = Leases(process.store, process.clock, beat_seconds=5.0, on_lost=process.lost.append)
    await process.store.start()
    lease = await process.holds("a")
    assert await process.leases.renew_once() == 0
    process.leases.drop(lease)
    assert (process.lost, lease.alive()) == ([], True)


async def test_run_that_takes_too_long_is_renewed_no_more() -> None:
    """Whoever hangs for ever does not keep an order for ever."""
    process = await started()
    lease = await process.holds("a", run_seconds_max=3.0)
    process.clock.advance(3.0)
    until = lease.safe_until
    assert (await process.leases.renew_once(), lease.safe_until) == (0, until)


async def test_heartbeat_of_a_store_beside_the_loop_is_a_thread_that_keeps_no_process_alive() -> None:
    """It renews while the loop is blocked, and ends with the process, also where nobody has stopped it."""
    renewed = threading.Event()

    class Beside(MemoryStore):
        level = Level.FSYNC

        async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
            renewed.set()
            return frozenset()

    process = Process(Beside)
    await process.store.start()
    leases = Leases(process.store, process.clock, beat_seconds=0.01, on_lost=process.lost.append)
    leases.add("a", 1, lease_seconds=LEASE_SECONDS, run_seconds_max=600.0, asked_at=process.clock.monotonic())
    leases.start()
    try:
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "cxguard-heartbeat"]
        assert thread.daemon
        assert await asyncio.to_thread(renewed.wait, 5.0)
    finally:
        leases.stop()
    assert not thread.is_alive()
