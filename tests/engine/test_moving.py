"""Capture, refund and void as steps of the payment's own operation: once each, never more than there is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tillworld import RESERVE, TAKE, till

from cxguard.core.money import MoneyState, SendKind
from cxguard.core.operation import State
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Refunded, Unknown
from cxguard.errors import (
    AlreadyFinished,
    NoSuchOrder,
    OperationHeld,
    OperationInFlight,
    PaymentDeclined,
    PaymentDeferred,
    PaymentRefused,
    StepMismatch,
)
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio

Asked = Callable[[Any], Awaitable[Any]]


async def test_a_reservation_is_taken_in_the_same_run() -> None:
    """Reserve, then take all of it."""
    async with till() as shop:

        async def pay(op: Any) -> Charged:
            await op.charge(RESERVE)
            taken: Charged = await op.capture()
            return taken

        assert (await shop.run(pay)).amount_minor == 5000
        money = await shop.money()
        assert (money.state, money.authorised_minor, money.captured_minor) == (MoneyState.CHARGED, 0, 5000)


async def test_a_reservation_is_taken_in_parts_days_later() -> None:
    """Two parcels, two captures, each a step of its own; what is left stays reserved."""
    async with till() as shop:
        await shop.paid(RESERVE)
        for step, amount_minor in (("parcel 1", 2000), ("parcel 2", 1500)):
            shop.clock.advance(86_400.0)
            async with shop.guard.resume(reference=shop.reference) as op:
                await op.capture(amount_minor, step=step)
        money = await shop.money()
        assert (money.captured_minor, money.authorised_minor) == (3500, 1500)
        assert (await shop.record()).state is State.FINISHED


async def test_a_refund_is_made_once_however_often_it_is_asked_for() -> None:
    """The same step gives what is known."""
    async with till() as shop:
        await shop.paid(TAKE)
        for _ in range(3):
            async with shop.guard.resume(reference=shop.reference) as op:
                assert (await op.refund(1200)).amount_minor == 1200
        assert (await shop.money()).refunded_minor == 1200
        assert shop.gateway.count("refund") == 1


async def test_the_rest_of_it_is_given_back_without_a_figure() -> None:
    """A part first; then everything that is left; then the money is refunded."""
    async with till() as shop:
        await shop.paid(TAKE)
        async with shop.guard.resume(reference=shop.reference) as op:
            await op.refund(1200, step="one cup")
            rest = await op.refund(step="the rest")
        assert rest.amount_minor == 3800
        assert (await shop.money()).state is MoneyState.REFUNDED
        assert shop.gateway.standing == []


async def test_a_void_releases_what_was_reserved() -> None:
    """Nothing stands afterwards, and nothing more can be taken."""
    async with till() as shop:
        await shop.paid(RESERVE)
        async with shop.guard.resume(reference=shop.reference) as op:
            await op.void()
            with pytest.raises(StepMismatch):
                await op.capture()
        assert ((await shop.money()).state, shop.gateway.standing) == (MoneyState.REFUNDED, [])


async def test_each_kind_has_a_step_name_of_its_own() -> None:
    """As `op.gateway_key` is asked for it, by whoever writes to the gateway about it."""
    steps: dict[str, Asked] = {"capture": lambda op: op.capture(), "refund": lambda op: op.refund(1000), "void": lambda op: op.void()}
    for taken in (("charge", "capture", "refund"), ("charge", "void")):
        async with till() as shop:
            await shop.paid(RESERVE)
            async with shop.guard.resume(reference=shop.reference) as op:
                for step in taken[1:]:
                    await steps[step](op)
                keys = {step: op.gateway_key(step) for step in taken}
            assert {send.step: send.key for send in (await shop.record()).sends} == keys


async def test_order_that_has_ended_unpaid_is_not_charged_by_whoever_comes_back_to_it() -> None:
    """It was declined, and its shopper told: a charge now would be one that nobody expects."""
    async with till() as shop:
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.paid(TAKE)
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(AlreadyFinished):
                await op.charge(TAKE, step="another")
        assert shop.gateway.standing == []


@pytest.mark.parametrize(
    ("charge", "asked"),
    [
        (RESERVE, lambda op: op.capture(5001)),
        (RESERVE, lambda op: op.capture(0)),
        (RESERVE, lambda op: op.capture(-1)),
        (RESERVE, lambda op: op.capture(12.5)),
        (RESERVE, lambda op: op.capture(float("nan"))),
        (RESERVE, lambda op: op.capture(True)),
        (RESERVE, lambda op: op.capture(100, of="gift card")),
        (TAKE, lambda op: op.capture()),
        (TAKE, lambda op: op.void()),
        (TAKE, lambda op: op.refund(5001)),
        (TAKE, lambda op: op.refund(0)),
        (TAKE, lambda op: op.refund("100")),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_sent(charge: Charge, asked: Asked) -> None:
    """More than there is, nothing, no number, no such charge: the text has the figures, and the gateway hears nothing."""
    async with till() as shop:
        await shop.paid(charge)
        calls = len(shop.gateway.calls)
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(StepMismatch, match=r"nothing was sent$"):
                await asked(op)
        assert len(shop.gateway.calls) == calls


async def test_other_figures_under_the_same_step_are_refused() -> None:
    """A step's name stands for one movement."""
    async with till() as shop:
        await shop.paid(TAKE)
        async with shop.guard.resume(reference=shop.reference) as op:
            await op.refund(1200)
            with pytest.raises(StepMismatch, match="a step name of its own"):
                await op.refund(1300)
            with pytest.raises(StepMismatch, match="a step name of its own"):
                await op.void(step="refund")


