"""The store is away for a moment just as a run ends: the order is kept all the same, or comes to whoever takes it next."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import money_of
from cxguard.core.outcomes import Outcome, Unknown
from cxguard.gateways.base import Charge
from cxguard.stores.base import Query
from cxguard.testing import Fault
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def place(op: Any) -> dict[str, str]:
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return {"paid": payment.payment_id}


def keeping() -> Any:
    return rule(later=place, terms="2026-01")


@pytest.mark.parametrize("verb", ["tally", "search"])
async def test_order_is_kept_although_its_caps_were_read_in_vain_once(world: Worlds, verb: str) -> None:
    """A connection that broke while nobody used it costs one more question, not the order."""
    shop = await world(charging_handler, keeping(), faulty=True)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    shop.store.plan(verb, Fault.NOT_DONE)  # type: ignore[attr-defined]
    assert (await shop.pay(**ASYNC)).json()["situation"] == "kept"


async def test_htmx_opens_the_page_of_a_kept_order_as_a_page(world: Worlds) -> None:
    """Behind a 303 it would put that page into the shop's own, where nothing keeps it up to date."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(accept="*/*", **{"hx-request": "true"})
    assert (kept.status_code, kept.content, kept.headers.get("location")) == (200, b"", None)
    page = await shop.client.get(kept.headers["hx-redirect"], headers={"accept": "text/html"})
    assert page.status_code == 200 and "not been charged" in page.text


async def test_shops_own_no_is_no_decline_while_its_hook_is_silent(world: Worlds) -> None:
    """The handler says 402 over what may be a charge, nobody can be asked, and the end is not written: it stays unknown."""

    async def says_no(request: Request) -> Response:
        return JSONResponse({"declined": True}, status_code=402)

    async def resolve(op: Any) -> Outcome:
        return Unknown("silence")

    shop = await world(says_no, rule(charged_by="shop", resolve=resolve), faulty=True)
    shop.store.plan("save", Fault.NOT_DONE, times=2)  # type: ignore[attr-defined]
    told = await shop.pay(**ASYNC)
    assert told.status_code != 402
    assert told.json()["money"] == "unknown"
    record = next(iter((await shop.store.search(Query(namespace="shop"))).operations))
    assert money_of(record).state == "unknown"


async def test_lease_of_a_run_whose_end_could_not_be_written_is_not_renewed(world: Worlds) -> None:
    """Nobody works on it any more: its lease lapses in its own time, and the next press or a worker takes it over."""
    shop = await world(charging_handler, keeping(), faulty=True)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    shop.store.plan("tally", Fault.NOT_DONE, times=2)  # type: ignore[attr-defined]
    assert (await shop.pay(**ASYNC)).json()["money"] == "unknown"
    assert shop.guard.engine.operations.leases.held() == ()
