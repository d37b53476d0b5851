"""An order that was given back and is bought again: its charge is another one, and so is all that is done with it."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tillworld import RESERVE, TAKE, till

from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, Outcome, Refunded, Unknown
from cxguard.engine.handle import current_operation
from cxguard.errors import PaymentDeferred, PaymentRefused, StepMismatch
from cxguard.gateways.base import Charge
from cxguard.rules import json_field
from cxguard.stores.base import Query

pytestmark = pytest.mark.asyncio


async def reserve_and_take(request: Request) -> Response:
    body, op = await request.json(), current_operation()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", capture=False))
    invoice = await op.step("create invoice", lambda: f"invoice of {payment.payment_id}")
    await op.capture()
    return JSONResponse({"paid": payment.payment_id, "invoice": invoice}, status_code=201)


async def only(shop: World) -> Operation:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


async def bought_twice(world: Worlds) -> tuple[World, Operation, Any]:
    """Paid, given back, and paid again under the same cart."""
    shop = await world(reserve_and_take, rule(key=json_field("cart")))
    await shop.pay()
    async with shop.guard.resume(reference=(await only(shop)).reference) as op:
        await op.refund()
    shop.clock.advance(7_200.0)
    answer = await shop.pay()
    return shop, await only(shop), answer.json()


async def test_the_second_charge_is_captured_too(world: Worlds) -> None:
    """The first one's capture is no capture of the second: else the shop would deliver for a mere reservation."""
    shop, record, _ = await bought_twice(world)
    assert record.generation == 2
    assert [payment.captured_minor for payment in shop.gateway.payments] == [1000, 1000]


async def test_a_refund_of_the_second_charge_gives_that_one_back(world: Worlds) -> None:
    """Nobody is told of money that went back an hour before they paid."""
    shop, record, _ = await bought_twice(world)
    async with shop.guard.resume(reference=record.reference) as op:
        await op.refund()
    assert shop.gateway.standing == []


async def test_nobody_is_told_paid_while_all_of_it_may_be_back(world: Worlds) -> None:
    """The gateway has not answered the refund: a second press of the paid order hears that it is being checked, not "thank you"."""
    shop = await world(reserve_and_take, rule(key=json_field("cart")))
    paid = await shop.pay()
    shop.gateway.will_say("refund", [Unknown("no answer in time")])
    async with shop.guard.resume(reference=(await only(shop)).reference) as op:
        with pytest.raises(PaymentDeferred):
            await op.refund()
    told = (await shop.pay()).json()
    assert paid.status_code == 201
    assert (told["situation"], told["money"], told["safe_to_retry"]) == ("unknown", "unknown", False)
    page = (await shop.client.get(told["status_url"], headers={"Accept": "application/json"})).json()
    assert (page["situation"], page["money"]) == ("unknown", "unknown")


async def test_the_second_purchase_gets_an_order_of_its_own(world: Worlds) -> None:
    """The steps of what was undone are not taken for done."""
    _, _, told = await bought_twice(world)
    assert told == {"paid": "pay_2", "invoice": "invoice of pay_2"}


@pytest.mark.parametrize(
    ("verb", "answer"),
    [("refund", Charged(1000, "EUR", "pay_1")), ("capture", Refunded(1000, "EUR")), ("refund", NeedsShopper("a step at the bank"))],
)
async def test_an_answer_of_another_kind_tells_nothing_of_a_movement(verb: str, answer: Outcome) -> None:
    """An adapter that answers a refund with a charge: not known, and asked again, and never told as done."""
    async with till() as shop:
        await shop.paid(RESERVE if verb == "capture" else TAKE)
        shop.gateway.will_say(verb, [answer])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await getattr(op, verb)(1000)
        await shop.settle()
        money = await shop.money()
        assert (money.captured_minor if verb == "capture" else money.refunded_minor) == 1000
        assert not (money.capture_pending or money.refund_pending)


async def test_a_refund_that_the_issuer_declines_is_refused() -> None:
    """Nothing moved, and the shop hears so, instead of waiting for a worker that has nothing to find out."""
    async with till() as shop:
        await shop.paid(TAKE)
        shop.gateway.will_say("refund", [Declined(code="account_closed")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentRefused, match="account_closed"):
                await op.refund(1000)


async def test_what_was_released_by_a_refund_cannot_be_captured() -> None:
    """A cancelled reservation is no longer there to be taken: nothing is sent."""
    async with till() as shop:
        await shop.paid(RESERVE)
        record = await shop.record()
        charge = record.sends[0].key
        await shop.guard.note(Refunded(5000, "EUR"), event_id="evt_1", gateway_key=charge)
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(StepMismatch):
                await op.capture()
        assert shop.gateway.count("capture") == 0


async def test_a_step_name_of_a_refund_is_not_taken_for_a_charge() -> None:
    """The gateway would take the one for a repetition of the other."""
    async with till() as shop:
        await shop.paid(TAKE)
        async with shop.guard.resume(reference=shop.reference) as op:
            await op.refund()
            with pytest.raises(StepMismatch, match="was a refund before"):
                await op.charge(TAKE, step="refund")


async def test_a_cancelled_order_of_which_a_part_was_taken_gets_that_part_back() -> None:
    """The rest was only reserved, and lapses: asking for all of it back would be refused for ever."""
    async with till() as shop:

        async def pay(op: Any) -> None:
            await op.charge(RESERVE)
            await op.capture(2000)
            raise RuntimeError("the shop fails here")

        with pytest.raises(RuntimeError):
            await shop.run(pay)
        record = await shop.record()
        wish = Note("wish", NoteKind.CANCEL, shop.clock.now(), source="shopper", generation=record.generation)
        await shop.guard.engine.operations.note(record.id, wish)
        await shop.settle()
        assert (shop.gateway.payments[0].refunded_minor, (await shop.record()).state) == (2000, State.HELD)
