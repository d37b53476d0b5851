"""CORS: our headers come through a preflight, and a guard that stands outside of CORS is told so."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from cxguard import Guard, Shop
from cxguard.asgi import GuardMiddleware
from cxguard.asgi.cors import EXPOSED_HEADERS, REQUEST_HEADERS, SWAP_ADDED, SWAP_WRAPPED, cors_inside, cors_options, warn_if_cors_inside

ORIGIN = "https://shop.example"


class Around:
    """Stands for the guard's middleware."""

    def __init__(self, app: object) -> None:
        self.app = app


async def pay(request: Request) -> PlainTextResponse:
    return PlainTextResponse("paid")


def cors_app() -> Starlette:
    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])])
    app.add_middleware(CORSMiddleware, **cors_options(allow_origins=[ORIGIN], allow_methods=["POST"]))
    return app


@pytest.mark.asyncio
async def test_preflight_lets_our_headers_through() -> None:
    """A script on another origin may send the key, the preference and the confirmation."""
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": ", ".join(REQUEST_HEADERS)}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cors_app()), base_url="https://api.example") as client:
        answer = await client.options("/pay", headers=headers)
    assert answer.status_code == 200


@pytest.mark.asyncio
async def test_our_headers_are_exposed() -> None:
    """A script on another origin can read that an answer was replayed, and when to ask again."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cors_app()), base_url="https://api.example") as client:
        answer = await client.post("/pay", headers={"Origin": ORIGIN})
    assert answer.headers["access-control-expose-headers"] == ", ".join(EXPOSED_HEADERS)


def test_own_headers_are_kept_and_none_is_named_twice() -> None:
    """What the shop allows itself stays, and a header in other letters is the same header."""
    options = cors_options(allow_headers=["X-Shop", "idempotency-key"], expose_headers=("retry-after",), max_age=60)
    assert options == {
        "allow_headers": ["X-Shop", "idempotency-key", "Prefer", "Cxguard-Confirm-Duplicate"],
        "expose_headers": ["retry-after", "Idempotency-Replayed"],
        "max_age": 60,
    }


@pytest.mark.parametrize(
    ("inner", "lines"),
    [
        (CORSMiddleware(Starlette()), SWAP_ADDED),
        (Around(Around(CORSMiddleware(Starlette()))), SWAP_ADDED),
        (cors_app(), SWAP_WRAPPED),
        (Around(cors_app()), SWAP_WRAPPED),
        (Starlette(), None),
        (Around(None), None),
        (lambda scope, receive, send: None, None),
    ],
    ids=["built", "built, deeper", "added to the inner app", "added, deeper", "none", "nothing inside", "plain function"],
)
def test_cors_inside_is_found(inner: object, lines: tuple[str, str] | None) -> None:
    """Whether CORS stands inside is seen in built chains and in an app that has built nothing yet."""
    assert cors_inside(inner) == lines


def test_cors_outside_is_right() -> None:
    """Starlette puts what is added later outside; then the guard's inner app has no CORS."""
    app = Starlette()
    app.add_middleware(Around)  # type: ignore[arg-type]
    app.add_middleware(CORSMiddleware, **cors_options(allow_origins=[ORIGIN]))
    outermost = app.build_middleware_stack()
    guard = outermost.app.app  # type: ignore[attr-defined]
    assert isinstance(guard, Around)
    assert cors_inside(guard.app) is None


def test_a_circle_ends() -> None:
    """An app that wraps itself is looked at a bounded number of times."""
    circle = Around(None)
    circle.app = circle
    assert cors_inside(circle) is None


def test_warning_has_the_lines_to_write(caplog: pytest.LogCaptureFixture) -> None:
    """The start-up warning says what to write, once, as one event."""
    with caplog.at_level(logging.WARNING, logger="cxguard"):
        warn_if_cors_inside(cors_app())
    (record,) = caplog.records
    assert json.loads(record.getMessage())["write"] == list(SWAP_WRAPPED)


@pytest.mark.asyncio
async def test_the_start_of_an_app_with_cors_inside_warns(caplog: pytest.LogCaptureFixture) -> None:
    """The middleware itself looks, once, when the lifespan begins."""
    guard = Guard("memory://", shop=Shop(name="Fern & Co", email="help@fern.example"), secret=bytes(range(32)), keys=[bytes(range(1, 33))])
    app = GuardMiddleware(cors_app(), guard=guard)
    sent: list[str] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    logging.getLogger("cxguard").propagate = True
    with caplog.at_level(logging.WARNING, logger="cxguard"):
        await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert any("cors.inside" in record.getMessage() for record in caplog.records)
