"""One call to a gateway: what is believed of its answer, and how long it may take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.operation import Operation, money_of
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Refunded, Unknown
from cxguard.engine.engine import Timeouts
from cxguard.engine.looking import look
from cxguard.errors import PaymentDeclined, PaymentDeferred, StepMismatch
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
BUY = Charge(4999, "EUR", source="tok_ok")


class Peculiar(FakeGateway):
    """An adapter that says something else than what is in its ledger, and remembers how long it was given."""

    says: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[str, float]] = []

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        self.given.append(("charge", timeout_seconds))
        charged = await super().charge(charge, key=key, timeout_seconds=timeout_seconds)
        return charged if self.says is None else self.says

    async def refund(self, payment_id: str, *, timeout_seconds: float, **asked: Any) -> Outcome:
        self.given.append(("refund", timeout_seconds))
        return await super().refund(payment_id, timeout_seconds=timeout_seconds, **asked)


@asynccontextmanager
async def shop(gateway: FakeGateway, clock: ManualClock) -> AsyncIterator[Guard]:
    options: dict[str, Any] = {"secret": SECRET, "keys": KEYS, "duties": False, "clock": clock}
    timeouts = Timeouts(attempt_seconds=5.0, find_seconds=2.0)
    async with Guard(MemoryStore(clock=clock), shop=SHOP, gateways=[gateway], timeouts=timeouts, **options) as guard:
        yield guard


async def record(guard: Guard) -> Operation:
    return (await guard.store.search(Query(namespace="shop"))).operations[0]


@pytest.mark.parametrize("says", [{"status": "ok"}, "charged", Charged(4999.0, "EUR"), Charged(float("nan"), "EUR"), Charged(-4999, "EUR")])  # type: ignore[arg-type]
async def test_a_charge_that_cannot_be_true_is_unknown_and_looked_up(clock: ManualClock, says: Any) -> None:
    """Its line says what was wrong; the gateway's own record says that it was charged."""
    gateway = Peculiar()
    gateway.says = says
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> int:
            return (await op.charge(BUY)).amount_minor  # type: ignore[no-any-return]

        assert await guard.run(call, purpose="order", key="o1", owner="ann") == 4999
        said = (await record(guard)).sends[0].outcome
        assert isinstance(said, Unknown) and said.why.startswith("the gateway adapter")


async def test_a_look_up_that_cannot_be_true_settles_nothing(clock: ManualClock) -> None:
    """Unknown it was, unknown it stays."""
    gateway = Peculiar()
    gateway.says = Unknown("no answer")
    gateway.will_say("find", [Charged(49.99, "EUR")])  # type: ignore[arg-type]
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> None:
            await op.charge(BUY)

        with pytest.raises(PaymentDeferred, match="charge_unknown"):
            await guard.run(call, purpose="order", key="o1", owner="ann")


async def test_other_figures_are_not_sent_while_the_first_may_have_been_charged(clock: ManualClock) -> None:
    """The shop's code tries the same step with less: that would be a second charge, under another key."""
    gateway = Peculiar()
    gateway.says = Unknown("no answer")
    gateway.will_say("find", [Unknown("no answer")] * 3)
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> None:
            with suppress(PaymentDeferred):
                await op.charge(BUY)
            await op.charge(Charge(700, "EUR", source="tok_ok"))

        with pytest.raises(StepMismatch, match="figures"):
            await guard.run(call, purpose="order", key="o1", owner="ann")
        assert [payment.charge.amount_minor for payment in gateway.payments] == [4999]


async def test_other_figures_are_sent_once_the_first_have_surely_not_been_charged(clock: ManualClock) -> None:
    """The gateway has said so of its own accord, and nothing of it stands."""
    gateway = FakeGateway(Does.UNKNOWN)
    gateway.will_say("find", [NotCharged("never arrived")])
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> int:
            with suppress(PaymentDeferred, PaymentDeclined):
                await op.charge(BUY)
            return (await op.charge(Charge(700, "EUR", source="tok_ok"))).amount_minor  # type: ignore[no-any-return]

        assert await guard.run(call, purpose="order", key="o1", owner="ann") == 700
        assert [payment.charge.amount_minor for payment in gateway.standing] == [700]


async def test_each_larger_sum_that_went_back_is_a_fact_of_its_own(clock: ManualClock) -> None:
    """The desk of the gateway gives back a part, and then another; each look is told the sum."""
    gateway = FakeGateway()
    gateway.will_say("find", [Refunded(700, "EUR"), Refunded(1500, "EUR")])
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> list[int]:
            await op.charge(BUY)
            back = []
            for _ in range(2):
                await look(guard.engine, op.work, gateway=gateway, key=op.gateway_key())
                back.append(money_of(op.work.operation).refunded_minor)
            return back

        assert await guard.run(call, purpose="order", key="o1", owner="ann") == [700, 1500]


async def test_a_second_order_is_not_handed_the_first_ones_payment(clock: ManualClock) -> None:
    """One run charges for two orders of the same sum: the second is refused, in words, and was not charged."""
    gateway = Peculiar()
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> None:
            await op.charge(Charge(4999, "EUR", source="tok_ok", order_id="o1"))
            await op.charge(Charge(4999, "EUR", source="tok_ok", order_id="o1"))
            await op.charge(Charge(4999, "EUR", source="tok_ok", order_id="o2"))

        with pytest.raises(StepMismatch, match="open an operation for each order"):
            await guard.run(call, purpose="order", key="both", owner="ann")
        assert [payment.charge.order_id for payment in gateway.payments] == ["o1"]


async def test_a_later_run_may_have_another_order_id(clock: ManualClock) -> None:
    """A shop that makes an order of its own for every try gets the payment that stands."""
    gateway, ids = Peculiar(), iter(("o1", "o2"))
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> str:
            paid = await op.charge(Charge(4999, "EUR", source="tok_ok", order_id=next(ids)))
            assert gateway.payments
            if "died" not in seen:
                seen.append("died")
                raise RuntimeError
            return str(paid.payment_id)

        seen: list[str] = []
        with pytest.raises(RuntimeError):
            await guard.run(call, purpose="order", key="o", owner="ann")
        assert await guard.run(call, purpose="order", key="o", owner="ann") == gateway.payments[0].id
        assert len(gateway.payments) == 1


async def test_every_call_gets_what_is_left_and_no_more(clock: ManualClock) -> None:
    """A charge, and refunds near the end of the deadline, each less than its usual time; none below a moment."""
    gateway = Peculiar()
    async with shop(gateway, clock) as guard:

        async def call(op: Any) -> None:
            await op.charge(BUY)
            clock.advance(7.0)
            await op.refund(1000, step="first")
            clock.advance(5.0)
            await op.refund(1000, step="second")

        await guard.run(call, purpose="order", key="o1", owner="ann", deadline_seconds=10.0)
        assert gateway.given == [("charge", 5.0), ("refund", 3.0), ("refund", 0.05)]
