"""A shopper goes on with the same order, by a link for one try: another card, the new price, their word given anew."""

from __future__ import annotations

from typing import Any

import pytest
from resumeworld import JSON, NoStepAtBank, charged, keeping, late_decline, only, outage, pay, recovered, status, submit, token_of
from shopworld import Worlds

from cxguard import AskShopper
from cxguard.core.asks import ASK_SECONDS, CARD_DECLINED
from cxguard.core.caps import Caps
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.core.outcomes import Outcome, Unknown
from cxguard.rules import json_field
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.faulty_store import FaultyStore

pytestmark = pytest.mark.asyncio


async def test_a_higher_price_is_paid_by_going_on_with_the_same_order(world: Worlds) -> None:
    """One order from the first press to the end: same reference, one charge, at the price that was agreed to."""
    heard: list[Any] = []
    shop = await outage(world, heard=heard, revalidate=lambda op: AskShopper(1200))
    kept = await submit(shop)
    held = await recovered(shop)
    token = await token_of(shop, kept)
    paid = await submit(shop, amount=1200, resume=token)
    assert paid.status_code == 201
    order = await only(shop)
    assert (order.reference, order.state, order.amount_minor) == (held.reference, State.FINISHED, 1200)
    assert charged(shop) == [(1200, "tok_ok")]
    assert [event.detail for event in heard if event.name == "order.resumed"] == [{"why": "price_up", "generation": 2}]
    assert (await status(shop, kept))["situation"] == "placed"


async def test_a_late_decline_waits_for_another_card_of_the_same_order(world: Worlds) -> None:
    """The shopper was away when the bank said no: told, with a way on; the new card is the only charge."""
    shop = await outage(world)
    kept, held = await late_decline(shop)
    assert (held.state, held.waiting_for, held.why) == (State.HELD, WaitingFor.SHOPPER, "card_declined")
    told = await status(shop, kept)
    assert (told["situation"], told["money"], told["final"]) == ("shopper_asked", "not_charged", False)
    paid = await submit(shop, resume=await token_of(shop, kept))
    assert (paid.status_code, charged(shop)) == (201, [(1000, "tok_ok")])


async def test_without_a_page_to_go_on_a_late_decline_is_the_end(world: Worlds) -> None:
    """Told as what it is."""
    shop = await outage(world, resume_at="", resume_token=None)
    kept, ended = await late_decline(shop)
    assert ended.state is State.FINISHED
    assert (await status(shop, kept))["situation"] == "declined"


async def test_the_old_payment_is_cancelled_before_a_new_one_begins(world: Worlds) -> None:
    """Authentication was asked for and nobody did it: never two payments alive."""
    shop = await outage(world, gateway=NoStepAtBank())
    kept = await submit(shop, card="tok_old")
    shop.gateway.will(Does.NEEDS_SHOPPER)
    held = await recovered(shop)
    assert (held.state, held.why) == (State.HELD, "needs_shopper")
    paid = await submit(shop, card="tok_new", resume=await token_of(shop, kept))
    assert (paid.status_code, charged(shop)) == (201, [(1000, "tok_new")])
    verbs = [call.verb for call in shop.gateway.calls]
    assert verbs.index("cancel") < len(verbs) - 1 - verbs[::-1].index("charge")
    old, new = (await only(shop)).sends[-2:]
    assert old.key != new.key
    shop.clock.advance(3_600.0)
    await shop.rest()
    assert charged(shop) == [(1000, "tok_new")]


async def test_an_order_whose_bank_wants_its_shopper_at_once_has_a_link_to_go_on_with(world: Worlds) -> None:
    """It was never kept, and its link is good all the same."""
    shop = await world(pay, keeping(), gateway=NoStepAtBank(Does.NEEDS_SHOPPER))
    first = await submit(shop)
    shop.clock.advance(3_600.0)
    again = await submit(shop, resume=await token_of(shop, first))
    assert (again.status_code, charged(shop)) == (201, [(1000, "tok_ok")])


