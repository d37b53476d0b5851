"""The shop charges by itself and cannot be asked; its store has lost an order; a webhook that names the gateway's key alone comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shopworld import Till, World, Worlds, rule
from spoolworld import ASYNC, SpoolWorld
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, Declined, Outcome
from cxguard.engine.handle import current_operation
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import FaultyStore

pytestmark = pytest.mark.asyncio


class Shop:
    """Charges under no key; knows the names of what it charged, and nothing more."""

    def __init__(self) -> None:
        self.till = Till()
        self.keys: list[str] = []
        self.breaks = False

    async def pay(self, request: Request) -> Response:
        paid = await self.later(current_operation())
        return JSONResponse(paid, status_code=500 if self.breaks else 201)

    async def later(self, op: Any) -> dict[str, str]:
        self.keys.append(op.gateway_key())
        return {"paid": self.till.charge()}


async def paid_and_lost(world: Worlds, shop: Shop, **options: Any) -> World:
    """Paid, and then another server has taken over, which has the small values and no orders."""
    made = await world(shop.pay, rule(charged_by="shop", later=shop.later, terms="1"), faulty=True, **options)
    await made.guard.engine.epochs.lost_since()
    assert (await made.pay()).status_code == 201
    after = MemoryStore(clock=made.clock)
    await after.start()
    for key in ("epoch:shop", SECRET_CHECK):
        await after.swap(key, revision=0, value=(await made.store.load(key)).value)
    assert isinstance(made.store, FaultyStore)
    made.store.store = after
    return made


async def webhook(made: World, key: str, outcome: Outcome) -> None:
    await made.guard.note(outcome, gateway_key=key, event_id=f"evt:{type(outcome).__name__}")


async def order(made: World) -> Operation:
    return next(each for each in (await made.store.search(Query("shop"))).operations if each.owner)


async def test_what_a_webhook_told_of_a_lost_order_is_not_charged_again(world: Worlds) -> None:
    """It lies in a record of its own, under the very key that the order's next charge would have."""
    shop = Shop()
    made = await paid_and_lost(world, shop)
    await webhook(made, shop.keys[0], Charged(1000, "EUR", payment_id="pay-1"))
    told = await made.pay(**ASYNC)
    assert (told.json()["money"], shop.till.charges) == ("charged", ["basket"])


async def test_a_no_that_a_webhook_told_is_about_the_lost_charge_alone(world: Worlds) -> None:
    """It may be older than what is charged now, so it is not believed of that."""
    shop = Shop()
    made = await paid_and_lost(world, shop)
    await webhook(made, shop.keys[0], Declined())
    assert (await made.pay()).status_code == 201
    assert ((await order(made)).money, len(shop.till.charges)) == ("charged", 2)


async def test_a_no_that_a_webhook_told_says_nothing_of_what_came_after_it(world: Worlds) -> None:
    """The next charge was made, and its handler broke: who is told "declined" would pay a third time."""
    shop = Shop()
    made = await paid_and_lost(world, shop)
    await webhook(made, shop.keys[0], Declined())
    shop.breaks = True
    told = await made.pay(**ASYNC)
    assert (told.json()["money"], (await order(made)).money) == ("unknown", "unknown")


async def test_what_was_told_of_a_lost_order_is_found_under_many_other_facts(world: Worlds) -> None:
    """All of them came later, each about another order that is not there."""
    shop = Shop()
    made = await paid_and_lost(world, shop)
    await webhook(made, shop.keys[0], Charged(1000, "EUR", payment_id="pay-1"))
    for number in range(5):
        made.clock.advance(1.0)
        await webhook(made, f"{number:064x}", Charged(1000, "EUR", payment_id=f"other-{number}"))
    told = await made.pay(**ASYNC)
    assert (told.json()["money"], shop.till.charges) == ("charged", ["basket"])


async def test_a_webhook_and_its_order_that_wait_in_one_spool_meet_before_it_is_placed(world: Worlds, tmp_path: Path) -> None:
    """Facts are forwarded before any order. Found by a hunt, as seed 2103731."""
    shop = Shop()
    spool = SpoolWorld(await paid_and_lost(world, shop, spool=tmp_path / "spool.db"))
    spool.go_away()
    assert (await spool.press()).json()["situation"] == "spooled"
    await webhook(spool.shop, shop.keys[0], Charged(1000, "EUR", payment_id="pay-1"))
    await spool.come_back()
    await spool.rest()
    assert ((await order(spool.shop)).why, shop.till.charges) == ("order_missing", ["basket"])
