"""What `cxguard explain` foretells is what the middleware then does: each cell is played for real, beside it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from copyworld import fail_over, record
from httpx import Response as Got
from shopworld import World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.asgi.explaining import Explanation, explain
from cxguard.core.caps import Caps
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Unknown
from cxguard.core.reading import Reading
from cxguard.engine.handle import current_operation
from cxguard.errors import PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.rules import Rule, header, json_field
from cxguard.rules.near import near_rules
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

ASYNC = {"prefer": "respond-async"}
STATUS = {Reading.SUCCEEDED: 201, Reading.DECLINED: 402, Reading.REJECTED: 403, Reading.FAILED: 500}
CLIENTS: list[dict[str, str]] = [{}, ASYNC, {"accept": "text/html"}]


SUBMITS: list[tuple[dict[str, str], str]] = [({}, "the same again"), ({"card": "another"}, "other content, same key")]


async def later(op: Any) -> None:
    """Places a kept order."""


def body_of(amount: int, **more: str) -> dict[str, Any]:
    return {"amount": amount, "currency": "EUR", "cart": "c1", **more}


async def explained(
    shop: World, *, amount: int = 1000, key: str = "k1", path: str = "/pay", more: dict[str, str] | None = None, **headers: str
) -> Explanation:
    """What explain says of the submit that `World.pay` makes, or of one that says *more*."""
    sent = {"host": "shop.example", "content-type": "application/json", "x-user": "ann", "idempotency-key": key, **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
    }
    looking = shop.guard.for_looking()
    async with looking:
        return await explain(looking, scope, json.dumps(body_of(amount, **(more or {}))).encode())


def same_as(told: Any, got: Got) -> bool:
    """Whether a foretold answer is what came."""
    if got.status_code == 303 or "json" not in got.headers["content-type"]:
        return bool(told.status == got.status_code)
    said = got.json()
    foretold = (told.situation, told.money, told.order_saved, told.safe_to_retry)
    return (told.status, *foretold) == (got.status_code, *[said[name] for name in ("situation", "money", "order_saved", "safe_to_retry")])


def answering(status: int) -> Any:
    async def handler(request: Request) -> Response:
        with suppress(PaymentDeclined, PaymentDeferred):
            await current_operation().charge(Charge(1000, "EUR", source="tok_ok"))
        return JSONResponse({"mine": True}, status_code=status)

    return handler


DOES = {"charged": Does.CHARGE, "declined": Does.DECLINE, "unknown": Does.UNKNOWN}


@pytest.mark.asyncio
@pytest.mark.parametrize("client", CLIENTS, ids=["json", "async", "page"])
@pytest.mark.parametrize("money", DOES)
@pytest.mark.parametrize("reading", Reading)
async def test_each_reading_ends_as_foretold(world: Worlds, reading: Reading, money: str, client: dict[str, str]) -> None:
    """Where the guard charges: the record speaks, for every client."""
    shop = await world(answering(STATUS[reading]), rule(later=later, terms="1"))
    foretold = await explained(shop, **client)
    (row,) = [each for each in foretold.readings if (each.reading, each.money) == (reading, money)]
    shop.gateway.will(DOES[money])
    got = await shop.pay(**client)
    if row.told is None:
        assert got.status_code == STATUS[reading]
        assert got.json() == {"mine": True}
    else:
        assert same_as(row.told, got)


@pytest.mark.asyncio
@pytest.mark.parametrize("client", CLIENTS, ids=["json", "async", "page"])
@pytest.mark.parametrize("keeps", [True, False])
async def test_an_outage_ends_as_foretold(world: Worlds, client: dict[str, str], keeps: bool) -> None:
    """Kept for whom that can be told; not charged for everybody else."""
    shop = await world(answering(500), rule(later=later, terms="1") if keeps else rule())
    row = (await explained(shop, **client)).readings[-1]
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert row.told is not None
    assert same_as(row.told, await shop.pay(**client))


HOOKS: dict[str, Outcome | None] = {
    "": None,
    "resolve says: charged": Charged(1000, "EUR"),
    "resolve says: not charged": NotCharged("no such payment"),
    "resolve cannot say": Unknown("silence"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("reading", Reading)
async def test_the_shop_s_own_charging_ends_as_foretold(world: Worlds, reading: Reading, hook: str) -> None:
    """Its answer speaks, or the rule's hook, which is asked before a bad one is shown."""

    async def resolve(op: Any) -> Outcome:
        outcome = HOOKS[hook]
        assert outcome is not None
        return outcome

    async def handler(request: Request) -> Response:
        return JSONResponse({"mine": True}, status_code=409 if hook and reading is Reading.REJECTED else STATUS[reading])

    shop = await world(handler, rule(charged_by="shop", resolve=resolve if hook else None))
    rows = [each for each in (await explained(shop, **ASYNC)).readings if each.reading == reading and each.asked == hook]
    if not rows:
        assert reading is Reading.SUCCEEDED  # nobody is asked about a good answer
        return
    got = await shop.pay(**ASYNC)
    if rows[0].told is None:
        assert got.json() == {"mine": True}
    else:
        assert same_as(rows[0].told, got)


