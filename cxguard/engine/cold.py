"""The sealed members of a record: the kept request, the stored answer, results of steps, the shopper's contact."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

from cxguard.core.cards import carries_card, holds_card
from cxguard.core.operation import Operation
from cxguard.core.reading import HandlerAnswer
from cxguard.core.snapshot import Snapshot
from cxguard.gateways.base import Charge
from cxguard.seal import Seal

_HEAD = json.JSONEncoder(separators=(",", ":"))
RESULT_BYTES_MAX = 65_536  # a kept result is what the next step needs, not a document store


@dataclass(frozen=True, slots=True)
class KeptResult:
    """What a function of the operation returned, as JSON can carry it."""

    value: Any


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An answer that went by live: only that it was given is kept, and with which status."""

    status: int


StoredAnswer = HandlerAnswer | KeptResult | Tombstone


def seal_member(seal: Seal, operation: Operation, member: str, data: bytes) -> bytes:
    """Seal *data* as one member of this record, and of no other."""
    return seal.seal(data, about=(operation.id, operation.owner, member))


def open_member(seal: Seal, operation: Operation, member: str, sealed: bytes) -> bytes:
    """Open a member of this record.

    Raises:
        SealKeyMissing, SealBroken: it cannot be read; the texts say why.
    """
    return seal.open(sealed, about=(operation.id, operation.owner, member))


def seal_answer(seal: Seal, operation: Operation, answer: StoredAnswer) -> bytes:
    """The stored answer of the record, sealed."""
    return seal_member(seal, operation, "answer", _pack(answer))


def open_answer(seal: Seal, operation: Operation) -> StoredAnswer | None:
    """What `seal_answer` kept, or None when there is none."""
    return _unpack(open_member(seal, operation, "answer", operation.answer)) if operation.answer else None


def result_bytes(value: Any) -> bytes:
    """A function's result as JSON.

    Raises:
        TypeError: it is not JSON, or larger than `RESULT_BYTES_MAX`. Return a plain dict of what is needed later.
    """
    try:
        data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(f"the result cannot be kept ({error}): return plain numbers, strings, lists and dicts") from error
    if len(data) > RESULT_BYTES_MAX:
        raise TypeError(f"the result has {len(data)} bytes, {RESULT_BYTES_MAX} at most: return only what is needed later")
    return data


NOT_REPLAYED = frozenset(
    {
        *(b"set-cookie", b"www-authenticate", b"authentication-info", b"proxy-authenticate", b"authorization", b"date"),
        *(b"content-security-policy", b"content-security-policy-report-only"),  # their nonces are for one page view
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)


def replayable(answer: HandlerAnswer) -> HandlerAnswer:
    """The answer as it may be given again: the same body, without what was meant for the first client alone."""
    return replace(answer, headers=tuple(pair for pair in answer.headers if pair[0].lower() not in NOT_REPLAYED))


def kept_form(answer: HandlerAnswer, snapshot: Snapshot) -> StoredAnswer:
    """What is kept of an answer: itself, as it may be given again; of one that hands a request's card back, only that it was given."""
    if carries_card(snapshot) is not None and holds_card(answer.text()):
        return Tombstone(answer.status)
    return replayable(answer)


def _pack(answer: StoredAnswer) -> bytes:
    """One JSON line, then the body as it was."""
    match answer:
        case HandlerAnswer():
            headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in answer.headers]
            return _HEAD.encode(["http", answer.status, headers]).encode() + b"\n" + answer.body
        case KeptResult():
            return b'["result"]\n' + result_bytes(answer.value)
        case Tombstone():
            return json.dumps(["tombstone", answer.status]).encode() + b"\n"


def _unpack(data: bytes) -> StoredAnswer:
    head, _, body = data.partition(b"\n")
    match json.loads(head):
        case ["http", status, headers]:
            pairs = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
            return HandlerAnswer(status=status, headers=pairs, body=body)
        case ["result"]:
            return KeptResult(json.loads(body))
        case ["tombstone", status]:
            return Tombstone(status)
        case other:
            raise ValueError(f"a stored answer of kind {other[:1]} was written by a newer version")


def seal_charge(seal: Seal, operation: Operation, charge: Charge) -> str:
    """The charge as asked for, sealed as text: a resend must be the very same, its source token included."""
    members = {name: getattr(charge, name) for name in charge.__slots__}
    data = json.dumps({**members, "metadata": dict(charge.metadata), "sources": dict(charge.sources)})
    return base64.b64encode(seal_member(seal, operation, "charge", data.encode())).decode()


def open_charge(seal: Seal, operation: Operation, parcel: str) -> Charge:
    """What `seal_charge` kept."""
    return Charge(**json.loads(open_member(seal, operation, "charge", base64.b64decode(parcel))))
