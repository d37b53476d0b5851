"""End a run: fold, ask about what is unknown, conclude, and write the end in one save."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from cxguard.core.asks import TRY_FAILED, falls_back, shopper_ends
from cxguard.core.conclude import Conclusion, Ending, Run, Say, conclude
from cxguard.core.decide import RELEASED
from cxguard.core.money import MoneyState, Send
from cxguard.core.operation import Move, Operation, State, WaitingFor, changed, money_of, move, remember
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Unknown
from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.core.resolve import SHOP
from cxguard.core.schedule import backoff_seconds, resolve_pause_seconds
from cxguard.engine.breakers import Ticket
from cxguard.engine.charging import Work
from cxguard.engine.cold import StoredAnswer, Tombstone, seal_answer
from cxguard.engine.engine import Engine
from cxguard.engine.handle import OperationHandle
from cxguard.engine.keeping import Keeping, promise_for, tell_not_kept
from cxguard.engine.looking import ask_shop, look

Ask = Callable[[OperationHandle], Awaitable[Outcome]]

ASKED_STATUSES = frozenset({400, 409, 422})  # "rejected" by these may hide a charge, so a `resolve` hook is asked first


@dataclass(frozen=True, slots=True)
class Tenor:
    """What the rule says about ending a run.

    Attributes:
        may_keep: the merchant opted in, this shopper can be told, and the request holds nothing that may not be kept.
        why_not: why not, where the merchant opted in: for the event.
        keeping: what is looked at before it is kept; None: it was kept before, or nobody waits for it.
        has_later: an order that is paid can be completed without the shopper.
        ask: the rule's `resolve` hook.
        queue_seconds: the order's own end, counted from now, when it is kept.
        keep_seconds: how long an ended record stays whole.
    """

    may_keep: bool
    has_later: bool
    ask: Ask | None
    queue_seconds: float
    keep_seconds: float
    why_not: str = ""
    keeping: Keeping | None = None
    may_ask: bool = False  # the shopper can be sent back to the checkout, to go on with the order


@dataclass(frozen=True, slots=True)
class Told:
    """How the run ended: the record as stored, and what to say."""

    operation: Operation
    conclusion: Conclusion


def read_shop_charge(work: Work, reading: Reading) -> None:
    """Where the shop's own code charges, its answer is what we know about the send that was written at the start."""
    operation = work.operation
    newest = max((send.number for send in operation.sends if send.gateway == SHOP), default=0)
    sends = tuple(
        replace(send, outcome=_shop_outcome(operation, reading, send.outcome)) if send.number == newest and send.gateway == SHOP else send
        for send in operation.sends
    )
    work.operation = changed(operation, sends=sends)


def _shop_outcome(operation: Operation, reading: Reading, before: Outcome) -> Outcome:
    match reading:
        case Reading.SUCCEEDED:
            return Charged(amount_minor=operation.amount_minor or 0, currency=operation.currency or "")
        case Reading.DECLINED:
            return Declined()
        case Reading.REJECTED:
            return NotCharged(why="rejected by the shop")
        case Reading.FAILED:
            return before


def doubtful(reading: Reading, status: int) -> bool:
    """Whether a shop's own "not paid" is asked about before a shopper hears it."""
    return reading is Reading.DECLINED or (reading is Reading.REJECTED and status in ASKED_STATUSES)


async def keep_answer(engine: Engine, work: Work, answer: StoredAnswer) -> None:
    """Store a good answer before it leaves, and go on holding the lease: the run has not ended yet."""
    async with work.turn:
        read_shop_charge(work, Reading.SUCCEEDED)
        record = changed(work.operation, answer=seal_answer(engine.seal, work.operation, answer), answered_at=engine.clock.now())
        work.operation = await engine.operations.write(record, work.lease)


async def end_run(
    engine: Engine,
    handle: OperationHandle,
    tenor: Tenor,
    *,
    reading: Reading | None,
    answer: StoredAnswer | None,
    raised_after: bool = False,
) -> Told:
    """Conclude the run of *handle* and end its lease.

    Args:
        reading: what the handler's answer means; None for a script.
        answer: what to keep for replays, when the handler's own answer stands.

    Raises:
        LeaseLost, StoreUnavailable: the end was not written; the record still says what was written before.
    """
    try:
        return await _end_run(engine, handle, tenor, reading=reading, answer=answer, raised_after=raised_after)
    except BaseException:
        engine.operations.leases.drop(handle.work.lease)  # nothing runs here any more: it lapses, and somebody takes it over
        raise


