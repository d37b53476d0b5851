"""The store is away, and the shop goes on: orders are saved on this machine, charged once, and nobody is told a lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from shopworld import SHOP, Worlds, charging_handler, rule
from spoolworld import JSON, SpoolWorld, keeping, spool_world
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.config import Settings
from cxguard.core.money import MoneyState
from cxguard.core.operation import State, money_of
from cxguard.core.outcomes import Charged
from cxguard.core.reading import Reading
from cxguard.engine.handle import current_operation
from cxguard.errors import ConfigurationError
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import json_field, per_purchase
from cxguard.testing import Fault
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
BOTH = pytest.mark.parametrize("fault", [Fault.NOT_DONE, Fault.ANSWER_LOST])


@pytest_asyncio.fixture
async def shop(world: Worlds, tmp_path: Path) -> SpoolWorld:
    return await spool_world(world, tmp_path)


async def ended_well(shop: SpoolWorld) -> None:
    """One order, one charge, nothing left behind."""
    (order,) = [one for one in await shop.orders() if one.why != "same_as"]
    assert (order.state, money_of(order).state, len(shop.gateway.standing)) == (State.FINISHED, MoneyState.CHARGED, 1)
    assert await shop.waiting() == ()


@BOTH
async def test_an_order_is_saved_while_the_store_is_away_and_charged_once_when_it_is_back(
    world: Worlds, tmp_path: Path, fault: Fault
) -> None:
    """Whether the store did it and nobody heard, or did not do it: told as saved, and one charge."""
    shop = await spool_world(world, tmp_path)
    shop.go_away(fault)
    told = await shop.press()
    assert (told.status_code, told.json()["situation"], told.json()["money"]) == (202, "spooled", "unknown")
    assert shop.gateway.payments == []
    await shop.come_back()
    await shop.rest()
    await ended_well(shop)


async def test_the_answer_says_only_what_is_known(shop: SpoolWorld) -> None:
    """Saved; this submission charged nothing; whoever pressed before shall not pay again. Never "you have not been charged"."""
    shop.go_away()
    told = (await shop.press()).json()
    assert "This submission charged nothing" in told["detail"]
    assert "do not pay again" in told["detail"]
    assert "you have not been charged" not in told["detail"].lower()
    assert (told["order_saved"], told["safe_to_retry"]) == (True, False)


async def test_a_page_is_sent_to_the_status_page_which_reads_the_spool(shop: SpoolWorld) -> None:
    """A browser gets a 303, and a page that works while the store is away."""
    shop.go_away()
    sent = await shop.press(accept="text/html", prefer="")
    page = await shop.client.get(sent.headers["location"], headers={"accept": "text/html"})
    assert (sent.status_code, page.status_code) == (303, 200)
    assert "This submission charged nothing" in page.text


@pytest.mark.parametrize(
    ("changes", "sent"),
    [({"later": None, "terms": ""}, {}), ({}, {"prefer": ""}), ({"can_wait": False}, {})],
    ids=["no later", "client not told", "cannot wait"],
)
async def test_who_cannot_be_told_or_kept_gets_an_honest_503(
    world: Worlds, tmp_path: Path, changes: dict[str, Any], sent: dict[str, str]
) -> None:
    """As in any outage: nothing is promised that nobody may keep."""
    shop = await spool_world(world, tmp_path, keeping(**changes))
    shop.go_away()
    told = await shop.press(**sent)
    assert (told.status_code, told.json()["situation"]) == (503, "store_away")
    assert await shop.waiting() == ()


async def test_a_machine_gets_a_503_and_repeats(world: Worlds, tmp_path: Path) -> None:
    """A webhook's sender is never told a 202."""
    shop = await spool_world(world, tmp_path, rule(audience="machine"))
    shop.go_away()
    assert (await shop.press()).status_code == 503


async def test_without_a_spool_it_is_as_before(world: Worlds) -> None:
    """503, and the order is not kept."""
    shop = await world(charging_handler, keeping(), faulty=True)
    shop.store.decide = lambda verb: Fault.NOT_DONE  # type: ignore[attr-defined]
    assert (await shop.pay(prefer="respond-async")).status_code == 503
    shop.store.heal()  # type: ignore[attr-defined]


