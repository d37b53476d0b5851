"""Requests that nobody honest sends: each gets a plain answer, costs little, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import Till, World, Worlds, charging_handler, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.rules import Arrival, Rule, form_field, header
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
HTML, JSON, ASYNC = {"accept": "text/html"}, {"accept": "application/json"}, {"prefer": "respond-async"}
FORM = "application/x-www-form-urlencoded"


async def sent(shop: World, body: bytes, *headers: tuple[str, str]) -> Any:
    return await shop.client.post("/pay", content=body, headers=[("x-user", "ann"), ("idempotency-key", "k1"), *headers])


async def place(op: Any) -> None:
    await op.charge(Charge(1000, "EUR", source="tok_ok"))


async def kept(world: Worlds, **changes: Any) -> tuple[World, str]:
    """A shop, and the status link of its one order, which waits for the gateway."""
    shop = await world(charging_handler, rule(later=place, terms="1", **changes))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    told = await shop.pay(**ASYNC)
    return shop, told.json()["status_url"]


async def only(shop: World) -> Any:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


@pytest.mark.parametrize("second", ["application/json", "text/plain"])
async def test_two_content_types_are_refused_with_an_answer(world: Worlds, second: str) -> None:
    """The refusal itself does not need to know which of the two is meant."""
    shop = await world()
    answer = await sent(shop, b'{"amount":1,"currency":"EUR"}', ("content-type", "application/json"), ("content-type", second))
    assert answer.status_code == 400


@pytest.mark.parametrize("number", ["1e-999999999999999999999", "1e999999999999999999999"])
async def test_a_number_beyond_any_range_is_the_clients_mistake(world: Worlds, number: str) -> None:
    """400, and not "our store is away, try again"."""
    shop = await world()
    body = f'{{"amount":1000,"currency":"EUR","cart":"c","x":{number}}}'
    assert (await sent(shop, body.encode(), ("content-type", "application/json"))).status_code == 400


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-7", "unicode_escape", "utf-16", "a\tb", "nonsense"])
async def test_a_form_in_a_charset_that_no_browser_sends_is_refused(world: Worlds, charset: str) -> None:
    """Some of Python's take quadratic time, and some read the same bytes as other text than the shop does."""
    shop = await world(charging_handler, rule(amount_minor=None, currency=None))
    answer = await sent(shop, b"cart=c1&x=" + b"b" * 60_000, ("content-type", f"{FORM}; charset={charset}"))
    assert answer.status_code == 400


async def test_a_page_never_hands_a_card_back(world: Worlds) -> None:
    """ "Buy it again" sends the shopper's form once more, unless there is a card in it; and only to this very site."""

    async def handler(request: Request) -> Response:
        await current_operation().charge(Charge(1000, "EUR", source="tok_ok"))
        return RedirectResponse("/thanks", 303)

    read = rule(amount_minor=None, currency=None, purchase=[form_field("cart")])
    shop = await world(handler, read)

    async def bought(key: str, **more: str) -> Any:
        headers = {"x-user": "ann", "idempotency-key": key, **HTML}
        return await shop.client.post("/pay", params={"step": "2"}, data={"cart": "c1", **more}, headers=headers)

    await bought("k1")
    plain, carded = await bought("k2"), await bought("k3", number="4111 1111 1111 1111")
    assert 'action="/pay?step=2"' in plain.text
    assert "4111" not in carded.text
    assert "<form" not in carded.text


async def test_a_flood_of_remarks_is_bounded(world: Worlds) -> None:
    """Whoever holds a status link can write some words, not a record without end."""
    shop, url = await kept(world)
    for number in range(50):
        answer = await shop.client.post(f"{url}/say", data={"what": "other", "words": f"words {number}"}, headers=HTML)
        assert answer.status_code == 303
    assert len((await only(shop)).notes) == 20
    assert not answer.headers["location"].endswith("?said")


