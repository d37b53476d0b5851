"""The record as the end of a run leaves it: finished, queued or held."""

from __future__ import annotations

from dataclasses import replace

from cxguard.core.asks import TRY_FAILED, shopper_ends
from cxguard.core.conclude import Conclusion, Ending, Say
from cxguard.core.money import MoneyState, Send
from cxguard.core.operation import Move, Operation, WaitingFor, money_of
from cxguard.core.resolve import looks_at
from cxguard.core.schedule import backoff_seconds, resolve_pause_seconds
from cxguard.engine.cold import StoredAnswer, seal_answer
from cxguard.engine.engine import Engine
from cxguard.engine.tenor import Tenor


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
    return tuple(replace(send, parcel=None) for send in sends)


def _deferred(engine: Engine, operation: Operation, tenor: Tenor, conclusion: Conclusion, *, untried_seconds: float | None) -> Operation:
    now = engine.clock.now()
    untried = untried_seconds is not None and operation.attempts > 0  # the breaker stood in the way: that was no try
    # who was told "not kept", or the handler's own no, is never charged later: only the kept steps wait for the next submit
    waits = conclusion.say in (Say.NOT_KEPT, Say.HANDLER)
    kept = not waits and (operation.kept or tenor.may_keep)
    give_up_at = operation.give_up_at or now + tenor.queue_seconds
    pause_seconds = _pause_seconds(engine, operation, conclusion, untried_seconds)
    paid = money_of(operation).state is MoneyState.CHARGED
    # an unpaid one is told at its end that it has ended; a paid one is tried until it is there, and gently
    due_at = give_up_at if waits else now + pause_seconds if paid else min(now + pause_seconds, give_up_at)
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
        return resolve_pause_seconds(looks_at(operation), jitter=jitter)
    if untried_seconds is not None:
        return untried_seconds * (1.0 + jitter)
    return backoff_seconds(operation.attempts, jitter=jitter)


def _held(engine: Engine, operation: Operation, tenor: Tenor, conclusion: Conclusion, *, answer: StoredAnswer | None) -> Operation:
    waiting_for = WaitingFor.SHOPPER if conclusion.waiting_for_shopper else WaitingFor.AGENT
    now = engine.clock.now()
    ends: dict[str, float | None] = {"due_at": pending_due(engine, operation)}
    if conclusion.waiting_for_shopper:
        ends |= shopper_ends(operation, conclusion.why, now=now, queue_seconds=tenor.queue_seconds)
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
