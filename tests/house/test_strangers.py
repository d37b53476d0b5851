"""Three shoppers, the same key, basket, references and links: nobody is shown what belongs to another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import permutations
from typing import Any

import httpx
import pytest
import pytest_asyncio
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cxguard.core.answer import Situation
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.rules import json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
OWNERS = ("ann", "bob", "eve")
AMOUNTS = {"ann": 1111, "bob": 2222, "eve": 3333}
HTML, JSON = {"accept": "text/html"}, {"accept": "application/json"}


async def handler(request: Request) -> Response:
    """Answers with a page that names its shopper."""
    body = await request.json()
    await current_operation().charge(Charge(body["amount"], "EUR", source="tok_ok", order_id=body["cart"]))
    owner = request.headers["x-user"]
    return HTMLResponse(f"<p>thank you, private page of {owner}</p>", 201, headers={"set-cookie": f"visitor={owner}"})


async def place(op: Any) -> None:
    """How a kept order is placed."""
    await op.charge(Charge(1000, "EUR", source="tok_ok"))


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await Worlds(stack)(handler, rule(purchase=[json_field("cart")]))


async def paid(shop: World) -> dict[str, httpx.Response]:
    """What each was answered."""
    return {owner: await shop.pay(owner=owner, amount=AMOUNTS[owner]) for owner in OWNERS}


async def references(shop: World) -> dict[int, str]:
    found = (await shop.store.search(Query(namespace="shop"))).operations
    return {one.amount_minor or 0: one.reference for one in found}


async def link(shop: World, owner: str) -> str:
    (operation,) = [one for one in (await shop.store.search(Query(namespace="shop"))).operations if one.amount_minor == AMOUNTS[owner]]
    token = shop.guard.engine.seal.sign_token(operation.id, expires_at=shop.clock.now() + 60, purpose="status")
    return f"/_cxguard/orders/{token}"


async def test_the_same_key_and_basket_are_each_owners_own(shop: World) -> None:
    """Each is charged once, and a repetition brings back one's own page, without its cookie."""
    await paid(shop)
    again = await paid(shop)
    assert len(shop.gateway.standing) == len(OWNERS)
    for owner, answer in again.items():
        assert answer.text == f"<p>thank you, private page of {owner}</p>"
        assert (answer.headers["idempotency-replayed"], "set-cookie" in answer.headers) == ("true", False)


@pytest.mark.parametrize(("victim", "thief"), list(permutations(OWNERS, 2)))
async def test_nobody_reaches_anothers_order(shop: World, victim: str, thief: str) -> None:
    """Not by another key for the same basket, not by confirming a stranger's reference, not by a link that was passed on."""
    await paid(shop)
    reference, url = (await references(shop))[AMOUNTS[victim]], await link(shop, victim)
    told = [
        await shop.pay(key="k2", owner=thief, amount=AMOUNTS[thief]),
        await shop.pay(key="k3", owner=thief, amount=AMOUNTS[victim], **{"cxguard-confirm-duplicate": reference}),
        await shop.client.get(f"{url}/answer", headers={"x-user": thief}),
        await shop.client.get(url, headers={"x-user": thief, **HTML}),
    ]
    for answer in told:
        assert f"private page of {victim}" not in answer.text
    assert reference not in told[0].text + told[1].text
    assert told[2].status_code == 404
    assert f"{url}/answer" not in told[3].text


async def test_who_is_signed_out_gets_no_stored_answer(shop: World) -> None:
    """Whose request it is comes first: the key alone, however right, brings nothing back."""
    await paid(shop)
    sent = {"amount": AMOUNTS["ann"], "currency": "EUR", "cart": "c1"}
    told = await shop.client.post("/pay", json=sent, headers={"idempotency-key": "k1"})
    assert (told.status_code, told.json()["type"]) == (401, "urn:cxguard:problem:owner-missing")
    assert "private page" not in told.text
    assert "idempotency-replayed" not in told.headers


async def test_a_mismatch_hands_out_nothing_of_the_first_answer(shop: World) -> None:
    """Another request under a key that is taken is told so, and not what was answered the first time."""
    await paid(shop)
    told = await shop.pay(owner="ann", amount=AMOUNTS["bob"])
    assert told.status_code == 422
    assert "private page" not in told.text


async def test_a_link_that_was_passed_on_names_nobody() -> None:
    """Whoever holds it reads where the order and its money are; not whose it is, nor how to reach them, nor what was bought."""
    async with AsyncExitStack() as stack:
        shop = await Worlds(stack)(handler, rule(later=place, terms="1", contact=json_field("email"), purchase=[json_field("cart")]))
        shop.gateway.will(*[Does.NOT_CHARGED] * 3)
        sent = {"amount": 1000, "currency": "EUR", "cart": "yellow boots", "email": "ann@fern.example", "street": "12 Elm Row"}
        told = await shop.client.post("/pay", json=sent, headers={"x-user": "ann", "idempotency-key": "k1", "prefer": "respond-async"})
        url = told.json()["status_url"]
        for kind in (HTML, JSON):
            page = await shop.client.get(url, headers={"x-user": "eve", **kind})
            assert page.status_code == 200
            assert not [word for word in ("ann@", "yellow boots", "Elm Row", '"ann"') if word in page.text]


@pytest.mark.parametrize("name", ["host", "x-forwarded-host", "x-forwarded-prefix"])
@pytest.mark.parametrize("accept", [HTML, JSON])
async def test_no_header_of_a_request_leads_our_links_elsewhere(shop: World, name: str, accept: dict[str, str]) -> None:
    """Status links and redirects are paths of this site, whatever host the client names."""
    headers = {name: "//evil.example" if name == "x-forwarded-prefix" else "evil.example"}
    shop.gateway.will(Does.UNKNOWN)
    told = await shop.pay(**{**headers, **accept, "prefer": "respond-async"})
    assert "evil" not in told.text + repr(told.headers)
    url = told.headers.get("location") or told.json()["status_url"]
    assert url.startswith("/_cxguard/orders/")
    page = await shop.client.get(url, headers={**headers, **accept})
    assert page.status_code == 200
    assert "evil" not in page.text + repr(page.headers)
    assert page.headers["cache-control"] == "no-store"


async def test_a_link_for_another_purpose_or_a_changed_one_opens_nothing(shop: World) -> None:
    """The same 404 for a forged, an expired, and a desk's token."""
    await paid(shop)
    good = await link(shop, "ann")
    seal, now, token = shop.guard.engine.seal, shop.clock.now(), good.rpartition("/")[2]
    id = seal.read_token(token, now=now, purpose="status") or ""
    others = [
        seal.sign_token(id, expires_at=now + 60, purpose="desk-form"),
        seal.sign_token(id, expires_at=now - 1, purpose="status"),
        token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        token + "A",
        "",
    ]
    answers = [await shop.client.get(f"/_cxguard/orders/{other}", headers=JSON) for other in others]
    assert {(answer.status_code, answer.json()["situation"]) for answer in answers} == {(404, Situation.NO_SUCH_ORDER)}
    assert len({answer.text for answer in answers}) == 1
