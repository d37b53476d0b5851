"""What a merchant keeps for later, and what it says to those whose order does not wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from shopworld import World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import Response

from cxguard.core.caps import Caps
from cxguard.core.decide import RELEASED
from cxguard.core.operation import State
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.rules import Arrival, Rule, json_field
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
    return {"paid": payment.payment_id}


def keeping(**changes: Any) -> Rule:
    return rule(**{"later": place, "terms": "2026-01", **changes})


async def outage(world: Worlds, *, heard: list[Event] | None = None, caps: Caps | None = None, **changes: Any) -> World:
    """A shop whose gateway takes no connection."""
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    listeners = [heard.append] if heard is not None else []
    return await world(charging_handler, keeping(**changes), gateway=gateway, listeners=listeners, **({"caps": caps} if caps else {}))


def reasons(heard: list[Event]) -> list[str]:
    return [event.detail["why"] for event in heard if event.name == "order.not_kept"]


async def test_an_order_over_the_cap_is_answered_503_and_nothing_waits(world: Worlds) -> None:
    """Not charged, basket kept, no order; the event says which cap."""
    heard: list[Event] = []
    shop = await outage(world, heard=heard, caps=Caps(order_minor=999))
    answer = await shop.pay(amount=1000, **ASYNC)
    assert (answer.status_code, answer.json()["situation"], answer.json()["money"]) == (503, "not_kept", "not_charged")
    (over,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (over.state, over.why, over.request) == (State.CANCELLED, RELEASED, None)
    (told,) = [dict(event.detail) for event in heard if event.name == "order.not_kept"]
    assert told == {"why": "cap_order", "amount_minor": 1000, "currency": "EUR"}


async def test_caps_are_about_what_is_not_paid(world: Worlds) -> None:
    """It is charged, and its handler failed after that: it waits to be placed, whatever its amount."""
    heard: list[Event] = []

    async def fails(request: Request) -> Response:
        await charging_handler(request)
        raise RuntimeError("after the charge")

    shop = await world(fails, keeping(), listeners=[heard.append], caps=Caps(order_minor=999))
    await shop.pay(amount=1000, **ASYNC)
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert ((order.state, order.kept), reasons(heard)) == ((State.QUEUED, True), [])


@pytest.mark.parametrize(
    ("caps", "why"),
    [
        (Caps(unpaid_minor=2_500), "cap_unpaid"),
        (Caps(orders_max=2), "cap_orders"),
        (Caps(owner_orders_max=2), "cap_owner"),
    ],
)
async def test_the_order_that_would_go_over_a_sum_or_a_count_does_not_wait(world: Worlds, caps: Caps, why: str) -> None:
    """Two are kept; the third is told the truth. When the two are charged, there is room again."""
    heard: list[Event] = []
    shop = await outage(world, heard=heard, caps=caps)
    answers = [await shop.pay(key=f"k{number}", cart=f"c{number}", **ASYNC) for number in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 503]
    assert reasons(heard) == [why]
    shop.gateway.otherwise = Does.CHARGE
    for _ in range(10):
        shop.clock.advance(60.0)
        await shop.rest()
    assert len(shop.gateway.standing) == 2
    shop.gateway.otherwise = Does.NOT_CHARGED
    assert (await shop.pay(key="k9", cart="c9", **ASYNC)).status_code == 202


async def test_the_cap_of_one_shopper_does_not_touch_another(world: Worlds) -> None:
    """Counted by owner."""
    shop = await outage(world, caps=Caps(owner_orders_max=1))
    first, second, other = [await shop.pay(key=key, owner=owner, **ASYNC) for key, owner in (("k1", "ann"), ("k2", "ann"), ("k3", "bob"))]
    assert (first.status_code, second.status_code, other.status_code) == (202, 503, 202)


async def test_a_cap_of_one_shopper_counts_more_than_one_page_of_orders(world: Worlds) -> None:
    """A buyer of a company, say."""
    shop = await outage(world, caps=Caps(owner_orders_max=60))
    assert (await shop.pay(**ASYNC)).status_code == 202
    (kept,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert isinstance(shop.store, MemoryStore)
    for number in range(1, 60):
        await shop.store.put(replace(kept, id=f"{number:064}", reference=f"R{number}"))
    assert (await shop.pay(key="k60", cart="c60", **ASYNC)).status_code == 503


async def test_a_rules_own_caps_come_before_the_guards(world: Worlds) -> None:
    """One rule may be more careful than the shop."""
    shop = await outage(world, caps=Caps(order_minor=5_000))
    assert (await shop.pay(amount=2_000, **ASYNC)).status_code == 202
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    careful = await world(charging_handler, keeping(caps=Caps(order_minor=1_000)), gateway=gateway, caps=Caps(order_minor=5_000))
    assert (await careful.pay(amount=2_000, **ASYNC)).status_code == 503


async def test_a_changed_basket_over_the_cap_leaves_what_was_kept_and_says_so(world: Worlds) -> None:
    """The first basket waits on; nobody is told that the second one does. A changed basket counts in the place of the old one."""
    caps = Caps(order_minor=1_500, unpaid_minor=1_500, orders_max=1, owner_orders_max=1)
    shop = await outage(world, key=json_field("cart"), caps=caps)
    assert (await shop.pay(amount=1_000, **ASYNC)).json()["situation"] == "kept"
    assert (await shop.pay(amount=2_000, **ASYNC)).json()["situation"] == "kept"
    assert (await shop.pay(amount=1_500, **ASYNC)).json()["situation"] == "replaced"
    shop.gateway.otherwise = Does.CHARGE
    shop.clock.advance(60.0)
    await shop.rest()
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [1_500]


async def test_an_unknown_over_a_cap_is_found_out_and_never_charged_later(world: Worlds) -> None:
    """A silent gateway, then "no such payment can complete": an order over the cap ends instead of being charged anew."""
    from cxguard.core.outcomes import NotCharged

    shop = await outage(world, caps=Caps(order_minor=999))
    shop.gateway.will(Does.UNKNOWN)
    told = await shop.pay(amount=1_000, **ASYNC)
    assert told.json()["money"] == "unknown"
    shop.gateway.otherwise = Does.CHARGE
    shop.gateway.will_say("find", [NotCharged("never arrived")])
    shop.clock.advance(60.0)
    await shop.rest()
    status = await shop.client.get(told.json()["status_url"], headers={"accept": "application/json"})
    assert (status.json()["situation"], shop.gateway.standing) == ("cancelled", [])


# --- goods that cannot wait


async def test_goods_that_cannot_wait_are_never_kept(world: Worlds) -> None:
    """A gift card that comes tomorrow is none."""
    heard: list[Event] = []
    shop = await outage(world, heard=heard, can_wait=False)
    answer = await shop.pay(**ASYNC)
    assert (answer.status_code, answer.json()["order_saved"]) == (503, False)
    assert reasons(heard) == ["cannot_wait"]


async def test_a_function_of_the_request_says_what_can_wait(world: Worlds) -> None:
    """Sync or async; asked in an outage only."""
    asked: list[str] = []

    def plants_only(arrival: Arrival) -> bool:
        asked.append(arrival.snapshot.json()["cart"])
        return bool(asked[-1] == "plants")

    async def also_async(arrival: Arrival) -> bool:
        return plants_only(arrival)

    for can_wait in (plants_only, also_async):
        shop = await outage(world, can_wait=can_wait)
        shop.gateway.will(Does.CHARGE)
        assert (await shop.pay(key="k0", **ASYNC)).status_code == 201
        assert (await shop.pay(key="k1", cart="plants", **ASYNC)).status_code == 202
        assert (await shop.pay(key="k2", cart="download", **ASYNC)).status_code == 503
    assert asked == ["plants", "download"] * 2


async def test_a_function_that_fails_or_says_something_else_than_true_promises_nothing(world: Worlds) -> None:
    """Careful: an order is kept on a clear yes alone."""

    def broken(arrival: Arrival) -> bool:
        raise RuntimeError("no catalogue")

    async def cancelled(arrival: Arrival) -> bool:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        return await task

    heard: list[Event] = []
    for can_wait in (broken, cancelled, lambda arrival: "perhaps"):
        shop = await outage(world, heard=heard, can_wait=can_wait)
        assert (await shop.pay(**ASYNC)).status_code == 503
    assert reasons(heard) == ["can_wait_failed", "can_wait_failed", "cannot_wait"]


async def test_a_function_that_hangs_is_bounded(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shopper's answer does not wait for it."""
    from cxguard.rules import sources

    monkeypatch.setattr(sources, "ASK_SECONDS_MAX", 0.01)

    async def hangs(arrival: Arrival) -> bool:
        await asyncio.Event().wait()
        return True

    heard: list[Event] = []
    shop = await outage(world, heard=heard, can_wait=hangs)
    assert (await shop.pay(**ASYNC)).status_code == 503
    assert reasons(heard) == ["can_wait_failed"]


async def test_whoever_cannot_be_told_is_counted_too(world: Worlds) -> None:
    """A client that never heard of us: not kept, and the engineer can see how often."""
    heard: list[Event] = []
    shop = await outage(world, heard=heard)
    assert (await shop.pay()).status_code == 503
    assert reasons(heard) == ["client_not_told"]
