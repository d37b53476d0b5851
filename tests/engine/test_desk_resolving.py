"""A person says what became of a payment: the word becomes a fact, and the order goes on from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deskworld import ANNA, SHOP_RULE, DeskWorld

from cxguard.core.desk import Said
from cxguard.core.money import Note, NoteKind, SendKind
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import Charged, Declined, NotCharged, Unknown
from cxguard.engine.casefile import Word
from cxguard.gateways.base import Charge

pytestmark = pytest.mark.asyncio
S = State

WORDS = [
    (Said.CHARGED, "charged", S.FINISHED),
    (Said.DECLINED, "declined", S.FINISHED),
    (Said.NOT_CHARGED, "none", S.HELD),
    (Said.REFUNDED, "refunded", S.CANCELLED),
]


@pytest.mark.parametrize(("said", "money", "state"), WORDS)
async def test_word_becomes_a_fact_and_the_queue_goes_on(world: DeskWorld, said: Said, money: str, state: State) -> None:
    """Each word settles the payment, and the order comes to the end that follows from it."""
    order = await world.unknown(charged=False)
    became = await world.desk.resolve(order.reference, ANNA, Word(said, payment_id="pay_77"))
    await world.guard.queue().run_once()
    after = await world.get(order.id)
    assert (became.done, await world.money(order.id), after.state) == (True, money, state)


async def test_word_is_kept_with_who_why_and_proof(world: DeskWorld) -> None:
    """The fact names the person, the reason and the gateway's number; the history has the line, too."""
    order = await world.unknown()
    became = await world.desk.resolve(order.reference, ANNA, Word(Said.CHARGED, payment_id="pay_77"))
    assert became.words == "It is on record as charged. The queue goes on from there."
    after = await world.get(order.id)
    note, entry = after.notes[-1], after.history[-1]
    assert (note.source, note.text, note.outcome) == ("desk:anna", ANNA.why, Charged(4999, "EUR", payment_id="pay_77"))
    assert (entry.by, entry.event, entry.detail) == ("desk:anna", "payment.resolved", {"reason": ANNA.why, "outcome": "charged"})


async def test_word_said_twice_is_one_fact(world: DeskWorld) -> None:
    """A double click, or a second person who says the same, adds nothing."""
    order = await world.unknown()
    word = Word(Said.CHARGED, payment_id="pay_77")
    await world.desk.resolve(order.reference, ANNA, word)
    second = await world.desk.resolve(order.reference, ANNA, word)
    after = await world.get(order.id)
    assert (second.done, len(after.notes)) == (False, 1)


async def test_word_covers_only_the_sends_made_so_far(world: DeskWorld) -> None:
    """ "Not charged" says nothing about a send that leaves later."""
    order = await world.unknown(charged=False)
    await world.desk.resolve(order.reference, ANNA, Word(Said.NOT_CHARGED))
    assert (await world.get(order.id)).notes[-1].through == 1


async def test_surely_not_charged_waits_for_a_decision(world: DeskWorld) -> None:
    """After "not charged" the order is not charged anew by itself: a person puts it back, or cancels."""
    order = await world.unknown(charged=False)
    became = await world.desk.resolve(order.reference, ANNA, Word(Said.NOT_CHARGED))
    assert became.words == "It is on record that nothing was charged. Put it back into the queue, or cancel it."
    await world.guard.queue().run_once()
    after = await world.get(order.id)
    assert (after.state, after.waiting_for, after.why, world.gateway.payments) == (S.HELD, WaitingFor.AGENT, "not_charged", [])


async def test_not_charged_after_a_wish_to_cancel_ends_it(world: DeskWorld) -> None:
    """Where cancelling was asked for, "not charged" is all that was missing."""
    order = await world.unknown(charged=False)
    await world.desk.cancel(order.reference, ANNA)
    await world.desk.resolve(order.reference, ANNA, Word(Said.NOT_CHARGED))
    await world.guard.queue().run_once()
    assert (await world.get(order.id)).state is S.CANCELLED


async def test_charge_that_surfaced_on_a_cancelled_order_goes_back(world: DeskWorld) -> None:
    """A person finds a charge at the gateway for an order that was cancelled: it is refunded once, unasked."""
    order = await world.unknown(state=S.CANCELLED)
    line = replace(order.sends[0], outcome=NotCharged("refused"))
    other = await world.put("c", S.CANCELLED, replace(line, key="cxg-other"))
    await world.gateway.charge(Charge(4999, "EUR", "tok_1"), key="cxg-other", timeout_seconds=1)
    payment = world.gateway.payments[-1]
    await world.desk.resolve(other.reference, ANNA, Word(Said.CHARGED, payment_id=payment.id))
    await world.guard.queue().run_once()
    assert await world.money(other.id) == "refunded"
    assert world.gateway.count("refund") == 1


async def test_refund_by_hand_ends_a_paid_order_of_the_shop(world: DeskWorld) -> None:
    """Where only a person can give money back, saying so is what ends the order."""
    paid = world.send("k", Charged(4999, "EUR", payment_id="p"), gateway="shop", keyed=False)
    order = await world.put("k", S.HELD, paid, rule=SHOP_RULE, charged_by="shop", why="refund_due")
    await world.desk.cancel(order.reference, ANNA)
    await world.guard.queue().run_once()
    became = await world.desk.resolve(order.reference, ANNA, Word(Said.REFUNDED, payment_id="re_1"))
    await world.guard.queue().run_once()
    after = await world.get(order.id)
    assert (became.done, after.state, await world.money(order.id)) == (True, S.CANCELLED, "refunded")
    assert became.words == "It is on record that the money went back."


