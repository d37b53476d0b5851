"""The store lost the last writes of an order that the shop's own code has charged since: the copy that it has left is older."""

from __future__ import annotations

from typing import Any

import pytest
from copyworld import fail_over, page_of, record, told_by
from shopworld import Till, World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.lost import LOST_BACK_SECONDS
from cxguard.core.money import Note, NoteKind
from cxguard.core.names import gateway_key
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Unknown
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.rules import json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio

ASYNC = {"prefer": "respond-async"}


NAYS: dict[str, tuple[Outcome, int]] = {"decline": (Declined(), 402), "reject": (NotCharged("no such address"), 422)}


class Shop:
    """Charges by itself, under no key; its books say what became of each of ours."""

    def __init__(self, *answers: str) -> None:
        self.till = Till()
        self.answers = list(answers)
        self.books: dict[str, Outcome] = {}

    def take(self, key: str) -> Response:
        answer = self.answers.pop(0) if self.answers else ""
        if answer in NAYS:
            self.books[key], status = NAYS[answer]
            return JSONResponse({}, status_code=status)
        self.books[key] = Charged(1000, "EUR", payment_id=self.till.charge())
        if answer == "crash":
            del self.books[key]
            raise RuntimeError("after it charged")
        return JSONResponse({"paid": True}, status_code=201)

    async def pay(self, request: Request) -> Response:
        return self.take(current_operation().gateway_key())

    async def later(self, op: Any) -> dict[str, bool]:
        self.take(op.gateway_key())
        return {"paid": True}

    async def ask(self, op: Any) -> Outcome:
        return self.books.get(op.gateway_key(), Unknown("not_found"))


async def started(world: Worlds, shop: Shop, **changes: Any) -> World:
    """The shop, whose store has been used, so that the epoch is known."""
    by_shop = {"charged_by": "shop", "resolve": shop.ask, "key": json_field("cart"), **changes}
    made = await world(shop.pay, rule(**by_shop), faulty=True)
    await made.guard.engine.epochs.lost_since()
    return made


async def lost(made: World) -> Operation:
    """A record that stands for any other."""
    return Operation("0" * 64, "shop", "POST /other", "o", "r", "f", State.CANCELLED, made.clock.now(), made.clock.now())


async def test_a_second_card_that_paid_in_a_lost_life_is_not_charged_again(world: Worlds) -> None:
    """The copy knows of the decline before it only: the shop is asked about the next life before its code runs."""
    shop = Shop("decline")
    made = await started(world, shop)
    assert (await made.pay()).status_code == 402
    made.clock.advance(60.0)
    declined = await record(made)
    assert (await made.pay()).status_code == 201
    await fail_over(made, declined)
    made.clock.advance(60.0)
    told = await made.pay(**ASYNC)
    assert shop.till.charges == ["basket"]
    assert told.json()["money"] == "charged"


async def test_a_corrected_form_that_was_paid_is_not_charged_again(world: Worlds) -> None:
    """Turned away, corrected under the same key, and paid; nothing of it is left: the shop is asked about the life after it, too."""
    shop = Shop("reject")
    made = await started(world, shop)
    assert (await made.pay(key="k")).status_code == 422
    assert (await made.pay(key="k")).status_code == 201
    await fail_over(made, await lost(made))
    told = await made.pay(key="k", **ASYNC)
    assert (shop.till.charges, told.json()["money"]) == (["basket"], "charged")


async def test_a_look_at_the_next_life_says_nothing_of_a_charge_after_it(world: Worlds) -> None:
    """Asked about it while a shopper looks at an older end, the shop knows of nothing. Days later the next press charges, and dies."""
    shop = Shop("decline")
    made = await started(world, shop)
    assert (await made.pay()).status_code == 402
    await fail_over(made, await record(made))
    shop.books[gateway_key((await record(made)).id, step="charge", generation=2)] = NotCharged("never heard of it")
    assert await told_by(made, await page_of(made)) == ("declined", "not_charged")
    made.clock.advance(LOST_BACK_SECONDS)
    shop.books.clear()
    shop.answers = ["crash"]
    told = await made.pay(**ASYNC)
    assert (shop.till.charges, told.json()["money"]) == (["basket"], "unknown")


