"""Adapters, hooks and callers at their worst: what they do ends in an outcome or a refusal, and stops nobody else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from tillworld import TAKE, till

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import NotCharged, Outcome, Unknown
from cxguard.engine import queue as queue_module
from cxguard.engine.left_behind import DEATHS_MAX
from cxguard.engine.library import Purpose
from cxguard.errors import ConfigurationError, PaymentDeferred, StepMismatch
from cxguard.gateways.base import Charge
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


class Cancels(FakeGateway):
    """An adapter that waits for a task which somebody cancels: the error comes out of it, and is not meant for us."""

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        await super().charge(charge, key=key, timeout_seconds=timeout_seconds)
        raise asyncio.CancelledError

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        if self.count("find") == 0:
            await super().find(key, timeout_seconds=timeout_seconds)
            raise asyncio.CancelledError
        return await super().find(key, timeout_seconds=timeout_seconds)


async def test_a_cancellation_inside_an_adapter_is_silence() -> None:
    """The charge is unknown, and is found out: the shop's own task has not been cancelled."""
    async with till(gateway=Cancels()) as shop:
        with pytest.raises(PaymentDeferred, match="charge_unknown"):
            await shop.run(lambda op: op.charge(TAKE))
        await shop.settle()
        assert (await shop.money()).state is MoneyState.CHARGED


class Cheaper(FakeGateway):
    """A gateway that takes another amount than it was asked for."""

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        return await super().charge(replace(charge, amount_minor=charge.amount_minor - 1000), key=key, timeout_seconds=timeout_seconds)


async def test_a_charge_of_another_amount_is_on_a_persons_desk_at_once() -> None:
    """With both figures; it is not sent again and again, and the shopper is told neither paid nor not charged."""
    async with till(gateway=Cheaper()) as shop:
        with pytest.raises(PaymentDeferred, match="charge_unknown"):
            await shop.run(lambda op: op.charge(TAKE))
        shop.clock.advance(60.0)
        await shop.guard.queue().run_once()
        record = await shop.record()
        assert (record.state, record.why, record.waiting_for) == (State.HELD, "amount_differs", WaitingFor.AGENT)
        assert record.sends[0].outcome == Unknown("asked for 5000 EUR, told 4000 EUR")
        assert (record.money, shop.gateway.count("charge")) == (MoneyState.UNKNOWN, 1)


async def test_a_cancellation_inside_later_is_a_failure_of_later() -> None:
    """The order is tried again, and the queue goes on with it and with all others."""
    tries = []

    async def later(op: Any) -> str:
        tries.append(op.reference)
        if len(tries) == 1:
            raise asyncio.CancelledError
        payment = await op.charge(TAKE)
        return str(payment.payment_id)

    async with till(guarded={"purposes": [Purpose("order", later=later)]}) as shop:
        with pytest.raises(RuntimeError):
            await shop.run(_fails)
        for _ in range(3):
            await shop.settle()
        assert ((await shop.record()).state, len(tries)) == (State.FINISHED, 2)


async def test_a_worker_that_is_cancelled_still_is() -> None:
    """What is meant for us is not swallowed."""
    async with till(gateway=FakeGateway(Does.UNKNOWN, Does.HANG)) as shop:
        with pytest.raises(PaymentDeferred):
            await shop.run(lambda op: op.charge(TAKE))
        shop.clock.advance(60.0)
        waiting = asyncio.create_task(shop.guard.queue().run_once())
        await shop.gateway.until_hanging()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_long_outage_of_refunds_sends_no_order_to_a_person() -> None:
    """The gateway was never asked: when it is back, the cancelled order's money goes back by itself."""
    policy = BreakerPolicy(consecutive_failures=1, open_seconds=7_200.0, open_seconds_max=7_200.0)
    async with till(guarded={"breakers": policy}) as shop:
        await shop.paid(TAKE)
        record = await shop.record()
        wish = Note("wish", NoteKind.CANCEL, record.answered_at or 0.0, generation=record.generation)
        shop.gateway.will_say("refund", [NotCharged("not sent", retryable=True)])
        await shop.guard.engine.operations.note(record.id, wish)
        for _ in range(20):
            await shop.settle()
        assert ((await shop.money()).state, shop.gateway.count("refund")) == (MoneyState.REFUNDED, 2)