async def test_a_status_page_outlives_an_owner_look_up_that_raises(world: Worlds) -> None:
    """Then nobody is the owner: the status is shown, the shop's own answer is not."""
    broken = False

    async def owner(arrival: Arrival) -> str:
        if broken:
            raise RuntimeError("the user service is down")
        return "ann"

    shop = await world(charging_handler, rule(owner=owner))
    await shop.pay()
    operation = await only(shop)
    seal, now = shop.guard.engine.seal, shop.clock.now()
    url = f"/_cxguard/orders/{seal.sign_token(operation.id, expires_at=now + 60, purpose='status')}"
    broken = True
    assert (await shop.client.get(url, headers=JSON)).json()["money"] == "charged"
    assert (await shop.client.get(f"{url}/answer")).status_code == 404


@pytest.mark.parametrize(
    "location", ["//elsewhere.example/", "/\\elsewhere.example/", "\\\\elsewhere.example", "https://elsewhere.example/"]
)
async def test_a_stored_redirect_leads_nobody_to_another_site(world: Worlds, location: str) -> None:
    """The status page links to the page that the shop redirected to, on this site only. Browsers read a backslash as a slash."""

    async def handler(request: Request) -> Response:
        await current_operation().charge(Charge(1000, "EUR", source="tok_ok"))
        return Response(status_code=303, headers={"location": location})

    shop = await world(handler)
    await shop.pay()
    operation = await only(shop)
    token = shop.guard.engine.seal.sign_token(operation.id, expires_at=shop.clock.now() + 60, purpose="status")
    page = await shop.client.get(f"/_cxguard/orders/{token}", headers={"x-user": "ann", **HTML})
    assert page.status_code == 200
    assert "elsewhere" not in page.text


@pytest.mark.parametrize("method", ["POST", "post"])
@pytest.mark.parametrize("path", ["/pay/", "//pay", "/pay//", "/pay\n", "pay", "http://shop.example/pay"])
async def test_another_spelling_of_a_path_is_guarded_too(world: Worlds, method: str, path: str) -> None:
    """Some routers lead it to the same handler (Litestar, Quart and Flask do): the second submit charges nothing."""
    till = Till()

    async def any_path(scope: Any, receive: Any, send: Any) -> None:
        till.charge()
        await Response("paid")(scope, receive, send)

    shop = await world(None, rule(charged_by="shop", amount_minor=None, currency=None), app=any_path)
    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"x-user", b"ann"), (b"idempotency-key", b"k1")]
    for spelling in (path, "/pay", path):
        scope = {"type": "http", "method": method, "path": spelling, "query_string": b"", "headers": headers, "scheme": "http"}
        await shop.app(scope, receive, send)
    assert till.charges == ["basket"]
    assert [message["status"] for message in answers if message["type"] == "http.response.start"] in ([200, 422, 200], [200, 200, 200])


async def test_a_router_that_only_corrects_the_spelling_has_tried_nothing(world: Worlds) -> None:
    """Starlette sends `/pay/` on to `/pay`: that is no payment whose end is unknown, and the key is free for the real one."""
    till = Till()

    async def handler(request: Request) -> Response:
        return Response(till.charge(), status_code=201)

    shop = await world(handler, rule(charged_by="shop"))
    body = {"amount": 1000, "currency": "EUR", "cart": "c1"}
    headers = {"x-user": "ann", "idempotency-key": "k1"}
    sent_on = await shop.client.post("/pay/", json=body, headers=headers)
    assert (sent_on.status_code, till.charges) == (307, [])
    assert (await shop.client.post(sent_on.headers["location"], json=body, headers=headers)).status_code == 201
    assert till.charges == ["basket"]


async def test_a_head_request_does_not_reach_a_guarded_get_unseen(world: Worlds) -> None:
    """Frameworks answer HEAD with the handler of GET: it runs once for both."""
    till = Till()

    async def back(request: Request) -> Response:
        return Response(till.charge())

    app = Starlette(routes=[Route("/back", back, methods=["GET"])])
    shop = await world(None, Rule("GET /back", owner=header("x-user"), charged_by="shop"), app=app)
    headers = {"x-user": "ann", "idempotency-key": "k1"}
    for method in ("HEAD", "HEAD", "GET"):
        await shop.client.request(method, "/back", headers=headers)
    assert till.charges == ["basket"]
