"""What stands about one gateway key: the one outcome that a second call with it would be told."""

from __future__ import annotations

from cxguard.core.figures import figures_of
from cxguard.core.money import NO_ANSWER, MoneyState, SendKind, fold
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, Outcome, Refunded, Unknown


def standing_outcome(operation: Operation, key: str) -> Outcome | None:
    """The outcome that the fold stands on for *key*, or None: nothing is known, or surely not charged, so it may be sent."""
    sends = [send for send in operation.sends if send.key == key]
    notes = [note for note in operation.notes if note.gateway_key == key]
    facts = told_of(operation, key)
    if not facts:
        return None
    match fold(sends, notes, generation=operation.generation).state:
        case MoneyState.CHARGED:
            return _last(facts, Charged) or Unknown(why="only a refund tells of the charge")
        case MoneyState.REFUNDED:
            return _last(facts, Refunded)
        case MoneyState.DECLINED:
            return _last(facts, Declined)
        case MoneyState.UNKNOWN:
            return _last(facts, NeedsShopper) or _last(facts, Unknown) or NO_ANSWER
        case MoneyState.NONE:
            return None


def told_of(operation: Operation, key: str) -> list[Outcome]:
    """Everything that was said about *key*: in answer to a send, then by facts."""
    own = [send.outcome for send in operation.sends if send.key == key]
    return own + [note.outcome for note in operation.notes if note.gateway_key == key and note.outcome is not None]


def proof_of_charge(operation: Operation, key: str) -> Charged | None:
    """What was told of the charge, with the gateway's own name for it, without which nothing can be given back."""
    return next((outcome for outcome in told_of(operation, key) if isinstance(outcome, Charged) and outcome.payment_id), None)


def differs_from_asked(operation: Operation, key: str) -> bool:
    """Whether another amount or currency was charged under *key* than was asked for last: it was told of before the line was there
    that asks for it, so nobody could compare the two then."""
    told = figures_of(operation.sends, operation.notes, key)
    lines = [(send.amount_minor, send.currency) for send in operation.sends if send.key == key and send.kind is SendKind.CHARGE]
    asked = lines[-1] if lines else (operation.amount_minor, operation.currency)
    return told is not None and None not in asked and (told.authorised_minor, told.currency) != asked


def _last(facts: list[Outcome], kind: type[Outcome]) -> Outcome | None:
    return next((fact for fact in reversed(facts) if isinstance(fact, kind)), None)
