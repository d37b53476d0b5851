"""What was changed, wished or told of an order while the store was away, and the order is in the store: which word counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from shopworld import Worlds
from spoolworld import SpoolWorld, keeping, spool_world

from cxguard.core.money import MoneyState, NoteKind
from cxguard.core.operation import money_of
from cxguard.core.outcomes import Charged, Declined, Refunded, Unknown
from cxguard.core.reading import Reading
from cxguard.core.spooling import is_second_name
from cxguard.rules import json_field, per_purchase
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def test_changed_basket_of_a_shopper_without_a_key_is_what_is_charged(world: Worlds, tmp_path: Path) -> None:
    """Its request is sealed anew for the order that was there, whose name is another one: that is how it can be placed."""
    reads = {Reading.SUCCEEDED: lambda answer: answer.status == 201}
    shop = await spool_world(world, tmp_path, keeping(key=per_purchase("GET /thanks"), purchase=(json_field("cart"),), reads=reads))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.press(key=None, cart="c1")).json()["situation"] == "kept"
    shop.clock.advance(1.0)
    shop.go_away()
    assert (await shop.press(key=None, cart="c2", amount=2500)).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.forward()
    (order,) = [each for each in await shop.orders() if not is_second_name(each)]
    queued = [entry for entry in order.history if entry.event == "order.queued"]
    assert [entry.detail.get("merge") for entry in queued] == [None, "replace"], "as it was kept, and as it was changed"
    await shop.rest()
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [2500]


async def test_changed_basket_in_the_spool_is_known_there_as_what_is_bought_now(world: Worlds, tmp_path: Path) -> None:
    """Whoever buys that under another name meanwhile buys it once."""
    shop = await spool_world(world, tmp_path, keeping(key=json_field("cart"), purchase=(json_field("amount"),)))
    shop.go_away()
    assert (await shop.press(key=None)).json()["situation"] == "spooled"
    (first,) = await shop.waiting()
    shop.clock.advance(1.0)
    assert (await shop.press(key=None, amount=2500)).status_code == 202
    (changed,) = await shop.waiting()
    assert (changed.id, changed.amount_minor) == (first.id, 2500)
    bought = set(changed.claims) - set(first.claims)
    assert len(bought) == 2, "the basket, and the basket at that price"
    for claim in bought:
        assert (await shop.spool.store.search(Query(namespace="shop", claim=claim))).operations == (changed,)


async def test_wish_to_cancel_that_waits_in_the_spool_is_about_the_life_that_its_shopper_sees(world: Worlds, tmp_path: Path) -> None:
    """The order was cancelled once before, and bought again: the second wish is not taken for the first one."""
    shop = await spool_world(world, tmp_path, keeping(key=json_field("cart")))
    shop.gateway.otherwise = Does.NOT_CHARGED
    first = await shop.press(key=None)
    await shop.client.post(f"{first.json()['status_url']}/cancel", headers={"accept": "application/json"})
    assert (await shop.page(first))["situation"] == "cancelled"
    shop.clock.advance(60.0)
    again = await shop.press(key=None)
    assert again.json()["situation"] == "kept"
    shop.go_away()
    await shop.press(key=None)
    await shop.client.post(f"{again.json()['status_url']}/cancel", headers={"accept": "application/json"})
    await shop.come_back()
    shop.gateway.otherwise = Does.CHARGE
    await shop.rest()
    assert ((await shop.page(again))["situation"], shop.gateway.standing) == ("cancelled", [])


async def test_fact_that_waits_in_the_spool_goes_to_the_order_whose_key_it_names(world: Worlds, tmp_path: Path) -> None:
    """Not to the newest one."""
    shop = await spool_world(world, tmp_path)
    assert (await shop.press(key="k1", cart="c1")).status_code == 201
    (first,) = await shop.orders()
    shop.clock.advance(1.0)
    assert (await shop.press(key="k2", cart="c2")).status_code == 201
    shop.go_away()
    await shop.guard.note(Refunded(1000, "EUR"), gateway_key=first.sends[0].key, event_id="evt_1")
    await shop.come_back()
    await shop.forward()
    assert [order.id for order in await shop.orders() if order.notes] == [first.id]
    assert {money_of(order).state for order in await shop.orders()} == {MoneyState.REFUNDED, MoneyState.CHARGED}


async def test_charge_of_another_amount_that_is_told_while_the_store_is_away_is_not_believed(world: Worlds, tmp_path: Path) -> None:
    """As where the store is there: it stays unknown until a person looks."""
    shop = await spool_world(world, tmp_path)
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer in time")])
    assert (await shop.press()).json()["money"] == "unknown"
    (order,) = await shop.orders()
    shop.go_away()
    await shop.guard.note(Charged(1, "EUR", payment_id="pay_9"), gateway_key=order.sends[0].key, event_id="evt_1")
    await shop.come_back()
    await shop.forward()
    (order,) = await shop.orders()
    assert (order.notes[-1].event_id, money_of(order).state) == ("evt_1", MoneyState.UNKNOWN)


async def test_other_request_that_waits_in_the_spool_under_the_same_key_is_shown_to_a_person(world: Worlds, tmp_path: Path) -> None:
    """Nothing of it is charged, and who speaks with the shopper can find it."""
    shop = await spool_world(world, tmp_path)
    assert (await shop.press(cart="c1")).status_code == 201
    shop.go_away()
    told = (await shop.press(cart="c2", amount=2500)).json()
    await shop.come_back()
    await shop.rest()
    (order,) = await shop.orders()
    text = f"another request for this order came while the store was away, as {told['reference']}: it was neither kept nor charged"
    assert [(note.kind, note.source, note.text) for note in order.notes] == [(NoteKind.REMARK, "spool", text)]
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [1000]


async def test_a_no_that_came_before_the_order_is_not_believed_of_its_first_send(world: Worlds, tmp_path: Path) -> None:
    """A webhook about the same order in another store, say: when it is forwarded, this one has charged under that key."""
    elsewhere = await world()
    await elsewhere.pay()
    key = (await elsewhere.store.search(Query("shop"))).operations[0].sends[0].key
    shop = await spool_world(world, tmp_path)
    shop.go_away()
    await shop.guard.note(Declined(), event_id="evt_1", gateway_key=key)
    await shop.come_back()
    shop.clock.advance(60.0)
    shop.gateway.otherwise = Does.UNKNOWN
    await shop.press()
    await shop.forward()
    (order,) = await shop.orders()
    assert ([send.key for send in order.sends], [note.event_id for note in order.notes]) == ([key], ["evt_1"])
    assert money_of(order).state is MoneyState.UNKNOWN


# --- a purchase that other records hold


async def held_by_older_ones(world: Worlds, folder: Path, *, later_seconds: float) -> SpoolWorld:
    """A basket that was paid at 1,000, is kept at 700 under another key, and was changed back while the store was away."""
    shop = await spool_world(world, folder, keeping(key=json_field("cart"), purchase=(json_field("currency"),)))
    assert (await shop.press(key=None, cart="c0")).status_code == 201
    shop.clock.advance(later_seconds)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.press(key=None, cart="c1", amount=700)).json()["situation"] == "kept"
    shop.clock.advance(1.0)
    shop.go_away()
    assert (await shop.press(key=None, cart="c1", amount=1000)).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.rest()
    return shop


async def test_order_that_was_changed_back_to_a_price_paid_long_ago_is_charged_at_that(world: Worlds, tmp_path: Path) -> None:
    """The window is over: what was paid then is another purchase."""
    shop = await held_by_older_ones(world, tmp_path, later_seconds=901.0)
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [1000, 1000]


async def test_order_that_was_changed_back_to_a_price_paid_a_moment_ago_stays_as_it_was(world: Worlds, tmp_path: Path) -> None:
    """It would be the same purchase twice; a person sees that somebody asked for it."""
    shop = await held_by_older_ones(world, tmp_path, later_seconds=60.0)
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [1000, 700]
    remarks = [note.source for order in await shop.orders() for note in order.notes if note.kind is NoteKind.REMARK]
    assert remarks == ["spool", "spool"], "on both orders"


async def test_order_that_was_changed_in_the_spool_is_not_known_by_its_first_basket(world: Worlds, tmp_path: Path) -> None:
    """That one is spooled under another name, as an order of its own."""
    shop = await spool_world(world, tmp_path, keeping(key=json_field("cart"), purchase=(json_field("amount"),)))
    shop.go_away()
    assert (await shop.press(key=None)).json()["situation"] == "spooled"
    shop.clock.advance(1.0)
    assert (await shop.press(key=None, amount=2500)).json()["situation"] == "spooled"
    assert (await shop.press(key=None, cart="c2")).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.rest()
    assert sorted(payment.charge.amount_minor for payment in shop.gateway.standing) == [1000, 2500]


async def test_kept_order_that_a_spooled_one_changed_is_not_known_by_its_first_basket(world: Worlds, tmp_path: Path) -> None:
    """That one is paid under another name; the new one is known."""
    shop = await spool_world(world, tmp_path, keeping(key=json_field("cart"), purchase=(json_field("amount"),)))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.press(key=None)).json()["situation"] == "kept"
    shop.clock.advance(1.0)
    shop.go_away()
    assert (await shop.press(key=None, amount=2500)).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.forward()
    assert (await shop.press(key=None, cart="c2")).status_code == 201
    assert (await shop.press(key=None, cart="c3", amount=2500)).json()["situation"] == "duplicate_running"
    await shop.rest()
    assert sorted(payment.charge.amount_minor for payment in shop.gateway.standing) == [1000, 2500]
