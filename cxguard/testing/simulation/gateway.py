"""A gateway behind a bad line: charges land late and twice, answers never come, webhooks come in any order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cxguard.core.outcomes import Charged, Declined, Outcome, Unknown
from cxguard.errors import CxguardError
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does, FakePayment, PaymentState
from cxguard.testing.simulation.loop import passed
from cxguard.testing.simulation.world import ASKING, Landing, World

if TYPE_CHECKING:
    from cxguard.testing.simulation.process import Process

WEBHOOK_TRIES_MAX = 20
LATE, LATE_IN_OUTAGE = 0.06, 0.7  # of the charges land long after they were sent
SILENT, SILENT_IN_OUTAGE = 0.2, 0.4  # of the look-ups have no answer
CHARGES_MAX = 80  # calls of one story (27 at most in a thousand): who asks for ever is stopped before the record is long and slow
DEFINITE = (Does.NOT_CHARGED, Does.THROTTLE, Does.REFUSE)  # whoever hears that may go by it: there was no second copy on the way


class Line:
    """The gateway, as one process reaches it."""

    name = "sim:test"
    key_lifetime_seconds = 86_400.0
    settle_seconds = 60.0

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.keyed = world.plan.keyed

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        """Send it: what lands, and when, is the dice's."""
        world = self.world
        await self._judge_lease(key)
        await self.process.hop()
        world.charges += 1
        if world.charges > CHARGES_MAX:
            world.loop.give_up()
        sent_at, does = world.clock.monotonic(), world.mood()
        world.log(self.process.name, "charge", key[:8], does, f"asking={ASKING.get()}")
        landing = world.spawn(self._land(charge, key, does, sent_at=sent_at, asking=ASKING.get()))
        if self.keyed and does not in DEFINITE and not world.calm and world.dice.random() < 0.06:
            world.happens("request duplicated")
            world.spawn(self._land(charge, key, Does.CHARGE, sent_at=sent_at, asking=ASKING.get()))
        outcome: Outcome = await asyncio.shield(landing)
        await self.process.hop()
        if does is Does.RAISE and not isinstance(outcome, Charged | Declined):
            raise RuntimeError("a bug in the adapter")
        return outcome

    async def _judge_lease(self, key: str) -> None:
        """At this moment the caller's lease must live: from here on nothing but the socket is in between."""
        world = self.world
        for operation in await world.operations():
            if any(send.key == key for send in operation.sends) and world.plan.charged_by == "guard":
                _, until = world.leases.get(operation.id, (0, 0.0))
                if operation.id in world.taken_back | world.overlapping:
                    continue  # its lease was lost with the store's tail, or taken for over when the store's clock was set
                if until < world.clock.monotonic():
                    world.broken.append(f"the gateway was called for {operation.reference} without a lease")

    async def _land(self, charge: Charge, key: str, does: Does, *, sent_at: float, asking: int) -> Outcome:
        """On its way whatever becomes of whoever sent it."""
        world = self.world
        slow = not world.calm and world.dice.random() < (LATE_IN_OUTAGE if world.outage else LATE)
        if slow:
            world.happens("charge late")
        await passed(world.dice.uniform(6.0, 45.0) if slow else world.dice.choice([0.0, 0.01, 0.3]))
        if does is Does.RAISE:
            does = world.dice.choice([Does.CHARGE_THEN_UNKNOWN, Does.UNKNOWN])
        before = len(world.fake.payments)
        world.fake.otherwise = does
        outcome = await world.fake.charge(charge, key=key, timeout_seconds=1.0)
        for payment in world.fake.payments[before:]:
            self._note_landing(payment, sent_at=sent_at, asking=asking)
        await passed(world.dice.choice([0.0, 0.0, 0.2]))
        return outcome

    def _note_landing(self, payment: FakePayment, *, sent_at: float, asking: int) -> None:
        world = self.world
        world.log("landed", payment.id, payment.key[:8], payment.state)
        stood_at = world.clock.monotonic() if payment.stands else None
        world.landings.append(Landing(payment.id, payment.key, payment.charge.order_id, sent_at, asking, stood_at))
        world.spawn(webhooks(world, payment))
        if payment.state is PaymentState.PENDING and world.dice.random() < 0.5:
            world.spawn(at_the_bank(world, payment))

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        """What became of a key; now and then there is no answer."""
        await self.process.hop()
        await passed(self.world.dice.choice([0.0, 0.1]))
        outcome: Outcome = Unknown("silence")
        if self.world.calm or self.world.dice.random() > (SILENT_IN_OUTAGE if self.world.outage else SILENT):
            outcome = await self.world.fake.find(key, timeout_seconds=1.0)
        else:
            self.world.happens("look-up silent")
        self.world.log(self.process.name, "find", key[:8], type(outcome).__name__, getattr(outcome, "why", ""))
        await self.process.hop()
        return outcome

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        """Cancel what waits for the shopper under a key."""
        await self.process.hop()
        known = any(payment.key == key for payment in self.world.fake.payments)
        outcome: Outcome = Unknown("no keys here: nothing to cancel")
        if self.keyed or known:
            outcome = await self.world.fake.cancel(key, timeout_seconds=1.0)
        self.world.log(self.process.name, "cancel", key[:8], type(outcome).__name__)
        await self.process.hop()
        return outcome

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        raise NotImplementedError

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        """Give back; now and then the request or the answer is lost."""
        await self.process.hop()
        world = self.world
        world.happens("refund")
        if not world.calm and world.dice.random() < 0.15:
            world.happens("refund not sent")
            return Unknown("not sent, but who knows")
        outcome = await world.fake.refund(payment_id, key=key, amount_minor=amount_minor, currency=currency, timeout_seconds=1.0)
        world.log(self.process.name, "refund", payment_id, type(outcome).__name__)
        self._note_gone()
        await self.process.hop()
        if not world.calm and world.dice.random() < 0.15:
            world.happens("refund answer lost")
            return Unknown("answer lost")
        return outcome

    def _note_gone(self) -> None:
        payments = {payment.id: payment for payment in self.world.fake.payments}
        for landing in self.world.landings:
            payment = payments[landing.payment]
            if landing.gone_at is None and payment.refunded_minor >= payment.charge.amount_minor:
                landing.gone_at = self.world.clock.monotonic()


