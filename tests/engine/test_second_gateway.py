"""A second gateway, by an ordered list: only after a known not-charge at the first, and on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from shopworld import KEYS, SECRET, SHOP, charging_handler, rule
from starlette.applications import Starlette
from starlette.routing import Route

from cxguard.asgi import GuardMiddleware
from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged, NeedsShopper, NotCharged, Unknown
from cxguard.engine.library import Purpose
from cxguard.engine.pressure import CHARGE
from cxguard.errors import ConfigurationError, PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import OPERATION_MEMBER, Charge
from cxguard.guard import Guard
from cxguard.stores.base import Level, Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Call, Does, FakeGateway, FakePayment, PaymentState

pytestmark = pytest.mark.asyncio

BUY = Charge(4999, "EUR", source="tok_first", sources={"second:test": "tok_second"})


@dataclass
class Two:
    guard: Guard
    first: FakeGateway
    second: FakeGateway
    clock: ManualClock

    async def pay(self, charge: Charge = BUY) -> Any:
        async def call(op: Any) -> str:
            payment: Charged = await op.charge(charge)
            return payment.payment_id

        return await self.guard.run(call, purpose="order", key="o1", owner="ann", deadline_seconds=5.0)

    async def record(self) -> Operation:
        return (await self.guard.store.search(Query(namespace="shop"))).operations[0]

    @property
    def standing(self) -> tuple[int, int]:
        return len(self.first.standing), len(self.second.standing)


@asynccontextmanager
async def two(*script: Does, level: Level = Level.FSYNC, later: Any = None) -> AsyncIterator[Two]:
    class Store(MemoryStore):
        pass

    Store.level = level
    clock = ManualClock()
    first, second = FakeGateway(*script, name="first:test"), FakeGateway(name="second:test")
    purpose = Purpose("order", gateways=("first:test", "second:test"), later=later)
    options: dict[str, Any] = {"secret": SECRET, "keys": KEYS, "duties": False, "clock": clock, "purposes": [purpose]}
    breakers = BreakerPolicy(consecutive_failures=3)
    async with Guard(Store(clock=clock), shop=SHOP, gateways=[first, second], breakers=breakers, **options) as guard:
        yield Two(guard, first, second, clock)


@pytest.mark.parametrize("does", [Does.NOT_CHARGED, Does.THROTTLE])
async def test_what_was_surely_not_charged_goes_to_the_second(does: Does) -> None:
    """Its own key, its own token, its own line; the change is in the timeline."""
    async with two(*[does] * 3) as shop:
        await shop.pay()
        record = await shop.record()
        assert shop.standing == (0, 1)
        assert shop.second.payments[0].charge.source == "tok_second"
        assert len({send.key for send in record.sends}) == 2
        assert [entry.detail["to"] for entry in record.history if entry.event == "payment.rerouted"] == ["second:test"]


@pytest.mark.parametrize("does", [Does.UNKNOWN, Does.CHARGE_THEN_UNKNOWN, Does.NEEDS_SHOPPER, Does.REFUSE, Does.RAISE])
async def test_nothing_else_goes_to_the_second(does: Does) -> None:
    """An unknown may be a charge; a refusal is about this order."""
    async with two(does) as shop:
        try:
            await shop.pay()
        except PaymentDeferred:
            pass
        assert shop.second.calls == []


async def test_a_decline_is_the_issuers_word_everywhere() -> None:
    """No second opinion is asked for."""
    async with two(Does.DECLINE) as shop:
        with pytest.raises(PaymentDeclined):
            await shop.pay()
        assert shop.second.calls == []


async def test_an_open_breaker_sends_new_orders_to_the_second_at_once() -> None:
    """Nothing is sent to the first at all."""
    async with two() as shop:
        for _ in range(3):
            breakers = shop.guard.engine.breakers
            ticket = breakers.admit("first:test", "charge")
            ticket.settle(NotCharged("not sent", retryable=True), 0.1)  # type: ignore[union-attr]
        await shop.pay()
        assert (shop.first.count("charge"), shop.standing) == (0, (0, 1))


async def test_what_is_charged_at_the_second_is_not_tried_at_the_first_again() -> None:
    """The same step, run again: what is known decides, wherever it is."""
    async with two(*[Does.NOT_CHARGED] * 3) as shop:

        async def call(op: Any) -> list[str]:
            return [(await op.charge(BUY)).payment_id for _ in range(3)]

        assert await shop.guard.run(call, purpose="order", key="o1", owner="ann") == ["pay_1"] * 3
        assert shop.standing == (0, 1)


async def test_an_unknown_at_the_second_is_resolved_there() -> None:
    """Not at the first, and by its own key."""
    async with two(*[Does.NOT_CHARGED] * 3) as shop:
        shop.second.will(Does.CHARGE_THEN_UNKNOWN)
        await shop.pay()
        assert (shop.standing, shop.second.count("find"), shop.first.count("find")) == ((0, 1), 1, 0)


async def test_without_a_token_the_second_is_not_asked() -> None:
    """The first gateway's token says nothing to another one."""
    async with two(*[Does.NOT_CHARGED] * 3) as shop:
        with pytest.raises(PaymentDeferred):
            await shop.pay(Charge(4999, "EUR", source="tok_first"))
        assert shop.second.calls == []


