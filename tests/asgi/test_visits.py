"""Visits: whose they are, which stage they reach, what went wrong there, and that nobody notices being followed."""

from __future__ import annotations

import asyncio
import timeit
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
from shopworld import World, Worlds, charging_handler, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cxguard.asgi.shown import SLOW_SECONDS
from cxguard.asgi.visits import SESSION_IN_SCOPE, Visits
from cxguard.core.outcomes import Unknown
from cxguard.core.session import By, Cause, Session, Stage
from cxguard.engine.recorder import load_session
from cxguard.engine.report import build_report
from cxguard.events import Event
from cxguard.rules import Funnel, Rule, cookie, header
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

FUNNEL = Funnel(cart="GET /cart", checkout="GET /checkout*", pay="POST /pay", done="GET /thanks/{number}")
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Mobile/15E148"


def pages(handler: Any = charging_handler, **others: Response | Exception) -> Starlette:
    """A shop whose pages answer what is given, by the path's first part."""

    async def page(request: Request) -> Response:
        answer = others.get(request.url.path.split("/")[1], PlainTextResponse("fine"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Starlette(routes=[Route("/pay", handler, methods=["POST"]), Route("/{rest:path}", page)])


class Noting:
    """An app that notes which visit each request belongs to: what the guard puts into the scope for it."""

    def __init__(self, app: Any, visits: dict[str, str]) -> None:
        self.app = app
        self.visits = visits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            names = [value.decode() for name, value in scope["headers"] if name == b"x-user" and SESSION_IN_SCOPE in scope]
            self.visits.update(dict.fromkeys(names, scope[SESSION_IN_SCOPE]))


async def followed(world: Worlds, handler: Any = charging_handler, *rules: Rule, **options: Any) -> World:
    answers = {name: options.pop(name) for name in ("cart", "checkout", "thanks") if name in options}
    given = {"funnel": FUNNEL, "visitor": header("x-user"), **options}
    shop = await world(handler, *rules, app=pages(handler, **answers), **given)
    return noted(shop)


def noted(shop: World) -> World:
    """The same shop, its visits noted."""
    noting = Noting(shop.app, {})
    transport = httpx.ASGITransport(noting, raise_app_exceptions=False)
    return replace(shop, client=httpx.AsyncClient(transport=transport, base_url="http://shop.example"), app=noting)


async def settled(world: World) -> None:
    await world.guard.finish_runs()
    while (await world.guard.recorder.flush_once()).waiting:
        pass


async def session_of(world: World, *, visitor: str = "ann") -> Session:
    """The visit of *visitor* as it was recorded."""
    await settled(world)
    session = await load_session(world.store, world.app.visits[visitor], namespace="shop")
    assert session is not None
    return session


async def get(world: World, path: str, **headers: str) -> httpx.Response:
    return await world.client.get(path, headers={"x-user": "ann", **headers})


# --- stages


@pytest.mark.asyncio
async def test_stages_are_reached(world: Worlds) -> None:
    """Each page of the funnel counts once, with the visitor's language and device; other pages do not count."""
    shop = await followed(world)
    for path in ("/cart", "/cart", "/cartoons", "/checkout/address", "/elsewhere"):
        await get(shop, path, **{"user-agent": PHONE, "accept-language": "de-AT,de;q=0.9"})
    session = await session_of(shop)
    assert set(session.reached) == {Stage.CART, Stage.CHECKOUT}
    assert (session.language, session.device) == ("de", "phone")


@pytest.mark.asyncio
async def test_a_funnel_that_is_written_like_the_apps_own_routes_holds_below_a_root_path(world: Worlds) -> None:
    """Like the rules: the server says under which path the app is served, and its routes leave that out."""
    shop = await followed(world)
    transport = httpx.ASGITransport(shop.app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as below:
        for path in ("/api/cart", "/checkout/address"):  # as servers say it, with the mount or without
            await below.get(path, headers={"x-user": "ann"})
    assert set((await session_of(shop)).reached) == {Stage.CART, Stage.CHECKOUT}


@pytest.mark.asyncio
async def test_a_purchase_belongs_to_its_visit(world: Worlds) -> None:
    """The order carries the visit, and the visit knows that it bought, and for how much."""
    shop = await followed(world)
    await get(shop, "/cart")
    assert (await shop.pay()).status_code == 201
    session = await session_of(shop)
    assert session.bought is not None
    assert (session.bought.amount_minor, session.bought.currency) == (1000, "EUR")
    (operation,) = (await shop.store.search(Query("shop", session=session.id))).operations
    assert operation.reference == session.bought.reference


@pytest.mark.asyncio
async def test_an_order_that_is_placed_later_is_its_visits_purchase(world: Worlds) -> None:
    """What the worker places after an outage was bought in the visit in which it was given."""
    shop = await followed(world)
    shop.guard.bus.emit(Event("order.placed", 5.0, reference="R", session="v.1", detail={"amount_minor": 7, "currency": "EUR"}))
    await settled(shop)
    session = await load_session(shop.store, "v.1", namespace="shop")
    assert session is not None
    assert session.bought is not None
    assert (session.bought.amount_minor, session.bought.reference) == (7, "R")


@pytest.mark.asyncio
async def test_a_charge_that_is_found_later_is_its_visits_purchase(world: Worlds) -> None:
    """The shopper was told "we do not know yet"; what the gateway says afterwards is a purchase of that visit."""

    async def later(op: Any) -> dict[str, bool]:
        return {"written": True}

    shop = await followed(world, charging_handler, rule(later=later, terms="1"))
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer")])
    await shop.pay()
    before = await session_of(shop)
    shop.clock.advance(60)
    await shop.rest()
    after = await session_of(shop)
    assert (before.bought, [shown.message.key for shown in before.shown]) == (None, ["unknown"])
    assert after.bought is not None
    assert (after.bought.amount_minor, after.recovered) == (1000, True)


@pytest.mark.asyncio
@pytest.mark.parametrize(("mode", "bought"), [("guard", False), ("watch", True)])
async def test_the_confirmation_page_is_a_purchase_only_where_no_guard_knows_better(world: Worlds, mode: str, bought: bool) -> None:
    """Watching, the confirmation page says that somebody bought; guarded, the operation does, and a reload says nothing."""
    shop = await followed(world, charging_handler, rule(), mode=mode)
    await get(shop, "/thanks/1")
    assert ((await session_of(shop)).bought is not None) is bought


@pytest.mark.asyncio
async def test_watched_payments_count_as_their_rule_reads_them(world: Worlds) -> None:
    """In watch mode an answer that the rule reads as paid is a purchase, with its amount; another is none."""

    async def handler(request: Request) -> Response:
        body = await request.json()
        return JSONResponse({}, status_code=201 if body["cart"] == "c1" else 500)

    shop = await followed(world, handler, rule(charged_by="shop"), mode="watch")
    await shop.pay(owner="ann")
    await shop.pay(owner="bob", cart="c2")
    ann, bob = await session_of(shop, visitor="ann"), await session_of(shop, visitor="bob")
    assert ann.bought is not None
    assert ann.bought.amount_minor == 1000
    assert bob.bought is None


# --- what went wrong

HTML_ALERT = HTMLResponse('<form><div role="alert">Card of Ann Lee is not valid</div></form>')


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "label", "cause"),
    [
        (JSONResponse({"detail": "Sold out"}, 409), '"Sold out"', Cause.STOCK_PRICE),
        (HTMLResponse('<p class="alert">Your basket is empty</p>'), '"Your basket is empty"', Cause.VALIDATION),
        (HTMLResponse("<h1>We are down</h1>", 500), '"We are down"', Cause.OUR_OUTAGE),
        (PlainTextResponse("", 404), "http_404@0", Cause.DEAD_LINK),
        (PlainTextResponse("no", 403), '"no"', Cause.OTHER),
        (RuntimeError("a bug"), '"Internal Server Error"', Cause.OUR_OUTAGE),
    ],
    ids=["json", "alert on a 200", "page with 500", "without a word", "forbidden", "raised"],
)
async def test_the_shops_own_errors_are_exposures(world: Worlds, answer: Any, label: str, cause: Cause) -> None:
    """Whatever the shop says at a stage of the funnel is on record: its words, where, and why."""
    shop = await followed(world, checkout=answer)
    await get(shop, "/checkout")
    (exposure,) = (await session_of(shop)).exposures
    assert (exposure.message.label, exposure.cause, exposure.by, exposure.stage) == (label, cause, By.SHOP, Stage.CHECKOUT)


@pytest.mark.asyncio
async def test_an_app_that_raises_without_an_answer_has_shown_an_error(world: Worlds) -> None:
    """Inside of a framework's error page the guard sees only the exception: the shopper sees a 500."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    shop = noted(await world(app=app, funnel=FUNNEL, visitor=header("x-user")))
    await get(shop, "/checkout")
    (exposure,) = (await session_of(shop)).exposures
    assert (exposure.message.label, exposure.cause) == ("http_500@0", Cause.OUR_OUTAGE)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("does", "status", "message", "cause"),
    [(Does.DECLINE, 402, "declined", Cause.ISSUER), (Does.UNKNOWN, 409, "unknown", Cause.UNKNOWN)],
)
async def test_our_own_answers_are_exposures(world: Worlds, does: Does, status: int, message: str, cause: Cause) -> None:
    """What the guard itself says is on record under the catalogue's name, with the basket and the order's reference."""
    shop = await followed(world)
    shop.gateway.will(does)
    assert (await shop.pay()).status_code == status
    (exposure,) = (await session_of(shop)).exposures
    assert (exposure.message.key, exposure.message.version, exposure.cause, exposure.by) == (message, 1, cause, By.OURS)
    assert (exposure.status, exposure.stage, bool(exposure.reference)) == (status, Stage.PAY, True)
    assert exposure.basket is not None
    assert (exposure.basket.amount_minor, exposure.basket.currency) == (1000, "EUR")


@pytest.mark.asyncio
async def test_a_refused_request_is_an_exposure_with_its_basket(world: Worlds) -> None:
    """A request without a key opened nothing; its error and its basket are on record all the same."""
    shop = await followed(world)
    assert (await shop.pay(key=None)).status_code == 400
    (exposure,) = (await session_of(shop)).exposures
    assert (exposure.message.key, exposure.cause) == ("key_missing", Cause.VALIDATION)
    assert exposure.basket is not None
    assert exposure.basket.amount_minor == 1000


@pytest.mark.asyncio
async def test_what_a_person_typed_is_cut_out(world: Worlds) -> None:
    """A message that quotes the shopper is one message for everybody, and holds nobody's name."""

    async def handler(request: Request) -> Response:
        await request.body()
        return JSONResponse({"errors": {"holder": ["Ann Lee is not the holder"]}}, 422)

    shop = await followed(world, handler, rule(charged_by="shop"))
    body = {"amount": 1, "currency": "EUR", "holder": "Ann Lee"}
    await shop.client.post("/pay", json=body, headers={"idempotency-key": "k", "x-user": "ann"})
    (exposure,) = (await session_of(shop)).exposures
    assert (exposure.message.text, exposure.field_name) == ("… is not the holder", "holder")


@pytest.mark.asyncio
async def test_a_long_wait_is_an_exposure(world: Worlds) -> None:
    """A page that came, but late, is on record as slow; an error that came late is that error."""

    async def slow(request: Request) -> Response:
        await request.body()
        shop.clock.advance(SLOW_SECONDS[Stage.PAY] + 1)
        return JSONResponse({}, 201)

    shop = await followed(world, slow, rule(charged_by="shop", deadline_seconds=60.0))
    await shop.pay()
    (exposure,) = (await session_of(shop)).exposures
    assert (exposure.message.key, exposure.cause) == ("slow", Cause.SLOW)


@pytest.mark.asyncio
async def test_a_good_answer_is_no_exposure(world: Worlds) -> None:
    """Neither a paid order, nor its replay, nor a plain page is an error."""
    shop = await followed(world, cart=HTMLResponse('<div class="alert alert-success">Added</div>'))
    await get(shop, "/cart")
    await shop.pay()
    await shop.pay()
    assert (await session_of(shop)).shown == ()


@pytest.mark.asyncio
async def test_the_report_speaks_of_them(world: Worlds) -> None:
    """Visits and exposures reach the counters that `cxguard report` reads."""
    shop = await followed(world)
    shop.gateway.will(Does.DECLINE)
    await shop.pay(owner="ann")
    await shop.pay(owner="bob", key="k2", cart="c2")
    await settled(shop)
    report = await build_report(shop.store, namespace="shop")
    (line,) = report.lines
    assert (line.message, line.stage, line.impact.exposed, line.control.bought) == ("declined@1", Stage.PAY, 1, 1)


# --- whose visit


@pytest.mark.asyncio
async def test_without_a_visitor_setting_the_owner_names_the_visit(world: Worlds) -> None:
    """What the rules take for the owner, as far as a request's head says it, survives login: so it names visits, too."""
    shop = await followed(world, charging_handler, rule(owner=cookie("visitor")), visitor=None)
    await get(shop, "/cart", cookie="visitor=ann; theme=dark")
    assert Stage.CART in (await session_of(shop)).reached


@pytest.mark.asyncio
@pytest.mark.parametrize("visitor", ["raises", "hangs", "nothing"])
async def test_a_visitor_that_cannot_be_named_stands_in_nobodys_way(world: Worlds, visitor: str) -> None:
    """A shop's own `visitor=` may fail or hang: the request is answered all the same."""

    async def source(arrival: Any) -> str | None:
        if visitor == "raises":
            raise RuntimeError("the session store is down")
        if visitor == "hangs":
            await asyncio.Event().wait()
        return None

    shop = await followed(world, visitor=source)
    assert (await shop.pay()).status_code == 201
    await settled(shop)
    report = await build_report(shop.store, namespace="shop")
    assert bool(report.stages) is (visitor != "raises")


@pytest.mark.asyncio
async def test_robots_and_prefetches_are_no_visits(world: Worlds) -> None:
    """A crawler never buys: among the visits without errors it would make every error look cheap."""
    shop = await followed(world)
    await get(shop, "/cart", **{"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"})
    await get(shop, "/cart", **{"sec-purpose": "prefetch"})
    await settled(shop)
    assert (await build_report(shop.store, namespace="shop")).stages == ()


@pytest.mark.asyncio
async def test_a_webhook_is_no_visit(world: Worlds) -> None:
    """A rule for machines has no shopper."""
    hook = rule(audience="machine")
    shop = await followed(world, charging_handler, hook, funnel=Funnel(cart="GET /cart"))
    await shop.pay()
    await settled(shop)
    assert (await build_report(shop.store, namespace="shop")).stages == ()


@pytest.mark.asyncio
async def test_a_funnel_without_a_pay_stage_takes_the_rules(world: Worlds) -> None:
    """A guarded request is the money step, where the funnel names none."""
    shop = await followed(world, charging_handler, rule(), funnel=Funnel(cart="GET /cart"))
    await shop.pay()
    assert Stage.PAY in (await session_of(shop)).reached


# --- in nobody's way


@pytest.mark.asyncio
async def test_bytes_and_errors_pass_unchanged(world: Worlds) -> None:
    """The answer of a followed page is the shop's own, and so is its exception."""
    shop = await followed(world, cart=HTML_ALERT, checkout=ZeroDivisionError())
    plain = httpx.AsyncClient(transport=httpx.ASGITransport(pages(cart=HTML_ALERT)), base_url="http://shop.example")
    async with plain:
        bare = await plain.get("/cart")
    answer = await get(shop, "/cart")
    assert (answer.content, answer.headers.raw) == (bare.content, bare.headers.raw)
    raising = httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://shop.example")
    async with raising:
        with pytest.raises(ZeroDivisionError):
            await raising.get("/checkout")


@pytest.mark.asyncio
async def test_asking_whether_a_path_is_concerned_costs_next_to_nothing(world: Worlds) -> None:
    """Every request of the shop is asked about: a path outside of the funnel is told apart by two look-ups."""
    visits = Visits((await followed(world)).guard)
    asked: Mapping[tuple[str, str], bool] = {
        ("GET", "/static/app.css"): False,
        ("DELETE", "/cart"): False,
        ("GET", "/cart"): True,
        ("GET", "/thanks/17"): True,
        ("GET", "/checkout/address"): True,
    }
    assert {one: visits.concerned(None, *one) for one in asked} == asked
    assert visits.concerned(rule(), "POST", "/elsewhere")
    best = min(timeit.repeat(lambda: visits.concerned(None, "GET", "/static/app.css"), number=2_000, repeat=5)) / 2_000
    assert best < 5e-6  # five times the goal: the machine may be busy
