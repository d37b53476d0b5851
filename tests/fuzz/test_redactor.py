"""The redactor under the dice: a card's number, a security code or an address, in whatever writing, comes out of no sink."""

from __future__ import annotations

import io
import json
import logging
import unicodedata
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from fuzz_budget import thrown
from hypothesis import given
from hypothesis import strategies as st

from cxguard.cli.printing import print_json
from cxguard.core.cards import carries_card, redact
from cxguard.core.message import clean_text
from cxguard.core.snapshot import Snapshot
from cxguard.engine.error_text import shop_error_text
from cxguard.logs import SafeFormatter, as_json, safe, where_raised

NUMBERS = ("4111111111111111", "5555555555554444", "378282246310005", "4222222222222", "6011000990139424", "36227206271667")
SCRIPTS = {"ascii": 0x30, "full width": 0xFF10, "arabic": 0x660, "devanagari": 0x966, "bold": 0x1D7CE}
# Between the digits of any number; and between groups as they are printed on a card, where it may be anything.
ANYWHERE = ("", " ", "-", "  ", "\u00a0", "\u2009", "\u2011", "+", "%20")
PRINTED = (*ANYWHERE, ".", "/", "\t", "_", "\u200b", " - ", "\n", "', '", '","', "|")
AROUND = ("", "card ", "Card: ", "(", "no ", "\u2028", '{"x":"', "a=", "<b>", "2026 ")

JSON, FORM = "application/json", "application/x-www-form-urlencoded"


def groups_of(number: str) -> list[str]:
    """As it is printed."""
    sizes = (4, 6, 9) if len(number) in (14, 15) else (4, 4, 4, 9)
    found, at = [], 0
    for size in sizes:
        found.append(number[at : at + size])
        at += size
    return [group for group in found if group]


def in_script(number: str, script: str) -> str:
    return "".join(chr(SCRIPTS[script] + int(digit)) if digit.isdigit() else digit for digit in number)


@st.composite
def writings(draw: st.DrawFn) -> tuple[str, str]:
    """A number in plain digits, and how it was written."""
    number = draw(st.sampled_from(NUMBERS))
    script, separator = draw(st.sampled_from(sorted(SCRIPTS))), draw(st.sampled_from(PRINTED))
    if separator in ANYWHERE and draw(st.booleans()):
        cuts = draw(st.lists(st.integers(1, len(number) - 1), max_size=4))
        parts = [number[start:end] for start, end in zip([0, *sorted(set(cuts))], [*sorted(set(cuts)), len(number)], strict=True)]
    else:
        parts = groups_of(number)
    written = separator.join(in_script(part, script) for part in parts)
    return number, draw(st.sampled_from(AROUND)) + written + draw(st.sampled_from(("", " thanks", ")", ".", '"}', "&b=c")))


def digits(text: str) -> str:
    """All digits of a text, whatever they are written in and whatever stands between them."""
    plain = text.replace("%20", "").replace("\\u200b", "").replace("\\u2028", "").replace("\\u0009", "").replace("\\n", "")
    return "".join(str(unicodedata.digit(char)) for char in plain if char.isdigit())


@thrown(300)
@given(writings())
def test_no_writing_of_a_number_comes_out(case: tuple[str, str]) -> None:
    """Not of a text, a log's fields or a line of another's logger, a shop's error page, or what a session keeps."""
    number, text = case
    record = logging.LogRecord("cxguard.x", logging.INFO, "", 0, "paid with %s", (text,), None)
    lines = (redact(text), *(SafeFormatter(json=each).format(record) for each in (True, False)))
    fields = as_json(safe({"why": text, "body": {"n": [text]}, text: 1, "raw": text.encode(), "both": (text, {text})}))
    texts = (clean_text(text), clean_text(shop_error_text(500, "application/json", json.dumps({"detail": text}).encode())))
    for said in (*lines, fields, *texts):
        assert number not in digits(said), said


@thrown(150)
@given(writings().filter(lambda case: case[1].isprintable()), st.sampled_from([int, str, list, tuple, dict]))  # else its repr is no number
def test_no_container_hides_a_number(case: tuple[str, str], kind: type) -> None:
    """As an integer, in boxes, in a list of groups, as the repr of one, and in an exception's words."""
    number, text = case
    boxes = groups_of(number)
    held: Any = {int: int(number), str: text, list: boxes, tuple: tuple(map(int, boxes)), dict: {"n": {"n": text}}}[kind]
    try:
        raise ValueError(repr(held))
    except ValueError as error:
        told = as_json(safe({"held": held, "why": repr(held), "exception": repr(error), **where_raised(error)}))
    assert number not in digits(told).replace("000", ""), told