async def test_on_a_store_that_may_forget_there_is_no_second() -> None:
    """The line that says "the first was asked" could be lost."""
    async with two(*[Does.NOT_CHARGED] * 3, level=Level.BEST_EFFORT) as shop:
        with pytest.raises(PaymentDeferred):
            await shop.pay()
        assert shop.second.calls == []


async def test_a_refund_goes_where_the_charge_is() -> None:
    """Also days later."""
    async with two(*[Does.NOT_CHARGED] * 3) as shop:
        await shop.pay()
        async with shop.guard.resume(reference=(await shop.record()).reference) as op:
            await op.refund(1000)
        assert (shop.second.count("refund"), shop.first.count("refund")) == (1, 0)


async def test_the_operations_id_travels_with_the_payment() -> None:
    """So that a webhook, or a list, finds the way back."""
    async with two() as shop:
        await shop.pay()
        assert shop.first.payments[0].charge.metadata[OPERATION_MEMBER] == (await shop.record()).id


async def test_a_name_that_no_gateway_has_is_refused_at_the_start() -> None:
    """By rule and by purpose; it says which ones there are."""
    store = MemoryStore(clock=ManualClock())
    for options in ({"rules": [rule(gateway=("first:test", "third:test"))]}, {"purposes": [Purpose("p", gateways=("third:test",))]}):
        with pytest.raises(ConfigurationError, match="'third:test'; the guard has 'first:test', 'second:test': add it"):
            Guard(store, shop=SHOP, gateways=[FakeGateway(name="first:test"), FakeGateway(name="second:test")], **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="'third:test'; the guard has none: add it"):
        Guard(store, shop=SHOP, purposes=[Purpose("p", gateways=("third:test",))])


