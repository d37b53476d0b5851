"""What one request asks for, as its rule reads it."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.snapshot import Snapshot
from cxguard.errors import BadAmount, BadBody, MissingKey, OwnerMissing
from cxguard.rules import Arrival, Asked, FoundKey, Reading, Rule, cookie, form_field, header, json_field, major, read_asked, redirects_to

OWNER = cookie("visitor")
KEY = ("idempotency-key", "k-1")
VISITOR = ("cookie", "visitor=v-7")


def arrival(body: bytes, *headers: tuple[str, str], content_type: str = "application/json") -> Arrival:
    return Arrival(Snapshot("POST", "/pay", "", (("content-type", content_type), *headers), body))


RULE = Rule(
    "POST /pay",
    owner=OWNER,
    key=header("Idempotency-Key") | json_field("cart_id"),
    purchase=(json_field("items.0.sku"), json_field("gift")),
    amount_minor=major(json_field("total")),
    currency=json_field("currency"),
    contact=json_field("email"),
)
BODY = b'{"cart_id": 7, "items": [{"sku": "fern"}], "total": 49.99, "currency": "EUR", "email": "fern@example.com"}'


@pytest.mark.asyncio
async def test_everything_is_read_once() -> None:
    """Key, owner, amount, purchase and contact come from one request, in one value."""
    assert await read_asked(RULE, arrival(BODY, KEY, VISITOR)) == Asked(
        key=FoundKey("k-1", True, "header Idempotency-Key", ("cart_id", "7")),
        owner="v-7",
        amount_minor=4999,
        currency="EUR",
        purchase=("cart_id", "7", "items.0.sku", "fern", "", ""),
        contact="fern@example.com",
    )


@pytest.mark.asyncio
async def test_request_without_purchase_fields_has_no_purchase() -> None:
    """Where nothing says what is bought, no purchase is claimed: two unknown baskets are not one."""
    rule = Rule("POST /pay", owner=OWNER, purchase=(json_field("sku"),))
    asked = await read_asked(rule, arrival(b"{}", KEY, VISITOR))
    assert asked is not None and asked.purchase == ()


@pytest.mark.asyncio
async def test_optional_key_lets_a_request_pass() -> None:
    """Without a key, a rule that does not require one leaves the request alone, owner or not, readable or not."""
    rule = Rule("POST /pay", owner=OWNER, key_required=False)
    assert await read_asked(rule, arrival(b"{")) is None


REFUSED: list[tuple[Rule, Arrival, type[Exception], str]] = [
    (
        RULE,
        arrival(b"{}", VISITOR),
        MissingKey,
        "the request carries no key: send header Idempotency-Key or json field cart_id, one for each basket",
    ),
    (
        RULE,
        arrival(BODY, KEY),
        OwnerMissing,
        "nobody can be named as the owner of this request: sign in, or allow cookies, and send it again",
    ),
    (RULE, arrival(BODY, KEY, ("cookie", "visitor=")), OwnerMissing, "nobody can be named"),
    (RULE, arrival(BODY, KEY, ("cookie", "visitor=" + "v" * 256)), OwnerMissing, "nobody can be named"),
    *((RULE, arrival(BODY, KEY, ("cookie", f"visitor={nobody}")), OwnerMissing, "nobody") for nobody in ("None", "null", "AnonymousUser")),
    (RULE, arrival(BODY.replace(b"49.99", b"49.999"), KEY, VISITOR), BadAmount, "more than the 2 decimals of EUR"),
    (RULE, arrival(b'{"currency": "EUR"}', KEY, VISITOR), BadAmount, "the request does not say the amount: send it"),
    (Rule("POST /pay", owner=OWNER), arrival(b'{"a": 1, "a": 2}', KEY, VISITOR), BadBody, "the member 'a' twice"),
    (
        Rule("POST /pay", owner=OWNER),
        arrival(b"a=%FF", KEY, VISITOR, content_type="application/x-www-form-urlencoded"),
        BadBody,
        "not text",
    ),
]


@pytest.mark.parametrize(("rule", "given", "error", "says"), REFUSED)
@pytest.mark.asyncio
async def test_refused_requests(rule: Rule, given: Arrival, error: type[Exception], says: str) -> None:
    """What a rule needs and the request lacks is refused with what to send, before anything is opened."""
    with pytest.raises(error, match=says):
        await read_asked(rule, given)


@pytest.mark.asyncio
async def test_statuses_of_the_refusals() -> None:
    """A missing key is a 400, a missing owner a 401."""
    assert (MissingKey.status, MissingKey.problem) == (400, "key-missing")
    assert (OwnerMissing.status, OwnerMissing.problem) == (401, "owner-missing")


@pytest.mark.asyncio
async def test_owner_of_the_shops_own() -> None:
    """A callable of the shop names the owner, and may find nobody."""

    async def user_of(request: Arrival) -> Any:
        return {"fern": 7}.get(request.snapshot.cookie("login") or "")

    rule = Rule("POST /pay", owner=user_of)
    asked = await read_asked(rule, arrival(b"{}", KEY, ("cookie", "login=fern")))
    assert asked is not None and asked.owner == "7"
    with pytest.raises(OwnerMissing):
        await read_asked(rule, arrival(b"{}", KEY, ("cookie", "login=moss")))


@pytest.mark.asyncio
async def test_form_shop() -> None:
    """A shop of forms reads key and purchase from its fields."""
    rule = Rule("POST /pay", owner=OWNER, key=form_field("basket"), reads={Reading.SUCCEEDED: redirects_to("/ok")})
    asked = await read_asked(rule, arrival(b"basket=b-7&csrf=x", VISITOR, content_type="application/x-www-form-urlencoded"))
    assert asked is not None and asked.key == FoundKey("b-7", False, "form field basket")
