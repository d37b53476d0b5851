"""A run that stood still until its lease was over, or whose clock was set: another key has bought its basket meanwhile."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from shopworld import World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import Response

from cxguard.rules import json_field
from cxguard.testing import Fault, FaultyStore
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


class Halting:
    """A handler whose first run stands still before it charges, until it is let go."""

    def __init__(self) -> None:
        self.stands, self.let_go = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        if not self.stands.is_set():
            self.stands.set()
            await self.let_go.wait()
        return await charging_handler(request)


async def overtaken(world: Worlds, halting: Halting, *, status: int = 201) -> tuple[World, asyncio.Task[httpx.Response]]:
    """A shop in which a run stands still, and the other tab has been answered with *status*."""

    async def handler(request: Request) -> Response:
        return await halting(request)

    shop = await world(handler, rule(purchase=(json_field("cart"),), lease_seconds=30.0), faulty=True)
    first = asyncio.create_task(shop.pay(key="k1"))
    await halting.stands.wait()
    shop.clock.jump(31.0)
    if status != 201:
        shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(key="k2")).status_code == status
    return shop, first


async def test_run_whose_basket_was_bought_under_another_key_tells_of_that_order(world: Worlds) -> None:
    """It has sent nothing; "not charged" would be true of it alone, and false for whoever reads it."""
    halting = Halting()
    shop, first = await overtaken(world, halting)
    halting.let_go.set()
    told = await first
    assert (told.status_code, told.json()["situation"], told.json()["money"]) == (200, "duplicate", "charged")
    assert len(shop.gateway.standing) == 1


async def test_run_whose_basket_was_asked_for_in_vain_meanwhile_is_told_that_nothing_is_charged(world: Worlds) -> None:
    """Neither of the two has taken anything."""
    halting = Halting()
    shop, first = await overtaken(world, halting, status=503)
    halting.let_go.set()
    told = await first
    assert (told.status_code, told.json()["situation"], told.json()["money"]) == (503, "not_kept", "not_charged")
    assert not shop.gateway.standing


async def test_run_that_was_overtaken_by_nobody_knows_whom_says_that_it_is_not_known(world: Worlds) -> None:
    """The store goes away before it can be asked who has the basket."""
    halting = Halting()
    shop, first = await overtaken(world, halting)
    assert isinstance(shop.store, FaultyStore)
    shop.store.decide = lambda verb: Fault.NOT_DONE if verb == "search" else None
    halting.let_go.set()
    told = await first
    assert (told.status_code, told.json()["situation"], told.json()["money"]) == (409, "basket_being_paid", "unknown")


async def test_run_whose_record_was_let_go_meanwhile_tells_of_the_order_that_has_the_basket(world: Worlds) -> None:
    """The queue has found that nobody works on it any more; "cancelled, not charged" would be true of it alone."""
    halting = Halting()
    shop, first = await overtaken(world, halting)
    await shop.rest()
    halting.let_go.set()
    told = await first
    assert (told.status_code, told.json()["situation"], told.json()["money"]) == (200, "duplicate", "charged")


async def test_run_whose_record_was_let_go_and_that_nobody_overtook_is_told_that_it_was_cancelled(world: Worlds) -> None:
    """That is all there is to say."""
    halting = Halting()
    shop, first = await overtaken(world, halting, status=503)
    await shop.rest()
    halting.let_go.set()
    told = await first
    assert (told.json()["situation"], told.json()["money"]) == ("cancelled", "not_charged")
