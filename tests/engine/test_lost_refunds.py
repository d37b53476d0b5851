"""The store lost the refund of an order; then a late webhook says that it is charged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from lostworld import World, world

from cxguard.core.lost import LOST_BACK_SECONDS
from cxguard.core.money import Note, NoteKind
from cxguard.core.names import gateway_key
from cxguard.core.operation import Operation, State, changed, money_of
from cxguard.core.outcomes import Charged, Unknown
from cxguard.engine.library import Purpose
from cxguard.errors import OperationHeld, PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def given_back(*, placeable: bool = False, cut: bool = False) -> AsyncIterator[World]:
    """Charged without an answer, cancelled and paid back; of all that the store has the order in doubt, or, if its writes were *cut*
    earlier, as it was sent. Then the webhook comes."""
    async with world(keyed=True) as shop:
        if not placeable:
            shop.guard.purposes["order"] = Purpose("order")
        shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred):
            await shop.press()
        copy = await shop.record()
        await shop.wish_to_cancel(copy)
        await shop.rest()
        assert money_of(await shop.record()).state == "refunded"
        shop.clock.advance(5.0)
        await shop.fail_over(changed(copy, state=State.RUNNING, why="", due_at=None) if cut else copy)
        await shop.guard.note(Charged(4999, "EUR", "pay_2"), gateway_key=copy.sends[0].key, event_id="evt")
        yield shop


async def test_late_webhook_of_a_charge_that_went_back_is_not_believed() -> None:
    """The gateway is asked what stands now, before a person is told that the order is paid. Found by a hunt, as seed 2170744."""
    async with given_back() as shop:
        await shop.rest()
        assert (await shop.record()).money == "refunded"


async def test_gateway_that_says_nothing_then_is_asked_again_while_a_person_has_it() -> None:
    """The word of the webhook stands until it answers, and no longer."""
    async with given_back() as shop:
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        await shop.rest()
        held = await shop.record()
        assert (held.money, held.why) == ("charged", "order_missing")
        shop.clock.advance(600.0)
        await shop.rest()
        assert (await shop.record()).money == "refunded"


async def silent_turn(shop: World, said: str) -> Operation:
    """The order as it is after a turn of the queue in which the gateway says no more than that."""
    shop.gateway.will_say("find", [Unknown(said)])
    await shop.rest()
    return await shop.record()


async def test_order_that_was_refunded_in_lost_writes_is_not_completed() -> None:
    """Cancelled and paid back, and the store has lost both. Found by a hunt, as seed 73851."""
    async with given_back(placeable=True) as shop:
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "refunded")


@pytest.mark.parametrize("said", ["no answer in time", "not_found"])
async def test_order_is_not_completed_on_a_webhooks_word_while_the_gateway_does_not_confirm_it(said: str) -> None:
    """It is asked again until it says what stands. Found by a hunt, as seed 3588383."""
    async with given_back(placeable=True) as shop:
        assert (await silent_turn(shop, said)).state == "queued"
        shop.clock.advance(600.0)
        assert (await silent_turn(shop, said)).attempts == 0
        shop.clock.advance(600.0)
        await shop.rest()
        assert (await shop.record()).money == "refunded"


async def test_order_that_waits_for_its_gateways_word_says_why() -> None:
    """Also one whose process died before it could say anything."""
    async with given_back(placeable=True, cut=True) as shop:
        waiting = await silent_turn(shop, "no answer in time")
        assert (waiting.state, waiting.why) == ("queued", "charge_unknown")


async def test_order_whose_gateway_says_nothing_for_two_days_is_completed() -> None:
    """Then the webhook is believed: the shopper has paid, as far as anybody knows."""
    async with given_back(placeable=True) as shop:
        await silent_turn(shop, "no answer in time")
        shop.clock.advance(LOST_BACK_SECONDS)
        placed = await silent_turn(shop, "no answer in time")
        assert (placed.state, placed.money) == ("finished", "charged")


@pytest.mark.parametrize("said", [None, Unknown("no answer in time")])
async def test_script_that_runs_again_places_no_order_whose_charge_went_back(said: Unknown | None) -> None:
    """Its function would have been told that the order is paid, and have sent the goods. The gateway is asked first; one that
    says nothing confirms nothing."""
    async with given_back() as shop:
        shop.gateway.will_say("find", [said] if said else [])
        with pytest.raises(OperationHeld):
            await shop.press()
        await shop.rest()
        shop.clock.advance(600.0)
        await shop.rest()
        assert (await shop.record()).money == "refunded"


async def test_order_whose_line_was_lost_with_its_refund_is_no_persons_to_give_back() -> None:
    """The copy is older than the call; a fact says that it charged, and the refund is in no write. Found by a hunt, as seed 7100713."""
    async with world(keyed=False) as shop:
        shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred):
            await shop.press()
        copy = await shop.record()
        await shop.wish_to_cancel(copy)
        await shop.rest()
        assert money_of(await shop.record()).state == "refunded"
        shop.clock.advance(5.0)
        await shop.fail_over(changed(copy, sends=()))
        await shop.wish_to_cancel(copy)
        told = Note("evt", NoteKind.OUTCOME, shop.clock.now(), gateway_key=copy.sends[0].key, outcome=Charged(4999, "EUR", "pay_2"))
        await shop.guard.engine.operations.note(copy.id, told)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "refunded")


async def test_refund_of_a_lost_basket_ends_the_order_that_was_taken_for_it() -> None:
    """The line in doubt has the amount of the newer basket; what went back is all of the older one. Found by a hunt, as seed 6556031."""
    async with world(keyed=False) as shop:
        with pytest.raises(PaymentDeclined):
            shop.gateway.will(Does.DECLINE)
            await shop.press()
        key = gateway_key((await shop.record()).id, step="charge", generation=1)
        shop.gateway.payments[-1:] = []
        paid = await shop.gateway.charge(Charge(700, "EUR", source="tok_ok"), key=key, timeout_seconds=1.0)
        assert isinstance(paid, Charged)
        await shop.gateway.refund(str(paid.payment_id), key="back", amount_minor=700, currency="EUR", timeout_seconds=1.0)
        await shop.fail_over()
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press()
        shop.clock.advance(5.0)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "refunded")
