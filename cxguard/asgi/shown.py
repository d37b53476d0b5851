"""What an answer showed the shopper: whose words, which message, and why. Pure, so that it can be read as a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from cxguard.core.answer import Situation
from cxguard.core.message import TYPED_MAX, Message, clean_label, clean_text
from cxguard.core.reading import HandlerAnswer
from cxguard.core.session import Cause, Stage
from cxguard.core.snapshot import Snapshot
from cxguard.errors import BadRequest

SLOW_SECONDS: Mapping[Stage, float] = {Stage.CART: 4.0, Stage.CHECKOUT: 4.0, Stage.PAY: 8.0, Stage.DONE: 4.0}
"""A longer wait is an error of its own: about where shoppers reload a page, and press a button again."""

SLOW = Message(key="slow", version=1)

_O, _V, _U = Cause.OUR_OUTAGE, Cause.VALIDATION, Cause.UNKNOWN

CAUSES: Mapping[Situation, Cause | None] = {
    Situation.PLACED: None,
    Situation.PLACED_RESERVED: None,
    Situation.ANSWERED: None,
    Situation.DECLINED: Cause.ISSUER,
    Situation.CANCELLED: None,  # they asked for it
    Situation.GAVE_UP: _O,
    Situation.REFUNDED: None,
    Situation.NOT_KEPT: _O,
    Situation.PAID_UNFINISHED: _O,
    Situation.RESERVED_UNFINISHED: _O,
    Situation.NEEDS_SHOPPER: None,  # a step of paying, not an error
    Situation.SHOPPER_ASKED: None,  # a question
    Situation.KEPT: _O,
    Situation.REPLACED: None,
    Situation.SPOOLED: _O,
    Situation.UNKNOWN: _U,
    Situation.HELD: _U,
    Situation.CANCEL_ASKED: None,
    Situation.REFUND_DUE: None,
    Situation.IN_FLIGHT: Cause.SLOW,
    Situation.DUPLICATE: Cause.OTHER,
    Situation.DUPLICATE_RUNNING: Cause.OTHER,
    Situation.MISMATCH: _V,
    Situation.BASKET_BEING_PAID: Cause.OTHER,
    Situation.KEY_MISSING: _V,
    Situation.KEY_MALFORMED: _V,
    Situation.BAD_REQUEST: _V,
    Situation.BODY_TOO_LARGE: _V,
    Situation.BODY_TOO_SLOW: Cause.SLOW,
    Situation.OWNER_MISSING: Cause.OTHER,
    Situation.STORE_AWAY: _O,
    Situation.NO_SUCH_ORDER: Cause.DEAD_LINK,
}
"""Why each of our own answers is shown; None: it is no error."""

_BY_STATUS: Mapping[int, Cause] = {
    400: _V,
    402: Cause.ISSUER,
    404: Cause.DEAD_LINK,
    408: Cause.SLOW,
    409: Cause.STOCK_PRICE,
    410: Cause.DEAD_LINK,
    422: _V,
    504: Cause.SLOW,
}


def shop_cause(status: int) -> Cause:
    """Why the shop's own code showed an error, as far as its status says. A page with 200 and a red box: a form's, mostly."""
    if status < 400:
        return Cause.VALIDATION
    return _BY_STATUS.get(status, Cause.OUR_OUTAGE if status >= 500 else Cause.OTHER)


def shop_message(answer: HandlerAnswer, text: str, snapshot: Snapshot) -> Message | None:
    """The shop's own message, without what the shopper typed; its status where it said nothing. None: no error was shown."""
    typed = typed_values(snapshot) if text else ()
    words = clean_text(text, typed) if typed is not None else ""
    if words:
        return Message(text=words)
    return Message(key=f"http_{answer.status}") if answer.status >= 400 else None


def typed_values(snapshot: Snapshot) -> list[str] | None:
    """What the shopper sent: a message may quote it. None: nobody can say what that was, so no words are kept."""
    try:
        typed = [value for _, value in parse_qsl(snapshot.query)]
        if snapshot.body and snapshot.holds_json:
            typed += _texts(snapshot.json())
        elif snapshot.is_form:
            typed += [value for _, value in snapshot.form().fields]
        elif snapshot.body:
            return None
    except BadRequest:
        return None
    return typed if len(typed) <= TYPED_MAX else None


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict | list):
            waiting.extend(one.values() if isinstance(one, dict) else one)


def refused_field(answer: HandlerAnswer) -> str:
    """The name of the field that a validation error is about, in the shapes of FastAPI, Django and Rails; else empty."""
    if answer.status not in (400, 422):
        return ""
    try:
        body = json.loads(answer.content() or b"null")
    except (ValueError, RecursionError):
        return ""
    found = next(_fields(body), "") if isinstance(body, dict) else ""
    return clean_label(found) if re.fullmatch(r"[A-Za-z_][\w.\[\]-]{0,60}", found) else ""


def _fields(body: Mapping[str, Any]) -> Iterator[str]:
    details = body.get("detail")
    for detail in details if isinstance(details, list) else ():
        where = detail.get("loc") if isinstance(detail, dict) else None
        if isinstance(where, list) and where:
            yield str(where[-1])
    errors = body.get("errors")
    if isinstance(errors, dict):
        yield from (str(name) for name in errors)


_BOT = re.compile(r"bot\b|crawl|spider|slurp|preview|monitor|uptime", re.IGNORECASE)
_TABLET = re.compile(r"ipad|tablet|(?=.*android)(?!.*mobile)", re.IGNORECASE)
_PHONE = re.compile(r"mobi|iphone|android", re.IGNORECASE)


def device_of(user_agent: str) -> str:
    """`phone`, `tablet`, `computer`, `bot`, or empty where it is not said: a shop's own app or front server."""
    if _BOT.search(user_agent):
        return "bot"
    if "mozilla" not in user_agent.lower():
        return ""
    if _TABLET.search(user_agent):
        return "tablet"
    return "phone" if _PHONE.search(user_agent) else "computer"


def language_of(accept_language: str) -> str:
    """The first language that the browser asks for: `de`."""
    return clean_label(accept_language.partition(",")[0].partition(";")[0].partition("-")[0].lower(), chars_max=8)
