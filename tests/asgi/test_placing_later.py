"""What becomes of a kept order in its turn: by its answer where it is replayed, by what the shop's own code raises."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from copyworld import fail_over
from shopworld import World, Worlds, charging_handler, rule
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from cxguard.core.breaker import Label
from cxguard.core.desk import WHY_UNPAID
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State, changed
from cxguard.core.outcomes import Charged
from cxguard.core.reading import Reading
from cxguard.engine.handle import current_operation
from cxguard.errors import PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.rules import has_status, json_field, replay
from cxguard.stores.base import Query
from cxguard.testing import FaultyStore
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


class Wishing(FaultyStore):
    """A store to which a wish to cancel comes just before the line of a charge."""

    wish: Note | None = None

    async def save(self, operation: Operation, **options: Any) -> Operation:
        if operation.sends and self.wish is not None:
            await self.store.note(operation.id, self.wish, namespace=operation.namespace)
            self.wish = None
        return await super().save(operation, **options)


async def only(shop: World) -> Operation:
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    return order


async def kept(world: Worlds, handler: Any, *, wrap: type[FaultyStore] | None = None, **changes: Any) -> World:
    """A shop with an order that was kept in an outage. *wrap*: around its store."""
    shop = await world(handler, rule(**{"terms": "1", **changes}), faulty=wrap is not None, wrap=wrap or FaultyStore)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(**ASYNC)).status_code == 202
    shop.clock.advance(60.0)
    return shop


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        (403, State.HELD, "replay_not_signed_in"),
        (401, State.HELD, "replay_not_signed_in"),
        (400, State.HELD, "replay_failed"),
        (500, State.QUEUED, "replay_failed"),
        (429, State.QUEUED, "replay_failed"),
    ],
)
async def test_answer_to_a_replay_says_whether_it_is_tried_again(world: Worlds, status: int, state: State, why: str) -> None:
    """A login page and a "no" are for a person; a fault may pass, and then the order is placed."""
    answers: list[int] = []

    async def pay(request: Request) -> Response:
        return JSONResponse({}, status_code=answers.pop()) if answers else await charging_handler(request)

    shop = await kept(world, pay, later=replay)
    answers.append(status)
    await shop.guard.queue().run_once()
    order = await only(shop)
    assert (order.state, order.why, shop.gateway.standing) == (state, why, [])
    shop.clock.advance(120.0)
    await shop.rest()
    assert ((await only(shop)).state, len(shop.gateway.standing)) == ((State.FINISHED, 1) if state is State.QUEUED else (State.HELD, 0))


async def test_a_redirect_after_the_charge_places_a_kept_order_as_it_places_one_at_once(world: Worlds) -> None:
    """A form's handler leads to its thank-you page: the order is placed, and its code does not run for it again and again."""
    runs: list[int] = []

    async def pay(request: Request) -> Response:
        runs.append(1)
        await charging_handler(request)
        return RedirectResponse("/thank-you/1", 303)

    shop = await kept(world, pay, later=replay)
    await shop.rest()
    order = await only(shop)
    assert (order.state, order.money, len(runs), len(shop.gateway.standing)) == (State.FINISHED, "charged", 2, 1)
    assert (await shop.pay(**ASYNC)).headers["location"] == "/thank-you/1"


@pytest.mark.parametrize("how", ["fails", "hangs", "is cancelled"])
async def test_what_fails_in_the_background_places_no_kept_order_twice(world: Worlds, how: str) -> None:
    """The mail's server is down, say: the order is placed and its answer given, so a person looks, as after a live request."""
    placed: list[str] = []

    async def mail() -> None:
        if how == "hangs":
            await asyncio.Event().wait()
        raise asyncio.CancelledError if how == "is cancelled" else ConnectionError("no mail server")

    async def pay(request: Request) -> Response:
        payment = await current_operation().charge(Charge(1000, "EUR", source="tok_ok", order_id="c1"))
        placed.append(payment.payment_id)
        return JSONResponse({}, status_code=201, background=BackgroundTask(mail))

    shop = await kept(world, pay, later=replay, **({"run_seconds_max": 1.0, "deadline_seconds": 1.0} if how == "hangs" else {}))
    for _ in range(5):
        await shop.rest()
        shop.clock.advance(600.0)
    order = await only(shop)
    assert (order.state, order.why, order.money) == (State.HELD, "failed_after_answer", "charged")
    assert len(placed) == len(shop.gateway.standing) == 1


