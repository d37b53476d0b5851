"""Fingerprints: the same request again, or another one under the same key."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.core.fingerprint import fingerprint_of, same_request
from cxguard.core.snapshot import CHECKED_BYTES_MAX, Snapshot
from cxguard.errors import BadBody

SECRET = b"s" * 32
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def request(body: bytes, content_type: str = JSON) -> Snapshot:
    return Snapshot("POST", "/pay", "a=1", (("content-type", content_type), ("x-request-id", "1")), body)


def same(one: Snapshot, other: Snapshot, *, ignore: tuple[str, ...] = ()) -> bool:
    return same_request(SECRET, fingerprint_of(SECRET, one, ignore=ignore), other, ignore=ignore)


def multipart(boundary: str, *fields: tuple[str, str]) -> Snapshot:
    parts = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields)
    return request(f"{parts}--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")


def upload(name: str, filename: str, content: str) -> Snapshot:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: text/plain\r\n\r\n'
    return request(f"{head}{content}\r\n--b--\r\n".encode(), "multipart/form-data; boundary=b")


SAME = [
    (request(b'{"a":1}'), request(b'{"a":1}')),
    (request(b'{"a":1,"b":{"c":2,"d":3}}'), request(b' {"b": {"d": 3,\n "c": 2}, "a": 1 } ')),
    (request(b'{"a":"\xc3\xbc"}'), request(b'{"a":"\\u00fc"}')),
    (request(b'{"a":1}'), request(b'{"a":1}', JSON + "; charset=utf-8")),
    (request(b"a=1&b=2&t=x&t=y", FORM), request(b"t=x&b=2&t=y&a=1", FORM)),
    (request(b"a=%41", FORM), request(b"a=A", FORM)),
    (multipart("one", ("a", "1"), ("b", "2")), multipart("two", ("b", "2"), ("a", "1"))),
    (request(b"raw", "text/plain"), request(b"raw", "text/plain")),
    (request(b""), request(b"")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_request(one: Snapshot, other: Snapshot) -> None:
    """Order of members and of differently named fields, whitespace, escapes and boundaries make no other request."""
    assert same(one, other) and same(other, one)


BASE = request(b'{"amount": 4999, "items": ["a", "b"], "price": 1.10}')
DIFFERENT = [
    (BASE, replace(BASE, method="PUT")),
    (BASE, replace(BASE, path="/pay2")),
    (BASE, replace(BASE, query="a=2")),
    (BASE, replace(BASE, body=b'{"amount": 5000, "items": ["a", "b"], "price": 1.10}')),
    (BASE, replace(BASE, body=b'{"amount": 4999, "items": ["b", "a"], "price": 1.10}')),
    (BASE, replace(BASE, body=b'{"amount": 4999, "items": ["a", "b"], "price": 1.1}')),
    (BASE, replace(BASE, body=b'{"amount": "4999", "items": ["a", "b"], "price": 1.10}')),
    (BASE, replace(BASE, body=b'{"amount": 4999, "items": ["a", "b"], "price": "1.10"}')),
    (BASE, replace(BASE, body=b'{"amount": 4999.0, "items": ["a", "b"], "price": 1.10}')),
    (BASE, replace(BASE, body=b'{"amount": 4999, "items": ["a", "b"], "price": 1.10, "note": null}')),
    (request(b"a=1&a=2", FORM), request(b"a=2&a=1", FORM)),
    (request(b"a=1", FORM), request(b"a=1&b=", FORM)),
    (request(b"a=1&b=2", FORM), request(b"a=1%26b%3D2", FORM)),
    (request(b"raw ", "text/plain"), request(b"raw", "text/plain")),
    (request(b"{}", JSON), request(b"{}", "text/plain")),
    (request(b"{}", JSON), request(b"", FORM)),
    (upload("letter", "l.txt", "x"), upload("letter", "l.txt", "y")),
    (upload("letter", "l.txt", "x"), upload("letter", "m.txt", "x")),
]


PINNED = [
    (BASE, "1a98d357cbb2d76b494a00fc7c587ffb:41fd9fcf3c7eaa143e65e3af08ac0765"),  # pragma: allowlist secret
    (request(b"cart=7&gift=", FORM), "a0342a354451cfbfb3965997cf19d6e7:a4b0e22d1fa5a75b02d2cdf01415d100"),  # pragma: allowlist secret
    (
        upload("letter", "l.txt", "dear shop"),
        "7262815c6e95913114100981d44ae257:3330464be50323c78a2bac97ecbae44c",
    ),  # pragma: allowlist secret
    (request(b"raw", "text/plain"), "7dadd9eb38b529f1d1820948138e44d5"),  # pragma: allowlist secret
    (Snapshot("POST", "/pay", "", (), b"raw"), "51dcd0f17454bd0e524bfbc0bf7d1fad"),  # pragma: allowlist secret
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_another_request(one: Snapshot, other: Snapshot) -> None:
    """Another method, path, query, type, value, kind of value or order of values is another request."""
    assert not same(one, other) and not same(other, one)


def test_headers_do_not_count() -> None:
    """Only the content type belongs to the request's meaning; a new request id does not."""
    assert same(BASE, replace(BASE, headers=(("content-type", JSON), ("x-request-id", "2"))))


