"""Wild requests: whatever comes, there is one whole answer that nobody has to be ashamed of, and nothing breaks inside."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from fuzz_budget import thrown
from hypothesis import example, given
from hypothesis import strategies as st
from shopworld import KEYS, SECRET, SHOP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from wild_requests import Header, requests

from cxguard.asgi import GuardMiddleware
from cxguard.core.reading import Reading
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.logs import SafeFormatter
from cxguard.rules import Funnel, Rule, cookie, form_field, graphql_variable, header, json_field, page_has
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import FakeGateway

REFUSED = {400, 401, 402, 408, 409, 413, 415, 422}
GOOD = {200, 201, 202, 303}
UNPRINTABLE = set(range(32)) | {127}


async def pay(request: Request) -> Response:
    """Charges, and answers with a page or JSON."""
    await current_operation().charge(Charge(1000, "EUR", source="tok_ok"))
    return JSONResponse({"paid": True}, 201)


async def take(request: Request) -> Response:
    """Takes anything: the shop charges by itself."""
    return HTMLResponse("<p class='thanks'>thank you</p>")


async def place(op: Any) -> None:
    await op.charge(Charge(1000, "EUR", source="tok_ok"))


def rules() -> list[Rule]:
    """One of each kind of source."""
    money: dict[str, Any] = {"amount_minor": json_field("amount"), "currency": json_field("currency"), "wait_seconds": 0.0}
    kept: dict[str, Any] = {"later": place, "terms": "1", "contact": json_field("email"), "consent": json_field("agrees")}
    by_shop: dict[str, Any] = {"owner": cookie("visitor"), "charged_by": "shop", "reads": {Reading.SUCCEEDED: page_has(".thanks")}}
    return [
        Rule("POST /pay", owner=cookie("visitor"), purchase=(json_field("cart"),), **money),
        Rule("POST /kept", owner=cookie("visitor"), purchase=(json_field("cart"), json_field("x")), **money, **kept),
        Rule("POST /derived", key=header("Idempotency-Key") | json_field("cart") | form_field("cart"), **by_shop),
        Rule("POST /form", key=form_field("cart"), ignore_fields=("csrf",), **by_shop),
        Rule("POST /graphql", owner=cookie("visitor"), key=graphql_variable("cart"), graphql_mutation="pay", charged_by="shop"),
    ]


@dataclass
class Answered:
    """What the client heard."""

    status: int = 0
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""
    starts: int = 0
    ends: int = 0

    async def hear(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers, self.starts = message["status"], list(message["headers"]), self.starts + 1
        else:
            self.body += message.get("body", b"")
            self.ends += not message.get("more_body", False)


class Ground:
    """A guarded shop in a loop of its own, and what it logged."""

    def __init__(self) -> None:
        self.runner, self.stack, self.log = asyncio.Runner(), AsyncExitStack(), io.StringIO()
        self.guard = Guard(
            MemoryStore(clock=(clock := ManualClock())),
            rules=rules(), shop=SHOP, gateways=[FakeGateway()], secret=SECRET, keys=KEYS, duties=False, clock=clock,
            funnel=Funnel(pay=("POST /pay", "POST /kept", "POST /derived", "POST /form", "POST /graphql")), visitor=cookie("visitor"),
        )  # fmt: skip
        self.runner.run(self.stack.enter_async_context(self.guard))
        routes = [Route(path, handler, methods=["POST"]) for path, handler in (("/pay", pay), ("/kept", pay), ("/{rest:path}", take))]
        self.app = GuardMiddleware(Starlette(routes=routes), guard=self.guard)

    def ask(self, path: str, headers: list[Header], body: bytes, *, method: str = "POST", query: bytes = b"") -> Answered:
        """One request as a server hands it on."""
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "https", "path": path,
            "raw_path": path.encode(errors="replace"), "query_string": query, "root_path": "", "client": ("127.0.0.1", 1),
            "server": ("shop.example", 443), "headers": [(b"host", b"shop.example"), *headers],
        }  # fmt: skip
        answered = Answered()
        half = len(body) // 2
        pieces = [{"type": "http.request", "body": body[:half], "more_body": True}, {"type": "http.request", "body": body[half:]}]

        async def receive() -> dict[str, Any]:
            return pieces.pop(0) if pieces else {"type": "http.disconnect"}

        self.runner.run(self.app(scope, receive, answered.hear))
        return answered

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    made = Ground()
    handler = logging.StreamHandler(made.log)
    handler.setFormatter(SafeFormatter(json=True))
    logging.getLogger("cxguard").addHandler(handler)
    yield made
    logging.getLogger("cxguard").removeHandler(handler)
    made.close()


def assert_decent(answered: Answered) -> None:
    """One whole answer, with headers that stay headers."""
    assert (answered.starts, answered.ends) == (1, 1)
    assert answered.status in GOOD | REFUSED, (answered.status, answered.body[:200])
    assert not [pair for pair in answered.headers if set(pair[0] + pair[1]) & UNPRINTABLE]
    assert b"Traceback" not in answered.body


# Found once: half a letter in an address was a 503.
HALF_A_LETTER = b'{"amount":1000,"currency":"EUR","cart":"c9","agrees":true,"x":"y","email":"\\ud83d"}'
KNOWN = ("/kept", [(b"content-type", b"application/json"), (b"cookie", b"visitor=ann"), (b"idempotency-key", b"k9")], HALF_A_LETTER)


@example(KNOWN)
@thrown(120)
@given(requests())
def test_every_request_has_one_decent_answer(ground: Ground, sent: tuple[str, list[Header], bytes]) -> None:
    """Never a 5xx while store and gateway are well, never half an answer, and no line of the log says that something broke."""
    path, headers, body = sent
    ground.log.truncate(ground.log.seek(0))
    assert_decent(ground.ask(path, headers, body))
    assert "failed" not in ground.log.getvalue()


edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.text("abcXYZ019-_=/.%?;\u00e9\u2028", max_size=3)), max_size=2)


@thrown(80)
@given(edits, st.sampled_from(["", "/answer", "/cancel", "/say", "/x", "/"]), st.sampled_from(["GET", "HEAD", "POST", "PUT"]), requests())
def test_every_status_link_has_one_decent_answer(
    ground: Ground, changes: list[tuple[int, int, str]], action: str, method: str, sent: tuple[str, list[Header], bytes]
) -> None:
    """The right one opens its order, with whatever headers and body; each other one is the same 404."""
    (operation,) = ground.runner.run(ground.guard.store.search(Query("shop", limit=1))).operations or [None]
    seal, now = ground.guard.engine.seal, ground.guard.clock.now()
    token = seal.sign_token(operation.id if operation else "a" * 64, expires_at=now + 60, purpose="status")
    other = token
    for at, length, instead in changes:
        other = other[: at % (len(other) + 1)] + instead + other[at % (len(other) + 1) + length :]
    answered = ground.ask(f"/_cxguard/orders/{other}{action}", sent[1], sent[2][:4_000], method=method)
    assert answered.status in {200, 303, 404, *([201] if action == "/answer" else [])}, "201 is the shop's own"
    assert (answered.starts, answered.ends) == (1, 1)
    assert not [pair for pair in answered.headers if set(pair[0] + pair[1]) & UNPRINTABLE]
    if other.partition("/")[0] != token or operation is None:
        assert answered.status == 404