@pytest.mark.parametrize("kind", ["text/event-stream", "text/html"])
async def test_an_answer_that_is_not_kept_places_a_kept_order_once(world: Worlds, kind: str) -> None:
    """It is a stream, or too long: that it was given is kept, and the order is placed, as after a live request."""
    placed: list[str] = []

    async def pay(request: Request) -> Response:
        payment = await current_operation().charge(Charge(1000, "EUR", source="tok_ok", order_id="c1"))
        placed.append(payment.payment_id)
        return Response("x" * 5000, status_code=201, media_type=kind)

    shop = await kept(world, pay, later=replay, answer_bytes_max=4096)
    for _ in range(3):
        await shop.rest()
        shop.clock.advance(600.0)
    order = await only(shop)
    assert (order.state, order.money, len(placed)) == (State.FINISHED, "charged", 1)
    assert (await shop.pay(**ASYNC)).json()["money"] == "charged"


async def test_a_redirect_without_a_charge_is_for_a_person(world: Worlds) -> None:
    """To a sign-in page, say: most shops ask like that, and trying for a day would not mend it."""
    runs: list[int] = []

    async def pay(request: Request) -> Response:
        runs.append(1)
        return await charging_handler(request) if len(runs) == 1 else RedirectResponse("/accounts/login/?next=/pay", 302)

    shop = await kept(world, pay, later=replay)
    await shop.rest()
    order = await only(shop)
    assert (order.state, order.why, shop.gateway.standing) == (State.HELD, WHY_UNPAID, [])


async def test_answer_to_a_replay_is_read_as_the_rule_says(world: Worlds) -> None:
    """A shop whose 200 is a fault has said so, and its order is tried again."""
    answers: list[int] = []

    async def pay(request: Request) -> Response:
        return JSONResponse({}, status_code=answers.pop()) if answers else await charging_handler(request)

    shop = await kept(world, pay, later=replay, reads={Reading.FAILED: has_status(200)})
    answers.append(200)
    await shop.guard.queue().run_once()
    assert ((await only(shop)).state, (await only(shop)).why) == (State.QUEUED, "replay_failed")


async def test_code_of_the_shops_that_fails_once_is_run_again(world: Worlds) -> None:
    """What it raises is no end of an order that was accepted: before the charge as after it."""
    runs: list[str] = []

    async def place(op: Any) -> dict[str, str]:
        runs.append("run")
        if len(runs) == 1:
            raise RuntimeError("before the charge")
        payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
        if len(runs) == 2:
            raise RuntimeError("after it")
        return {"paid": payment.payment_id}

    shop = await kept(world, charging_handler, later=place)
    for state, money in (("queued", "none"), ("queued", "charged"), ("finished", "charged")):
        await shop.guard.queue().run_once()
        order = await only(shop)
        assert (order.state, order.money) == (state, money)
        shop.clock.advance(300.0)
    assert (len(runs), len(shop.gateway.standing)) == (3, 1)


async def test_kept_order_whose_charge_is_not_awaited_is_for_a_person(world: Worlds) -> None:
    """It is not told as placed, and not tried again for a day: the code has to be mended."""
    asked: list[Any] = []

    async def forgets(op: Any) -> str:
        asked.append(op.charge(Charge(op.amount_minor, op.currency, source="tok_ok", order_id="c1")))
        return "placed"

    shop = await kept(world, charging_handler, later=forgets, amount_minor=json_field("amount"), currency=json_field("currency"))
    await shop.rest()
    asked.pop().close()
    order = await only(shop)
    assert (order.state, order.why) == (State.HELD, "charge_not_awaited")
    assert not shop.gateway.standing


