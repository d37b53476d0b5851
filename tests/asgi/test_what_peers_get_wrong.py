"""Every row of the table of what other idempotency libraries get wrong, with the guard in their place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from shopworld import Till, Worlds, charging_handler, rule
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from cxguard.core.outcomes import Charged, NotCharged, Outcome
from cxguard.rules import Rule, json_field
from cxguard.testing import Fault

pytestmark = pytest.mark.asyncio


def shop_rule(till: Till, **changes: Any) -> Rule:
    """The shop's own code charges; a hook asks its ledger what became of it."""

    async def ask(op: Any) -> Outcome:
        return Charged(1000, "EUR", payment_id=till.charges[-1]) if till.charges else NotCharged("nothing in the ledger")

    return rule(**{"charged_by": "shop", "resolve": ask, **changes})


async def test_a_handler_that_raises_after_the_charge_is_not_run_again(world: Worlds) -> None:
    """The retry is told that the order is paid, and nothing is charged again."""
    till = Till()

    async def handler(request: Request) -> Response:
        till.charge()
        raise RuntimeError("the order could not be written")

    shop = await world(handler, shop_rule(till))
    first, second = await shop.pay(), await shop.pay()
    assert till.charges == ["basket"]
    assert [answer.json()["money"] for answer in (first, second)] == ["charged", "charged"]


async def test_a_500_after_the_charge_is_not_told_as_a_failure(world: Worlds) -> None:
    """A 500 whose charge went through is corrected, also for the first click."""
    till = Till()

    async def handler(request: Request) -> Response:
        till.charge()
        return JSONResponse({"error": "no payment has been taken"}, status_code=500)

    shop = await world(handler, shop_rule(till))
    first, second = await shop.pay(), await shop.pay()
    assert till.charges == ["basket"]
    assert (first.status_code, first.json()["money"]) == (202, "charged")
    assert (second.status_code, second.json()["money"]) == (202, "charged")


async def test_a_background_task_that_fails_after_a_201_frees_nothing(world: Worlds) -> None:
    """The order stands, and a person is shown that something after it failed."""
    till = Till()

    async def mail() -> None:
        raise RuntimeError("no mail server")

    async def handler(request: Request) -> Response:
        return JSONResponse({"order": till.charge()}, status_code=201, background=BackgroundTask(mail))

    shop = await world(handler, shop_rule(till))
    await shop.pay()
    second = await shop.pay()
    assert till.charges == ["basket"]
    assert second.json()["money"] == "charged"


async def test_a_client_that_is_gone_while_the_answer_is_sent_changes_nothing(world: Worlds) -> None:
    """`send` raises, the answer is kept, and the retry gets it."""
    till = Till()

    async def handler(request: Request) -> Response:
        return JSONResponse({"order": till.charge()}, status_code=201)

    shop = await world(handler, shop_rule(till))

    async def send(message: Any) -> None:
        raise OSError("the client is gone")

    await shop.app(_scope(), _body(b'{"amount": 1000, "currency": "EUR", "cart": "c1"}'), send)
    second = await shop.client.post(
        "/pay",
        content=b'{"amount": 1000, "currency": "EUR", "cart": "c1"}',
        headers={"x-user": "ann", "idempotency-key": "k1", "content-type": "application/json"},
    )
    assert till.charges == ["basket"]
    assert (second.status_code, second.json()) == (201, {"order": "pay-1"})


