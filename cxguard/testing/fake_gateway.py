"""A gateway in memory that does what a test tells it, call by call, and keeps a ledger that does not lie."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from cxguard.core.outcomes import CANCELLED, Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.gateways.base import OPERATION_MEMBER, Charge, ListedPayment


class Does(StrEnum):
    """What one call to charge does."""

    CHARGE = "charge"
    CHARGE_THEN_UNKNOWN = "charge_then_unknown"  # the money is taken, the answer is lost
    UNKNOWN = "unknown"  # nothing is taken, and no answer comes either
    NOT_CHARGED = "not_charged"  # could not connect: may be tried again
    REFUSE = "refuse"  # turned away for good, not charged
    THROTTLE = "throttle"
    DECLINE = "decline"
    NEEDS_SHOPPER = "needs_shopper"
    HANG = "hang"  # waits for `release`, then charges
    CHARGE_THEN_HANG = "charge_then_hang"  # charges, then waits for `release`
    RAISE = "raise"  # a bug in an adapter


class PaymentState(StrEnum):
    CHARGED = "charged"
    AUTHORISED = "authorised"
    DECLINED = "declined"
    PENDING = "pending"  # waits for the shopper
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class FakePayment:
    """One line of the ledger.

    Attributes:
        captured_minor: what was taken by captures, of a payment that was only reserved at first.
        refunded_minor: what went back, or was released.
    """

    id: str
    key: str
    charge: Charge
    state: PaymentState
    captured_minor: int = 0
    refunded_minor: int = 0

    @property
    def stands(self) -> bool:
        """Whether the shopper's money is taken or reserved, now."""
        return self.state in (PaymentState.CHARGED, PaymentState.AUTHORISED) and self.refunded_minor < self.charge.amount_minor

    @property
    def capturable_minor(self) -> int:
        """What is reserved and not yet taken."""
        reserved = self.charge.amount_minor - self.captured_minor if not self.charge.capture else 0
        return reserved if self.state is PaymentState.AUTHORISED or self.captured_minor else 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived: `charge`, `find`, `cancel`, `capture` or `refund`, and the key (or payment) it was about."""

    verb: str
    key: str


class FakeGateway:
    """A `Gateway` for tests. Time-outs are not kept by it: what hangs, hangs until `release`.

    Args:
        script: what the first calls to charge do; after them, *otherwise*. A repeated key is replayed without using it up.
        keyed: whether a repeated key charges once.
    """

    def __init__(
        self,
        *script: Does,
        otherwise: Does = Does.CHARGE,
        name: str = "fake:test",
        keyed: bool = True,
        key_lifetime_seconds: float = 86_400.0,
        settle_seconds: float = 60.0,
    ) -> None:
        self.name = name
        self.keyed = keyed
        self.key_lifetime_seconds = key_lifetime_seconds
        self.settle_seconds = settle_seconds
        self.otherwise = otherwise
        self.payments: list[FakePayment] = []
        self.calls: list[Call] = []
        self._script = deque(script)
        self._said: dict[str, deque[Outcome]] = {}
        self._moved: dict[str, Outcome] = {}
        self._hanging = 0
        self._changed = asyncio.Condition()
        self._round = 0

    def will(self, *script: Does) -> None:
        """Add to the script of charges."""
        self._script.extend(script)

    def will_say(self, verb: str, outcomes: Iterable[Outcome]) -> None:
        """Script the next answers to `find`, `cancel`, `capture` or `refund`; the ledger is then neither asked nor changed."""
        self._said.setdefault(verb, deque()).extend(outcomes)

    @property
    def standing(self) -> list[FakePayment]:
        """The charges that stand now."""
        return [payment for payment in self.payments if payment.stands]

    def count(self, verb: str) -> int:
        """How many calls of *verb* arrived."""
        return sum(call.verb == verb for call in self.calls)

    async def until_hanging(self, count: int = 1) -> None:
        """Wait until *count* calls hang."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._hanging >= count)

    async def release(self) -> None:
        """Let every hanging call go on."""
        async with self._changed:
            self._round += 1
            self._changed.notify_all()

    def confirm(self, key: str, *, payment_id: str = "") -> None:
        """The shopper did the step at the bank: the waiting payment of *key* is charged; of several, that one, or else the first."""
        waiting = next(each for each in self._waiting(key) if payment_id in ("", each.id))
        self._replace(waiting, replace(waiting, state=PaymentState.CHARGED))

    def give_back_failed(self, payment_id: str) -> None:
        """The bank returned what was given back of this payment: it stands again."""
        payment = next(each for each in self.payments if each.id == payment_id)
        self._replace(payment, replace(payment, refunded_minor=0))

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        self.calls.append(Call("charge", key))
        known = self._find(key) if self.keyed else None
        if known is not None:
            same = (known.charge.amount_minor, known.charge.currency) == (charge.amount_minor, charge.currency)
            cancelled = known.state is PaymentState.CANCELLED
            return _outcome(known) if same or cancelled else Unknown("the key was used for another request")
        if charge.source.startswith("tok_declined"):
            return await self._do(Does.DECLINE, charge, key)
        return await self._do(self._script.popleft() if self._script else self.otherwise, charge, key)

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        self.calls.append(Call("find", key))
        said = self._scripted("find")
        if said is not None:
            return said
        known = self._find(key)
        return Unknown("not_found") if known is None else _outcome(known)

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        self.calls.append(Call("cancel", key))
        said = self._scripted("cancel")
        if said is not None:
            return said
        known = self._find(key)
        if known is None:
            known = self._enter(Charge(amount_minor=0, currency="", source=""), key, PaymentState.CANCELLED)
        elif known.state is PaymentState.PENDING:
            known = [self._replace(each, replace(each, state=PaymentState.CANCELLED)) for each in self._waiting(key)][-1]
        return _outcome(known)

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        self.calls.append(Call("capture", payment_id))
        payment = self._by_id(payment_id)
        said = self._scripted("capture") or self._moved.get(key)
        if said is not None:
            return said
        if payment is None or not payment.stands or amount_minor > payment.capturable_minor:
            return NotCharged("nothing to capture")
        captured_minor = payment.captured_minor + amount_minor
        self._replace(payment, replace(payment, state=PaymentState.CHARGED, captured_minor=captured_minor))
        return self._moved.setdefault(key, Charged(amount_minor, currency, payment_id=payment_id))

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        self.calls.append(Call("refund", payment_id))
        payment = self._by_id(payment_id)
        said = self._scripted("refund") or self._moved.get(key)
        if said is not None:
            return said
        if payment is None or amount_minor > payment.charge.amount_minor - payment.refunded_minor:
            return NotCharged("nothing to give back")
        self._replace(payment, replace(payment, refunded_minor=payment.refunded_minor + amount_minor))
        return self._moved.setdefault(key, Refunded(amount_minor, currency, refund_id=f"re_{len(self._moved) + 1}"))

    async def list_payments(self, *, since: float, until: float) -> AsyncIterator[ListedPayment]:
        """Its whole ledger, whatever the time: it has no clock."""
        self.calls.append(Call("list", ""))
        for payment in tuple(self.payments):
            named = payment.charge.metadata.get(OPERATION_MEMBER, "")
            yield ListedPayment(payment.id, payment.key, named, _outcome(payment), payment.refunded_minor, since)

    async def _do(self, does: Does, charge: Charge, key: str) -> Outcome:
        match does:
            case Does.CHARGE:
                return _outcome(self._take(charge, key))
            case Does.CHARGE_THEN_UNKNOWN:
                self._take(charge, key)
                return Unknown("no answer: scripted")
            case Does.UNKNOWN:
                return Unknown("no answer: scripted")
            case Does.NOT_CHARGED:
                return NotCharged("not sent: scripted", retryable=True, reroutable=True)
            case Does.REFUSE:
                return NotCharged("refused: scripted")
            case Does.THROTTLE:
                return NotCharged("throttled", retryable=True, retry_after_seconds=1.0, reroutable=True)
            case Does.DECLINE:
                return _outcome(self._enter(charge, key, PaymentState.DECLINED))
            case Does.NEEDS_SHOPPER:
                return _outcome(self._enter(charge, key, PaymentState.PENDING))
            case Does.HANG:
                await self._hang()
                return _outcome(self._take(charge, key))
            case Does.CHARGE_THEN_HANG:
                taken = self._take(charge, key)
                await self._hang()
                return _outcome(taken)
            case Does.RAISE:
                raise RuntimeError("a scripted bug in the adapter")
            case _:
                assert_never(does)

    async def _hang(self) -> None:
        async with self._changed:
            mine = self._round
            self._hanging += 1
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: self._round > mine)
            finally:
                self._hanging -= 1

    def _take(self, charge: Charge, key: str) -> FakePayment:
        """Charge; with keys on, a call that hung meanwhile finds what another one under its key did."""
        known = self._find(key) if self.keyed else None
        return known or self._enter(charge, key, PaymentState.CHARGED if charge.capture else PaymentState.AUTHORISED)

    def _enter(self, charge: Charge, key: str, state: PaymentState) -> FakePayment:
        payment = FakePayment(id=f"pay_{len(self.payments) + 1}", key=key, charge=charge, state=state)
        self.payments.append(payment)
        return payment

    def _find(self, key: str) -> FakePayment | None:
        """Of several, where the gateway honours no keys, one that stands speaks for the key, else one that may yet stand."""
        mine = [payment for payment in self.payments if payment.key == key]
        return next(iter([*(each for each in mine if each.stands), *self._waiting(key), *mine]), None)

    def _waiting(self, key: str) -> list[FakePayment]:
        return [payment for payment in self.payments if payment.key == key and payment.state is PaymentState.PENDING]

    def _by_id(self, payment_id: str) -> FakePayment | None:
        return next((payment for payment in self.payments if payment.id == payment_id), None)

    def _replace(self, old: FakePayment, new: FakePayment) -> FakePayment:
        self.payments[self.payments.index(old)] = new
        return new

    def _scripted(self, verb: str) -> Outcome | None:
        said = self._said.get(verb)
        return said.popleft() if said else None


def _outcome(payment: FakePayment) -> Outcome:
    charge = payment.charge
    match payment.state:
        case PaymentState.CHARGED | PaymentState.AUTHORISED if not payment.stands:
            return Refunded(payment.refunded_minor, charge.currency)
        case PaymentState.CHARGED | PaymentState.AUTHORISED:
            captured = payment.state is PaymentState.CHARGED and (charge.capture or payment.captured_minor >= charge.amount_minor)
            return Charged(charge.amount_minor, charge.currency, payment_id=payment.id, captured=captured)
        case PaymentState.DECLINED:
            return Declined(DeclineReason.FUNDS, "insufficient_funds")
        case PaymentState.PENDING:
            return NeedsShopper("one more step at the bank", resume_url=f"https://bank.example/{payment.id}")
        case PaymentState.CANCELLED:
            return NotCharged(CANCELLED)
        case _:
            assert_never(payment.state)
