"""An accepted order whose charge by the shop's own code is unknown: who makes sure of it, and who leaves it to a person."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from shopworld import Till, World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State, money_of
from cxguard.core.outcomes import Charged, Outcome, Unknown
from cxguard.engine.handle import current_operation
from cxguard.stores.base import Query

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


class Shop:
    """A shop that charges by itself under our key, behind a connection that may be cut before or after its gateway charges."""

    def __init__(self, *, cut: str) -> None:
        self.till = Till()
        self.cut = cut
        self.runs: list[str] = []

    async def charge(self, *, by: str) -> str:
        self.runs.append(by)
        if self.cut == "before":
            raise ConnectionError
        payment = self.till.charge(key=current_operation().gateway_key("charge"))
        if self.cut == "after":
            raise ConnectionError
        return payment

    async def pay(self, request: Request) -> Response:
        try:
            return JSONResponse({"paid": await self.charge(by="shopper")}, status_code=201)
        except ConnectionError:
            return JSONResponse({"message": "Your card was declined."}, status_code=402)  # as careless as many

    async def later(self, op: Any) -> dict[str, str]:
        return {"paid": await self.charge(by="queue")}

    async def ask(self, op: Any) -> Outcome:
        """Says no more than it knows: what is not there may still come."""
        found = self.till.keyed.get(op.gateway_key("charge")) if self.cut != "after" else None
        return Charged(1000, "EUR", found) if found else Unknown("not_found")

    def rule(self, **changes: Any) -> Any:
        return rule(**{"charged_by": "shop", "resolve": self.ask, "later": self.later, "terms": "1", "rerun_safe": True, **changes})


async def worked_on(shop: World) -> Operation:
    """The only order, after an hour of the queue's work."""
    for _ in range(60):
        shop.clock.advance(61.0)
        await shop.rest()
    return (await shop.store.search(Query(namespace="shop"))).operations[0]


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_an_accepted_order_is_paid_when_its_gateway_can_be_reached_again(world: Worlds, cut: str) -> None:
    """Nobody can say what became of the charge; the shop's code runs under the same key, so it is paid, once, without a person."""
    own = Shop(cut=cut)
    shop = await world(own.pay, own.rule())
    told = await shop.pay(**ASYNC)
    assert (told.status_code, told.json()["money"]) == (202, "unknown")
    shop.clock.advance(61.0)
    await shop.rest()
    own.cut = ""
    operation = await worked_on(shop)
    assert (operation.state, money_of(operation).state, operation.why) == (State.FINISHED, "charged", "")
    assert len(own.till.charges) == 1
    assert {send.key for send in operation.sends} == {operation.sends[0].key}


@pytest.mark.parametrize("changes", [{"rerun_safe": False}, {"later": None, "terms": ""}])
async def test_code_that_may_not_run_again_does_not(world: Worlds, changes: dict[str, Any]) -> None:
    """Without our key in it, or without a way to place the order, only a person goes on."""
    own = Shop(cut="before")
    shop = await world(own.pay, own.rule(**changes))
    await shop.pay(**ASYNC)
    own.cut = ""
    operation = await worked_on(shop)
    assert (operation.state, operation.why, own.till.charges) == (State.HELD, "unknown_unresolved", [])
    assert own.runs == ["shopper"]


async def test_tries_in_vain_come_further_apart_and_end_with_a_person(world: Worlds) -> None:
    """A gateway that stays away is not asked to charge every second."""
    own = Shop(cut="before")
    shop = await world(own.pay, own.rule())
    await shop.pay(**ASYNC)
    starts: list[float] = []
    for _ in range(3_600):
        before = len(own.runs)
        shop.clock.advance(1.0)
        await shop.rest()
        starts += [shop.clock.now()] * (len(own.runs) - before)
    operation = (await shop.store.search(Query(namespace="shop"))).operations[0]
    assert (operation.state, operation.why) == (State.HELD, "unknown_unresolved")
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert 3 <= len(pauses) < 12 and pauses[-1] > 60.0 > pauses[0]


async def test_a_cancelled_order_is_not_charged_by_the_queue(world: Worlds) -> None:
    """The shopper's wish came before the queue's turn."""
    own = Shop(cut="before")
    shop = await world(own.pay, own.rule())
    await shop.pay(**ASYNC)
    operation = (await shop.store.search(Query(namespace="shop"))).operations[0]
    await shop.store.note(operation.id, Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), generation=1), namespace="shop")
    own.cut = ""
    await worked_on(shop)
    assert (own.till.charges, own.runs) == ([], ["shopper"])


async def test_a_paid_order_whose_process_died_is_placed_at_the_next_look(world: Worlds) -> None:
    """Its shopper presses again and hears "you have paid"; nothing has failed in placing it, so nobody waits."""
    own, charged, dead = Shop(cut=""), asyncio.Event(), asyncio.Event()

    async def dies(request: Request) -> Response:
        await own.charge(by="shopper")
        charged.set()
        await dead.wait()
        return JSONResponse({"late": True}, status_code=201)

    shop = await world(dies, own.rule())
    first = asyncio.create_task(shop.pay(**ASYNC))
    await charged.wait()
    shop.clock.advance(61.0)  # longer than its lease
    again = await shop.pay(**ASYNC)
    assert (again.status_code, again.json()["situation"]) == (202, "paid_unfinished")
    assert (await shop.guard.queue().run_once()).ended == 1
    assert (own.runs, len(own.till.charges)) == (["shopper", "queue"], 1)
    dead.set()
    await first
