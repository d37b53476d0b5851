"""A record as a row, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.pq import Escaping

from cxguard.core.money import MoneyState
from cxguard.core.operation import Lease, Operation, State
from cxguard.stores.codec import decode_body, decode_note, encode_body, member
from cxguard.stores.record import derived_reference, gateway_keys, prune_at, ripe_at, unpaid_minor

Values = tuple[Any, ...]
Counts = tuple[tuple[tuple[str, str, str], int], ...]  # kind, first, second; by how much


class Moved(Exception):
    """What was read together is not of one moment: others wrote in between. Read again."""


@dataclass(slots=True)
class StoredRow:
    """One record in hand.

    Attributes:
        before: as it was loaded; None for one that is new.
        keys: its gateway keys as they were loaded.
        gone: it is to be deleted.
        anew: it was released and opened again within one batch.
    """

    operation: Operation
    attempt: str
    pruned: bool
    before: Operation | None = None
    keys: frozenset[str] = frozenset()
    gone: bool = False
    anew: bool = False


def stored_row(row: Values) -> StoredRow:
    """The row as it was read by `whole`."""
    operation = operation_of(row)
    return StoredRow(operation, row[28], row[29], before=operation, keys=gateway_keys(operation))


def row_of_json(columns: Sequence[Any]) -> Values:
    """A row of `whole` that was read as a JSON array, which spells bytes as text and whole times as integers."""
    times, sealed = (9, 10, 11, 12, 15), (23, 24, 25)
    row = list(columns)
    for number in times:
        row[number] = None if row[number] is None else float(row[number])
    for number in sealed:
        row[number] = None if row[number] is None else Escaping().unescape_bytea(row[number].encode())
    return tuple(row)


def is_torn(row: Values) -> bool:
    """Whether the row is newer than the notes beside it: one that was waited for is the newest, they are of when the statement began."""
    return bool(len(row[27] or ()) != row[30])


def operation_of(row: Values) -> Operation:
    (
        _, id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at,
        keep_until, holder, token, until, attempt, amount_minor, currency, notes_seen, revision, version,
        claims, request, answer, contact, body, notes, _, _, _,
    ) = row  # fmt: skip
    if is_torn(row):
        raise Moved
    members: dict[str, Any] = {
        "id": id,
        "namespace": namespace,
        "rule": rule,
        "state": member(State, state, otherwise=State.HELD),
        "money": member(MoneyState, money, otherwise=MoneyState.UNKNOWN),
        "reference": reference if reference is not None else derived_reference(id),
        "session": session,
        "contact_hash": contact_hash,
        "created_at": created_at,
        "updated_at": updated_at,
        "due_at": due_at,
        "keep_until": keep_until,
        "lease": None if token is None else Lease(holder or "", token, until, attempt or ""),
        "amount_minor": amount_minor,
        "currency": currency,
        "notes_seen": notes_seen,
        "revision": revision,
        "version": version,
        "claims": tuple(json.loads(claims)) if claims is not None else (),
        "request": request,
        "answer": answer,
        "contact": contact,
        "notes": tuple(decode_note(text) for text in notes) if notes is not None else (),
    }
    return Operation(**{**members, **decode_body(body)})


def insert_values(operation: Operation, *, attempt: str) -> Values:
    """The values of `insert`."""
    return (
        operation.id, operation.namespace, operation.rule, operation.state, operation.money, _reference(operation),
        operation.session, operation.contact_hash, operation.created_at, operation.updated_at, operation.due_at,
        ripe_at(operation), operation.keep_until, prune_at(operation, pruned=False), *_lease(operation.lease), attempt,
        operation.amount_minor, operation.currency, len(operation.notes), operation.notes_seen, operation.revision,
        operation.version, _claims(operation.claims), encode_body(operation), operation.request, operation.answer, operation.contact,
    )  # fmt: skip


def update_values(operation: Operation, *, pruned: bool) -> Values:
    """The values of `update`."""
    return (
        operation.rule, operation.state, operation.money, _reference(operation), operation.session, operation.contact_hash,
        operation.updated_at, operation.due_at, ripe_at(operation), operation.keep_until, prune_at(operation, pruned=pruned),
        pruned, *_lease(operation.lease), operation.amount_minor, operation.currency, len(operation.notes), operation.notes_seen,
        operation.revision, operation.version, _claims(operation.claims), encode_body(operation), operation.id,
    )  # fmt: skip


def lease_values(operation: Operation, *, pruned: bool) -> Values:
    """The values of `update_lease`: all that a lease, a note or a moved claim changes."""
    return (
        operation.updated_at, operation.due_at, ripe_at(operation), prune_at(operation, pruned=pruned), *_lease(operation.lease),
        len(operation.notes), operation.revision, _claims(operation.claims), operation.id,
    )  # fmt: skip


class Parcel:
    """What the records of one batch share: sealed members, which travel as bytes and not as text, and changes of counters.

    Attributes:
        sealed: of all records; a row names its own by their number.
    """

    def __init__(self) -> None:
        self.sealed: list[bytes] = [b""]  # never empty: a list without a member has no type, and the server would plan anew
        self._deltas: dict[Counts, int] = {}

    def seal(self, operation: Operation) -> dict[str, int | None]:
        """Take the sealed members in; their numbers by name."""
        return {name: self._number(getattr(operation, name)) for name in ("request", "answer", "contact")}

    def delta(self, moved: Counts) -> int:
        """The number of these changes, which are often the same for many records."""
        return self._deltas.setdefault(moved, len(self._deltas))

    def deltas(self) -> list[dict[str, Any]]:
        """Every change of a counter, behind its number."""
        return [
            {"delta": number, "kind": kind, "first": first, "second": second, "by": by}
            for moved, number in self._deltas.items()
            for (kind, first, second), by in moved
        ]

    def _number(self, member: bytes | None) -> int | None:
        if member is None:
            return None
        self.sealed.append(member)
        return len(self.sealed)


def fresh_row(operation: Operation, parcel: Parcel, *, attempt: str) -> dict[str, Any]:
    """A record that nobody has opened yet, as `write_known` reads it."""
    return {
        **_row(operation),
        "id": operation.id,
        "namespace": operation.namespace,
        "created_at": operation.created_at,
        "ripe_at": ripe_at(operation),
        "prune_at": prune_at(operation, pruned=False),
        "lease_holder": operation.lease.holder if operation.lease is not None else None,
        "lease_until": operation.lease.until if operation.lease is not None else None,
        "lease_attempt": operation.lease.attempt if operation.lease is not None else None,
        "opened_by": attempt,
        **parcel.seal(operation),
        "claimed": list(dict.fromkeys(operation.claims)) or None,
        "keys": sorted(gateway_keys(operation)) or None,
        "delta": parcel.delta(counts(None, operation)),
    }


def saved_row(operation: Operation, parcel: Parcel, *, before: Operation) -> dict[str, Any]:
    """A record that is replaced if it still is as *before*, as `write_known` reads it."""
    assert before.lease is not None, "only who holds the lease replaces a record"
    sealed = sealed_values(operation) != sealed_values(before)
    return {
        **_row(operation),
        "id": operation.id,
        "namespace": operation.namespace,
        "prune_at": prune_at(operation, pruned=False),
        "kept": operation.lease is not None,
        "sealed": sealed,
        **(parcel.seal(operation) if sealed else {}),
        "seen": before.revision,
        "token": before.lease.token,
        "freed": sorted(set(before.claims) - set(operation.claims)) or None,
        "keys": sorted(gateway_keys(operation) - gateway_keys(before)) or None,
        "delta": parcel.delta(counts(before, operation)),
    }


def counts(before: Operation | None, after: Operation | None) -> Counts:
    """What moves from one counter to another."""
    found: dict[tuple[str, str, str], int] = {}
    for operation, by in ((before, -1), (after, 1)):
        if operation is not None:
            place = ("operations", str(operation.state), str(operation.money))
            found[place] = found.get(place, 0) + by
            if operation.currency is not None:
                place = ("unpaid", operation.currency, "")
                found[place] = found.get(place, 0) + by * unpaid_minor(operation)
    return tuple((place, by) for place, by in found.items() if by)


def _row(operation: Operation) -> dict[str, Any]:
    return {
        "rule": operation.rule,
        "state": operation.state,
        "money": operation.money,
        "reference": _reference(operation),
        "session": operation.session,
        "contact_hash": operation.contact_hash,
        "updated_at": operation.updated_at,
        "due_at": operation.due_at,
        "keep_until": operation.keep_until,
        "amount_minor": operation.amount_minor,
        "currency": operation.currency,
        "notes_seen": operation.notes_seen,
        "version": operation.version,
        "claims": _claims(operation.claims),
        "body": encode_body(operation),
    }


def _reference(operation: Operation) -> str | None:
    """None for one that says the id itself, and is found by it."""
    return operation.reference if operation.reference != derived_reference(operation.id) else None


def sealed_values(operation: Operation) -> Values:
    return (operation.request, operation.answer, operation.contact)


def _lease(lease: Lease | None) -> Values:
    return (None, None, None, None) if lease is None else (lease.holder, lease.token, lease.until, lease.attempt)


def _claims(claims: Sequence[str]) -> str | None:
    return json.dumps(list(claims)) if claims else None
