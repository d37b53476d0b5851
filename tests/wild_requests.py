"""Requests as no honest client writes them: every part of one, right in most places and wild in some."""

from __future__ import annotations

import json
from urllib.parse import quote_plus

from hypothesis import strategies as st

CARD = "4111111111111111"
Header = tuple[bytes, bytes]

_letters = st.text(max_size=12) | st.sampled_from(["\ud800", "\x00", "\u202e", "c1", "ann@fern.example", CARD, "1e400", "-1", "１２"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _letters | st.integers(min_value=10**30, max_value=10**40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_letters, inner, max_size=3),
    max_leaves=6,
)
_members = st.fixed_dictionaries(
    {"amount": st.just(1000) | _values, "currency": st.just("EUR") | _values, "cart": st.just("c1") | _values},
    optional={"email": st.just("ann@fern.example") | _values, "agrees": st.just(True) | _values, "x": _values},
)
QUERY = "mutation Pay($c: ID!) { pay(cart: $c, amount: 1000) { id } }"
_good = {"amount": 1000, "currency": "EUR", "cart": "c1", "email": "ann@fern.example", "agrees": True, "x": "y"}
_one_wild = st.builds(lambda name, value: {**_good, name: value}, st.sampled_from(sorted(_good)), _values)  # led past every other check
_deep = st.builds(lambda n: "{a" * n, st.integers(1, 2_000))
_queries = st.just(QUERY) | st.text(alphabet="mutation{}()pay:$!. \n\"#@[]", max_size=60) | _deep


@st.composite
def _form(draw: st.DrawFn) -> bytes:
    names = st.sampled_from(["cart", "amount", "currency", "email", "\ud800"]) | _letters
    pairs = draw(st.lists(st.tuples(names, _letters), max_size=5))
    return "&".join("=".join(quote_plus(part.encode(errors="replace")) for part in pair) for pair in pairs).encode()


_DISPOSITIONS = ['form-data; name="%s"', 'form-data; name="%s"; filename="x"', "form-data", "%s", "attachment; name*=utf-8''%s"]


@st.composite
def _multipart(draw: st.DrawFn) -> bytes:
    parts = []
    for name, value in draw(st.lists(st.tuples(_letters, _letters), max_size=4)):
        disposition = draw(st.sampled_from(_DISPOSITIONS))
        head = disposition % name if "%s" in disposition else disposition
        parts.append(f"--b\r\ncontent-disposition: {head}\r\n\r\n{value}\r\n".encode(errors="replace"))
    return b"".join(parts) + draw(st.sampled_from([b"--b--\r\n", b"--b", b"", b"--c--\r\n"]))


@st.composite
def _spoilt(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """Whole most of the time; else cut, doubled, or with some bytes of its own."""
    body = draw(bodies)
    at = draw(st.integers(0, len(body)))
    wild = draw(st.binary(max_size=6))
    odd = [body[:at], body[:at] + wild + body[at:], body + body, wild, b"[" * 30_000, b"\xef\xbb\xbf" + body]
    return draw(st.sampled_from([body, body, body, *odd]))


_json = st.builds(lambda value: json.dumps(value).encode(), _one_wild | _members | _values)
_graphql = st.builds(lambda query, variables: json.dumps({"query": query, "variables": variables}).encode(), _queries, _members)
JSON_BODIES, FORM_BODIES, MULTIPART_BODIES, GRAPHQL_BODIES = (_spoilt(each) for each in (_json, _form(), _multipart(), _graphql))
_TYPES = {
    b"application/json": JSON_BODIES,
    b"application/problem+json": JSON_BODIES,
    b"application/x-www-form-urlencoded": FORM_BODIES,
    b"multipart/form-data; boundary=b": MULTIPART_BODIES,
    b"application/graphql": GRAPHQL_BODIES,
}
_bytes = st.binary(max_size=24) | st.sampled_from([b"", b" ", b"\xff\xfe", b"a" * 5_000, b"\x1b[2J", b"k\tk", b'"q', b",", b";;;="])
_odd = st.sampled_from([b"charset=utf-16", b"charset=\xff", b"boundary", b"boundary=", b"q=2", b"charset=utf-8"])


def _line(value: bytes) -> bytes:
    """What any server lets through in a header's value."""
    return value.translate(None, b"\r\n\x00").strip()


def _header(name: bytes, good: list[bytes]) -> st.SearchStrategy[Header]:
    return st.tuples(st.just(name), (st.sampled_from(good) | st.sampled_from(good) | _bytes).map(_line))


_NAMED = {
    b"idempotency-key": [b"k1", b'"k1"', b"k1, k2", b"\xe4"],
    b"prefer": [b"respond-async", b"respond-async; wait=5, return=minimal", b",,,"],
    b"accept": [b"text/html", b"application/json", b"*/*;q=0", b"text/html;q=0.5,application/json;q=1.5", b";" * 300],
    b"accept-language": [b"de-AT, de;q=0.8", b"x" * 300, b"en;q=nan"],
    b"cookie": [b"visitor=ann", b"visitor=ann; visitor=bob", b'visitor="a\\073b"', b"; =;;==", b"visitor"],
    b"content-length": [b"5", b"-5", b"9" * 30, "５".encode()],
    b"forwarded": [b"host=evil.example;proto=https", b'for="[::1"'],
    b"x-forwarded-host": [b"evil.example", b"//evil.example"],
    b"origin": [b"null", b"http://evil.example"],
    b"sec-fetch-dest": [b"empty", b"document"],
    b"sec-fetch-mode": [b"navigate"],
    b"user-agent": [b"Mozilla/5.0", b"Googlebot"],
    b"cxguard-confirm-duplicate": [b"7K3M-9QXA-2TFV", b"7K3M"],
    b"retry-after": [b"1"],
}
HEADERS = st.lists(st.one_of(*(_header(name, good) for name, good in _NAMED.items())), max_size=8)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, list[Header], bytes]:
    """Path, headers and body."""
    kind = draw(st.sampled_from(sorted(_TYPES)))
    body = draw(_TYPES[kind])
    told = draw(st.sampled_from([[kind], [kind], [kind], [kind + b"; " + draw(_odd)], [], [kind, kind], [_line(draw(_bytes))]]))
    path = draw(st.sampled_from(["/pay", "/form", "/graphql", "/derived", "/kept"]))
    keyed = draw(st.sampled_from([[(b"idempotency-key", b"k1")], [(b"idempotency-key", b"k1")], []]))
    owned = draw(st.sampled_from([[(b"cookie", b"visitor=ann")], [(b"cookie", b"visitor=ann")], []]))
    return path, [*((b"content-type", each) for each in told), *keyed, *owned, *draw(HEADERS)], body
