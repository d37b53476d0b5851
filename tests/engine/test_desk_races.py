"""Agents, workers and shoppers at once, and a store that fails: one of them wins, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from deskworld import ANNA, BORIS, DeskWorld, desk_world

from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State
from cxguard.engine.casefile import Actor
from cxguard.engine.desk import HANDS_SECONDS
from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Opened, Page, Query, Seen
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import Fault, FaultyStore

pytestmark = pytest.mark.asyncio
S = State
T = TypeVar("T")


async def _agent_cancels(world: DeskWorld, reference: str) -> str:
    return "agent" if (await world.desk.cancel(reference, ANNA)).done else ""


async def _worker(world: DeskWorld, reference: str) -> str:
    return "worker" if (await world.guard.queue().run_once()).taken else ""


async def _shopper(world: DeskWorld, reference: str) -> str:
    order = await world.desk.find(reference)
    assert order is not None
    noted = await world.guard.store.note(order.id, world.shopper_cancels(order), namespace="shop")
    await world.guard.queue().attend_now(noted)
    return "shopper"


class Shuffled(MemoryStore):
    """A store whose every answer takes a few turns of the loop, by the dice: each run is another interleaving."""

    def __init__(self, *, clock: ManualClock, seed: int) -> None:
        super().__init__(clock=clock)
        self._dice = random.Random(seed)

    async def search(self, query: Query) -> Page:
        return await self._later(super().search(query))

    async def get(self, id: str) -> Operation | None:
        return await self._later(super().get(id))

    async def save(self, operation: Operation, **options: Any) -> Operation:
        return await self._later(super().save(operation, **options))

    async def seize(self, seen: Seen, **options: Any) -> Opened:
        return await self._later(super().seize(seen, **options))

    async def take(self, **options: Any) -> tuple[Operation, ...]:
        return await self._later(super().take(**options))

    async def note(self, id: str, note: Note, **options: Any) -> Operation:
        return await self._later(super().note(id, note, **options))

    async def _later(self, call: Awaitable[T]) -> T:
        await self._turns()
        answer = await call
        await self._turns()
        return answer

    async def _turns(self) -> None:
        for _ in range(self._dice.randrange(4)):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(60))
async def test_agent_worker_and_shopper_at_once(seed: int) -> None:
    """In every interleaving: one charge that stands on a paid order, or none on a cancelled one. Never both, never neither."""
    clock = ManualClock()
    async with desk_world(store=Shuffled(clock=clock, seed=seed), clock=clock) as world:
        order = await world.put("k", S.QUEUED, due_at=clock.now())
        await asyncio.gather(*(act(world, order.reference) for act in (_agent_cancels, _worker, _shopper)))
        for _ in range(3):
            clock.advance(60)
            await world.guard.queue().run_once()
        after, money = await world.get(order.id), await world.money(order.id)
        assert (after.state, money) in {(S.CANCELLED, "none"), (S.CANCELLED, "refunded"), (S.FINISHED, "charged"), (S.FINISHED, "refunded")}
        assert len(world.gateway.payments) <= 1
        assert bool(world.gateway.standing) is (money == "charged")


@pytest.mark.parametrize("seed", range(20))
async def test_two_agents_at_once(seed: int) -> None:
    """One cancels, the other puts it back, both from the same page: exactly one is told that it was done."""
    clock = ManualClock()
    async with desk_world(store=Shuffled(clock=clock, seed=seed), clock=clock) as world:
        order = await world.put("k", S.HELD, why="later_failed")
        done = await asyncio.gather(
            world.desk.cancel(order.reference, replace(ANNA, seen=order.revision)),
            world.desk.requeue(order.reference, replace(BORIS, seen=order.revision)),
        )
        assert sum(became.done for became in done) == 1


@pytest.mark.parametrize("seed", range(5))
async def test_many_agents_take_at_once(seed: int) -> None:
    """Of many who take the same order at the same moment exactly one has it."""
    clock = ManualClock()
    async with desk_world(store=Shuffled(clock=clock, seed=seed), clock=clock) as world:
        order = await world.put("k")
        until = clock.now() + HANDS_SECONDS
        takers = [Actor(f"agent {number}", "mine") for number in range(20)]
        taken = await asyncio.gather(*(world.desk.take_over(order.reference, taker) for taker in takers))
        assert sum(became.done for became in taken) == 1
        late = [became for became in taken if "Somebody else has just begun" in became.words]
        assert late and {became.until for became in late} == {until}


class Overtaken(MemoryStore):
    """A webhook's fact arrives between the look at an order and the act."""

    async def seize(self, seen: Seen, **options: Any) -> Opened:
        await self.note(seen.id, Note("evt", NoteKind.REMARK, 0.0), namespace="shop")
        return await super().seize(seen, **options)


async def test_order_that_a_fact_overtakes_is_to_be_looked_at_again() -> None:
    """Nobody has it in hand: there is nothing to wait for, and something to read."""
    clock = ManualClock()
    async with desk_world(store=Overtaken(clock=clock), clock=clock) as world:
        became = await world.desk.take_over((await world.put("k")).reference, ANNA)
        assert (became.done, became.until, "Look at it again" in became.words) == (False, None, True)


async def test_hands_that_lapsed_do_not_write(world: DeskWorld) -> None:
    """A person whose time was over, and whose order a worker has now, is refused; the worker's charge stands once."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now())
    await world.desk.take_over(order.reference, ANNA)
    world.clock.advance(HANDS_SECONDS + 1)
    held = await world.guard.engine.operations.seize(await world.get(order.id), lease_seconds=30, run_seconds_max=30)
    assert held is not None
    became = await world.desk.give_back(order.reference, ANNA)
    assert not became.done
    assert (await world.get(order.id)).lease is not None


# --- a store that fails


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("verb", ["search", "seize", "save"])
async def test_store_that_does_not_answer_once(verb: str, fault: Fault) -> None:
    """Each call of the action fails once, or loses its answer: in the end it is done, once, and nothing is charged."""
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    async with desk_world(store=store, clock=clock) as world:
        order = await world.put("k", S.HELD, why="later_failed")
        store.plan(verb, fault)
        try:
            await world.desk.cancel(order.reference, ANNA)
        except StoreUnavailable:
            await world.desk.cancel(order.reference, ANNA)
        after = await world.get(order.id)
        assert (after.state, [entry.event for entry in after.history]) == (S.CANCELLED, ["order.cancelled"])
        assert not world.gateway.payments
