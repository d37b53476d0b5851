"""An order has its end, is pressed again and paid, and the store loses that: its page has the older end, and must not say it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from copyworld import fail_over, page_of, record, told_by
from shopworld import Till, World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.breaker import Label
from cxguard.core.lost import LOST_BACK_SECONDS
from cxguard.core.operation import Operation, changed
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Unknown
from cxguard.core.resolve import LOOK_EVENT, LOOKS_MAX
from cxguard.core.schedule import resolve_pause_seconds
from cxguard.engine.handle import current_operation
from cxguard.rules import json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio

ASYNC = {"prefer": "respond-async"}
SETTLED = 61.0  # seconds after which what was under way at the failover must have shown up


async def declined_once(world: Worlds, *then: Does) -> tuple[World, str]:
    """A shop whose first order was declined; and the page of that order."""
    gateway = FakeGateway(Does.DECLINE, *then)
    made = await world(charging_handler, rule(key=json_field("cart")), faulty=True, gateway=gateway)
    await made.guard.engine.epochs.lost_since()
    await made.pay(key=None)
    told = await made.pay(key=None)  # the very same press once more
    assert told.status_code == 402
    return made, await page_of(made)


async def test_a_page_of_an_older_end_is_told_as_unknown_until_the_gateway_has_said_that_it_was_paid(world: Worlds) -> None:
    """Declined, then paid with another card, and that is lost. The look finds the charge; a person sees to the rest."""
    made, page = await declined_once(world)
    declined = await record(made)
    made.clock.advance(60.0)
    assert (await made.pay(key=None)).status_code == 201
    await fail_over(made, declined)
    made.gateway.will_say("find", [Unknown("no answer in time")])
    assert await told_by(made, page) == ("unknown", "unknown")
    made.clock.advance(10.0)
    assert await told_by(made, page) == ("paid_unfinished", "charged")
    assert ((await record(made)).state, (await record(made)).why) == ("held", "charged_after_end")
    assert len(made.gateway.standing) == 1


async def test_a_page_of_an_older_end_says_it_again_once_nothing_can_be_under_way(world: Worlds) -> None:
    """Most were not pressed again: the gateway is asked, once, and the page is as before."""
    made, page = await declined_once(world)
    await fail_over(made, await record(made))
    assert await told_by(made, page) == ("unknown", "unknown"), "a charge may be under way: not found is no proof yet"
    made.clock.advance(SETTLED)
    assert await told_by(made, page) == ("declined", "not_charged")
    asked = made.gateway.count("find")
    assert await told_by(made, page) == ("declined", "not_charged")
    assert made.gateway.count("find") == asked, "that was asked for this life of the store"


async def test_the_queue_asks_again_by_itself_after_the_first_look(world: Worlds) -> None:
    """Nobody has to keep the page open: what was not answered is due."""
    made, page = await declined_once(world)
    await fail_over(made, await record(made))
    await told_by(made, page)
    assert (await record(made)).due_at is not None
    made.clock.advance(SETTLED)
    await made.rest()
    assert (await record(made)).due_at is None
    made.gateway.will_say("find", [Unknown("no answer in time")])
    assert await told_by(made, page) == ("declined", "not_charged")


async def test_a_page_that_is_reloaded_asks_the_gateway_no_more_often_than_the_queue(world: Worlds) -> None:
    """However often a page is looked at, the gateway is asked when the order is due."""
    made, page = await declined_once(world)
    await fail_over(made, await record(made))
    await told_by(made, page)
    asked = made.gateway.count("find")
    for _ in range(5):
        assert await told_by(made, page) == ("unknown", "unknown")
    assert made.gateway.count("find") == asked


async def test_a_stored_answer_of_an_older_end_is_not_repeated_before_the_look(world: Worlds) -> None:
    """Who clicks twice hears the shop's own 402 again; not when a charge after it may be lost."""
    made, _ = await declined_once(world)
    await fail_over(made, await record(made))
    doubted = await made.pay(key=None, **ASYNC)
    assert (doubted.status_code, doubted.json()["money"]) == (202, "unknown")


async def test_a_stored_answer_is_repeated_after_the_look(world: Worlds) -> None:
    """Byte for byte, as before the failover."""
    patient = rule(key=json_field("cart"), double_click_seconds=300.0)
    made = await world(charging_handler, patient, faulty=True, gateway=FakeGateway(Does.DECLINE))
    await made.guard.engine.epochs.lost_since()
    before = await made.pay(key=None)
    await fail_over(made, await record(made))
    assert (await made.pay(key=None, **ASYNC)).json()["money"] == "unknown"
    made.clock.advance(SETTLED)
    after = await made.pay(key=None)
    assert (after.status_code, after.content) == (before.status_code, before.content)


async def test_an_end_under_a_clients_key_is_told_as_it_stands(world: Worlds) -> None:
    """Nobody could press such an order again, so no life of it can be lost: nothing is asked."""
    made = await world(charging_handler, rule(), faulty=True, gateway=FakeGateway(Does.DECLINE))
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay()).status_code == 402
    page = await page_of(made)
    await fail_over(made, await record(made))
    assert await told_by(made, page) == ("declined", "not_charged")
    assert (await made.pay()).status_code == 402
    assert made.gateway.count("find") == 0