async def test_payment_of_another_order_that_has_no_end_does_not_end_this_one(world: Worlds) -> None:
    """`later` buys a voucher first, say, and that waits: the order that was accepted is tried again, and not let go."""
    waits = [PaymentDeferred("gateway_down")]

    async def place(op: Any) -> dict[str, str]:
        if waits:
            raise waits.pop()
        return {"paid": (await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))).payment_id}

    shop = await kept(world, charging_handler, later=place)
    await shop.guard.queue().run_once()
    assert ((await only(shop)).state, (await only(shop)).why) == (State.QUEUED, "later_failed")
    shop.clock.advance(300.0)
    await shop.rest()
    assert ((await only(shop)).state, len(shop.gateway.standing)) == (State.FINISHED, 1)


async def test_decline_of_another_payment_says_nothing_of_what_the_shop_has_charged(world: Worlds) -> None:
    """`later` takes the money by its own code, and a voucher beside it is declined: nobody is told that nothing was charged."""

    async def pay(request: Request) -> Response:
        raise AssertionError("the breaker is open")

    async def voucher(op: Any) -> None:
        await op.charge(Charge(300, "EUR", source="tok_ok"))

    async def place(op: Any) -> None:
        await shop.guard.run(voucher, purpose="voucher", key="v1", owner="ann")

    shop = await world(pay, rule(terms="1", later=place, charged_by="shop"))
    shop.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="down", seconds=30.0)
    assert (await shop.pay(**ASYNC)).status_code == 202
    shop.gateway.will(Does.DECLINE)
    shop.clock.advance(300.0)
    await shop.rest()
    page = await shop.store.search(Query(namespace="shop"))
    order = next(each for each in page.operations if each.rule == "POST /pay")
    assert (order.state, order.why, order.money) == (State.HELD, "charge_unknown", "unknown")


async def test_accepted_order_that_its_shop_turns_down_is_kept_as_long_as_any(world: Worlds) -> None:
    """Its shopper has a link to it, and may ask for weeks. A try that nobody was promised anything about is kept for a day."""

    async def place(op: Any) -> dict[str, str]:
        raise PaymentDeclined

    shop = await kept(world, charging_handler, later=place, keep_seconds=1_000_000.0)
    await shop.rest()
    order = await only(shop)
    assert (order.state, order.keep_until) == (State.CANCELLED, shop.clock.now() + 1_000_000.0)


async def test_wish_to_cancel_that_comes_just_before_the_shops_own_code_runs_stops_it(world: Worlds) -> None:
    """It comes with the very write that says that a charge may be under way: nothing runs, and the order ends as cancelled."""
    runs: list[str] = []

    async def pay(request: Request) -> Response:
        raise AssertionError("the breaker is open")

    async def place(op: Any) -> dict[str, str]:
        runs.append("run")
        return {}

    shop = await world(pay, rule(terms="1", later=place, charged_by="shop"), faulty=True, wrap=Wishing)
    assert isinstance(shop.store, Wishing)
    shop.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="down", seconds=30.0)
    assert (await shop.pay(**ASYNC)).status_code == 202
    order = await only(shop)
    shop.store.wish = Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), generation=order.generation)
    for _ in range(2):
        shop.clock.advance(300.0)
        await shop.rest()
    assert ((await only(shop)).state, (await only(shop)).why, runs) == (State.CANCELLED, "cancel_asked", [])