@pytest.mark.asyncio
@pytest.mark.parametrize("key", [header("Idempotency-Key"), json_field("cart")], ids=["client", "derived"])
@pytest.mark.parametrize(
    ("does", "state"),
    [(Does.CHARGE, "finished: paid, just now"), (Does.DECLINE, "finished: declined, just now"), (Does.UNKNOWN, "unknown")],
)
async def test_a_second_submit_meets_what_was_foretold(world: Worlds, key: Any, does: Does, state: str) -> None:
    """The imagined order, and then the real one, are met in the same way: by the same request and by another."""
    shop = await world(answering(402 if does is Does.DECLINE else 201), rule(key=key, later=later, terms="1"))
    rows = {row.request: row for row in (await explained(shop)).states if row.state == state}

    async def pressed(more: dict[str, str]) -> httpx.Response:
        return await shop.client.post("/pay", json=body_of(1000, **more), headers={"x-user": "ann", "idempotency-key": "k1"})

    shop.gateway.will(does)
    first = await pressed({})
    for more, request in SUBMITS:
        foretold = await explained(shop, more=more)
        assert foretold.stored is not None
        assert foretold.stored.meets.do == rows[request].do
        told = rows[request].told
        if told is not None:
            assert same_as(told, await pressed(more))
        elif rows[request].do == "replay":
            again = await pressed(more)
            assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")


@pytest.mark.asyncio
async def test_the_same_purchase_under_another_key_is_found(world: Worlds) -> None:
    """By its claim, as a real submit would find it."""
    shop = await world(answering(201), rule(purchase=(json_field("cart"),)))
    await shop.pay()
    foretold = await explained(shop, key="k2")
    assert foretold.stored is not None
    assert "another name" in foretold.store
    assert foretold.stored.meets.told is not None
    assert same_as(foretold.stored.meets.told, await shop.pay(key="k2"))


@pytest.mark.asyncio
async def test_a_basket_that_costs_what_it_did_is_found_past_the_one_it_supersedes(world: Worlds) -> None:
    """The newest order holds the basket, at another price; the one that was paid at this price holds that."""
    shop = await world(charging_handler, rule(purchase=(json_field("cart"),)))
    await shop.pay(key="k1")
    await shop.pay(key="k2", amount=700)
    foretold = await explained(shop, key="k3")
    assert foretold.stored is not None
    assert (foretold.stored.meets.do, foretold.stored.operation.amount_minor) == ("duplicate", 1000)
    assert foretold.stored.meets.told is not None
    assert same_as(foretold.stored.meets.told, await shop.pay(key="k3"))
    other = await explained(shop, key="k3", amount=800)
    assert other.stored is not None
    assert (other.stored.meets.do, other.stored.operation.amount_minor) == ("supersede", 700)
    assert (await shop.pay(key="k3", amount=800)).status_code == 201


@pytest.mark.asyncio
async def test_a_key_that_is_free_again_does_not_hide_who_has_the_purchase(world: Worlds) -> None:
    """Its own order charged nothing and would go on; another one was paid for this basket at this price."""
    shop = await world(charging_handler, rule(purchase=(json_field("cart"),)))
    await shop.pay(key="k1")
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(key="k2", amount=700)).status_code == 503
    foretold = await explained(shop, key="k2")
    assert foretold.stored is not None
    assert (foretold.stored.meets.do, foretold.stored.operation.amount_minor) == ("duplicate", 1000)
    assert foretold.stored.meets.told is not None
    assert same_as(foretold.stored.meets.told, await shop.pay(key="k2"))
    own = await explained(shop, key="k2", amount=700)
    assert own.stored is not None
    assert own.stored.meets.do == "reopen"


@pytest.mark.asyncio
async def test_a_purchase_of_which_the_store_may_have_lost_a_charge_is_not_run(world: Worlds) -> None:
    """Its record says that nothing was charged, and may be an older copy: the gateway is asked before anything runs beside it."""
    shop = await world(answering(422), rule(purchase=(json_field("cart"),)), faulty=True)
    await shop.guard.engine.epochs.lost_since()
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    await shop.pay(key="k1")
    before = (await explained(shop, key="k2")).stored
    await fail_over(shop, await record(shop))
    after = (await explained(shop, key="k2")).stored
    assert before is not None
    assert after is not None
    assert (before.meets.do, after.meets.do) == ("supersede", "duplicate")


