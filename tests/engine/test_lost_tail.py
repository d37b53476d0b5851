"""The store lost its last writes; a shopper who has paid presses again. The gateway's own ledger judges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from lostworld import World, world

from cxguard.core.lost import LOST_BACK_SECONDS
from cxguard.core.money import Note, NoteKind
from cxguard.core.names import gateway_key
from cxguard.core.operation import Move, Operation, State, changed, money_of, move
from cxguard.core.outcomes import Charged, Unknown
from cxguard.engine.casefile import Actor
from cxguard.engine.desk import Desk
from cxguard.errors import PaymentDeclined, PaymentDeferred, StoreUnavailable
from cxguard.gateways.base import Charge
from cxguard.stores.memory import MemoryStore
from cxguard.testing.fake_gateway import Does
from cxguard.testing.faulty_store import Fault

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("keyed", [True, False])
async def test_paid_order_that_was_lost_is_not_paid_again(keyed: bool) -> None:
    """With keys and without: the charge of the lost record is found, adopted, and the timeline says so."""
    async with world(keyed=keyed) as shop:
        before = await shop.press()
        await shop.fail_over()
        assert await shop.press() == before
        assert len(shop.gateway.standing) == 2, "the first order and this one"
        assert "payment.looked_for_lost" in [entry.event for entry in (await shop.record()).history]
        assert "store.began_anew" in shop.events


async def test_new_order_is_charged_once_nothing_is_found() -> None:
    """Most orders after a failover are new: each is looked up, then charged."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.press("o2")
        assert [call.verb for call in shop.gateway.calls] == [*["find"] * 6, "charge"], "two lives, of three amounts each"


async def test_order_that_paid_in_its_second_life_is_found() -> None:
    """The first card was declined, the second one paid; the record of both is lost: nothing is charged again."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        key = gateway_key((await shop.record()).id, step="charge", generation=2)
        paid = await shop.gateway.charge(Charge(4999, "EUR", source="tok_good"), key=key, timeout_seconds=1.0)
        assert isinstance(paid, Charged)
        await shop.fail_over()
        assert await shop.press() == {"payment": paid.payment_id}
        assert (await shop.record()).generation == 2
        assert len(shop.gateway.standing) == 2


async def test_declined_key_is_not_sent_again() -> None:
    """A gateway answers for a key for ever: after a decline that was lost, the good card goes out under the next life's key."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        await shop.fail_over()
        assert await shop.press()
        assert (await shop.record()).generation == 2


async def test_silent_gateway_leaves_doubt_and_no_charge() -> None:
    """Without an answer nothing is charged and nobody is told "not charged": it is unknown, and resolved like any other."""
    async with world(keyed=True) as shop:
        paid = await shop.press()
        await shop.fail_over()
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press()
        assert (await shop.record()).money == "unknown"
        shop.clock.advance(3600.0)
        await shop.guard.queue().run_once()
        assert (await shop.record()).money == "charged"
        assert len(shop.gateway.standing) == 2
        assert paid


