"""The desk: a person acts through the one lease, never around it, and everything leaves a line."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from deskworld import ANNA, BORIS, SHOP_RULE, DeskWorld, desk_world

from cxguard.core.desk import Action, Said
from cxguard.core.money import MoneyState, Note, NoteKind, SendKind
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.core.outcomes import Charged, Declined, NotCharged, Unknown
from cxguard.engine.casefile import Actor, Became, Word
from cxguard.engine.desk import HANDS_SECONDS
from cxguard.errors import NoSuchOrder, StoreUnavailable
from cxguard.gateways.base import Charge
from cxguard.stores.base import Opened, Page, Query, Seen
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import Fault, FaultyStore

pytestmark = pytest.mark.asyncio
S, M = State, MoneyState
T = TypeVar("T")


@pytest_asyncio.fixture
async def world() -> AsyncIterator[DeskWorld]:
    async with desk_world() as made:
        yield made


# --- take in hand


async def test_taken_order_is_out_of_the_queue(world: DeskWorld) -> None:
    """What a person has in hand is not worked on by the queue, although it is due."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now())
    became = await world.desk.take_over(order.reference, ANNA)
    counts = await world.guard.queue().run_once()
    assert (became.done, became.until, counts.taken) == (True, world.clock.now() + HANDS_SECONDS, 0)


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


async def test_requeued_unknown_is_asked_about_not_charged_again(world: DeskWorld) -> None:
    """For an unknown order the queue asks the gateway first: what was charged is found, and no second charge leaves."""
    order = await world.unknown()
    await world.desk.requeue(order.reference, ANNA)
    await world.guard.queue().run_once()
    assert (await world.money(order.id), len(world.gateway.payments)) == ("charged", 1)


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


# --- say what became of a payment

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
    await world.desk.resolve(order.reference, ANNA, Word(Said.CHARGED, payment_id="pay_77"))
    after = await world.get(order.id)
    note, entry = after.notes[-1], after.history[-1]
    assert (note.source, note.text, note.outcome) == ("desk:anna", ANNA.why, Charged(4999, "EUR", payment_id="pay_77"))
    assert (entry.by, entry.event, entry.detail["reason"]) == ("desk:anna", "payment.resolved", ANNA.why)


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
    await world.desk.resolve(order.reference, ANNA, Word(Said.NOT_CHARGED))
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


@pytest.mark.parametrize("word", [Word(Said.REFUNDED), Word(Said.CHARGED, key="cxg-of-another-order")])
async def test_what_cannot_be_said_is_refused(world: DeskWorld, word: Word) -> None:
    """A word that does not fit the money, or another order's payment, changes nothing."""
    order = await world.put("k", S.HELD, world.send("k", Declined()))
    became = await world.desk.resolve(order.reference, ANNA, word)
    assert (became.done, (await world.get(order.id)).notes) == (False, ())


async def test_fact_about_an_order_that_is_not_known_is_settled_too(world: DeskWorld) -> None:
    """A stub has an id and no reference: it is found by that, and a word about its payment counts."""
    fact = Note("evt_1", NoteKind.OUTCOME, world.clock.now(), "webhook", gateway_key="cxg-x", outcome=Unknown("processing"))
    stub = await world.guard.store.note("stub-cxg-x", fact, namespace="shop")
    became = await world.desk.resolve(stub.id, ANNA, Word(Said.CHARGED, amount_minor=4999, currency="EUR"))
    assert (became.done, await world.money(stub.id)) == (True, "charged")
    assert (await world.desk.finish(stub.id, ANNA)).done


# --- close, cancel, remark


async def test_paid_order_is_closed_by_hand(world: DeskWorld) -> None:
    """Placed in the shop by a person: finished, paid, and what a re-run would have needed is erased."""
    paid = world.send("k", Charged(4999, "EUR", payment_id="p"), parcel="sealed")
    order = await world.put("k", S.HELD, paid, why="order_missing", request=b"sealed")
    became = await world.desk.finish(order.reference, ANNA)
    after = await world.get(order.id)
    assert (became.done, after.state, after.request, after.sends[0].parcel) == (True, S.FINISHED, None, None)
    assert after.keep_until is not None


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


# --- who may, and on what they saw

