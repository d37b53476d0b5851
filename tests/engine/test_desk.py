"""The desk: a person acts through the one lease, never around it, and everything leaves a line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deskworld import ANNA, BORIS, SHOP_RULE, DeskWorld

from cxguard.core.consent import OVER_CONSENT, Consent
from cxguard.core.desk import WHY_UNPAID, Said
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.names import reference_of
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import Charged, NeedsShopper, Unknown
from cxguard.engine.casefile import Actor, Word
from cxguard.engine.desk import HANDS_SECONDS

pytestmark = pytest.mark.asyncio
S, M = State, MoneyState


async def test_taken_order_is_out_of_the_queue(world: DeskWorld) -> None:
    """What a person has in hand is not worked on by the queue, although it is due."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now())
    became = await world.desk.take_over(order.reference, ANNA)
    counts = await world.guard.queue().run_once()
    assert (became.done, became.until, counts.taken) == (True, world.clock.now() + HANDS_SECONDS, 0)
    assert "for 15 minutes" in became.words


async def test_hands_lapse(world: DeskWorld) -> None:
    """Whoever walks away holds an order for a quarter of an hour, not for ever."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now())
    await world.desk.take_over(order.reference, ANNA)
    world.clock.advance(HANDS_SECONDS + 1)
    assert (await world.guard.queue().run_once()).ended == 1
    assert len(world.gateway.standing) == 1


async def test_taking_again_begins_the_time_anew(world: DeskWorld) -> None:
    """The same person takes it again, and has it for as long as at first."""
    order = await world.put("k")
    await world.desk.take_over(order.reference, ANNA)
    world.clock.advance(600)
    became = await world.desk.take_over(order.reference, ANNA)
    assert became.until == world.clock.now() + HANDS_SECONDS


async def test_live_lease_of_another_is_not_broken(world: DeskWorld) -> None:
    """Another person, or a worker: taking is refused, with the time until when they have it."""
    order = await world.put("k")
    first = await world.desk.take_over(order.reference, ANNA)
    second = await world.desk.take_over(order.reference, BORIS)
    assert (second.done, second.until) == (False, first.until)
    assert "working on it" in second.words
    lease = (await world.get(order.id)).lease
    assert lease is not None
    assert lease.holder == "desk:anna"


async def test_giving_back_lets_the_queue_go_on(world: DeskWorld) -> None:
    """An order that is given back unchanged is due as before."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now())
    await world.desk.take_over(order.reference, ANNA)
    became = await world.desk.give_back(order.reference, replace(ANNA, why=""))
    assert became.done
    assert (await world.guard.queue().run_once()).taken == 1


