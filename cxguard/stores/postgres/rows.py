"""A record as a row, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cxguard.core.money import MoneyState
from cxguard.core.operation import Lease, Operation, State
from cxguard.stores.codec import decode_body, decode_note, encode_body, member
from cxguard.stores.record import gateway_keys, prune_at, ripe_at

Values = tuple[Any, ...]


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


def operation_of(row: Values) -> Operation:
    (
        _, id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at,
        keep_until, holder, token, until, attempt, amount_minor, currency, notes_seen, revision, version,
        claims, request, answer, contact, body, notes, _, _, count,
    ) = row  # fmt: skip
    if count != len(notes or ()):  # a row that was waited for is the newest; notes beside it are of when the statement began
        raise Moved
    members: dict[str, Any] = {
        "id": id,
        "namespace": namespace,
        "rule": rule,
        "state": member(State, state, otherwise=State.HELD),
        "money": member(MoneyState, money, otherwise=MoneyState.UNKNOWN),
        "reference": reference,
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
        operation.id, operation.namespace, operation.rule, operation.state, operation.money, operation.reference,
        operation.session, operation.contact_hash, operation.created_at, operation.updated_at, operation.due_at,
        ripe_at(operation), operation.keep_until, prune_at(operation, pruned=False), *_lease(operation.lease), attempt,
        operation.amount_minor, operation.currency, len(operation.notes), operation.notes_seen, operation.revision,
        operation.version, _claims(operation.claims), encode_body(operation), operation.request, operation.answer, operation.contact,
    )  # fmt: skip


def update_values(operation: Operation, *, pruned: bool) -> Values:
    """The values of `update`."""
    return (
        operation.rule, operation.state, operation.money, operation.reference, operation.session, operation.contact_hash,
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


def sealed_values(operation: Operation) -> Values:
    return (operation.request, operation.answer, operation.contact)


def _lease(lease: Lease | None) -> Values:
    return (None, None, None, None) if lease is None else (lease.holder, lease.token, lease.until, lease.attempt)


def _claims(claims: Sequence[str]) -> str | None:
    return json.dumps(list(claims)) if claims else None
