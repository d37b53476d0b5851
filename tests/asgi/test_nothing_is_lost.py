"""No order is charged that nobody was told of, none goes nowhere, and none comes again for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from between import between
from shopworld import World, Worlds, charging_handler, rule
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import Operation, State, WaitingFor, money_of
from cxguard.core.outcomes import Charged, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.reading import Reading
from cxguard.core.standing import standing_outcome
from cxguard.engine.casefile import Actor
from cxguard.engine.desk import Desk
from cxguard.errors import PaymentDeclined, PaymentDeferred, StoreUnavailable
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.rules import json_field, per_purchase
from cxguard.stores.base import Query
from cxguard.testing import Fault
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}
JSON = {"accept": "application/json"}


async def place(op: Any) -> dict[str, str]:
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return {"paid": payment.payment_id}


def keeping(**changes: Any) -> Any:
    return rule(**{"later": place, "terms": "2026-01", **changes})


async def only(shop: World) -> Operation:
    page = await shop.store.search(Query(namespace="shop"))
    assert len(page.operations) == 1
    return page.operations[0]


async def test_an_order_that_was_refused_with_503_is_never_charged_later(world: Worlds) -> None:
    """The store took the record, but its answer was lost twice: the shopper heard 503, so nothing may be charged."""
    shop = await world(charging_handler, keeping(), faulty=True)
    shop.store.plan("open", Fault.ANSWER_LOST, times=2)  # type: ignore[attr-defined]
    answer = await shop.pay(**ASYNC)
    assert answer.status_code == 503
    shop.clock.advance(60.0)
    await shop.rest()
    assert shop.gateway.payments == []
    assert (await shop.pay(**ASYNC)).status_code == 201


async def test_the_page_of_a_kept_order_stays_when_its_key_is_sent_again_in_vain(world: Worlds) -> None:
    """Accepted is accepted: the order ends as cancelled on its page, not as an order that never was."""

    async def declined(op: Any) -> dict[str, str]:
        raise PaymentDeclined

    heard: list[Event] = []
    shop = await world(charging_handler, keeping(later=declined), listeners=[heard.append])
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC)
    shop.clock.advance(60.0)
    await shop.rest()
    page = await shop.client.get(kept.json()["status_url"], headers=JSON)
    assert (page.status_code, page.json()["situation"], page.json()["money"]) == (200, "cancelled", "not_charged")
    assert [event.detail for event in heard if event.name == "order.cancelled"] == [{"why": "declined"}]


async def test_a_store_that_is_away_is_not_told_as_no_such_order(world: Worlds) -> None:
    """The status page of an order that was accepted says that we cannot look now."""
    shop = await world(charging_handler, keeping(), faulty=True)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC)
    shop.store.plan("get", Fault.NOT_DONE)  # type: ignore[attr-defined]
    page = await shop.client.get(kept.json()["status_url"], headers=JSON)
    assert (page.status_code, page.json()["situation"], page.json()["money"]) == (503, "store_away", "unknown")


async def test_a_failed_page_over_a_charge_reaches_nobody_also_after_a_person_closed_the_order(world: Worlds) -> None:
    """Held as paid: neither the status page nor the retry after the desk's "placed" gives the handler's "declined"."""

    async def lying(request: Request) -> Response:
        await charging_handler(request)
        return HTMLResponse("<h1>Your card was declined</h1>", status_code=402)

    shop = await world(lying)
    told = await shop.pay()
    url, reference = told.json()["status_url"], told.json()["reference"]
    assert (await shop.client.get(f"{url}/answer", headers={"x-user": "ann"})).status_code == 404
    desk = Desk(shop.guard.engine, rules={each.name: each for each in shop.guard.rules}, purposes={})
    assert (await desk.finish(reference, Actor("kim", "placed by phone"))).done
    retry = await shop.pay()
    assert (retry.status_code, retry.json()["money"]) == (200, "charged")


async def test_a_shopper_who_never_comes_back_from_the_bank_is_not_waited_for_for_ever(world: Worlds) -> None:
    """The process died before it heard of the one more step; a look-up tells of it, and the order has an end of its own."""
    shop = await world(charging_handler, rule(give_up_seconds=600.0))
    shop.gateway.will(Does.NEEDS_SHOPPER)
    store = between(shop)

    async def dies(operation: Operation, *, keep_lease: bool, **_: Any) -> None:
        if keep_lease:
            store.before["save"] = dies
        else:
            store.before["save"] = again
            raise StoreUnavailable("away")

    async def again(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    store.before["save"] = dies
    await shop.pay()
    for _ in range(30):
        shop.clock.advance(61.0)
        await shop.rest()
    operation = await only(shop)
    assert (operation.state, money_of(operation).state) == (State.CANCELLED, MoneyState.NONE)


async def test_an_answer_that_the_queue_could_not_save_is_kept_as_a_fact(world: Worlds) -> None:
    """A gateway without look-ups: the charge that a worker heard of is not forgotten with its lease."""
    gateway = FakeGateway(keyed=False)
    shop = await world(charging_handler, keeping(), gateway=gateway)
    gateway.will(*[Does.NOT_CHARGED] * 3)
    await shop.pay(**ASYNC)
    gateway.will_say("find", [Unknown("no look-ups here")] * 50)
    store = between(shop)
    ends = 0

    async def away(operation: Operation, *, keep_lease: bool, **_: Any) -> None:
        nonlocal ends
        ends += not keep_lease
        if ends < 2:
            store.before["save"] = away
        if not keep_lease:
            raise StoreUnavailable("away")

    store.before["save"] = away
    shop.clock.advance(60.0)
    await shop.rest()
    assert money_of(await only(shop)).state is MoneyState.CHARGED
    shop.clock.advance(60.0)
    await shop.rest()
    assert len(gateway.payments) == 1
    assert (await only(shop)).state is State.FINISHED


async def test_an_order_that_was_placed_but_returned_what_cannot_be_kept_is_placed_once(world: Worlds) -> None:
    """`later` gave an object that is not JSON: it is held for a person, and not placed again every half minute."""
    placed: list[str] = []

    async def careless(op: Any) -> Any:
        await place(op)
        placed.append(op.reference)
        return object()

    shop = await world(charging_handler, keeping(later=careless))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    await shop.pay(**ASYNC)
    for _ in range(5):
        shop.clock.advance(60.0)
        await shop.rest()
    operation = await only(shop)
    assert (len(placed), operation.state, operation.why) == (1, State.HELD, "result_not_kept")


async def test_an_order_that_fails_in_a_way_nobody_foresaw_is_shown_to_a_person(
    world: Worlds, caplog: pytest.LogCaptureFixture
) -> None:
    """Its kept charge cannot be opened any more: it is held, and does not come again for ever."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(Does.UNKNOWN)
    told = await shop.pay(**ASYNC)
    operation = await only(shop)
    sealed = operation.sends[0].parcel or ""
    store = between(shop)

    async def damage(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    store.before["note"] = damage
    shop.gateway.will_say("find", [NotCharged("cancelled")])
    shop.clock.advance(60.0)
    await shop.rest()
    assert sealed
    assert told.status_code == 202
    assert ((await only(shop)).state, (await only(shop)).why) == (State.HELD, "attend_failed")
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cxguard.queue"]
    assert (line["event"], line["reference"], line["error"]) == ("order.not_attended", operation.reference, "ValueError")


async def test_an_answer_that_went_out_before_its_process_died_is_not_run_again_by_the_next_submit(world: Worlds) -> None:
    """The early answer is on record, the end is not: the retry does not place the order a second time."""
    runs: list[int] = []
    forever = asyncio.Event()

    async def handler(request: Request) -> Response:
        runs.append(1)
        return JSONResponse({"free": True}, status_code=201, background=BackgroundTask(forever.wait))

    shop = await world(handler, rule(settle_seconds=0.0))
    first = asyncio.create_task(shop.pay(amount=0))
    for _ in range(200):
        await asyncio.sleep(0)
        if (await shop.store.search(Query(namespace="shop"))).operations[:1] and (await only(shop)).answer:
            break
    shop.clock.advance(60.0)
    await shop.pay(amount=0)
    operation = await only(shop)
    assert (runs, operation.state, operation.why) == ([1], State.HELD, "answered_not_confirmed")
    forever.set()
    await first


async def test_an_app_that_cancels_itself_is_answered_at_once(world: Worlds) -> None:
    """Some frameworks cancel a view by themselves: what it did is unknown, and the shopper is told so."""

    async def handler(request: Request) -> Response:
        await charging_handler(request)
        raise asyncio.CancelledError

    shop = await world(handler)
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["money"]) == (202, "charged")
    assert (await only(shop)).lease is None


