"""Cross-origin requests: what a preflight must let through, and a look at whether CORS stands where it has to.

    app.add_middleware(GuardMiddleware, guard=guard)
    app.add_middleware(CORSMiddleware, **cors_options(allow_origins=["https://shop.example"]))   # after it: outside of it

CORS outside of the guard puts its headers on the guard's own answers, too. Inside, a browser hides them from the page:
the shopper who should read "do not pay again" sees a network error, and pays again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cxguard.logs import get_logger

_log = get_logger("cors")

REQUEST_HEADERS = ("Idempotency-Key", "Prefer", "Cxguard-Confirm-Duplicate")
"""Sent by a page's script; a preflight must allow them."""
EXPOSED_HEADERS = ("Idempotency-Replayed", "Retry-After")
"""In our answers; a script reads them only where they are exposed."""

CHAIN_MAX = 100  # middleware around one app; more is a circle

SWAP_ADDED = (
    "app.add_middleware(GuardMiddleware, guard=guard)",
    "app.add_middleware(CORSMiddleware, **cors_options(...))   # added later: outside",
)
SWAP_WRAPPED = (
    "app = GuardMiddleware(app, guard=guard)",
    "app = CORSMiddleware(app, **cors_options(...))   # and not app.add_middleware(CORSMiddleware, ...)",
)


def cors_options(*, allow_headers: Iterable[str] = (), expose_headers: Iterable[str] = (), **others: Any) -> dict[str, Any]:
    """Arguments for Starlette's `CORSMiddleware`: the shop's own, with the headers of cxguard added."""
    return {
        **others,
        "allow_headers": _joined(allow_headers, REQUEST_HEADERS),
        "expose_headers": _joined(expose_headers, EXPOSED_HEADERS),
    }


def cors_inside(app: Any) -> tuple[str, str] | None:
    """The lines to write instead, if CORS stands inside of a guard around *app*; None if none is seen there."""
    for part in _chain(app):
        if _is_cors(type(part)):
            return SWAP_ADDED
        if any(_is_cors(getattr(added, "cls", None)) for added in _added(part)):
            return SWAP_WRAPPED
    return None


def warn_if_cors_inside(app: Any) -> None:
    """Say so once, when the program starts: it shows only when a shopper meets an error."""
    lines = cors_inside(app)
    if lines is not None:
        _log.warning("cors.inside", why="a browser will hide the guard's answers from the page", write=lines)


def _joined(own: Iterable[str], ours: tuple[str, ...]) -> list[str]:
    known = list(own)
    there = {name.lower() for name in known}
    return known + [name for name in ours if name.lower() not in there]


def _chain(app: Any) -> Iterator[Any]:
    """An app and what it wraps. A framework's own app ends the chain: its middleware is built at the first request."""
    for _ in range(CHAIN_MAX):
        if app is None:
            return
        yield app
        app = getattr(app, "app", None)


def _added(part: Any) -> list[Any]:
    added = getattr(part, "user_middleware", None)
    return added if isinstance(added, list) else []


def _is_cors(kind: Any) -> bool:
    """By name: Starlette's, FastAPI's, Litestar's and asgi-cors' own are all called so."""
    return "cors" in getattr(kind, "__name__", "").lower()