@pytest.mark.parametrize("amount_minor", [0, -1, 5.0, True, float("nan"), 10**15, "5", None])
async def test_a_charge_of_no_amount_is_not_sent(amount_minor: Any) -> None:
    """A slip in the shop's code is refused with what to write."""
    async with till() as shop:
        with pytest.raises(StepMismatch, match="whole number of minor units"):
            await shop.run(lambda op: op.charge(Charge(amount_minor, "EUR", source="tok_ok")))
        assert shop.gateway.calls == []


@pytest.mark.parametrize(("charge", "says"), [(5000, "int is no charge"), (Charge(5000, "EUR", source=None), "source is no token")])  # type: ignore[arg-type]
async def test_what_is_no_charge_is_not_sent(charge: Any, says: str) -> None:
    """A bare amount was an error of ours, and a token that was not there left the order unknown. The line to write is told."""
    async with till() as shop:
        with pytest.raises(StepMismatch, match=rf"{says}.*write op.charge\(Charge\(4999.*nothing was sent"):
            await shop.run(lambda op: op.charge(charge))
        assert shop.gateway.calls == []


@pytest.mark.parametrize("currency", ["eur", "EURO", "", None, "ZZZ", 5])
async def test_a_charge_in_no_currency_is_not_sent(currency: Any) -> None:
    """Told by the gateway in its own way of writing, it would stay unknown for ever."""
    async with till() as shop:
        with pytest.raises(StepMismatch, match="ISO 4217"):
            await shop.run(lambda op: op.charge(Charge(5000, currency, source="tok_ok")))
        assert shop.gateway.calls == []


@pytest.mark.parametrize(
    ("amount_minor", "currency"), [(49.99, "EUR"), (-1, "EUR"), (True, "EUR"), ("5", "EUR"), (500, "eur"), (500, None), (None, "EUR")]
)
async def test_an_operation_of_no_amount_is_not_opened(amount_minor: Any, currency: Any) -> None:
    """Else each charge would be refused as another one than accepted, or the store would have to say why."""
    async with till() as shop:
        with pytest.raises(ConfigurationError, match="nothing was opened"):
            shop.guard.operation(purpose="order", key="o1", owner="ann", amount_minor=amount_minor, currency=currency)


async def test_an_order_whose_code_hangs_keeps_no_other_order_waiting() -> None:
    """It goes on beside the next looks, and is finished when it comes back."""
    back, tries = asyncio.Event(), []

    async def later(op: Any) -> str:
        tries.append(op.reference)
        await back.wait()
        return "placed"

    async with till(guarded={"purposes": [Purpose("order", later=later)]}) as shop:
        queue = shop.guard.queue()
        shop.gateway.will(Does.CHARGE, Does.CHARGE_THEN_UNKNOWN)
        with pytest.raises(RuntimeError):
            await shop.run(_fails)
        hanging = shop.reference
        shop.clock.advance(60.0)
        assert (await queue.run_once(wait_seconds=0.01)).taken == 1
        shop.gateway.will_say("find", [Unknown("could not ask")])
        with pytest.raises(PaymentDeferred):
            await shop.run(lambda op: op.charge(TAKE), key="o2")
        shop.clock.advance(5.0)
        await queue.run_once(wait_seconds=0.01)
        assert ((await shop.money()).state, tries[0]) == (MoneyState.CHARGED, hanging)
        back.set()
        await queue.drain(seconds=20.0)
        assert [record.state for record in (await shop.guard.store.search(Query(namespace="shop"))).operations] == [State.FINISHED] * 2


async def test_what_a_dead_worker_had_is_worked_on_one_after_the_other() -> None:
    """One of them may be what it died of: that takes those along that are in hand with it. What nobody had goes on at once."""
    died_with: set[str] = set()
    at_work = {True: 0, False: 0}
    most = dict(at_work)

    async def later(op: Any) -> str:
        left = op.reference in died_with
        at_work[left] += 1
        most[left] = max(most[left], at_work[left])
        for _ in range(50):
            await asyncio.sleep(0)
        at_work[left] -= 1
        return "placed"

    async with till(guarded={"purposes": [Purpose("order", later=later)]}) as shop:
        for number in range(8):
            with pytest.raises(RuntimeError):
                await shop.run(_fails, key=f"o{number}")
        shop.clock.advance(60.0)
        taken = await shop.guard.store.take(namespace="shop", rules=["order"], holder="dead", lease_seconds=5.0, limit=4)
        died_with |= {each.reference for each in taken}
        shop.clock.advance(60.0)
        assert (len(died_with), (await shop.guard.queue().run_once()).ended) == (4, 8)
        assert most == {True: 1, False: 4}


