"""`mode="watch"`: nothing changes, for the shopper, the app or the server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from shopworld import Worlds, rule
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from watching import findings, paid, watched

from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.testing.faulty_store import Fault


def scope_of(path: str = "/pay", *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"idempotency-key", b"k"), (b"x-user", b"ann"), (b"transfer-encoding", b"chunked"), *headers],
    }


class Server:
    """Plays a server: hands out the messages given, and keeps what is sent, with how many were asked for by then."""

    def __init__(self, *messages: Mapping[str, Any], gone_after: int | None = None) -> None:
        self.messages = list(messages)
        self.sent: list[tuple[dict[str, Any], int]] = []
        self.asked = 0
        self.gone_after = gone_after

    async def receive(self) -> Any:
        self.asked += 1
        return dict(self.messages.pop(0)) if self.messages else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.gone_after is not None and len(self.sent) >= self.gone_after:
            raise OSError("the client is gone")
        self.sent.append((dict(message), self.asked))


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers each piece of the body as it comes, and tells of the disconnect that it sees."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1"), (b"x-a", b"2"), (b"set-cookie", b"a=b")]})
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        await send({"type": "http.response.body", "body": b"<" + message["body"] + b">", "more_body": message.get("more_body", False)})


async def raising(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError("the shop's own")


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return


async def talkative(scope: Any, receive: Any, send: Any) -> None:
    """More messages than HTTP needs, after the end and of other kinds."""
    await send({"type": "http.response.start", "status": 204, "trailers": True})
    await send({"type": "http.response.body"})
    await send({"type": "http.response.trailers", "headers": []})
    await send({"type": "http.response.body", "body": b"late"})


BODIES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "whole": (part(b'{"amount": 1, "currency": "EUR"}'),),
    "in pieces": (part(b'{"amou', more=True), part(b"", more=True), part(b'nt": 1}')),
    "broken": (part(b'{"amount": ', more=False),),
    "not text": (part(b"\xff\xfe\x00"),),
    "over the limit": tuple(part(b"x" * 40_000, more=more) for more in (True, True, False)),
    "never ending": (part(b"x", more=True),),
    "client gone at once": (),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("app", [echo, raising, silent, talkative])
async def test_every_message_is_the_same_with_and_without(world: Worlds, app: Any, body: str) -> None:
    """The app and the server exchange the very same messages, in the same order and at the same time, whatever they are."""
    with_guard = await watched(world, app=app)
    outcomes = []
    for one in (app, with_guard.app):
        server = Server(*BODIES[body])
        error: BaseException | None = None
        try:
            await one(scope_of(), server.receive, server.send)
        except ZeroDivisionError as raised:
            error = raised
        outcomes.append((server.sent, server.asked, type(error), str(error)))
    assert outcomes[0] == outcomes[1]
    assert (await findings(with_guard))["requests"] == 1


@pytest.mark.asyncio
async def test_a_client_that_leaves_is_seen_by_the_app_as_before(world: Worlds) -> None:
    """An error of writing to the client reaches the app, and leaves it, unchanged."""
    with_guard = await watched(world, app=echo)
    server = Server(part(b"a", more=True), part(b"b"), gone_after=2)
    with pytest.raises(OSError, match="the client is gone"):
        await with_guard.app(scope_of(), server.receive, server.send)
    assert [message["type"] for message, _ in server.sent] == ["http.response.start", "http.response.body"]


@pytest.mark.asyncio
async def test_a_stream_is_not_delayed(world: Worlds) -> None:
    """Each piece of an answer has left before the app makes the next one."""
    left: list[bytes] = []
    seen_by_app: list[int] = []

    async def pieces() -> Any:
        for number in range(3):
            seen_by_app.append(len(left))
            yield b"%d" % number

    async def handler(request: Request) -> Response:
        return StreamingResponse(pieces())

    with_guard = await watched(world, handler)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            left.append(message["body"])

    await with_guard.app(scope_of(), Server(part(b"{}")).receive, send)
    assert seen_by_app == [0, 1, 2]


@pytest.mark.asyncio
async def test_cancellation_reaches_the_app(world: Worlds) -> None:
    """A server that gives up cancels the app as it would without a guard."""
    reached, ended = asyncio.Event(), asyncio.Event()

    async def hanging(scope: Any, receive: Any, send: Any) -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with_guard = await watched(world, app=hanging)
    task = asyncio.create_task(with_guard.app(scope_of(), Server().receive, Server().send))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", list(Fault))
async def test_a_broken_store_changes_nothing_for_the_shopper(world: Worlds, fault: Fault) -> None:
    """While the store fails, the shop answers as ever, and only the count says that it was not judged."""
    with_guard = await watched(world, faulty=True)
    with_guard.store.plan("open", fault, times=100)
    answers = [await with_guard.pay() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert (await findings(with_guard))["not_observed"] == 3


@pytest.mark.asyncio
async def test_a_guard_that_could_not_start_changes_nothing(world: Worlds) -> None:
    """A store that was away from the start leaves the shop alone."""
    with_guard = await watched(world, faulty=True)
    await with_guard.guard.stop()

    with_guard.store.plan("start", Fault.NOT_DONE, times=100)
    assert (await with_guard.pay()).status_code == 201
    await asyncio.gather(*with_guard.guard.runs)


@pytest.mark.asyncio
async def test_a_source_that_raises_changes_nothing(world: Worlds) -> None:
    """A shop's own owner function may fail in any way: that is counted, and nobody notices."""

    def owner(arrival: Any) -> str:
        raise RuntimeError("the session store is down")

    with_guard = await watched(world, paid, rule(owner=owner, charged_by="shop"))
    assert (await with_guard.pay()).status_code == 201
    assert (await findings(with_guard))["not_observed"] == 1


@pytest.mark.asyncio
async def test_a_slow_owner_function_does_not_hold_the_answer(world: Worlds) -> None:
    """The owner is looked up after the answer has gone."""
    answered = asyncio.Event()

    async def owner(arrival: Any) -> str:
        await answered.wait()
        return "ann"

    with_guard = await watched(world, paid, rule(owner=owner, charged_by="shop"))
    assert (await with_guard.pay()).status_code == 201
    answered.set()
    assert (await findings(with_guard))["requests"] == 1


@pytest.mark.asyncio
async def test_synchronous_code_works_as_it_will_behind_the_guard(world: Worlds) -> None:
    """A view in a thread charges by `op.sync`, runs its step and finishes in its own transaction: in watch mode, too."""

    async def view(request: Request) -> Response:
        op = current_operation()

        def pay() -> str:
            payment = op.sync.charge(Charge(1000, "EUR", source="tok_ok"))
            number = op.sync.step("write order", lambda: "o1")
            op.sync.finish({"order": number}, connection=object())
            return f"{number} {payment.payment_id}"

        return Response(await asyncio.to_thread(pay), status_code=201)

    shop = await world(view, mode="watch")
    answer = await shop.pay()
    assert (answer.status_code, answer.text) == (201, "o1 pay_1")
