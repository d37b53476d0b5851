"""Bring proof of what became of a payment to its record: from a webhook, a list, a person. Needs no lease."""

from __future__ import annotations

from cxguard.core import names
from cxguard.core.money import Note, NoteKind, SendKind
from cxguard.core.operation import Operation, money_of
from cxguard.core.outcomes import Charged, Outcome, Refunded, outcome_kind
from cxguard.core.standing import told_of
from cxguard.engine.engine import Engine
from cxguard.engine.looking import expected
from cxguard.errors import ConfigurationError, StoreUnavailable
from cxguard.stores.base import Query


async def note_outcome(
    engine: Engine,
    outcome: Outcome,
    *,
    event_id: str,
    gateway_key: str | None = None,
    reference: str | None = None,
    operation_id: str = "",
    source: str = "webhook",
) -> Operation:
    """Append *outcome* to the record that it is about; a key that no record knows makes a stub for the desk.

    Args:
        reference: the order's: then it is about its charge, whatever was captured or given back since. Where several charges were
            sent, and it may be about an older one of them, it becomes a remark: it settles nothing.
        operation_id: the record's id, as the payment's metadata names it: a stub then has the name that the order will have.

    Raises:
        KeyError: no record has this reference.
        StoreUnavailable: the store is away, and nothing here says whose payment it is: have the sender repeat it.
        ConfigurationError: not exactly one of *gateway_key* and *reference*; or no outcome.
    """
    if not isinstance(outcome, Outcome):  # as a fact it would be nothing, and its event would count as heard
        example = 'Charged(4999, "EUR", payment_id=event["payment_id"])'
        raise ConfigurationError(f"guard.note got a {type(outcome).__name__}, and no outcome: write {example}; nothing was noted")
    try:
        found = await _find(engine, gateway_key, reference) or await _named(engine, operation_id)
    except StoreUnavailable:
        if engine.operations.spool is None or gateway_key is None:
            raise
        note = Note(event_id, NoteKind.OUTCOME, engine.clock.now(), source=source, gateway_key=gateway_key, outcome=outcome)
        return await engine.operations.spool.note(operation_id or _stub_id(engine, gateway_key), note)
    if found is not None and gateway_key is None and len(_meant(found, outcome)) > 1:
        return await _remarked(engine, found, outcome, event_id=event_id, source=source)
    key = gateway_key or _charge_key(found, outcome)
    through = None
    if found is not None:
        outcome = expected(found, outcome, key)
        if not isinstance(outcome, Charged | Refunded):  # a "no" is about what was sent until now, never about a later send
            through = max((send.number for send in found.sends if send.key == key), default=None)
    note = Note(event_id, NoteKind.OUTCOME, engine.clock.now(), source=source, gateway_key=key, outcome=outcome, through=through)
    noted = await engine.operations.note(found.id if found else operation_id or _stub_id(engine, str(key)), note)
    engine.operations.emit("payment.noted", noted, source=source, stub=found is None)
    return noted


async def _named(engine: Engine, operation_id: str) -> Operation | None:
    """The record by the name that the payment carries: it may have lost the line of this key."""
    named = await engine.operations.store.get(operation_id) if operation_id else None
    return named if named is not None and named.namespace == engine.operations.namespace else None


def _charge_key(found: Operation | None, outcome: Outcome) -> str | None:
    """The key of the charge that is meant; of one that was never sent, the key that it would have."""
    if found is None:
        return None
    charges = _meant(found, outcome) or _charge_keys(found)[-1:]
    return charges[-1] if charges else names.gateway_key(found.id, step="charge", generation=found.generation)


def _meant(found: Operation, outcome: Outcome) -> tuple[str, ...]:
    """The charges that a word about the order can be about. One that came late, about a card before, must not settle another one:
    a refund is of what was charged; any other "no" of whatever was sent. That it is charged is true of the order in any case."""
    keys = _charge_keys(found)
    match outcome:
        case Charged():
            return keys[-1:]
        case Refunded():
            unknown = money_of(found).unknown_keys
            return tuple(key for key in keys if key in unknown or any(isinstance(said, Charged | Refunded) for said in told_of(found, key)))
        case _:
            return keys


def _charge_keys(found: Operation) -> tuple[str, ...]:
    """In the order of their newest sends."""
    newest_first = dict.fromkeys(send.key for send in reversed(found.sends) if send.kind is SendKind.CHARGE)
    return tuple(reversed(newest_first))


async def _remarked(engine: Engine, found: Operation, outcome: Outcome, *, event_id: str, source: str) -> Operation:
    """Put it where a person reads it. It makes the order due: what is unknown is asked about."""
    text = f"{outcome_kind(outcome)}: told of this order, and not of which of its payments; the gateway key would say it"
    note = Note(event_id, NoteKind.REMARK, engine.clock.now(), source=source, text=text)
    noted = await engine.operations.note(found.id, note)
    engine.operations.emit("order.remarked", noted, by=source)
    return noted


def _stub_id(engine: Engine, gateway_key: str) -> str:
    return engine.operation_id(purpose="stub", owner="", key=gateway_key)


async def _find(engine: Engine, gateway_key: str | None, reference: str | None) -> Operation | None:
    if (gateway_key is None) == (reference is None):
        raise ConfigurationError("guard.note needs gateway_key= or reference=, one of the two")
    query = Query(namespace=engine.operations.namespace, gateway_key=gateway_key, reference=reference, limit=1)
    found = next(iter((await engine.operations.store.search(query)).operations), None)
    if found is None and reference is not None:
        raise KeyError(f"no order {reference} here")
    return found