async def test_a_kept_order_that_is_found_by_its_owner_can_be_opened(world: Worlds) -> None:
    """Under `per_purchase` the next submit has another name: what it keeps is sealed for the record it belongs to."""
    reads = {Reading.SUCCEEDED: lambda answer: answer.status == 201}
    shop = await world(charging_handler, keeping(key=per_purchase("GET /thanks"), purchase=(json_field("cart"),), reads=reads))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    first = await shop.pay(key=None, amount=1000, **ASYNC)
    second = await shop.pay(key=None, amount=700, **ASYNC)
    assert (first.status_code, second.status_code) == (202, 202)
    shop.clock.advance(60.0)
    await shop.rest()
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [700]


async def test_a_no_about_what_was_sent_does_not_settle_what_is_sent_later(world: Worlds) -> None:
    """A webhook says that the first try came to nothing; the second try under the same name is still unknown."""
    gateway = FakeGateway(keyed=False)
    shop = await world(charging_handler, keeping(), gateway=gateway)
    gateway.will(*[Does.NOT_CHARGED] * 3, Does.CHARGE_THEN_UNKNOWN)
    gateway.will_say("find", [Unknown("not_found")] * 50)
    await shop.pay(**ASYNC)
    await shop.guard.note(NotCharged("expired"), event_id="evt", gateway_key=(await only(shop)).sends[0].key)
    shop.clock.advance(60.0)
    await shop.rest()
    assert money_of(await only(shop)).state is MoneyState.UNKNOWN
    for _ in range(20):
        shop.clock.advance(600.0)
        await shop.rest()
    assert len(gateway.payments) == 1
    assert (await only(shop)).state is State.HELD