async def test_wish_of_the_shopper_survives_the_hands(world: DeskWorld) -> None:
    """A cancel that came while a person had the order is seen to as soon as it is given back."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now() + 60)
    await world.desk.take_over(order.reference, ANNA)
    await world.guard.store.note(order.id, world.shopper_cancels(order), namespace="shop")
    await world.desk.give_back(order.reference, ANNA)
    await world.guard.queue().run_once()
    assert (await world.get(order.id)).state is S.CANCELLED


# --- put back


async def test_requeued_order_is_placed_next(world: DeskWorld) -> None:
    """A held order goes back, and the queue charges and places it once."""
    order = await world.put("k", why="later_failed", attempts=7)
    became = await world.desk.requeue(order.reference, ANNA)
    await world.guard.queue().run_once()
    after = await world.get(order.id)
    assert (became.done, after.state, after.money, len(world.gateway.standing)) == (True, S.FINISHED, M.CHARGED, 1)


async def test_order_that_costs_more_than_its_shopper_agreed_to_is_not_charged(world: DeskWorld) -> None:
    """They are asked first, also where a person has put it back."""
    now = world.clock.now()
    agreed = Consent("2026-11", at=now, until=now + 86_400.0, ceiling_minor=4000, currency="EUR")
    order = await world.put("k", why="later_failed", consent=agreed)
    await world.desk.requeue(order.reference, ANNA)
    await world.guard.queue().run_once()
    after = await world.get(order.id)
    assert (after.state, after.waiting_for, after.why, world.gateway.calls) == (S.HELD, WaitingFor.SHOPPER, OVER_CONSENT, [])


async def test_requeued_unknown_is_asked_about_not_charged_again(world: DeskWorld) -> None:
    """For an unknown order the queue asks the gateway first: what was charged is found, and no second charge leaves."""
    order = await world.unknown()
    await world.desk.requeue(order.reference, ANNA)
    await world.guard.queue().run_once()
    assert (await world.money(order.id), len(world.gateway.payments)) == ("charged", 1)


async def test_held_order_of_which_the_gateway_says_nothing_is_asked_about_again_later(world: DeskWorld) -> None:
    """Not at once, and again and again: nothing has happened."""
    order = await world.unknown(charged=False, due_at=world.clock.now())
    world.gateway.will_say("find", [Unknown("no answer in time")] * 3)
    assert (await world.guard.queue().run_once()).held == 1
    after = await world.get(order.id)
    assert (after.why, after.due_at is not None and after.due_at > world.clock.now()) == ("charge_unknown", True)


async def test_paid_order_without_a_way_to_place_it_is_not_requeued(world: DeskWorld) -> None:
    """Where nothing can place it, the reason says to do it in the shop; nothing is written."""
    paid = world.send("k", Charged(4999, "EUR", payment_id="p"), gateway="shop")
    order = await world.put("k", S.HELD, paid, rule=SHOP_RULE, charged_by="shop", why="order_missing")
    became = await world.desk.requeue(order.reference, ANNA)
    assert not became.done
    assert "place it in the shop" in became.words
    assert (await world.get(order.id)).revision == order.revision


async def test_order_of_a_rule_that_is_gone_can_still_be_ended(world: DeskWorld) -> None:
    """No worker takes records of an unknown rule: a person can cancel them all the same."""
    order = await world.put("k", rule="a rule of last year")
    assert not (await world.desk.requeue(order.reference, ANNA)).done
    assert (await world.desk.cancel(order.reference, ANNA)).done
    assert (await world.get(order.id)).state is S.CANCELLED


async def test_doubt_about_a_rule_that_is_gone_is_not_requeued(world: DeskWorld) -> None:
    """The gateway could be asked, but no worker would take the order up to do so: it stays with the person."""
    order = await world.unknown(rule="a rule of last year")
    became = await world.desk.requeue(order.reference, ANNA)
    assert (became.done, "say what became of it" in became.words) == (False, True)


async def test_facts_alone_go_neither_into_the_queue_nor_away(world: DeskWorld) -> None:
    """Of a payment without an order a person says what became of it; then it can be ended. Found by a hunt, as seed 2044334."""
    fact = Note("e", NoteKind.OUTCOME, world.clock.now(), gateway_key="k", outcome=NeedsShopper("one more step"))
    id = world.id_of("lost")
    await world.guard.store.note(id, fact, namespace="shop")
    assert not (await world.desk.requeue(reference_of(id), ANNA)).done
    assert not (await world.desk.cancel(reference_of(id), ANNA)).done
    await world.desk.resolve(reference_of(id), ANNA, Word(Said.NOT_CHARGED))
    assert (await world.desk.cancel(reference_of(id), ANNA)).done
    assert (await world.get(id)).state is S.CANCELLED


# --- close, cancel, remark


async def test_paid_order_is_closed_by_hand(world: DeskWorld) -> None:
    """Placed in the shop by a person: finished, paid, and what a re-run would have needed is erased."""
    paid = world.send("k", Charged(4999, "EUR", payment_id="p"), parcel="sealed")
    order = await world.put("k", S.HELD, paid, why="order_missing", request=b"sealed")
    became = await world.desk.finish(order.reference, ANNA)
    after = await world.get(order.id)
    assert (became.done, after.state, after.request, after.sends[0].parcel) == (True, S.FINISHED, None, None)
    assert after.keep_until is not None


async def test_order_that_is_closed_by_hand_without_a_charge_says_so(world: DeskWorld) -> None:
    """On invoice, say: its timeline has what was known of the money, and one that was paid only the reason."""
    unpaid = await world.put("k", S.HELD, why=WHY_UNPAID)
    paid = await world.put("l", S.HELD, world.send("l", Charged(4999, "EUR", payment_id="p")), why="order_missing")
    for order in (unpaid, paid):
        assert (await world.desk.finish(order.reference, ANNA)).done
    lines = [dict((await world.get(order.id)).history[-1].detail) for order in (unpaid, paid)]
    assert lines == [{"reason": ANNA.why, "before": WHY_UNPAID, "money": "none"}, {"reason": ANNA.why, "before": "order_missing"}]


@pytest.mark.parametrize("state", [S.QUEUED, S.HELD])
async def test_uncharged_order_is_cancelled_at_once(world: DeskWorld, state: State) -> None:
    """Nothing is charged: it ends in this very step, and the queue has nothing left to do."""
    order = await world.put("k", state, due_at=world.clock.now(), request=b"sealed")
    became = await world.desk.cancel(order.reference, ANNA)
    after = await world.get(order.id)
    assert (became.done, after.state, after.why, after.request) == (True, S.CANCELLED, "cancelled_by_hand", None)
    assert (await world.guard.queue().run_once()).taken == 0


async def test_unknown_order_is_found_out_before_it_ends(world: DeskWorld) -> None:
    """A charged order under an unknown: cancelling asks, the queue finds the charge and gives it back, once."""
    order = await world.unknown()
    became = await world.desk.cancel(order.reference, ANNA)
    assert (became.done, await world.money(order.id)) == (True, "unknown")
    await world.guard.queue().run_once()
    assert ((await world.get(order.id)).state, await world.money(order.id)) == (S.CANCELLED, "refunded")
    assert not world.gateway.standing


async def test_asking_lets_go_of_ones_own_hands(world: DeskWorld) -> None:
    """Whoever has the order in hand and asks for its end does not stand in the queue's way."""
    order = await world.unknown()
    await world.desk.take_over(order.reference, ANNA)
    await world.desk.cancel(order.reference, ANNA)
    assert (await world.guard.queue().run_once()).taken == 1


