"""Facts that arrive in the middle: between a fold and its save, a look and a seize, a line and its send."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from between import between
from shopworld import World, Worlds, charging_handler, rule
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import Operation, State, money_of
from cxguard.core.outcomes import Charged, NotCharged, Outcome
from cxguard.engine.handle import current_operation
from cxguard.errors import LeaseLost, PaymentDeclined
from cxguard.gateways.base import Charge
from cxguard.rules import json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def place(op: Any) -> dict[str, str]:
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return {"paid": payment.payment_id}


async def only(shop: World) -> Operation:
    page = await shop.store.search(Query(namespace="shop"))
    assert len(page.operations) == 1
    return page.operations[0]


def webhook(shop: World, operation: Operation, key: str, outcome: Outcome) -> Any:
    return shop.store.note(
        operation.id, Note("evt", NoteKind.OUTCOME, shop.clock.now(), gateway_key=key, outcome=outcome), namespace="shop"
    )


async def test_a_charge_told_while_the_run_is_written_off_is_not_told_as_not_charged(world: Worlds) -> None:
    """The webhook comes between the fold and the ending save: the record speaks, not what was concluded before it."""
    shop = await world()
    shop.gateway.will(Does.REFUSE)
    store = between(shop)

    async def then(operation: Operation, *, keep_lease: bool, **_: Any) -> None:
        if keep_lease:
            store.before["save"] = then
        else:
            await webhook(shop, operation, operation.sends[-1].key, Charged(1000, "EUR", "pay_9"))

    store.before["save"] = then
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["situation"], answer.json()["money"]) == (409, "refund_due", "charged")
    assert (await only(shop)).due_at is not None


async def test_a_charge_of_an_earlier_card_that_surfaces_late_stops_the_next_charge(world: Worlds) -> None:
    """The gateway called it declined, then charged: the save of the new line brings the news, and nothing is sent."""
    shop = await world(charging_handler, rule(key=json_field("cart")))
    shop.gateway.will(Does.DECLINE)
    await shop.pay()
    first = (await only(shop)).sends[0].key
    shop.clock.advance(60.0)
    store = between(shop)

    async def then(operation: Operation, **_: Any) -> None:
        if operation.generation == 2 and len(operation.sends) == 2:
            await webhook(shop, operation, first, Charged(1000, "EUR", "pay_1"))
        else:
            store.before["save"] = then

    store.before["save"] = then
    answer = await shop.pay()
    assert [call.verb for call in shop.gateway.calls].count("charge") == 1
    assert answer.json()["money"] == "charged"


async def test_a_record_that_goes_between_the_look_and_the_seize_is_opened_anew(world: Worlds) -> None:
    """It was cleared away: the key is free, and the shopper is not told of an error."""
    shop = await world()
    shop.gateway.will(Does.HANG)
    first = asyncio.create_task(shop.pay())
    await shop.gateway.until_hanging()
    shop.clock.advance(60.0)
    first.cancel()
    store = between(shop)
    gone: list[str] = []

    async def then(seen: Any, **_: Any) -> None:
        gone.append(seen.id)
        raise KeyError(seen.id)

    store.before["seize"] = then
    answer = await shop.pay()
    assert gone
    assert answer.status_code in (201, 202, 409)
    await shop.gateway.release()
    await shop.guard.finish_runs()


async def test_a_lease_that_is_lost_while_beginning_is_looked_at_again(world: Worlds) -> None:
    """Somebody else took the record in the middle: the answer says what they made of it, never a bare 500."""
    shop = await world(charging_handler, rule(key=json_field("cart")))
    shop.gateway.will(Does.DECLINE)
    await shop.pay()
    shop.clock.advance(60.0)
    store = between(shop)

    async def then(*_: Any, **__: Any) -> None:
        raise LeaseLost("taken")

    store.before["save"] = then
    answer = await shop.pay()
    assert answer.status_code in (201, 402, 409)
    assert answer.json()["reference"]


async def test_a_charge_made_inside_a_step_does_not_wait_for_the_step(world: Worlds) -> None:
    """`op.charge` in the function of `op.step`: one turn inside the other, not one behind it."""

    async def pay(order: str) -> str:
        payment = await current_operation().charge(Charge(1000, "EUR", source="tok_ok", order_id=order))
        return payment.payment_id

    async def handler(request: Request) -> Response:
        async with asyncio.timeout(5.0):
            return JSONResponse({"paid": await current_operation().step("pay", pay, "c1")}, status_code=201)

    shop = await world(handler)
    answer = await shop.pay()
    assert (answer.status_code, answer.json()) == (201, {"paid": "pay_1"})


async def test_an_early_answer_and_a_step_in_the_background_lose_nothing_of_each_other(world: Worlds) -> None:
    """The step begins while the early answer is on its way to the store: the record ends with both."""
    gate, stepped = asyncio.Event(), asyncio.Event()

    async def reserve() -> bool:
        stepped.set()
        return True

    async def background(op: Any) -> None:
        await gate.wait()
        await op.step("reserve", reserve)

    async def handler(request: Request) -> Response:
        await charging_handler(request)
        return JSONResponse({"paid": True}, status_code=201, background=BackgroundTask(background, current_operation()))

    shop = await world(handler, rule(settle_seconds=0.0))
    store = between(shop)

    async def then(record: Operation, **_: Any) -> None:
        if record.answer is None:
            store.before["save"] = then
            return
        gate.set()
        for _turn in range(20):
            await asyncio.sleep(0)

    store.before["save"] = then
    answer = await shop.pay()
    await shop.guard.finish_runs()
    operation = await only(shop)
    assert answer.status_code == 201
    assert stepped.is_set()
    assert (operation.answer is not None, [step.name for step in operation.steps]) == (True, ["reserve"])


async def test_a_purchase_that_another_order_has_taken_over_is_not_charged_here(world: Worlds) -> None:
    """The lease lapsed while its renewal was on the way: the save that writes the line shows who has the purchase now, and is told of."""
    shop = await world(charging_handler, rule(purchase=(json_field("cart"),)))
    store = between(shop)

    async def then(operation: Operation, **_: Any) -> None:
        [lease] = shop.guard.engine.operations.leases.held()
        shop.clock.advance(23.0)
        sent_at = shop.clock.monotonic()
        shop.clock.advance(8.0)
        second = await shop.pay(key="k2")
        assert second.status_code == 201
        assert await shop.store.renew({lease.id: lease.token}, lease_seconds=30.0) == frozenset()
        lease.renewed(sent_at)

    store.before["save"] = then
    first = await shop.pay(key="k1")
    assert first.json()["situation"] == "duplicate"
    assert len(shop.gateway.standing) == 1


async def test_order_that_begins_anew_too_late_is_not_charged_beside_the_one_that_took_its_basket(world: Worlds) -> None:
    """Its process stood still for longer than its lease, before its first write; that write gives up what is another's by now."""
    refusals = [JSONResponse({}, status_code=422)]

    async def handler(request: Request) -> Response:
        return refusals.pop() if refusals else await charging_handler(request)

    shop = await world(handler, rule(purchase=(json_field("cart"),)))
    assert (await shop.pay(key="k1")).status_code == 422
    store = between(shop)

    async def then(operation: Operation, **_: Any) -> None:
        [lease] = shop.guard.engine.operations.leases.held()
        shop.clock.advance(23.0)
        sent_at = shop.clock.monotonic()
        shop.clock.advance(8.0)
        assert (await shop.pay(key="k2")).status_code == 201
        assert await shop.store.renew({lease.id: lease.token}, lease_seconds=30.0) == frozenset()
        lease.renewed(sent_at)

    store.before["save"] = then
    assert (await shop.pay(key="k1")).json()["situation"] == "duplicate"
    assert len(shop.gateway.standing) == 1


