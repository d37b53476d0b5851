"""A purchase is paid, the store loses that, goes away, and the purchase is spooled under another key: it is not charged again."""

from __future__ import annotations

from pathlib import Path

import pytest
from copyworld import fail_over, record
from shopworld import Worlds, charging_handler
from spoolworld import SpoolWorld, keeping, spool_world
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import Operation
from cxguard.core.outcomes import Unknown
from cxguard.rules import json_field
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def let_go_once(world: Worlds, folder: Path) -> tuple[SpoolWorld, Operation]:
    """A shop that turned its first press away; and the record of that."""
    vain = [True]

    async def handler(request: Request) -> Response:
        return JSONResponse({}, status_code=422) if vain and vain.pop() else await charging_handler(request)

    made = await spool_world(world, folder, keeping(purchase=(json_field("cart"),)), handler=handler)
    await made.guard.engine.epochs.lost_since()
    assert (await made.press(key="one")).status_code == 422
    made.clock.advance(5.0)
    return made, await record(made.shop)


async def spool_the_other(made: SpoolWorld, copy: Operation) -> None:
    """The store fails over to *copy*, is away as the second key comes, and comes back."""
    await fail_over(made.shop, copy)
    made.go_away()
    assert (await made.press(key="two")).json()["situation"] == "spooled"
    await made.come_back()


async def test_a_spooled_order_waits_for_the_look_at_an_older_copy_of_its_purchase(world: Worlds, tmp_path: Path) -> None:
    """The first key was paid after all: the gateway is asked before the spooled one is put in its place."""
    made, copy = await let_go_once(world, tmp_path)
    assert (await made.press(key="one")).status_code == 201
    await spool_the_other(made, copy)
    made.gateway.will_say("find", [Unknown("no answer in time")])
    await made.forward()
    assert len(await made.waiting()) == 1, "nobody has answered: it stays in the spool"
    await made.rest(rounds=6)
    assert (len(made.gateway.standing), await made.waiting()) == (1, ())


async def test_a_spooled_order_is_placed_once_nothing_is_found_of_its_purchase(world: Worlds, tmp_path: Path) -> None:
    """The first key was turned away, and that was all."""
    made, copy = await let_go_once(world, tmp_path)
    await spool_the_other(made, copy)
    await made.rest(rounds=6)
    assert (len(made.gateway.standing), await made.waiting()) == (1, ())
    assert sorted(each.state for each in await made.orders()) == ["cancelled", "finished"]


async def test_a_kept_order_that_may_be_paid_is_known_by_what_it_was_before_a_spooled_one_changed_it(world: Worlds, tmp_path: Path) -> None:
    """It was placed, the store lost that, went away, and the basket was changed meanwhile: nobody has asked the gateway yet."""
    made = await spool_world(world, tmp_path, keeping(key=json_field("cart"), purchase=(json_field("amount"),)))
    await made.guard.engine.epochs.lost_since()
    made.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await made.press(key=None)).json()["situation"] == "kept"
    copy = await record(made.shop)
    made.clock.advance(61.0)
    await made.rest()
    await fail_over(made.shop, copy)
    made.go_away()
    assert (await made.press(key=None, amount=2500)).json()["situation"] == "spooled"
    await made.come_back()
    await made.forward()
    assert (await made.press(key=None, cart="c2")).json()["situation"] == "duplicate_running"
    assert [payment.charge.amount_minor for payment in made.gateway.standing] == [1000]
