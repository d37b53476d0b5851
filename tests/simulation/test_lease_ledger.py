"""The simulator's second opinion on leases and turns, where the store has lost its last writes."""

from __future__ import annotations

import pytest

from cxguard.core.operation import State, changed
from cxguard.testing.contract.base import LEASE_SECONDS, charged_note, open_leased, sample, seize, token_of
from cxguard.testing.simulation.lease_ledger import LeaseLedger
from cxguard.testing.simulation.store_life import lose_tail
from cxguard.testing.simulation.world import Plan, World

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(("by_another", "broken"), [(False, 0), (True, 1)])
async def test_turn_is_judged_by_what_its_holder_holds(by_another: bool, broken: int) -> None:
    """What was begun anew may be finished by who began it, though the store has lost that; another has not begun it."""
    world = World(0, Plan())
    ledger = LeaseLedger(world)
    opened = await open_leased(ledger, sample())
    ended = await ledger.save(changed(opened, state=State.CANCELLED), token=token_of(opened), keep_lease=False)
    began = (await seize(ledger, ended)).operation
    copy = world.memory.copied()
    await ledger.save(changed(began, state=State.RUNNING), token=token_of(began), keep_lease=True)
    lose_tail(world, copy)
    if by_another:
        world.store_clock.ahead_seconds += LEASE_SECONDS
        world.happens("store clock set")
        began = (await seize(ledger, began, attempt="another")).operation
    await ledger.save(changed(began, state=State.FINISHED), token=token_of(began), keep_lease=False)
    assert len(world.broken) == broken, world.broken


async def test_what_has_no_rule_is_no_workers_turn() -> None:
    """Facts about an order that the store has lost wait for a person, also while somebody who has died had them in hand."""
    world = World(0, Plan())
    noted = await world.memory.note(sample().id, charged_note(), namespace="shop")
    assert (await seize(world.memory, noted)).won
    assert await world.due_in_seconds() == float("inf")