async def test_a_kept_order_that_was_placed_in_a_lost_write_is_not_placed_again(world: Worlds) -> None:
    """The copy still waits in the queue: the shop is asked before `later` runs."""
    shop = Shop()
    made = await started(world, shop, later=shop.later, terms="1")
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    assert (await made.pay(**ASYNC)).json()["situation"] == "kept"
    waiting = await record(made)
    made.guard.engine.breakers.force("shop:POST /pay", "charge", None)
    made.clock.advance(120.0)
    await made.rest()
    assert (await record(made)).money == "charged"
    await fail_over(made, waiting)
    await made.rest()
    assert shop.till.charges == ["basket"]
    assert ((await record(made)).money, (await record(made)).why) == ("charged", "order_missing")


async def test_a_kept_order_that_may_have_been_placed_in_a_lost_write_is_told_as_unknown(world: Worlds) -> None:
    """By its page, to who presses again, and to who wishes to cancel: until the shop has been asked."""
    shop = Shop()
    made = await started(world, shop, later=shop.later, terms="1")
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    first = await made.pay(**ASYNC)
    assert (first.json()["situation"], first.json()["money"]) == ("kept", "not_charged")
    page, waiting = first.json()["status_url"], await record(made)
    made.guard.engine.breakers.force("shop:POST /pay", "charge", None)
    made.clock.advance(120.0)
    await made.rest()
    await fail_over(made, waiting)
    looks = [await made.client.get(page, headers={"accept": "application/json"}), await made.pay(**ASYNC)]
    looks.append(await made.client.post(f"{page}/cancel", headers={"accept": "application/json"}))
    assert [look.json()["money"] for look in looks] == ["unknown", "unknown", "charged"], "the wish had the shop asked"
    assert shop.till.charges == ["basket"]


async def test_a_kept_order_of_which_the_shop_knows_nothing_is_placed(world: Worlds) -> None:
    """The shop says that nothing was charged: after a failover, too, an order that waited is placed, once."""
    shop = Shop()

    async def nothing(op: Any) -> Outcome:
        return NotCharged("not in our books")

    made = await started(world, shop, later=shop.later, terms="1", resolve=nothing)
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    assert (await made.pay(**ASYNC)).json()["situation"] == "kept"
    made.guard.engine.breakers.force("shop:POST /pay", "charge", None)
    await fail_over(made, await record(made))
    made.clock.advance(120.0)
    await made.rest()
    assert shop.till.charges == ["basket"]
    assert (await record(made)).state == "finished"


async def test_a_kept_order_that_was_placed_in_a_lost_write_is_not_cancelled_as_unpaid(world: Worlds) -> None:
    """Its shopper cancels what the copy says still waits: the shop is asked before they hear that nothing was charged."""
    shop = Shop()
    made = await started(world, shop, later=shop.later, terms="1")
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    assert (await made.pay(**ASYNC)).json()["situation"] == "kept"
    waiting = await record(made)
    made.guard.engine.breakers.force("shop:POST /pay", "charge", None)
    made.clock.advance(120.0)
    await made.rest()
    await fail_over(made, waiting)
    await made.guard.engine.operations.note(waiting.id, Note("cancel:1", NoteKind.CANCEL, made.clock.now(), generation=1))
    await made.rest()
    assert ((await record(made)).state, (await record(made)).money, (await record(made)).why) == ("held", "charged", "refund_due")


