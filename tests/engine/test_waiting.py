"""Waiting for somebody else's operation: how often is looked, and who wakes whom."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from deskworld import DeskWorld, desk_world

from cxguard.core.operation import Operation, State
from cxguard.engine.waiting import LOOK_SECONDS, LOOKS_PER_SECOND_MAX, Waiting

pytestmark = pytest.mark.asyncio


async def held_elsewhere(world: DeskWorld) -> Operation:
    """A record that another process works on."""
    found = await world.put("k", State.QUEUED, waiting_for=None, due_at=world.clock.now())
    await world.guard.store.take(namespace="shop", rules=["pay"], holder="other:1", limit=1, lease_seconds=30)
    return await world.get(found.id)


async def waiters(waiting: Waiting, world: DeskWorld, seen: Operation, count: int) -> list[asyncio.Task[bool]]:
    """So many, each of whom has looked once and now waits."""
    tasks = [asyncio.create_task(waiting.for_change(world.guard.store, seen, seconds=3_600)) for _ in range(count)]
    for _ in range(50):
        await asyncio.sleep(0)
    return tasks


async def test_many_who_wait_look_less_often() -> None:
    """All together read no more often than the limit says; a few look four times a second."""
    async with desk_world() as world:
        waiting, seen = Waiting(world.clock), await held_elsewhere(world)
        assert waiting.look_seconds == LOOK_SECONDS
        tasks = await waiters(waiting, world, seen, 2 * LOOKS_PER_SECOND_MAX)
        assert waiting.look_seconds == 2.0
        waiting.ended(seen.id)
        assert all(await asyncio.gather(*tasks))
        assert waiting.look_seconds == LOOK_SECONDS


async def test_whoever_sees_the_change_wakes_all_others() -> None:
    """The record was ended by another process, which wakes nobody here; one look is enough for everybody."""
    async with desk_world() as world:
        waiting, seen = Waiting(world.clock), await held_elsewhere(world)
        tasks = await waiters(waiting, world, seen, 5 * LOOKS_PER_SECOND_MAX)
        assert seen.lease is not None
        await world.guard.store.save(replace(seen, lease=None), token=seen.lease.token, keep_lease=False)
        assert await waiting.for_change(world.guard.store, seen, seconds=3_600)
        async with asyncio.timeout(2):
            assert all(await asyncio.gather(*tasks))


async def test_a_lease_that_lapses_is_noticed_by_who_waits() -> None:
    """Its holder was killed: nobody tells of it, and the one who waits takes over as soon as that may be."""
    async with desk_world() as world:
        waiting, seen = Waiting(world.clock), await held_elsewhere(world)
        world.clock.advance(31.0)
        async with asyncio.timeout(5):
            assert await waiting.for_change(world.guard.store, seen, seconds=3_600)