@pytest.mark.parametrize("why", ["gateway_busy", "gateway_down"])
async def test_what_our_own_side_kept_from_the_first_goes_to_the_second(why: str) -> None:
    """No place there, or its breaker open: surely not sent, for a reason that lies with that gateway."""
    async with two() as shop:
        engine = shop.guard.engine
        if why == "gateway_down":
            engine.breakers.force("first:test", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
            await shop.pay()
        else:
            async with AsyncExitStack() as stack:
                for _ in range(engine.timeouts.calls_max):
                    await stack.enter_async_context(engine.pressure.place("first:test", CHARGE))
                await shop.pay()
        assert (shop.first.count("charge"), shop.standing) == (0, (0, 1))
        rerouted = [entry.detail for entry in (await shop.record()).history if entry.event == "payment.rerouted"]
        assert [detail["why"] for detail in rerouted] == [why]


async def test_a_late_success_at_the_first_goes_back_and_what_the_shop_was_told_stays() -> None:
    """The shop has the second payment's name on its order, and captures or refunds that one."""
    async with two(*[Does.THROTTLE] * 3) as shop:
        told = await shop.pay()
        key = (await shop.record()).sends[0].key
        shop.first.payments.append(FakePayment("late", key, BUY, PaymentState.CHARGED))
        await shop.guard.note(Charged(4999, "EUR", payment_id="late"), event_id="evt_1", gateway_key=key)
        shop.clock.advance(60.0)
        await shop.guard.queue().run_once()
        assert shop.standing == (0, 1)
        assert shop.second.standing[0].id == told


async def test_payment_that_waits_for_its_shopper_at_the_first_is_called_off_there() -> None:
    """A webhook tells of it after the second was charged. The second has never heard of that key, and its word would say nothing."""
    async with two(*[Does.THROTTLE] * 3) as shop:
        await shop.pay()
        key = (await shop.record()).sends[0].key
        await shop.guard.note(NeedsShopper("3ds"), event_id="evt_1", gateway_key=key)
        shop.clock.advance(60.0)
        await shop.guard.queue().run_once()
        assert (Call("cancel", key) in shop.first.calls, Call("cancel", key) in shop.second.calls) == (True, False)


async def test_without_an_order_of_gateways_the_first_is_the_only_one() -> None:
    """A token for the second says that it could charge there, not that it may."""
    async with two(*[Does.NOT_CHARGED] * 3) as shop:
        shop.guard.purposes["order"] = Purpose("order")
        with pytest.raises(PaymentDeferred):
            await shop.pay()
        assert shop.second.count("charge") == 0


async def test_without_any_gateway_a_charge_says_what_to_write() -> None:
    """And nothing is kept that would wait for one."""
    clock = ManualClock()
    async with Guard(MemoryStore(clock=clock), shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock) as guard:

        async def call(op: Any) -> None:
            await op.charge(BUY)

        with pytest.raises(ConfigurationError, match=r"\(there is none\): Guard\(..., gateways="):
            await guard.run(call, purpose="order", key="o1", owner="ann")


async def test_what_is_unknown_at_a_second_gateway_with_keys_is_sent_there_again() -> None:
    """What the first one cannot do says nothing about it."""
    async with two(*[Does.NOT_CHARGED] * 3, later=_place) as shop:
        shop.first.keyed = False
        shop.second.will(Does.CHARGE_THEN_UNKNOWN)
        shop.second.will_say("find", [Unknown("no answer in time")] * 2)
        with pytest.raises(PaymentDeferred):
            await shop.pay()
        shop.clock.advance(60.0)
        await shop.guard.queue().run_once()
        assert (shop.second.count("charge"), shop.standing) == (2, (0, 1))


async def test_queue_works_without_any_gateway() -> None:
    """A script of a shop whose payments are elsewhere: what it left behind comes to its end."""
    clock = ManualClock()
    options: dict[str, Any] = {"secret": SECRET, "keys": KEYS, "duties": False, "clock": clock, "purposes": [Purpose("order")]}
    async with Guard(MemoryStore(clock=clock), shop=SHOP, **options) as guard:

        async def call(op: Any) -> None:
            await op.step("book", lambda: 1)
            raise OSError("no route")

        with pytest.raises(OSError, match="no route"):
            await guard.run(call, purpose="order", key="o1", owner="ann")
        clock.advance(2 * 86_400.0)
        await guard.queue().run_once()
        (order,) = (await guard.store.search(Query(namespace="shop"))).operations
        assert order.state is State.CANCELLED


async def _place(op: Any) -> None:
    await op.charge(BUY)


async def test_request_is_charged_at_the_gateway_of_its_rule() -> None:
    """Not at the guard's first one."""
    clock, first, second = ManualClock(), FakeGateway(name="first:test"), FakeGateway(name="second:test")
    options: dict[str, Any] = {"secret": SECRET, "keys": KEYS, "duties": False, "clock": clock, "rules": [rule(gateway="second:test")]}
    async with Guard(MemoryStore(clock=clock), shop=SHOP, gateways=[first, second], **options) as guard:
        app = GuardMiddleware(Starlette(routes=[Route("/pay", charging_handler, methods=["POST"])]), guard=guard)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
            headers = {"x-user": "ann", "idempotency-key": "k1"}
            answer = await client.post("/pay", json={"amount": 1000, "currency": "EUR", "cart": "c1"}, headers=headers)
    assert (answer.status_code, len(first.payments), len(second.standing)) == (201, 0, 1)