async def test_pressing_again_finds_the_same_order(shop: SpoolWorld) -> None:
    """The same submit has the same name without a store: the same reference, one order, one charge."""
    shop.go_away()
    first, second = await shop.press(), await shop.press()
    assert first.json()["reference"] == second.json()["reference"]
    assert len(await shop.waiting()) == 1
    await shop.come_back()
    await shop.rest()
    await ended_well(shop)


async def test_another_request_under_the_same_key_is_a_mismatch(shop: SpoolWorld) -> None:
    """As far as the spool can know: 422, and the money is not said to be anywhere."""
    shop.go_away()
    await shop.press()
    told = await shop.press(amount=2000)
    assert (told.status_code, told.json()["money"]) == (422, "unknown")


async def test_a_changed_basket_under_a_derived_key_takes_the_place_of_the_first(world: Worlds, tmp_path: Path) -> None:
    """The shopper's last word is what is charged."""
    shop = await spool_world(world, tmp_path, keeping(key=json_field("cart")))
    shop.go_away()
    await shop.press(key=None)
    assert (await shop.press(key=None, amount=2500)).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.rest()
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [2500]


async def test_the_same_purchase_under_another_key_is_the_order_that_is_there(world: Worlds, tmp_path: Path) -> None:
    """A second tab with a key of its own: one order."""
    shop = await spool_world(world, tmp_path, keeping(purchase=(json_field("cart"),)))
    shop.go_away()
    first = await shop.press(key="one")
    second = await shop.press(key="two")
    assert (second.json()["situation"], second.json()["reference"]) == ("duplicate_running", first.json()["reference"])
    assert second.json()["money"] == "unknown"


@BOTH
async def test_pressed_before_during_and_after_it_is_charged_once(world: Worlds, tmp_path: Path, fault: Fault) -> None:
    """The first press was charged; the store died; the second was spooled; the third came when it was back."""
    shop = await spool_world(world, tmp_path)
    first = await shop.press()
    shop.go_away(fault)
    during = await shop.press()
    assert (first.status_code, during.json()["situation"]) == (201, "spooled")
    await shop.come_back()
    after = await shop.press()
    await shop.rest()
    assert after.content == first.content
    assert (await shop.page(during))["situation"] == "placed"
    await ended_well(shop)


@pytest.mark.parametrize("does", [Does.CHARGE, Does.UNKNOWN, Does.CHARGE_THEN_UNKNOWN])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
@BOTH
async def test_a_store_that_dies_in_the_middle_of_a_payment_costs_no_second_charge(
    world: Worlds, tmp_path: Path, does: Does, at: int, fault: Fault
) -> None:
    """At each write of the run, with each end of the charge: the shopper presses again, and is charged once, and never lied to."""
    shop = await spool_world(world, tmp_path)
    shop.gateway.will(does)
    writes = 0

    def dies(verb: str) -> Fault | None:
        nonlocal writes
        writes += verb in ("open", "save")
        return fault if writes > at else None

    shop.faulty.decide = dies
    first = await shop.press()
    shop.go_away(fault)
    second = await shop.press()
    for told in (first, second):
        charged = bool(shop.gateway.standing)
        assert told.json().get("money") != "not_charged"
        assert told.status_code in (201, 202, 503)
        assert charged or told.status_code != 201
    await shop.come_back()
    await shop.rest(rounds=6)
    assert len(shop.gateway.standing) == 1
    (order,) = await shop.orders()
    assert (order.state, money_of(order).state) == (State.FINISHED, MoneyState.CHARGED)


async def test_a_cancel_while_spooled_is_never_charged(shop: SpoolWorld) -> None:
    """The wish is in the store before the order is; the page says so all the way."""
    shop.go_away()
    told = await shop.press()
    url = told.json()["status_url"]
    asked = await shop.client.post(f"{url}/cancel", headers=JSON)
    assert (asked.json()["situation"], asked.json()["money"]) == ("cancel_asked", "unknown")
    assert (await shop.press()).json()["situation"] == "cancel_asked"
    await shop.come_back()
    await shop.rest()
    assert shop.gateway.payments == []
    assert (await shop.page(told))["situation"] == "cancelled"


