"""The writing verbs, each run whole inside a batch's transaction.

Every verb reads and decides first and writes last: a refusal (see `REFUSALS`) has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cxguard.core.money import MoneyState, Note
from cxguard.core.operation import RECORD_VERSION, Lease, Operation, State, changed
from cxguard.errors import LeaseLost, StoreUnavailable
from cxguard.stores.base import Match, Opened, Seen
from cxguard.stores.codec import decode_note, encode_body, encode_note
from cxguard.stores.record import (
    due_by,
    due_with_notes,
    gateway_keys,
    is_same_win,
    leasable,
    leased,
    new_lease,
    pruned,
    stub,
    take_mark,
    unpaid_minor,
)
from cxguard.stores.sqlite.rows import (
    Encoded,
    Head,
    Row,
    claims_of,
    claims_text,
    encode,
    insert_values,
    lease_values,
    names_of,
    operation_of,
    update_values,
)
from cxguard.stores.sqlite.transaction import Transaction

PUT_OFF_SECONDS = 300.0  # a record that cannot be read is looked at again after this: it must not stand before others


class UnknownOperation(KeyError):
    """There is no record with this id. A class of its own: any other KeyError is a mistake in here, after who knows what."""


REFUSALS = (LeaseLost, StoreUnavailable, UnknownOperation)  # raised before anything was written


def open_operation(
    tx: Transaction, encoded: Encoded, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen]
) -> Opened:
    operation = encoded.operation
    now = tx.clock.now()
    found = tx.one("find", (operation.id,))
    if found is not None:
        return _opened_before(tx, found, attempt=attempt, lease_seconds=lease_seconds, now=now)
    holders = _claim_holders(tx, operation.claims, id=operation.id)
    taken = _taken_claim(holders, superseding)
    if taken is not None:
        return _claimed(tx, taken, seq=holders[taken][0], now=now)
    tx.check_room()
    lease = None
    if lease_seconds is not None:
        lease = new_lease(holder, token=tx.number(), now=now, lease_seconds=lease_seconds, attempt=attempt)
    inserted = changed(operation, lease=lease, revision=tx.number(), notes=(), updated_at=now)
    seq = _insert(tx, encoded, operation=inserted, attempt=attempt)
    _move_claims(tx, holders, seq=seq)
    return Opened(True, inserted, lease is not None, Match.NEW, now)


def save_operation(tx: Transaction, encoded: Encoded, *, token: int, keep_lease: bool, gone: bool) -> Operation:
    operation = encoded.operation
    head = _held(tx, operation.id, token=token)
    if gone and head.notes <= operation.notes_seen:
        return _release(tx, operation)
    now = tx.clock.now()
    notes = tuple(decode_note(text) for (text,) in tx.all("notes_of", (head.seq,))) if head.notes else ()
    saved = changed(
        operation,
        lease=head.lease if keep_lease else None,
        due_at=operation.due_at if keep_lease else due_with_notes(operation, notes=head.notes, now=now),
        notes=notes,
        claims=_kept_claims(tx, operation, head=head),
        revision=tx.number(),
        updated_at=now,
    )
    tx.run("update", update_values(head.seq, encoded.body, operation=saved, pruned=False))
    if names_of(saved) != head.names:
        tx.run("update_names", (*names_of(saved), head.seq))
    if head.sends != len(saved.sends):
        _add_gateway_keys(tx, encoded.gateway_keys, seq=head.seq)
    _count_move(tx, head, saved)
    return saved


def take_operations(
    tx: Transaction, rules: Sequence[str], *, namespace: str, holder: str, lease_seconds: float, limit: int
) -> tuple[Operation, ...]:
    now = tx.clock.now()
    ripe = [(at, seq) for rule in dict.fromkeys(rules) for at, seq in tx.all("ripe", (namespace, rule, now, RECORD_VERSION, limit))]
    taken = []
    for _, seq in sorted(ripe)[:limit]:
        operation = operation_of(_whole(tx, seq))
        if operation.version > RECORD_VERSION:  # its body cannot be read
            tx.run("put_off", (now + PUT_OFF_SECONDS, seq))
            continue
        attempt = take_mark(operation.lease)
        lease = new_lease(holder, token=tx.number(), now=now, lease_seconds=lease_seconds, attempt=attempt)
        taken.append(_lease(tx, operation, seq=seq, lease=lease, now=now))
    return tuple(taken)


def seize_operation(
    tx: Transaction,
    seen: Seen,
    *,
    holder: str,
    attempt: str,
    lease_seconds: float,
    claims: Sequence[str],
    superseding: Sequence[Seen],
) -> Opened:
    row = tx.one("find", (seen.id,))
    if row is None:
        raise UnknownOperation(seen.id)
    now = tx.clock.now()
    seq, found = row[0], operation_of(row)
    if is_same_win(found, attempt):
        return Opened(True, _renew(tx, found, lease_seconds=lease_seconds, now=now), True, Match.ID, now)
    if found.revision != seen.revision or not leasable(found, now=now):
        return Opened(False, found, leased(found, now=now), Match.ID, now)
    holders = _claim_holders(tx, claims, id=seen.id)
    taken = _taken_claim(holders, superseding)
    if taken is not None:
        return _claimed(tx, taken, seq=holders[taken][0], now=now)
    if claims:
        _move_claims(tx, holders, seq=seq)
        found = changed(found, claims=tuple(dict.fromkeys((*found.claims, *claims))))
        tx.run("update_claims", (claims_text(found.claims), found.revision, seq))
    lease = new_lease(holder, token=tx.number(), now=now, lease_seconds=lease_seconds, attempt=attempt)
    return Opened(True, _lease(tx, found, seq=seq, lease=lease, now=now), True, Match.ID, now)


def renew_leases(tx: Transaction, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
    until = tx.clock.now() + lease_seconds
    lost = set()
    for id, token in tokens.items():
        tx.run("renew", (until, id, token))
        if not tx.changed():
            lost.add(id)
    return frozenset(lost)


def note_operation(tx: Transaction, id: str, *, note: Note, namespace: str, stub_due_seconds: float) -> Operation:
    now = tx.clock.now()
    row = tx.one("find_head", (id,))
    if row is None:
        return _insert_stub(tx, stub(id, note, namespace=namespace, now=now, due_at=now + stub_due_seconds), note=note)
    head = Head._make(row)
    if tx.one("has_note", (head.seq, note.event_id)) is None:
        due_at = due_by(head.due_at, now)
        ripe_at = head.lease_until if head.lease_token is not None else due_at
        _add_note(tx, note, seq=head.seq, number=head.notes + 1)
        tx.run("update_noted", (head.notes + 1, due_at, ripe_at, tx.number(), now, head.seq))
    return operation_of(_whole(tx, head.seq))


def put_operation(tx: Transaction, encoded: Encoded, *, replacing: Seen | None, superseding: Sequence[Seen]) -> Opened:
    operation, now = encoded.operation, tx.clock.now()
    row = tx.one("find", (operation.id,))
    found = operation_of(row) if row is not None else None
    if found is not None and (Seen(found.id, found.revision) != replacing or leased(found, now=now)):
        return Opened(False, found, leased(found, now=now), Match.ID, now)
    holders = _claim_holders(tx, operation.claims, id=operation.id)
    taken = _taken_claim(holders, superseding)
    if taken is not None:
        return _claimed(tx, taken, seq=holders[taken][0], now=now)
    if row is None or found is None:
        tx.check_room()
    else:
        _remove(tx, found, seq=row[0])
    whole = changed(operation, lease=None, revision=tx.number())
    seq = _insert(tx, encoded, operation=whole, attempt="")
    _add_notes(tx, whole.notes, seq=seq)
    _move_claims(tx, holders, seq=seq)
    return Opened(True, whole, False, Match.NEW, now)


def prune_operations(tx: Transaction, namespace: str, *, limit: int) -> int:
    now = tx.clock.now()
    done = 0
    for seq, was_pruned in tx.all("prunable", (namespace, now, RECORD_VERSION, limit)):
        operation = operation_of(_whole(tx, seq))
        if operation.version > RECORD_VERSION:  # its body cannot be read
            tx.run("put_off_pruning", (now + PUT_OFF_SECONDS, seq))
        elif was_pruned:
            _remove(tx, operation, seq=seq)
        else:
            _prune(tx, operation, seq=seq)
        done += 1
    return done


def _opened_before(tx: Transaction, row: Row, *, attempt: str, lease_seconds: float | None, now: float) -> Opened:
    found = operation_of(row)
    if lease_seconds is not None and is_same_win(found, attempt):
        return Opened(True, _renew(tx, found, lease_seconds=lease_seconds, now=now), True, Match.NEW, now)
    if lease_seconds is None and attempt and tx.one("find_opened", (row[0],)) == (attempt,):
        return Opened(True, found, leased(found, now=now), Match.NEW, now)
    return Opened(False, found, leased(found, now=now), Match.ID, now)


def _claimed(tx: Transaction, claim: str, *, seq: int, now: float) -> Opened:
    holder = operation_of(_whole(tx, seq))
    return Opened(False, holder, leased(holder, now=now), Match.CLAIM, now, claim)


def _claim_holders(tx: Transaction, claims: Sequence[str], *, id: str) -> dict[str, Row]:
    """Who else holds each claim: (seq, id, revision), or nothing for one that is free or already *id*'s own."""
    found = {claim: tx.one("claim_holder", (claim,)) for claim in claims}
    return {claim: row if row is not None and row[1] != id else () for claim, row in found.items()}


