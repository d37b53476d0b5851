"""What shoppers are told, and what becomes of their orders, when a gateway asks for silence, or has enough calls to answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from shopworld import World, Worlds, charging_handler, rule

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.operation import Operation
from cxguard.core.outcomes import NotCharged, Outcome
from cxguard.engine.engine import Timeouts
from cxguard.gateways.base import Charge
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def place(op: Any) -> dict[str, str]:
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return {"paid": payment.payment_id}


class Throttling(FakeGateway):
    """Says 429 with `Retry-After: 7` to the first charge."""

    said = False

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        if self.said:
            return await super().charge(charge, key=key, timeout_seconds=timeout_seconds)
        self.said = True
        return NotCharged("throttled", retryable=True, retry_after_seconds=7.0, reroutable=True)


async def test_a_gateway_that_asks_for_silence_gets_it(world: Worlds) -> None:
    """For seven seconds no charge leaves; shoppers hear "not charged" and when to come back; then they pay."""
    shop = await world(charging_handler, gateway=Throttling())
    answers = [await shop.pay(key=f"k{number}", cart=f"c{number}") for number in range(3)]
    assert [(answer.status_code, answer.json()["money"]) for answer in answers] == [(503, "not_charged")] * 3
    assert shop.gateway.count("charge") == 0
    shop.clock.advance(6.9)
    assert (await shop.pay(key="k1", cart="c1")).status_code == 503
    shop.clock.advance(0.2)
    assert (await shop.pay(key="k1", cart="c1")).status_code == 201


async def test_an_outage_of_charging_keeps_no_refund_waiting(world: Worlds) -> None:
    """Each kind of call has its own breaker."""
    shop = await world(charging_handler)
    await shop.pay()
    shop.gateway.will(*[Does.UNKNOWN] * 5)
    for number in range(5):
        await shop.pay(key=f"u{number}", cart=f"u{number}")
    assert (await shop.pay(key="late", cart="late")).status_code == 503
    paid = next(one for one in await orders(shop) if one.money == "charged")
    async with shop.guard.resume(reference=paid.reference) as op:
        await op.refund()
    assert shop.gateway.standing == []


async def test_what_finds_no_place_is_kept_and_placed_and_was_no_attempt(world: Worlds) -> None:
    """Two charges hang; the third shopper is told "saved, not charged" at once, and is charged once when there is a place."""
    limits = Timeouts(calls_max=2, place_seconds=0.0, attempt_seconds=60.0)
    shop = await world(charging_handler, rule(later=place, terms="1"), timeouts=limits, gateway=FakeGateway(Does.HANG, Does.HANG))
    hanging = [asyncio.create_task(shop.pay(key=f"k{number}", cart=f"c{number}")) for number in range(2)]
    await shop.gateway.until_hanging(2)
    kept = await shop.pay(key="k3", cart="c3", **ASYNC)
    assert (kept.status_code, kept.json()["situation"], kept.json()["money"]) == (202, "kept", "not_charged")
    for _ in range(5):
        shop.clock.advance(3.0)
        await shop.rest(rounds=1)
    waiting = next(one for one in await orders(shop) if one.state == "queued")
    assert (waiting.why, waiting.attempts, waiting.sends) == ("gateway_busy", 0, ())
    await shop.gateway.release()
    assert [answer.status_code for answer in await asyncio.gather(*hanging)] == [201, 201]
    shop.clock.advance(3.0)
    await shop.rest()
    assert len(shop.gateway.standing) == 3


async def test_declines_and_shoppers_who_leave_open_nothing(world: Worlds) -> None:
    """Fifty declines and ten cancelled checkouts; the next shopper pays."""
    shop = await world(charging_handler, breakers=BreakerPolicy(calls_min=5), gateway=FakeGateway(*[Does.DECLINE] * 50))
    for number in range(50):
        assert (await shop.pay(key=f"d{number}", cart=f"d{number}")).status_code == 402
    for _ in range(10):
        ticket = shop.guard.engine.breakers.admit(shop.gateway.name, "charge")
        ticket.abandon()  # type: ignore[union-attr]
    assert (await shop.pay()).status_code == 201


async def orders(shop: World) -> tuple[Operation, ...]:
    return (await shop.store.search(Query(namespace="shop"))).operations
