"""Whatever goes into a log, no secret comes out; and a line stays one line, bounded and readable."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import ROOT

from cxguard.errors import ConfigurationError, StepMismatch
from cxguard.events import EVENTS, Event
from cxguard.logs import (
    CUT,
    EXCEPTION_CHARS_MAX,
    FIELD_CHARS_MAX,
    ITEMS_MAX,
    REDACTED,
    WARNINGS,
    SafeFormatter,
    as_json,
    configure_logging,
    get_logger,
    log_event,
    safe,
    where_raised,
)

CARD = "4111111111111111"
CARDS = {
    "plain": CARD,
    "grouped": "4111 1111 1111 1111",
    "dashes": "4111-1111-1111-1111",
    "full width": "".join(chr(0xFF10 + int(digit)) for digit in CARD),
    "american express": "378282246310005",
    "in a text": f"card={CARD}, thanks",
}


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What cxguard writes while the test runs, as JSON; the logger is put back as it was."""
    logger, stream = logging.getLogger("cxguard"), io.StringIO()
    before = (list(logger.handlers), logger.level, logger.propagate)
    configure_logging(json=True, stream=stream)
    yield stream
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]
    logger.setLevel(before[1])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "Authorization", "proxy-authorization", "cookie", "Set-Cookie", "cookies", "x-api-key", "password", "passwd"),
        *("token", "status_token", "secret", "client_secret", "Idempotency-Key", "idempotency_key", "key", "csrf_token", "cvv"),
        *("CVC", "csc"),
        *("card_number", "cardNumber", "pan", "security code", "iban", "signature", "contact", "email", "phone", "session_cookie"),
    ],
)
def test_secrets_go_by_their_name(name: str) -> None:
    """A field with such a name is blotted out, whatever it holds, at the top and inside another."""
    for value in ("abc", 123, 1.5, True, ["a"], {"a": "b"}, b"abc"):
        assert safe({name: value, "body": {name: value}, "all": [{name: value}]}) == {
            name: REDACTED,
            "body": {name: REDACTED},
            "all": [{name: REDACTED}],
        }


@pytest.mark.parametrize("name", ["reference", "session", "gateway_key", "monkey", "span", "company", "contact_hash", "card_brand"])
def test_other_names_stay(name: str) -> None:
    """Names that only look alike are kept: a log that says nothing helps nobody."""
    assert safe({name: "abc"}) == {name: "abc"}


@pytest.mark.parametrize("written_as", CARDS)
def test_card_numbers_go_by_their_looks(written_as: str) -> None:
    """In a text, a list, a mapping, a mapping's name, bytes and an object's repr: no digit of it is left."""
    card = CARDS[written_as]

    class Strange:
        def __repr__(self) -> str:
            return f"<{card}>"

    shown = as_json(safe({"why": card, "many": [card], "body": {"n": card, card: 1}, "raw": card.encode(), "object": Strange()}))
    assert "1111" not in shown and "8282" not in shown and card not in shown
    assert shown.count("[card]") == 6


def test_a_card_number_may_be_a_number() -> None:
    """An integer that is a card's number goes too; amounts, times and counts stay numbers."""
    assert safe({"n": int(CARD), "amount_minor": 4999, "at": 1_800_000_000, "big": 10**15, "huge": 10**5000}) == {
        **{"n": "[card]", "amount_minor": 4999, "at": 1_800_000_000, "big": 10**15, "huge": CUT}
    }


def test_addresses_go() -> None:
    """An e-mail address in any text is blotted out."""
    assert safe({"why": "no mail to ada.lovelace+shop@fern.example today"})["why"] == "no mail to [email] today"


def test_an_exception_leaves_no_card(written: io.StringIO) -> None:
    """Redaction comes after formatting: neither the message nor a chained one, nor any local variable, gets through."""

    def pay(number: str) -> None:
        body = {"card": number}
        try:
            raise ValueError(f"cannot read {number}")
        except ValueError as error:
            raise RuntimeError(f"for bob@fern.example: {body}") from error

    try:
        pay(CARD)
    except RuntimeError:
        get_logger("test").exception("test.failed", cookie="sid=1")
    [line] = lines(written)
    assert "1111" not in written.getvalue() and "bob@" not in written.getvalue()
    assert "ValueError: cannot read [card]" in line["exception"] and "RuntimeError: for [email]" in line["exception"]


@pytest.mark.parametrize("error", [ConfigurationError("write Guard(..., gateways=[...])"), StepMismatch("'49.99' is no amount")])
def test_what_is_wrong_with_the_code_is_said_in_our_own_words(error: Exception) -> None:
    """An engineer reads what to write instead, and not only the name of a class."""
    assert where_raised(error)["why"] == str(error)
    assert "why" not in where_raised(ValueError("what a shopper typed"))


