"""One charge: the line is written, the lease is checked, the gateway is called, and what it said is kept.

Nothing here decides where the money is; that is folded from the lines. What is surely not charged may be tried again
within the deadline, under the same key; everything else ends as an outcome, once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import tenacity

from cxguard.core.money import NO_ANSWER, Send, SendKind, next_number
from cxguard.core.operation import Operation, changed, money_of, remember
from cxguard.core.outcomes import OTHER_FIGURES, Charged, NotCharged, Outcome, Unknown, outcome_kind
from cxguard.core.standing import standing_outcome
from cxguard.engine.bounds import bounded
from cxguard.engine.breakers import Rejected, Ticket
from cxguard.engine.cold import seal_charge
from cxguard.engine.engine import Engine
from cxguard.engine.leases import HeldLease
from cxguard.engine.pressure import CHARGE
from cxguard.gateways.base import Charge, Gateway

GATEWAY_DOWN = "gateway_down"  # nothing was sent, because the breaker is open
LEAST_SECONDS = 0.05  # for a call whose line is written: it may as well be tried
GATEWAY_BUSY = "gateway_busy"  # nothing was sent, because as many calls as may be are under way
BUSY_RETRY_SECONDS = 1.0
NOT_SENT = frozenset({GATEWAY_DOWN, GATEWAY_BUSY})  # our own side stood in the way: that was no try
SENDS_PER_CALL_MAX = 3  # one charge call; the shopper waits, and the queue will try for a day


@dataclass(slots=True)
class Work:
    """An operation in hand: the record as we last knew it, our lease, and when the caller must have an answer.

    Attributes:
        deadline: monotonic.
        turn: whoever changes `operation` has it: an early answer is stored while a background task may charge.
    """

    operation: Operation
    lease: HeldLease
    deadline: float
    queued: bool = False  # it comes from the queue, so it may be a breaker's probe
    needs_consent: bool = False  # a charge now is one without the shopper, who must have agreed to it
    claimed: tuple[str, ...] = ()  # by the submit that began this run: what went to another order since is not charged here
    turned_away: bool = False  # only by the ramp after an outage: its turn comes in a moment
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def remaining(self, engine: Engine) -> float:
        """Seconds until the caller must have an answer."""
        return self.deadline - engine.clock.monotonic()


async def send_charge(engine: Engine, work: Work, charge: Charge, *, gateway: Gateway, key: str, step: str) -> Outcome:
    """Charge once, or learn why not. Tries again only what is surely not charged, within the deadline.

    Raises:
        LeaseLost: before anything was sent by this call, or between two attempts.
        StoreUnavailable: the line could not be written: nothing was sent.
    """
    engine.pressure.tried(gateway.name)
    outcome = await _attempt(engine, work, charge, gateway=gateway, key=key, step=step)
    if not _worth_repeating(outcome) or work.remaining(engine) <= 0 or not engine.pressure.may_try_again(gateway.name):
        return outcome
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(_worth_repeating),
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(SENDS_PER_CALL_MAX - 1),
            _NoTimeLeft(engine, work),
            _NoneSavedUp(engine, gateway.name),  # last: asking spends one
        ),
        wait=tenacity.wait_random_exponential(multiplier=engine.timeouts.pause_seconds, max=1.0),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else outcome,
    )
    repeated: Outcome = await retrying(_attempt, engine, work, charge, gateway=gateway, key=key, step=step)
    return repeated


class _NoTimeLeft(tenacity.stop.stop_base):
    """Stop when the pause and one more call would not fit before the caller's deadline."""

    def __init__(self, engine: Engine, work: Work) -> None:
        self._engine = engine
        self._work = work

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return self._work.remaining(self._engine) <= retry_state.upcoming_sleep + self._engine.timeouts.pause_seconds


class _NoneSavedUp(tenacity.stop.stop_base):
    """Stop when the gateway's second tries are used up."""

    def __init__(self, engine: Engine, gateway: str) -> None:
        self._engine = engine
        self._gateway = gateway

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        return not self._engine.pressure.may_try_again(self._gateway)


def _worth_repeating(outcome: Outcome) -> bool:
    return isinstance(outcome, NotCharged) and outcome.retryable and outcome.retry_after_seconds is None


async def _attempt(engine: Engine, work: Work, charge: Charge, *, gateway: Gateway, key: str, step: str) -> Outcome:
    ticket = await engine.breakers.enter(gateway.name, "charge", method=charge.method, queued=work.queued, operation_id=work.operation.id)
    if isinstance(ticket, Rejected):
        work.turned_away = ticket.by_ramp
        return NotCharged(why=GATEWAY_DOWN, retry_after_seconds=ticket.retry_after_seconds, reroutable=True)
    try:
        async with engine.pressure.place(gateway.name, CHARGE, remaining_seconds=work.remaining(engine)) as free:
            if free:
                return await _send(engine, work, charge, ticket, gateway=gateway, key=key, step=step)
    except BaseException:
        ticket.abandon()
        raise
    ticket.abandon()  # we are busy, and know nothing new of the gateway
    return NotCharged(why=GATEWAY_BUSY, retry_after_seconds=BUSY_RETRY_SECONDS, reroutable=True)


