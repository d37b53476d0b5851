"""What listeners are told of an order's life: each event with everything that its line in the README's table promises of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lostworld import World, world

from cxguard.core.operation import Operation
from cxguard.core.outcomes import Outcome, Unknown
from cxguard.core.resolve import LOOK_EVENT, SILENCE_EVENT
from cxguard.errors import OperationHeld, PaymentDeclined, PaymentDeferred
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio

SENT = {"gateway": "fake:test", "kind": "charge", "number": 1, "generation": 1, "amount_minor": 4999, "currency": "EUR"}
ANSWERED = {"gateway": "fake:test", "kind": "charge", "number": 1, "duration_seconds": 0.0}


class Heard(list[Event]):
    """Everything that one guard tells."""

    def of(self, name: str) -> list[dict[str, Any]]:
        return [dict(event.detail) for event in self if event.name == name]


def listen(shop: World) -> Heard:
    heard = Heard()
    shop.guard.engine.operations.bus.listen(heard.append)
    return heard


def line(operation: Operation, event: str) -> list[dict[str, Any]]:
    return [dict(entry.detail) for entry in operation.history if entry.event == event]


async def test_charge_is_told_as_it_leaves_and_as_it_is_answered() -> None:
    """Which call it was, for how much, and what came of it: to listeners, and on the order's timeline."""
    async with world() as shop:
        heard = listen(shop)
        await shop.press()
        assert heard.of("payment.sent") == [SENT]
        assert heard.of("payment.answered") == [{**ANSWERED, "outcome": "charged", "why": ""}]
        told = {"gateway": "fake:test", "kind": "charge", "number": 1}
        assert line(await shop.record(), "payment.sent") == [{**told, "amount_minor": 4999}]
        assert line(await shop.record(), "payment.answered") == [{**told, "outcome": "charged", "why": ""}]
        assert heard.of("operation.finished") == [{"money": "charged", "amount_minor": None, "currency": None}]
        assert {event.session for event in heard} == {""}, "a script has no visitor"


async def test_decline_is_told_without_the_charge() -> None:
    """The end says that nothing was taken."""
    async with world() as shop:
        heard = listen(shop)
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        assert heard.of("payment.answered") == [{**ANSWERED, "outcome": "declined", "why": ""}]
        assert [each["money"] for each in heard.of("operation.finished")] == ["declined"]


async def test_call_that_charged_nothing_is_told_with_the_reason() -> None:
    """Whoever reads the timeline need not look for it in a log."""
    async with world() as shop:
        heard = listen(shop)
        shop.gateway.will(Does.REFUSE)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        (told,) = heard.of("payment.answered")
        assert (told["outcome"], told["why"]) == ("not_charged", "refused: scripted")
        assert [each["why"] for each in line(await shop.record(), "payment.answered")] == ["refused: scripted"]


async def test_kept_order_is_told_with_its_times_and_then_how_many_runs_it_took() -> None:
    """The queue's first one."""
    async with world() as shop:
        heard = listen(shop)
        kept = await shop.keep()
        (told,) = heard.of("order.queued")
        assert told == {"why": kept.why, "due_at": kept.due_at, "give_up_at": kept.give_up_at}
        assert line(kept, "order.queued") == [{"why": kept.why, "money": "none"}]
        shop.clock.advance(60.0)
        await shop.rest()
        assert heard.of("order.placed") == [{"attempts": 1, "amount_minor": None, "currency": None}]


async def test_paid_order_that_only_a_person_can_place_is_told_with_its_money() -> None:
    """Its code failed after the charge, and there is no other code that places it."""
    async with world() as shop:
        heard = listen(shop)

        async def fails(op: Any) -> None:
            await op.charge(Charge(100, "EUR", source="tok_ok"))
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await shop.guard.run(fails, purpose="till", key="o1", owner="ann")
        shop.clock.advance(60.0)
        await shop.rest()
        assert heard.of("order.held") == [{"why": "order_missing", "waiting_for": "agent", "money": "charged"}]
        assert heard.of("order.not_kept") == [], "it was paid: nobody asks whether it may wait"


