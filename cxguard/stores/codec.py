"""A record's body as JSON, and back. A store's own columns hold the rest (see `HEAD`).

Members that this version does not know come back in `extra` and are written out again beside the others. Inside of sends,
steps and the timeline they are not kept: whoever adds one there raises `RECORD_VERSION`, and older ones leave the record alone. A body that
cannot be read becomes a record of a newer version: it is shown, and never leased. So does one whose sum (`SUM`) is another: a
letter that changed in a member's name would leave a record that never charged anything, and one in a digit another amount.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, TypeVar

from cxguard.core.consent import Consent
from cxguard.core.money import Note, NoteKind, Send, SendKind
from cxguard.core.operation import RECORD_VERSION, Entry, NoticeLine, Operation, Step, WaitingFor
from cxguard.core.outcomes import outcome_from_json, outcome_to_json
from cxguard.stores.shape import checked, kinds_of

HEAD = frozenset({
    "id", "namespace", "rule", "state", "money", "reference", "contact_hash", "session", "created_at", "updated_at", "due_at",
    "keep_until", "lease", "amount_minor", "currency", "notes", "notes_seen", "revision", "version", "claims", "request",
    "answer", "contact",
})  # fmt: skip
SUM = "sum"  # the last member of a body: of all letters before it
UNREADABLE = "unreadable"  # the reason of a record whose body cannot be read

E = TypeVar("E", bound=StrEnum)
_DAMAGED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


def encode_body(operation: Operation) -> str:
    """Every member outside of `HEAD`. One that has its default is left out: a default's meaning never changes."""
    body = {name: value for name, value in operation.extra.items() if name not in _KNOWN}
    members = vars(operation)
    for name, default in _BODY.items():
        value = members[name]
        if value != default:
            encode = _ENCODERS.get(name)
            body[name] = encode(value) if encode is not None else value
    text = _dumps(body)[:-1]
    return text + _sum_of(text)


def decode_body(text: str) -> dict[str, Any]:
    """Members for `Operation(**...)`, those of an unreadable body included."""
    try:
        return _members(_DECODER.decode(_summed(text)))
    except _DAMAGED:
        return {"owner": "", "fingerprint": "", "why": UNREADABLE, "version": RECORD_VERSION + 1}


def encode_note(note: Note) -> str:
    return _dumps(_note_to_json(note))


def decode_note(text: str) -> Note:
    """The note; one that cannot be read is still a note, so that somebody looks at the record."""
    try:
        return _note_from_json(_DECODER.decode(text))
    except _DAMAGED:
        return Note(event_id="", kind=NoteKind.REMARK, at=0.0, source="store", text=UNREADABLE)


def member(kind: type[E], value: str, *, otherwise: E) -> E:
    """A choice by its value; one of a newer version reads as *otherwise*."""
    try:
        return kind(value)
    except ValueError:
        return otherwise


def _sum_of(text: str) -> str:
    """What ends a body that begins with *text*; always `_SUM_CHARS` letters."""
    return f',"{SUM}":"{zlib.crc32(text.encode()):08x}"}}'


def _summed(text: str) -> str:
    """The body, whose sum is its own. One without a sum was written by a cxguard that made none.

    Raises:
        ValueError: it is damaged.
    """
    end = text[-_SUM_CHARS:]
    if end.startswith(f',"{SUM}":') and end != _sum_of(text[:-_SUM_CHARS]):
        raise ValueError(SUM)
    return text


def _members(body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"owner": body["owner"], "fingerprint": body["fingerprint"]}
    extra, kinds = {}, kinds_of(Operation)
    for name, value in body.items():
        if name == SUM:
            continue
        if name not in _BODY:
            extra[name] = value
            continue
        decode = _DECODERS.get(name)
        found[name] = decode(value) if decode is not None else value
        if not isinstance(found[name], kinds[name]):
            raise TypeError(name)
    if extra:
        found["extra"] = extra
    return found


def _constant(text: str) -> float:
    """An infinity that was written; what is no number was not."""
    if text == "NaN":
        raise ValueError(text)
    return float(text)