async def test_an_old_payment_that_cannot_be_stopped_for_sure_stops_the_new_one(world: Worlds) -> None:
    """The gateway is silent: nothing is charged, and the link works again when it answers."""
    shop = await outage(world, gateway=NoStepAtBank())
    kept = await submit(shop)
    shop.gateway.will(Does.NEEDS_SHOPPER)
    await recovered(shop)
    token = await token_of(shop, kept)
    shop.gateway.will_say("cancel", [Unknown("no answer in time")])
    refused = await submit(shop, card="tok_new", resume=token)
    assert (refused.json()["situation"], charged(shop)) == ("needs_shopper", [])
    paid = await submit(shop, card="tok_new", resume=token)
    assert (paid.status_code, charged(shop)) == (201, [(1000, "tok_new")])


async def test_an_old_payment_that_has_gone_through_meanwhile_is_the_payment(world: Worlds) -> None:
    """The shopper did the step after all: no second charge, and the order is completed."""
    shop = await outage(world, gateway=NoStepAtBank())
    kept = await submit(shop, card="tok_old")
    shop.gateway.will(Does.NEEDS_SHOPPER)
    held = await recovered(shop)
    token = await token_of(shop, kept)
    shop.gateway.confirm(held.sends[-1].key)
    told = await submit(shop, card="tok_new", resume=token)
    assert (told.status_code, told.json()["money"]) == (202, "charged")
    assert (await recovered(shop)).state is State.FINISHED
    assert charged(shop) == [(1000, "tok_old")]


async def test_a_link_is_for_one_try(world: Worlds) -> None:
    """Sent again, on another device too, it tells what has become of the order, and charges nothing."""
    shop = await outage(world, revalidate=lambda op: AskShopper(1200))
    kept = await submit(shop)
    await recovered(shop)
    token = await token_of(shop, kept)
    await submit(shop, amount=1200, resume=token)
    for owner in ("ann", "somebody else"):
        again = await submit(shop, owner=owner, amount=1200, card="tok_other", resume=token)
        assert (again.status_code, again.json()["situation"]) == (200, "placed")
    assert charged(shop) == [(1200, "tok_ok")]


async def test_ten_submits_of_one_link_at_once_are_one_charge(world: Worlds) -> None:
    """One of them wins the lease."""
    import asyncio

    shop = await outage(world, revalidate=lambda op: AskShopper(1200), wait_seconds=5.0)
    kept = await submit(shop)
    await recovered(shop)
    token = await token_of(shop, kept)
    answers = await asyncio.gather(*(submit(shop, amount=1200, resume=token) for _ in range(10)))
    assert len(shop.gateway.standing) == 1
    assert {answer.json().get("money", "charged") for answer in answers} == {"charged"}


async def test_a_link_works_on_another_device(world: Worlds) -> None:
    """It came by mail: whoever holds it goes on with the order, under a visit of their own."""
    shop = await outage(world, revalidate=lambda op: AskShopper(1200))
    kept = await submit(shop)
    await recovered(shop)
    paid = await submit(shop, owner="ann's phone", amount=1200, resume=await token_of(shop, kept))
    assert (paid.status_code, len(shop.gateway.standing)) == (201, 1)


async def test_a_link_is_over_after_a_day_and_the_order_with_it(world: Worlds) -> None:
    """Ended uncharged, and told so; the link opens nothing in its place."""
    shop = await outage(world, revalidate=lambda op: AskShopper(1200))
    kept = await submit(shop)
    await recovered(shop)
    token = await token_of(shop, kept)
    await recovered(shop, after_seconds=86_401.0)
    assert (await status(shop, kept))["situation"] == "gave_up"
    late = await submit(shop, amount=1200, resume=token)
    assert (late.status_code, late.json()["situation"], charged(shop)) == (404, "no_such_order", [])


