"""A record as the scripts are sent it, and back from what they answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cxguard.core.money import MoneyState, Note
from cxguard.core.operation import Lease, Operation, State, changed
from cxguard.stores.codec import decode_body, decode_note, encode_body, encode_note, member
from cxguard.stores.record import ENDED, NAMES_KEPT_SECONDS, unpaid_minor
from cxguard.stores.redis.partitions import exact_name, line_name, space_name, unpacked_id
from cxguard.stores.redis.wire import Unreadable

Value = str | bytes | int
Fields = Mapping[bytes, bytes]

_HEAD = (
    "revision", "token", "lease_until", "holder", "attempt", "opened_by", "created", "updated", "due", "notes", "seen", "keep",
    "pruned", "claims", "space", "line", "version", "unpaid",
)  # fmt: skip
_IN_BODY = ("namespace", "rule", "state", "money", "reference", "session", "contact_hash", "keep_until", "amount_minor", "currency")
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_BLOBS = {"q": "request", "a": "answer", "c": "contact"}


def sent_values(operation: Operation, *, pruned: bool = False) -> list[Value]:
    """What `sent` of `prelude.lua` reads."""
    blobs = {letter: getattr(operation, name) for letter, name in _BLOBS.items() if getattr(operation, name) is not None}
    return [
        number_text(operation.due_at),
        operation.notes_seen,
        number_text(_keep(operation, pruned=pruned)),
        joined(operation.claims),
        space_name(operation.namespace),
        line_name(operation.namespace, operation.rule, operation.version),
        operation.version,
        _unpaid(operation),
        "\t".join(_names(operation)),
        _body(operation),
        "".join(blobs),
        *blobs.values(),
    ]


def operation_of(fields: Fields, packed: bytes) -> Operation:
    """The record that a script, or HGETALL, has read.

    Raises:
        Unreadable: somebody has spoilt it.
    """
    try:
        return _operation(fields, packed)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Unreadable(
            f"the record {unpacked_id(packed)[:64]} cannot be read ({type(error).__name__}): look who writes to our keys, and restore it"
        ) from error


def _operation(fields: Fields, packed: bytes) -> Operation:
    head = dict(zip(_HEAD, fields[b"h"].decode().split("\n"), strict=True))
    named, _, rest = fields[b"b"].decode().partition("\n")
    body: dict[str, Any] = dict(zip(_IN_BODY, json.loads(named), strict=True))
    members: dict[str, Any] = {
        **body,
        "id": unpacked_id(packed),
        "state": member(State, body["state"], otherwise=State.HELD),
        "money": member(MoneyState, body["money"], otherwise=MoneyState.UNKNOWN),
        "created_at": float(head["created"]),
        "updated_at": float(head["updated"]),
        "due_at": number_of_text(head["due"]),
        "lease": lease_of(head["holder"], head["token"], head["lease_until"], head["attempt"]),
        "notes_seen": int(head["seen"]),
        "revision": int(head["revision"]),
        "version": int(head["version"]),
        "claims": split(head["claims"]),
        "notes": notes_of(fields.get(b"n", b"")),
        **{name: fields.get(letter.encode()) for letter, name in _BLOBS.items()},
    }
    return Operation(**{**members, **decode_body(rest)})


def is_pruned(fields: Fields) -> bool:
    """Whether only names and money are left of it."""
    return fields[b"h"].decode().split("\n")[_HEAD.index("pruned")] == "1"


def fields_of(flat: Sequence[bytes]) -> Fields:
    """A hash as Redis answers it: names and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def inserted(operation: Operation, *, holder: str, attempt: str, answer: Sequence[bytes]) -> Operation:
    """The record that `open` has just inserted."""
    now, revision, token, until = answer[1:5]
    lease = Lease(holder, int(token), float(until), attempt) if token else None
    return changed(operation, lease=lease, revision=int(revision), notes=(), updated_at=float(now))


def saved(operation: Operation, answer: Sequence[bytes], *, token: int) -> Operation:
    """The record as `save` has stored it; what was sent of it came from *operation*."""
    notes = notes_of(answer[1])
    if answer[0] == b"gone":
        return changed(operation, lease=None, notes=notes)
    revision, updated, due, claims, until, holder, attempt = (text.decode() for text in answer[2:9])
    return changed(
        operation,
        notes=notes,
        revision=int(revision),
        updated_at=float(updated),
        due_at=number_of_text(due),
        claims=split(claims),
        lease=lease_of(holder, str(token), until, attempt) if until else None,
    )


def note_names(namespace: str, notes: Sequence[Note]) -> list[str]:
    """The exact names under which a record is found for its notes' sake."""
    keys = dict.fromkeys(note.gateway_key for note in notes if note.gateway_key)
    return [exact_name("gateway_key", namespace, key) for key in keys]


def notes_words(namespace: str, notes: Sequence[Note]) -> list[Value]:
    """All notes of a record as the scripts keep them: the notes, their event ids, the names that they bring, how many."""
    lines, events = (encode_note(note) for note in notes), (quoted(note.event_id) for note in notes)
    return ["\n".join(lines), "\n".join(events), "\t".join(note_names(namespace, notes)), len(notes)]


def notes_of(text: bytes) -> tuple[Note, ...]:
    return tuple(decode_note(line) for line in text.decode().split("\n")) if text else ()


def lease_of(holder: str, token: str, until: str, attempt: str) -> Lease | None:
    return Lease(plain(holder), int(token), float(until), plain(attempt)) if token else None


def quoted(text: str) -> str:
    """Any text as one line of ASCII without a tab."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text  # as nearly all are
    return json.dumps(text)[1:-1]


def plain(text: str) -> str:
    """The text of `quoted`."""
    return str(json.loads(f'"{text}"')) if "\\" in text else text


def joined(names: Sequence[str]) -> str:
    return "\t".join(quoted(name) for name in names)


def split(text: str) -> tuple[str, ...]:
    return tuple(plain(name) for name in text.split("\t")) if text else ()


def number_text(number: float | None) -> str:
    """A number as Lua reads it back exactly; none is an empty text."""
    return "" if number is None else repr(float(number))


def number_of_text(text: str) -> float | None:
    return float(text) if text else None


def _keep(operation: Operation, *, pruned: bool) -> float | None:
    """When the next stage of forgetting comes, if nothing is open then."""
    if operation.state not in ENDED or operation.keep_until is None:
        return None
    return operation.keep_until + (NAMES_KEPT_SECONDS if pruned else 0.0)


def _unpaid(operation: Operation) -> str:
    amount = unpaid_minor(operation)
    return f"{quoted(operation.currency or '')} {amount}" if amount else ""


def _names(operation: Operation) -> Iterator[str]:
    """The lists that the record is in, by what a save says; those by time follow from the head, those of notes come with these."""
    space = operation.namespace
    yield f"g:{space_name(space)}:{operation.state}:{operation.money}"
    if operation.reference:
        yield exact_name("reference", space, operation.reference)
    if operation.session is not None:
        yield exact_name("session", space, operation.session)
    if operation.contact_hash is not None:
        yield exact_name("contact_hash", space, operation.contact_hash)
    if operation.state is State.QUEUED and operation.owner:
        yield exact_name("kept_by", space, operation.owner)
    for key in dict.fromkeys(send.key for send in operation.sends):
        yield exact_name("gateway_key", space, key)


def _body(operation: Operation) -> str:
    members = vars(operation)
    return f"{_ENCODER.encode([members[name] for name in _IN_BODY])}\n{encode_body(operation)}"
