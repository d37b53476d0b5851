"""Fingerprints: is this the same request again, or another one under the same key?

A fingerprint is two keyed hashes over method, path, query and body. The first is over the bytes as they came: equal
bytes are equal requests, at the price of one hash. The second is over what the bytes mean, for clients that write the
same basket in another order, and browsers that draw a new multipart boundary for each press of the button: members of
an object, and form fields of different names, may change places; whitespace may change; numbers, values and the order
of lists may not. Keyed, since a body may hold what could be guessed (an address, a phone number).

Source: IETF draft idempotency-key-header, section 2.4 (fingerprint). Canonical form: after RFC 8785 (JCS), but numbers
    stay as they were written.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from cxguard.core.forms import Form
from cxguard.core.names import keyed_hash
from cxguard.core.snapshot import CHECKED_BYTES_MAX, Snapshot

_HASH_DIGITS = 32  # 128 bits each: two of them stay one short column


def fingerprint_of(secret: bytes, snapshot: Snapshot, *, ignore: tuple[str, ...] = ()) -> str:
    """What a record keeps of its request: `raw` or `raw:canonical`, hex digits.

    Args:
        ignore: form fields or JSON members (`meta.csrf`) that change with every submit.

    Raises:
        BadBody: the body is not what its content type says, or has a member twice.
    """
    canonical = _canonical(secret, snapshot, ignore=ignore)
    raw = _raw(secret, snapshot)
    return f"{raw}:{canonical}" if canonical else raw


def same_request(secret: bytes, stored: str, snapshot: Snapshot, *, ignore: tuple[str, ...] = ()) -> bool:
    """Whether *snapshot* is the request whose fingerprint is *stored*.

    Raises:
        BadBody: its bytes differ, and it cannot be read.
    """
    raw, _, canonical = stored.partition(":")
    if hmac.compare_digest(raw, _raw(secret, snapshot)):
        return True
    return bool(canonical) and hmac.compare_digest(canonical, _canonical(secret, snapshot, ignore=ignore))


def _raw(secret: bytes, snapshot: Snapshot) -> str:
    return snapshot.once(
        ("raw", secret), lambda: _hash(secret, "raw", snapshot, (snapshot.header("content-type") or "",), content=snapshot.body)
    )


def _canonical(secret: bytes, snapshot: Snapshot, *, ignore: tuple[str, ...]) -> str:
    """The hash over the meaning; empty where the bytes are all that there is."""
    if not snapshot.body or (len(snapshot.body) > CHECKED_BYTES_MAX and not ignore):
        return ""
    if snapshot.is_json:
        body: tuple[str, ...] = ("json", canonical_json(_without(snapshot.json(), ignore)))
    elif snapshot.is_form:
        body = ("form", *_form_parts(snapshot.form(), ignore=ignore))
    else:
        return ""
    return _hash(secret, "canonical", snapshot, body)


def _hash(secret: bytes, label: str, snapshot: Snapshot, body: tuple[str, ...], *, content: bytes = b"") -> str:
    return keyed_hash(secret, label, snapshot.method, snapshot.path, snapshot.query, *body, content=content)[:_HASH_DIGITS]


# --- canonical forms


def canonical_json(value: Any) -> str:
    """One text for all writings of the same JSON value: members sorted, no whitespace, numbers as they were written."""
    return _ENCODER.encode(value)


def _number(value: Any) -> Any:
    """A number with a point, told apart from a string: under a name that no JSON from a client's encoder has."""
    if isinstance(value, Decimal):
        return {"\udc00": str(value)}
    raise TypeError(f"{type(value).__name__} is no JSON: pass what `read_json` returned")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_number, check_circular=False)


def _form_parts(form: Form, *, ignore: tuple[str, ...]) -> Iterator[str]:
    """Fields by name; of one name, in the order in which they came."""
    for name, value in sorted(form.fields, key=lambda field: field[0]):
        if name not in ignore:
            yield from ("field", name, value)
    for file in sorted(form.files, key=lambda file: file.name):
        if file.name not in ignore:
            yield from ("file", file.name, file.filename, file.media_type, file.content.decode("latin-1"))


def _without(value: Any, ignore: tuple[str, ...]) -> Any:
    for path in ignore:
        value = _without_member(value, path.split("."))
    return value


def _without_member(value: Any, steps: list[str]) -> Any:
    if not isinstance(value, Mapping) or steps[0] not in value:
        return value
    rest = {name: member for name, member in value.items() if name != steps[0]}
    return rest if len(steps) == 1 else {**rest, steps[0]: _without_member(value[steps[0]], steps[1:])}