@pytest.mark.parametrize("sent", [False, True])
async def test_a_cancelled_order_that_was_bought_after_all_is_not_given_back_unasked(world: Worlds, sent: bool) -> None:
    """It was let go, pressed again under its key, paid and sent, and that is lost: money goes back only by a person."""
    fails = [not sent]

    async def handler(request: Request) -> Response:
        if fails.pop() if fails else False:
            raise RuntimeError("the stock could not be looked up")
        return await charging_handler(request)

    made = await world(handler, rule(), faulty=True, gateway=FakeGateway(*[Does.THROTTLE] * sent))
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay()).status_code == 503
    released, page = await record(made), await page_of(made)
    made.clock.advance(2.0)
    assert (await made.pay()).status_code == 201
    await fail_over(made, released)
    assert await told_by(made, page) == ("paid_unfinished", "charged"), "found at once: under the key that the first try had, too"
    await made.rest()
    assert (await record(made)).why == "charged_after_end"
    assert len(made.gateway.standing) == 1


class Shop:
    """Charges by itself; its books say what became of each of our keys."""

    def __init__(self, *declines: bool) -> None:
        self.till = Till()
        self.declines = list(declines)
        self.books: dict[str, Outcome] = {}

    async def pay(self, request: Request) -> Response:
        key = current_operation().gateway_key()
        if self.declines and self.declines.pop(0):
            self.books[key] = Declined()
            return JSONResponse({}, status_code=402)
        self.books[key] = Charged(1000, "EUR", payment_id=self.till.charge())
        return JSONResponse({"paid": True}, status_code=201)

    async def ask(self, op: Any) -> Outcome:
        return self.books.get(op.gateway_key(), NotCharged("not in our books"))


async def test_the_shop_is_asked_about_the_life_after_an_older_end(world: Worlds) -> None:
    """Where it charges by itself: declined, then paid, and that is lost."""
    shop = Shop(True)
    made = await world(shop.pay, rule(charged_by="shop", key=json_field("cart"), resolve=shop.ask), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key=None)).status_code == 402
    declined, page = await record(made), await page_of(made)
    made.clock.advance(60.0)
    assert (await made.pay(key=None)).status_code == 201
    await fail_over(made, declined)
    assert await told_by(made, page) == ("paid_unfinished", "charged")
    assert (await record(made)).why == "charged_after_end"
    assert (await record(made)).generation == 2, "the next life has a key of its own"


async def test_a_shop_that_knows_of_nothing_is_asked_once_about_an_older_end(world: Worlds) -> None:
    """It is told as before, and no line stays behind."""
    shop = Shop(True)
    made = await world(shop.pay, rule(charged_by="shop", key=json_field("cart"), resolve=shop.ask), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key=None)).status_code == 402
    declined, page = await record(made), await page_of(made)
    await fail_over(made, declined)
    assert await told_by(made, page) == ("declined", "not_charged")
    assert ((await record(made)).sends, (await record(made)).generation) == (declined.sends, 1)


async def test_the_queue_stops_asking_a_shop_that_never_says(world: Worlds) -> None:
    """Half an hour of looks in vain: from then on it is asked when somebody looks at the page, and not with every reload."""
    shop = Shop(True)
    asked: list[str] = []

    async def later_silent(op: Any) -> Outcome:
        asked.append(op.gateway_key())
        return shop.books.get(asked[-1], Unknown("not_found"))

    made = await world(shop.pay, rule(charged_by="shop", key=json_field("cart"), resolve=later_silent), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key=None)).status_code == 402
    page = await page_of(made)
    await fail_over(made, await record(made))
    await told_by(made, page)
    for _ in range(20):
        if (await record(made)).due_at is None:
            break
        made.clock.advance(600.0)
        await made.rest()
    before = len(asked)
    assert await told_by(made, page) == ("unknown", "unknown")
    assert len(asked) == before, "it was asked a moment ago"
    made.clock.advance(3_600.0)
    await made.rest()
    assert len(asked) == before
    for _ in range(3):
        assert await told_by(made, page) == ("unknown", "unknown")
    assert len(asked) - before in (1, 2), "about this life, and the next"


async def test_an_end_that_was_asked_about_for_the_last_time_a_moment_ago_is_not_asked_about_again(world: Worlds) -> None:
    """The queue has just given up, and the page is reloaded."""
    made, page = await declined_once(world)
    declined = await record(made)
    looks = tuple(made.guard.engine.operations.entry(LOOK_EVENT) for _ in range(LOOKS_MAX))
    await fail_over(made, changed(declined, history=declined.history + looks))
    assert await told_by(made, page) == ("unknown", "unknown")
    assert made.gateway.count("find") == 0
    made.clock.advance(resolve_pause_seconds(LOOKS_MAX))
    assert await told_by(made, page) == ("declined", "not_charged")