async def test_life_that_was_over_before_anything_was_sent_is_asked_about() -> None:
    """The run before this one failed early, in an older copy of an order that had paid by then: what it says of itself is not all."""
    async with world(keyed=True) as shop:
        await shop.fail_over()

        async def fail(op: Any) -> None:
            raise RuntimeError("before it paid")

        with pytest.raises(RuntimeError):
            await shop.guard.run(fail, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        late = gateway_key((await shop.record()).id, step="charge", generation=1)
        paid = await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=late, timeout_seconds=1.0)
        assert isinstance(paid, Charged)
        assert await shop.press() == {"payment": paid.payment_id}
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_silence_about_a_later_life_does_not_move_the_key() -> None:
    """What left before the failover may still land under the first key, so the order is charged under no other one."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        shop.gateway.will_say("find", [Unknown("not_found"), Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press()
        shop.clock.advance(3600.0)
        await shop.rest()
        assert ((await shop.record()).money, (await shop.record()).generation) == ("charged", 1)
        late = gateway_key((await shop.record()).id, step="charge", generation=1)
        await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=late, timeout_seconds=1.0)
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_life_that_met_with_silence_is_asked_about_before_the_same_is_sent_again() -> None:
    """The first life ended before anything was sent, the second one paid, and the gateway says so only when asked again."""
    async with world(keyed=True) as shop:
        await shop.press()
        key = gateway_key((await shop.record()).id, step="charge", generation=2)
        shop.gateway.payments.clear()
        paid = await shop.gateway.charge(Charge(4999, "EUR", source="tok_good"), key=key, timeout_seconds=1.0)
        assert isinstance(paid, Charged)
        await shop.fail_over()
        shop.gateway.will_say("find", [Unknown("not_found"), Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press()
        for _ in range(2):  # found; and made sure that the first key charges no more
            shop.clock.advance(3600.0)
            await shop.rest()
        assert ((await shop.record()).money, (await shop.record()).generation) == ("charged", 2)
        assert [payment.id for payment in shop.gateway.standing] == [paid.payment_id]


async def test_facts_that_were_lost_come_back_with_the_save_that_folded_them() -> None:
    """The older copy knows the lease: its holder ends the order as paid, on the word of a look-up that the copy has not heard."""
    async with world(keyed=True) as shop:
        memory = cast(MemoryStore, shop.store.store)

        async def place(op: Any) -> dict[str, str]:
            copy = memory.copied()
            shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
            payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
            memory.go_back(copy)
            return {"payment": payment.payment_id}

        paid = await shop.guard.run(place, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        await shop.rest()
        assert money_of(await shop.record()).state == "charged"
        assert await shop.press() == paid


async def test_end_is_not_written_before_the_facts_that_were_lost_are_there_again() -> None:
    """The store goes away once more: then the order lapses, and is asked about. Found by a hunt, as seed 6520071."""
    async with world(keyed=True) as shop:
        memory = cast(MemoryStore, shop.store.store)

        async def place(op: Any) -> None:
            copy = memory.copied()
            shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
            await op.charge(Charge(4999, "EUR", source="tok_ok"))
            memory.go_back(copy)
            shop.store.plan("note", Fault.NOT_DONE, times=2)

        with pytest.raises(StoreUnavailable):
            await shop.guard.run(place, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)
        assert (await shop.record()).state == "running"
        shop.clock.advance(3600.0)
        await shop.rest()
        assert ((await shop.record()).state, money_of(await shop.record()).state) == ("finished", "charged")


async def test_charge_that_is_known_from_a_fact_alone_is_the_orders_own() -> None:
    """The order was kept elsewhere meanwhile, and the late answer of its lost life came first: it is completed, not refused."""
    async with world(keyed=True) as shop:
        copy = await shop.keep()
        key = gateway_key(copy.id, step="charge", generation=1)
        paid = await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=key, timeout_seconds=1.0)
        await shop.fail_over(changed(copy, sends=()))
        fact = Note("late", NoteKind.OUTCOME, shop.clock.now(), source="late answer", gateway_key=key, outcome=paid, through=1)
        await shop.guard.engine.operations.note(copy.id, fact)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("finished", "charged")
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_without_keys_a_fresh_not_found_is_not_believed() -> None:
    """What left right before the failover may still land: without keys at the gateway, that is waited for."""
    async with world(keyed=False) as shop:
        await shop.fail_over()
        with pytest.raises(PaymentDeferred):
            await shop.press("o2")
        assert shop.gateway.count("charge") == 0
        shop.clock.advance(shop.gateway.settle_seconds + 1.0)
        assert await shop.press("o3")


async def test_search_for_lost_orders_ends() -> None:
    """When no lost order can come back any more, nobody is asked first."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.press("o2")
        shop.clock.advance(LOST_BACK_SECONDS)
        shop.gateway.calls.clear()
        await shop.press("o3")
        assert [call.verb for call in shop.gateway.calls] == ["charge"]