async def _end_run(
    engine: Engine, handle: OperationHandle, tenor: Tenor, *, reading: Reading | None, answer: StoredAnswer | None, raised_after: bool
) -> Told:
    work = handle.work
    if handle.shop_ticket is not None:
        _feed_breaker(engine, handle, handle.shop_ticket, reading)
    await _settle_unknown(engine, handle, tenor, reading=reading, answer=answer)
    money = money_of(work.operation)
    tenor = await _unless_over(engine, handle, tenor)
    conclusion = conclude(
        Run(
            money=money,
            charged_by_shop=work.operation.charged_by == "shop",
            reading=reading,
            deferred=handle.deferral.why,
            hold=handle.deferral.why if handle.deferral.hold else "",
            needs_shopper=handle.deferral.needs_shopper,
            asks=handle.deferral.asks,
            may_ask=tenor.may_ask and work.needs_consent and work.operation.kept,
            falls_back=falls_back(work.operation, now=engine.clock.now()),
            may_keep=tenor.may_keep and handle.deferral.outage,
            has_later=tenor.has_later,
            can_resolve=can_resolve(engine, work.operation, tenor),
            has_steps=bool(work.operation.steps),
            raised_after=raised_after,
            cancel_asked=work.operation.cancel_asked,
        )
    )
    _note_false_decline(engine, work, reading, conclusion)
    good = answer if reading is Reading.SUCCEEDED and money.state is MoneyState.CHARGED else None
    untried_seconds = handle.deferral.untried_seconds
    async with work.turn:
        saved = await _write_end(engine, work, tenor, conclusion, answer=answer, good=good, untried_seconds=untried_seconds)
    if money_of(saved).state is not money.state:  # a fact came in with this very save: what was concluded is no longer true
        conclusion = replace(conclusion, say=Say.UNKNOWN)  # which says what the record says
    return Told(saved, conclusion)


async def _unless_over(engine: Engine, handle: OperationHandle, tenor: Tenor) -> Tenor:
    """Look at the caps before an order is kept for the first time; an order that is kept already has our word."""
    operation, deferral = handle.work.operation, handle.deferral
    money = money_of(operation).state
    settled = money not in (MoneyState.NONE, MoneyState.UNKNOWN) or operation.kept or operation.cancel_asked
    nothing_to_keep = money is MoneyState.NONE and not (deferral.outage or deferral.hold)
    if settled or nothing_to_keep:
        return tenor
    why = tenor.why_not
    if tenor.may_keep and tenor.keeping is not None:
        promise = await promise_for(engine, operation, tenor.keeping)
        handle.work.operation, why = promise.on(operation), promise.why_not
    if not why:
        return tenor
    tell_not_kept(engine, operation, why)
    return replace(tenor, may_keep=False)


def _feed_breaker(engine: Engine, handle: OperationHandle, ticket: Ticket, reading: Reading | None) -> None:
    """What the shop's own answer says about its charging: a failure that nobody can explain counts against it."""
    seconds = engine.clock.now() - handle.work.operation.updated_at
    match reading:
        case Reading.SUCCEEDED:
            ticket.settle(Charged(0, ""), seconds)
        case Reading.DECLINED:
            ticket.settle(Declined(), seconds)
        case Reading.FAILED:
            ticket.settle(Unknown("the shop's own answer"), seconds)
        case Reading.REJECTED | None:
            ticket.abandon()


async def _settle_unknown(
    engine: Engine, handle: OperationHandle, tenor: Tenor, *, reading: Reading | None, answer: StoredAnswer | None
) -> None:
    """The false-decline guard: before anyone hears "not paid", the shop's hook or the gateway is asked once."""
    work = handle.work
    if work.operation.charged_by == "shop" and reading is not None:
        status = answer.status if isinstance(answer, HandlerAnswer | Tombstone) else 500
        if tenor.ask is None or not (reading is Reading.FAILED or doubtful(reading, status)):
            read_shop_charge(work, reading)
            return
        await ask_about_shop_sends(engine, handle, tenor.ask)
        if money_of(work.operation).state in (MoneyState.NONE, MoneyState.DECLINED) and reading is not Reading.FAILED:
            read_shop_charge(work, reading)  # the hook agrees that nothing was charged: the handler's reason stands
        return
    if handle.deferral.why == "charge_unknown":
        return  # `op.charge` has asked already
    await look_at_unknown(engine, work)