async def test_a_press_that_is_not_let_through_after_a_failover_is_asked_about(world: Worlds) -> None:
    """Paid, and all of it is lost. The shop's charging is held back now, and "not kept, not charged" would be wrong."""
    shop = Shop()
    made = await world(shop.pay, rule(charged_by="shop", key=json_field("cart"), resolve=shop.ask), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key=None)).status_code == 201
    await fail_over(made, await a_stranger(made))
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    told = (await made.pay(key=None, **ASYNC)).json()
    assert (told["situation"], told["money"], len(shop.till.charges)) == ("paid_unfinished", "charged", 1)
    assert "charged_after_end" in [each.why for each in (await made.store.search(Query("shop"))).operations]


async def test_an_older_end_of_which_nobody_can_be_asked_is_unknown_for_two_days(world: Worlds) -> None:
    """The shop charges, and has no `resolve`: for so long a charge that was lost may come to light, then it is told as it stands."""
    shop = Shop(True)
    made = await world(shop.pay, rule(charged_by="shop", key=json_field("cart")), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key=None)).status_code == 402
    page = await page_of(made)
    await fail_over(made, await record(made))
    assert await told_by(made, page) == ("unknown", "unknown")
    made.clock.advance(LOST_BACK_SECONDS)
    assert await told_by(made, page) == ("declined", "not_charged")


async def test_what_the_shop_has_said_since_the_failover_is_believed(world: Worlds) -> None:
    """Its code ran in this life of the store, and declined: that is no older end."""
    shop = Shop(True)
    made = await world(shop.pay, rule(charged_by="shop", key=json_field("cart")), faulty=True)
    await made.guard.engine.epochs.lost_since()
    await fail_over(made, await a_stranger(made))
    assert (await made.pay(key=None)).status_code == 402
    (mine,) = [each for each in (await made.store.search(Query("shop"))).operations if each.rule == "POST /pay"]
    assert not made.guard.engine.epochs.doubts(mine)


async def a_stranger(made: World) -> Operation:
    """A record that stands for any other."""
    now = made.clock.now()
    return Operation("0" * 64, "shop", "POST /other", "o", "r", "f", "cancelled", now, now)  # type: ignore[arg-type]


async def one_purchase(world: Worlds, copied: str, **changes: Any) -> World:
    """Pressed under its first key, in vain; then paid under it, and that is lost: the store has the record as *copied*."""
    vain = [copied == "let go"]

    async def handler(request: Request) -> Response:
        if vain and vain.pop():
            raise RuntimeError("the stock could not be looked up")
        if not copies:
            copies.append(await record(made))
        return await charging_handler(request)

    copies: list[Operation] = []
    made = await world(handler, rule(purchase=(json_field("cart"),), **changes), faulty=True)
    await made.guard.engine.epochs.lost_since()
    if copied == "let go":
        assert (await made.pay(key="one")).status_code == 503
        copies.append(await record(made))
    assert (await made.pay(key="one")).status_code == 201
    await fail_over(made, replace(copies[0], due_at=made.clock.now()))  # its lease lapses
    return made


@pytest.mark.parametrize(("copied", "money"), [("let go", "charged"), ("just begun", "unknown")])
async def test_the_same_purchase_under_another_key_waits_for_the_look_at_an_older_copy(world: Worlds, copied: str, money: str) -> None:
    """The first key's record has the purchase, and may be paid: nothing is charged beside it before the gateway has said so."""
    made = await one_purchase(world, copied)
    told = await made.pay(key="two", **ASYNC)
    assert (told.json()["situation"], told.json()["money"]) == ("duplicate_running", money)
    for _ in range(3):
        made.clock.advance(SETTLED)
        await made.rest()
    told = await made.pay(key="two", **ASYNC)
    assert (told.json()["money"], len(made.gateway.standing)) == ("charged", 1)


async def test_the_same_purchase_under_another_key_goes_through_once_nothing_is_found(world: Worlds) -> None:
    """The first key was let go, and that was all: the gateway is asked within the very press."""

    async def handler(request: Request) -> Response:
        return JSONResponse({}, status_code=422) if request.headers["idempotency-key"] == "one" else await charging_handler(request)

    made = await world(handler, rule(purchase=(json_field("cart"),)), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key="one")).status_code == 422
    await fail_over(made, await record(made))
    await made.guard.engine.epochs.lost_since()
    made.clock.advance(SETTLED)
    assert (await made.pay(key="two", **ASYNC)).status_code == 201


async def test_the_same_purchase_goes_through_where_nobody_can_be_asked(world: Worlds) -> None:
    """The shop charges, and has no `resolve`: two days of refusals would help nobody."""
    shop = Shop(True)
    made = await world(shop.pay, rule(charged_by="shop", purchase=(json_field("cart"),)), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key="one")).status_code == 402
    await fail_over(made, await record(made))
    assert (await made.pay(key="two", **ASYNC)).status_code == 201
