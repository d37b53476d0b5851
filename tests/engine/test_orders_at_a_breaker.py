"""What an open breaker means for the orders that meet it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from lostworld import KEY, SECRET, place
from shopworld import SHOP, World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.breaker_policy import BreakerPolicy
from cxguard.core.operation import Operation
from cxguard.core.outcomes import NotCharged, Outcome
from cxguard.engine.library import Purpose
from cxguard.errors import PaymentDeferred
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


class Shop:
    """A guard whose gateway takes no connection."""

    def __init__(self, policy: BreakerPolicy, *purposes: Purpose) -> None:
        self.clock, self.gateway = ManualClock(), FakeGateway()
        self.gateway.otherwise = Does.NOT_CHARGED
        options: dict[str, Any] = {"secret": SECRET, "keys": [KEY], "duties": False, "clock": self.clock, "purposes": purposes}
        self.guard = Guard(MemoryStore(clock=self.clock), shop=SHOP, gateways=[self.gateway], breakers=policy, **options)

    async def press(self, key: str) -> int:
        """How often the gateway is called for it."""
        before = self.gateway.count("charge")
        with pytest.raises(PaymentDeferred):
            await self.guard.run(place, purpose="order", key=key, owner="ann", deadline_seconds=5.0)
        return self.gateway.count("charge") - before

    async def newest(self) -> Operation:
        return (await self.guard.store.search(Query(namespace="shop"))).operations[0]


@asynccontextmanager
async def outage(policy: BreakerPolicy, *purposes: Purpose) -> AsyncIterator[Shop]:
    shop = Shop(policy, *purposes)
    async with shop.guard:
        assert await shop.press("the one that opens it") == policy.consecutive_failures
        yield shop


async def test_order_that_meets_an_open_breaker_is_due_when_that_lets_something_through() -> None:
    """Not earlier, and it has not used up one of its attempts."""
    async with outage(BreakerPolicy(consecutive_failures=3, open_seconds=50.0), Purpose("order", later=place)) as shop:
        shop.clock.advance(10.0)
        assert await shop.press("o1") == 0
        kept = await shop.newest()
        assert kept.due_at is not None and 30.0 <= kept.due_at - shop.clock.now() <= 90.0
        assert (kept.why, kept.attempts) == ("gateway_down", 0)


async def test_kept_order_that_its_script_runs_again_is_waited_for_no_longer_than_was_promised() -> None:
    """Its shopper was told until when: another try moves that no further."""
    async with outage(BreakerPolicy(consecutive_failures=3, open_seconds=50.0), Purpose("order", later=place)) as shop:
        await shop.press("o1")
        promised = (await shop.newest()).give_up_at
        shop.clock.advance(10.0)
        await shop.press("o1")
        again = await shop.newest()
        assert (again.kept, again.give_up_at) == (True, promised)


async def seconds_until_called(shop: Shop, key: str) -> int:
    """Its shopper presses each second."""
    for second in range(1, 60):
        shop.clock.advance(1.0)
        if await shop.press(key):
            return second
    raise AssertionError("the gateway was never called again")


@pytest.mark.parametrize(("following", "least", "most"), [("o1", 15, 20), ("o2", 1, 10)])
async def test_order_that_failed_as_a_probe_is_not_the_next_one(following: str, least: int, most: int) -> None:
    """The fault may be its own: another order probes as soon as one may, and that one after a while."""
    async with outage(BreakerPolicy(consecutive_failures=3)) as shop:
        assert await seconds_until_called(shop, "o1") < 10
        assert least <= await seconds_until_called(shop, following) <= most


class OwnCharging:
    """Charges by itself, and fails; its books know of nothing."""

    def __init__(self) -> None:
        self.tries = 0

    async def pay(self, request: Request) -> Response:
        self.tries += 1
        return JSONResponse({}, status_code=500)

    async def ask(self, op: Any) -> Outcome:
        return NotCharged("not in our books")

    async def seconds_until_tried(self, made: World, key: str) -> int:
        """Its shopper presses each second."""
        before = self.tries
        for second in range(1, 60):
            made.clock.advance(1.0)
            await made.pay(key=key)
            if self.tries > before:
                return second
        raise AssertionError("it was never tried again")


@pytest.mark.parametrize(("following", "least", "most"), [("o1", 15, 20), ("o2", 1, 10)])
async def test_order_that_failed_as_a_probe_of_the_shops_own_charging_is_not_the_next_one(following: str, least: int, most: int) -> None:
    """As above, where the breaker is fed by what the shop's answers mean."""
    shop = OwnCharging()
    async with AsyncExitStack() as stack:
        own = rule(charged_by="shop", resolve=shop.ask, deadline_seconds=5.0)
        made = await Worlds(stack)(shop.pay, own, breakers=BreakerPolicy(consecutive_failures=3))
        for number in range(3):
            await made.pay(key=f"opens-{number}")
        assert await shop.seconds_until_tried(made, "o1") < 10
        assert least <= await shop.seconds_until_tried(made, following) <= most
