"""The shop's own error text, wherever it stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.engine.error_text import TEXT_MAX, shop_error_text

JSON = "application/json"
HTML = "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("status", "value", "text"),
    [
        (402, {"message": "Card declined"}, "Card declined"),
        (402, {"error": "card_declined", "message": "Card declined"}, "Card declined"),
        (500, {"error": {"code": 7, "message": "Try  again\nlater"}}, "Try again later"),
        (422, {"detail": [{"loc": ["body", "zip"], "msg": "field required", "input": "Ann"}]}, "field required"),
        (422, {"errors": {"card": ["is not valid"]}}, "is not valid"),
        (400, {"errors": [{"message": "no such basket"}]}, "no such basket"),
        (409, {"type": "about:blank", "title": "Conflict", "detail": "Sold out"}, "Sold out"),
        (503, {"title": "Service unavailable"}, "Service unavailable"),
        (400, "plain words", "plain words"),
        (400, {"error": {"errors": [{"detail": "four deep"}]}}, "four deep"),
        (400, {"error": {"errors": [{"detail": {"message": "five deep"}}]}}, ""),
        (200, {"message": "Thank you"}, ""),
        (200, {"success": False, "message": "Not paid"}, "Not paid"),
        (200, {"errors": [{"message": "declined"}], "data": None}, "declined"),
        (200, {"errors": [], "message": "Thank you"}, ""),
        (500, {"trace": "secret", "status": "failed"}, ""),
        (500, None, ""),
        (500, 7, ""),
    ],
)
def test_json_error_text(status: int, value: object, text: str) -> None:
    """The most telling member counts from 400 on; on a good status only when the body calls itself an error."""
    assert shop_error_text(status, JSON, json.dumps(value).encode()) == text


def test_problem_document_counts_as_json() -> None:
    """Any `+json` type is read as JSON."""
    assert shop_error_text(409, "application/problem+json; charset=utf-8", b'{"title": "Conflict", "detail": "Gone"}') == "Gone"


@pytest.mark.parametrize(
    ("status", "page", "text"),
    [
        (200, '<div role="alert">Card <b>declined</b></div>', "Card declined"),
        (200, '<p class="alert alert-danger">Not paid</p>', "Not paid"),
        (422, '<ul class="errorlist"><li>Required</li></ul>', "Required"),
        (200, '<div class="errors"></div><span class="error">Sold out</span>', "Sold out"),
        (200, '<div class="alert alert-success">Added</div>', ""),
        (200, '<div class="alert alert-warning">Only two left</div>', ""),
        (409, '<div class="alert alert-warning">Price changed</div>', "Price changed"),
        (200, '<div hidden><p role="alert">Later</p></div><div style="display: none" class="error">No</div>', ""),
        (200, "<template><p role='alert'>Later</p></template>", ""),
        (200, "<h1>Checkout</h1>", ""),
        (200, '<div hidden role="alert">Later</div>', ""),
        (200, '<div aria-hidden="true"><p role="alert">Later</p></div>', ""),
        (502, "<title>x</title><h1>Bad gateway</h1>", "Bad gateway"),
        (502, "<title>Bad gateway</title>", "Bad gateway"),
        (500, "", ""),
    ],
)
def test_page_error_text(status: int, page: str, text: str) -> None:
    """A visible alert counts whatever the status, good news and hidden boxes do not, and a broken page has its heading."""
    assert shop_error_text(status, HTML, page.encode()) == text


@pytest.mark.parametrize(
    ("status", "kind", "body", "text"),
    [
        (500, "text/plain", b"Internal Server Error", "Internal Server Error"),
        (200, "text/plain", b"fine", ""),
        (400, "text/plain; charset=latin-1", "geht nicht: ä".encode("latin-1"), "geht nicht: ä"),
        (400, "text/plain; charset=martian", b"no", "no"),
        (400, "text/plain; charset=martian", b"no \xff", "no \ufffd"),
        (500, "", b"{}", ""),
        (500, "image/png", b"\x89PNG", ""),
        (500, JSON, b'{"message": "cut of', ""),
        (500, JSON, b"[" * 100_000, ""),
        (500, JSON, b"\xff\xfe", ""),
    ],
)
def test_other_bodies(status: int, kind: str, body: bytes, text: str) -> None:
    """Plain errors are read in their charset; anything unreadable gives nothing."""
    assert shop_error_text(status, kind, body) == text


@given(st.integers(100, 599), st.sampled_from([JSON, HTML, "text/plain", "text/html; charset=utf-16", "x"]), st.binary(max_size=200))
def test_no_body_makes_it_raise(status: int, kind: str, body: bytes) -> None:
    """Whatever bytes come, a bounded text comes back."""
    assert len(shop_error_text(status, kind, body)) <= TEXT_MAX
