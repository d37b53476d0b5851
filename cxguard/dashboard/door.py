"""The door of the desk: nobody comes in without a name, nothing is stored, framed, sniffed, or posted from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxguard.dashboard.auth import CLOSED, Auth, who_is
from cxguard.dashboard.rendering import page
from cxguard.errors import StoreUnavailable
from cxguard.guard import Guard
from cxguard.render.rendered import CONTENT_SECURITY_POLICY

ACTOR = "cxguard.actor"  # where the scope carries the name
SAFE_METHODS = frozenset({"GET", "HEAD"})
RETRY_SECONDS = 5
HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


class Door:
    """Pure ASGI around the pages: signs in, starts the guard at the first request, and stamps every response."""

    def __init__(self, app: ASGIApp, guard: Guard, auth: Auth | None) -> None:
        self._app = app
        self._guard = guard
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(scope, receive, _stamped(send))

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        turned_away = await self._turned_away(scope, receive)
        await (turned_away or self._app)(scope, receive, send)

    async def _turned_away(self, scope: Scope, receive: Receive) -> Response | None:
        """Why this request does not come in; None: it does, and the scope has the name."""
        request = Request(scope, receive)
        if _is_asset(scope):
            return None
        if self._auth is None:
            return page(request, "closed.html", status=403, shop=self._guard.shop, code=CLOSED)
        who = await who_is(self._auth, request)
        if isinstance(who, Response):
            return who
        if who is None:
            return self._unknown(request)
        if scope["method"] not in SAFE_METHODS and not from_here(request.headers):
            return page(request, "refused.html", status=403, shop=self._guard.shop, title="Not from here", words=ELSEWHERE)
        scope[ACTOR] = who
        return await self._started(request)

    def _unknown(self, request: Request) -> Response:
        challenge = getattr(self._auth, "challenge", "")
        response = page(request, "refused.html", status=401, shop=self._guard.shop, title="Sign in first", words=NOBODY)
        response.headers["www-authenticate"] = challenge or "Session"
        return response

    async def _started(self, request: Request) -> Response | None:
        """A mounted app's lifespan is not run, so the guard is started by whoever needs it first."""
        try:
            await self._guard.start()
        except StoreUnavailable:
            return store_away(request, self._guard)
        return None


NOBODY = "The desk is for the shop's own people. Sign in where you usually do, then come back."
ELSEWHERE = "This came from another site, so nothing was done. Open the desk itself and press the button there."
AWAY = "The store does not answer just now. Nothing was done. The page tries again by itself in a moment."


def store_away(request: Request, guard: Guard) -> Response:
    """What is said while the store does not answer."""
    title = "The store does not answer"
    response = page(request, "refused.html", status=503, shop=guard.shop, title=title, words=AWAY, refresh=RETRY_SECONDS)
    response.headers["retry-after"] = str(RETRY_SECONDS)
    return response


def from_here(headers: Headers) -> bool:
    """Whether a browser sent this from a page of the desk, as far as headers can tell. The form's token is asked for beside it.

    `Sec-Fetch-Site` decides where there is one. Without it (a browser leaves it out on plain HTTP) the origin's host has to
    be ours; under `no-referrer` that origin is the word `null`, which tells nothing, so the token alone speaks then.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin in (None, "null") or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def actor_of(request: Request) -> str:
    """Who is at the desk."""
    name: str = request.scope[ACTOR]
    return name


def _is_asset(scope: Scope) -> bool:
    """Style and script hold nothing of the shop; a page that turns somebody away needs them, too."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] in SAFE_METHODS and path.startswith("/assets/")


def _stamped(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in HEADERS.items():
                headers[name] = value
            if "cache-control" not in headers:
                headers["cache-control"] = "no-store"
            message = {**message, "headers": headers.raw}
        await send(message)

    return stamped
