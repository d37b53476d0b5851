"""What becomes of a kept order in its turn: by its answer where it is replayed, by what the shop's own code raises."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import Operation, State
from cxguard.core.reading import Reading
from cxguard.gateways.base import Charge
from cxguard.rules import has_status, replay
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def only(shop: World) -> Operation:
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    return order


async def kept(world: Worlds, handler: Any, **changes: Any) -> World:
    """A shop with an order that was kept in an outage."""
    shop = await world(handler, rule(**{"terms": "1", **changes}))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(**ASYNC)).status_code == 202
    shop.clock.advance(60.0)
    return shop


@pytest.mark.parametrize(
    ("status", "state", "why"),
    [
        (403, State.HELD, "replay_not_signed_in"),
        (401, State.HELD, "replay_not_signed_in"),
        (400, State.HELD, "replay_failed"),
        (500, State.QUEUED, "replay_failed"),
    ],
)
async def test_answer_to_a_replay_says_whether_it_is_tried_again(world: Worlds, status: int, state: State, why: str) -> None:
    """A login page and a "no" are for a person; a fault may pass, and then the order is placed."""
    answers: list[int] = []

    async def pay(request: Request) -> Response:
        return JSONResponse({}, status_code=answers.pop()) if answers else await charging_handler(request)

    shop = await kept(world, pay, later=replay)
    answers.append(status)
    await shop.guard.queue().run_once()
    order = await only(shop)
    assert (order.state, order.why, shop.gateway.standing) == (state, why, [])
    shop.clock.advance(120.0)
    await shop.rest()
    assert ((await only(shop)).state, len(shop.gateway.standing)) == ((State.FINISHED, 1) if state is State.QUEUED else (State.HELD, 0))


async def test_answer_to_a_replay_is_read_as_the_rule_says(world: Worlds) -> None:
    """A shop whose 200 is a fault has said so, and its order is tried again."""
    answers: list[int] = []

    async def pay(request: Request) -> Response:
        return JSONResponse({}, status_code=answers.pop()) if answers else await charging_handler(request)

    shop = await kept(world, pay, later=replay, reads={Reading.FAILED: has_status(200)})
    answers.append(200)
    await shop.guard.queue().run_once()
    assert ((await only(shop)).state, (await only(shop)).why) == (State.QUEUED, "replay_failed")


async def test_code_of_the_shops_that_fails_once_is_run_again(world: Worlds) -> None:
    """What it raises is no end of an order that was accepted: before the charge as after it."""
    runs: list[str] = []

    async def place(op: Any) -> dict[str, str]:
        runs.append("run")
        if len(runs) == 1:
            raise RuntimeError("before the charge")
        payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
        if len(runs) == 2:
            raise RuntimeError("after it")
        return {"paid": payment.payment_id}

    shop = await kept(world, charging_handler, later=place)
    for state, money in (("queued", "none"), ("queued", "charged"), ("finished", "charged")):
        await shop.guard.queue().run_once()
        order = await only(shop)
        assert (order.state, order.money) == (state, money)
        shop.clock.advance(300.0)
    assert (len(runs), len(shop.gateway.standing)) == (3, 1)