def _taken_claim(holders: Mapping[str, Row], superseding: Sequence[Seen]) -> str | None:
    """The first claim that another record holds and that may not be taken from it."""
    for claim, row in holders.items():
        if row and Seen(row[1], row[2]) not in superseding:
            return claim
    return None


def _move_claims(tx: Transaction, holders: Mapping[str, Row], *, seq: int) -> None:
    for claim, row in holders.items():
        if row:
            left = [each for each in _claims_of(tx, row[0]) if each != claim]
            tx.run("update_claims", (claims_text(left), tx.number(), row[0]))
        tx.run("set_claim", (claim, seq))


def _kept_claims(tx: Transaction, operation: Operation, *, head: Head) -> tuple[str, ...]:
    """A save may give claims up, never take them: those that went to another record stay there."""
    held = claims_of(head.claims)
    if held != operation.claims:
        for claim in held:
            if claim not in operation.claims:
                tx.run("free_claim", (claim, head.seq))
    return tuple(claim for claim in operation.claims if claim in held)


def _claims_of(tx: Transaction, seq: int) -> tuple[str, ...]:
    row = tx.one("claims_of", (seq,))
    return claims_of(row[0]) if row is not None else ()


def _held(tx: Transaction, id: str, *, token: int) -> Head:
    row = tx.one("find_head", (id,))
    head = Head._make(row) if row is not None else None
    if head is None or head.lease_token != token:
        raise LeaseLost("somebody else holds this operation now: read it again and act on what you find")
    return head


