"""When cancelling was asked for: before the order ended, or after it was paid and placed."""

from __future__ import annotations

from cxguard.core.money import NoteKind
from cxguard.core.operation import Entry, Operation, State

WHY_LATE = "cancel_asked"  # why a paid order is held that was asked to be cancelled after its end: it may stand, or be given back
WHY_BY_HAND = "placed_by_hand"  # why it has ended, when a person closed it


def is_late(operation: Operation) -> bool:
    """Whether a person has to say what becomes of the wish."""
    return operation.state is State.HELD and operation.why == WHY_LATE


def was_placed(operation: Operation) -> bool:
    """Whether it has ended as paid and placed in this life: what holds it now came up later. Not once a person has granted a wish
    to cancel it."""
    ends = [entry for entry in operation.history if entry.event == "operation.finished" or _grants(entry)]
    if operation.answered_at is None or not ends or _grants(ends[-1]):
        return False
    detail = ends[-1].detail
    return detail.get("money", detail.get("why", "paid")) in ("charged", "paid")  # at the desk only one that is not paid says so


def _grants(entry: Entry) -> bool:
    return entry.event == "order.requeued" and entry.detail.get("before") == WHY_LATE


def is_in_time(operation: Operation) -> bool:
    """Whether cancelling was asked for before the order ended. Nobody gets money back for goods by asking later, unless a person
    says so, by putting the order back into the queue."""
    if is_late(operation):
        return False
    over = operation.state is State.FINISHED or (operation.state is State.HELD and was_placed(operation))
    if not over or operation.answered_at is None:
        return operation.cancel_asked
    wishes = (note for note in operation.notes if note.kind is NoteKind.CANCEL and note.generation in (0, operation.generation))
    return any(note.at <= operation.answered_at for note in wishes)