async def test_another_process_knows_of_the_change() -> None:
    """A process that starts after the failover has seen no other epoch: the small value tells it."""
    async with world(keyed=True) as shop:
        await shop.press()
        await shop.fail_over()
        later = World(shop.gateway)
        later.store.store = shop.store.store
        async with later.guard:
            await later.press()
    assert len(shop.gateway.standing) == 2


# --- a copy is left that is older than what happened


async def kept_and_paid(shop: World) -> Operation:
    """A kept order that was placed and paid. The copy from before that."""
    copy = await shop.keep()
    shop.clock.advance(120.0)
    await shop.rest()
    assert (await shop.record()).money == "charged"
    return copy


async def test_paid_order_whose_copy_still_waits_is_not_cancelled_as_unpaid() -> None:
    """Cancelled after the failover: the gateway is asked before anybody hears "not charged", and the money goes back."""
    async with world(keyed=True) as shop:
        copy = await kept_and_paid(shop)
        await shop.fail_over(copy)
        await shop.wish_to_cancel(copy)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "refunded")
        assert len(shop.gateway.standing) == 1, "the first order's"


async def test_person_who_cancels_a_copy_asks_for_it() -> None:
    """The desk cannot end at once what may be paid: the queue asks the gateway first, and gives the money back."""
    async with world(keyed=True) as shop:
        copy = await kept_and_paid(shop)
        await shop.fail_over(copy)
        desk = Desk(shop.guard.engine, rules={}, purposes=shop.guard.purposes)
        assert (await desk.look(copy.reference, name="anna")).doubted, "nobody is told on the telephone that it is not charged"
        became = await desk.cancel(copy.reference, Actor("anna", "the shopper called"))
        assert (became.done, became.operation.state) == (True, "queued")
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "refunded")


async def test_paid_order_whose_copy_is_over_is_completed() -> None:
    """The copy's own end came, and the gateway knows of a charge: the order is not given up."""
    async with world(keyed=True) as shop:
        copy = await kept_and_paid(shop)
        await shop.fail_over(copy)
        shop.clock.advance(LOST_BACK_SECONDS + 3600.0)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("finished", "charged")
        assert len(shop.gateway.standing) == 2


async def test_unpaid_copy_is_cancelled_once_the_gateway_knows_of_nothing() -> None:
    """What may be on its way under its key is called off first; then the order ends as it would have."""
    async with world(keyed=True) as shop:
        copy = await shop.keep()
        await shop.fail_over(copy)
        await shop.wish_to_cancel(copy)
        shop.gateway.calls.clear()
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "none")
        assert not (await Desk(shop.guard.engine, rules={}, purposes=shop.guard.purposes).look(copy.reference, name="anna")).doubted
        called_off = {call.key for call in shop.gateway.calls if call.verb == "cancel"}
        assert called_off == {gateway_key(copy.id, step="charge", generation=life) for life in (1, 2)}, "the next one may have sent"


async def test_copy_is_not_cancelled_while_the_gateway_says_nothing() -> None:
    """No answer is no proof: the order waits, is unknown, and ends when the gateway has spoken."""
    async with world(keyed=True) as shop:
        copy = await kept_and_paid(shop)
        await shop.fail_over(copy)
        await shop.wish_to_cancel(copy)
        shop.gateway.will_say("find", [Unknown("no answer in time")] * 2)
        shop.gateway.will_say("cancel", [Unknown("no answer in time")] * 2)
        await shop.guard.queue().run_once()
        assert (await shop.record()).money == "unknown"
        for _ in range(4):
            shop.clock.advance(3600.0)
            await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "refunded")


