"""Who is visiting (a signed session), and forms that only our own pages can send (a token, fresh at each rendering)."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from starlette.requests import Request


def visitor_id(request: Request) -> str:
    """The visitor's id; a first visit gets one. It stays the same for the whole visit."""
    visitor = request.session.get("visitor_id")
    if not isinstance(visitor, str):
        visitor = request.session["visitor_id"] = secrets.token_urlsafe(16)
    return visitor


def form_token(secret: str, visitor: str) -> str:
    """A token for one rendering of a form: differs each time, and belongs to the visitor."""
    nonce = secrets.token_urlsafe(8)
    return f"{nonce}.{_mark(secret, visitor, nonce)}"


def is_our_form(secret: str, visitor: str, token: str) -> bool:
    """Whether *token* came from a form that we rendered for this visitor."""
    nonce, _, mark = token.partition(".")
    return hmac.compare_digest(mark.encode(), _mark(secret, visitor, nonce).encode())


def _mark(secret: str, visitor: str, nonce: str) -> str:
    return hmac.digest(secret.encode(), f"{len(visitor)}:{visitor}{nonce}".encode(), hashlib.sha256).hex()
