"""Who may act at the desk, on what they saw, and which orders they find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from deskworld import ANNA, BORIS, DeskWorld

from cxguard.core.desk import Action, Said
from cxguard.engine.casefile import Actor, Became, Word
from cxguard.errors import NoSuchOrder

pytestmark = pytest.mark.asyncio

ACTIONS: dict[Action, Callable[[DeskWorld, str, Actor], Awaitable[Became]]] = {
    Action.TAKE: lambda world, name, actor: world.desk.take_over(name, actor),
    Action.REQUEUE: lambda world, name, actor: world.desk.requeue(name, actor),
    Action.RESOLVE: lambda world, name, actor: world.desk.resolve(name, actor, Word(Said.CHARGED)),
    Action.CANCEL: lambda world, name, actor: world.desk.cancel(name, actor),
    Action.REMARK: lambda world, name, actor: world.desk.remark(name, actor),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_reason_is_asked_for(world: DeskWorld, action: Action) -> None:
    """Without a reason nothing is done."""
    order = await world.unknown()
    became = await ACTIONS[action](world, order.reference, Actor("anna", "  "))
    assert (became.done, "Say why" in became.words) == (False, True)
    assert (await world.get(order.id)).revision == order.revision


@pytest.mark.parametrize("action", ACTIONS)
async def test_nobody_does_nothing(world: DeskWorld, action: Action) -> None:
    """An action without a name is refused."""
    order = await world.unknown()
    became = await ACTIONS[action](world, order.reference, Actor(" ", "why"))
    assert (became.done, became.words) == (False, "Nobody is named: sign in first.")
    assert (await world.get(order.id)).revision == order.revision


@pytest.mark.parametrize("action", [action for action in ACTIONS if action is not Action.REMARK])
async def test_order_that_moved_on_is_looked_at_again(world: DeskWorld, action: Action) -> None:
    """A decision made on what is no longer so is not carried out."""
    order = await world.unknown()
    await world.desk.remark(order.reference, BORIS)
    became = await ACTIONS[action](world, order.reference, replace(ANNA, seen=order.revision))
    assert (became.done, "has changed" in became.words) == (False, True)


@pytest.mark.parametrize("action", ACTIONS)
async def test_unknown_reference(world: DeskWorld, action: Action) -> None:
    """A reference that no order has raises, and says how to find the order."""
    with pytest.raises(NoSuchOrder, match="search for"):
        await ACTIONS[action](world, "0000-0000-0000", ANNA)


async def test_order_of_another_shop_is_not_found(world: DeskWorld) -> None:
    """A desk sees the orders of its own namespace only, by reference and by id."""
    order = await world.put("k", namespace="another shop")
    assert await world.desk.find(order.reference) is None
    assert await world.desk.find(order.id) is None


@pytest.mark.parametrize("typed", ["{}", " {} ", "lower", "spaces"])
async def test_reference_is_found_as_it_is_said(world: DeskWorld, typed: str) -> None:
    """Case, blanks and dashes do not matter."""
    order = await world.put("k")
    spoken = {"lower": order.reference.lower(), "spaces": order.reference.replace("-", " ")}.get(typed, typed.format(order.reference))
    found = await world.desk.find(spoken)
    assert found is not None
    assert found.id == order.id


async def test_events_name_the_person_and_never_the_reason(world: DeskWorld) -> None:
    """Listeners hear who did it; what was typed stays in the record."""
    order = await world.put("k")
    await world.desk.take_over(order.reference, ANNA)
    await world.desk.requeue(order.reference, ANNA)
    assert world.names_heard() == ["order.taken", "order.requeued"]
    assert all(event.detail["by"] == "anna" and ANNA.why not in str(event.detail) for event in world.heard)
    assert not world.guard.bus.undeclared
