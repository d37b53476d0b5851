"""A script runs again over a charge that only a webhook tells of, after the store has lost its tail: whether it goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lostworld import World, world

from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, changed
from cxguard.core.outcomes import Charged, NotCharged, Refunded, Unknown
from cxguard.errors import OperationHeld, PaymentDeferred
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


async def told_by_webhook(shop: World, *, sent_to: str = "fake:test") -> Operation:
    """Charged without an answer; the store comes back with the order in doubt. Then the webhook comes."""
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer in time")])
    with pytest.raises(PaymentDeferred):
        await shop.press()
    copy = await shop.record()
    shop.clock.advance(5.0)
    copy = changed(copy, sends=tuple(replace(send, gateway=sent_to) for send in copy.sends))
    await shop.fail_over(copy)
    await shop.guard.note(Charged(4999, "EUR", "pay_2"), gateway_key=copy.sends[0].key, event_id="evt")
    return copy


async def test_it_goes_on_once_the_gateway_has_confirmed_it() -> None:
    """One look, and the shop's function is told that it is paid."""
    async with world() as shop:
        await told_by_webhook(shop)
        assert await shop.press() == {"payment": "pay_2"}
        assert len(shop.gateway.standing) == 2


async def test_it_does_not_while_the_gateway_is_silent() -> None:
    """Silence confirms nothing: the queue asks on, at once, and nothing is placed over it meanwhile."""
    async with world() as shop:
        await told_by_webhook(shop)
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(OperationHeld):
            await shop.press()
        waits = await shop.record()
        assert (waits.why, waits.due_at) == ("charge_unknown", shop.clock.now())


async def test_it_goes_on_where_nobody_can_be_asked() -> None:
    """The account is no gateway of the guard's any more: the webhook's is the only word there will be."""
    async with world() as shop:
        await told_by_webhook(shop, sent_to="gone:test")
        assert await shop.press() == {"payment": "pay_2"}


async def test_it_goes_on_over_what_is_left_of_a_charge() -> None:
    """A part went back in lost writes: the gateway says so, and that the rest stands."""
    async with world() as shop:
        copy = await told_by_webhook(shop)
        shop.gateway.will_say("find", [Refunded(1000, "EUR")])
        assert await shop.press() == {"payment": "pay_2"}
        assert (await shop.record()).id == copy.id


async def test_account_that_was_asked_last_is_asked_where_no_line_says_which() -> None:
    """The line of the key was lost, too; the newest one that is left is of the second gateway."""
    second = FakeGateway(name="second:test")
    async with world(second) as shop:
        shop.gateway.will(*[Does.NOT_CHARGED] * 3)
        second.will(Does.CHARGE_THEN_UNKNOWN)
        second.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred):
            await shop.press()
        copy = await shop.record()
        *earlier, last = copy.sends
        assert [send.gateway for send in (earlier[-1], last)] == ["fake:test", "second:test"]
        copy = changed(copy, sends=(*earlier, replace(last, outcome=NotCharged("no such token"))))
        shop.clock.advance(5.0)
        await shop.fail_over(copy)
        told = Note("evt", NoteKind.OUTCOME, shop.clock.now(), gateway_key="cxg-lost", outcome=Charged(4999, "EUR", "pay_9"))
        await shop.guard.engine.operations.note(copy.id, told)
        with pytest.raises(OperationHeld):
            await shop.press()
        assert [(gateway.name, "cxg-lost" in [call.key for call in gateway.calls]) for gateway in (shop.gateway, second)] == [
            ("fake:test", False),
            ("second:test", True),
        ]


async def test_what_a_look_finds_under_a_key_without_a_line_is_about_this_life() -> None:
    """The order is in its second life, and the store has lost what was sent in it: the charge went back, and nothing is paid."""
    async with world() as shop:
        copy = changed(await told_by_webhook(shop), generation=2, sends=())
        await shop.fail_over(copy)
        told = Note("evt", NoteKind.OUTCOME, shop.clock.now(), gateway_key="cxg-lost", outcome=Charged(4999, "EUR", "pay_9"))
        await shop.guard.engine.operations.note(copy.id, told)
        shop.gateway.will_say("find", [Refunded(4999, "EUR")])
        with pytest.raises(OperationHeld):
            await shop.press()
        assert (await shop.record()).money == "refunded"