@pytest.mark.parametrize("token", ["forged", "a" * 90, "status"])
async def test_a_token_that_is_none_opens_nothing(world: Worlds, token: str) -> None:
    """Forged, or a status link's: the same answer as for an unknown one."""
    shop = await outage(world, revalidate=lambda op: AskShopper(1200))
    kept = await submit(shop)
    await recovered(shop)
    sent = kept.json()["status_url"].rpartition("/")[2] if token == "status" else token
    answer = await submit(shop, amount=1200, resume=sent)
    assert (answer.status_code, answer.json()["situation"], charged(shop)) == (404, "no_such_order", [])


async def test_after_another_decline_on_the_way_the_shopper_hears_it_at_once(world: Worlds) -> None:
    """The shopper is there, so it is told by the shop's own page, like any decline."""
    shop = await outage(world)
    kept, _ = await late_decline(shop)
    declined = await submit(shop, card="tok_declined_2", resume=await token_of(shop, kept))
    assert (declined.status_code, declined.json()) == (402, {"declined": True})
    assert charged(shop) == []
    assert (await submit(shop, card="tok_ok")).status_code == 201
    assert charged(shop) == [(1000, "tok_ok")]


async def test_an_order_that_was_gone_on_with_may_be_kept_again(world: Worlds) -> None:
    """The gateway is down again: a consent of its own, at the new price, and one charge in the end."""
    shop = await outage(world, consent_seconds=600.0)
    kept = await submit(shop)
    await recovered(shop, after_seconds=601.0)
    shop.gateway.otherwise = Does.NOT_CHARGED
    again = await submit(shop, amount=900, resume=await token_of(shop, kept))
    assert again.json()["situation"] == "kept"
    consent = (await only(shop)).consent
    assert consent is not None and (consent.ceiling_minor, consent.at) == (900, shop.clock.now())
    await recovered(shop)
    assert charged(shop) == [(900, "tok_ok")]


async def test_an_order_that_was_kept_again_gives_its_shopper_a_day_of_its_own_when_its_card_is_declined(world: Worlds) -> None:
    """Not what was left of the day in which they were asked before."""
    shop = await outage(world, consent_seconds=600.0)
    kept = await submit(shop)
    await recovered(shop, after_seconds=601.0)
    shop.gateway.otherwise = Does.NOT_CHARGED
    assert (await submit(shop, resume=await token_of(shop, kept))).json()["situation"] == "kept"
    shop.gateway.will(Does.DECLINE)
    held = await recovered(shop)
    assert (held.why, held.give_up_at) == (CARD_DECLINED, shop.clock.now() + ASK_SECONDS)


async def test_who_goes_on_from_another_device_is_found_under_the_address_of_the_order(world: Worlds) -> None:
    """Notices go there, and the desk looks for it there, whatever the second form says."""
    shop = await outage(world, contact=json_field("mail"))
    kept = await submit(shop, mail="ann@fern.example")
    shop.gateway.will(Does.DECLINE)
    asked = await recovered(shop)
    assert (await submit(shop, resume=await token_of(shop, kept), mail="bob@fern.example")).status_code == 201
    paid = await only(shop)
    assert asked.contact_hash is not None
    assert (paid.contact, paid.contact_hash) == (asked.contact, asked.contact_hash)


async def test_a_cancelled_order_is_not_gone_on_with(world: Worlds) -> None:
    """Cancelled while it waited: the link tells so."""
    shop = await outage(world, revalidate=lambda op: AskShopper(1200))
    kept = await submit(shop)
    await recovered(shop)
    token = await token_of(shop, kept)
    await shop.client.post(f"{kept.json()['status_url']}/cancel", headers=JSON)
    told = await submit(shop, amount=1200, resume=token)
    assert (told.json()["situation"], charged(shop)) == ("cancelled", [])


class CancelledMeanwhile(NoStepAtBank):
    """Whoever makes sure of the old payment here has the shopper cancel the order in another tab at that moment."""

    cancels: Any = None

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        await self.cancels()
        return await super().cancel(key, timeout_seconds=timeout_seconds)


