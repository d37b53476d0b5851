"""Canaries: secrets of one shopper sent through every path, then looked for in everything that anybody could read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from canaryworld import (
    ASYNC,
    BEARER,
    CARDS,
    COOKIE,
    EMAIL,
    ENDED,
    HEADERS,
    HTML,
    JSON,
    STREET,
    TYPED,
    canary_places,
    leaks,
)

from cxguard.core.money import NoteKind
from cxguard.engine.casefile import Actor
from cxguard.engine.cold import open_answer
from cxguard.engine.desk import Desk
from cxguard.rules import Arrival, Rule, cookie
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def place_of(tmp_path: Path) -> AsyncIterator[Any]:
    """`await place_of(**options)`: the shop, on a file of its own."""
    async with canary_places(tmp_path) as made:
        yield made


async def test_no_path_of_an_order_leaves_a_canary_where_anybody_could_read_it(place_of: Any) -> None:
    """Success, replay, mismatch, decline, outage, unknown, and handlers that raise with all of it in the message."""
    place = await place_of()
    await place.a_day()
    assert leaks(await place.sinks()) == []
    await place.rest()
    assert leaks(await place.sinks()) == []
    assert [one.reference for one in await place.records() if one.state in ENDED and one.request is not None] == []


@pytest.mark.parametrize("card", CARDS)
async def test_a_request_with_a_card_is_never_kept(place_of: Any, card: str) -> None:
    """Whatever the card's digits are set apart by: the order of an outage is not kept, and nothing holds the number."""
    place = await place_of()
    for key, does in (("good", Does.CHARGE), ("lost", Does.UNKNOWN), ("kept", Does.NOT_CHARGED)):
        place.gateway.will(*[does] * (3 if does is Does.NOT_CHARGED else 1))
        told = await place.pay(key=key, note=f"my card is {card}", **ASYNC)
        assert told.json().get("situation") != "kept"
    await place.pay(key="raised", note=card, do="raise after")
    assert [one.request for one in await place.records()] == [None] * len(await place.records())
    answers = [open_answer(place.guard.engine.seal, one) for one in await place.records()]
    assert len([each for each in answers if each is not None]) >= 1
    assert card not in repr(answers), "not even sealed"
    assert leaks(await place.sinks()) == []


async def test_what_a_shopper_typed_is_in_no_exposure(place_of: Any) -> None:
    """The shop's own error pages quote whole forms, queries and card numbers."""
    place = await place_of()
    sent = {"cart": "c1", "name": TYPED, "card": CARDS[0], "email": EMAIL, "street": STREET}
    await place.client.post("/form", data=sent, headers=HEADERS)
    await place.client.post("/form", content=f'{{"cart":"c1","name":"{TYPED}"}}', headers={**HEADERS, "content-type": "text/plain"})
    await place.client.post("/cart", files={"photo": b"x" * 100_000}, data=sent, headers=HEADERS)
    await place.client.get("/cart", params=sent, headers=HEADERS)
    assert leaks(await place.sinks()) == []


async def test_remarks_of_shopper_and_desk_hold_no_card_and_no_address(place_of: Any) -> None:
    """What people write about an order is shown at the desk."""
    place = await place_of()
    place.gateway.will(*[Does.NOT_CHARGED] * 3)
    url = (await place.pay(key="kept", **ASYNC)).json()["status_url"]
    for card in CARDS:
        said = await place.client.post(f"{url}/say", data={"what": "other", "words": f"{card} {EMAIL}"}, headers=HTML)
        assert said.status_code == 303
    for kind in (HTML, JSON):
        place.shown.append((await place.client.get(url, headers=kind)).text)
    order = (await place.records())[0]
    desk = Desk(place.guard.engine, rules={}, purposes={})
    for card in CARDS:
        assert (await desk.remark(order.reference, Actor("anna", f"says {card} {EMAIL}"))).done
    (noted,) = await place.records()
    assert [note.kind for note in noted.notes] == [NoteKind.REMARK] * len(noted.notes)
    assert len(noted.notes) == 2 * len(CARDS)
    assert leaks(await place.sinks()) == []


async def test_watching_keeps_nothing_that_was_sent(place_of: Any) -> None:
    """`mode="watch"` records names, counts and readings."""
    place = await place_of(mode="watch")
    for key in ("a", "a", "b"):
        await place.pay(key=key, note=CARDS[1])
    await place.client.post("/form", data={"cart": "c1", "name": TYPED}, headers=HEADERS)
    assert leaks(await place.sinks()) == []


async def test_a_look_up_that_raises_with_a_secret_in_its_words_is_logged_without_them(place_of: Any) -> None:
    """The class of the error and where it was raised are there, for whoever has to mend it."""

    def owner(arrival: Arrival) -> str:
        raise LookupError(f"no visitor for {arrival.snapshot.header_all('cookie')} {BEARER} {TYPED}")

    place = await place_of(rules=[Rule("POST /pay", owner=owner)], funnel=None)
    assert (await place.pay(key="a")).status_code == 503
    assert (await place.pay(key="b", do="raise first")).status_code == 503
    assert leaks(await place.sinks()) == []
    assert "LookupError" in place.log.getvalue()
    assert "test_canaries.py" in place.log.getvalue()


async def test_a_hook_that_raises_in_the_queue_is_logged_without_its_words(place_of: Any) -> None:
    """A shop's own look-up of its charges may fail with anything in its message, in the request and hours later."""

    async def ask(op: Any) -> Any:
        raise LookupError(f"no charge for {TYPED} {COOKIE} {BEARER}")

    async def later(op: Any) -> Any:
        raise LookupError(f"no stock for {TYPED} {COOKIE} {BEARER}")

    by_shop = Rule("POST /pay", owner=cookie("visitor"), charged_by="shop", resolve=ask, later=later, terms="1", wait_seconds=0.0)
    place = await place_of(rules=[by_shop], funnel=None)
    await place.pay(key="a", do="raise first", **ASYNC)
    await place.rest()
    assert leaks(await place.sinks()) == []
    assert "handler.raised" in place.log.getvalue()


@pytest.mark.parametrize("card", CARDS)
async def test_explaining_a_request_with_a_card_says_so_and_shows_none(place_of: Any, card: str) -> None:
    """Whoever asks why an order was not kept is told that there is a card in it, and not which."""
    place = await place_of()
    said = await place.explained(card)
    assert b"not kept" in said
    assert card.encode() not in said
    assert CARDS[0].encode() not in said
