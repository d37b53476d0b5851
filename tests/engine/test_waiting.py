"""Waiting for somebody else's operation: who looks, how often, and who wakes whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from deskworld import DeskWorld, desk_world

from cxguard.core.hints import awaited_topic, news_topic
from cxguard.core.operation import Operation, State, changed
from cxguard.engine import waiting as waiting_module
from cxguard.engine.hints import Hints
from cxguard.engine.leases import Leases
from cxguard.engine.waiting import HINTED_LOOK_SECONDS, LATELY_SECONDS, LOOK_SECONDS, LOOKS_PER_SECOND_MAX, Change, Waiting
from cxguard.testing.faulty_store import FaultyStore

pytestmark = pytest.mark.asyncio


class Place:
    """One process that waits: its store counts, its hints are those of the world's store."""

    def __init__(self, world: DeskWorld, name: str) -> None:
        self.clock = world.clock
        self.store = FaultyStore(world.guard.store)
        self.leases = Leases(self.store, world.clock, beat_seconds=60.0, on_lost=lambda id: None)
        self.hints = Hints(world.guard.store, world.clock, process=name)
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.hints.listen(self.heard.put_nowait)
        self.waiting = Waiting(world.clock, self.leases, self.hints)

    def wait(self, seen: Operation, count: int = 1) -> list[asyncio.Task[Change | None]]:
        return [asyncio.create_task(self.waiting.for_change(self.store, seen, seconds=3_600)) for _ in range(count)]

    def works_on(self, seen: Operation) -> None:
        assert seen.lease is not None
        lease = self.leases.add(seen.id, seen.lease.token, lease_seconds=30, run_seconds_max=60, asked_at=self.clock.monotonic())
        lease.record = seen

    async def until_heard(self, topic: str) -> None:
        async with asyncio.timeout(5):
            while await self.heard.get() != topic:
                pass

    async def hears(self) -> None:
        """Until hints are known to come."""
        self.hints.start()
        await self.until_heard("")
        self.hints.tell("x:ready")
        await self.until_heard("x:ready")
        assert self.hints.come


@asynccontextmanager
async def world_of(*names: str) -> AsyncIterator[tuple[DeskWorld, list[Place]]]:
    async with desk_world() as world:
        places = [Place(world, name) for name in names]
        yield world, places
        for place in places:
            await place.hints.stop()


async def held_elsewhere(world: DeskWorld, key: str = "k") -> Operation:
    """A record that another process works on."""
    found = await world.put(key, State.QUEUED, waiting_for=None, due_at=world.clock.now())
    await world.guard.store.take(namespace="shop", rules=["pay"], holder="other:1", limit=1, lease_seconds=30)
    return await world.get(found.id)


async def end(world: DeskWorld, seen: Operation) -> None:
    assert seen.lease is not None
    await world.guard.store.save(replace(seen, lease=None, due_at=None), token=seen.lease.token, keep_lease=False)


async def settled(turns: int = 50) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def changes(tasks: list[asyncio.Task[Change | None]]) -> list[Change | None]:
    async with asyncio.timeout(5):
        return await asyncio.gather(*tasks)


async def test_one_read_tells_all_who_wait() -> None:
    """A thousand duplicates of an order that another process works on: one looks for all, and all are told the same."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        tasks = here.wait(seen, 1_000)
        await settled()
        assert here.store.calls["get"] == 1
        await end(world, seen)
        here.waiting.news(seen.id)
        told = await changes(tasks)
        assert here.store.calls["get"] == 2
        assert {id(change) for change in told} and all(change == told[0] and change is not None for change in told)


async def test_what_this_process_works_on_it_need_not_look_at() -> None:
    """Not once while it lasts; and once when it is over, because what is told comes from the store."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        here.works_on(seen)
        tasks = here.wait(seen, 10)
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert here.store.calls["get"] == 0
        await end(world, seen)
        lease = here.leases.on(seen.id)
        assert lease is not None
        here.leases.drop(lease)
        here.waiting.ended(seen.id)
        assert [change.operation.lease for change in await changes(tasks) if change and change.operation] == [None] * 10
        assert here.store.calls["get"] == 1


async def test_a_lease_that_was_lost_here_is_looked_at_again() -> None:
    """This process could not renew it: another one may have it now, and the store knows."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        here.works_on(seen)
        tasks = here.wait(seen)
        await settled()
        lease = here.leases.on(seen.id)
        assert lease is not None
        lease.lost()
        await end(world, seen)
        assert len(await changes(tasks)) == 1


async def test_who_has_seen_another_lease_is_told_by_another_look() -> None:
    """What has ended for the one is what the other waits for."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        assert seen.lease is not None
        (told,) = here.wait(replace(seen, lease=replace(seen.lease, token=seen.lease.token - 1)))
        (waits,) = here.wait(seen)
        assert (await changes([told]), waits.done()) == ([Change(seen)], False)
        await settled()
        assert not waits.done()
        await end(world, seen)
        here.waiting.news(seen.id)
        await changes([waits])


