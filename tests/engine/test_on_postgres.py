"""The guard on a real PostgreSQL server: the same record, lease and queue, from several guards at once."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from postgres_server import PostgresServer
from shopworld import SHOP

from cxguard.core.breaker import BreakerPolicy
from cxguard.engine.library import Purpose
from cxguard.errors import OperationInFlight, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.postgres import PostgresStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

SECRET, KEY = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def server(shared_postgres: PostgresServer) -> PostgresServer:
    return shared_postgres


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
    return {"payment": payment.payment_id}


def guard_on(server: PostgresServer, schema: str, gateway: FakeGateway, clock: ManualClock) -> Guard:
    return Guard(
        PostgresStore(server.url, schema=schema, clock=clock),
        shop=SHOP,
        gateways=[gateway],
        purposes=[Purpose("order", later=place, wait_seconds=5.0)],
        secret=SECRET,
        keys=[KEY],
        breakers=BreakerPolicy(consecutive_failures=100),
        clock=clock,
    )


async def test_two_guards_charge_one_order_once(server: PostgresServer) -> None:
    """Twenty calls on two guards (as on two machines) for one order: one charge, one result."""
    gateway, clock, schema = FakeGateway(), ManualClock(), f"g{secrets.token_hex(4)}"
    guards = [guard_on(server, schema, gateway, clock) for _ in range(2)]
    async with guards[0], guards[1]:

        async def run(n: int) -> Any:
            try:
                return await guards[n % 2].run(place, purpose="order", key="o1", owner="ann")
            except OperationInFlight:
                return None

        results = await asyncio.gather(*(run(n) for n in range(20)))
        again = await guards[1].run(place, purpose="order", key="o1", owner="ann")
    assert len(gateway.standing) == 1
    assert {str(result) for result in results if result is not None} == {str(again)}


async def test_order_that_waits_is_placed_by_another_machine(server: PostgresServer) -> None:
    """An order kept while the gateway was away is placed by whichever guard looks next."""
    gateway, clock, schema = FakeGateway(otherwise=Does.NOT_CHARGED), ManualClock(), f"g{secrets.token_hex(4)}"
    first, second = (guard_on(server, schema, gateway, clock) for _ in range(2))
    async with first, second:
        with pytest.raises(PaymentDeferred):
            await first.run(place, purpose="order", key="o1", owner="ann", deadline_seconds=0.5)
        gateway.otherwise = Does.CHARGE
        clock.advance(3600.0)
        await second.queue().run_once()
        assert await first.run(place, purpose="order", key="o1", owner="ann") == {"payment": "pay_1"}
    assert len(gateway.standing) == 1
