"""A refund that was told of as made, and days later as failed: nobody is told that the money went back."""

from __future__ import annotations

import itertools

import pytest
from tillworld import TAKE, Till, till

from cxguard.core.breaker_policy import BreakerPolicy
from cxguard.core.money import MoneyState, Note, NoteKind, SendKind
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import NotCharged, Outcome, Refunded, Unknown
from cxguard.core.resolve import LOOKS_MAX
from cxguard.engine.reconciling import Reconciled, reconcile
from cxguard.errors import PaymentDeferred, PaymentRefused
from cxguard.events import Event
from cxguard.testing.fake_gateway import FakeGateway

pytestmark = pytest.mark.asyncio

FAILED = NotCharged("refund failed")


async def refunded(shop: Till, amount_minor: int | None = None) -> str:
    """The gateway key of a refund that was told of as made."""
    await shop.paid(TAKE)
    async with shop.guard.resume(reference=shop.reference) as op:
        await op.refund(amount_minor)
    return (await shop.record()).sends[-1].key


async def look(shop: Till) -> Reconciled:
    shop.clock.advance(3_600.0)
    now = shop.clock.now()
    return await reconcile(shop.guard.engine, shop.gateway, since=now - 86_400.0, until=now)


@pytest.mark.parametrize("amount_minor", [None, 1000])
async def test_a_refund_that_fails_later_is_on_a_persons_desk(amount_minor: int | None) -> None:
    """The money is with the shop again, and says so: also where only a part of it went back."""
    async with till() as shop:
        key = await refunded(shop, amount_minor)
        await shop.guard.note(FAILED, event_id="evt_failed", gateway_key=key)
        await shop.settle()
        money, record = await shop.money(), await shop.record()
        assert (money.state, money.refunded_minor) == (MoneyState.CHARGED, 0)
        assert (record.state, record.waiting_for) == (State.HELD, WaitingFor.AGENT)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_words_about_it_may_come_in_any_order(order: tuple[int, ...]) -> None:
    """Made, the sum of the charge, failed: webhooks of one moment, twice each, end the same."""
    async with till() as shop:
        key = await refunded(shop)
        charge = (await shop.record()).sends[0].key
        facts: list[tuple[str, Outcome]] = [(key, Refunded(5000, "EUR")), (charge, Refunded(5000, "EUR")), (key, FAILED)]
        at = shop.clock.now()
        for number in (*order, *order):
            name, outcome = facts[number]
            heard = at + (number == 2)  # the failure is the news of another day
            note = Note(f"evt_{number}", NoteKind.OUTCOME, heard, gateway_key=name, outcome=outcome, through=2 if number == 2 else None)
            await shop.guard.engine.operations.note((await shop.record()).id, note)
        assert (await shop.money()).state is MoneyState.CHARGED


