"""Price and stock are looked at again before a late charge, and the shop's own functions are bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard import AskShopper, GoOn, GoOnLower, Stop
from cxguard.config import Settings
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.core.outcomes import Charged
from cxguard.engine import revalidating
from cxguard.engine.handle import current_operation
from cxguard.errors import AlreadyFinished, StepMismatch
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.rules import Arrival, Rule, json_field, replay
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
    return {"paid": payment.payment_id}


async def pay(request: Request) -> Response:
    body = await request.json()
    payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok"))
    return JSONResponse({"paid": payment.payment_id}, status_code=201)


def keeping(**changes: Any) -> Rule:
    return rule(**{"later": place, "terms": "2026-11", **changes})


async def outage(world: Worlds, *, heard: list[Event] | None = None, settings: Settings | None = None, **changes: Any) -> World:
    """A shop whose gateway takes no connection."""
    gateway, listeners = FakeGateway(otherwise=Does.NOT_CHARGED), [heard.append] if heard is not None else []
    return await world(pay, keeping(**changes), gateway=gateway, listeners=listeners, **({"settings": settings} if settings else {}))


async def submit(shop: World, **more: Any) -> Any:
    body = {"amount": 1000, "currency": "EUR", "cart": "c1", **more}
    return await shop.client.post("/pay", json=body, headers={"x-user": "ann", "idempotency-key": "k1", **ASYNC})


async def only(shop: World) -> Operation:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


async def recovered(shop: World, *, after_seconds: float = 60.0) -> Operation:
    shop.gateway.otherwise = Does.CHARGE
    shop.clock.advance(after_seconds)
    await shop.rest()
    return await only(shop)


def charged(shop: World) -> list[int]:
    return [payment.charge.amount_minor for payment in shop.gateway.standing]


async def told(shop: World, kept: Any) -> tuple[str, str]:
    status = (await shop.client.get(kept.json()["status_url"], headers={"accept": "application/json"})).json()
    return status["situation"], status["money"]


async def test_the_hook_is_given_the_operation_and_its_yes_is_a_charge(world: Worlds) -> None:
    """A plain function or an async one; it reads the order, and can charge nothing."""
    seen: list[Any] = []

    def plain(op: Any) -> GoOn:
        seen.append((op.amount_minor, op.request.json()["cart"]))
        return GoOn()

    async def tries_to_charge(op: Any) -> GoOn:
        with pytest.raises(AlreadyFinished):
            await op.charge(Charge(1000, "EUR", source="tok_ok"))
        return GoOn()

    for hook in (plain, tries_to_charge):
        shop = await outage(world, revalidate=hook)
        await submit(shop)
        assert (await recovered(shop)).state is State.FINISHED
        assert charged(shop) == [1000]
    assert seen == [(1000, "c1")]


async def test_a_lower_price_is_charged_without_a_question(world: Worlds) -> None:
    """The record says so from then on, and the timeline keeps both figures."""
    heard: list[Event] = []
    shop = await outage(world, heard=heard, revalidate=lambda op: GoOnLower(700))
    await submit(shop)
    order = await recovered(shop)
    assert (order.state, order.amount_minor, charged(shop)) == (State.FINISHED, 700, [700])
    figures = {"accepted_minor": 1000, "amount_minor": 700, "currency": "EUR"}
    assert [event.detail for event in heard if event.name == "order.price_lowered"] == [figures]
    assert [entry.detail for entry in order.history if entry.event == "order.price_lowered"] == [figures]


async def test_an_order_that_was_made_cheaper_is_known_at_both_prices(world: Worlds) -> None:
    """A tab that still shows the old one presses again, under a key of its own."""
    shop = await outage(world, revalidate=lambda op: GoOnLower(700), purchase=(json_field("cart"),))
    await submit(shop)
    assert (await recovered(shop)).amount_minor == 700
    for amount in (1000, 700):
        assert (await shop.pay(key=f"again-{amount}", amount=amount)).json()["situation"] == "duplicate"
    assert charged(shop) == [700]


async def test_a_price_that_the_shop_has_confirmed_holds_anew(world: Worlds) -> None:
    """As long as the rule says, from the moment at which it was confirmed."""
    shop = await outage(world, revalidate=lambda op: GoOn(), quote_seconds=600.0)
    await submit(shop)
    order = await recovered(shop, after_seconds=590.0)
    assert order.quote_until == shop.clock.now() + 600.0


@pytest.mark.parametrize(("said", "why"), [(AskShopper(1200), "price_up"), (AskShopper(), "order_changed"), (GoOnLower(1200), "price_up")])
async def test_a_higher_price_or_a_changed_order_asks_the_shopper_first(world: Worlds, said: Any, why: str) -> None:
    """Nothing is sent; told "not charged, one more step"; never more than was agreed to."""
    shop = await outage(world, revalidate=lambda op: said)
    kept = await submit(shop)
    sent = shop.gateway.count("charge")
    order = await recovered(shop)
    assert (order.state, order.waiting_for, order.why) == (State.HELD, WaitingFor.SHOPPER, why)
    assert shop.gateway.count("charge") == sent
    assert await told(shop, kept) == ("shopper_asked", "not_charged")


async def test_what_is_out_of_stock_ends_uncharged_and_is_told(world: Worlds) -> None:
    """Cancelled with the shop's reason on record."""
    shop = await outage(world, revalidate=lambda op: Stop("out_of_stock"))
    kept = await submit(shop)
    order = await recovered(shop)
    assert (order.state, order.why, charged(shop)) == (State.CANCELLED, "out_of_stock", [])
    assert await told(shop, kept) == ("cancelled", "not_charged")


