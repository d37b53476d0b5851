"""Facts that a webhook tells: to which of several orders they go, and what is kept of one that no order knows."""

from __future__ import annotations

from typing import Any

import pytest
from lostworld import World, world

from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, money_of
from cxguard.core.outcomes import Charged, Declined, Unknown
from cxguard.engine.noting import note_outcome
from cxguard.errors import ConfigurationError, PaymentDeferred
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio

PAID = Charged(4999, "EUR", payment_id="pay_9")


async def waits(shop: World, key: str = "o1") -> Operation:
    """An order whose charge is unknown, and a newer one that is paid."""
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer in time")])
    with pytest.raises(PaymentDeferred):
        await shop.press(key)
    order = await shop.record()
    shop.clock.advance(1.0)
    await shop.press("a newer order")
    assert (await shop.record()).id != order.id
    return order


async def told(shop: World, order: Operation) -> MoneyState:
    there = await shop.store.get(order.id)
    assert there is not None
    return money_of(there).state


async def stubs(shop: World) -> list[Operation]:
    """Records of facts that no order knows."""
    page = await shop.store.search(Query(namespace="shop"))
    return [operation for operation in page.operations if operation.notes and not operation.sends]


def heard_by(shop: World) -> list[Event]:
    heard: list[Event] = []
    shop.guard.engine.operations.bus.listen(heard.append)
    return heard


async def test_fact_about_a_gateway_key_goes_to_the_order_that_sent_it() -> None:
    """Not to the newest one; where it came from is kept, and told."""
    async with world() as shop:
        order, heard = await waits(shop), heard_by(shop)
        noted = await shop.guard.note(PAID, event_id="evt_1", gateway_key=order.sends[0].key, source="webhook of the shop")
        assert (noted.id, noted.notes[-1].source, await told(shop, order)) == (order.id, "webhook of the shop", MoneyState.CHARGED)
        (event,) = [event for event in heard if event.name == "payment.noted"]
        assert (event.operation, dict(event.detail)) == (order.id, {"source": "webhook of the shop", "stub": False})


async def test_fact_about_a_reference_goes_to_that_order() -> None:
    """It is about its charge."""
    async with world() as shop:
        order = await waits(shop)
        await shop.guard.note(PAID, event_id="evt_1", reference=order.reference)
        assert await told(shop, order) is MoneyState.CHARGED
        with pytest.raises(KeyError):
            await shop.guard.note(PAID, event_id="evt_2", reference="NO-SUCH-ORDER")


async def test_charge_of_another_amount_than_was_sent_under_its_key_is_not_believed() -> None:
    """It stays unknown, until a person looks."""
    async with world() as shop:
        order = await waits(shop)
        await shop.guard.note(Charged(1, "EUR"), event_id="evt_1", gateway_key=order.sends[0].key)
        assert await told(shop, order) is MoneyState.UNKNOWN


async def test_decline_is_about_what_was_sent_until_then() -> None:
    """Its note says up to which call."""
    async with world() as shop:
        order = await waits(shop)
        noted = await shop.guard.note(Declined(), event_id="evt_1", gateway_key=order.sends[0].key)
        assert noted.notes[-1].through == 1


async def test_order_that_a_fact_ends_is_kept_no_longer_than_any_other() -> None:
    """Its request goes at once, its record when the purpose's time is over."""
    async with world() as shop:
        order = await waits(shop)
        await shop.guard.note(Declined(), event_id="evt_1", gateway_key=order.sends[0].key)
        await shop.rest()
        ended = await shop.store.get(order.id)
        assert ended is not None and ended.keep_until is not None
        keep_seconds = shop.guard.purposes["order"].keep_seconds
        assert (ended.state, ended.request, ended.keep_until) == ("finished", None, shop.clock.now() + keep_seconds)


async def test_fact_that_no_order_knows_is_kept_once_and_for_a_person() -> None:
    """However often it is told; the next one of another key has a record of its own."""
    async with world() as shop:
        heard = heard_by(shop)
        for key in ("key of nobody", "key of nobody", "another one"):
            await shop.guard.note(PAID, event_id=f"evt of {key}", gateway_key=key)
        kept = await stubs(shop)
        assert sorted(note.gateway_key or "" for stub in kept for note in stub.notes) == ["another one", "key of nobody"]
        assert len(kept) == 2
        assert [event.detail["stub"] for event in heard if event.name == "payment.noted"] == [True, False, True]


async def test_fact_whose_payment_names_its_order_goes_there_though_the_key_is_not_on_record() -> None:
    """The store has lost the line; the payment's metadata has the order's id. A name that no order has is the stub's."""
    async with world() as shop:
        order = await waits(shop)
        engine = shop.guard.engine
        noted = await note_outcome(engine, PAID, event_id="evt_1", gateway_key="of a lost line", operation_id=order.id)
        assert (noted.id, noted.notes[-1].source) == (order.id, "webhook")
        later = engine.operation_id(purpose="order", owner="ann", key="comes later")
        assert (await note_outcome(engine, PAID, event_id="evt_2", gateway_key="unknown", operation_id=later)).id == later


@pytest.mark.parametrize("outcome", ["paid", None, {"amount": 4999}])
async def test_what_is_no_outcome_is_not_noted(outcome: Any) -> None:
    """It settled nothing, and its event counted as heard: the true word, sent again, would have been taken for a repetition."""
    async with world() as shop:
        order = await waits(shop)
        with pytest.raises(ConfigurationError, match=r"no outcome: write Charged\(4999"):
            await shop.guard.note(outcome, event_id="evt_1", gateway_key=order.sends[0].key)
        await shop.guard.note(PAID, event_id="evt_1", gateway_key=order.sends[0].key)
        assert await told(shop, order) is MoneyState.CHARGED


@pytest.mark.parametrize("reference", [None, 17])
async def test_nobodys_reference_leads_to_no_order(reference: Any) -> None:
    """Of a variable that is not set, say: it led to the newest order of the shop, which was then given back."""
    async with world() as shop:
        await waits(shop)
        with pytest.raises(ConfigurationError, match=rf"is a {type(reference).__name__}: write guard.resume\(reference=op.reference\)"):
            async with shop.guard.resume(reference=reference) as op:
                await op.refund()
        assert shop.gateway.count("refund") == 0


async def test_two_noes_about_a_charge_that_no_order_knows_are_kept_with_each_other() -> None:
    """None of them is about a call that is on record: both are about the key."""
    async with world() as shop:
        for event_id in ("evt_1", "evt_2"):
            await shop.guard.note(Declined(), event_id=event_id, gateway_key="of a lost line")
        (stub,) = await stubs(shop)
        assert [(note.event_id, note.through) for note in stub.notes] == [("evt_1", None), ("evt_2", None)]


async def test_fact_about_a_reference_goes_to_the_charge_that_was_sent_under_a_name_of_its_own() -> None:
    """A deposit, say: not to the key that a step called "charge" would have had."""
    async with world(keyed=False) as shop:

        async def deposit(op: Any) -> None:
            await op.charge(Charge(4999, "EUR", source="tok_ok"), step="deposit")

        shop.gateway.will(Does.UNKNOWN)
        shop.gateway.will_say("find", [Unknown("no answer")])
        with pytest.raises(PaymentDeferred):
            await shop.press(of=deposit)
        order = await shop.record()
        await shop.guard.note(PAID, event_id="evt_1", reference=order.reference)
        assert await told(shop, order) is MoneyState.CHARGED
