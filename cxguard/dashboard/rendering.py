"""Pages of the desk: templates that escape everything, and the few filters that they need."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cxguard.core.money import MoneyState
from cxguard.core.operation import State
from cxguard.dashboard.words import MONEY_WORDS, STATE_WORDS, amount_words, holder_words, state_words, why_words
from cxguard.render.figures import iso_time

_ASSETS = {"desk.css": "text/css; charset=utf-8", "desk.js": "text/javascript; charset=utf-8"}
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """One page of the desk."""
    root = root_of(request)
    assets = {"css": _asset_url(root, "desk.css"), "js": _asset_url(root, "desk.js")}
    body = _environment().get_template(template).render(root=root, **assets, **values)
    return HTMLResponse(body, status_code=status)


def root_of(request: Request) -> str:
    """Under which path the desk is mounted; addresses on its pages begin with it."""
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def asset(name: str) -> Response | None:
    """Style or script; its address changes with its content, so it may be kept for ever."""
    if name not in _ASSETS:
        return None
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(_read(name)[0], media_type=_ASSETS[name], headers=headers)


def _asset_url(root: str, name: str) -> str:
    return f"{root}/assets/{name}?v={_read(name)[1]}"


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = resources.files(__package__).joinpath("assets", name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]


@cache
def _environment() -> Environment:
    folder = resources.files(__package__).joinpath("templates")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(when=when, ago=ago, amount=amount_words, why=why_words, state=state_words, holder=holder_words)
    environment.globals.update(STATES=STATE_WORDS, MONEY=MONEY_WORDS, State=State, MoneyState=MoneyState)
    return environment


def when(at: float | None, now: float) -> Markup:
    """A moment: `21:45:03` today, `22 Nov 21:45` on another day. In UTC; the script puts it into the reader's own zone."""
    if at is None:
        return Markup("–")
    moment, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    text = f"{moment:%H:%M:%S}" if moment.date() == today.date() else f"{moment.day} {moment:%b %H:%M}"
    return Markup('<time datetime="{}">{}</time>').format(iso_time(at), text)


def ago(at: float | None, now: float) -> str:
    """How far away a moment is: `4 min ago`, `in 20 s`."""
    if at is None:
        return "–"
    seconds = now - at
    words = span(abs(seconds))
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def span(seconds: float) -> str:
    """A time in one unit: `20 s`, `4 min`, `3 h`, `2 days`."""
    if seconds < _MINUTE:
        return f"{int(seconds)} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min"
    if seconds < _DAY:
        return f"{int(seconds // _HOUR)} h"
    days = int(seconds // _DAY)
    return f"{days} day{'s' if days > 1 else ''}"
