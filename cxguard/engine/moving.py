"""Capture, refund and void: what is done with a charge afterwards, each once, under a key of its own.

A movement is a line of the payment's own operation, written before the gateway is called and folded like every other. Its
step names it: called again with the same figures it gives what is known, or sends the very same again; what was refused
may be tried again. Nothing is sent that would take more than was reserved, or give back more than was taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cxguard.core.figures import ChargeFigures, failed_refunds, figures_of
from cxguard.core.money import NO_ANSWER, Send, SendKind, next_number
from cxguard.core.operation import Operation, State, money_of
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown, outcome_kind
from cxguard.core.standing import standing_outcome
from cxguard.core.wishes import is_in_time
from cxguard.engine.bounds import bounded
from cxguard.engine.breakers import Rejected
from cxguard.engine.charging import GATEWAY_DOWN, LEAST_SECONDS, Work, answered, checked_amount, write_send
from cxguard.engine.engine import Engine
from cxguard.errors import ConfigurationError, PaymentDeferred, PaymentRefused, StepMismatch
from cxguard.gateways.base import Gateway

_BREAKER_KINDS = {SendKind.CAPTURE: "capture", SendKind.REFUND: "refund", SendKind.VOID: "refund"}
_OWN_NAME = "give each capture, refund and void a step name of its own"
_DONE = {SendKind.CAPTURE: "payment.captured", SendKind.REFUND: "payment.refunded", SendKind.VOID: "payment.refunded"}


@dataclass(frozen=True, slots=True)
class Movement:
    """What is asked for.

    Attributes:
        of: the step of the charge that it is about.
        amount_minor: None: all that is left.
        why: for the timeline.
    """

    kind: SendKind
    step: str
    of: str = "charge"
    amount_minor: int | None = None
    why: str = ""


async def move_money(engine: Engine, work: Work, asked: Movement, *, key: str) -> Charged | Refunded:
    """Do *asked*, once.

    Args:
        key: the gateway key of its step, for the first time that it is asked for.

    Raises:
        StepMismatch: no such charge, other figures than before, or more than there is. Nothing was sent.
        PaymentRefused: the gateway said no. Nothing moved.
        PaymentDeferred: it is not known whether it worked, or the gateway is down; the worker goes on with what was sent. Or the
            charge is to be given back: then nothing of it is taken.
        LeaseLost, StoreUnavailable: nothing was sent.
    """
    line = _line(engine, work.operation, asked, key=key)
    known = move_outcome(work.operation, line.key)
    if isinstance(known, NotCharged) and _is_used_up(work.operation, line.key):
        raise PaymentRefused(asked.kind, f"{known.why}; the gateway knows its key: {_OWN_NAME}")
    if isinstance(known, NotCharged):  # refused: other steps may have moved since what it was about
        _amount(work.operation, replace(asked, amount_minor=line.amount_minor), _charge(work.operation, asked)[1])
    if known is None or isinstance(known, NotCharged | Unknown):
        if asked.kind is SendKind.CAPTURE and (why := _why_it_goes_back(work.operation)):
            raise PaymentDeferred(why, reference=work.operation.reference)
        if isinstance(known, Unknown) and not _may_repeat(engine, work.operation, line):
            raise PaymentDeferred(f"{asked.kind}_unknown", reference=work.operation.reference)
        known = await send_move(engine, work, line, gateway=_gateway(engine, line.gateway), why=asked.why)
    return _told(known, asked, reference=work.operation.reference)


async def send_move(engine: Engine, work: Work, line: Send, *, gateway: Gateway, why: str, queued: bool = False) -> Outcome:
    """One try of a movement, the first or the very same again."""
    charged = standing_outcome(work.operation, line.of or "")
    if not isinstance(charged, Charged):
        return NotCharged("no charge stands")
    ticket = await engine.breakers.enter(gateway.name, _BREAKER_KINDS[line.kind], queued=queued, operation_id=work.operation.id)
    if isinstance(ticket, Rejected):
        return NotCharged(GATEWAY_DOWN)
    started = engine.clock.monotonic()
    send = replace(line, number=next_number(work.operation.sends, work.operation.notes), outcome=NO_ANSWER, sent_at=engine.clock.now())
    try:
        async with engine.pressure.place(gateway.name, remaining_seconds=work.remaining(engine)) as free:
            if not free:
                ticket.abandon()
                return NotCharged(GATEWAY_DOWN)
            await write_send(engine, work, send)
            work.lease.check()
            outcome = await _call(engine, work, gateway, charged=charged, send=send)
        ticket.settle(outcome, engine.clock.monotonic() - started)
    except BaseException:
        ticket.abandon()
        raise
    await answered(engine, work, send, outcome, seconds=engine.clock.monotonic() - started)
    if isinstance(outcome, Charged | Refunded):
        detail = {"gateway": gateway.name, "amount_minor": outcome.amount_minor, "currency": outcome.currency}
        engine.operations.emit(_DONE[line.kind], work.operation, why=why, by="cxguard", **detail)
    return outcome


def move_outcome(operation: Operation, key: str) -> Outcome | None:
    """What is known of a capture, refund or void: done; unknown; refused; None: never sent."""
    if key in failed_refunds(operation.sends, operation.notes):
        return NotCharged("made, and failed later")
    sends = [send for send in operation.sends if send.key == key]
    facts = [send.outcome for send in sends] + [note.outcome for note in operation.notes if note.gateway_key == key and note.outcome]
    done = next((fact for fact in facts if isinstance(fact, Charged | Refunded)), None)
    if done is not None or not sends:
        return done
    return next((fact for fact in facts if isinstance(fact, Unknown | NeedsShopper)), facts[-1])


def _is_used_up(operation: Operation, key: str) -> bool:
    """Whether the gateway said of the key itself that nothing moved under it: sent again, it would only tell the old tale."""
    return any(note.gateway_key == key and isinstance(note.outcome, NotCharged) for note in operation.notes)


def _why_it_goes_back(operation: Operation) -> str:
    """Why the charge is to be given back, so that nothing of it is taken any more; "": it stays."""
    if is_in_time(operation):
        return "cancel_asked"
    due = operation.state is State.CANCELLED or (operation.state is State.HELD and operation.why == "refund_due")
    return "refund_due" if due or len(money_of(operation).charged_keys) > 1 else ""


def _line(engine: Engine, operation: Operation, asked: Movement, *, key: str) -> Send:
    """The line to send: as it was sent before for this very charge, or a new one for what is left.

    An order that was given back and bought again has another charge: what was done with the first says nothing of it.
    """
    charge, figures = _charge(operation, asked)
    before = [send for send in operation.sends if send.step == asked.step]
    of_charge = [send for send in before if send.of == charge.key]
    if of_charge:
        _check_same(of_charge[-1], asked)
        return of_charge[-1]
    if before and before[-1].generation == operation.generation:
        raise StepMismatch(f"{asked.step!r} was a {before[-1].kind} before: {_OWN_NAME}; nothing was sent")
    return Send(
        number=0,
        gateway=charge.gateway,
        key=key,
        step=asked.step,
        generation=operation.generation,
        kind=asked.kind,
        amount_minor=_amount(operation, asked, figures),
        currency=figures.currency,
        sent_at=0.0,
        keyed=_gateway(engine, charge.gateway).keyed,
        of=charge.key,
    )


def _check_same(before: Send, asked: Movement) -> None:
    if before.kind is not asked.kind:
        raise StepMismatch(f"{asked.step!r} was a {before.kind} before: {_OWN_NAME}; nothing was sent")
    if asked.amount_minor is not None and asked.amount_minor != before.amount_minor:
        raise StepMismatch(
            f"{asked.step!r} was {before.amount_minor} {before.currency} before, not {asked.amount_minor}: {_OWN_NAME}; nothing was sent"
        )


def _charge(operation: Operation, asked: Movement) -> tuple[Send, ChargeFigures]:
    money = money_of(operation)
    charges = [send for send in operation.sends if send.kind is SendKind.CHARGE and send.step.partition("@")[0] == asked.of]
    if any(send.key in money.unknown_keys for send in charges):
        raise PaymentDeferred("charge_unknown", reference=operation.reference)
    for send in reversed(charges):
        figures = figures_of(operation.sends, operation.notes, send.key)
        if figures is not None:
            return send, figures
    raise StepMismatch(f"there is no charge {asked.of!r} to {asked.kind}: nothing was sent")


def _amount(operation: Operation, asked: Movement, figures: ChargeFigures) -> int:
    money = money_of(operation)
    if money.refund_pending or money.capture_pending:
        raise PaymentDeferred("refund_unknown" if money.refund_pending else "capture_unknown", reference=operation.reference)
    most = figures.refundable_minor if asked.kind is SendKind.REFUND else figures.capturable_minor
    if asked.kind is SendKind.VOID and figures.captured_minor:
        raise StepMismatch("part of the charge was taken: refund that; what is still reserved lapses at the gateway; nothing was sent")
    amount_minor = most if asked.amount_minor is None else asked.amount_minor
    if type(amount_minor) is not int or not 1 <= amount_minor <= most:
        other = "; what is only reserved is released with void" if asked.kind is SendKind.REFUND and figures.capturable_minor else ""
        raise StepMismatch(
            f"a {asked.kind} of {amount_minor!r}: {most} {figures.currency} (minor units) can be, of {figures.authorised_minor} reserved, "
            f"{figures.captured_minor} taken and {figures.refunded_minor} given back; nothing was sent{other}"
        )
    return amount_minor


def _may_repeat(engine: Engine, operation: Operation, line: Send) -> bool:
    """The very same again is harmless while the gateway remembers its key."""
    gateway = _gateway(engine, line.gateway)
    first_at = min(send.sent_at for send in operation.sends if send.key == line.key)
    return gateway.keyed and engine.clock.now() - first_at < gateway.key_lifetime_seconds


def _gateway(engine: Engine, name: str) -> Gateway:
    gateway = engine.gateway(name)
    if gateway is None:
        raise ConfigurationError(f"this charge was made at {name!r}, which is not among the guard's gateways: add it; nothing was sent")
    return gateway


def _told(outcome: Outcome, asked: Movement, *, reference: str) -> Charged | Refunded:
    match outcome:
        case Charged() | Refunded():
            return outcome
        case NotCharged(why=why) if why == GATEWAY_DOWN:
            raise PaymentDeferred(GATEWAY_DOWN, reference=reference)
        case NotCharged(why=why):
            raise PaymentRefused(asked.kind, why)
        case _:
            raise PaymentDeferred(f"{asked.kind}_unknown", reference=reference)


async def _call(engine: Engine, work: Work, gateway: Gateway, *, charged: Charged, send: Send) -> Outcome:
    seconds = min(engine.timeouts.attempt_seconds, max(work.remaining(engine), LEAST_SECONDS))
    amount_minor, currency = send.amount_minor or 0, send.currency or ""
    call = gateway.capture if send.kind is SendKind.CAPTURE else gateway.refund
    outcome = await bounded(
        lambda: call(charged.payment_id, key=send.key, amount_minor=amount_minor, currency=currency, timeout_seconds=seconds),
        seconds,
        doing=f"asking for a {send.kind}",
    )
    return _fitting(checked_amount(outcome, amount_minor=amount_minor, currency=currency), send.kind)


def _fitting(outcome: Outcome, kind: SendKind) -> Outcome:
    """What can be said of a movement. A refund that is answered with a charge, say, has told us nothing."""
    match outcome:
        case Charged(captured=False) if kind is SendKind.CAPTURE:  # it was taken in, and the money is still only reserved
            return Unknown("processing")
        case Charged() if kind is SendKind.CAPTURE:
            return outcome
        case Refunded() if kind is not SendKind.CAPTURE:
            return outcome
        case NotCharged() | Unknown():
            return outcome
        case Declined():
            return NotCharged(f"declined: {outcome.code or outcome.reason}")
        case _:
            return Unknown(f"a {kind} was answered with {outcome_kind(outcome)}")