async def test_not_found_is_no_end_while_a_lost_charge_may_be_on_its_way() -> None:
    """Keys are no help before an end: the next press has another one, and the late charge would be a second one."""
    async with world(keyed=True) as shop:
        copy = await shop.keep()
        await shop.fail_over(changed(copy, sends=(), kept=False, request=None, state=State.RUNNING, due_at=shop.clock.now()))
        await shop.guard.queue().run_once()
        assert (await shop.record()).money == "unknown"


async def test_silence_about_the_key_of_a_changed_basket_does_not_move_the_key() -> None:
    """A kept order may have charged under another key, after its basket was changed; what may still land under the first one
    is charged under no other."""
    async with world(keyed=True) as shop:
        copy = await shop.keep()
        await shop.fail_over(changed(copy, sends=(), request=b"sealed"))
        await shop.wish_to_cancel(copy)
        shop.gateway.will_say("find", [Unknown("not_found"), Unknown("no answer in time")])
        shop.gateway.will_say("cancel", [Unknown("no answer in time")])
        await shop.guard.queue().run_once()
        assert [send.key for send in (await shop.record()).sends] == [gateway_key(copy.id, step="charge", generation=1)]


async def test_run_that_died_after_a_lost_charge_is_not_let_go() -> None:
    """The copy says that nothing was sent; its process is dead, and so is the line that it wrote before it charged."""
    async with world(keyed=True) as shop:
        copies = []

        async def dies(op: Any) -> None:
            copies.append(await shop.record())
            await op.charge(Charge(4999, "EUR", source="tok_ok"))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await shop.guard.run(dies, purpose="order", key="o1", owner="ann")
        await shop.fail_over(changed(copies[0], lease=None, due_at=shop.clock.now(), kept=False))
        await shop.rest()
        found = await shop.record()
        assert (found.money, [(send.amount_minor, send.currency) for send in found.sends]) == ("charged", [(4999, "EUR")])


async def test_decline_that_a_lost_card_followed_is_not_told() -> None:
    """The copy knows of the decline only; the other card paid: the order is not finished as declined."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
        copies = []

        async def dies(op: Any) -> None:
            with pytest.raises(PaymentDeclined):
                await op.charge(Charge(4999, "EUR", source="tok_declined"))
            copies.append(changed(op.work.operation, lease=None, due_at=shop.clock.now()))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await shop.guard.run(dies, purpose="order", key="o1", owner="ann")
        key = gateway_key(copies[0].id, step="charge", generation=2)
        await shop.gateway.charge(Charge(4999, "EUR", source="tok_good"), key=key, timeout_seconds=1.0)
        await shop.fail_over(copies[0])
        await shop.rest()
        assert (await shop.record()).money == "charged"


async def test_decline_of_a_lost_life_is_not_told_of_this_one() -> None:
    """After a lost decline the next card could not be sent: that is an outage, and nobody's bank said no."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.DECLINE, *[Does.NOT_CHARGED] * 3)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        await shop.fail_over()
        await shop.guard.engine.epochs.look()
        shop.clock.advance(shop.gateway.settle_seconds)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        assert ((await shop.record()).state, (await shop.record()).money) == ("queued", "none")


async def test_clock_that_runs_ahead_does_not_hide_a_lost_life() -> None:
    """Without keys: the decline was stamped by a clock minutes ahead of the one that noticed the failover."""
    async with world(keyed=False, settle_seconds=0.0) as shop:
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        declined = await shop.record()
        ahead = tuple(replace(send, sent_at=send.sent_at + 300.0) for send in declined.sends)
        key = gateway_key(declined.id, step="charge", generation=2)
        await shop.gateway.charge(Charge(4999, "EUR", source="tok_good"), key=key, timeout_seconds=1.0)
        copy = move(changed(declined, sends=ahead, answer=None, answered_at=None), Move.REOPEN)
        await shop.fail_over(changed(copy, due_at=shop.clock.now(), kept=True))
        await shop.rest()
        assert len(shop.gateway.standing) == 2
        assert (await shop.record()).money == "charged"