async def test_refund_by_hand_in_parts_comes_to_an_end(world: DeskWorld) -> None:
    """A part first, with its figure; then, without one, everything: no charge stands."""
    order = await world.put("k", S.HELD, world.send("k", Charged(4999, "EUR", payment_id="p")), why="order_missing")
    await world.desk.resolve(order.reference, ANNA, Word(Said.REFUNDED, payment_id="re_1", amount_minor=1000))
    assert (await world.get(order.id)).refunded_minor == 1000
    await world.desk.resolve(order.reference, ANNA, Word(Said.REFUNDED, payment_id="re_2"))
    assert ((await world.get(order.id)).refunded_minor, await world.money(order.id)) == (4999, "refunded")


@pytest.mark.parametrize(("action", "told", "standing"), [("finish", S.FINISHED, 1), ("requeue", S.CANCELLED, 0)])
async def test_wish_that_came_after_the_end_is_a_persons_to_decide(world: DeskWorld, action: str, told: State, standing: int) -> None:
    """The goods may be sent: no webhook gives the money back. A person says that it stands, or that it goes back."""
    line = world.send("k", Unknown("?"))
    charged = await world.gateway.charge(Charge(4999, "EUR", "tok_1"), key=line.key, timeout_seconds=1)
    order = await world.put("k", S.FINISHED, replace(line, outcome=charged), answered_at=world.clock.now())
    world.clock.advance(1.0)
    webhook = Note("evt_1", NoteKind.OUTCOME, world.clock.now(), "webhook", gateway_key=line.key, outcome=charged)
    for note in (world.shopper_cancels(order), webhook):
        await world.guard.store.note(order.id, note, namespace="shop")
        await world.guard.queue().run_once()
    held = await world.get(order.id)
    assert (held.state, held.why, len(world.gateway.standing)) == (S.HELD, "cancel_asked", 1)
    assert (await getattr(world.desk, action)(order.reference, ANNA)).done
    await world.guard.store.note(order.id, replace(webhook, event_id="evt_2"), namespace="shop")
    await world.guard.queue().run_once()
    assert ((await world.get(order.id)).state, len(world.gateway.standing)) == (told, standing)


async def test_refund_without_an_answer_is_settled_by_a_word(world: DeskWorld) -> None:
    """A refund of ours that never answered: "the money went back" is about that refund."""
    charged = world.send("k", Charged(4999, "EUR", payment_id="p"))
    refund = world.send("k", Unknown("?"), number=2, kind=SendKind.REFUND, of=charged.key)
    order = await world.put("k", S.HELD, charged, refund, why="refund_unknown")
    await world.desk.resolve(order.reference, ANNA, Word(Said.REFUNDED, payment_id="re_1"))
    assert await world.money(order.id) == "refunded"


async def test_another_amount_than_asked_may_be_told(world: DeskWorld) -> None:
    """The gateway shows another amount: a person can say which; it is kept as said."""
    order = await world.unknown()
    await world.desk.resolve(order.reference, ANNA, Word(Said.CHARGED, amount_minor=5999, currency="EUR"))
    assert (await world.get(order.id)).captured_minor == 5999


async def test_amount_that_nobody_knows_has_to_be_said(world: DeskWorld) -> None:
    """A charge without an amount on record is not made up."""
    order = await world.put("k", S.HELD, world.send("k", Unknown("?"), amount_minor=None, currency=None), amount_minor=None, currency=None)
    became = await world.desk.resolve(order.reference, ANNA, Word(Said.CHARGED))
    assert (became.done, "say the amount" in became.words, await world.money(order.id)) == (False, True, "unknown")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (Word(Said.REFUNDED), "That cannot be said of its payment as it stands: look again."),
        (Word(Said.CHARGED, key="cxg-of-another-order"), "This order has no such payment: choose one of those on the page."),
    ],
)
async def test_what_cannot_be_said_is_refused(world: DeskWorld, word: Word, says: str) -> None:
    """A word that does not fit the money, or another order's payment, changes nothing."""
    order = await world.put("k", S.HELD, world.send("k", Declined()))
    became = await world.desk.resolve(order.reference, ANNA, word)
    assert (became.done, became.words, (await world.get(order.id)).notes) == (False, says, ())


async def test_charge_of_an_order_that_is_not_known_is_given_back_in_its_own_currency(world: DeskWorld) -> None:
    """Whoever says so need not type what the webhook has told."""
    fact = Note("evt_1", NoteKind.OUTCOME, world.clock.now(), "webhook", gateway_key="cxg-x", outcome=Charged(4999, "EUR", "pay_1"))
    stub = await world.guard.store.note("stub-cxg-x", fact, namespace="shop")
    became = await world.desk.resolve(stub.id, ANNA, Word(Said.REFUNDED))
    assert (became.done, await world.money(stub.id)) == (True, "refunded")


async def test_fact_about_an_order_that_is_not_known_is_settled_too(world: DeskWorld) -> None:
    """A stub has an id and no reference: it is found by that, and a word about its payment counts."""
    fact = Note("evt_1", NoteKind.OUTCOME, world.clock.now(), "webhook", gateway_key="cxg-x", outcome=Unknown("processing"))
    stub = await world.guard.store.note("stub-cxg-x", fact, namespace="shop")
    became = await world.desk.resolve(stub.id, ANNA, Word(Said.CHARGED, amount_minor=4999, currency="EUR"))
    assert (became.done, await world.money(stub.id)) == (True, "charged")
    assert (await world.desk.finish(stub.id, ANNA)).done