async def test_unknown_charge_is_told_with_when_it_is_looked_up_each_time() -> None:
    """The gateway does not say what became of it, and honours no keys: nothing is sent again."""
    async with world(keyed=False) as shop:
        heard = listen(shop)
        shop.gateway.will(Does.UNKNOWN)
        shop.gateway.will_say("find", [Unknown("no answer in time")] * 40)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        first = await shop.record()
        assert heard.of("order.queued") == [{"why": "charge_unknown", "due_at": first.due_at, "give_up_at": first.give_up_at}]
        shop.clock.advance(60.0)
        await shop.rest()
        again = await shop.record()
        assert heard.of("order.queued")[1:] == [{"why": "charge_unknown", "due_at": again.due_at, "give_up_at": again.give_up_at}]


async def test_order_whose_run_was_cut_off_is_told_with_where_its_money_was() -> None:
    """Whoever presses next takes it over, and says what it found."""
    async with world() as shop:
        heard = listen(shop)
        shop.gateway.will(Does.HANG)
        run = asyncio.create_task(shop.press())
        await shop.gateway.until_hanging()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        shop.clock.advance(60.0)
        with pytest.raises(OperationHeld):
            await shop.press()
        assert heard.of("lease.rescued") == [{"state": "queued", "money": "unknown"}]


async def test_accepted_order_that_is_cancelled_is_told_with_the_reason() -> None:
    """Its shopper asked for it before anything was charged."""
    async with world() as shop:
        heard = listen(shop)
        kept = await shop.keep()
        await shop.wish_to_cancel(kept)
        shop.clock.advance(60.0)
        await shop.rest()
        assert [each["why"] for each in heard.of("order.cancelled")] == ["cancel_asked"]


async def test_what_a_look_up_finds_is_told_with_whom_was_asked_and_how() -> None:
    """The gateway's very name, as in each other event about it; the timeline says the same in one word."""
    async with world() as shop:
        heard = listen(shop)
        shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
        await shop.press()
        assert heard.of("payment.resolved") == [{"gateway": "fake:test", "outcome": "charged", "how": "find"}]
        assert line(await shop.record(), LOOK_EVENT) == [{"source": "find:fake:test", "outcome": "charged", "why": ""}]


async def test_a_look_up_that_breaks_is_on_the_timeline_with_what_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that raises has told nothing about the money; its people want to know that it did."""
    async with world() as shop:

        async def find(key: str, *, timeout_seconds: float) -> Outcome:
            raise OSError("no route")

        shop.gateway.will(Does.UNKNOWN)
        monkeypatch.setattr(shop.gateway, "find", find)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        assert [each["why"] for each in line(await shop.record(), SILENCE_EVENT)] == ["OSError while asking"]


async def test_order_that_waits_for_its_shopper_says_so_on_its_timeline() -> None:
    """Whom it waits for, why, and where the money is: what the event says, too."""
    async with world() as shop:
        heard = listen(shop)
        shop.gateway.will(Does.NEEDS_SHOPPER)
        with pytest.raises(PaymentDeferred, match="needs_shopper"):
            await shop.press()
        assert heard.of("order.held") == [{"why": "needs_shopper", "waiting_for": "shopper", "money": "unknown"}]
        assert line(await shop.record(), "order.held") == heard.of("order.held")


async def test_order_that_is_let_go_is_told_with_its_reason() -> None:
    """Nothing was charged, and its key is free."""

    async def fails(op: Any) -> None:
        raise RuntimeError

    async with world() as shop:
        heard = listen(shop)
        with pytest.raises(RuntimeError):
            await shop.press("o2", of=fails)
        assert heard.of("operation.released") == [{"why": "failed"}]


async def test_refund_is_told_with_its_reason() -> None:
    """The shop's own word for it."""

    async def returned(op: Any) -> None:
        await op.charge(Charge(4999, "EUR", source="tok_ok"))
        await op.refund(700, reason="a broken cup")
        await op.refund(300, step="and the saucer")

    async with world() as shop:
        heard = listen(shop)
        await shop.press("o2", of=returned)
        assert [each["why"] for each in heard.of("payment.refunded")] == ["a broken cup", ""]
        calls = [(each["kind"], each["duration_seconds"]) for each in heard.of("payment.answered")]
        assert calls == [("charge", 0.0), ("refund", 0.0), ("refund", 0.0)]


async def test_payment_that_is_called_off_is_told_as_called_off() -> None:
    """It waited for its shopper, who wants out: the gateway is not only asked."""
    async with world() as shop:
        heard = listen(shop)
        shop.gateway.will(Does.NEEDS_SHOPPER)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        await shop.wish_to_cancel(await shop.record())
        shop.clock.advance(60.0)
        await shop.rest()
        assert [each["how"] for each in heard.of("payment.resolved")] == ["find", "cancel"]