async def test_a_kept_order_of_which_the_shop_knows_nothing_is_cancelled(world: Worlds) -> None:
    """The shop says that nothing was charged: it ends as it would have, and no line stays behind."""
    shop = Shop()

    async def nothing(op: Any) -> Outcome:
        return NotCharged("not in our books")

    made = await started(world, shop, later=shop.later, terms="1", resolve=nothing)
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    assert (await made.pay(**ASYNC)).json()["situation"] == "kept"
    waiting = await record(made)
    await fail_over(made, waiting)
    await made.guard.engine.operations.note(waiting.id, Note("cancel:1", NoteKind.CANCEL, made.clock.now(), generation=1))
    await made.rest()
    assert ((await record(made)).state, (await record(made)).money, (await record(made)).sends) == ("cancelled", "none", ())


@pytest.mark.parametrize(("hours", "end"), [(0.0, ("held", "unknown", "charge_unknown")), (2.0, ("cancelled", "none", "cancel_asked"))])
async def test_a_shop_that_cannot_be_asked_leaves_what_was_pressed_before_to_a_person(
    world: Worlds, hours: float, end: tuple[str, ...]
) -> None:
    """No `resolve`, and a kept order is cancelled: a copy is not told as "not charged"; one that came hours later is new."""
    shop = Shop()
    made = await started(world, shop, later=shop.later, terms="1", resolve=None)
    await fail_over(made, await lost(made))
    await made.guard.engine.epochs.lost_since()
    made.clock.advance(hours * 3600.0 + 1.0)
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    page = (await made.pay(**ASYNC)).json()["status_url"]
    await made.client.post(f"{page}/cancel", headers={"accept": "application/json"})
    await made.rest()
    kept, _ = (await made.store.search(Query("shop"))).operations
    assert (kept.state, kept.money, kept.why) == end
    told = (await made.client.get(page, headers={"accept": "application/json"})).json()
    assert told["money"] == ("unknown" if kept.state == "held" else "not_charged")


async def test_a_kept_order_that_was_declined_since_the_failover_is_cancelled_without_a_person(world: Worlds) -> None:
    """No `resolve`, but the shop's code has tried to charge it in this life of the store: what it says of it is believed."""
    shop = Shop("decline")
    made = await started(world, shop, later=shop.later, terms="1", resolve=None)
    await fail_over(made, await lost(made))
    assert (await made.pay(**ASYNC)).status_code == 402
    made.clock.advance(60.0)
    made.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    page = (await made.pay(**ASYNC)).json()["status_url"]
    await made.client.post(f"{page}/cancel", headers={"accept": "application/json"})
    await made.rest()
    assert await told_by(made, page) == ("cancelled", "not_charged")


async def test_an_order_that_comes_from_the_spool_long_after_a_failover_is_told_as_cancelled(world: Worlds) -> None:
    """No run of it has said yet that it is new: the queue says so when it ends, and nobody is told that it may be paid."""
    shop = Shop()
    made = await started(world, shop, later=shop.later, terms="1", resolve=None)
    await fail_over(made, await lost(made))
    await made.guard.engine.epochs.lost_since()
    made.clock.advance(2 * 3600.0)
    now, operations = made.clock.now(), made.guard.engine.operations
    laid: dict[str, Any] = {"kept": True, "client_key": False, "charged_by": "shop", "due_at": now}
    order = Operation("1" * 64, "shop", "POST /pay", "ann", "R", "f", State.QUEUED, now, now, **laid)
    await operations.lay(order)
    await operations.note(order.id, Note("cancel:1", NoteKind.CANCEL, now, generation=1))
    await made.rest()
    ended = await made.store.get(order.id)
    assert ended is not None
    assert (ended.state, ended.money, made.guard.engine.epochs.doubts(ended)) == (State.CANCELLED, "none", False)