async def test_cancelled_while_the_old_payment_is_stopped_it_is_not_charged_anew(world: Worlds) -> None:
    """The other tab was told that the wish is heard: the new card is not charged."""
    gateway = CancelledMeanwhile()
    shop = await outage(world, gateway=gateway)
    kept = await submit(shop, card="tok_old")
    gateway.will(Does.NEEDS_SHOPPER)
    await recovered(shop)
    token = await token_of(shop, kept)
    gateway.cancels = lambda: shop.client.post(f"{kept.json()['status_url']}/cancel", headers=JSON)
    told = await submit(shop, card="tok_new", resume=token)
    assert (told.status_code, charged(shop)) == (202, [])
    await recovered(shop)
    assert ((await status(shop, kept))["situation"], charged(shop)) == ("cancelled", [])


class CancelledBeforeSave(FaultyStore):
    """Whoever saves next has the shopper cancel the order in another tab right before."""

    cancels: Any = None

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        cancels, self.cancels = self.cancels, None
        if cancels is not None:
            await cancels()
        return await super().save(operation, token=token, keep_lease=keep_lease, gone=gone)


async def test_cancelled_in_the_moment_of_going_on_it_is_not_charged(world: Worlds) -> None:
    """The wish reaches the store between the look at the record and the write that begins its next life."""
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    asking = keeping(revalidate=lambda op: AskShopper(1200))
    shop = await world(pay, asking, gateway=gateway, faulty=True, wrap=CancelledBeforeSave)
    kept = await submit(shop)
    await recovered(shop)
    token = await token_of(shop, kept)
    assert isinstance(shop.store, CancelledBeforeSave)
    shop.store.cancels = lambda: shop.client.post(f"{kept.json()['status_url']}/cancel", headers=JSON)
    told = await submit(shop, amount=1200, resume=token)
    assert (told.json()["situation"], charged(shop)) == ("cancel_asked", [])
    await recovered(shop)
    assert ((await status(shop, kept))["situation"], charged(shop)) == ("cancelled", [])


async def test_cancelled_in_the_moment_of_going_on_over_a_cap_it_is_told_as_cancelled(world: Worlds) -> None:
    """Not as an order that cannot be kept: its shopper wanted none."""
    heard: list[Any] = []
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    asking = keeping(revalidate=lambda op: AskShopper(1200), caps=Caps(order_minor=1100))
    shop = await world(pay, asking, gateway=gateway, faulty=True, wrap=CancelledBeforeSave, listeners=[heard.append])
    kept = await submit(shop)
    await recovered(shop)
    token = await token_of(shop, kept)
    assert isinstance(shop.store, CancelledBeforeSave)
    shop.store.cancels = lambda: shop.client.post(f"{kept.json()['status_url']}/cancel", headers=JSON)
    assert (await submit(shop, amount=1200, resume=token)).json()["situation"] == "cancel_asked"
    assert "order.not_kept" not in [event.name for event in heard]


async def test_a_late_decline_can_be_cancelled_and_ends_by_itself(world: Worlds) -> None:
    """Either way uncharged, and told as what it was."""
    for cancels, situation in ((True, "cancelled"), (False, "gave_up")):
        shop = await outage(world)
        kept, _ = await late_decline(shop)
        if cancels:
            await shop.client.post(f"{kept.json()['status_url']}/cancel", headers=JSON)
        await recovered(shop, after_seconds=86_401.0)
        assert ((await status(shop, kept))["situation"], charged(shop)) == (situation, [])


async def test_the_page_shows_the_way_on_in_the_shoppers_words(world: Worlds) -> None:
    """A link with a label of its own: it does not lead to the bank."""
    shop = await outage(world)
    kept, _ = await late_decline(shop)
    labels = {"en": "Go on with this order", "de": "Mit dieser Bestellung weitermachen", "fr": "Continuer avec cette commande"}
    for language, label in labels.items():
        page = await shop.client.get(kept.json()["status_url"], headers={"accept": "text/html", "accept-language": language})
        assert label in page.text
        assert "https://shop.example/checkout?resume=" in page.text