async def look_at_unknown(engine: Engine, work: Work) -> None:
    """Ask each gateway about each key of which we do not know, once, while there is time."""
    for key in money_of(work.operation).unknown_keys:
        name = next((send.gateway for send in work.operation.sends if send.key == key), "")
        gateway = engine.gateway(name)
        if gateway is not None and work.remaining(engine) > 0:
            await look(engine, work, gateway=gateway, key=key)


async def ask_about_shop_sends(engine: Engine, handle: OperationHandle, ask: Ask) -> None:
    """Ask the rule's hook about what the shop's own code may have charged."""
    for key in money_of(handle.work.operation).unknown_keys:
        if any(send.key == key and send.gateway == SHOP for send in handle.work.operation.sends):
            await ask_shop(engine, handle.work, lambda: ask(handle), key=key)


def can_resolve(engine: Engine, operation: Operation, tenor: Tenor) -> bool:
    """Whether somebody can be asked what became of its sends."""
    names = {send.gateway for send in operation.sends}
    return (tenor.ask is not None and SHOP in names) or any(engine.gateway(name) for name in names)


def _note_false_decline(engine: Engine, work: Work, reading: Reading | None, conclusion: Conclusion) -> None:
    if conclusion.say in (Say.PAID_UNFINISHED, Say.UNKNOWN) and reading in (Reading.DECLINED, Reading.FAILED, Reading.REJECTED):
        engine.operations.emit("payment.false_decline_stopped", work.operation, reading=reading, money=money_of(work.operation).state)


async def _write_end(
    engine: Engine,
    work: Work,
    tenor: Tenor,
    conclusion: Conclusion,
    *,
    answer: StoredAnswer | None,
    good: StoredAnswer | None,
    untried_seconds: float | None,
) -> Operation:
    """Args: answer: what the handler said; good: the same, if it may be shown to a shopper whose order is held."""
    if conclusion.ending is Ending.RELEASE:
        return await _release(engine, work, tenor, conclusion)
    record = record_at_end(
        engine, work.operation, tenor, conclusion, answer=answer, good=good, untried_seconds=untried_seconds
    )
    saved = await engine.operations.end(record, work.lease)
    _tell_listeners(engine, saved, conclusion)
    work.operation = saved
    return saved


def record_at_end(
    engine: Engine,
    operation: Operation,
    tenor: Tenor,
    conclusion: Conclusion,
    *,
    answer: StoredAnswer | None = None,
    good: StoredAnswer | None = None,
    untried_seconds: float | None = None,
) -> Operation:
    """The record as *conclusion* leaves it; one that is let go stays as it is. Arguments as for `_write_end`."""
    match conclusion.ending:
        case Ending.FINISH:
            return _finished(engine, operation, tenor, conclusion, answer=answer if conclusion.say is Say.HANDLER else None)
        case Ending.DEFER:
            return _deferred(engine, operation, tenor, conclusion, untried_seconds=untried_seconds)
        case Ending.HOLD:
            return _held(engine, operation, tenor, conclusion, answer=good if operation.answer is None else None)
        case Ending.RELEASE:
            return operation


def _finished(engine: Engine, operation: Operation, tenor: Tenor, conclusion: Conclusion, *, answer: StoredAnswer | None) -> Operation:
    now = engine.clock.now()
    return engine.operations.moved(
        operation,
        Move.FINISH,
        "operation.finished",
        detail={"money": money_of(operation).state},
        why=conclusion.why,
        answer=seal_answer(engine.seal, operation, answer) if answer is not None else None,
        answered_at=now,
        due_at=pending_due(engine, operation),
        keep_until=now + tenor.keep_seconds,
        request=None,  # what a re-run or a resend would have needed is erased when the operation ends
        sends=without_parcels(operation.sends),
    )


def pending_due(engine: Engine, operation: Operation) -> float | None:
    """When a capture or refund without an answer is looked at; None: there is none."""
    money = money_of(operation)
    pending = money.refund_pending or money.capture_pending
    return engine.clock.now() + resolve_pause_seconds(0, jitter=engine.jitter()) if pending else None


def without_parcels(sends: tuple[Send, ...]) -> tuple[Send, ...]:
    """The lines without what a resend would need."""
    return tuple(replace(send, parcel=None) if send.parcel else send for send in sends)


