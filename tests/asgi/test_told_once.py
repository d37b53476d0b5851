"""The shopper of a kept order is told beside the page: each notice once, in its time, and again only after a crash."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard import AskShopper, Notice
from cxguard.core.notices import TRIES_MAX
from cxguard.core.operation import State
from cxguard.engine import courier
from cxguard.engine.handle import current_operation
from cxguard.engine.queue import ALWAYS_AT_ONCE
from cxguard.errors import ConfigurationError, HookFailed
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.rules import Rule, json_field
from cxguard.stores.memory import MemoryStore
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.faulty_store import Fault

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}
JSON = {"accept": "application/json"}


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
    return {"paid": payment.payment_id}


async def pay(request: Request) -> Response:
    body = await request.json()
    payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok"))
    return JSONResponse({"paid": payment.payment_id}, status_code=201)


def keeping(**changes: Any) -> Rule:
    asked = {"resume_at": "https://shop.example/checkout?resume={token}", "resume_token": json_field("resume")}
    return rule(**{**asked, "contact": json_field("email"), "later": place, "terms": "2026-11", **changes})


async def outage(world: Worlds, notify: Any, *, heard: list[Event] | None = None, faulty: bool = False, **changes: Any) -> World:
    """A shop whose gateway takes no connection, and which sends mails."""
    gateway, listeners = FakeGateway(otherwise=Does.NOT_CHARGED), [heard.append] if heard is not None else []
    return await world(pay, keeping(**changes), gateway=gateway, notify=notify, listeners=listeners, faulty=faulty)


async def submit(shop: World, *, owner: str = "ann", **more: Any) -> Any:
    body = {"amount": 1000, "currency": "EUR", "cart": "c1", "email": "ann@example.org", **more}
    headers = {"x-user": owner, "idempotency-key": "k1", "accept-language": "de", **ASYNC}
    return await shop.client.post("/pay", json=body, headers=headers)


async def work(shop: World, *, after_seconds: float = 60.0) -> None:
    shop.clock.advance(after_seconds)
    await shop.rest()


def kinds(mails: list[Notice]) -> list[str]:
    return [mail.kind.value for mail in mails]


async def test_a_kept_order_that_is_paid_later_is_told_as_accepted_and_then_as_paid(world: Worlds) -> None:
    """Each once, however often the worker looks; with the way to the order's page."""
    mails: list[Notice] = []
    shop = await outage(world, mails.append)
    kept = await submit(shop)
    await work(shop)
    assert kinds(mails) == ["accepted"]
    shop.gateway.otherwise = Does.CHARGE
    for _ in range(5):
        await work(shop, after_seconds=120.0)
    assert kinds(mails) == ["accepted", "paid"]
    accepted, paid = mails
    assert (accepted.contact, accepted.locale, accepted.money, paid.money) == ("ann@example.org", "de", "none", "charged")
    assert (accepted.amount_minor, accepted.currency, accepted.reference) == (1000, "EUR", kept.json()["reference"])
    assert len({mail.id for mail in mails}) == 2
    page = await shop.client.get(accepted.status_path, headers=JSON)
    assert (page.status_code, page.json()["situation"]) == (200, "placed")


async def test_listeners_hear_which_notice_was_given(world: Worlds) -> None:
    """One event for each, with its kind."""
    heard: list[Event] = []
    shop = await outage(world, lambda notice: None, heard=heard)
    await submit(shop)
    shop.gateway.otherwise = Does.CHARGE
    for _ in range(2):
        await work(shop)
    assert [event.detail for event in heard if event.name == "shopper.told"] == [{"kind": "accepted"}, {"kind": "paid"}]


async def test_an_order_that_may_be_an_older_copy_is_not_told_as_not_charged(world: Worlds) -> None:
    """The store has lost its last writes: until the gateway was asked, nobody knows."""
    mails: list[Notice] = []
    shop = await outage(world, mails.append)
    await submit(shop)
    assert isinstance(shop.store, MemoryStore)
    shop.store.go_back(shop.store.copied())
    await work(shop)
    assert [(mail.kind, mail.money) for mail in mails] == [("accepted", "unknown")]