async def webhooks(world: World, payment: FakePayment) -> None:
    """What the gateway tells by itself: late, twice, in any order, never."""
    fact = _fact_of(payment)
    if fact is None:
        return
    for _ in range(world.dice.choice([0, 1, 1, 2])):
        await passed(world.dice.choice([0.0, 0.05, 1.0, 20.0, 60.0]))
        for _ in range(WEBHOOK_TRIES_MAX):
            try:
                world.log("webhook", payment.id, payment.state)
                await (await world.alive()).within(lambda guard: guard.note(fact, event_id=event_of(payment), gateway_key=payment.key))
                world.happens("webhook")
                world.told_of.add(payment.id)
                break
            except (CxguardError, ConnectionResetError):
                await passed(3.0)


def event_of(payment: FakePayment) -> str:
    """The name of the webhook that tells of it, however often it comes."""
    return f"evt:{payment.id}"


def _fact_of(payment: FakePayment) -> Charged | Declined | None:
    match payment.state:
        case PaymentState.CHARGED | PaymentState.AUTHORISED:
            charge = payment.charge
            return Charged(charge.amount_minor, charge.currency, payment_id=payment.id)
        case PaymentState.DECLINED:
            return Declined()
        case _:
            return None


async def at_the_bank(world: World, payment: FakePayment) -> None:
    """The shopper does the one more step, if the payment still waits for it."""
    await passed(world.dice.uniform(1.0, 90.0))
    if _now(world, payment).state is PaymentState.PENDING:
        world.fake.confirm(payment.key, payment_id=payment.id)
        world.log("confirmed", payment.id)
        world.happens("confirmed at the bank")
        next(each for each in world.landings if each.payment == payment.id).stood_at = world.clock.monotonic()
        await webhooks(world, _now(world, payment))


def _now(world: World, payment: FakePayment) -> FakePayment:
    return next(each for each in world.fake.payments if each.id == payment.id)
