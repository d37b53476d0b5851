"""Compare a gateway's own list with the store, record every break, and bring in what is a fact."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cxguard.core.figures import made_refunds
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Refunded
from cxguard.core.reconcile import Break, BreakKind, Entry, compare, missing, more_went_back, twice_under_one_key
from cxguard.engine.bounds import bounded
from cxguard.engine.engine import Engine
from cxguard.engine.noting import note_outcome
from cxguard.gateways.base import Gateway, ListsPayments
from cxguard.stores.base import PAGE_MAX, Query

SOURCE = "reconcile"
_DAY = 86_400.0
RECORDS_BEFORE_SECONDS = 2 * _DAY  # an order that was opened so long before may have been charged in the window
FACTS = frozenset({BreakKind.NO_RECORD, BreakKind.NOT_ON_RECORD, BreakKind.UNRESOLVED, BreakKind.REFUND})


@dataclass(slots=True)
class Reconciled:
    """One look at one gateway.

    Attributes:
        payments: in its books, in the window; foreign: those among them that carry no key of ours.
        records: of ours that were compared.
    """

    gateway: str
    payments: int = 0
    foreign: int = 0
    records: int = 0
    breaks: list[Break] = field(default_factory=list)


async def reconcile(
    engine: Engine, gateway: Gateway, *, since: float, until: float, told: Callable[[Reconciled], None] = lambda _: None
) -> Reconciled:
    """Compare the window [since, until). What is younger than the gateway's `settle_seconds` is left to the next look.

    Args:
        told: hears how far it is, now and then.

    Raises:
        GatewayUnreadable: its books could not be read; nothing may be concluded from what is missing.
        StoreUnavailable: ours could not.
    """
    assert isinstance(gateway, ListsPayments), "asked before"
    until = min(until, engine.clock.now() - gateway.settle_seconds)
    seen = Reconciled(gateway.name)
    entries: dict[str, Entry] = {}
    async for payment in gateway.list_payments(since=since, until=until):
        seen.payments += 1
        if not payment.gateway_key:
            seen.foreign += 1
            continue
        entries[payment.payment_id] = Entry(
            payment.payment_id, payment.gateway_key, payment.outcome, payment.refunded_minor, payment.operation_id
        )
        told(seen)
    for entry in entries.values():  # only a list that was read to its end is judged
        await _judge(engine, gateway, seen, entry)
        told(seen)
    for entry, found in twice_under_one_key(entries.values()):
        operation = await _record_of(engine, entry)
        await _record(engine, seen, replace(found, reference=operation.reference if operation else ""), operation)
    await _look_for_missing(engine, gateway, seen, {entry.gateway_key for entry in entries.values()}, since=since, until=until)
    return seen


async def _judge(engine: Engine, gateway: Gateway, seen: Reconciled, entry: Entry) -> None:
    operation = await _record_of(engine, entry)
    found = compare(entry, operation)
    if found is None:
        return
    if operation is not None and found.kind is BreakKind.REFUND and not more_went_back(entry, operation):
        await _ask_about_refunds(engine, gateway, operation, entry)
    elif found.kind in FACTS and isinstance(entry.outcome, Charged | Refunded):
        event = f"list:{entry.payment_id}:{entry.words()}"
        fact = Refunded(entry.refunded_minor, entry.outcome.currency) if found.kind is BreakKind.REFUND else entry.outcome
        operation = await note_outcome(
            engine, fact, event_id=event, gateway_key=entry.gateway_key, operation_id=entry.operation_id, source=SOURCE
        )
    await _record(engine, seen, found, operation)


async def _record_of(engine: Engine, entry: Entry) -> Operation | None:
    """By the key; a record that has lost the line is found by the name that the payment carries."""
    query = Query(namespace=engine.operations.namespace, gateway_key=entry.gateway_key, limit=1)
    operation = next(iter((await engine.operations.store.search(query)).operations), None)
    if operation is not None or not entry.operation_id:
        return operation
    named = await engine.operations.store.get(entry.operation_id)
    return named if named is not None and named.namespace == engine.operations.namespace else None


async def _ask_about_refunds(engine: Engine, gateway: Gateway, operation: Operation, entry: Entry) -> None:
    """Less went back than we were told: a bank may return a refund days later. The gateway says of each what became of it."""
    for key in made_refunds(operation.sends, operation.notes, entry.gateway_key):
        outcome = await _found(engine, gateway, key)
        if isinstance(outcome, NotCharged):
            await note_outcome(engine, outcome, event_id=f"list:{key}:failed", gateway_key=key, source=SOURCE)


async def _look_for_missing(engine: Engine, gateway: Gateway, seen: Reconciled, listed: set[str], *, since: float, until: float) -> None:
    after: str | None = None
    while True:
        page = await engine.operations.store.search(Query(namespace=engine.operations.namespace, after=after, limit=PAGE_MAX))
        for operation in page.operations:
            if operation.created_at < since - RECORDS_BEFORE_SECONDS:
                return
            seen.records += 1
            for found in missing(operation, gateway=seen.gateway, listed=listed, since=since, until=until):
                if not await _is_there(engine, gateway, found.gateway_key):
                    await _record(engine, seen, found, operation)
        if page.cursor is None:
            return
        after = page.cursor


async def _is_there(engine: Engine, gateway: Gateway, key: str) -> bool:
    """Whether the gateway has it all the same: sent in the window and made a moment after it, or under the same key on another day."""
    return isinstance(await _found(engine, gateway, key), Charged | Refunded)


async def _found(engine: Engine, gateway: Gateway, key: str) -> Outcome:
    seconds = engine.timeouts.find_seconds
    return await bounded(functools.partial(gateway.find, key, timeout_seconds=seconds), seconds, doing="asking")


async def _record(engine: Engine, seen: Reconciled, found: Break, operation: Operation | None) -> None:
    """On the record's timeline, once for what it is; and for whoever listens."""
    seen.breaks.append(found)
    detail = {"kind": found.kind, "gateway": seen.gateway, "ours": found.ours, "theirs": found.theirs, "payment": found.payment_id}
    if operation is None:
        return
    text = f"{found.kind}: the gateway's books say {found.theirs}, ours {found.ours}"
    event_id = f"reconcile:{found.kind}:{found.gateway_key}:{found.theirs}"
    remark = Note(event_id, NoteKind.REMARK, engine.clock.now(), source=f"reconcile:{seen.gateway}", text=text)
    await engine.operations.note(operation.id, remark)
    engine.operations.emit("reconcile.break_found", operation, **detail)