async def test_wish_to_cancel_that_comes_just_before_a_kept_orders_charge_stops_it(world: Worlds) -> None:
    """Where the guard charges: nothing is sent, and no person has to look."""

    async def place(op: Any) -> dict[str, str]:
        return {"paid": (await op.charge(Charge(1000, "EUR", source="tok_ok"))).payment_id}

    shop = await kept(world, charging_handler, later=place, wrap=Wishing)
    assert isinstance(shop.store, Wishing)
    shop.store.wish = Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), generation=1)
    sent = shop.gateway.count("charge")
    for _ in range(2):
        await shop.rest()
        shop.clock.advance(300.0)
    order = await only(shop)
    assert (order.state, order.why, shop.gateway.count("charge")) == (State.CANCELLED, "cancel_asked", sent)


async def test_paid_order_of_a_shop_that_charges_by_itself_is_completed_without_a_second_charge_on_record(world: Worlds) -> None:
    """Its `later` finds the payment and makes the order of it: nothing more may be under way."""

    async def pay(request: Request) -> Response:
        raise RuntimeError("after it charged")

    async def ask(op: Any) -> Charged:
        return Charged(1000, "EUR", "pay_1")

    async def place(op: Any) -> dict[str, str]:
        return {"paid": "pay_1"}

    shop = await world(pay, rule(terms="1", later=place, charged_by="shop", resolve=ask, rerun_safe=True))
    assert (await shop.pay(**ASYNC)).json()["money"] == "charged"
    shop.clock.advance(60.0)
    await shop.rest()
    order = await only(shop)
    assert (order.state, order.money, len(order.sends)) == (State.FINISHED, "charged", 1)


async def test_outage_that_goes_on_is_why_an_order_waits_whatever_fails_after_its_answer(world: Worlds) -> None:
    """Nothing was charged, and its handler says thank you all the same: it is tried again, and no person is asked."""

    async def mail() -> None:
        raise ConnectionError("no mail server")

    async def pay(request: Request) -> Response:
        with suppress(PaymentDeferred):
            await current_operation().charge(Charge(1000, "EUR", source="tok_ok", order_id="c1"))
        return JSONResponse({}, status_code=201, background=BackgroundTask(mail))

    shop = await kept(world, pay, later=replay)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.guard.queue().run_once()).waiting == 1
    assert ((await only(shop)).state, (await only(shop)).why) == (State.QUEUED, "gateway_down")


async def test_order_whose_request_is_gone_is_a_persons(world: Worlds) -> None:
    """There is nothing to run again, and it says so."""
    shop = await world(charging_handler, rule(terms="1", later=replay), faulty=True)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    await shop.pay(**ASYNC)
    await fail_over(shop, changed(await only(shop), request=None))
    shop.clock.advance(300.0)
    await shop.rest()
    assert ((await only(shop)).state, (await only(shop)).why) == (State.HELD, "cannot_replay")


async def test_kept_order_has_time_in_its_turn_to_ask_what_became_of_its_charge(world: Worlds) -> None:
    """An answer that is lost is found at once: nobody has to come back for it."""

    async def place(op: Any) -> dict[str, str]:
        return {"paid": (await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))).payment_id}

    shop = await kept(world, charging_handler, later=place)
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    await shop.guard.queue().run_once()
    assert ((await only(shop)).state, len(shop.gateway.standing)) == (State.FINISHED, 1)


async def test_kept_order_whose_step_has_no_end_is_a_persons(world: Worlds) -> None:
    """The parcel may be on its way: the next run is told so, and there is no run after that."""
    runs = []

    async def ship() -> str:
        raise ConnectionError("no answer of the warehouse")

    async def later(op: Any) -> str:
        runs.append(op.reference)
        return await op.step("ship", ship)  # type: ignore[no-any-return]

    shop = await world(charging_handler, rule(later=later, terms="1"))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    await shop.pay(**ASYNC)
    for _ in range(4):
        shop.clock.advance(3_600.0)
        await shop.rest()
    order = await only(shop)
    assert (order.state, order.why, len(runs)) == (State.HELD, "step_unfinished", 2)