@pytest.mark.parametrize("second", ["k1", "k2"])
async def test_order_that_begins_anew_is_told_to_nobody_as_over(world: Worlds, second: str) -> None:
    """It was turned away, and is pressed again: until its first write the record says "not charged", and leaves the basket to others.
    Neither the same press nor the other tab's may believe that."""
    refusals = [JSONResponse({}, status_code=422)]

    async def handler(request: Request) -> Response:
        return refusals.pop() if refusals else await charging_handler(request)

    shop = await world(handler, rule(purchase=(json_field("cart"),)))
    assert (await shop.pay(key="k1")).status_code == 422
    told: list[dict[str, Any]] = []
    store = between(shop)

    async def then(operation: Operation, **_: Any) -> None:
        told.append((await shop.pay(key=second)).json())

    store.before["save"] = then
    assert (await shop.pay(key="k1")).status_code == 201
    assert [(each["situation"], each["money"]) for each in told] == [("in_flight", "unknown")]
    assert len(shop.gateway.standing) == 1


async def test_answer_of_a_life_that_begins_anew_is_heard_while_work_goes_on(world: Worlds) -> None:
    """It was declined, and is tried again; who waits since before its first write hears the new answer as soon as it is out."""
    ends, came = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        try:
            await charging_handler(request)
        except PaymentDeclined:
            return JSONResponse({"declined": True}, status_code=402)
        return JSONResponse({"paid": True}, status_code=201, background=BackgroundTask(ends.wait))

    shop = await world(handler, rule(key=json_field("cart"), settle_seconds=0.0, wait_seconds=8.0))
    shop.gateway.will(Does.DECLINE)
    assert (await shop.pay(key=None)).status_code == 402
    shop.clock.advance(30.0)
    others: list[asyncio.Task[httpx.Response]] = []
    store = between(shop)

    async def then(operation: Operation, **_: Any) -> None:
        others.append(asyncio.create_task(shop.pay(key=None)))
        came.set()
        for _turn in range(20):
            await asyncio.sleep(0)

    store.before["save"] = then
    first = asyncio.create_task(shop.pay(key=None))
    async with asyncio.timeout(10.0):
        await came.wait()
        told = await others[0]
    assert (told.status_code, told.json()) == (201, {"paid": True})
    ends.set()
    assert (await first).status_code == 201


