"""A server that says what a test wants Stripe to say, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cxguard.gateways.base import Charge
from cxguard.gateways.stripe import StripeGateway

Answer = bytes | tuple[int, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it came."""

    route: str
    form: dict[str, str]
    key: str


@dataclass
class Script:
    """Answers by route, such as `POST /v1/refunds`: each once, the last of them for ever."""

    answers: dict[str, list[Answer]]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    slow: dict[str, asyncio.Event] = field(default_factory=dict)  # by route, awaited before the answer
    hold: Callable[[], Awaitable[Any]] | None = None  # awaited after an answer, before the connection is closed

    def of(self, route: str) -> list[Asked]:
        return [each for each in self.asked if each.route == route]

    def next(self, route: str) -> bytes:
        known = self.answers.get(route) or self.answers.get("*") or [(404, {"error": {"type": "invalid_request_error"}})]
        answer = known.pop(0) if len(known) > 1 else known[0]
        if isinstance(answer, bytes):
            return answer
        status, said = answer
        return http(json.dumps(said).encode(), status=status)


def http(body: bytes, *, status: int = 200, length: int | None = None, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body) if length is None else length}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def scripted(answers: dict[str, list[Answer]]) -> AsyncIterator[Script]:
    """Serve *answers* for as long as the test needs them."""
    script = Script(dict(answers))
    serving: set[Any] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split("\r\n", 1)[0].split(" ")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            address = urlsplit(target)
            route = f"{method} {address.path}"
            form = dict(parse_qsl(body.decode() or address.query, keep_blank_values=True))
            script.asked.append(Asked(route, form, headers.get("idempotency-key", "")))
            if route in script.slow:
                await script.slow[route].wait()
            writer.write(script.next(route))
            await writer.drain()
            if script.hold is not None:
                await script.hold()
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield script
        await asyncio.gather(*serving)


INTENTS = "/v1/payment_intents"
API_KEY = "sk_test_" + "x" * 24
NO_MATCH = (200, {"object": "search_result", "url": INTENTS + "/search", "has_more": False, "data": []})


@asynccontextmanager
async def stripe_saying(answers: dict[str, list[Answer]], **options: Any) -> AsyncIterator[tuple[StripeGateway, Script]]:
    async with scripted(answers) as script:
        gateway = StripeGateway("stripe:shop:test", api_key=API_KEY, base_url=script.url, **options)
        try:
            yield gateway, script
        finally:
            await gateway.aclose()


def card(**changes: Any) -> Charge:
    return Charge(**{"amount_minor": 4999, "currency": "EUR", "source": "pm_1", **changes})


def intent(status: str = "succeeded", **members: Any) -> dict[str, Any]:
    plain = {"id": "pi_1", "object": "payment_intent", "amount": 4999, "currency": "eur", "metadata": {"cxguard_key": "k"}}
    return {**plain, "status": status, **members}


def refund(status: str = "succeeded", **members: Any) -> dict[str, Any]:
    plain = {"id": "re_1", "object": "refund", "amount": 1000, "currency": "eur", "metadata": {"cxguard_key": "r"}}
    return {**plain, "status": status, **members}


def page(*data: dict[str, Any], url: str = INTENTS) -> tuple[int, Any]:
    return 200, {"object": "list", "url": url, "has_more": False, "data": list(data)}