def test_an_unconfigured_program_is_safe_too() -> None:
    """A host that has set up nothing gets one JSON line on standard error, without the card, and nothing on standard output."""
    code = (
        "from cxguard.logs import get_logger\n"
        f"number = '41111111' + '{CARD[8:]}'\n"
        "try:\n    raise ValueError(number)\nexcept ValueError:\n    get_logger('test').exception('test.failed', body=number)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert CARD not in done.stderr
    assert json.loads(done.stderr)["event"] == "test.failed"


def test_other_loggers_lines_are_safe_too(written: io.StringIO) -> None:
    """A line of the standard library's logging below `cxguard`, arguments and exception included, is treated alike."""
    try:
        raise ValueError(CARD)
    except ValueError:
        logging.getLogger("cxguard.elsewhere").exception("paid with %s", CARD)
    [line] = lines(written)
    assert line["event"] == "paid with [card]"
    assert "ValueError: [card]" in line["exception"] and CARD not in written.getvalue()


EVIL = ["a\nERROR forged", "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\u202eb", "a\x00b", "a\x7fb", "a\x9bb", "a\ud800b"]


@pytest.mark.parametrize("evil", EVIL)
def test_a_value_cannot_leave_its_line(evil: str) -> None:
    """Line breaks, escape codes and turned writing come out as text, for machines and for eyes."""
    for as_it in (True, False):
        record = logging.LogRecord("cxguard.test", logging.INFO, "", 0, evil, None, None)
        record.cxguard_fields = safe({"event": evil, evil: evil})
        shown = SafeFormatter(json=as_it).format(record)
        assert len(shown.splitlines()) == 1
        assert shown.isprintable()


@pytest.mark.parametrize(
    "value",
    ["x" * 1_000_000, [0] * 1_000_000, {str(n): n for n in range(10_000)}, [[[[["deep"]]]]], b"x" * 1_000_000],
    ids=["text", "list", "mapping", "depth", "bytes"],
)
def test_every_value_is_bounded(value: object) -> None:
    """However long, wide or deep: what is written is short, and says that it was cut."""
    shown = as_json(safe({"value": value}))
    assert len(shown) <= FIELD_CHARS_MAX + 100
    assert CUT in shown or len(json.loads(shown)["value"]) == ITEMS_MAX


def test_a_cut_leaves_no_half_of_a_number() -> None:
    """Wherever a long text is cut, no unrecognised piece of a card number stands at its end."""
    for shift in range(20):
        shown = safe({"why": "a" * shift + " " + f"{CARD} " * 2_000})["why"]
        assert "1111" not in shown and "411" not in shown


def test_a_long_exception_keeps_both_ends() -> None:
    """The head and the tail of a trace are what one reads."""
    shown = safe({"exception": "Traceback" + "x" * 100_000 + "\nValueError: the end"})["exception"]
    assert shown.startswith("Traceback") and shown.endswith("ValueError: the end")
    assert len(shown) <= EXCEPTION_CHARS_MAX + 10


@dataclass(frozen=True)
class Order:
    """A value as ours are."""

    reference: str
    contact: str
    note: str
    hidden: str = field(repr=False, default="hidden")


def test_a_dataclass_is_read_by_its_fields() -> None:
    """Its secret fields go by name, its hidden ones are not shown at all."""
    assert safe({"order": Order("AB", "ada", CARD)})["order"] == {"reference": "AB", "contact": REDACTED, "note": "[card]"}


def test_a_broken_repr_breaks_nothing() -> None:
    """An object that cannot be shown is named by its class."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert safe({"it": Broken()})["it"] == "<Broken, whose repr raised RuntimeError>"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=12), anything, max_size=6))
def test_any_fields_become_strict_json(fields: dict[str, Any]) -> None:
    """Whatever the fields are, the line is JSON that a strict reader takes, in UTF-8."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert isinstance(json.loads(as_json(safe(fields)).encode(), parse_constant=refuse), dict)


def test_an_event_is_one_line(written: io.StringIO) -> None:
    """All that the event says, each part under its own name, and nothing that is empty."""
    log_event(Event("order.queued", 1_800_000_000.0, reference="AB-CD", rule="pay", detail={"why": "breaker open", "give_up_at": 2}))
    [line] = lines(written)
    assert {**line, "timestamp": ""} == {
        **{"event": "order.queued", "level": "info", "logger": "cxguard.event", "timestamp": "", "at": 1_800_000_000.0},
        **{"reference": "AB-CD", "rule": "pay", "why": "breaker open", "give_up_at": 2},
    }


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_can_be_logged(written: io.StringIO, name: str) -> None:
    """No member of any event collides with a name that logging needs, or goes as a secret by mistake."""
    log_event(Event(name, 1.0, detail=dict.fromkeys(EVENTS[name].members, "said")))
    [line] = lines(written)
    assert line["event"] == name
    assert {line[member] for member in EVENTS[name].members} <= {"said"}
    assert line["level"] == ("warning" if name in WARNINGS else "info")


def test_warnings_are_events() -> None:
    """Each name that is a warning is in the event table."""
    assert EVENTS.keys() >= WARNINGS


def test_a_level_that_is_off_costs_no_line(written: io.StringIO) -> None:
    """News below the level are not written."""
    configure_logging(json=True, stream=written, level="WARNING")
    get_logger("test").info("test.news")
    get_logger("test").warning("test.warned")
    assert [line["event"] for line in lines(written)] == ["test.warned"]


def test_configuring_again_replaces(written: io.StringIO) -> None:
    """The second call writes each line once, where it says."""
    other = io.StringIO()
    configure_logging(json=True, stream=other)
    get_logger("test").warning("test.warned")
    assert (written.getvalue(), len(lines(other))) == ("", 1)


def test_the_console_is_for_eyes(written: io.StringIO) -> None:
    """Time, level, event, then each field; an exception follows, indented, so that it cannot pass for a line."""
    configure_logging(json=False, stream=written)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        get_logger("test").exception("test.failed", why="it broke", attempts=2)
    first, *rest = written.getvalue().splitlines()
    assert first[8:] == ' error   test.failed why="it broke" attempts=2'
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)