async def test_what_hangs_is_stopped_with_the_worker_and_comes_again() -> None:
    """Its lease lapses, and the next one tries."""

    async def later(op: Any) -> str:
        await asyncio.Event().wait()
        return "never"

    async with till(guarded={"purposes": [Purpose("order", later=later)]}) as shop:
        queue = shop.guard.queue()
        with pytest.raises(RuntimeError):
            await shop.run(_fails)
        shop.clock.advance(60.0)
        await queue.run_once(wait_seconds=0.01)
        await queue.drain(seconds=0.0)
        shop.clock.advance(60.0)
        assert (await queue.run_once(wait_seconds=0.01)).taken == 1
        await queue.drain(seconds=0.0)


async def test_code_that_will_not_be_stopped_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process comes to its end all the same."""
    monkeypatch.setattr(queue_module, "STOP_SECONDS", 0.01)
    over = asyncio.Event()

    async def later(op: Any) -> str:
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()
        return "placed"

    async with till(guarded={"purposes": [Purpose("order", later=later)]}) as shop:
        queue = shop.guard.queue()
        with pytest.raises(RuntimeError):
            await shop.run(_fails)
        shop.clock.advance(60.0)
        await queue.run_once(wait_seconds=0.01)
        try:
            async with asyncio.timeout(10):
                await queue.drain(seconds=0.0)
        finally:
            over.set()
        await queue.drain(seconds=20.0)


async def dies(shop: Any, queue: Any, *, times: int) -> None:
    """A worker takes what is due, and is gone before its turn has ended; and so on."""
    for _ in range(times):
        shop.clock.advance(60.0)
        assert (await queue.run_once(wait_seconds=0.01)).taken == 1
        await queue.drain(seconds=0.0)


async def test_an_order_at_which_worker_after_worker_dies_is_left_to_a_person() -> None:
    """Each of them costs all that it had in hand, and whoever sells has to start the next one."""
    tries: list[str] = []

    async def later(op: Any) -> str:
        tries.append(op.reference)
        await asyncio.Event().wait()
        return "never"

    async with till(guarded={"purposes": [Purpose("order", later=later)]}) as shop:
        with pytest.raises(RuntimeError):
            await shop.run(_fails)
        await dies(shop, shop.guard.queue(), times=DEATHS_MAX)
        assert len(tries) == DEATHS_MAX
        shop.clock.advance(60.0)
        await shop.guard.queue().run_once()
        (record,) = (await shop.guard.store.search(Query(namespace="shop"))).operations
        assert (record.state, record.waiting_for, record.why) == (State.HELD, WaitingFor.AGENT, "workers_died")
        assert len(tries) == DEATHS_MAX, "nobody touched it again"
        assert (record.money, record.due_at, record.deaths) == ("charged", None, 0)


async def test_a_turn_that_ends_is_a_new_beginning() -> None:
    """Deaths long ago say nothing about an order that has had its turn since."""
    fine: list[bool] = []

    async def later(op: Any) -> str:
        if not fine:
            await asyncio.Event().wait()
        return "placed"

    async with till(guarded={"purposes": [Purpose("order", later=later)]}) as shop:
        with pytest.raises(RuntimeError):
            await shop.run(_fails)
        await dies(shop, shop.guard.queue(), times=3)
        (record,) = (await shop.guard.store.search(Query(namespace="shop"))).operations
        assert record.deaths == 2, "the first of them was no second try"
        fine.append(True)
        shop.clock.advance(60.0)
        assert (await shop.guard.queue().run_once()).ended == 1
        (record,) = (await shop.guard.store.search(Query(namespace="shop"))).operations
        assert (record.state, record.deaths) == (State.FINISHED, 0)


async def _fails(op: Any) -> None:
    await op.charge(TAKE)
    raise RuntimeError("the shop fails here")
