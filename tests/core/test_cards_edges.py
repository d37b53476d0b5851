"""Card data at the edges: numbers side by side, boxes of a form, tokens, and bytes that are no text."""

from __future__ import annotations

import json

import pytest

from cxguard.core.cards import CARD_MARK, GROUPS_MAX, carries_card, holds_card, is_card_number, redact, split_card
from cxguard.core.snapshot import Snapshot

VISA = "4242424242424242"
SHIFTED = ("4111", "4111", "4242", "4123", "4004")  # the first four are a number, and so are the last four


def carried(body: bytes, content_type: str = "application/json") -> str | None:
    return carries_card(Snapshot("POST", "/pay", "", (("content-type", content_type),), body))


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"{VISA} 5555555555554444 12", f"{CARD_MARK} {CARD_MARK} 12"),
        ("4242%204242%204242%204242%2012", f"{CARD_MARK}%2012"),
        ("4111.1111.1111.1111 and 3782/822463/10005 too", f"{CARD_MARK} and {CARD_MARK} too"),
        ("2026.4111.1111.1111.1111", f"2026.{CARD_MARK}"),
        (".".join(SHIFTED), f"{CARD_MARK}.4004"),
        (" ".join(SHIFTED), f"{CARD_MARK} 4004"),
        (" ".join("1" * GROUPS_MAX), " ".join("1" * GROUPS_MAX)),
        (" ".join("1" * (GROUPS_MAX + 1)), CARD_MARK),
    ],
)
def test_numbers_side_by_side(text: str, redacted: str) -> None:
    """Each goes, and nothing else; a run that is too long to look through goes as a whole."""
    assert redact(text) == redacted


@pytest.mark.parametrize(("text", "holds"), [(f"pay {VISA}", True), ("cvv 123", True), ("cvv", False), ("order 17", False)])
def test_a_text_holds_card_data_by_a_number_or_a_code(text: str, holds: bool) -> None:
    """Either is enough."""
    assert holds_card(text) is holds


@pytest.mark.parametrize(
    ("values", "number"),
    [
        (["4242"] * 4, VISA),
        ([4242] * 4, VISA),
        (["2026", "4111", "1111", "1111", "1111", "x"], "4111111111111111"),
        (["3782", "822463", "10005"], "378282246310005"),
        ([3782, 822463, 10005], "378282246310005"),
        (["4242", "  4242   ", "4242", "4242"], VISA),
        (["4111", "1111", "1111", "1111128"], "4111111111111111128"),
        (["4111", "11ab", "1111", "1111"], ""),
        (["4111", "a long word", "1111", "1111"], ""),
        (["4111", None, True, 1.5], ""),
        ([], ""),
    ],
)
def test_boxes_of_a_form_are_one_number(values: list[object], number: str) -> None:
    """Texts or whole numbers, as they are printed on a card; a word among them is none."""
    assert split_card(values) == number


def test_the_last_box_may_hold_a_zero() -> None:
    """As a number."""
    assert is_card_number("4115111111110")
    assert split_card([4115, 1111, 1111, 0]) == "4115111111110"


def test_a_number_of_thousands_of_digits_is_no_group() -> None:
    """Python refuses to write it out: who logs a list with it is not disturbed."""
    assert split_card([4111, 1111, 1111, 1111, 10**5000, -(10**5000)]) == "4111111111111111"
    assert split_card([10**5000] * 4) == ""


@pytest.mark.parametrize(
    ("body", "content_type", "where"),
    [
        (b'{"n": {"a": "3782", "b": "822463", "c": "10005"}}', "application/json", "a value of the field n"),
        (b"a=4242&b=4242&c=4242&d=4242", "application/x-www-form-urlencoded", "the body"),
        (b'{"n": "\xff4242424242424242"', "application/json", "the body"),
        (b"\xff 4242424242424242", "text/plain", "the body"),
        (
            b'--b\r\nContent-Disposition: form-data; name="n"; filename="x"\r\n\r\n\xff4242424242424242\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            "a value of the field n",
        ),
    ],
)
def test_boxes_and_bytes_that_are_no_text_hide_nothing(body: bytes, content_type: str, where: str) -> None:
    """The request is read as far as it goes."""
    assert carried(body, content_type) == where


@pytest.mark.parametrize(("digits", "where"), [("123456789012", "the field card_number"), ("12345678901", None)])
def test_how_many_digits_make_a_number_by_its_field(digits: str, where: str | None) -> None:
    """One less than any card has: the last may be masked."""
    assert carried(json.dumps({"card_number": digits}).encode()) == where


@pytest.mark.parametrize(("before", "is_card"), [("a1b1c1d", True), ("1a1b1c1d", False)])
def test_how_often_a_token_changes_between_letters_and_digits(before: str, is_card: bool) -> None:
    """Eight times, the number's own edge among them."""
    assert holds_card(before + VISA) is is_card
    assert holds_card(f"x {before}{VISA}") is is_card