async def test_a_refusal_moves_nothing_and_may_be_tried_again() -> None:
    """The gateway says no (an authorisation that has lapsed): an error with its reason; the next try is the same key."""
    async with till() as shop:
        await shop.paid(RESERVE)
        shop.gateway.will_say("capture", [NotCharged("authorisation expired")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentRefused, match="authorisation expired"):
                await op.capture()
            assert (await op.capture()).amount_minor == 5000
        lines = [send for send in (await shop.record()).sends if send.kind is SendKind.CAPTURE]
        assert len({send.key for send in lines}) == 1


@pytest.mark.parametrize(
    ("refused", "meanwhile"),
    [("void", lambda op: op.capture()), ("void", lambda op: op.capture(1000)), ("capture", lambda op: op.void())],
)
async def test_what_was_refused_is_measured_again_when_it_is_tried_again(refused: str, meanwhile: Asked) -> None:
    """A void that comes back once the goods were paid for would give their price away."""
    async with till() as shop:
        await shop.paid(RESERVE)
        shop.gateway.will_say("refund" if refused == "void" else refused, [NotCharged("refused: busy")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentRefused):
                await getattr(op, refused)()
            await meanwhile(op)
            before = op.money, len(shop.gateway.calls)
            with pytest.raises(StepMismatch):
                await getattr(op, refused)()
            assert (op.money, len(shop.gateway.calls)) == before


@pytest.mark.parametrize("verb", ["capture", "refund"])
async def test_silence_is_resolved_by_the_worker(verb: str) -> None:
    """No answer: the caller hears that nobody knows, and the very same is sent again until it is known."""
    async with till() as shop:
        await shop.paid(RESERVE if verb == "capture" else TAKE)
        shop.gateway.will_say(verb, [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match=f"{verb}_unknown"):
            async with shop.guard.resume(reference=shop.reference) as op:
                await (op.capture() if verb == "capture" else op.refund(1000))
        pending = await shop.money()
        assert pending.capture_pending or pending.refund_pending
        await shop.settle()
        money, record = await shop.money(), await shop.record()
        assert not (money.capture_pending or money.refund_pending)
        assert (record.state, record.due_at) == (State.FINISHED, None)
        assert (money.captured_minor, money.refunded_minor) == (5000, 0 if verb == "capture" else 1000)


async def test_a_capture_is_found_where_the_reservation_was_found_before() -> None:
    """Two looks at one payment: the second one's "taken" is another fact than the first one's "reserved"."""
    async with till(Does.CHARGE_THEN_UNKNOWN, keyed=False) as shop:
        await shop.paid(RESERVE)
        payment = shop.gateway.payments[0]
        await shop.gateway.capture(payment.id, key="k", amount_minor=5000, currency="EUR", timeout_seconds=1.0)
        shop.gateway.will_say("capture", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match="capture_unknown"):
            async with shop.guard.resume(reference=shop.reference) as op:
                await op.capture()
        await shop.settle()
        money = await shop.money()
        assert (money.captured_minor, money.capture_pending, (await shop.record()).state) == (5000, False, State.FINISHED)


CANCELLED = NotCharged("cancelled")


@pytest.mark.parametrize(
    ("charge", "keyed", "state"),
    [(RESERVE, True, MoneyState.REFUNDED), (TAKE, True, MoneyState.CHARGED), (RESERVE, False, MoneyState.CHARGED)],
    ids=["reserved", "taken", "perhaps another payment"],
)
async def test_a_reservation_that_is_cancelled_at_the_gateway_stands_no_more(charge: Charge, keyed: bool, state: MoneyState) -> None:
    """It lapsed after a week, or somebody voided it there: nobody is told any longer that the money is reserved."""
    async with till(keyed=keyed) as shop:
        await shop.paid(charge)
        for _ in range(2):
            await shop.guard.note(CANCELLED, event_id="evt_1", gateway_key=(await shop.record()).sends[0].key)
            await shop.settle()
        assert (await shop.money()).state is state


async def test_a_refund_that_is_refused_again_and_again_comes_to_a_person() -> None:
    """Its first answer was lost, and the money went back in the gateway's own console: each further try put the end of it off."""
    async with till() as shop:
        await shop.paid(TAKE)
        shop.gateway.will_say("refund", [Unknown("no answer in time")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await op.refund()
        await shop.gateway.refund("pay_1", key="console", amount_minor=5000, currency="EUR", timeout_seconds=1.0)
        for _ in range(6):
            await shop.settle()
        order = await shop.record()
        assert (order.state, order.why) == (State.HELD, "refund_unknown")


async def test_nothing_else_moves_while_one_movement_is_unknown() -> None:
    """What is left is not known before that."""
    async with till() as shop:
        await shop.paid(TAKE)
        shop.gateway.will_say("refund", [Unknown("no answer in time")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await op.refund(3000, step="a")
            with pytest.raises(PaymentDeferred):
                await op.refund(3000, step="b")
            assert (await op.refund(3000, step="a")).amount_minor == 3000, "the very same may be sent again"


async def test_without_keys_silence_is_never_sent_again() -> None:
    """The gateway would refund twice: a look decides, and at last a person."""
    async with till(keyed=False) as shop:
        await shop.paid(TAKE)
        shop.gateway.will_say("refund", [Unknown("no answer in time")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await op.refund(1000)
            with pytest.raises(PaymentDeferred):
                await op.refund(1000)
        await shop.settle()
        assert shop.gateway.count("refund") == 1


@pytest.mark.parametrize("answer", [Refunded(999, "EUR"), Refunded(1000, "USD"), Charged(1000, "GBP")])
async def test_an_answer_about_other_figures_is_not_believed(answer: Outcome) -> None:
    """Another amount or currency than asked stays unknown, with both figures."""
    async with till() as shop:
        await shop.paid(TAKE)
        shop.gateway.will_say("refund", [answer])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await op.refund(1000)
        assert "asked for 1000 EUR" in str((await shop.record()).sends[-1].outcome)


async def test_a_capture_that_is_only_taken_in_is_not_told_as_taken() -> None:
    """A gateway that captures later answers with a payment that is still reserved: the worker asks until it is taken."""
    async with till() as shop:
        await shop.paid(RESERVE)
        shop.gateway.will_say("capture", [Charged(5000, "EUR", "pay_1", captured=False)])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred, match="capture_unknown"):
                await op.capture()
        assert ((await shop.money()).captured_minor, (await shop.money()).capture_pending) == (0, True)
        shop.clock.advance(10.0)
        await shop.guard.queue().run_once()
        assert ((await shop.money()).captured_minor, (await shop.money()).capture_pending) == (5000, False)


async def _interrupted(op: Any) -> None:
    await op.charge(TAKE)
    raise RuntimeError("the stock did not answer")


async def test_script_is_not_run_over_a_payment_that_was_given_back() -> None:
    """It would be told that it is paid, and send the goods."""
    async with till() as shop:
        with pytest.raises(RuntimeError):
            await shop.run(_interrupted)
        await shop.settle()
        async with shop.guard.resume(reference=shop.reference) as op:
            await op.refund()
        for _ in range(2):
            with pytest.raises(OperationHeld):
                await shop.run(_interrupted)
            await shop.settle()
        order = await shop.record()
        assert (order.state, order.why, len(shop.gateway.payments)) == (State.CANCELLED, "refunded", 1)


@pytest.mark.parametrize(
    ("amount_minor", "told", "state"), [(None, "charge_unknown", MoneyState.REFUNDED), (1000, "the stock", MoneyState.CHARGED)]
)
async def test_charge_that_may_be_on_its_way_back_is_not_told_as_paid(amount_minor: int | None, told: str, state: MoneyState) -> None:
    """All of it, that is, since the script would send the goods. The answer to the refund was lost, and nobody has asked yet."""
    async with till() as shop:
        with pytest.raises(RuntimeError):
            await shop.run(_interrupted)
        await shop.settle()
        shop.gateway.will_say("refund", [Unknown("no answer in time")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await op.refund(amount_minor)
        with pytest.raises((PaymentDeferred, RuntimeError), match=told):
            await shop.run(_interrupted)
        await shop.settle()
        assert ((await shop.money()).state, shop.gateway.count("charge")) == (state, 1)


async def test_charge_that_was_given_back_is_told_as_paid_no_more() -> None:
    """Not in the very run that gave it back, either; after a part of it the rest still stands."""
    async with till() as shop:

        async def change_of_mind(op: Any) -> None:
            await op.charge(TAKE)
            await op.refund(1000, step="one cup")
            assert (await op.charge(TAKE)).amount_minor == 5000
            await op.refund(step="the rest")
            await op.charge(TAKE)

        with pytest.raises(PaymentDeferred, match="refunded"):
            await shop.run(change_of_mind)
        assert ((await shop.money()).state, len(shop.gateway.payments)) == (MoneyState.REFUNDED, 1)


async def test_an_order_in_hand_is_not_resumed() -> None:
    """One lease: an agent who refunds and a script that refunds never do so at once."""
    async with till() as shop:
        await shop.paid(TAKE)
        async with shop.guard.resume(reference=shop.reference):
            with pytest.raises(OperationInFlight):
                async with shop.guard.resume(reference=shop.reference):
                    pass


async def test_only_an_order_with_an_end_is_resumed() -> None:
    """A reference that nobody has, and an order that still waits."""
    async with till(otherwise=Does.UNKNOWN) as shop:
        with pytest.raises(NoSuchOrder):
            async with shop.guard.resume(reference="7K3M-9QXA-2TFV"):
                pass
        with pytest.raises(PaymentDeferred):
            await shop.run(lambda op: op.charge(TAKE))
        with pytest.raises(OperationHeld):
            async with shop.guard.resume(reference=shop.reference):
                pass


async def test_a_resumed_order_is_never_charged_again() -> None:
    """It has ended: the charge gives what is known, another one is refused."""
    async with till() as shop:
        await shop.paid(TAKE)
        async with shop.guard.resume(reference=shop.reference) as op:
            assert (await op.charge(TAKE)).payment_id == "pay_1"
            with pytest.raises((AlreadyFinished, StepMismatch)):
                await op.charge(Charge(700, "EUR", source="tok_ok"), step="more")
        assert len(shop.gateway.payments) == 1
