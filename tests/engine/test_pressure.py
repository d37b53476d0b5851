"""How hard a gateway is pressed: calls at once, places for look-ups, and second tries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.breaker import BreakerPolicy
from cxguard.engine.engine import Timeouts
from cxguard.engine.pressure import CHARGE, RETRIES_AT_ONCE_MAX, Pressure
from cxguard.errors import ConfigurationError, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def guarded(gateway: FakeGateway, **timeouts: Any) -> AsyncIterator[Guard]:
    clock = ManualClock()
    options: dict[str, Any] = {"secret": SECRET, "keys": KEYS, "duties": False, "clock": clock}
    never = BreakerPolicy(consecutive_failures=10_000, calls_min=10_000)
    settings = Timeouts(pause_seconds=0.0, attempt_seconds=60.0, **timeouts)
    async with Guard(MemoryStore(clock=clock), shop=SHOP, gateways=[gateway], timeouts=settings, breakers=never, **options) as guard:
        yield guard


async def pay(guard: Guard, key: str) -> Any:
    async def call(op: Any) -> str:
        return str((await op.charge(Charge(4999, "EUR", source="tok_ok"))).payment_id)

    return await guard.run(call, purpose="order", key=key, owner="ann", deadline_seconds=60.0)


async def test_more_charges_than_there_are_places_are_surely_not_sent() -> None:
    """Two hang; the third hears it at once, was never sent, and says nothing against the gateway."""
    gateway = FakeGateway(otherwise=Does.HANG)
    async with guarded(gateway, calls_max=2, place_seconds=0.0) as guard:
        hanging = [asyncio.ensure_future(pay(guard, key)) for key in "ab"]
        await gateway.until_hanging(2)
        with pytest.raises(PaymentDeferred, match="gateway_busy"):
            await pay(guard, "c")
        assert gateway.count("charge") == 2
        await gateway.release()
        await asyncio.gather(*hanging)
        gateway.otherwise = Does.CHARGE
        await pay(guard, "c")
    assert len(gateway.standing) == 3


async def test_looking_up_does_not_wait_behind_charges() -> None:
    """Every place for charges is taken by one that hangs: an unknown is resolved all the same."""
    gateway = FakeGateway(Does.CHARGE_THEN_UNKNOWN, otherwise=Does.HANG)
    async with guarded(gateway, calls_max=1, place_seconds=0.0) as guard:
        assert await pay(guard, "a") == "pay_1"
        hanging = asyncio.ensure_future(pay(guard, "b"))
        await gateway.until_hanging()
        async with guard.engine.pressure.place(gateway.name) as free:
            assert free
        await gateway.release()
        await hanging


async def test_who_stops_waiting_takes_no_place_with_them() -> None:
    """Cancelled in line, cancelled inside: afterwards the place is free."""
    pressure = Pressure(calls_max=1, wait_seconds=60.0, retry_share=0.2)
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        async with pressure.place("gw", CHARGE):
            inside.set()
            await go_on.wait()

    first = asyncio.ensure_future(call())
    await inside.wait()
    waiting = [asyncio.ensure_future(call()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in (*waiting, first):
        task.cancel()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    async with pressure.place("gw", CHARGE) as free:
        assert free


async def test_second_tries_are_a_share_of_the_first_ones() -> None:
    """Hundreds of orders at a gateway that refuses them all: not three calls for each."""
    gateway, orders = FakeGateway(otherwise=Does.NOT_CHARGED), 300
    async with guarded(gateway, retry_share=0.2) as guard:
        for number in range(orders):
            with pytest.raises(PaymentDeferred):
                await pay(guard, str(number))
    assert gateway.count("charge") <= orders * 1.2 + RETRIES_AT_ONCE_MAX + 1


@pytest.mark.parametrize("wrong", [{"calls_max": 0}, {"place_seconds": -1.0}, {"retry_share": 1.5}, {"retry_share": -0.1}])
async def test_numbers_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    """With the line to write."""
    with pytest.raises(ConfigurationError, match=rf"write Timeouts\({next(iter(wrong))}="):
        Timeouts(**wrong)


@pytest.mark.parametrize(
    ("name", "value"), [("calls_max", 1), ("place_seconds", 0.0), ("retry_share", 0.0), ("retry_share", 0.5), ("retry_share", 1.0)]
)
async def test_numbers_at_the_edge_are_taken(name: str, value: Any) -> None:
    """One call at a time, no waiting, no second tries at all, or one for each."""
    assert getattr(Timeouts(**{name: value}), name) == value


async def test_second_tries_that_are_saved_up_are_spent_one_by_one() -> None:
    """Twenty while all is well, whatever came before; then each first one allows its share."""
    pressure = Pressure(calls_max=1, wait_seconds=0.0, retry_share=0.5)
    for _ in range(10):
        pressure.tried("gw")
    assert [pressure.may_try_again("gw") for _ in range(22)] == [True] * 20 + [False] * 2
    pressure.tried("gw")
    assert not pressure.may_try_again("gw")
    pressure.tried("gw")
    assert [pressure.may_try_again("gw") for _ in range(2)] == [True, False]
    assert pressure.may_try_again("another"), "each gateway has its own"


async def test_where_the_share_is_nothing_there_is_no_second_try() -> None:
    """Not even a saved one."""
    assert not Pressure(calls_max=1, wait_seconds=0.0, retry_share=0.0).may_try_again("gw")