def _whole(tx: Transaction, seq: int) -> Row:
    row = tx.one("find_by_seq", (seq,))
    assert row is not None, "its seq was read in this transaction"
    return row


def _insert(tx: Transaction, encoded: Encoded, *, operation: Operation, attempt: str) -> int:
    seq = tx.insert("insert", insert_values(encoded, operation, attempt=attempt))
    _add_gateway_keys(tx, encoded.gateway_keys, seq=seq)
    _count(tx, operation, by=1)
    return seq


def _insert_stub(tx: Transaction, made: Operation, *, note: Note) -> Operation:
    made = changed(made, revision=tx.number())
    seq = _insert(tx, encode(made), operation=made, attempt="")
    tx.run("add_note", (seq, 1, note.event_id, encode_note(note)))
    return made


def _add_note(tx: Transaction, note: Note, *, seq: int, number: int) -> None:
    tx.run("add_note", (seq, number, note.event_id, encode_note(note)))
    if note.gateway_key:
        tx.run("add_gateway_key", (note.gateway_key, seq))


def _add_notes(tx: Transaction, notes: Sequence[Note], *, seq: int) -> None:
    for number, note in enumerate(notes, start=1):
        tx.run("add_note", (seq, number, note.event_id, encode_note(note)))


def _add_gateway_keys(tx: Transaction, keys: frozenset[str], *, seq: int) -> None:
    for key in keys:
        tx.run("add_gateway_key", (key, seq))


