"""Matches: which requests a pattern is for, which patterns are refused, and which overlap."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.errors import ConfigurationError
from cxguard.rules.match import overlap, parse_pattern

WRITE = 'Rule("{}", ...)'


@pytest.mark.parametrize(
    ("match", "path", "params"),
    [
        ("POST /pay", "/pay", {}),
        ("POST /pay", "/pay/", None),
        ("POST /pay", "/payment", None),
        ("POST /pay.php", "/payxphp", None),
        ("POST /orders/{id}/pay", "/orders/17/pay", {"id": "17"}),
        ("POST /orders/{id}/pay", "/orders/a b/pay", {"id": "a b"}),
        ("POST /orders/{id}/pay", "/orders//pay", None),
        ("POST /orders/{id}/pay", "/orders/1/2/pay", None),
        ("POST /orders/{id:int}", "/orders/17", {"id": "17"}),
        ("POST /orders/{id:int}", "/orders/new", None),
        ("POST /{shop}/orders/{id}", "/fern/orders/17", {"shop": "fern", "id": "17"}),
        ("POST /cart/*", "/cart/", {}),
        ("POST /cart/*", "/cart/a/b", {}),
        ("POST /cart/*", "/cart", None),
        ("POST /cart*", "/cart", {}),
        ("POST /cart*", "/carts/1", {}),
        ("POST /{shop}/*", "/fern/pay/now", {"shop": "fern"}),
        ("POST /grüße", "/grüße", {}),
        ("POST /a b", "/a b", {}),
        ("POST /", "/", {}),
        ("POST /*", "/anything\nat all", {}),
    ],
)
def test_patterns(match: str, path: str, params: dict[str, str] | None) -> None:
    """A literal is itself, `{id}` one segment, `{id:int}` digits, and a star at the end any rest."""
    pattern = parse_pattern(match, write=WRITE)
    assert (pattern.regex.fullmatch(path) is not None) is (params is not None)
    assert pattern.literal is ("{" not in match and "*" not in match)
    assert dict(pattern.params(path)) == (params or {})


@pytest.mark.parametrize(
    ("match", "why", "better"),
    [
        ("post /pay", "it begins with the method", "POST /pay"),
        ("/pay", "it begins with the method", "POST /pay"),
        ("pay", "it begins with the method", "POST /"),
        ("", "it begins with the method", "POST /"),
        ("POST/pay", "it begins with the method", "POST /pay"),
        ("shop/pay", "it begins with the method", "POST /pay"),
        ("FETCH /pay", "it begins with the method", "POST /pay"),
        ("POST pay", "it has one space", "POST /pay"),
        ("POST  /pay", "it has one space", "POST /pay"),
        (" POST /pay", "it has one space", "POST /pay"),
        ("POST https://shop.example/pay", "it has one space", "POST /pay"),
        ("POST /pay?step=2", "a path has no query", "POST /pay"),
        ("POST /pay#top", "a path has no query", "POST /pay"),
        ("POST /gr%C3%BC%C3%9Fe", "paths are compared decoded", "POST /grüße"),
        ("POST /a*b", "{name} stands for a whole segment", "POST /{id}"),
        ("POST /order-{id}", "{name} stands for a whole segment", "POST /{id}"),
        ("POST /{id:uuid}/pay", "{name} stands for a whole segment", "POST /{id}/pay"),
        ("POST /<id>/pay", "{name} stands for a whole segment", "POST /{id}/pay"),
        ("POST /<int:order_id>/pay", "{name} stands for a whole segment", "POST /{order_id}/pay"),
        ("POST /:id/pay", "{name} stands for a whole segment", "POST /{id}/pay"),
        ("POST /{}", "{name} stands for a whole segment", "POST /{id}"),
        ("POST /{id", "{name} stands for a whole segment", "POST /{id}"),
        ("POST /{id}/sub/{id}", "names {id} twice", "POST /{id}/sub/{id_2}"),
    ],
)
def test_matches_that_match_nothing_are_refused(match: str, why: str, better: str) -> None:
    """A match that no request can have is refused with the reason and the line to write, which is then accepted."""
    with pytest.raises(ConfigurationError, match=re.escape(why)) as refused:
        parse_pattern(match, write=WRITE)
    assert str(refused.value).endswith(f'; write Rule("{better}", ...)')
    parse_pattern(better, write=WRITE)


OVERLAPS = [
    ("POST /pay", "POST /pay", True),
    ("POST /pay", "GET /pay", False),
    ("POST /pay", "POST /pay/", False),
    ("POST /orders/{id}", "POST /orders/new", True),
    ("POST /orders/{id:int}", "POST /orders/new", False),
    ("POST /orders/{id:int}", "POST /orders/17", True),
    ("POST /orders/{id}", "POST /orders/{id:int}", True),
    ("POST /orders/{id}", "POST /orders/", False),
    ("POST /orders/{id}/pay", "POST /orders/{order}/pay", True),
    ("POST /orders/{id}/pay", "POST /orders/{id}/refund", False),
    ("POST /cart*", "POST /cart/items", True),
    ("POST /cart*", "POST /checkout", False),
    ("POST /cart/*", "POST /cart", False),
    ("POST /cart/*", "POST /{any}", False),
    ("POST /cart/*", "POST /{any}/x", True),
    ("POST /cart*", "POST /{any}", True),
    ("POST /cart*", "POST /{any:int}", False),
    ("POST /1*", "POST /{any:int}", True),
    ("POST /cart*", "POST /carts*", True),
    ("POST /cart*", "POST /checkout*", False),
    ("POST /*", "POST /pay", True),
]


@pytest.mark.parametrize(("one", "other", "expected"), OVERLAPS)
def test_overlaps(one: str, other: str, expected: bool) -> None:
    """Two patterns overlap when some request has both, in either order."""
    a, b = parse_pattern(one, write=WRITE), parse_pattern(other, write=WRITE)
    assert overlap(a, b) is overlap(b, a) is expected


segment = st.sampled_from(["a", "ab", "1", "12", "{p}", "{q:int}"])


@st.composite
def matches(draw: st.DrawFn) -> str:
    segments = draw(st.lists(segment, min_size=1, max_size=3))
    named = [part.replace("p", f"p{at}").replace("q", f"q{at}") if "{" in part else part for at, part in enumerate(segments)]
    last_is_param = named[-1].startswith("{")
    star = draw(st.sampled_from(["", "/*"] if last_is_param else ["", "*", "/*"]))
    return "POST /" + "/".join(named) + star


PATHS = ["/" + "/".join(parts) for size in range(1, 5) for parts in itertools.product(["a", "ab", "1", "12", "x", ""], repeat=size)]


@given(matches(), matches())
def test_overlap_agrees_with_what_matches(one: str, other: str) -> None:
    """Over a small world of paths: two patterns overlap exactly when one path matches both."""
    a, b = parse_pattern(one, write=WRITE), parse_pattern(other, write=WRITE)
    assert overlap(a, b) is any(a.regex.fullmatch(path) and b.regex.fullmatch(path) for path in PATHS)