async def _send(engine: Engine, work: Work, charge: Charge, ticket: Ticket, *, gateway: Gateway, key: str, step: str) -> Outcome:
    started, claims = engine.clock.monotonic(), (*work.operation.claims, *work.claimed)
    try:
        send = await _write_line(engine, work, charge, gateway=gateway, key=key, step=step)
        stop = _why_not_now(work.operation, send, claims=claims)
        if stop:
            outcome: Outcome = NotCharged(why=stop)
            ticket.abandon()
        else:
            work.lease.check()
            outcome = await _call(engine, work, charge, gateway=gateway, key=key)
            ticket.settle(outcome, engine.clock.monotonic() - started)
    except BaseException:
        ticket.abandon()
        raise
    await answered(engine, work, send, outcome, seconds=engine.clock.monotonic() - started)
    return outcome


def _why_not_now(operation: Operation, send: Send, *, claims: tuple[str, ...]) -> str:
    """What the save that wrote the line has brought to light: then nothing is sent after all."""
    if operation.cancel_asked:
        return "cancel_asked"
    if set(claims) - set(operation.claims):
        return "superseded"  # another operation has this purchase now
    money = money_of(operation)
    others = {*money.charged_keys, *money.unknown_keys} - {send.key}
    if others or isinstance(standing_outcome(operation, send.key), Charged):
        return "another_charge"
    return ""


async def _write_line(engine: Engine, work: Work, charge: Charge, *, gateway: Gateway, key: str, step: str) -> Send:
    send = Send(
        number=next_number(work.operation.sends, work.operation.notes),
        gateway=gateway.name,
        key=key,
        step=step,
        generation=work.operation.generation,
        kind=SendKind.CHARGE,
        amount_minor=charge.amount_minor,
        currency=charge.currency,
        sent_at=engine.clock.now(),
        keyed=gateway.keyed,
        parcel=seal_charge(engine.seal, work.operation, charge) if gateway.keyed else None,
    )
    await write_send(engine, work, send)
    return send


async def write_send(engine: Engine, work: Work, send: Send) -> None:
    """Make the line durable, with the outcome `Unknown`, before the gateway hears of it."""
    detail = {"gateway": send.gateway, "kind": send.kind, "number": send.number, "amount_minor": send.amount_minor}
    entry = engine.operations.entry("payment.sent", **detail)
    async with work.turn:
        record = remember(changed(work.operation, sends=(*work.operation.sends, replace(send, outcome=NO_ANSWER))), entry)
        work.operation = await engine.operations.write(record, work.lease)
    engine.operations.emit(
        "payment.sent",
        work.operation,
        generation=send.generation,
        currency=send.currency,
        **detail,
    )


async def _call(engine: Engine, work: Work, charge: Charge, *, gateway: Gateway, key: str) -> Outcome:
    seconds = min(engine.timeouts.attempt_seconds, max(work.remaining(engine), LEAST_SECONDS))
    outcome = await bounded(lambda: gateway.charge(charge, key=key, timeout_seconds=seconds), seconds, doing="charging")
    return checked_amount(outcome, amount_minor=charge.amount_minor, currency=charge.currency)


def checked_amount(outcome: Outcome, *, amount_minor: int, currency: str) -> Outcome:
    """A charge for another amount or currency than asked stays unknown, with both figures, until a person looks."""
    told = (getattr(outcome, "amount_minor", amount_minor), getattr(outcome, "currency", currency))
    if told == (amount_minor, currency):
        return outcome
    return Unknown(why=f"{OTHER_FIGURES} {amount_minor} {currency}, told {told[0]} {told[1]}")


async def answered(engine: Engine, work: Work, send: Send, outcome: Outcome, *, seconds: float) -> None:
    """Put the answer on its line, in hand; it becomes durable with the next save."""
    said = {"outcome": outcome_kind(outcome), "why": getattr(outcome, "why", "")}
    detail = {"gateway": send.gateway, "kind": send.kind, "number": send.number, **said}
    async with work.turn:
        sends = tuple(replace(line, outcome=outcome) if line.number == send.number else line for line in work.operation.sends)
        work.operation = remember(changed(work.operation, sends=sends), engine.operations.entry("payment.answered", **detail))
    engine.operations.emit("payment.answered", work.operation, duration_seconds=seconds, **detail)
