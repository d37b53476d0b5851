"""Filling texts: placeholders, optional parts, important words, amounts and times."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from itertools import product

import pytest
from markupsafe import Markup

from cxguard.core.answer import SPECS, About, MoneyTold, Situation, answer_for
from cxguard.render.figures import format_amount, format_time, iso_time
from cxguard.render.fill import fill, fill_markup
from cxguard.render.messages.catalogue import SHIPPED, load_catalogue
from cxguard.render.words import Voice
from cxguard.rules.shop import Shop

NOW = 1_795_383_000.0  # 22 November 2026, 21:30 UTC
SHOP = Shop(name="Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example")
VOICE = Voice(load_catalogue(), SHOP)
FULL = About(reference="7K4M-Q2XN-8PHD", next_update_at=NOW + 900, ends_at=NOW + 7200, amount_minor=4999, currency="EUR", minutes=4)


@pytest.mark.parametrize(
    ("text", "plain", "markup"),
    [
        ("{a} and {b}", "1 and –", "1 and –"),
        ("x[[ by {a}]].", "x by 1.", "x by 1."),
        ("x[[ by {b}]].", "x.", "x."),
        ("x[[ {a} {b}]].", "x.", "x."),
        ("**no** {a}", "no 1", "<strong>no</strong> 1"),
        ("{c}", "<i>", "&lt;i&gt;"),
        ("a < b", "a < b", "a &lt; b"),
        ("{d}", "{a}", "{a}"),
        ("{e}", "**x**", "**x**"),
    ],
)
def test_filling_is_the_same_for_text_and_page(text: str, plain: str, markup: str) -> None:
    """Optional parts go away whole; values are never read as placeholders; on a page everything is escaped."""
    values = {"a": "1", "b": None, "c": "<i>", "d": "{a}", "e": "**x**"}
    if "{e}" not in text:
        assert fill(text, values) == plain
    assert fill_markup(text, values) == markup


def test_markup_values_stay_markup() -> None:
    """A value that is markup already is put in as it is."""
    assert fill_markup("{a}", {"a": Markup("<time>1</time>")}) == "<time>1</time>"


@pytest.mark.parametrize(
    ("amount_minor", "currency", "locale", "text"),
    [
        (4999, "EUR", "en", "€49.99"),
        (4999, "EUR", "de", "49,99\u00a0€"),
        (4999, "EUR", "fr", "49,99\u00a0€"),
        (123456789, "USD", "en", "$1,234,567.89"),
        (123456789, "EUR", "de", "1.234.567,89\u00a0€"),
        (500, "JPY", "en", "¥500"),
        (1234, "KWD", "en", "1.234\u00a0KWD"),
        (5, "CHF", "de", "0,05\u00a0CHF"),
        (-4999, "EUR", "en", "-€49.99"),
        (10**15 + 1, "EUR", "en", "€10,000,000,000,000.01"),
        (4999, "EUR", "it", "49.99\u00a0€"),
    ],
)
def test_amounts_follow_the_currencys_decimals(amount_minor: int, currency: str, locale: str, text: str) -> None:
    """Minor units are written exactly, with the decimals that the currency has."""
    assert format_amount(amount_minor, currency, locale=locale) == text


@pytest.mark.parametrize(
    ("at", "locale", "text"),
    [
        (NOW + 900, "en", "21:45 UTC"),
        (NOW + 9000, "en", "23 November, 00:00 UTC"),
        (NOW + 9000, "de", "23. November, 00:00 UTC"),
        (NOW + 9000, "fr", "23 novembre, 00:00 UTC"),
    ],
)
def test_times_name_their_zone(at: float, locale: str, text: str) -> None:
    """A time of today is a clock time, another day is named, and the zone is always there."""
    assert format_time(at, now=NOW, zone=UTC, locale=locale) == text


def test_times_are_given_in_the_shops_zone() -> None:
    """The clock and the day are those of the zone."""
    zone = timezone(timedelta(hours=5, minutes=30), "IST")
    assert format_time(NOW, now=NOW, zone=zone, locale="en") == "03:00 IST"
    assert iso_time(NOW) == "2026-11-22T21:30:00Z"


@pytest.mark.parametrize("locale", SHIPPED)
@pytest.mark.parametrize("situation", Situation)
def test_every_answer_reads_well(locale: str, situation: Situation) -> None:
    """Whatever is known or not, no placeholder, bracket or gap is left in title, detail or page."""
    for about, money in product((FULL, About(reference=FULL.reference), About()), (None, *MoneyTold)):
        words = VOICE.words(answer_for(situation, about, recorded=money), locale=locale, now=NOW)
        for text in (words.title, words.detail, *words.paragraphs):
            assert text.strip()
            assert not any(left in text for left in ("{", "}", "[[", "]]", "**", "  ", " .", "()"))
        assert "+44 20 7946 0000 (9-18), help@fern.example" in words.detail
        if SPECS[situation].order_saved and about.reference:
            assert about.reference in words.detail


def test_the_text_follows_the_money_and_the_reason() -> None:
    """Held says what is known of the money, and a decline gives the reason that one may be told."""
    charged = VOICE.words(answer_for(Situation.HELD, FULL, recorded=MoneyTold.CHARGED), locale="en", now=NOW)
    assert charged.detail.startswith("You have paid for order 7K4M-Q2XN-8PHD")
    declined = VOICE.words(answer_for(Situation.DECLINED, About(reason="funds")), locale="en", now=NOW)
    assert "not enough available" in declined.detail


def test_contact_leaves_out_what_the_shop_has_not() -> None:
    """Only the ways that exist are named."""
    voice = Voice(VOICE.catalogue, Shop(name="Fern", url="/contact"))
    assert voice.contact() == {"url": "/contact"}
    assert voice.contact_line() == "/contact"