async def test_a_cancel_that_comes_just_before_it_is_erased_is_not_lost(shop: SpoolWorld) -> None:
    """Forwarded already, and still in the spool: the wish stays behind, and follows."""
    shop.go_away()
    told = await shop.press()
    await shop.come_back()
    shop.gateway.will(*[Does.NOT_CHARGED] * 9)
    (item,) = await shop.spool.due(limit=1)
    held = await shop.spool.seize(item)
    assert held is not None
    await shop.client.post(f"{told.json()['status_url']}/cancel", headers=JSON)
    await shop.spool.erase(held)
    await shop.rest()
    assert (await shop.page(told))["situation"] == "cancelled"


async def test_the_link_is_good_all_the_way(shop: SpoolWorld) -> None:
    """Away, back but not forwarded, queued, placed: one link, one reference."""
    shop.go_away()
    told = await shop.press()
    seen = [(await shop.page(told))["situation"]]
    await shop.come_back()
    seen.append((await shop.page(told))["situation"])
    await shop.forward()
    seen.append((await shop.page(told))["situation"])
    await shop.rest()
    seen.append((await shop.page(told))["situation"])
    assert seen == ["spooled", "spooled", "kept", "placed"]


async def test_another_machine_can_read_the_link_too(world: Worlds, tmp_path: Path) -> None:
    """The order lies in the spool of one machine; the shopper's next request meets another one."""
    (tmp_path / "b").mkdir()
    here, there = await spool_world(world, tmp_path), await spool_world(world, tmp_path / "b")
    here.go_away()
    told = await here.press()
    assert (await there.page(told))["situation"] == "spooled"
    there.go_away()
    assert (await there.page(told))["situation"] == "spooled"


async def test_money_that_was_taken_while_the_store_died_is_not_forgotten(world: Worlds, tmp_path: Path) -> None:
    """A gateway without look-ups: the charge that the run heard of waits in the spool as a fact."""
    shop = await spool_world(world, tmp_path)

    async def take_away(request: Request) -> Response:
        answer = await charging_handler(request)
        shop.go_away()
        return answer

    dying = await spool_world(world, tmp_path, handler=take_away)
    shop.faulty = dying.faulty
    told = await dying.press()
    assert told.status_code == 201
    (fact,) = await dying.waiting()
    assert (fact.owner, money_of(fact).state) == ("", MoneyState.CHARGED)
    again = await dying.press()
    assert (again.status_code, again.json()["money"]) == (202, "charged")
    dying.gateway.will_say("find", [])
    await dying.come_back()
    await dying.rest()
    assert len(dying.gateway.standing) == 1
    (order,) = await dying.orders()
    assert money_of(order).state is MoneyState.CHARGED


async def test_a_webhook_that_comes_while_the_store_is_away_is_kept(shop: SpoolWorld) -> None:
    """Its fact reaches the order when the store is back."""
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.otherwise = Does.UNKNOWN
    await shop.press()
    (order,) = await shop.orders()
    shop.go_away()
    await shop.guard.note(Charged(1000, "EUR", payment_id="pay_9"), event_id="evt_1", gateway_key=order.sends[0].key)
    await shop.come_back()
    await shop.forward()
    (order,) = await shop.orders()
    assert money_of(order).state is MoneyState.CHARGED


async def test_a_full_spool_refuses_honestly(world: Worlds, tmp_path: Path) -> None:
    """At its bound: 503, and what lies there is still found."""
    shop = await spool_world(world, tmp_path, settings=Settings(spool_items_max=1))
    shop.go_away()
    first = await shop.press(key="one")
    assert (first.status_code, (await shop.press(key="two")).status_code) == (202, 503)
    assert (await shop.press(key="one")).json()["reference"] == first.json()["reference"]