async def test_a_request_that_is_cancelled_in_the_middle_goes_on_and_keeps_its_answer(world: Worlds) -> None:
    """The server gives up on the request; the run ends by itself, and the retry gets its answer."""
    till, entered, go_on = Till(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        entered.set()
        await go_on.wait()
        return JSONResponse({"order": till.charge()}, status_code=201)

    shop = await world(handler, shop_rule(till))
    first = asyncio.create_task(shop.pay())
    await entered.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go_on.set()
    await shop.guard.finish_runs()
    second = await shop.pay()
    assert till.charges == ["basket"]
    assert second.json() == {"order": "pay-1"}


async def test_a_handler_that_outlives_its_lease_is_not_doubled(world: Worlds) -> None:
    """The second submit resolves what the first one did; the first one's late answer changes nothing."""
    till, entered, go_on = Till(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        till.charge()
        entered.set()
        await go_on.wait()
        return JSONResponse({"order": "late"}, status_code=201)

    shop = await world(handler, shop_rule(till))
    first = asyncio.create_task(shop.pay())
    await entered.wait()
    shop.clock.advance(60.0)  # the lease has lapsed
    second = await shop.pay()
    go_on.set()
    late = await first
    assert till.charges == ["basket"]
    assert second.json()["money"] == "charged"
    assert late.status_code in (201, 202)


@pytest.mark.parametrize("fault", list(Fault))
async def test_an_answer_that_cannot_be_saved_never_leads_to_a_second_charge(world: Worlds, fault: Fault) -> None:
    """Whether the save was lost or only its answer: the retry does not run the handler again."""
    till = Till()

    async def handler(request: Request) -> Response:
        return JSONResponse({"order": till.charge()}, status_code=201)

    shop = await world(handler, shop_rule(till), faulty=True)
    shop.store.plan("save", fault, times=2)  # type: ignore[attr-defined]
    first = await shop.pay()
    second = await shop.pay()
    shop.clock.advance(60.0)
    third = await shop.pay()
    assert till.charges == ["basket"]
    assert first.status_code in (201, 202)
    assert second.status_code in (201, 202, 409)
    assert third.json().get("money", "charged") == "charged"


async def test_a_streamed_answer_arrives_whole_and_is_not_run_again(world: Worlds) -> None:
    """Beyond the cap an answer passes live; the retry is told that the order is done."""
    till = Till()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1024

    async def handler(request: Request) -> Response:
        till.charge()
        return StreamingResponse(parts(), media_type="application/octet-stream", status_code=201)

    shop = await world(handler, shop_rule(till, answer_bytes_max=2048))
    first, second = await shop.pay(), await shop.pay()
    assert (first.status_code, len(first.content)) == (201, 5120)
    assert till.charges == ["basket"]
    assert second.json()["money"] == "charged"


async def test_an_event_stream_without_a_rule_passes_byte_by_byte(world: Worlds) -> None:
    """The guard does not touch what no rule is about."""

    async def events() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(events(), media_type="text/event-stream")(scope, receive, send)

    shop = await world(app=app)
    got = await shop.client.get("/events")
    assert got.content == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_a_2_mb_answer_and_an_empty_one_are_run_once(world: Worlds) -> None:
    """Large: tombstone. 204: replayed."""
    till = Till()

    async def handler(request: Request) -> Response:
        till.charge()
        return Response(b"x" * 2_000_000) if (await request.json())["cart"] == "large" else Response(status_code=204)

    shop = await world(handler, shop_rule(till))
    large, again = await shop.pay(key="a", cart="large"), await shop.pay(key="a", cart="large")
    empty, empty_again = await shop.pay(key="b", cart="empty"), await shop.pay(key="b", cart="empty")
    assert len(large.content) == 2_000_000
    assert again.json()["money"] == "charged"
    assert (empty.status_code, empty_again.status_code) == (204, 204)
    assert len(till.charges) == 2


async def test_another_shopper_with_the_same_key_never_gets_the_first_ones_answer(world: Worlds) -> None:
    """The owner is part of the id."""
    shop = await world()
    first, other = await shop.pay(owner="ann"), await shop.pay(owner="bob")
    assert first.json() != other.json()
    assert len(shop.gateway.standing) == 2


async def test_the_same_basket_under_another_key_is_asked_about_first(world: Worlds) -> None:
    """One charge; the answer names the first order. Confirmed, the second one is bought."""
    shop = await world(charging_handler, rule(purchase=(json_field("cart"),)))
    await shop.pay(key="k1")
    second = await shop.pay(key="k2")
    assert len(shop.gateway.standing) == 1
    assert second.json()["situation"] == "duplicate"
    third = await shop.pay(key="k2", **{"cxguard-confirm-duplicate": second.json()["reference"]})
    assert third.status_code == 201
    assert len(shop.gateway.standing) == 2


async def test_replayed_headers_keep_what_is_the_answers_and_drop_what_was_the_clients(world: Worlds) -> None:
    """X-* and both Link headers come back; Set-Cookie does not."""
    till = Till()

    async def handler(request: Request) -> Response:
        answer = JSONResponse({"order": till.charge()}, status_code=201, headers={"x-order": "7"})
        answer.raw_headers += [(b"link", b"</a>; rel=a"), (b"link", b"</b>; rel=b"), (b"set-cookie", b"session=secret")]
        return answer

    shop = await world(handler, shop_rule(till))
    first, second = await shop.pay(), await shop.pay()
    assert second.content == first.content
    assert second.headers["x-order"] == "7"
    assert second.headers.get_list("link") == ["</a>; rel=a", "</b>; rel=b"]
    assert "set-cookie" in first.headers
    assert "set-cookie" not in second.headers
    assert second.headers["idempotency-replayed"] == "true"


def _scope() -> dict[str, Any]:
    headers = [(b"x-user", b"ann"), (b"idempotency-key", b"k1"), (b"content-type", b"application/json"), (b"host", b"shop.example")]
    return {
        "type": "http",
        "method": "POST",
        "path": "/pay",
        "raw_path": b"/pay",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "scheme": "http",
        "server": ("shop.example", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
    }


def _body(body: bytes) -> Any:
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return left.pop() if left else {"type": "http.disconnect"}

    return receive