ACTIONS: dict[Action, Callable[[DeskWorld, str, Actor], Awaitable[Became]]] = {
    Action.TAKE: lambda world, name, actor: world.desk.take_over(name, actor),
    Action.REQUEUE: lambda world, name, actor: world.desk.requeue(name, actor),
    Action.RESOLVE: lambda world, name, actor: world.desk.resolve(name, actor, Word(Said.CHARGED)),
    Action.CANCEL: lambda world, name, actor: world.desk.cancel(name, actor),
    Action.REMARK: lambda world, name, actor: world.desk.remark(name, actor),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_reason_is_asked_for(world: DeskWorld, action: Action) -> None:
    """Without a reason nothing is done."""
    order = await world.unknown()
    became = await ACTIONS[action](world, order.reference, Actor("anna", "  "))
    assert (became.done, "Say why" in became.words) == (False, True)
    assert (await world.get(order.id)).revision == order.revision


@pytest.mark.parametrize("action", ACTIONS)
async def test_nobody_does_nothing(world: DeskWorld, action: Action) -> None:
    """An action without a name is refused."""
    order = await world.unknown()
    assert not (await ACTIONS[action](world, order.reference, Actor(" ", "why"))).done
    assert (await world.get(order.id)).revision == order.revision


@pytest.mark.parametrize("action", [action for action in ACTIONS if action is not Action.REMARK])
async def test_order_that_moved_on_is_looked_at_again(world: DeskWorld, action: Action) -> None:
    """A decision made on what is no longer so is not carried out."""
    order = await world.unknown()
    await world.desk.remark(order.reference, BORIS)
    became = await ACTIONS[action](world, order.reference, replace(ANNA, seen=order.revision))
    assert (became.done, "has changed" in became.words) == (False, True)


@pytest.mark.parametrize("action", ACTIONS)
async def test_unknown_reference(world: DeskWorld, action: Action) -> None:
    """A reference that no order has raises, and says how to find the order."""
    with pytest.raises(NoSuchOrder, match="search for"):
        await ACTIONS[action](world, "0000-0000-0000", ANNA)


async def test_order_of_another_shop_is_not_found(world: DeskWorld) -> None:
    """A desk sees the orders of its own namespace only, by reference and by id."""
    order = await world.put("k", namespace="another shop")
    assert await world.desk.find(order.reference) is None
    assert await world.desk.find(order.id) is None


@pytest.mark.parametrize("typed", ["{}", " {} ", "lower", "spaces"])
async def test_reference_is_found_as_it_is_said(world: DeskWorld, typed: str) -> None:
    """Case, blanks and dashes do not matter."""
    order = await world.put("k")
    spoken = {"lower": order.reference.lower(), "spaces": order.reference.replace("-", " ")}.get(typed, typed.format(order.reference))
    found = await world.desk.find(spoken)
    assert found is not None
    assert found.id == order.id


async def test_events_name_the_person_and_never_the_reason(world: DeskWorld) -> None:
    """Listeners hear who did it; what was typed stays in the record."""
    order = await world.put("k")
    await world.desk.take_over(order.reference, ANNA)
    await world.desk.requeue(order.reference, ANNA)
    assert world.names_heard() == ["order.taken", "order.requeued"]
    assert all(event.detail["by"] == "anna" and ANNA.why not in str(event.detail) for event in world.heard)
    assert not world.guard.bus.undeclared


# --- one of them wins


async def _agent_cancels(world: DeskWorld, reference: str) -> str:
    return "agent" if (await world.desk.cancel(reference, ANNA)).done else ""


async def _worker(world: DeskWorld, reference: str) -> str:
    return "worker" if (await world.guard.queue().run_once()).taken else ""


async def _shopper(world: DeskWorld, reference: str) -> str:
    order = await world.desk.find(reference)
    assert order is not None
    noted = await world.guard.store.note(order.id, world.shopper_cancels(order), namespace="shop")
    await world.guard.queue().attend_now(noted)
    return "shopper"


class Shuffled(MemoryStore):
    """A store whose every answer takes a few turns of the loop, by the dice: each run is another interleaving."""

    def __init__(self, *, clock: ManualClock, seed: int) -> None:
        super().__init__(clock=clock)
        self._dice = random.Random(seed)

    async def search(self, query: Query) -> Page:
        return await self._later(super().search(query))

    async def get(self, id: str) -> Operation | None:
        return await self._later(super().get(id))

    async def save(self, operation: Operation, **options: Any) -> Operation:
        return await self._later(super().save(operation, **options))

    async def seize(self, seen: Seen, **options: Any) -> Opened:
        return await self._later(super().seize(seen, **options))

    async def take(self, **options: Any) -> tuple[Operation, ...]:
        return await self._later(super().take(**options))

    async def note(self, id: str, note: Note, **options: Any) -> Operation:
        return await self._later(super().note(id, note, **options))

    async def _later(self, call: Awaitable[T]) -> T:
        await self._turns()
        answer = await call
        await self._turns()
        return answer

    async def _turns(self) -> None:
        for _ in range(self._dice.randrange(4)):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(60))