def test_ignored_form_field() -> None:
    """A fresh CSRF token makes no other request, when the rule ignores it, and only then."""
    one, other = request(b"csrf=a&cart=7", FORM), request(b"csrf=b&cart=7", FORM)
    assert same(one, other, ignore=("csrf",)) and not same(one, other)
    assert not same(one, request(b"csrf=b&cart=8", FORM), ignore=("csrf",))
    assert same(upload("photo", "a.png", "x"), upload("photo", "b.png", "y"), ignore=("photo",))


def test_ignored_json_member() -> None:
    """A member can be left out by its path, wherever it stands."""
    one, other = request(b'{"meta": {"csrf": "a", "x": 1}}'), request(b'{"meta": {"csrf": "b", "x": 1}}')
    assert same(one, other, ignore=("meta.csrf", "nothing.here"))
    assert not same(one, request(b'{"meta": {"csrf": "b", "x": 2}}'), ignore=("meta.csrf",))
    assert not same(one, request(b'{"csrf": {"x": 1}}'), ignore=("meta.csrf",))


def test_fingerprints_are_keyed() -> None:
    """Without the naming secret nobody can check a guess of what a body held."""
    for snapshot in (BASE, request(b"raw", "text/plain")):
        assert fingerprint_of(SECRET, snapshot) != fingerprint_of(b"t" * 32, snapshot)


@pytest.mark.parametrize(("snapshot", "fingerprint"), PINNED)
def test_no_fingerprint_ever_changes(snapshot: Snapshot, fingerprint: str) -> None:
    """What an earlier release has stored is compared by this one: else a request that is sent again is taken for another."""
    assert fingerprint_of(SECRET, snapshot) == fingerprint


def test_fingerprint_is_short() -> None:
    """A fingerprint fits a column of 65 characters, and a body without a meaning of its own has one half."""
    assert len(fingerprint_of(SECRET, BASE)) == 65
    assert len(fingerprint_of(SECRET, request(b"raw", "text/plain"))) == 32


@pytest.mark.parametrize("body", [b'{"a": 1, "a": 1}', b'{"a"', b'{"a": "\xff"}'])
def test_unreadable_body_has_no_fingerprint(body: bytes) -> None:
    """A body that two readers could read in two ways is refused, not collapsed."""
    with pytest.raises(BadBody):
        fingerprint_of(SECRET, request(body))


def test_long_body_is_compared_by_its_bytes() -> None:
    """Over the limit a body is not parsed, unless a field of it is to be ignored."""
    long = b'{"a": "' + b"x" * CHECKED_BYTES_MAX + b'", "csrf": %d}'
    one, other = request(long % 1), request(long % 2)
    assert ":" not in fingerprint_of(SECRET, one)
    assert same(one, one) and not same(one, other) and same(one, other, ignore=("csrf",))
    assert ":" in fingerprint_of(SECRET, request(b'"' + b"x" * (CHECKED_BYTES_MAX - 2) + b'"'))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(values, values)
def test_json_requests_are_the_same_when_their_values_are(one: Any, other: Any) -> None:
    """Two JSON bodies are one request exactly when they hold the same value, however they are written."""
    first, second = (
        request(json.dumps(one).encode()),
        request(json.dumps(other, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    )
    assert same(first, second) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


fields = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=4)


@given(fields, fields)
def test_form_fields_cannot_be_shifted(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    """Names and values cannot be moved across their border to make two forms look the same."""

    def hashed(pairs: list[tuple[str, str]]) -> str:
        return fingerprint_of(SECRET, request(urlencode(pairs).encode(), FORM)).partition(":")[2]

    by_name = [sorted(pairs, key=lambda pair: pair[0]) for pairs in (one, other)]
    assert (hashed(one) == hashed(other)) == (by_name[0] == by_name[1])
