"""`op.finish(connection=...)` over an order that has no such end: nothing of the shop's own is committed for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from finishworld import WHO, FinishWorld, charged, finish_world
from postgres_server import PostgresServer

from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.errors import FinishRefused, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def world(shared_postgres: PostgresServer) -> AsyncIterator[FinishWorld]:
    async with finish_world(shared_postgres) as made:
        yield made


async def test_order_that_is_to_be_cancelled_does_not_finish(world: FinishWorld) -> None:
    """The shopper wanted out while it was charged: refused, the shop rolls back, and the money goes back."""

    async def unwanted(op: Any) -> None:
        await charged(op)
        wish = Note("cancel:1", NoteKind.CANCEL, at=world.clock.now(), source="status page", generation=1)
        await world.other.engine.operations.note(op.id, wish)
        await op.step("pack", dict)  # the first to hear of it
        async with await world.connect() as connection, connection.transaction():
            await world.write(connection)
            await op.finish({}, connection=connection)

    with pytest.raises(FinishRefused, match="cancel_asked"):
        await world.guard.run(unwanted, **WHO)
    await world.rest()
    assert await world.orders() == []
    assert (await world.record()).money is MoneyState.REFUNDED


async def test_unknown_charge_does_not_finish(world: FinishWorld) -> None:
    """A charge without an answer, and a function that goes on as if it had one: refused, and the shop's order is not there."""
    world.gateway.will(Does.UNKNOWN)

    async def hopeful(op: Any) -> None:
        with pytest.raises(PaymentDeferred):
            await charged(op)
        async with await world.connect() as connection, connection.transaction():
            await world.write(connection)
            await op.finish({}, connection=connection)

    with pytest.raises(FinishRefused, match="charge_unknown"):
        await world.guard.run(hopeful, **WHO)
    assert await world.orders() == []
    assert (await world.record()).money is MoneyState.UNKNOWN


async def test_charge_that_is_not_awaited_does_not_finish(world: FinishWorld) -> None:
    """Nothing was sent, and the shop's order would stand for nothing: refused before it is committed."""
    asked: list[Any] = []

    async def forgets(op: Any) -> None:
        asked.append(op.charge(Charge(1000, "EUR", source="tok_ok")))
        async with await world.connect() as connection, connection.transaction():
            await world.write(connection)
            await op.finish({}, connection=connection)

    with pytest.raises(FinishRefused, match="charge_not_awaited"):
        await world.guard.run(forgets, **WHO)
    asked.pop().close()
    assert await world.orders() == []
    assert world.gateway.payments == []


async def not_kept(op: Any) -> None:
    await charged(op)
    op.keep(object())


@pytest.mark.parametrize(
    ("before", "script", "why"),
    [
        (charged, [Does.NOT_CHARGED] * 3, "not sent: scripted"),
        (charged, [Does.NEEDS_SHOPPER], "needs_shopper"),
        (not_kept, [], "result_not_kept"),
    ],
)
async def test_function_that_swallows_what_it_was_told_does_not_finish(
    world: FinishWorld, before: Any, script: list[Does], why: str
) -> None:
    """Nothing is charged, or its shopper has a step to do, or a person has to look: no order of the shop's is written over that."""
    world.gateway.will(*script)

    async def careless(op: Any) -> None:
        with pytest.raises((PaymentDeferred, TypeError)):
            await before(op)
        async with await world.connect() as connection, connection.transaction():
            await world.write(connection)
            await op.finish({}, connection=connection)

    with pytest.raises(FinishRefused, match=why):
        await world.guard.run(careless, **WHO)
    assert await world.orders() == []
