"""A small model of money: it asks each question by itself and looks for whatever closes it."""

from __future__ import annotations

from collections.abc import Sequence

from money_lines import OPEN

from cxguard.core.money import MoneyState, Note, NoteKind, Send
from cxguard.core.outcomes import Charged, Declined, Refunded


def model_key(sends: Sequence[Send], notes: Sequence[Note]) -> MoneyState:
    told = [line.outcome for line in sends] + [note.outcome for note in notes]
    if any(isinstance(outcome, Charged | Refunded) for outcome in told):
        return MoneyState.CHARGED
    newest = max((line.number for line in sends), default=0)
    questions = [line.number for line in sends if isinstance(line.outcome, OPEN)]
    questions += [newest if note.through is None else note.through for note in notes if isinstance(note.outcome, OPEN)]
    if any(not _closed(question, sends, notes) for question in questions):
        return MoneyState.UNKNOWN
    return MoneyState.DECLINED if any(isinstance(outcome, Declined) for outcome in told) else MoneyState.NONE


def _closed(question: int, sends: Sequence[Send], notes: Sequence[Note]) -> bool:
    by_fact = any(not isinstance(note.outcome, OPEN) and (note.through is None or note.through >= question) for note in notes)
    by_send = any(line.keyed and line.number >= question and isinstance(line.outcome, Declined) for line in sends)
    return by_fact or by_send


def model(sends: Sequence[Send], notes: Sequence[Note], generation: int) -> MoneyState:
    """Only for charges without refund sends: the state over all keys."""
    facts = [note for note in notes if note.kind is NoteKind.OUTCOME and note.gateway_key]
    keys = {line.key for line in sends} | {note.gateway_key for note in facts}
    mine = {key: ([line for line in sends if line.key == key], [note for note in facts if note.gateway_key == key]) for key in keys}
    states = {key: model_key(*known) for key, known in mine.items()}
    if MoneyState.UNKNOWN in states.values():
        return MoneyState.UNKNOWN
    charged = [key for key in keys if states[key] is MoneyState.CHARGED]
    if any(_model_stands(*mine[key]) for key in charged):
        return MoneyState.CHARGED
    present = {states[key] for key in keys if _model_life(*mine[key]) in (0, generation)}
    if MoneyState.DECLINED in present:
        return MoneyState.DECLINED
    return MoneyState.REFUNDED if MoneyState.CHARGED in present else MoneyState.NONE


def _model_stands(sends: Sequence[Send], notes: Sequence[Note]) -> bool:
    told = [line.outcome for line in sends] + [note.outcome for note in notes]
    back = [outcome.amount_minor for outcome in told if isinstance(outcome, Refunded)]
    taken = [outcome.amount_minor for outcome in told if isinstance(outcome, Charged)] or [line.amount_minor or 0 for line in sends]
    return not back or max(back) < max(taken, default=0)


def _model_life(sends: Sequence[Send], notes: Sequence[Note]) -> int:
    return sends[0].generation if sends else max(note.generation for note in notes)
