"""What a refused save carried: an answer about money must not be lost with the lease."""

from __future__ import annotations

from cxguard.core.money import Note, NoteKind, Send
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, Declined, Refunded
from cxguard.engine.engine import Engine
from cxguard.errors import StoreError
from cxguard.logs import get_logger

_log = get_logger("late")


async def note_late_answers(engine: Engine, operation: Operation) -> Operation | None:
    """Append what *operation*, in our hands, knows more than the record. Returns the record, or None: the store is away.

    "Not charged" in answer to one send is about that send alone, so it is no fact about the key.
    """
    try:
        there = await engine.operations.store.get(operation.id)
        known = {send.number: send.outcome for send in there.sends} if there is not None else {}
        for send in operation.sends:
            if _speaks_for_key(send, operation.sends) and known.get(send.number) != send.outcome:
                there = await engine.operations.note(operation.id, _late(send, engine.clock.now()))
    except StoreError:
        await _spool(engine, operation)
        return None
    return there


async def _spool(engine: Engine, operation: Operation) -> None:
    """The store is away, and what it knows of them: each fact of this life is kept here, and brought there."""
    spool = engine.operations.spool
    if spool is None:
        return
    try:
        for send in operation.sends:
            if send.generation == operation.generation and _speaks_for_key(send, operation.sends):
                await spool.note(operation.id, _late(send, engine.clock.now()))
    except StoreError as error:
        _log.error("fact.not_kept", reference=operation.reference, why=str(error)[:200])


def _speaks_for_key(send: Send, sends: tuple[Send, ...]) -> bool:
    if isinstance(send.outcome, Declined):
        alone = all(other.key != send.key or other.number >= send.number for other in sends)
        return send.keyed or alone
    return isinstance(send.outcome, Charged | Refunded)


def _late(send: Send, now: float) -> Note:
    return Note(
        event_id=f"late:{send.key}:{send.number}",
        kind=NoteKind.OUTCOME,
        at=now,
        source="late answer",
        gateway_key=send.key,
        outcome=send.outcome,
        through=send.number,
    )