async def test_an_order_that_is_late_says_so_once_and_can_be_cancelled_from_there(world: Worlds) -> None:
    """Past the time that was named; the notice carries the page, and the page cancels."""
    mails: list[Notice] = []
    shop = await outage(world, mails.append)
    await submit(shop)
    for _ in range(12):
        await work(shop, after_seconds=300.0)
    assert kinds(mails) == ["accepted", "delayed"]
    cancelled = await shop.client.post(f"{mails[1].status_path}/cancel", headers=JSON)
    assert cancelled.json()["situation"] == "cancelled"
    await work(shop)
    assert kinds(mails) == ["accepted", "delayed", "cancelled"]


async def test_an_order_that_needs_its_shopper_is_told_with_the_way_on(world: Worlds) -> None:
    """At once, not at the next look at the order; and its end, if nobody comes."""
    mails: list[Notice] = []
    shop = await outage(world, mails.append, revalidate=lambda op: AskShopper(1200))
    await submit(shop)
    await work(shop)
    assert kinds(mails) == ["accepted", "action_needed"]
    assert mails[1].why == "price_up"
    assert (mails[1].resume_url or "").startswith("https://shop.example/checkout?resume=")
    await work(shop, after_seconds=86_401.0)
    assert kinds(mails) == ["accepted", "action_needed", "expired"]
    assert shop.gateway.standing == []


async def test_an_order_on_a_persons_desk_is_told_as_late(world: Worlds) -> None:
    """Nobody touches it, and its shopper hears of the delay all the same."""

    def broken(op: Any) -> Any:
        raise RuntimeError("no prices")

    mails: list[Notice] = []
    shop = await outage(world, mails.append, revalidate=broken)
    await submit(shop)
    await work(shop)
    assert kinds(mails) == ["accepted"]
    await work(shop, after_seconds=1_800.0)
    assert kinds(mails) == ["accepted", "delayed"]


async def test_who_was_there_is_told_by_the_shop_itself(world: Worlds) -> None:
    """A live order, and one that was not kept, owe no notice."""
    mails: list[Notice] = []
    shop = await outage(world, mails.append, can_wait=False)
    await submit(shop)
    shop.gateway.otherwise = Does.CHARGE
    await submit(shop)
    await work(shop)
    assert mails == []


async def test_a_hook_that_fails_is_asked_again_with_the_same_id_and_not_for_ever(world: Worlds) -> None:
    """The order goes its way meanwhile; at last the shop's people hear that its mail is down."""
    mails: list[Notice] = []

    async def broken(notice: Notice) -> None:
        mails.append(notice)
        raise OSError("ann@example.org refused")

    heard: list[Event] = []
    shop = await outage(world, broken, heard=heard)
    await submit(shop)
    shop.gateway.otherwise = Does.CHARGE
    for _ in range(3 * TRIES_MAX):
        await work(shop, after_seconds=900.0)
    assert len(shop.gateway.standing) == 1
    paid = [mail.id for mail in mails if mail.kind == "paid"]
    assert (len(paid), len(set(paid))) == (TRIES_MAX, 1)
    failed = [event.detail for event in heard if event.name == "shopper.not_told" and event.detail["kind"] == "paid"]
    assert [one["final"] for one in failed] == [False] * (TRIES_MAX - 1) + [True]
    assert [one["tries"] for one in failed] == list(range(1, TRIES_MAX + 1))
    assert "ann@" not in str(failed) and failed[0]["why"].startswith("notify hook raised: OSError at test_told_once.py:")