def _lease(tx: Transaction, operation: Operation, *, seq: int, lease: Lease, now: float) -> Operation:
    leased_now = changed(operation, lease=lease, revision=tx.number(), updated_at=now)
    tx.run("update_lease", (*lease_values(lease), lease.until, leased_now.revision, now, seq))
    return leased_now


def _renew(tx: Transaction, operation: Operation, *, lease_seconds: float, now: float) -> Operation:
    lease = operation.lease
    assert lease is not None, "only called for a record with a lease"
    until = now + lease_seconds
    tx.run("renew", (until, operation.id, lease.token))
    return changed(operation, lease=Lease(lease.holder, lease.token, until, lease.attempt))


def _release(tx: Transaction, operation: Operation) -> Operation:
    row = tx.one("find", (operation.id,))
    assert row is not None, "its lease was read in this transaction"
    stored = operation_of(row)
    _remove(tx, stored, seq=row[0])
    return changed(operation, lease=None, notes=stored.notes)


def _remove(tx: Transaction, operation: Operation, *, seq: int) -> None:
    _drop_names(tx, operation, seq=seq, keys=gateway_keys(operation))
    tx.run("delete_notes", (seq,))
    tx.run("delete", (seq,))
    _count(tx, operation, by=-1)


def _prune(tx: Transaction, operation: Operation, *, seq: int) -> None:
    left = changed(pruned(operation), revision=tx.number())
    _drop_names(tx, operation, seq=seq, keys=gateway_keys(operation) - gateway_keys(left))
    tx.run("delete_notes", (seq,))
    _add_notes(tx, left.notes, seq=seq)
    tx.run("update", update_values(seq, encode_body(left), operation=left, pruned=True))
    tx.run("update_names", (*names_of(left), seq))
    tx.run("set_note_count", (len(left.notes), seq))


def _drop_names(tx: Transaction, operation: Operation, *, seq: int, keys: frozenset[str]) -> None:
    for claim in operation.claims:
        tx.run("free_claim", (claim, seq))
    for key in keys:
        tx.run("drop_gateway_key", (key, seq))


def _count_move(tx: Transaction, head: Head, saved: Operation) -> None:
    """Move the record from one counter to another, when it counts differently now."""
    before = (head.state, head.money, head.amount_minor, head.currency)
    if before == (saved.state, saved.money, saved.amount_minor, saved.currency):
        return
    tx.count(head.namespace, "operations", first=head.state, second=head.money, by=-1)
    tx.count(head.namespace, "operations", first=saved.state, second=saved.money, by=1)
    if head.state == State.QUEUED and head.money == MoneyState.NONE and head.currency is not None:
        tx.count(head.namespace, "unpaid", first=head.currency, second="", by=-(head.amount_minor or 0))
    _count_unpaid(tx, saved, by=1)


def _count(tx: Transaction, operation: Operation, *, by: int) -> None:
    tx.count(operation.namespace, "operations", first=operation.state, second=operation.money, by=by)
    _count_unpaid(tx, operation, by=by)


def _count_unpaid(tx: Transaction, operation: Operation, *, by: int) -> None:
    amount_minor = unpaid_minor(operation)
    if amount_minor and operation.currency is not None:
        tx.count(operation.namespace, "unpaid", first=operation.currency, second="", by=by * amount_minor)
