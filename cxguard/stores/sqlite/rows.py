"""A record as a row, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cxguard.core.money import MoneyState
from cxguard.core.operation import Lease, Operation, State
from cxguard.stores.codec import decode_body, decode_note, encode_body, member
from cxguard.stores.record import derived_reference, gateway_keys, prune_at, ripe_at

Row = tuple[Any, ...]

REFERENCE_DIGITS = 15  # hex digits of an id that its reference derives from
_LETTERS = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_BASE_32 = str.maketrans("ABCDEFGHJKMNPQRSTVWXYZ", "abcdefghijklmnopqrstuv")  # a reference's letters, as Python counts


class Head(NamedTuple):
    """What a write looks at before it changes a record; the order of `find_head`."""

    seq: int
    namespace: str
    state: str
    money: str
    rule: str
    reference: str | None
    session: str | None
    contact_hash: str | None
    lease_holder: str | None
    lease_token: int | None
    lease_until: float | None
    lease_attempt: str | None
    amount_minor: int | None
    currency: str | None
    due_at: float | None
    notes: int
    sends: int
    revision: int
    version: int
    claims: str | None

    @property
    def lease(self) -> Lease | None:
        return lease_of(self.lease_holder, self.lease_token, self.lease_until, self.lease_attempt)

    @property
    def names(self) -> Row:
        return (self.rule, self.reference, self.session, self.contact_hash)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record made ready for writing on its caller's own time, before the file is locked."""

    operation: Operation
    body: str
    gateway_keys: frozenset[str]


def encode(operation: Operation) -> Encoded:
    keys = gateway_keys(operation) if operation.sends or operation.notes else frozenset()
    return Encoded(operation, encode_body(operation), keys)


def lease_of(holder: str | None, token: int | None, until: float | None, attempt: str | None) -> Lease | None:
    if token is None or until is None:
        return None
    return Lease(holder or "", token, until, attempt or "")


def operation_of(row: Row) -> Operation:
    """The record of a row that was read as `whole`."""
    (
        _, id, namespace, rule, state, money, reference, session, contact_hash, created_at, updated_at, due_at,
        keep_until, holder, token, until, attempt, amount_minor, currency, notes_seen, revision, version,
        claims, request, answer, contact, body, notes,
    ) = row  # fmt: skip
    members: dict[str, Any] = {
        "id": id,
        "namespace": namespace,
        "rule": rule,
        "state": member(State, state, otherwise=State.HELD),
        "money": member(MoneyState, money, otherwise=MoneyState.UNKNOWN),
        "reference": derived_reference(id) if reference is None else reference,
        "session": session,
        "contact_hash": contact_hash,
        "created_at": created_at,
        "updated_at": updated_at,
        "due_at": due_at,
        "keep_until": keep_until,
        "lease": lease_of(holder, token, until, attempt),
        "amount_minor": amount_minor,
        "currency": currency,
        "notes_seen": notes_seen,
        "revision": revision,
        "version": version,
        "claims": claims_of(claims),
        "request": request,
        "answer": answer,
        "contact": contact,
        "notes": tuple(decode_note(text) for text in json.loads(notes)) if notes is not None else (),
    }
    return Operation(**{**members, **decode_body(body)})


def claims_of(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text is not None else ()


def claims_text(claims: Sequence[str]) -> str | None:
    return json.dumps(list(claims)) if claims else None


def names_of(operation: Operation) -> Row:
    """The values of `update_names`: they seldom change, and each has an index of its own."""
    derived = id_range(operation.reference)[0] == operation.id[:REFERENCE_DIGITS]
    return (operation.rule, None if derived else operation.reference, operation.session, operation.contact_hash)


def id_range(reference: str) -> tuple[str, str]:
    """The ids that *reference* derives from: from the first (inclusive) to the second; nothing for one that cannot derive."""
    letters = reference[:4] + reference[5:9] + reference[10:]
    if len(reference) != len("7K3M-9QXA-2TFV") or reference[4] + reference[9] != "--" or not _LETTERS.issuperset(letters):
        return "", ""
    prefix = f"{int(letters.translate(_BASE_32), 32):0{REFERENCE_DIGITS}x}"
    return prefix, prefix + "g"  # "g" comes after every hex digit


def lease_values(lease: Lease | None) -> Row:
    return (None, None, None, None) if lease is None else (lease.holder, lease.token, lease.until, lease.attempt)


def insert_values(encoded: Encoded, operation: Operation, *, attempt: str) -> Row:
    """The values of `insert`: *operation* is the record with its lease and revision, *encoded* what it was made from."""
    rule, reference, session, contact_hash = names_of(operation)
    return (
        operation.id, operation.namespace, rule, operation.state, operation.money, reference, session, contact_hash,
        operation.created_at, operation.updated_at, operation.due_at, ripe_at(operation), operation.keep_until,
        prune_at(operation, pruned=False), *lease_values(operation.lease), attempt, operation.amount_minor, operation.currency,
        len(operation.notes), operation.notes_seen, len(operation.sends), operation.revision, operation.version,
        claims_text(operation.claims), encoded.body, operation.request, operation.answer, operation.contact,
    )  # fmt: skip


def update_values(seq: int, body: str, *, operation: Operation, pruned: bool) -> Row:
    """The values of `update`."""
    return (
        operation.state, operation.money, operation.updated_at, operation.due_at, ripe_at(operation), operation.keep_until,
        prune_at(operation, pruned=pruned), int(pruned), *lease_values(operation.lease), operation.amount_minor,
        operation.currency, operation.notes_seen, len(operation.sends), operation.revision, operation.version,
        claims_text(operation.claims), body, operation.request, operation.answer, operation.contact, seq,
    )  # fmt: skip
