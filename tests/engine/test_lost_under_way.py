"""The store lost its last writes, and a charge of a lost life is still under way: the gateway does not find it yet."""

from __future__ import annotations

from typing import Any

import pytest
from lostworld import World, world

from cxguard.core.decide import NOT_KEPT
from cxguard.core.lost import CHANGES_LOST_MAX
from cxguard.core.money import Note, NoteKind
from cxguard.core.names import gateway_key
from cxguard.core.operation import Operation, State, changed
from cxguard.core.outcomes import Charged, Unknown
from cxguard.core.resolve import LOOK_EVENT
from cxguard.errors import PaymentDeclined, PaymentDeferred, StepUnfinished
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


def key_of(operation: Operation, life: int) -> str:
    return gateway_key(operation.id, step="charge", generation=life)


async def lands(shop: World, key: str) -> Charged:
    """What was under way under *key* arrives."""
    paid = await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=key, timeout_seconds=1.0)
    assert isinstance(paid, Charged)
    return paid


async def fail(op: Any) -> None:
    raise RuntimeError("before it paid")


async def reject(shop: World) -> Operation:
    """A run of the order that ends before it charges, without a doubt: the gateway's word was proof. The next try is another life."""
    with pytest.raises(RuntimeError):
        await shop.guard.run(fail, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
    return changed(await shop.record(), why=NOT_KEPT)


async def settled(shop: World) -> None:
    """All that was under way has had its time, and the queue has looked."""
    for _ in range(6):
        shop.clock.advance(shop.gateway.settle_seconds)
        await shop.rest()


async def test_the_same_is_not_sent_again_while_another_life_may_be_charging() -> None:
    """The copy knows of the first life's call only; that was refused, and the second life's charge lands late."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.UNKNOWN)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        copy = await shop.record()
        await shop.fail_over(copy)
        shop.clock.advance(5.0)
        await shop.rest()
        paid = await lands(shop, key_of(copy, 2))
        await settled(shop)
        assert [payment.id for payment in shop.gateway.standing][1:] == [paid.payment_id]
        assert ((await shop.record()).money, (await shop.record()).generation) == ("charged", 2)


async def test_the_same_is_sent_again_once_no_other_life_can_charge_any_more() -> None:
    """The wait is no longer than the gateway needs to settle."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.UNKNOWN)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        await shop.fail_over(await shop.record())
        shop.clock.advance(5.0)
        await shop.rest()
        shop.clock.advance(2 * shop.gateway.settle_seconds)
        await shop.rest()
        assert ((await shop.record()).money, len(shop.gateway.standing)) == ("charged", 2)


async def test_life_that_nobody_answers_about_is_not_charged_over_the_next_one() -> None:
    """Silence about the first life, and the second one has paid: it is asked about before the first key is sent."""
    async with world(keyed=True) as shop:
        await shop.press()
        there = await shop.record()
        shop.gateway.payments.pop()
        paid = await lands(shop, key_of(there, 2))
        await shop.fail_over()
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press()
        await settled(shop)
        assert [payment.id for payment in shop.gateway.standing][1:] == [paid.payment_id]


async def test_next_life_is_charged_under_the_key_that_may_still_charge() -> None:
    """The first life ended here before it sent anything; what it had sent, in the lost writes, is on its way: the same key."""
    async with world(keyed=True) as shop:
        copy = await reject(shop)
        await shop.fail_over(copy)
        assert await shop.press()
        record = await shop.record()
        await lands(shop, key_of(copy, 1))
        assert (record.generation, {send.key for send in record.sends}) == (2, {key_of(copy, 1)})
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_next_life_has_a_key_of_its_own_once_nothing_is_under_way() -> None:
    """Then "not found" is proof."""
    async with world(keyed=True) as shop:
        copy = await reject(shop)
        await shop.fail_over(copy)
        await shop.guard.engine.epochs.look()
        shop.clock.advance(shop.gateway.settle_seconds)
        await shop.press()
        assert key_of(copy, 2) in [send.key for send in (await shop.store.get(copy.id)).sends]


async def lose(shop: World, copy: Operation) -> None:
    """The store fails over to *copy*, and nothing can be under way any more."""
    await shop.fail_over(copy)
    await shop.guard.engine.epochs.look()
    shop.clock.advance(shop.gateway.settle_seconds)


async def test_charge_of_a_life_after_two_that_sent_nothing_is_found() -> None:
    """All lives that are over by the record are asked about, however silent the gateway is about them. What it says is on record."""
    async with world(keyed=False) as shop:
        await lose(shop, await reject(shop))
        copy = await reject(shop)
        await lose(shop, copy)
        paid = await shop.press()
        await lose(shop, copy)
        assert (await shop.press(), len(shop.gateway.standing)) == (paid, 2)
        looks = [entry.detail["outcome"] for entry in (await shop.record()).history if entry.event == LOOK_EVENT]
        assert looks[-2:] == ["unknown", "charged"]


async def test_charge_of_such_a_life_that_was_kept_from_its_record_is_its_own() -> None:
    """A webhook tells of the charge under the earlier life's key before our own call has an answer: the order is completed."""
    async with world(keyed=True) as shop:
        copy = await reject(shop)
        await shop.fail_over(copy)
        shop.gateway.will(Does.UNKNOWN)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        paid = await lands(shop, key_of(copy, 1))
        await shop.guard.note(paid, gateway_key=key_of(copy, 1), event_id="evt")
        await shop.rest()
        assert ((await shop.record()).state, len(shop.gateway.standing)) == ("finished", 2)


async def test_gateways_no_is_believed_once_nothing_can_be_under_way() -> None:
    """It turns the same call down again when all must have shown up: the order is not charged, and no person's."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        shop.gateway.otherwise = Does.REFUSE
        with pytest.raises(PaymentDeferred):
            await shop.press()
        assert (await shop.record()).money == "unknown"
        await settled(shop)
        record = await shop.record()
        assert (record.money, record.why) == ("none", "refused: scripted")


async def test_order_whose_charge_has_no_answer_is_asked_about_soon_after_a_failover() -> None:
    """Looks come further apart with each; that many keys were asked about before is one look at each gateway."""
    async with world(FakeGateway(name="second:test"), keyed=True) as shop:
        await shop.fail_over()
        shop.gateway.will(Does.UNKNOWN)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        record = await shop.record()
        looks = [entry.detail.get("keys") for entry in record.history if entry.event == LOOK_EVENT]
        assert (looks, record.due_at is not None and record.due_at - shop.clock.now() <= 5.0) == ([6, 6, None], True)


async def test_order_in_doubt_ends_once_nothing_can_be_under_way() -> None:
    """Before an end "not found" is no proof at first; later it is, and nobody has to look into it."""
    async with world(keyed=True) as shop:
        copy = await shop.keep()
        await shop.fail_over(changed(copy, sends=(), kept=False, request=None, state=State.RUNNING, due_at=shop.clock.now()))
        await shop.rest()
        assert (await shop.record()).money == "unknown"
        await settled(shop)
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "none")


async def test_decline_is_told_once_no_later_life_can_charge() -> None:
    """The copy knows of the decline; whether another card was tried is not known at first."""
    async with world(keyed=True) as shop:
        copies = []

        async def dies(op: Any) -> None:
            with pytest.raises(PaymentDeclined):
                await op.charge(Charge(4999, "EUR", source="tok_declined"))
            copies.append(changed(op.work.operation, lease=None, due_at=shop.clock.now(), kept=True))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await shop.guard.run(dies, purpose="order", key="o1", owner="ann")
        await shop.fail_over(copies[0])
        await shop.rest()
        assert (await shop.record()).money == "unknown"
        await settled(shop)
        record = await shop.record()
        assert (record.state, record.money, record.generation) == ("finished", "declined", 1)
        assert len(shop.gateway.standing) == 1, "the first order's"


async def test_wish_to_cancel_holds_for_the_life_that_was_found() -> None:
    """It was said of the life that the copy knew; the one before it had paid, and the money goes back."""
    async with world(keyed=True) as shop:
        copy = await reject(shop)
        await lands(shop, key_of(copy, 1))
        await shop.fail_over(changed(copy, state=State.QUEUED, generation=2, why="", due_at=shop.clock.now()))
        wish = Note("cancel:2", NoteKind.CANCEL, shop.clock.now(), generation=2)
        await shop.guard.engine.operations.note(copy.id, wish)
        await shop.rest()
        record = await shop.record()
        assert (record.state, record.money) == ("cancelled", "refunded")
        assert len(shop.gateway.standing) == 1, "the first order's"


async def test_wish_to_cancel_holds_for_the_life_that_follows_a_lost_decline() -> None:
    """It comes while the gateway is asked: nothing is charged under the next life's key either."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        await shop.fail_over()

        async def cancelled_meanwhile(op: Any) -> Any:
            await shop.wish_to_cancel(op.work.operation)
            return await op.charge(Charge(4999, "EUR", source="tok_ok"))

        with pytest.raises(PaymentDeferred):
            await shop.guard.run(cancelled_meanwhile, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        assert len(shop.gateway.standing) == 1, "the first order's"


@pytest.mark.parametrize("life", [2, 3])
async def test_charge_of_a_later_life_that_lands_beside_this_one_goes_back(life: int) -> None:
    """Those before it were refused and its charge was on its way, all in the lost writes: the order looks new."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        paid = await shop.press()
        second = await lands(shop, key_of(await shop.record(), life))
        await settled(shop)
        record = await shop.record()
        assert (record.state, record.money, record.answer is not None) == ("finished", "charged", True)
        assert second.payment_id not in [payment.id for payment in shop.gateway.standing]
        assert (await shop.press(), len(shop.gateway.standing)) == (paid, 2)


@pytest.mark.parametrize("life", [1, 2])
async def test_late_charge_at_another_gateway_goes_back(life: int) -> None:
    """It was asked after the first one's refusal, in the lost writes, by this life or the next one."""
    other = FakeGateway(name="second:test")
    async with world(other, keyed=True) as shop:
        await shop.fail_over()
        await shop.press()
        there = gateway_key((await shop.record()).id, step="charge@second:test", generation=life)
        await other.charge(Charge(4999, "EUR", source="tok_ok"), key=there, timeout_seconds=1.0)
        await settled(shop)
        assert (len(shop.gateway.standing), len(other.standing)) == (2, 0)


async def test_late_payment_that_waits_for_its_shopper_is_called_off() -> None:
    """Nobody pays at the bank for what is paid."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.press()
        shop.gateway.will(Does.NEEDS_SHOPPER)
        key = key_of(await shop.record(), 2)
        await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=key, timeout_seconds=1.0)
        await settled(shop)
        assert [payment.state for payment in shop.gateway.payments if payment.key == key] == ["cancelled"]
        assert {note.generation for note in (await shop.record()).notes if note.gateway_key == key} == {2}


async def test_gateway_that_says_nothing_is_asked_for_a_late_charge_again() -> None:
    """Each five minutes, and the order's timeline is not filled with it."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.press()
        await lands(shop, key_of(await shop.record(), 2))
        shop.gateway.will_say("find", [Unknown("no answer in time")] * 6)  # the first life's two other amounts, each time
        shop.clock.advance(shop.gateway.settle_seconds)
        await shop.rest()
        lines = len((await shop.record()).history)
        for _ in range(2):
            shop.clock.advance(300.0)
            await shop.rest()
        assert (len((await shop.record()).history), len(shop.gateway.standing)) == (lines, 3)
        shop.clock.advance(300.0)
        await shop.rest()
        assert len(shop.gateway.standing) == 2


async def test_order_is_asked_about_once_for_a_late_charge() -> None:
    """Two lives without a trace end the search; nothing was under way, and it is done with."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.press()
        shop.gateway.calls.clear()
        await settled(shop)
        asked = 3 * (1 + CHANGES_LOST_MAX) - 1  # about this life and the next two, but for the key that has paid
        assert len({call.key for call in shop.gateway.calls}) == asked
        shop.gateway.calls.clear()
        await settled(shop)
        assert (shop.gateway.calls, (await shop.record()).due_at) == ([], None)


async def test_person_is_shown_the_charge_of_an_order_whose_step_has_no_end() -> None:
    """The copy was made while the step ran; what was paid after it is lost. Nobody has to ask the gateway by hand."""
    async with world(keyed=True) as shop:
        copies = []

        async def reserves(op: Any) -> dict[str, str]:
            async def reserve() -> bool:
                copies.append(await shop.record())
                return True

            await op.step("reserve", reserve)
            payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
            return {"payment": payment.payment_id}

        await shop.guard.run(reserves, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        await shop.fail_over(changed(copies[0], lease=None))
        with pytest.raises(StepUnfinished):
            await shop.guard.run(reserves, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        record = await shop.record()
        assert (record.state, record.money) == ("held", "charged")


async def test_late_charge_beside_a_cancelled_order_is_a_persons() -> None:
    """The order was charged, cancelled and paid back before the charge of a later press landed, which the store has lost."""
    async with world(keyed=True) as shop:
        await shop.fail_over()

        async def charges(op: Any) -> None:
            await op.charge(Charge(4999, "EUR", source="tok_ok"))
            await shop.wish_to_cancel(op.work.operation)
            raise RuntimeError("it could not be written")

        with pytest.raises(RuntimeError):
            await shop.guard.run(charges, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        await shop.rest()
        assert (await shop.record()).money == "refunded"
        await lands(shop, key_of(await shop.record(), 2))
        await settled(shop)
        record = await shop.record()
        assert (record.state, record.money, record.why) == ("held", "charged", "charged_after_end")


async def test_late_charge_beside_a_decline_is_a_persons() -> None:
    """Its shopper heard that the bank said no; the good card of a lost life pays after that."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        await lands(shop, key_of(await shop.record(), 2))
        await settled(shop)
        record = await shop.record()
        assert (record.state, record.money, record.why) == ("held", "charged", "charged_after_end")


async def test_earlier_life_that_one_gateway_may_still_charge_is_waited_for() -> None:
    """The first gateway declined it, the second one may have its charge under way: there the same is sent once it must have landed."""
    other = FakeGateway(name="second:test")
    async with world(other, keyed=True) as shop:
        copy = await reject(shop)
        shop.gateway.will(Does.DECLINE)
        await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=key_of(copy, 1), timeout_seconds=1.0)
        await shop.fail_over(copy)
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press()
        await settled(shop)
        assert (len(shop.gateway.standing), len(other.standing)) == (1, 1)
        assert other.standing[0].key == gateway_key(copy.id, step="charge@second:test", generation=1)
        assert (await shop.record()).money == "charged"