async def test_a_hook_that_hangs_is_bounded_and_holds_up_no_order(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it keep a shopper waiting who cancels."""
    monkeypatch.setattr(courier, "NOTIFY_SECONDS_MAX", 0.01)

    async def hangs(notice: Notice) -> None:
        await asyncio.Event().wait()

    shop = await outage(world, hangs)
    await submit(shop)
    shop.gateway.otherwise = Does.CHARGE
    await work(shop)
    assert len(shop.gateway.standing) == 1


@pytest.mark.parametrize("plain", [False, True])
async def test_a_slow_hook_sends_each_mail_once(world: Worlds, monkeypatch: pytest.MonkeyPatch, plain: bool) -> None:
    """Its mail server takes longer than we wait: it is not called anew while it is at work, and its end is heard of later."""
    monkeypatch.setattr(courier, "NOTIFY_SECONDS_MAX", 0.01)
    mails: list[Notice] = []
    answers = threading.Event()

    def mail(notice: Notice) -> None:
        answers.wait(10.0)
        mails.append(notice)

    async def mail_later(notice: Notice) -> None:
        await asyncio.to_thread(mail, notice)

    heard: list[Event] = []
    shop = await outage(world, mail if plain else mail_later, heard=heard)
    await submit(shop)
    queue, before = shop.guard.queue(), asyncio.all_tasks()
    for _ in range(4):
        shop.clock.advance(60.0)
        await queue.run_once()
    assert mails == []
    answers.set()
    await asyncio.wait(asyncio.all_tasks() - before)
    for _ in range(4):
        shop.clock.advance(300.0)
        await queue.run_once()
    assert kinds(mails) == ["accepted"]
    assert [event.detail["kind"] for event in heard if event.name == "shopper.told"] == ["accepted"]
    failed = [event.detail["why"] for event in heard if event.name == "shopper.not_told"]
    assert failed[0] == "notify hook gave no answer in 0.01 s: it goes on, and its end is looked at later"
    assert set(failed[1:]) == {"notify hook is still at work on this notice, and is not called anew"}


async def test_one_call_finds_out_for_the_others_whether_a_hook_still_hangs() -> None:
    """Those that come while it is under way do not hang with it."""
    rest = courier.Rest(until=100.0)
    rest.begin(100.0)
    with pytest.raises(HookFailed):
        rest.begin(100.0)
    rest.end(began=100.0, now=101.0, failed=False)
    rest.begin(101.0)


async def test_a_hook_that_hangs_is_called_for_one_order_in_a_while(world: Worlds) -> None:
    """And for those that are begun with it. The others are placed without waiting for it; once it goes well, each hears what it is
    owed, once."""
    mails: list[Notice] = []
    hangs, calls = [True], [0]

    async def mail(notice: Notice) -> None:
        calls[0] += 1
        if hangs:
            shop.clock.advance(10.0)
            raise OSError("timed out")
        mails.append(notice)

    shop = await outage(world, mail)
    for number in range(ALWAYS_AT_ONCE + 1):
        assert (await submit(shop, owner=f"u{number}", cart=f"c{number}")).status_code == 202
    shop.gateway.otherwise = Does.CHARGE
    shop.clock.advance(60.0)
    queue = shop.guard.queue()
    for _ in range(6):
        await queue.run_once()
        shop.clock.advance(4.0)
    assert (len(shop.gateway.standing), calls) == (ALWAYS_AT_ONCE + 1, [ALWAYS_AT_ONCE])
    hangs.clear()
    for _ in range(6):
        shop.clock.advance(60.0)
        await queue.run_once()
    assert sorted(kinds(mails)) == ["paid"] * (ALWAYS_AT_ONCE + 1)


async def test_a_hook_that_is_slow_and_works_is_called_for_every_order(world: Worlds, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for one that hangs, and called for one order in half a minute: the others ran out of tries, and heard nothing."""
    monkeypatch.setattr(courier, "NOTIFY_SECONDS_MAX", 0.01)
    mails: list[Notice] = []
    answers = asyncio.Event()

    async def mail(notice: Notice) -> None:
        shop.clock.advance(courier.SLOW_SECONDS)
        await answers.wait()
        mails.append(notice)

    shop = await outage(world, mail)
    for number in range(2 * ALWAYS_AT_ONCE):
        assert (await submit(shop, owner=f"u{number}", cart=f"c{number}")).status_code == 202
    queue, before = shop.guard.queue(), asyncio.all_tasks()
    shop.clock.advance(60.0)
    await queue.run_once()
    answers.set()
    await asyncio.wait(asyncio.all_tasks() - before)
    assert len(mails) == ALWAYS_AT_ONCE
    await queue.run_once()
    assert len({mail.id for mail in mails}) == len(mails) == 2 * ALWAYS_AT_ONCE


async def test_a_shopper_who_cancels_does_not_wait_for_a_mail(world: Worlds) -> None:
    """The notice is the worker's; the shopper's own request only cancels."""
    mails: list[Notice] = []
    shop = await outage(world, mails.append)
    kept = await submit(shop)
    cancelled = await shop.client.post(f"{kept.json()['status_url']}/cancel", headers=JSON)
    assert (cancelled.json()["situation"], mails) == ("cancelled", [])
    await work(shop)
    assert kinds(mails) == ["cancelled"]


async def test_a_worker_that_dies_after_the_mail_went_out_gives_it_again_under_the_same_id(world: Worlds) -> None:
    """The save that would have kept its success was lost, twice: at least once, and known by its id."""
    mails: list[Notice] = []

    def mail(notice: Notice) -> None:
        mails.append(notice)
        if len(mails) == 1:
            faults.plan("save", Fault.NOT_DONE, times=2)

    shop = await outage(world, mail, faulty=True)
    faults: Any = shop.store
    await submit(shop)
    await work(shop)
    await work(shop, after_seconds=120.0)
    accepted = [one.id for one in mails if one.kind == "accepted"]
    assert (len(accepted), len(set(accepted))) == (2, 1)
    shop.gateway.otherwise = Does.CHARGE
    await work(shop, after_seconds=300.0)
    assert len(shop.gateway.standing) == 1
    assert kinds(mails)[-1] == "paid"


async def test_a_hook_that_is_none_is_refused_at_the_start(world: Worlds) -> None:
    """With the line to write."""
    with pytest.raises(ConfigurationError, match="notify='mail' cannot be called: write Guard"):
        await world(pay, rule(), notify="mail")


async def test_without_a_hook_an_ended_order_is_done(world: Worlds) -> None:
    """Nothing is due by itself any more."""
    shop = await outage(world, None)
    await submit(shop)
    shop.gateway.otherwise = Does.CHARGE
    await work(shop)
    from cxguard.stores.base import Query

    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (order.state, order.due_at, order.notices) == (State.FINISHED, None, ())


@pytest.mark.parametrize(("seconds", "failed", "rests"), [(courier.SLOW_SECONDS, True, True), (0.1, True, False), (60.0, False, False)])
async def test_only_a_hook_that_hangs_is_left_alone_for_a_while(seconds: float, failed: bool, rests: bool) -> None:
    """One that fails at once costs nobody anything, and one that is slow has told its shopper."""
    rest = courier.Rest()
    rest.begin(0.0)
    rest.end(began=0.0, now=seconds, failed=failed)
    assert (rest.until is not None) is rests


@pytest.mark.parametrize(("after_seconds", "rests"), [(courier.REST_SECONDS - 1.0, False), (courier.REST_SECONDS, True)])
async def test_a_hook_that_fails_now_and_then_is_called_on(after_seconds: float, rests: bool) -> None:
    """What went well a moment ago speaks for it; of two calls at once, one may time out."""
    rest = courier.Rest()
    rest.end(began=0.0, now=5.0, failed=False)
    rest.end(began=0.0, now=5.0 + after_seconds, failed=True)
    assert (rest.until is not None) is rests