async def test_running_order_is_asked_to_stop(world: DeskWorld) -> None:
    """While a request works on it, cancelling is a wish on record; the lease stays where it is."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now())
    held = await world.guard.engine.operations.seize(order, lease_seconds=30, run_seconds_max=30)
    assert held is not None
    became = await world.desk.cancel(order.reference, ANNA)
    after = await world.get(order.id)
    assert (became.done, became.until, after.cancel_asked) == (True, world.clock.now() + 30, True)
    assert after.lease is not None
    assert after.lease.token == held[1].token


async def test_finished_and_paid_is_not_cancelled(world: DeskWorld) -> None:
    """A placed order is refunded at the gateway, not ended behind the shop's back."""
    order = await world.put("k", S.FINISHED, world.send("k", Charged(4999, "EUR", payment_id="p")))
    became = await world.desk.cancel(order.reference, ANNA)
    assert (became.done, (await world.get(order.id)).cancel_asked) == (False, False)


async def test_remark_needs_no_lease(world: DeskWorld) -> None:
    """A line can be left on an order that somebody else works on."""
    order = await world.put("k")
    await world.desk.take_over(order.reference, BORIS)
    became = await world.desk.remark(order.reference, Actor("anna", "called back, no answer"))
    note = (await world.get(order.id)).notes[-1]
    assert (became.done, note.kind, note.source, note.text) == (True, NoteKind.REMARK, "desk:anna", "called back, no answer")


async def test_card_numbers_and_addresses_are_blotted_out(world: DeskWorld) -> None:
    """What a person types by mistake is never kept."""
    order = await world.put("k")
    await world.desk.remark(order.reference, Actor("anna", "card 4111 1111 1111 1111 of ann@shop.example"))
    text = (await world.get(order.id)).notes[-1].text
    assert "4111" not in text
    assert "ann@" not in text
