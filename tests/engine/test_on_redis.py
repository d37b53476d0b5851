"""The guard on real Redis servers: the same record, lease and queue, from several guards at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from redis_servers import have_redis, running_cluster, running_redis
from shopworld import SHOP

from cxguard.core.breaker import BreakerPolicy
from cxguard.engine.library import Purpose
from cxguard.errors import OperationInFlight, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.redis import RedisStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

SECRET, KEY = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture(scope="module", params=["server", "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if not have_redis():
        pytest.skip("no Redis here")
    running = running_redis() if request.param == "server" else running_cluster(replicas=0)
    with running as there:
        yield there.url


@pytest.fixture
def prefix() -> str:
    return f"g{secrets.token_hex(4)}"


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
    return {"payment": payment.payment_id}


def guard_on(url: str, prefix: str, gateway: FakeGateway, clock: ManualClock) -> Guard:
    return Guard(
        RedisStore(url, prefix=prefix, clock=clock, answer_seconds=5.0),
        shop=SHOP,
        gateways=[gateway],
        purposes=[Purpose("order", later=place, wait_seconds=5.0)],
        secret=SECRET,
        keys=[KEY],
        breakers=BreakerPolicy(consecutive_failures=100),
        clock=clock,
    )


async def test_two_guards_charge_one_order_once(url: str, prefix: str) -> None:
    """Twenty calls on two guards (as on two machines) for one order: one charge, one result."""
    gateway, clock = FakeGateway(), ManualClock()
    guards = [guard_on(url, prefix, gateway, clock) for _ in range(2)]
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


async def test_orders_that_wait_are_placed_by_another_machine(url: str, prefix: str) -> None:
    """Orders of many owners, kept while the gateway was away, are placed by whichever guard looks next."""
    gateway, clock = FakeGateway(otherwise=Does.NOT_CHARGED), ManualClock()
    first, second = (guard_on(url, prefix, gateway, clock) for _ in range(2))
    owners = [f"owner-{n}" for n in range(5)]
    async with first, second:
        for owner in owners:
            with pytest.raises(PaymentDeferred):
                await first.run(place, purpose="order", key="o1", owner=owner, deadline_seconds=0.5)
        gateway.otherwise = Does.CHARGE
        for _ in range(5):  # the breaker lets one through first
            clock.advance(600.0)
            await second.queue().run_once()
        for owner in owners:
            assert "payment" in await first.run(place, purpose="order", key="o1", owner=owner)
    assert len(gateway.standing) == len(owners)


async def test_proof_reaches_its_order_by_the_gateways_key(url: str, prefix: str) -> None:
    """An order is found by the key that the gateway was sent, wherever its owner's records are."""
    gateway, clock = FakeGateway(), ManualClock()
    guard = guard_on(url, prefix, gateway, clock)
    async with guard:
        await guard.run(place, purpose="order", key="o1", owner="ann")
        (order,) = (await guard.store.search(Query(guard.namespace))).operations
        found = await guard.store.search(Query(guard.namespace, gateway_key=order.sends[0].key))
        by_reference = await guard.store.search(Query(guard.namespace, reference=order.reference))
    assert found.operations == by_reference.operations == (order,)
