"""What a person makes of a page, and an app of a JSON answer. Pure: text in, a word out."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from cxguard.demo.crowd.words import Word

TEXT_CHARACTERS_MAX = 200

# The first phrase that is found in a page's headline or alert says what the shopper understands.
_PHRASES: tuple[tuple[str, Word], ...] = (
    ("your card was declined", Word.DECLINED),
    ("did not approve", Word.DECLINED),
    ("money goes back", Word.CHECKING),
    ("money was given back", Word.CANCELLED),
    ("order is cancelled", Word.CANCELLED),
    ("could not place your order", Word.CANCELLED),
    ("wish to cancel", Word.CHECKING),
    ("you have not been charged yet", Word.KEPT),
    ("not confirmed yet", Word.CHECKING),
    ("payment is being checked", Word.CHECKING),
    ("a person is looking", Word.CHECKING),
    ("still being worked on", Word.CHECKING),
    ("already on its way", Word.CHECKING),
    ("one more step", Word.CHECKING),
    ("waits for your word", Word.KEPT),
    ("this basket is being paid", Word.CHECKING),
    ("was already sent with other content", Word.CHECKING),
    ("is placed", Word.PAID),
    ("you have paid", Word.PAID),
    ("your payment is reserved", Word.PAID),
    ("you ordered this already", Word.PAID),
    ("thank you!", Word.PAID),
)
_NO_ORDER = "cannot take your order"
_ENDED = {"cancelled", "gave_up", "refunded"}


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer, understood.

    Attributes:
        follow_url: where more will be said.
        form: hidden fields of the page's form that cancels, with its address; empty if there is none.
        basket_gone: it says that the basket is empty, so perhaps an earlier press has worked.
    """

    word: Word
    text: str = ""
    reference: str = ""
    follow_url: str = ""
    cancel_url: str = ""
    cancel_fields: Mapping[str, str] | None = None
    basket_gone: bool = False


NO_ANSWER = Heard(Word.NOTHING, "no answer")


def understand_page(status: int, page: str, *, url: str) -> Heard:
    """Read a page as a person does: headline and alert first."""
    said = " · ".join(_plain(part) for part in _LOUD.findall(page))
    cancel = _CANCEL.search(page)
    return Heard(
        word=_word(said, _plain(page)),
        text=said[:TEXT_CHARACTERS_MAX] or f"HTTP {status}",
        follow_url=url,
        cancel_url=urljoin(url, html.unescape(cancel["action"])) if cancel else "",
        cancel_fields=hidden_fields(cancel["body"]) if cancel else None,
        basket_gone="your basket is empty" in _plain(page).lower(),
    )


def understand_json(status: int, body: bytes, *, url: str) -> Heard:
    """Read a JSON answer as an app does: by its members."""
    try:
        members = json.loads(body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        return Heard(Word.NOTHING, f"HTTP {status}")
    text = str(members.get("title") or members.get("message") or members.get("status") or "")
    follow = members.get("status_url")
    return Heard(
        word=_json_word(status, members),
        text=text[:TEXT_CHARACTERS_MAX],
        reference=str(members.get("reference") or members.get("order") or ""),
        follow_url=urljoin(url, follow) if isinstance(follow, str) else "",
        basket_gone="basket is empty" in text.lower(),
    )


def hidden_fields(page: str) -> dict[str, str]:
    """The hidden inputs of a page or a form."""
    fields = (dict(_ATTRIBUTE.findall(tag)) for tag in _INPUT.findall(page))
    return {html.unescape(field["name"]): html.unescape(field.get("value", "")) for field in fields if field.get("type") == "hidden"}


_LOUD = re.compile(r"<h1[^>]*>(.*?)</h1>|<p[^>]*role=\"alert\"[^>]*>(.*?)</p>", re.S | re.I)
_CANCEL = re.compile(r"<form[^>]*action=\"(?P<action>[^\"]*cancel[^\"]*)\"[^>]*>(?P<body>.*?)</form>", re.S | re.I)
_INPUT = re.compile(r"<input\b[^>]*>", re.I)
_ATTRIBUTE = re.compile(r"([\w-]+)=\"([^\"]*)\"")
_TAG = re.compile(r"<[^>]+>")


def _plain(markup: str | tuple[str, ...]) -> str:
    text = "".join(markup) if isinstance(markup, tuple) else markup
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def _word(said: str, whole: str) -> Word:
    lower = said.lower().replace("’", "'")
    if _NO_ORDER in lower:
        return Word.NOT_CHARGED if "you have not been charged" in whole.lower() else Word.CHECKING
    return next((word for phrase, word in _PHRASES if phrase in lower), Word.NOTHING)


def _json_word(status: int, members: Mapping[str, Any]) -> Word:
    if members.get("status") in ("paid", "declined"):
        return Word(members["status"])
    if members.get("situation") == "declined":
        return Word.DECLINED
    if members.get("situation") in ("refund_due", "cancel_asked"):
        return Word.CHECKING
    match members.get("money"):
        case "charged":
            return Word.PAID
        case "unknown":
            return Word.CHECKING
        case "not_charged" if members.get("order_saved"):
            return Word.KEPT
        case "not_charged":
            return Word.CANCELLED if members.get("situation") in _ENDED else Word.NOT_CHARGED
    return Word.NOTHING