async def test_a_webhook_with_another_amount_is_not_taken_for_the_payment(world: Worlds) -> None:
    """One cent for an order of ten euros is no payment of it: a person looks."""
    shop = await world()
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("not_found")])
    await shop.pay()
    key = (await only(shop)).sends[0].key
    noted = await shop.guard.note(Charged(1, "EUR", "pay_9"), event_id="evt", gateway_key=key)
    assert money_of(noted).state is MoneyState.UNKNOWN


async def test_a_fact_without_its_record_does_not_shut_the_owner_out(world: Worlds) -> None:
    """The record was lost, a note came, and the same key is sent again: its owner is told what is known."""
    shop = await world()
    await shop.pay()
    lost = await only(shop)
    other = await world()
    note = Note("evt", NoteKind.OUTCOME, other.clock.now(), gateway_key="k", outcome=Charged(1000, "EUR", "pay_1"))
    await other.store.note(lost.id, note, namespace="shop")
    answer = await other.pay()
    assert (answer.status_code, answer.json()["money"]) == (202, "charged")
    assert other.gateway.payments == []


async def test_a_gateway_that_never_says_anything_about_a_charge_ends_on_the_desk(world: Worlds) -> None:
    """No keys, no look-ups, no cancelling: within a day the order is a person's, and the gateway is not asked every second."""
    gateway = FakeGateway(keyed=False)
    shop = await world(charging_handler, rule(give_up_seconds=3600.0), gateway=gateway)
    gateway.will(Does.UNKNOWN)
    for verb in ("find", "cancel"):
        gateway.will_say(verb, [Unknown("silence")] * 1000)
    told = await shop.pay(**ASYNC)
    await shop.client.post(f"{told.json()['status_url']}/cancel", headers=JSON)
    for _ in range(200):
        shop.clock.advance(60.0)
        await shop.rest(rounds=3)
    operation = await only(shop)
    assert (operation.state, operation.waiting_for) == (State.HELD, WaitingFor.AGENT)
    assert gateway.count("cancel") < 100


