"""What a shopper understands: every message that we or the shop can show."""

from __future__ import annotations

import html
import json
import tomllib
from pathlib import Path

import pytest

import cxguard
from cxguard.core.answer import SPECS, MoneyTold, Situation
from cxguard.demo.crowd.understanding import hidden_fields, understand_json, understand_page
from cxguard.demo.crowd.words import Word

URL = "http://shop.example/orders/x"
MEANS = {
    Situation.PLACED: Word.PAID,
    Situation.PLACED_RESERVED: Word.PAID,
    Situation.DECLINED: Word.DECLINED,
    Situation.CANCELLED: Word.CANCELLED,
    Situation.GAVE_UP: Word.CANCELLED,
    Situation.REFUNDED: Word.CANCELLED,
    Situation.NOT_KEPT: Word.NOT_CHARGED,
    Situation.PAID_UNFINISHED: Word.PAID,
    Situation.RESERVED_UNFINISHED: Word.PAID,
    Situation.NEEDS_SHOPPER: Word.CHECKING,
    Situation.SHOPPER_ASKED: Word.KEPT,
    Situation.KEPT: Word.KEPT,
    Situation.REPLACED: Word.KEPT,
    Situation.SPOOLED: Word.CHECKING,
    Situation.UNKNOWN: Word.CHECKING,
    Situation.HELD: Word.CHECKING,
    Situation.CANCEL_ASKED: Word.CHECKING,
    Situation.REFUND_DUE: Word.CHECKING,
    Situation.IN_FLIGHT: Word.CHECKING,
    Situation.DUPLICATE: Word.PAID,
    Situation.DUPLICATE_RUNNING: Word.CHECKING,
    Situation.BASKET_BEING_PAID: Word.CHECKING,
    Situation.STORE_AWAY: Word.CHECKING,
}


def page(situation: Situation) -> str:
    """The message as a page shows it."""
    file = Path(cxguard.__file__).parent / "render" / "messages" / "en.toml"
    message = tomllib.loads(file.read_text("utf-8"))["messages"][situation.value]
    text = message["text"].replace("**", "")
    return f"<main><h1>{html.escape(message['title'])}</h1><p>{html.escape(text)}</p></main>"


@pytest.mark.parametrize("situation", list(MEANS))
def test_each_page_of_the_guard_is_understood(situation: Situation) -> None:
    """The words that shoppers read on the status page mean what the table says."""
    assert understand_page(200, page(situation), url=URL).word is MEANS[situation]


@pytest.mark.parametrize("situation", [one for one in MEANS if SPECS[one].money is not None])
def test_each_json_answer_of_the_guard_is_understood(situation: Situation) -> None:
    """An app that reads the members understands what a person reads; money that is unknown is being checked."""
    spec = SPECS[situation]
    members = {"situation": situation, "status": spec.status, "money": spec.money, "order_saved": spec.order_saved, "title": "x"}
    assert understand_json(spec.status, json.dumps(members).encode(), url=URL).word is MEANS[situation]


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"status": "paid", "order": "FC-1001"}, Word.PAID),
        ({"status": "declined", "message": "Your card was declined."}, Word.DECLINED),
        ({"status": "invalid", "message": "Your basket is empty."}, Word.NOTHING),
        ({"status": 409, "money": MoneyTold.UNKNOWN}, Word.CHECKING),
        ({"status": 202, "money": MoneyTold.CHARGED, "situation": "cancel_asked"}, Word.CHECKING),
        ({}, Word.NOTHING),
    ],
)
def test_json_of_the_shop(members: dict[str, object], word: Word) -> None:
    """The shop's own JSON, and answers without a known situation."""
    assert understand_json(200, json.dumps(members).encode(), url=URL).word is word


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"\xff"])
def test_garbage_says_nothing(body: bytes) -> None:
    """What cannot be read tells nobody anything."""
    assert understand_json(500, body, url=URL).word is Word.NOTHING


def test_page_of_the_shop() -> None:
    """The shop's alert and its thank-you page."""
    assert understand_page(402, '<p class="problem" role="alert">Your card was declined. No payment…</p>', url=URL).word is Word.DECLINED
    assert understand_page(200, "<h1>Thank you!</h1>", url=URL).word is Word.PAID
    assert understand_page(500, "Internal Server Error", url=URL).word is Word.NOTHING


def test_empty_basket_is_noticed() -> None:
    """An empty basket after pressing "Pay" makes a shopper look at her orders."""
    assert understand_page(200, "<h1>Your basket</h1><p>Your basket is <b>empty</b>.</p>", url=URL).basket_gone
    assert understand_json(422, b'{"status": "invalid", "message": "Your basket is empty."}', url=URL).basket_gone


def test_links_are_found() -> None:
    """Where to follow and how to cancel come from the answer itself."""
    form = '<h1>x</h1><form method="post" action="/s/orders/t/cancel"><input type="hidden" name="a" value="1&amp;2"></form>'
    read = understand_page(200, form, url=URL)
    assert (read.cancel_url, read.cancel_fields) == ("http://shop.example/s/orders/t/cancel", {"a": "1&2"})
    told = understand_json(202, b'{"money": "unknown", "status_url": "/s/orders/t", "reference": "R"}', url=URL)
    assert (told.follow_url, told.reference) == ("http://shop.example/s/orders/t", "R")


def test_only_hidden_fields_are_taken() -> None:
    """What a person would have to type is not taken from the page."""
    assert hidden_fields('<input type="hidden" name="a" value="1"><input name="email" value="x"><input type="hidden" name="b">') == {
        "a": "1",
        "b": "",
    }