def _defaults() -> dict[str, Any]:
    """The body's members and their defaults; a member without a default is always written."""
    body = {}
    for field in fields(Operation):
        if field.name not in HEAD and field.name != "extra":
            body[field.name] = field.default if field.default_factory is MISSING else field.default_factory()
    return body


def _dumps(value: Any) -> str:
    return _ENCODER.encode(value)


_DECODER = json.JSONDecoder(parse_constant=_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # ASCII: text of any kind survives, lone surrogates too


def _send_to_json(send: Send) -> dict[str, Any]:
    return {**_plain(send, but="outcome"), "outcome": outcome_to_json(send.outcome)}


def _send_from_json(value: Mapping[str, Any]) -> Send:
    known = {name: value[name] for name in _SEND if name in value}
    kind = member(SendKind, value["kind"], otherwise=SendKind.CHARGE)
    return checked(Send(**{**known, "kind": kind, "outcome": outcome_from_json(value["outcome"])}))


def _note_to_json(note: Note) -> dict[str, Any]:
    outcome = note.outcome
    return {**_plain(note, but="outcome"), "outcome": outcome_to_json(outcome) if outcome is not None else None}


def _note_from_json(value: Mapping[str, Any]) -> Note:
    known = {name: value[name] for name in _NOTE}  # all are always written: one that is missing has another name now
    outcome = value["outcome"]
    kind = member(NoteKind, value["kind"], otherwise=NoteKind.REMARK)
    return checked(Note(**{**known, "kind": kind, "outcome": outcome_from_json(outcome) if outcome is not None else None}))


def _step_to_json(step: Step) -> dict[str, Any]:
    result = step.result
    return {**_plain(step, but="result"), "result": base64.b64encode(result).decode() if result is not None else None}


def _step_from_json(value: Mapping[str, Any]) -> Step:
    known = {name: value[name] for name in _STEP if name in value}
    result = value.get("result")
    return checked(Step(**{**known, "result": base64.b64decode(result) if result is not None else None}))


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {"at": entry.at, "event": entry.event, "by": entry.by, "detail": dict(entry.detail)}


def _entry_from_json(value: Mapping[str, Any]) -> Entry:
    return checked(Entry(**{name: value[name] for name in _ENTRY if name in value}))


def _plain(value: Send | Note | Step, *, but: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__ if name != but}


def _each(convert: Callable[[Any], Any], into: type[Any]) -> Callable[[Any], Any]:
    return lambda values: into(convert(value) for value in values)


def _notice_to_json(line: NoticeLine) -> dict[str, Any]:
    return {name: getattr(line, name) for name in _NOTICE}


def _notice_from_json(value: Mapping[str, Any]) -> NoticeLine:
    return checked(NoticeLine(**{name: value[name] for name in _NOTICE if name in value}))


def _consent_to_json(consent: Consent) -> dict[str, Any]:
    return {name: getattr(consent, name) for name in _CONSENT}


def _consent_from_json(value: Mapping[str, Any]) -> Consent:
    return checked(Consent(**{name: value[name] for name in _CONSENT if name in value}))


def _waiting_for(value: str | None) -> WaitingFor | None:
    return member(WaitingFor, value, otherwise=WaitingFor.AGENT) if value is not None else None


_CONSENT, _NOTICE = Consent.__slots__, NoticeLine.__slots__
_SEND, _NOTE, _STEP, _ENTRY = (frozenset(kind.__slots__) for kind in (Send, Note, Step, Entry))
_BODY = _defaults()
_KNOWN = frozenset(_BODY) | HEAD | {SUM}
_SUM_CHARS = len(_sum_of(""))
_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "consent": _consent_to_json,
    "notices": _each(_notice_to_json, list),
    "sends": _each(_send_to_json, list),
    "steps": _each(_step_to_json, list),
    "history": _each(_entry_to_json, list),
}
_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "consent": _consent_from_json,
    "notices": _each(_notice_from_json, tuple),
    "sends": _each(_send_from_json, tuple),
    "steps": _each(_step_from_json, tuple),
    "history": _each(_entry_from_json, tuple),
    "waiting_for": _waiting_for,
}