async def test_an_order_whose_time_is_over_is_never_charged(world: Worlds, tmp_path: Path) -> None:
    """The store was away for longer than anybody wants to wait."""
    shop = await spool_world(world, tmp_path, keeping(give_up_seconds=600.0))
    shop.go_away()
    told = await shop.press()
    shop.clock.advance(700.0)
    await shop.come_back()
    await shop.rest()
    assert shop.gateway.payments == []
    assert (await shop.page(told))["situation"] == "gave_up"


async def test_the_caps_hold_in_the_spool_too(world: Worlds, tmp_path: Path) -> None:
    """One shopper's fourth order waits nowhere."""
    shop = await spool_world(world, tmp_path)
    shop.go_away()
    codes = [(await shop.press(key=f"k{number}", cart=f"c{number}")).status_code for number in range(4)]
    assert codes == [202, 202, 202, 503]


async def test_a_guard_begins_without_its_store(world: Worlds, tmp_path: Path) -> None:
    """Everything was restarted, the store is still away: orders are spooled at once, and forwarded when it comes."""
    shop = await spool_world(world, tmp_path)
    shop.go_away()
    await shop.press(key="before")
    await shop.guard.stop()
    await shop.guard.start()
    assert (await shop.press(key="after")).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.rest()
    assert len(shop.gateway.standing) == 2


async def test_a_purchase_without_a_key_is_one_purchase(world: Worlds, tmp_path: Path) -> None:
    """`per_purchase`: pressed before, while and after the store was away, and every press's link leads to the one order."""
    reads = {Reading.SUCCEEDED: lambda answer: answer.status == 201}
    shop = await spool_world(world, tmp_path, keeping(key=per_purchase("GET /thanks"), purchase=(json_field("cart"),), reads=reads))
    shop.go_away(Fault.ANSWER_LOST)
    first = await shop.press(key=None)
    shop.go_away()
    second = await shop.press(key=None)
    assert first.json()["reference"] == second.json()["reference"]
    await shop.come_back()
    await shop.rest()
    assert len(shop.gateway.standing) == 1
    assert (await shop.page(first))["situation"] == "placed"
    assert (await shop.press(key=None)).json()["money"] == "charged"
    assert len(shop.gateway.standing) == 1


async def test_an_embedded_store_needs_no_spool(tmp_path: Path) -> None:
    """Its spool would lie on the same disk, and be away with it."""
    with pytest.raises(ConfigurationError, match="needs no spool"):
        Guard(f"sqlite:///{tmp_path}/shop.db", shop=SHOP, spool=tmp_path / "spool.db")


async def test_shops_that_charge_by_themselves_are_kept_too(world: Worlds, tmp_path: Path) -> None:
    """A drop-in rule with `later`: nothing ran, so nothing is unknown."""

    async def handler(request: Request) -> Response:
        raise AssertionError("not while the store is away")

    async def later(op: Any) -> dict[str, str]:
        return {"paid": op.reference}

    shop = await spool_world(world, tmp_path, keeping(charged_by="shop", later=later), handler=handler)
    shop.go_away()
    told = await shop.press()
    await shop.come_back()
    await shop.rest()
    assert (await shop.page(told))["situation"] == "placed"


async def test_a_handler_that_swallows_the_failure_and_says_thank_you_is_corrected(world: Worlds, tmp_path: Path) -> None:
    """The store died before the charge was written down; the handler says 201; the shopper hears "saved"."""
    shops: list[SpoolWorld] = []

    async def swallowing(request: Request) -> Response:
        shops[0].go_away()
        body = await request.json()
        try:
            await current_operation().charge(Charge(body["amount"], "EUR", source="tok_ok", order_id=body["cart"]))
        except Exception:
            pass
        return JSONResponse({"thank": "you"}, status_code=201)

    shops.append(await spool_world(world, tmp_path, handler=swallowing))
    told = await shops[0].press()
    assert (told.status_code, told.json()["situation"]) == (202, "spooled")
    await shops[0].come_back()
    await shops[0].rest()
    await ended_well(shops[0])