async def test_whoever_comes_while_it_is_read_is_not_told_what_was_read() -> None:
    """The read was sent before they came: it is read once more."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        await end(world, seen)
        late: list[asyncio.Task[Change | None]] = []
        get = here.store.get

        async def slow(id: str) -> Operation | None:
            there = await get(id)
            if not late:
                late.extend(here.wait(seen))
                await settled()
            return there

        here.store.get = slow  # type: ignore[method-assign]
        tasks = here.wait(seen)
        await changes(tasks)
        await changes(late)
        assert here.store.calls["get"] == 2


async def test_looks_are_far_apart_while_hints_come_or_many_are_waited_for() -> None:
    """Four a second without hints, one with them; all together no more than the limit says."""
    async with world_of("here") as (world, [here]):
        assert here.waiting.look_seconds == LOOK_SECONDS
        await here.hears()
        assert here.waiting.look_seconds == HINTED_LOOK_SECONDS
        seen = await held_elsewhere(world)
        tasks = [task for number in range(2 * LOOKS_PER_SECOND_MAX) for task in here.wait(replace(seen, id=f"{number}"))]
        await asyncio.sleep(0)
        assert here.waiting.look_seconds == 2.0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert here.waiting.look_seconds == HINTED_LOOK_SECONDS


async def test_a_hint_wakes_who_waits_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by themselves here: the one who works on it hears that it is awaited, and tells its end."""
    monkeypatch.setattr(waiting_module, "HINTED_LOOK_SECONDS", 3_600.0)
    async with world_of("here", "there") as (world, [here, there]):
        seen = await held_elsewhere(world)
        there.works_on(seen)
        await here.hears()
        await there.hears()
        tasks = here.wait(replace(seen, lease=replace(seen.lease, until=seen.lease.until + 3_600)) if seen.lease else seen)
        await there.until_heard(awaited_topic(seen.id))
        await end(world, seen)
        there.waiting.ended(seen.id)
        assert await changes(tasks) == [Change(await world.get(seen.id))]
        assert here.store.calls["get"] == 1


async def test_nobody_is_told_of_an_end_that_nobody_awaits() -> None:
    """An order without duplicates elsewhere costs no hint."""
    async with world_of("here", "there") as (world, [here, there]):
        await here.hears()
        there.works_on(await held_elsewhere(world))
        there.waiting.ended("k")
        there.hints.tell("x:over")
        await here.until_heard("x:over")
        assert here.heard.empty()


async def test_who_begins_to_wait_too_late_is_told_at_once() -> None:
    """Its word came just after the end: that was remembered for a moment, and no longer."""
    async with world_of("here", "there") as (world, [here, there]):
        await here.hears()
        await there.hears()
        there.waiting.ended("k1")
        here.hints.tell(awaited_topic("k1"))
        await here.until_heard(news_topic("k1"))
        world.clock.advance(LATELY_SECONDS + 1.0)
        here.hints.tell(awaited_topic("k1"))
        here.hints.tell("x:over")
        await here.until_heard("x:over")
        assert here.heard.empty()


async def test_an_answer_that_has_gone_out_wakes_who_waits() -> None:
    """Work goes on in the background; the shopper's second click need not wait for that."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        here.works_on(seen)
        tasks = here.wait(seen)
        await settled()
        assert seen.lease is not None
        await world.guard.store.save(changed(seen, answer=b"sealed"), token=seen.lease.token, keep_lease=True)
        here.waiting.news(seen.id)
        (change,) = await changes(tasks)
        assert change is not None and change.operation is not None and change.operation.answer == b"sealed"


async def test_a_lease_that_lapses_is_noticed_by_who_waits() -> None:
    """Its holder was killed: nobody tells of it, and the one who waits takes over as soon as that may be."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        world.clock.advance(31.0)
        assert len(await changes(here.wait(seen))) == 1


async def test_who_goes_away_takes_the_last_look_with_them() -> None:
    """Their clients left: nothing is read for nobody, and nothing is kept of it."""
    async with world_of("here") as (world, [here]):
        seen = await held_elsewhere(world)
        tasks = here.wait(seen, 3)
        await settled()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        read = here.store.calls["get"]
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert here.store.calls["get"] == read
