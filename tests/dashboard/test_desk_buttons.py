"""What the desk's buttons do, and what they say when they do not."""

from __future__ import annotations

import html
import re

import pytest
from deskclient import DeskClient
from deskworld import BORIS

from cxguard.core import names
from cxguard.core.operation import State
from cxguard.core.outcomes import Charged

pytestmark = pytest.mark.asyncio

PAYLOADS = ["</textarea><svg onload=alert(1)>", "\"><img src=x onerror=alert(1)>", "{{7*7}}", "'onmouseover='alert(1)"]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_what_was_typed_comes_back_as_text(desk: DeskClient, payload: str) -> None:
    """A refused form keeps its words, escaped, in the field that they were typed into."""
    order = await desk.world.unknown()
    answer = await desk.press(order.reference, "resolve", said="charged", amount=payload, why=payload, payment_id=payload)
    assert answer.status_code == 422
    field = re.search(r'<textarea id="why-resolve"[^>]*>(.*?)</textarea>', answer.text, re.DOTALL)
    assert field is not None
    assert html.unescape(field[1]) == payload
    assert (await desk.world.get(order.id)).notes == ()


async def test_button_does_it_once_and_leads_back(desk: DeskClient) -> None:
    """A 303 to the order after it was done, which says what became of it; a reload does nothing again."""
    order = await desk.world.put("k", why="later_failed")
    answer = await desk.press(order.reference, "requeue")
    assert answer.status_code == 303
    page = await desk.get(answer.headers["location"].removeprefix("/ops"))
    assert "It is back in the queue" in page.text
    assert (await desk.world.get(order.id)).state is State.QUEUED


async def test_link_cannot_make_the_desk_say_what_did_not_happen(desk: DeskClient) -> None:
    """What was done is said only with a signature: made by the desk, for this person, for this order, for a moment."""
    first, second = await desk.world.put("k"), await desk.world.put("l")
    done = (await desk.press(first.reference, "remark")).headers["location"].partition("said=")[2]
    for path in (f"/orders/{second.reference}?said={done}", f"/orders/{first.reference}?said=It+is+cancelled."):
        assert 'class="notice' not in (await desk.get(path)).text
    assert 'class="notice' not in (await desk.get(f"/orders/{first.reference}?said={done}", headers={"x-staff": "boris"})).text
    desk.world.clock.advance(121)
    assert 'class="notice' not in (await desk.get(f"/orders/{first.reference}?said={done}")).text


async def test_refused_button_says_why_and_keeps_the_words(desk: DeskClient) -> None:
    """An order that somebody else has taken meanwhile: 409, the reason, and the typed reason still there."""
    order = await desk.world.put("k", why="later_failed")
    form = (await desk.forms(f"/orders/{order.reference}"))[f"/ops/orders/{order.reference}/requeue"]
    await desk.world.desk.take_over(order.reference, BORIS)
    answer = await desk.post(f"/orders/{order.reference}/requeue", {**form, "why": "the gateway is back"})
    assert answer.status_code == 409
    assert "Somebody is working on it" in answer.text
    assert (await desk.world.get(order.id)).state is State.HELD


async def test_button_pressed_on_an_old_page_does_nothing(desk: DeskClient) -> None:
    """What was decided on an order as it no longer is, is not carried out."""
    order = await desk.world.put("k", why="later_failed")
    form = (await desk.forms(f"/orders/{order.reference}"))[f"/ops/orders/{order.reference}/requeue"]
    await desk.world.guard.store.note(order.id, desk.world.shopper_cancels(order), namespace="shop")
    answer = await desk.post(f"/orders/{order.reference}/requeue", {**form, "why": "x"})
    assert answer.status_code == 409
    assert (await desk.world.get(order.id)).state is State.HELD


async def test_word_about_a_payment_is_put_on_record(desk: DeskClient) -> None:
    """The form's word, number and amount become a fact under the person's name."""
    order = await desk.world.unknown()
    fields = {"said": "charged", "payment_id": "pay_1", "amount": "49.99", "currency": "eur", "why": "seen on the gateway's page"}
    assert (await desk.press(order.reference, "resolve", **fields)).status_code == 303
    note = (await desk.world.get(order.id)).notes[0]
    assert (note.source, note.text, note.outcome) == ("desk:anna", fields["why"], Charged(4999, "EUR", payment_id="pay_1"))


@pytest.mark.parametrize(
    "fields",
    [{"said": "maybe"}, {"said": ""}, {"said": "charged", "amount": "4,99"}, {"said": "charged", "amount": "1", "currency": "ZZZ"}],
)
async def test_word_that_cannot_be_read_is_refused(desk: DeskClient, fields: dict[str, str]) -> None:
    """An amount that is none, or no choice at all: nothing becomes a fact."""
    order = await desk.world.unknown()
    assert (await desk.press(order.reference, "resolve", **fields)).status_code == 422
    assert (await desk.world.get(order.id)).notes == ()


async def test_only_offered_buttons_stand_on_the_page(desk: DeskClient) -> None:
    """A finished and paid order offers what it allows; the rest is named with its reason."""
    order = await desk.world.put("k", State.FINISHED, desk.world.send("k", Charged(4999, "EUR", payment_id="p")))
    buttons = {action.rpartition("/")[2] for action in await desk.forms(f"/orders/{order.reference}") if "/orders/" in action}
    assert buttons == {"resolve", "remark"}
    assert "give the money back at the gateway" in (await desk.get(f"/orders/{order.reference}")).text


async def test_whole_day_at_the_desk(desk: DeskClient) -> None:
    """Take an unknown order, look it up, say that it was charged: the queue places it, and the money was taken once."""
    order = await desk.world.unknown()
    assert (await desk.press(order.reference, "take")).status_code == 303
    assert "In your hands" in (await desk.get(f"/orders/{order.reference}")).text
    payment = desk.world.gateway.payments[0]
    await desk.press(order.reference, "resolve", said="charged", payment_id=payment.id)
    await desk.world.guard.queue().run_once()
    after = await desk.world.get(order.id)
    assert (after.state, len(desk.world.gateway.standing)) == (State.FINISHED, 1)
    assert "placed and paid" in (await desk.get(f"/orders/{order.reference}")).text


async def test_unknown_button_is_a_page(desk: DeskClient) -> None:
    """A button that the desk does not have is a 404 in words."""
    order = await desk.world.put("k")
    assert (await desk.post(f"/orders/{order.reference}/explode", {})).status_code == 404


async def test_reference_is_a_name_that_can_be_said(desk: DeskClient) -> None:
    """The page is found by the reference as the shopper reads it out."""
    order = await desk.world.put("k")
    assert names.normalise_reference(order.reference) == order.reference
    assert (await desk.get(f"/orders/{order.reference.lower().replace('-', '')}")).status_code == 200