def _deferred(engine: Engine, operation: Operation, tenor: Tenor, conclusion: Conclusion, *, untried_seconds: float | None) -> Operation:
    now = engine.clock.now()
    untried = untried_seconds is not None and operation.attempts > 0  # the breaker stood in the way: that was no try
    # who was told "not kept", or the handler's own no, is never charged later: only the kept steps wait for the next submit
    waits = conclusion.say in (Say.NOT_KEPT, Say.HANDLER)
    kept = not waits and (operation.kept or tenor.may_keep)
    give_up_at = operation.give_up_at or now + tenor.queue_seconds
    due_at = give_up_at if waits else min(now + _pause_seconds(engine, operation, conclusion, untried_seconds), give_up_at)
    return engine.operations.moved(
        operation,
        Move.DEFER,
        "order.queued",
        detail={"why": conclusion.why, "money": money_of(operation).state},
        why=conclusion.why,
        kept=kept,
        asked_until=None if kept else operation.asked_until,
        attempts=operation.attempts - untried,
        due_at=due_at,
        give_up_at=give_up_at,
    )


def _pause_seconds(engine: Engine, operation: Operation, conclusion: Conclusion, untried_seconds: float | None) -> float:
    jitter = engine.jitter()
    if conclusion.say is Say.UNKNOWN:
        return resolve_pause_seconds(0, jitter=jitter)
    if untried_seconds is not None:
        return untried_seconds * (1.0 + jitter)
    return backoff_seconds(operation.attempts, jitter=jitter)


def _held(engine: Engine, operation: Operation, tenor: Tenor, conclusion: Conclusion, *, answer: StoredAnswer | None) -> Operation:
    waiting_for = WaitingFor.SHOPPER if conclusion.waiting_for_shopper else WaitingFor.AGENT
    now = engine.clock.now()
    ends: dict[str, float] = {}
    if conclusion.waiting_for_shopper:
        ends = shopper_ends(operation, conclusion.why, now=now, queue_seconds=tenor.queue_seconds)
    return engine.operations.moved(
        operation,
        Move.HOLD,
        "order.held",
        detail={"why": conclusion.why, "waiting_for": waiting_for, "money": money_of(operation).state},
        why=conclusion.why,
        waiting_for=waiting_for,
        kept=operation.kept or tenor.may_keep or conclusion.why == TRY_FAILED,
        answer=seal_answer(engine.seal, operation, answer) if answer is not None else operation.answer,
        **ends,
    )


async def _release(engine: Engine, work: Work, tenor: Tenor, conclusion: Conclusion) -> Operation:
    """Nothing was charged: a first life that nobody was told of goes; any other is kept as ended, with what was learned."""
    operation = work.operation
    if _has_a_past(operation):
        back = move(operation, Move.CANCEL, why=RELEASED, keep_until=engine.clock.now() + tenor.keep_seconds, request=None)
        saved = await engine.operations.end(remember(back, engine.operations.entry("operation.released", why=conclusion.why)), work.lease)
    else:
        saved = await engine.operations.end(operation, work.lease, gone=True)
    engine.operations.emit("operation.released", saved, why=conclusion.why)
    if operation.give_up_at is not None:  # it had been accepted
        engine.operations.emit("order.cancelled", saved, why=conclusion.why)
    work.operation = saved
    return saved


def _has_a_past(operation: Operation) -> bool:
    """Whether somebody may ask for it later: it was accepted or answered before, or facts about money hang on it."""
    told = operation.generation > 1 or operation.give_up_at is not None or operation.answer is not None
    return told or bool(operation.notes) or not all(isinstance(send.outcome, NotCharged) for send in operation.sends)


def _tell_listeners(engine: Engine, saved: Operation, conclusion: Conclusion) -> None:
    detail = {"why": conclusion.why}
    match saved.state:
        case State.FINISHED:
            engine.operations.emit("operation.finished", saved, money=saved.money, amount_minor=saved.amount_minor, currency=saved.currency)
        case State.QUEUED:
            engine.operations.emit("order.queued", saved, due_at=saved.due_at, give_up_at=saved.give_up_at, **detail)
        case State.HELD:
            engine.operations.emit("order.held", saved, waiting_for=saved.waiting_for, money=saved.money, **detail)
        case State.RUNNING | State.CANCELLED:
            pass


def paid(operation: Operation) -> bool:
    """Whether a charge stands."""
    return money_of(operation).state is MoneyState.CHARGED