PLACES = ("value", "nested", "boxes", "siblings", "form", "form boxes", "multipart", "text", "query", "path", "graphql")


@thrown(150)
@given(writings(), st.sampled_from(PLACES))
def test_a_request_with_a_number_is_seen_for_what_it_is(case: tuple[str, str], place: str) -> None:
    """Wherever it stands: such a request is not kept."""
    number, text = case
    kind, path, query = JSON, "/pay", ""
    boxes = [("year", "2026"), *((f"n{at}", box) for at, box in enumerate(groups_of(number)))]
    body = b"{}"
    match place:
        case "value" | "nested":
            body = json.dumps({"n": text} if place == "value" else {"a": [{"b": [1, {"c": text}]}]}).encode()
        case "boxes" | "siblings":
            body = json.dumps(dict(boxes) if place == "siblings" else {"n": [box for _, box in boxes]}).encode()
        case "form" | "form boxes":
            kind = FORM
            body = urlencode([("n", text)] if place == "form" else boxes).encode()
        case "multipart":
            kind = "multipart/form-data; boundary=b"
            body = f'--b\r\ncontent-disposition: form-data; name="n"\r\n\r\n{text}\r\n--b--\r\n'.encode()
        case "text":
            kind, body = "text/plain", text.encode()
        case "query":
            query = f"n={quote_plus(text)}"
        case "path":
            path = f"/pay/{quote(text, safe='')}"
        case "graphql":
            body = json.dumps({"query": "mutation M($n: String) { pay(n: $n) { id } }", "variables": {"n": text}}).encode()
    assert carries_card(Snapshot("POST", path, query, (("content-type", kind),), body)) is not None


CODES = ("cvv", "CVV2", "cvc", "card_cvc", "cardCvv", "csc", "security code", "securityCode", "verification_value", "card[cvv]")
CODE_WRITINGS = (
    *("{n}={c}", '"{n}": "{c}"', "'{n}': '{c}'", "{n}: {c}", '"{n}":{c}', "{n} {c}", "{n} is {c}", "{n}%3D{c}", '\\"{n}\\": \\"{c}\\"'),
)


@thrown(150)
@given(st.sampled_from(CODES), st.sampled_from(CODE_WRITINGS), st.integers(100, 9999))
def test_no_security_code_comes_out_beside_its_name(name: str, writing: str, code: int) -> None:
    """As a field of its own, inside a text, and in the repr of the mapping that it came in."""
    text = f"cannot read {writing.format(n=name, c=code)} today"
    told = as_json(safe({"why": text, "body": {name: code, "all": [{name: str(code)}]}, "exception": f"KeyError: {text}"}))
    assert str(code) not in told, told
    assert str(code) not in redact(repr({"amount": 5, name: str(code)}))


emails = st.builds(
    lambda local, host, top: f"{local}@{host}.{top}",
    st.text(alphabet="abcXYZ019._%+-", min_size=1, max_size=20).filter(lambda local: local.strip("._%+-")),
    st.text(alphabet="abc019-é", min_size=1, max_size=12),
    st.sampled_from(["example", "co.uk", "de", "example.org"]),
)


@thrown(150)
@given(emails, st.sampled_from(["{}", "<{}>", "for {}, please", "mailto:{}", '"{}"', "a={}&b=c"]))
def test_no_address_comes_out(email: str, around: str) -> None:
    """Plain, and as a form or a URL writes it."""
    for written in (email, quote_plus(email), quote(email, safe="")):
        text = around.format(written)
        for said in (redact(text), as_json(safe({"why": text, "all": [text]})), clean_text(text), clean_text(text, typed=[email])):
            assert written not in said


def test_what_is_printed_for_programs_is_json_all_the_same() -> None:
    """Escaping what a terminal obeys leaves the document what it was."""
    value, out = {"a": "x\x1b\x9b\u202e\u2028\ud800é\U000e0001\n"}, io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        print_json(value)
    assert json.loads(out.getvalue()) == value