def _line(outcome: Outcome) -> Send:
    return Send(1, "fake:test", "k", "charge", 1, SendKind.CHARGE, 1000, "EUR", 0.0, keyed=False, outcome=outcome)


def _record(*sends: Send, notes: tuple[Note, ...] = ()) -> Operation:
    names: dict[str, Any] = dict.fromkeys(("namespace", "rule", "owner", "reference", "fingerprint"), "x")
    return Operation(id="1", state=State.RUNNING, created_at=0.0, updated_at=0.0, sends=sends, notes=notes, **names)


async def test_a_key_that_only_a_refund_tells_of_is_not_free_to_be_charged() -> None:
    """Part of it went back, so there was a charge: a gateway without keys would take the money again."""
    part = Note("evt", NoteKind.OUTCOME, 0.0, gateway_key="k", outcome=Refunded(300, "EUR"))
    operation = _record(_line(Unknown("no answer")), notes=(part,))
    assert isinstance(standing_outcome(operation, "k"), Unknown)


async def test_a_waiting_shopper_finds_the_way_to_the_bank_also_when_only_a_look_up_told_of_it(world: Worlds) -> None:
    """The link of the one more step is on the status page, wherever it was learned."""
    shop = await world()
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("silence"), NeedsShopper("3ds", resume_url="https://bank.example/1")])
    told = await shop.pay(**ASYNC)
    shop.clock.advance(60.0)
    await shop.rest()
    page = await shop.client.get(told.json()["status_url"], headers=JSON)
    assert page.json()["situation"] == "needs_shopper"
    assert "bank.example/1" in page.text


async def test_a_result_that_a_script_cannot_keep_ends_its_lease(world: Worlds) -> None:
    """The script hears of it at once; the paid operation is a person's, and not locked until its time is over."""
    shop = await world()

    async def work(op: Any) -> Any:
        await op.charge(Charge(1000, "EUR", source="tok_ok"))
        return object()

    with pytest.raises(TypeError, match="cannot be kept"):
        await shop.guard.run(work, purpose="pay", key="1", owner="ann", amount_minor=1000, currency="EUR")
    operation = await only(shop)
    assert (operation.lease, operation.state, operation.why) == (None, State.HELD, "result_not_kept")


@pytest.mark.parametrize(("results", "state"), [(1, State.FINISHED), (2, State.FINISHED), (0, State.HELD)])
async def test_a_result_that_is_kept_after_one_that_could_not_be_ends_the_operation(world: Worlds, results: int, state: State) -> None:
    """Nobody has to look at what the script has put right itself."""
    shop = await world()
    async with shop.guard.operation(purpose="pay", key="1", owner="ann", amount_minor=1000, currency="EUR") as op:
        await op.charge(Charge(1000, "EUR", source="tok_ok"))
        for _ in range(max(1, results)):
            with pytest.raises(TypeError, match="cannot be kept"):
                op.keep(object())
        if results:
            op.keep({"invoice": 7})
    assert (await only(shop)).state is state


async def test_a_script_whose_charge_came_to_nothing_can_be_run_again_under_its_key(world: Worlds) -> None:
    """The queue knows a script's purpose from its first use: it finds out by itself, and the next run charges once."""
    shop = await world()

    async def work(op: Any) -> str:
        return (await op.charge(Charge(1000, "EUR", source="tok_ok"))).payment_id

    async def run() -> str:
        return await shop.guard.run(work, purpose="pay", key="1", owner="ann", amount_minor=1000, currency="EUR")

    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("not_found"), NotCharged("nothing under this key")])
    with pytest.raises(PaymentDeferred):
        await run()
    shop.clock.advance(60.0)
    await shop.rest()
    assert (await only(shop)).state is State.CANCELLED
    assert await run() == "pay_1"
    assert len(shop.gateway.standing) == 1
