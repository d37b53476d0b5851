"""A webhook that names only the order says nothing about which of its payments it means."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import World, Worlds, charging_handler, rule

from cxguard.core.breaker import Label
from cxguard.core.money import MoneyState, NoteKind
from cxguard.core.operation import Operation, State, money_of
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Refunded, Unknown
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.rules import json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def only(shop: World) -> Operation:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


async def second_card(world: Worlds, *script: Does) -> World:
    """The first card was declined, and its shopper took another one."""
    shop = await world(charging_handler, rule(key=json_field("cart")))
    shop.gateway.will(Does.DECLINE, *script)
    await shop.pay()
    shop.clock.advance(11.0)
    return shop


async def told(shop: World, outcome: Outcome) -> Operation:
    return await shop.guard.note(outcome, event_id="evt_late", reference=(await only(shop)).reference)


@pytest.mark.parametrize("outcome", [Declined(), NotCharged("cancelled")], ids=["declined", "cancelled"])
async def test_late_no_about_the_first_card_is_not_taken_for_the_second_one(world: Worlds, outcome: Any) -> None:
    """The second one is charged, and its answer was lost: the word about the first settles nothing, and is there to be read."""
    shop = await second_card(world, Does.CHARGE_THEN_UNKNOWN)
    shop.gateway.will_say("find", [Unknown("not_found")])
    await shop.pay()
    heard: list[Event] = []
    shop.guard.engine.operations.bus.listen(heard.append)
    noted = await told(shop, outcome)
    assert [(event.name, dict(event.detail)) for event in heard] == [("order.remarked", {"by": "webhook"})]
    assert (money_of(noted).state, noted.notes[-1].kind) == (MoneyState.UNKNOWN, NoteKind.REMARK)
    assert "not of which of its payments" in noted.notes[-1].text
    shop.clock.advance(60.0)
    await shop.rest()
    assert (money_of(await only(shop)).state, len(shop.gateway.standing)) == (MoneyState.CHARGED, 1)


async def test_refund_of_the_only_charge_is_known_to_be_of_that_one(world: Worlds) -> None:
    """The first card was declined: there is nothing else that can have gone back."""
    shop = await second_card(world)
    await shop.pay()
    assert money_of(await told(shop, Refunded(1000, "EUR"))).state is MoneyState.REFUNDED


async def test_late_word_of_the_first_refund_does_not_give_back_what_was_bought_anew(world: Worlds) -> None:
    """Given back, and bought again: gateways tell of a refund more than once."""
    shop = await world(charging_handler, rule(key=json_field("cart")))
    await shop.pay()
    await shop.guard.note(Refunded(1000, "EUR"), event_id="evt_1", gateway_key=(await only(shop)).sends[0].key)
    shop.clock.advance(11.0)
    await shop.pay()
    assert len({send.key for send in (await only(shop)).sends}) == 2
    assert money_of(await told(shop, Refunded(1000, "EUR"))).state is MoneyState.CHARGED


async def test_charge_that_is_told_of_an_order_before_it_has_sent_any_is_not_made_again(world: Worlds) -> None:
    """The breaker was open when it was kept, and its shopper has paid by another way: the order is completed with that."""

    async def later(op: Any) -> dict[str, str]:
        payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
        return {"paid": payment.payment_id}

    shop = await world(charging_handler, rule(later=later, terms="1"))
    shop.guard.engine.breakers.force(shop.gateway.name, "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    assert (await shop.pay(prefer="respond-async")).json()["situation"] == "kept"
    assert (await only(shop)).sends == ()
    await told(shop, Charged(1000, "EUR", payment_id="pay_9"))
    shop.clock.advance(120.0)
    await shop.rest()
    order = await only(shop)
    assert (order.state, order.money, shop.gateway.count("charge")) == (State.FINISHED, MoneyState.CHARGED, 0)


@pytest.mark.parametrize("declined", [1, 2])
async def test_charge_is_believed_of_an_order_by_its_name(world: Worlds, declined: int) -> None:
    """Whichever of its payments it was, and however many cards were tried: the order is paid."""
    shop = await second_card(world, *[Does.DECLINE] * (declined - 1), Does.UNKNOWN)
    for _ in range(declined):
        await shop.pay()
        shop.clock.advance(11.0)
    assert money_of(await told(shop, Charged(1000, "EUR", payment_id="pay_9"))).state is MoneyState.CHARGED
