"""Coming back to an order by its reference: whoever looks in at a bad moment strands nothing, and proof reaches the charge."""

from __future__ import annotations

from typing import Any

import pytest
from tillworld import RESERVE, TAKE, till

from cxguard.core.money import NO_ANSWER, MoneyState, Note, NoteKind
from cxguard.core.operation import State
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Unknown
from cxguard.core.schedule import QUEUE_SECONDS_MAX
from cxguard.errors import OperationHeld, PaymentDeferred, PaymentRefused, StepMismatch
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def test_looking_in_after_a_crash_leaves_the_order_to_the_queue() -> None:
    """Its program died in the middle of the payment: whoever resumes it is refused, and it is still resolved."""
    async with till() as shop:
        scope = shop.guard.operation(purpose="order", key="o1", owner="ann")
        op = await scope.__aenter__()
        shop.reference = op.reference
        await op.charge(TAKE)
        shop.guard.engine.operations.leases.drop(op.work.lease)  # as a killed program: it renews no more
        shop.clock.advance(100.0)
        with pytest.raises(OperationHeld):
            async with shop.guard.resume(reference=shop.reference):
                pass
        await shop.settle()
        record = await shop.record()
        assert (record.state, record.why, record.money) == (State.HELD, "order_missing", MoneyState.CHARGED)


async def test_a_script_that_comes_back_after_a_day_is_told_that_its_order_is_cancelled() -> None:
    """Its run failed after a step, and nobody ran it again in time: that is no order that a person holds."""
    async with till() as shop:

        async def work(op: Any) -> None:
            await op.step("invoice", lambda: 7)
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await shop.guard.run(work, purpose="order", key="o1", owner="ann")
        shop.clock.advance(QUEUE_SECONDS_MAX)
        await shop.guard.queue().run_once()
        with pytest.raises(OperationHeld, match=r"is cancelled \(gave_up: no run of it ended well in its time; a new key") as told:
            await shop.guard.run(work, purpose="order", key="o1", owner="ann")
        assert told.value.why == "gave_up"


async def test_proof_by_reference_is_about_the_charge_and_not_about_the_refund_after_it() -> None:
    """A refund without an answer stays open: a word about the payment says nothing of it."""
    async with till() as shop:
        await shop.paid(TAKE)
        shop.gateway.will_say("refund", [Unknown("no answer in time")])
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred):
                await op.refund(1000)
        await shop.guard.note(Charged(5000, "EUR", payment_id="pay_1"), event_id="evt_1", reference=shop.reference)
        assert (await shop.money()).refund_pending
        await shop.settle()
        assert ((await shop.money()).refunded_minor, shop.gateway.payments[0].refunded_minor) == (1000, 1000)


async def test_proof_by_reference_reaches_an_order_that_sent_nothing_yet() -> None:
    """It names the charge that this order would make: a second one is not made."""
    async with till() as shop:

        async def pay(op: object) -> None:
            await shop.guard.note(Charged(5000, "EUR", payment_id="pay_by_hand"), event_id="evt_1", reference=shop.reference)

        await shop.run(pay)
        assert (await shop.money()).state is MoneyState.CHARGED


async def test_what_is_to_be_given_back_is_not_captured() -> None:
    """Its shopper wanted out before it was placed, and the gateway would not void: whoever delivers by mistake takes no money."""
    async with till() as shop:

        async def pay(op: Any) -> None:
            await op.charge(RESERVE)
            raise RuntimeError("no invoice")

        with pytest.raises(RuntimeError):
            await shop.run(pay)
        shop.gateway.will_say("refund", [NotCharged("busy")])
        await shop.settle()
        order = await shop.record()
        wish = Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), generation=order.generation)
        await shop.guard.engine.operations.store.note(order.id, wish, namespace="shop")
        await shop.guard.queue().run_once()
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred, match="cancel_asked"):
                await op.capture()
        await shop.settle()
        assert ((await shop.record()).state, shop.gateway.count("capture"), shop.gateway.standing) == (State.CANCELLED, 0, [])


async def test_what_is_only_reserved_is_not_refunded_and_the_text_says_what_to_do() -> None:
    """Nothing was taken that could go back."""
    async with till() as shop:
        await shop.paid(RESERVE)
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(StepMismatch, match=r"nothing was sent; what is only reserved is released with void$"):
                await op.refund()
        assert shop.gateway.count("refund") == 0


async def test_a_refund_that_is_sent_again_is_on_record_as_unanswered_while_it_is_under_way() -> None:
    """Its process may die there: "not done", of the try before, would have it given back by another way, too."""
    async with till() as shop:
        seen = []

        async def refund(payment_id: str, **asked: Any) -> Outcome:
            seen.append((await shop.record()).sends[-1].outcome)
            return NotCharged("busy")

        await shop.paid(TAKE)
        shop.gateway.refund = refund  # type: ignore[method-assign]
        for _ in range(2):
            async with shop.guard.resume(reference=shop.reference) as op:
                with pytest.raises(PaymentRefused):
                    await op.refund()
        assert seen == [NO_ANSWER, NO_ANSWER]


async def test_a_script_that_runs_again_over_a_refund_without_an_answer_hears_of_it() -> None:
    """Nobody knows whether it is paid."""
    async with till() as shop:

        async def sells_and_takes_back(op: Any) -> str:
            await op.charge(TAKE)
            with pytest.raises(PaymentDeferred):
                await op.refund()
            return "taken back"

        shop.gateway.will_say("refund", [Unknown("no answer")])
        names = {"purpose": "order", "key": "o1", "owner": "ann"}
        assert await shop.guard.run(sells_and_takes_back, **names) == "taken back"
        with pytest.raises(OperationHeld, match=r"\(refund_unknown\)"):
            await shop.guard.run(sells_and_takes_back, **names)


async def test_what_was_reserved_for_a_cancelled_order_is_not_captured() -> None:
    """It was reserved late, and is to be let go."""
    async with till(Does.NOT_CHARGED, Does.NOT_CHARGED, Does.NOT_CHARGED) as shop:
        with pytest.raises(PaymentDeferred):
            await shop.run(lambda op: op.charge(RESERVE))
        await shop.guard.note(Charged(5000, "EUR", captured=False, payment_id="pay_1"), event_id="evt_1", reference=shop.reference)
        async with shop.guard.resume(reference=shop.reference) as op:
            with pytest.raises(PaymentDeferred, match="refund_due"):
                await op.capture()
        assert shop.gateway.count("capture") == 0
