"""Read a request's body within limits, and give it to the app again."""

from __future__ import annotations

import asyncio

from cxguard.asgi.types import Message, Receive, Scope
from cxguard.errors import BodyTooLarge, BodyTooSlow, HeadersTooLarge

HEADERS_BYTES_MAX = 65_536  # twice what proxies let through; some servers have no bound of their own
MESSAGES_MAX = 10_000  # pieces of one body: a client that sends single bytes is not a shopper


class ClientGone(Exception):
    """The client left before its request was whole: nothing was opened, and nobody is there to be answered."""


async def read_body(scope: Scope, receive: Receive, *, body_bytes_max: int, body_seconds_max: float) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: declared or sent more than *body_bytes_max* bytes, or in more than `MESSAGES_MAX` pieces.
        BodyTooSlow: not complete after *body_seconds_max* seconds.
        ClientGone: it left before the end.
    """
    if declared_length(scope) > body_bytes_max:
        raise _too_large(body_bytes_max)
    message = await _first(receive, body_seconds_max)
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _rest(receive, body, body_bytes_max=body_bytes_max, body_seconds_max=body_seconds_max)
    if len(body) > body_bytes_max:
        raise _too_large(body_bytes_max)
    return body


def check_headers(scope: Scope) -> None:
    """Refuse headers that are too large to be kept with a request.

    Raises:
        HeadersTooLarge: names and values together have more than `HEADERS_BYTES_MAX` bytes.
    """
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
    if size > HEADERS_BYTES_MAX:
        raise HeadersTooLarge(f"the headers have {size} bytes, {HEADERS_BYTES_MAX} at most: clear this site's cookies and send it again")


def declared_length(scope: Scope) -> int:
    """The declared length, or 0 when there is none or it is no number (the bytes are counted anyway)."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 16 else 0
    return 0


async def _first(receive: Receive, body_seconds_max: float) -> Message:
    try:
        async with asyncio.timeout(body_seconds_max):
            return _body_part(await receive())
    except TimeoutError:
        raise _too_slow(body_seconds_max) from None


async def _rest(receive: Receive, first: bytes, *, body_bytes_max: int, body_seconds_max: float) -> bytes:
    parts, size = [first], len(first)
    try:
        async with asyncio.timeout(body_seconds_max):
            for _ in range(MESSAGES_MAX):
                message = _body_part(await receive())
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > body_bytes_max:
                    raise _too_large(body_bytes_max)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise _too_slow(body_seconds_max) from None
    raise _too_large(body_bytes_max)


def _body_part(message: Message) -> Message:
    if message["type"] != "http.request":
        raise ClientGone()
    return message


def _too_large(body_bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {body_bytes_max} bytes: send less, or raise the rule's body_bytes_max")


def _too_slow(body_seconds_max: float) -> BodyTooSlow:
    return BodyTooSlow(f"the body was not complete after {body_seconds_max:g} seconds: send it again")


class Replayed:
    """The app's `receive`: the body once more, then silence until the run is over.

    A client that goes away is hidden from the app: it would stop in the middle of a charge.
    """

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._over = asyncio.Event()

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    def end(self) -> None:
        """The run is over: whoever still listens hears that the client is gone."""
        self._over.set()