@pytest.mark.asyncio
async def test_explaining_runs_and_writes_nothing(world: Worlds) -> None:
    """The handler is not run, no order is opened, and nothing of one that is there changes."""
    shop = await world(answering(201), rule(later=later, terms="1"))
    await explained(shop)
    assert not (await shop.store.search(Query("shop"))).operations
    await shop.pay()
    before = (await shop.store.search(Query("shop"))).operations
    charges = len(shop.gateway.payments)
    await explained(shop)
    assert ((await shop.store.search(Query("shop"))).operations, len(shop.gateway.payments)) == (before, charges)


@pytest.mark.asyncio
async def test_a_refusal_is_told_as_it_will_be(world: Worlds) -> None:
    """No key, no owner, too large, not JSON: the text says what to do, the answer is the middleware's."""
    shop = await world(answering(201), rule(body_bytes_max=1024))
    foretold = await explained(shop, **{"idempotency-key": "two keys"})
    assert foretold.told is not None
    assert same_as(foretold.told, await shop.pay(key="two keys"))
    assert "printable ASCII" in foretold.refusal
    for changes, situation in (({"x-user": ""}, "owner_missing"), ({"content-length": "9999"}, "body_too_large")):
        told = (await explained(shop, **changes)).told
        assert told is not None and told.situation == situation


@pytest.mark.asyncio
async def test_a_hook_of_the_rule_that_raises_is_no_traceback(world: Worlds) -> None:
    """Its kind is named, nothing of what it said, and what the client would get."""

    async def owner(arrival: Any) -> str:
        raise RuntimeError("4242424242424242")

    shop = await world(answering(201), rule(owner=owner))
    foretold = await explained(shop)
    assert "RuntimeError" in foretold.refusal and "4242" not in foretold.refusal
    assert foretold.told is not None
    assert same_as(foretold.told, await shop.pay())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "client", "why"),
    [
        ({}, ASYNC, "the rule has no later="),
        ({"later": later, "terms": "1"}, {}, "respond-async"),
        ({"later": later, "terms": "1"}, {**ASYNC, "x-note": "4242424242424242"}, ""),
        ({"later": later, "terms": "1"}, {**ASYNC, "cookie": "n=1"}, ""),
    ],
)
async def test_it_says_why_an_order_is_not_kept(world: Worlds, changes: dict[str, Any], client: dict[str, str], why: str) -> None:
    """The merchant did not opt in, or this client would take it for paid."""
    shop = await world(answering(201), rule(**changes))
    facts = (await explained(shop, **client)).facts
    assert facts is not None
    assert why in facts.not_kept
    assert bool(facts.not_kept) == bool(why)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"can_wait": lambda arrival: False}, "cannot wait"),
        ({"consent": json_field("agreed")}, "did not agree"),
        ({"caps": Caps(order_minor=1)}, "cap order"),
    ],
)
async def test_it_asks_the_rule_whether_the_order_could_wait(world: Worlds, changes: dict[str, Any], why: str) -> None:
    """Goods of now, no word of the shopper, too many that wait: then an outage ends it, and that is what is foretold."""
    shop = await world(answering(500), rule(later=later, terms="1", **changes))
    foretold = await explained(shop, **ASYNC)
    assert foretold.facts is not None
    assert why in foretold.facts.not_kept
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    told = foretold.readings[-1].told
    assert told is not None
    assert same_as(told, await shop.pay(**ASYNC))


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("GET", "/shop/pay", "it is for POST"),
        ("POST", "/eu/shop/pay", "write POST /eu/shop/pay"),
        ("POST", "/pay", "send the whole path, /shop/pay"),
        ("GET", "/pay", "and for POST"),
        ("POST", "/shop/pey", "its path is /shop/pay"),
        ("GET", "/orders/7/pay", "it is for POST"),
    ],
)
def test_the_nearest_rules_say_what_keeps_them_from_matching(method: str, path: str, says: str) -> None:
    """The method, the mount in front, or a letter."""
    rules = [Rule("POST /shop/pay", owner=header("x")), Rule("POST /orders/{id}/pay", owner=header("x"))]
    assert says in near_rules(rules, method=method, path=path)[0].why


def test_a_request_that_is_like_no_rule_names_none() -> None:
    """A list of all rules would help nobody."""
    assert near_rules([Rule("POST /shop/pay", owner=header("x"))], method="GET", path="/about/us/and/our/plants") == ()
