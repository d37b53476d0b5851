"""Ask the gateway, or the shop's own hook, what became of a key; the answer becomes a fact."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cxguard.core.figures import figures_of
from cxguard.core.lost import with_figures_told
from cxguard.core.money import Note, NoteKind, SendKind
from cxguard.core.operation import Operation, changed, remember
from cxguard.core.outcomes import CANCELLED, OTHER_FIGURES, Charged, NotCharged, Outcome, Refunded, Unknown, outcome_kind
from cxguard.core.resolve import LOOK_EVENT, SHOP, SILENCE_EVENT
from cxguard.engine.bounds import bounded
from cxguard.engine.breakers import Rejected
from cxguard.engine.charging import LEAST_SECONDS, Work, checked_amount
from cxguard.engine.engine import Engine
from cxguard.engine.hearing import ANSWERED
from cxguard.engine.hooks import said_by
from cxguard.gateways.base import Gateway

if TYPE_CHECKING:
    from cxguard.engine.handle import OperationHandle
    from cxguard.engine.tenor import Ask


async def look(engine: Engine, work: Work, *, gateway: Gateway, key: str, cancel: bool = False, generation: int = 0) -> Outcome:
    """Ask *gateway* about *key* once (or, with *cancel*, make sure it can never complete), and keep what it said.

    Args:
        generation: the life that the key belongs to, where no send says so.
    """
    kind = "cancel" if cancel else "find"
    ticket = await engine.breakers.enter(gateway.name, kind, queued=True, operation_id=work.operation.id)
    if isinstance(ticket, Rejected):
        return Unknown(why="gateway_down")
    seconds = min(engine.timeouts.find_seconds, max(work.remaining(engine), LEAST_SECONDS))
    call = gateway.cancel if cancel else gateway.find
    started = engine.clock.monotonic()
    try:
        async with engine.pressure.place(gateway.name, remaining_seconds=work.remaining(engine)) as free:
            if not free:
                ticket.abandon()
                return Unknown(why="gateway_busy")
            outcome = await bounded(lambda: call(key, timeout_seconds=seconds), seconds, doing="asking")
        # "not found" is an answer: only silence speaks against the gateway
        ticket.settle(outcome, engine.clock.monotonic() - started)
    except BaseException:
        ticket.abandon()
        raise
    return await keep_fact(engine, work, outcome, key=key, source=f"{kind}:{gateway.name}", generation=generation)


async def ask_shop(engine: Engine, handle: OperationHandle, ask: Ask, *, key: str) -> Outcome:
    """Ask the rule's `resolve` hook what became of a charge that the shop's own code made."""
    seconds = max(min(engine.timeouts.attempt_seconds, handle.work.remaining(engine)), LEAST_SECONDS)
    outcome = await bounded(lambda: said_by(ask, handle, name="resolve"), seconds, doing="asking")
    return await keep_fact(engine, handle.work, outcome, key=key, source="resolve")


def was_answered(outcome: Outcome) -> bool:
    """Whether the gateway said something about the payment, if only that it does not find it."""
    return not isinstance(outcome, Unknown) or outcome.why in ANSWERED or has_other_figures(outcome)


def has_other_figures(outcome: Outcome) -> bool:
    """Whether there is a charge, of another amount or currency than was asked for."""
    return isinstance(outcome, Unknown) and outcome.why.startswith(OTHER_FIGURES)


async def keep_fact(engine: Engine, work: Work, outcome: Outcome, *, key: str, source: str, generation: int = 0) -> Outcome:
    """Append what was learned as a note, covering the sends made so far: it stays even if our lease is gone by now.

    An `Unknown` teaches nothing and is only remembered in the timeline.
    """
    outcome = expected(work.operation, outcome, key)
    detail = {"source": source, "outcome": outcome_kind(outcome), "why": getattr(outcome, "why", "")}
    event = LOOK_EVENT if was_answered(outcome) else SILENCE_EVENT
    noted = None
    if not isinstance(outcome, Unknown):
        through = max((send.number for send in work.operation.sends if send.key == key), default=0)
        event_id = f"{source}:{key}:{through}:{_said(outcome)}"
        now = engine.clock.now()
        note = Note(event_id, NoteKind.OUTCOME, now, source=source, gateway_key=key, outcome=outcome, through=through)
        noted = await engine.operations.note(work.operation.id, replace(note, generation=generation))
    async with work.turn:
        known = changed(work.operation, notes=noted.notes) if noted is not None else work.operation
        work.operation = remember(with_figures_told(known, key, outcome), engine.operations.entry(event, **detail))
    if noted is not None:
        how, _, gateway = source.partition(":")
        engine.operations.emit("payment.resolved", work.operation, gateway=gateway or SHOP, outcome=outcome_kind(outcome), how=how)
    return outcome


def _said(outcome: Outcome) -> str:
    """What tells one fact from another: a reservation that has been taken since is another one, and so is a larger refund."""
    match outcome:
        case Charged(captured=False):
            return "reserved"
        case Refunded(amount_minor=amount_minor):
            return f"refunded:{amount_minor}"
        case _:
            return outcome_kind(outcome)


def expected(operation: Operation, outcome: Outcome, key: str | None) -> Outcome:
    """Only a charge of the amount that was asked for (or else accepted) is taken as this order's charge."""
    if isinstance(outcome, NotCharged) and outcome.why == CANCELLED and key is not None:
        return _released(operation, key) or outcome
    asked = [(send.amount_minor, send.currency) for send in operation.sends if send.key == key and send.kind is SendKind.CHARGE]
    amount_minor, currency = asked[-1] if asked else (operation.amount_minor, operation.currency)
    if isinstance(outcome, Charged) and amount_minor is not None and currency is not None:
        return checked_amount(outcome, amount_minor=amount_minor, currency=currency)
    return outcome


def _released(operation: Operation, key: str) -> Refunded | None:
    """What a cancelled payment has let go that was only reserved: it lapsed, or was voided at the gateway. Without keys it may be
    another payment that was cancelled."""
    figures = figures_of(operation.sends, operation.notes, key)
    keyed = all(send.keyed for send in operation.sends if send.key == key)
    if figures is None or figures.captured_minor or not figures.capturable_minor or not keyed:
        return None
    return Refunded(figures.capturable_minor, figures.currency)