@pytest.mark.parametrize("order", list(itertools.permutations(range(2))))
async def test_a_refund_that_was_under_way_and_fails_did_not_go_back(order: tuple[int, ...]) -> None:
    """A gateway counts it in the sum of the charge at once: nobody is told that the money went back, and a person hears of it."""
    async with till() as shop:
        await shop.paid(TAKE)
        shop.gateway.will_say("refund", [Unknown("processing")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await op.refund()
        charge, refund = [send.key for send in (await shop.record()).sends]
        facts: list[tuple[str, Outcome]] = [(charge, Refunded(5000, "EUR")), (refund, FAILED)]
        at = shop.clock.now()
        for number in (*order, *order):
            name, outcome = facts[number]
            heard = at + number  # the failure is the news of another day
            note = Note(f"evt_{number}", NoteKind.OUTCOME, heard, gateway_key=name, outcome=outcome)
            await shop.guard.store.note((await shop.record()).id, note, namespace="shop")
        shop.clock.advance(10.0)
        await shop.guard.queue().run_once()
        money, record = await shop.money(), await shop.record()
        assert (money.state, money.refunded_minor, record.why) == (MoneyState.CHARGED, 0, "refund_failed")


async def test_the_same_step_is_not_sent_again_under_its_old_key() -> None:
    """The gateway would repeat that it was made; under a name of its own the next refund is one."""
    async with till() as shop:
        key = await refunded(shop)
        await shop.guard.note(FAILED, event_id="evt_failed", gateway_key=key)
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentRefused, match="step name of its own"):
                await op.refund()
            assert shop.gateway.count("refund") == 1
            shop.gateway.will_say("refund", [Refunded(5000, "EUR", "re_2")])
            await op.refund(step="to the new account")
        assert (await shop.money()).state is MoneyState.REFUNDED


async def test_what_a_person_gave_back_by_another_way_counts() -> None:
    """A word about the charge that comes after the failure."""
    async with till() as shop:
        key = await refunded(shop)
        await shop.guard.note(FAILED, event_id="evt_failed", gateway_key=key)
        shop.clock.advance(60.0)
        await shop.guard.note(Refunded(5000, "EUR"), event_id="by transfer", reference=shop.reference)
        assert (await shop.money()).state is MoneyState.REFUNDED


async def test_a_cancelled_order_is_not_given_back_under_the_same_key_again() -> None:
    """Its refund came back from the bank: a person finds another way."""
    async with till() as shop:
        await shop.paid(TAKE)
        record = await shop.record()
        wish = Note("wish", NoteKind.CANCEL, record.answered_at or 0.0, generation=record.generation)
        await shop.guard.engine.operations.note(record.id, wish)
        await shop.settle()
        assert (await shop.money()).state is MoneyState.REFUNDED
        await shop.guard.note(FAILED, event_id="evt_failed", gateway_key=(await shop.record()).sends[-1].key)
        await shop.settle()
        record = await shop.record()
        assert (record.state, record.why, record.money) == (State.HELD, "refund_failed", MoneyState.CHARGED)
        assert shop.gateway.count("refund") == 1


async def cancelled(shop: Till) -> list[Event]:
    """A paid order whose shopper wants out, and what listeners hear from then on."""
    await shop.paid(TAKE)
    record, heard = await shop.record(), list[Event]()
    shop.guard.engine.operations.bus.listen(heard.append)
    wish = Note("wish", NoteKind.CANCEL, record.answered_at or 0.0, generation=record.generation)
    await shop.guard.engine.operations.note(record.id, wish)
    return heard


@pytest.mark.parametrize("keyed", [True, False])
async def test_the_line_of_a_refund_says_whether_its_gateway_knows_keys(keyed: bool) -> None:
    """What is answered to one call is then said of the key, or of that call alone."""
    async with till(gateway=FakeGateway(keyed=keyed)) as shop:
        await cancelled(shop)
        await shop.settle()
        assert [(send.kind, send.keyed) for send in (await shop.record()).sends] == [(SendKind.CHARGE, keyed), (SendKind.REFUND, keyed)]
    async with till(gateway=FakeGateway(keyed=keyed)) as shop:
        await shop.paid(TAKE)
        async with shop.guard.resume(reference=shop.reference) as op:
            await op.refund(1000)
        assert [(send.kind, send.keyed) for send in (await shop.record()).sends] == [(SendKind.CHARGE, keyed), (SendKind.REFUND, keyed)]


async def test_a_refund_of_the_queue_is_told_with_its_reason() -> None:
    """Whoever listens to money that goes back hears why it did."""
    async with till() as shop:
        heard = await cancelled(shop)
        await shop.settle()
        (told,) = [dict(event.detail) for event in heard if event.name == "payment.refunded"]
        assert told == {"gateway": "fake:test", "amount_minor": 5000, "currency": "EUR", "why": "cancelled", "by": "cxguard"}


async def test_a_refund_that_the_gateway_refuses_each_time_is_a_persons_at_last() -> None:
    """Tries come to an end, further apart each time, and the order says that it is charged."""
    async with till() as shop:
        shop.gateway.will_say("refund", [NotCharged("refused")] * 40)
        heard = await cancelled(shop)
        ends = []
        for _ in range(40):
            shop.clock.advance(3_600.0)
            ends.append(await shop.guard.queue().run_once())
        record = await shop.record()
        assert sum(each.held for each in ends) == 1
        assert (record.state, record.waiting_for, record.money) == (State.HELD, WaitingFor.AGENT, MoneyState.CHARGED)
        (told,) = [dict(event.detail) for event in heard if event.name == "order.held"]
        assert told == {"why": record.why, "waiting_for": "agent", "money": "charged"}
        assert 3 < shop.gateway.count("refund") <= LOOKS_MAX + 1
        assert "refund_not_done" in [entry.detail.get("why") for entry in record.history]


async def test_a_refund_of_the_queue_is_the_first_to_try_a_gateway_that_was_down() -> None:
    """Nobody waits for it: of the calls that see whether the gateway is there again, it is a shopper's that comes third."""
    async with till(guarded={"breakers": BreakerPolicy(consecutive_failures=1)}) as shop:
        shop.gateway.will_say("refund", [NotCharged("no connection", retryable=True)])
        await cancelled(shop)
        for tries in (1, 2):
            await shop.guard.queue().run_once()
            assert shop.gateway.count("refund") == tries
            shop.clock.advance(3_600.0)
        assert (await shop.money()).state is MoneyState.REFUNDED


async def test_the_nightly_look_finds_it_without_a_webhook() -> None:
    """Less went back than we were told: a break, and the gateway is asked about that refund."""
    async with till() as shop:
        await refunded(shop)
        assert (await look(shop)).breaks == []
        shop.gateway.give_back_failed("pay_1")
        shop.gateway.will_say("find", [FAILED])
        assert [each.kind for each in (await look(shop)).breaks] == ["refund"]
        assert (await shop.money()).state is MoneyState.CHARGED
        assert (await look(shop)).breaks == []


async def test_the_nightly_look_takes_nothing_back_by_itself() -> None:
    """The gateway cannot say what became of the refund: the break is shown, every night, and no fact is made up."""
    async with till() as shop:
        await refunded(shop)
        shop.gateway.give_back_failed("pay_1")
        for _ in range(2):
            shop.gateway.will_say("find", [Refunded(5000, "EUR")])
            assert [(each.kind, each.ours, each.theirs) for each in (await look(shop)).breaks] == [
                ("refund", "charged 5000 EUR, 5000 back", "charged 5000 EUR")
            ]
        assert (await shop.money()).state is MoneyState.REFUNDED