async def test_without_a_hook_the_accepted_price_is_charged_while_its_quote_holds(world: Worlds) -> None:
    """A minute later it is not: then the shopper is asked."""
    for after_seconds, state, amounts in ((590.0, State.FINISHED, [1000]), (601.0, State.HELD, [])):
        shop = await outage(world, quote_seconds=600.0)
        await submit(shop)
        order = await recovered(shop, after_seconds=after_seconds)
        assert (order.state, charged(shop)) == (state, amounts)
        assert order.why == ("" if amounts else "quote_ended")


async def test_the_request_may_say_how_long_its_price_holds(world: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    """Never longer than the rule's own time; what has passed, or cannot be read, is not kept, and listeners hear which."""
    heard: list[Event] = []
    shop = await outage(world, heard=heard, quote_until=json_field("valid_until"), quote_seconds=3_600.0)
    now = shop.clock.now()
    for said, status in ((now + 300, 202), (now + 86_400, 202), (None, 202), (now - 1, 503), ("soon", 503)):
        answer = await shop.client.post(
            "/pay",
            json={"amount": 1000, "currency": "EUR", "cart": "c1", "valid_until": said},
            headers={"x-user": "ann", "idempotency-key": f"k{said}", **ASYNC},
        )
        assert answer.status_code == status
    kept = (await shop.store.search(Query(namespace="shop", states=(State.QUEUED,)))).operations
    assert sorted((order.quote_until or 0.0) - now for order in kept) == [300.0, 3_600.0, 3_600.0]
    assert [event.detail["why"] for event in heard if event.name == "order.not_kept"] == ["quote_ended", "quote_unreadable"]
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cxguard.keeping"]
    assert (line["event"], line["why"], line["error"]) == ("keeping.not_asked", "quote_unreadable", "BadBody")


async def test_a_lower_price_is_not_forced_on_a_kept_request_that_names_the_old_one(world: Worlds) -> None:
    """`later=replay` would ask for the old amount: a person looks instead."""
    shop = await outage(world, later=replay, revalidate=lambda op: GoOnLower(700))
    await submit(shop)
    order = await recovered(shop)
    assert (order.state, order.waiting_for, order.why) == (State.HELD, WaitingFor.AGENT, "lower_price_cannot_replay")
    assert (charged(shop), order.due_at) == ([], None), "there is nothing to ask anybody"


async def test_a_later_that_asks_for_other_figures_than_accepted_is_held_at_once(world: Worlds) -> None:
    """Trying a hundred times would not mend it."""

    async def old_amount(op: Any) -> dict[str, str]:
        payment = await op.charge(Charge(1000, "EUR", source="tok_ok"))
        return {"paid": payment.payment_id}

    shop = await outage(world, later=old_amount, revalidate=lambda op: GoOnLower(700))
    await submit(shop)
    order = await recovered(shop)
    assert (order.state, order.waiting_for, order.why, charged(shop)) == (State.HELD, WaitingFor.AGENT, "step_mismatch", [])


async def test_a_replay_that_asks_for_other_figures_than_accepted_is_held_at_once(world: Worlds) -> None:
    """The app makes an error page of it: the handle remembers what was refused."""
    dearer: list[int] = []

    async def checkout(request: Request) -> Response:
        try:
            payment = await current_operation().charge(Charge(1000 + sum(dearer), "EUR", source="tok_ok"))
        except StepMismatch:
            return JSONResponse({"error": "internal"}, status_code=500)
        return JSONResponse({"paid": payment.payment_id}, status_code=201)

    shop = await world(checkout, keeping(later=replay), gateway=FakeGateway(otherwise=Does.NOT_CHARGED))
    await submit(shop)
    dearer.append(1)
    order = await recovered(shop)
    assert (order.state, order.waiting_for, order.why, charged(shop)) == (State.HELD, WaitingFor.AGENT, "step_mismatch", [])


# --- hooks that fail


async def test_a_hook_that_raises_holds_the_order_with_the_place_and_without_its_words(world: Worlds) -> None:
    """Its message may quote anything: the type and the line are enough to mend it."""

    async def broken(op: Any) -> GoOn:
        raise ValueError("card 4242 of Ann Smith")

    shop = await outage(world, revalidate=broken)
    await submit(shop)
    order = await recovered(shop)
    line = broken.__code__.co_firstlineno + 1
    assert (order.state, order.waiting_for) == (State.HELD, WaitingFor.AGENT)
    assert order.why == f"revalidate hook raised: ValueError at test_prices_again.py:{line}"
    assert "Ann" not in str(order.history)
    assert charged(shop) == []


async def test_a_hook_that_raises_is_an_error_in_the_log(world: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    """Under the event's name, with the order and the place."""

    async def broken(op: Any) -> GoOn:
        raise ValueError("card 4242 of Ann Smith")

    shop = await outage(world, revalidate=broken)
    await submit(shop)
    with caplog.at_level(logging.ERROR, logger="cxguard.revalidating"):
        order = await recovered(shop)
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cxguard.revalidating"]
    assert (line["event"], line["reference"], line["error"]) == ("order.not_revalidated", order.reference, "ValueError")


async def test_a_hook_that_hangs_is_bounded_and_holds_the_order(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker goes on with the others."""
    monkeypatch.setattr(revalidating, "REVALIDATE_SECONDS_MAX", 0.01)

    async def hangs(op: Any) -> GoOn:
        await asyncio.Event().wait()
        return GoOn()

    shop = await outage(world, revalidate=hangs)
    await submit(shop)
    order = await recovered(shop)
    assert (order.state, order.why) == (State.HELD, "revalidate hook gave no answer in 0.01 s")


async def test_a_hook_that_waits_for_something_cancelled_holds_the_order(world: Worlds) -> None:
    """Of a task of the shop's own: that is a failure of the hook, and no end of the worker."""

    async def cancelled(op: Any) -> GoOn:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task
        return GoOn()

    shop = await outage(world, revalidate=cancelled)
    await submit(shop)
    order = await recovered(shop)
    assert order.state is State.HELD
    assert order.why.startswith("revalidate hook waited for something that was cancelled, at ")


@pytest.mark.parametrize("said", [None, True, "ok", GoOnLower(-1)])
async def test_a_hook_without_a_usable_answer_holds_the_order(world: Worlds, said: Any) -> None:
    """Nothing is charged on "perhaps"."""
    shop = await outage(world, revalidate=lambda op: said)
    await submit(shop)
    order = await recovered(shop)
    assert (order.state, order.waiting_for, charged(shop)) == (State.HELD, WaitingFor.AGENT, [])
    assert order.why.startswith("revalidate hook gave a ")


async def test_an_order_that_a_failing_hook_held_can_be_put_back(world: Worlds) -> None:
    """The shop mends its function; the desk puts the order back, and it is charged once."""
    from cxguard.engine.casefile import Actor
    from cxguard.engine.desk import Desk

    broken = [True]

    def hook(op: Any) -> GoOn:
        if broken:
            raise KeyError("price")
        return GoOn()

    shop = await outage(world, revalidate=hook)
    await submit(shop)
    held = await recovered(shop)
    broken.clear()
    desk = Desk(shop.guard.engine, rules={one.name: one for one in shop.guard.rules}, purposes={})
    await desk.requeue(held.reference, Actor("anna", "mended"))
    assert (await recovered(shop)).state is State.FINISHED
    assert charged(shop) == [1000]


async def test_a_resolve_that_raises_or_hangs_leaves_the_payment_unknown(world: Worlds) -> None:
    """Bounded by the time of one look; nothing is told that is not known."""
    from cxguard.engine.engine import Timeouts

    async def broken(op: Any) -> Any:
        raise RuntimeError("no network")

    async def hangs(op: Any) -> Any:
        await asyncio.Event().wait()

    async def fails(request: Request) -> Response:
        return Response("oops", status_code=500)

    for resolve in (broken, hangs, lambda op: None):
        shop = await world(fails, rule(charged_by="shop", resolve=resolve), timeouts=Timeouts(attempt_seconds=0.05))
        assert (await submit(shop)).json()["money"] == "unknown"


async def test_a_plain_resolve_is_asked_in_a_thread(world: Worlds) -> None:
    """A gateway's own library blocks, for a minute and more while the gateway is silent: no other shopper may stand still for it."""
    threads: list[int] = []

    def asks(op: Any) -> Charged:
        threads.append(threading.get_ident())
        return Charged(1000, "EUR", payment_id=op.gateway_key("charge"))

    async def fails(request: Request) -> Response:
        return Response("oops", status_code=500)

    shop = await world(fails, rule(charged_by="shop", resolve=asks))
    assert (await submit(shop)).json()["money"] == "charged"
    assert threads and threading.get_ident() not in threads


async def test_a_later_that_is_not_async_is_told_so(world: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    """It came out in the first outage, as a bare TypeError of ours for each kept order."""
    shop = await outage(world, later=lambda op: {"placed": op.reference})
    await submit(shop)
    assert (await recovered(shop)).state is State.QUEUED
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cxguard.placing"]
    assert [(line["event"], "is not async: write `async def`" in line["why"]) for line in lines] == [("order.later_raised", True)]


async def test_a_later_that_hangs_is_bounded_and_tried_again(world: Worlds) -> None:
    """Whatever it had charged by then is on record, so another try does not charge it anew."""
    runs: list[int] = []

    async def hangs_once(op: Any) -> dict[str, str]:
        placed = await place(op)
        runs.append(1)
        if len(runs) == 1:
            await asyncio.Event().wait()
        return placed

    shop = await outage(world, later=hangs_once, settings=Settings(run_seconds_max=1.0))
    await submit(shop)
    assert (await recovered(shop)).state is State.QUEUED
    assert (await recovered(shop)).state is State.FINISHED
    assert (len(runs), charged(shop)) == (2, [1000])


@pytest.mark.parametrize("setting", ["owner", "key", "amount_minor"])
@pytest.mark.parametrize("fault", ["raises", "hangs"])
async def test_a_source_of_the_shops_that_fails_opens_nothing(
    world: Worlds, monkeypatch: pytest.MonkeyPatch, setting: str, fault: str
) -> None:
    """Bounded; the shopper hears that this submission charged nothing, and no bare 500."""
    from cxguard.rules import sources

    monkeypatch.setattr(sources, "ASK_SECONDS_MAX", 0.01)

    async def source(arrival: Arrival) -> str:
        if fault == "raises":
            raise RuntimeError("no sessions")
        await asyncio.Event().wait()
        return ""

    shop = await world(pay, rule(**{setting: source}))
    answer = await submit(shop)
    assert (answer.status_code, answer.json()["situation"]) == (503, "store_away")
    assert (await shop.store.search(Query(namespace="shop"))).operations == ()
    assert charged(shop) == []