async def test_agent_worker_and_shopper_at_once(seed: int) -> None:
    """In every interleaving: one charge that stands on a paid order, or none on a cancelled one. Never both, never neither."""
    clock = ManualClock()
    async with desk_world(store=Shuffled(clock=clock, seed=seed), clock=clock) as world:
        order = await world.put("k", S.QUEUED, due_at=clock.now())
        await asyncio.gather(*(act(world, order.reference) for act in (_agent_cancels, _worker, _shopper)))
        for _ in range(3):
            clock.advance(60)
            await world.guard.queue().run_once()
        after, money = await world.get(order.id), await world.money(order.id)
        assert (after.state, money) in {(S.CANCELLED, "none"), (S.CANCELLED, "refunded"), (S.FINISHED, "charged"), (S.FINISHED, "refunded")}
        assert len(world.gateway.payments) <= 1
        assert bool(world.gateway.standing) is (money == "charged")


@pytest.mark.parametrize("seed", range(20))
async def test_two_agents_at_once(seed: int) -> None:
    """One cancels, the other puts it back, both from the same page: exactly one is told that it was done."""
    clock = ManualClock()
    async with desk_world(store=Shuffled(clock=clock, seed=seed), clock=clock) as world:
        order = await world.put("k", S.HELD, why="later_failed")
        done = await asyncio.gather(
            world.desk.cancel(order.reference, replace(ANNA, seen=order.revision)),
            world.desk.requeue(order.reference, replace(BORIS, seen=order.revision)),
        )
        assert sum(became.done for became in done) == 1


@pytest.mark.parametrize("seed", range(5))
async def test_many_agents_take_at_once(seed: int) -> None:
    """Of many who take the same order at the same moment exactly one has it."""
    clock = ManualClock()
    async with desk_world(store=Shuffled(clock=clock, seed=seed), clock=clock) as world:
        order = await world.put("k")
        takers = [Actor(f"agent {number}", "mine") for number in range(20)]
        taken = await asyncio.gather(*(world.desk.take_over(order.reference, taker) for taker in takers))
        assert sum(became.done for became in taken) == 1


async def test_hands_that_lapsed_do_not_write(world: DeskWorld) -> None:
    """A person whose time was over, and whose order a worker has now, is refused; the worker's charge stands once."""
    order = await world.put("k", S.QUEUED, due_at=world.clock.now())
    await world.desk.take_over(order.reference, ANNA)
    world.clock.advance(HANDS_SECONDS + 1)
    held = await world.guard.engine.operations.seize(await world.get(order.id), lease_seconds=30, run_seconds_max=30)
    assert held is not None
    became = await world.desk.give_back(order.reference, ANNA)
    assert not became.done
    assert (await world.get(order.id)).lease is not None


# --- a store that fails


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("verb", ["search", "seize", "save"])
async def test_store_that_does_not_answer_once(verb: str, fault: Fault) -> None:
    """Each call of the action fails once, or loses its answer: in the end it is done, once, and nothing is charged."""
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    async with desk_world(store=store, clock=clock) as world:
        order = await world.put("k", S.HELD, why="later_failed")
        store.plan(verb, fault)
        try:
            await world.desk.cancel(order.reference, ANNA)
        except StoreUnavailable:
            await world.desk.cancel(order.reference, ANNA)
        after = await world.get(order.id)
        assert (after.state, [entry.event for entry in after.history]) == (S.CANCELLED, ["order.cancelled"])
        assert not world.gateway.payments
