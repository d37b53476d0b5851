"""One purchase under two keys, one of them spooled: the order that was paid speaks for both, and no second charge stays."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from shopworld import Worlds
from spoolworld import SpoolWorld, keeping, spool_world

from cxguard.core.money import NoteKind
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Unknown
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.rules import json_field
from cxguard.stores.memory import MemoryStore
from cxguard.testing import Fault

pytestmark = pytest.mark.asyncio


async def fail_over(shop: SpoolWorld) -> None:
    """To another server, which has the small values, and no orders."""
    after = MemoryStore(clock=shop.clock)
    await after.start()
    for key in ("epoch:shop", SECRET_CHECK):
        kept = await shop.faulty.store.load(key)
        if kept.revision:
            await after.swap(key, revision=0, value=kept.value)
    shop.faulty.store = after


async def spooled_and_bought(shop: SpoolWorld) -> tuple[httpx.Response, httpx.Response]:
    """Spooled under the first key; bought under the second as soon as the store is back. What each was told."""
    shop.go_away()
    spooled = await shop.press(key="one")
    await shop.come_back()
    return spooled, await shop.press(key="two")


async def named(shop: SpoolWorld, told: httpx.Response) -> Operation:
    return next(each for each in await shop.orders() if each.reference == told.json()["reference"])


@pytest_asyncio.fixture
async def shop(world: Worlds, tmp_path: Path) -> SpoolWorld:
    made = await spool_world(world, tmp_path, keeping(purchase=(json_field("cart"),)))
    await made.guard.engine.epochs.lost_since()
    return made


async def test_charge_of_a_second_name_that_the_store_has_lost_goes_back(shop: SpoolWorld) -> None:
    """Its purchase was bought under the other key since: the gateway is asked before the first name ends."""
    await shop.press(key="one")
    await fail_over(shop)
    spooled, _ = await spooled_and_bought(shop)
    assert len(shop.gateway.standing) == 2
    await shop.rest()
    assert [payment.id for payment in shop.gateway.standing] == ["pay_2"]
    name = await named(shop, spooled)
    assert (name.money, [note.source for note in name.notes if note.kind is NoteKind.CANCEL]) == ("refunded", ["spool"])


async def test_second_name_of_which_nothing_stands_leads_to_the_order_that_speaks_for_it(shop: SpoolWorld) -> None:
    """After a failover as at any other time, and while it is still looked for, too."""
    await fail_over(shop)
    spooled, _ = await spooled_and_bought(shop)
    bought = next(each for each in await shop.orders() if each.state is State.FINISHED)
    await shop.forward()
    looked_for = (await named(shop, spooled)).state, (await shop.page(spooled))["reference"]
    await shop.rest()
    ended = (await named(shop, spooled)).state, (await shop.page(spooled))["reference"]
    assert (looked_for, ended) == ((State.HELD, bought.reference), (State.CANCELLED, bought.reference))
    assert len(shop.gateway.standing) == 1


async def test_second_name_whose_forwarding_was_cut_short_is_looked_for_all_the_same(shop: SpoolWorld) -> None:
    """Its record is written, and the wish that makes the charge go back is not: whoever forwards it again brings that."""
    await shop.press(key="one")
    await fail_over(shop)
    await spooled_and_bought(shop)
    shop.faulty.plan("note", Fault.NOT_DONE, times=2)
    assert (await shop.guard.forwarding().run_once()).away == 1
    await shop.rest()
    assert [payment.id for payment in shop.gateway.standing] == ["pay_2"]


async def test_gateway_that_says_nothing_about_a_second_name_is_asked_again(shop: SpoolWorld) -> None:
    """Until it answers, the first name is in doubt, and no end is written."""
    await shop.press(key="one")
    await fail_over(shop)
    spooled, _ = await spooled_and_bought(shop)
    for verb in ("find", "cancel"):
        shop.gateway.will_say(verb, [Unknown("silence")])
    await shop.forward()
    await shop.shop.rest()
    assert (await named(shop, spooled)).money == "unknown"
    shop.clock.advance(600.0)
    await shop.rest()
    assert [payment.id for payment in shop.gateway.standing] == ["pay_2"]