async def test_a_wish_to_cancel_that_comes_with_the_line_stops_the_shops_own_charging(world: Worlds) -> None:
    """The queue is about to run the shop's code, and the wish is in the save that makes its line durable."""
    runs: list[int] = []

    async def handler(request: Request) -> Response:
        return JSONResponse({"busy": True}, status_code=500)

    async def ask(op: Any) -> Outcome:
        return NotCharged("nothing in the ledger")

    async def later(op: Any) -> dict[str, bool]:
        runs.append(1)
        return {"placed": True}

    shop = await world(handler, rule(charged_by="shop", resolve=ask, later=later, terms="1"))
    for _ in range(6):  # until the breaker of the shop's own charging keeps the order instead
        kept = await shop.pay(key=f"k{_}", **ASYNC)
    assert kept.json()["situation"] == "kept"
    operation = next(each for each in (await shop.store.search(Query(namespace="shop"))).operations if each.state is State.QUEUED)
    store = between(shop)

    async def then(record: Operation, **_: Any) -> None:
        wish = Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), generation=record.generation)
        await shop.store.note(record.id, wish, namespace="shop")

    store.before["save"] = then
    shop.clock.advance(60.0)
    await shop.rest()
    shop.clock.advance(60.0)
    await shop.rest()
    after = await shop.store.get(operation.id)
    assert (runs, after and after.state, after and money_of(after).state) == ([], State.CANCELLED, MoneyState.NONE)


async def test_two_charges_of_one_step_are_given_back_under_two_keys(world: Worlds) -> None:
    """A basket that was replaced, whose first charge surfaced after all: both go back, and neither hides the other."""
    gateway = FakeGateway()
    shop = await world(charging_handler, rule(key=json_field("cart"), later=place, terms="1"), gateway=gateway)
    gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(amount=1000, **ASYNC)
    await shop.pay(amount=700, **ASYNC)
    shop.clock.advance(60.0)
    await shop.rest()
    operation = await only(shop)
    first = operation.sends[0].key
    gateway.otherwise = Does.CHARGE
    late = await gateway.charge(Charge(1000, "EUR", "tok_ok"), key=first, timeout_seconds=1.0)
    wish = Note("cancel:1", NoteKind.CANCEL, (operation.answered_at or 0) - 1, generation=1)
    await shop.store.note(operation.id, wish, namespace="shop")
    await shop.guard.note(late, event_id="evt", gateway_key=first)
    await shop.rest()
    assert kept.status_code == 202
    assert gateway.standing == []
