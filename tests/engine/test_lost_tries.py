"""Tries that charged nothing, and the one after them that paid: all of them lost with the store's tail."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from lostworld import World, place, world

from cxguard.core.money import Note, NoteKind
from cxguard.core.names import gateway_key
from cxguard.core.outcomes import Charged, Unknown
from cxguard.engine.losing import ASKED_AGAIN_SECONDS
from cxguard.errors import PaymentDeferred, StepMismatch
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


async def press(shop: World, of: Any = place) -> Any:
    """An order that cannot be kept: each try is over at once."""
    return await shop.guard.run(of, purpose="till", key="o1", owner="ann", deadline_seconds=5.0)


async def smaller(op: Any) -> dict[str, str]:
    return {"payment": (await op.charge(Charge(700, "EUR", source="tok_ok"))).payment_id}


async def larger(op: Any) -> dict[str, str]:
    return {"payment": (await op.charge(Charge(9900, "EUR", source="tok_ok"))).payment_id}


async def tried(shop: World, *does: Does, of: Any = place) -> None:
    shop.gateway.will(*does)
    for _ in does:
        with pytest.raises(PaymentDeferred):
            await press(shop, of)
        shop.clock.advance(2.0)  # as a throttled one has to wait


@pytest.mark.parametrize("keyed", [True, False])
async def test_tries_that_left_nothing_at_the_gateway_hide_no_later_one(keyed: bool) -> None:
    """However many there were: they have all used the key that the paid one was charged under."""
    async with world(keyed=keyed) as shop:
        await tried(shop, *[Does.THROTTLE] * 3)
        before = await press(shop)
        assert ((await shop.record()).generation, len({send.key for send in (await shop.record()).sends})) == (1, 1)
        await shop.fail_over()
        assert await press(shop) == before
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_charge_of_a_try_that_was_turned_away_goes_back_where_nothing_was_lost() -> None:
    """The gateway has charged what it said that it had not: its shopper was told of none, and there was no later try."""
    async with world(keyed=True) as shop:
        await tried(shop, Does.THROTTLE)
        (line,) = (await shop.record()).sends
        said = await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=line.key, timeout_seconds=1.0)
        told = Note("webhook", NoteKind.OUTCOME, shop.clock.now(), gateway_key=line.key, outcome=said)
        await shop.guard.engine.operations.note((await shop.record()).id, told)
        await shop.rest()
        assert ((await shop.record()).money, len(shop.gateway.standing)) == ("refunded", 1), "the first order"


async def test_lost_try_of_another_amount_is_found_where_no_rule_names_amounts() -> None:
    """It was charged under a key of its own, in the life of the smaller one, which was turned away."""
    async with world(keyed=True) as shop:
        await tried(shop, Does.THROTTLE, of=smaller)
        before = await press(shop)
        await shop.fail_over()
        assert await press(shop) == before
        assert len(shop.gateway.standing) == 2, "the first order and this one"


@pytest.mark.parametrize("known", [0, 1, 2])
async def test_lost_charge_of_a_kept_order_that_was_changed_twice_is_found(known: int) -> None:
    """Each basket was tried under a key of its own. What comes back knows of none of them, or of those before the last."""
    async with world(keyed=True) as shop:
        copies = []
        for of in (smaller, larger):
            shop.gateway.will(*[Does.NOT_CHARGED] * 3)
            with pytest.raises(PaymentDeferred):
                await shop.press(of=of)
            copies.append(await shop.record())
        await shop.press()
        await shop.fail_over(*copies[known - 1 : known] if known else ())
        with suppress(StepMismatch):
            await shop.press(of=larger)
        assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [4999, 4999], "the first order and this one"


async def test_try_that_was_refused_outright_has_its_key_for_itself() -> None:
    """A gateway may have kept the refusal: the next try goes under another key, and is found all the same."""
    async with world(keyed=True) as shop:
        await tried(shop, Does.REFUSE, Does.THROTTLE)
        before = await press(shop)
        assert (await shop.record()).generation == 2
        await shop.fail_over()
        assert await press(shop) == before


@pytest.mark.parametrize("hours", [0, 6])
async def test_try_that_was_lost_is_found_beside_an_older_one_that_left_nothing(hours: int) -> None:
    """The store has the first one only; the next press has a life of its own, or belongs to that one."""
    async with world(keyed=True) as shop:
        await tried(shop, Does.THROTTLE)
        copy = await shop.record()
        before = await press(shop)
        await shop.fail_over(copy)
        await shop.guard.engine.epochs.look()
        shop.clock.advance(3_600.0 * hours)
        assert await press(shop) == before
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def with_another_card(op: Any) -> dict[str, str]:
    return {"payment": (await op.charge(Charge(4999, "EUR", source="tok_other"))).payment_id}


async def paid_at_the_second(shop: World) -> Any:
    """The first gateway was away, so the second one charged; that is lost."""
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    before = await shop.press()
    await shop.fail_over()
    return before


async def test_try_that_paid_at_a_gateway_that_the_next_card_cannot_go_to_is_found() -> None:
    """Pressed again with a card that only the first one takes."""
    other = FakeGateway(name="second:test")
    async with world(other, keyed=True) as shop:
        before = await paid_at_the_second(shop)
        assert await shop.guard.run(with_another_card, purpose="order", key="o1", owner="ann", deadline_seconds=5.0) == before
        assert (len(shop.gateway.standing), len(other.standing)) == (1, 1), "the first order, and this one"


async def test_silence_of_a_gateway_that_the_card_cannot_go_to_keeps_no_order_waiting() -> None:
    """It is charged, and asked about there later: the second charge goes back."""
    other = FakeGateway(name="second:test")
    async with world(other, keyed=True) as shop:
        await paid_at_the_second(shop)
        shop.clock.advance(shop.gateway.settle_seconds)
        other.will_say("find", [Unknown("no answer in time")])
        assert await shop.guard.run(with_another_card, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        assert (len(shop.gateway.standing), len(other.standing)) == (2, 1)
        shop.clock.advance(ASKED_AGAIN_SECONDS)
        await shop.rest()
        assert (len(shop.gateway.standing), len(other.standing)) == (2, 0)


async def test_call_is_not_made_again_where_a_lost_try_has_paid_at_the_next_gateway() -> None:
    """The copy waits for word of the first gateway's call. That was turned away, and the order was paid at the second one."""
    other = FakeGateway(name="second:test")
    async with world(other, keyed=True) as shop:
        shop.gateway.will(Does.UNKNOWN)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        copy = await shop.record()
        key = gateway_key(copy.id, step="charge@second:test", generation=1)
        assert isinstance(await other.charge(Charge(4999, "EUR", source="tok_ok"), key=key, timeout_seconds=1.0), Charged)
        await shop.fail_over(copy)
        for _ in range(6):
            shop.clock.advance(shop.gateway.settle_seconds)
            await shop.rest()
        assert (len(shop.gateway.standing), len(other.standing)) == (1, 1), "the first order, and this one"
        assert (await shop.record()).money == "charged"


async def test_call_to_the_next_gateway_is_not_made_again_where_a_lost_try_has_paid_at_the_first() -> None:
    """The copy waits for word of the second gateway; in the lost writes that turned it away, and the next try paid at the first."""
    other = FakeGateway(name="second:test")
    async with world(other, keyed=True) as shop:
        shop.gateway.will(*[Does.NOT_CHARGED] * 3)
        other.will(Does.UNKNOWN)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        copy = await shop.record()
        assert copy.sends[-1].step == "charge@second:test"
        key = gateway_key(copy.id, step="charge", generation=2)
        assert isinstance(await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=key, timeout_seconds=1.0), Charged)
        await shop.fail_over(copy)
        for _ in range(6):
            shop.clock.advance(shop.gateway.settle_seconds)
            await shop.rest()
        assert (len(shop.gateway.standing), len(other.standing)) == (2, 0), "the first order, and this one"
        assert (await shop.record()).money == "charged"