@pytest.mark.parametrize(("lost_tail", "end"), [(True, ("held", "unknown")), (False, ("finished", "declined"))])
async def test_a_webhook_of_a_lost_tries_decline_is_no_answer_to_the_call_that_has_none(
    world: Worlds, lost_tail: bool, end: tuple[str, str]
) -> None:
    """The gateway knows no keys: the webhook names the one that both tries went under. Where nothing was lost there was but one."""
    shop = Shop("crash")
    made = await started(world, shop, resolve=None)
    if lost_tail:
        await fail_over(made, await lost(made))
    assert (await made.pay(**ASYNC)).json()["money"] == "unknown"
    order, *_ = (await made.store.search(Query("shop"))).operations
    charged = order.sends[-1]
    word = Note("evt:pay_1", NoteKind.OUTCOME, made.clock.now(), gateway_key=charged.key, outcome=Declined(), through=charged.number)
    await made.guard.engine.operations.note(order.id, word)
    await made.rest()
    order, *_ = (await made.store.search(Query("shop"))).operations
    assert (order.state, order.money) == end


async def test_a_kept_order_whose_new_basket_was_paid_in_a_lost_write_is_not_charged_for_the_old_one(world: Worlds) -> None:
    """The gateway could not be reached, the shopper changed the basket, and that one was charged, under a key of its own: the
    copy has the old basket. A person looks; nothing is charged again."""
    gateway = FakeGateway(*[Does.NOT_CHARGED] * 3)

    async def later(op: Any) -> dict[str, bool]:
        await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
        return {"paid": True}

    kept = rule(later=later, terms="1", key=json_field("cart"))
    made = await world(charging_handler, kept, faulty=True, gateway=gateway, breakers=BreakerPolicy(consecutive_failures=100))
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key=None, **ASYNC)).json()["situation"] == "kept"
    old = await record(made)
    assert (await made.pay(key=None, amount=2500, **ASYNC)).status_code == 202
    made.clock.advance(120.0)
    await made.rest()
    assert [payment.charge.amount_minor for payment in gateway.standing] == [2500]
    await fail_over(made, old)
    await made.rest()
    made.clock.advance(120.0)
    await made.rest()
    assert [payment.charge.amount_minor for payment in gateway.standing] == [2500]
    assert ((await record(made)).state, (await record(made)).why) == ("held", "amount_differs")


async def test_a_press_that_is_turned_away_after_a_lost_payment_is_told_that_it_is_paid(world: Worlds) -> None:
    """Paid, and the record is lost. The shop's basket is empty by now, and its handler says so: that is no "not paid"."""
    gone: list[bool] = []

    async def once(request: Request) -> Response:
        if gone:
            return JSONResponse({"error": "your basket is empty"}, status_code=400)
        gone.append(True)
        return await charging_handler(request)

    made = await world(once, rule(key=json_field("cart")), faulty=True)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay(key=None)).status_code == 201
    await fail_over(made, await lost(made))
    told = await made.pay(key=None, **ASYNC)
    assert (told.json()["money"], len(made.gateway.standing)) == ("charged", 1)


async def test_a_press_that_is_turned_away_after_a_failover_hears_the_shops_own_reason(world: Worlds) -> None:
    """The gateway knows of nothing, or says nothing: the handler's answer goes out as it is."""

    async def rejects(request: Request) -> Response:
        return JSONResponse({"error": "no such postcode"}, status_code=422)

    made = await world(rejects, rule(key=json_field("cart")), faulty=True)
    await made.guard.engine.epochs.lost_since()
    await fail_over(made, await lost(made))
    made.gateway.will_say("find", [Unknown("not_found"), Unknown("not_found"), Unknown("no answer in time")])
    for _ in range(2):
        assert (await made.pay(key=None)).json() == {"error": "no such postcode"}


async def test_a_press_that_fails_after_a_failover_is_told_as_unknown_while_the_gateway_says_nothing(world: Worlds) -> None:
    """It gave no reason of its own, and ours would be "not charged": nobody knows that."""

    async def fails(request: Request) -> Response:
        raise RuntimeError("the stock could not be looked up")

    made = await world(fails, rule(key=json_field("cart")), faulty=True)
    await made.guard.engine.epochs.lost_since()
    await fail_over(made, await lost(made))
    made.gateway.will_say("find", [Unknown("no answer in time")])
    told = await made.pay(key=None, **ASYNC)
    assert (told.status_code, told.json()["money"]) == (202, "unknown")
