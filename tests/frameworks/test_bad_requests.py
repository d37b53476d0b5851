"""What no shop should get, on each framework: each is told clearly, opens nothing, and charges nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from frameworks.apps.known import BODY_BYTES_MAX, KEYS
from frameworks.ground import Ground, Shopper, Told, connected, only, raw_request, read_raw, written

from cxguard.seal import Seal

pytestmark = pytest.mark.server
DOORS = ("pay", "shop-pay")


def refused(told: Told, *, status: int, situation: str) -> None:
    """A problem document with everything that a front end, a shopper and an engineer need."""
    body = told.body
    assert (told.status, told.situation, told.money) == (status, situation, "unknown"), told
    assert body["type"].startswith("urn:cxguard:problem:")
    assert body["title"]
    assert body["contact"]["phone"]
    assert told.answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in told.answer.headers


@pytest.mark.parametrize(
    ("key", "situation"),
    [
        (None, "key_missing"),
        ("k" * 256, "key_malformed"),
        ("k" * 5_000, "key_malformed"),
        ('"not closed', "key_malformed"),
        ("a, b", "key_malformed"),
        ("a b", "key_malformed"),
    ],
    ids=["none", "256", "5000", "half a string", "two in one", "blank"],
)
def test_a_key_that_is_none_is_refused(shop: Ground, cart: str, key: str | None, situation: str) -> None:
    """400 that says what a key is; nothing is opened, so that the same basket pays under a good one."""
    ann = shop.shopper()
    refused(ann.pay(cart, key=key), status=400, situation=situation)
    assert shop.gateway.sends(cart) == []
    assert ann.pay(cart).paid


def test_an_empty_key_is_no_key(shop: Ground, cart: str) -> None:
    """400, as without the header."""
    told = shop.shopper().pay(cart, key=None, idempotency_key="")
    assert (told.status, told.money) == (400, "unknown")
    assert shop.gateway.sends(cart) == []


@pytest.mark.parametrize("line", [b"idempotency-key: a\x01b", b"idempotency-key: a\x7fb", b"idempotency-key: \xff\xfe"])
def test_a_key_with_control_characters_is_refused(shop: Ground, cart: str, line: bytes) -> None:
    """By the server or by us: 400, and nothing is opened."""
    assert _raw(shop, cart, line).status == 400
    assert shop.gateway.sends(cart) == []


def test_two_keys_are_refused(shop: Ground, cart: str) -> None:
    """Proxies and frameworks differ in which one they believe."""
    told = _raw(shop, cart, b"idempotency-key: a", b"idempotency-key: b")
    assert (told.status, told.money) == (400, "unknown")
    assert shop.gateway.sends(cart) == []


def _raw(shop: Ground, cart: str, *lines: bytes) -> Told:
    ann = shop.shopper()
    with connected(shop) as connection:
        connection.sendall(raw_request(shop, ann, _content(shop, cart), lines=lines))
        return ann.told(read_raw(connection))


def _order(cart: str) -> dict[str, object]:
    return {"cart": cart, "amount": 1000, "currency": "EUR", "card": "tok_ok"}


def _content(shop: Ground, cart: str, door: str = "pay", **more: object) -> bytes:
    return written(shop, door, {**_order(cart), **more})[1]


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(shop: Ground, cart: str) -> None:
    """413, with a length and in chunks."""
    ann, long = shop.shopper(), b" " * (BODY_BYTES_MAX + 1)
    refused(ann.post(_content(shop, cart) + long), status=413, situation="body_too_large")
    refused(ann.post(_chunks(_content(shop, cart) + long)), status=413, situation="body_too_large")
    assert shop.gateway.sends(cart) == []


@pytest.mark.parametrize("door", DOORS)
@only(lambda one: one.name != "wsgi")  # WSGI knows no body without a length: with a guard or without, the app reads none
def test_a_body_in_chunks_is_read_like_any_other(shop: Ground, cart: str, door: str) -> None:
    """The app gets it whole."""
    assert shop.shopper().post(_chunks(_content(shop, cart, door)), door=door).paid
    assert len(shop.gateway.charges(cart)) == 1


def _chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 40):
        yield content[start : start + 40]


def test_a_body_that_never_ends_is_let_go(shop: Ground, cart: str) -> None:
    """408 after the rule's time, and the key is free."""
    ann = shop.shopper()
    content = _content(shop, cart)
    lines = (f"idempotency-key: key-{cart}".encode(),)
    with connected(shop) as connection:
        connection.sendall(raw_request(shop, ann, content[:20], lines=lines, length=len(content)))
        told = ann.told(read_raw(connection))
    assert (told.status, told.situation, told.money) == (408, "body_too_slow", "unknown")
    assert ann.pay(cart).paid


@pytest.mark.parametrize("fault", ["truncated", "member twice", "not UTF-8", "no JSON", "too deep", "a list", "empty"])
def test_a_body_that_is_not_what_it_says_is_refused(shop: Ground, cart: str, fault: str) -> None:
    """400 before anything is opened."""
    content = _content(shop, cart)
    broken = {
        "truncated": content[:-5],
        "member twice": content.replace(b'"amount": 1000', b'"amount": 1000, "amount": 1'),
        "not UTF-8": content.replace(cart.encode(), b"\xff\xfe" + cart.encode()),
        "no JSON": b"cart=" + cart.encode(),
        "too deep": b"[" * 1_000 + b"]" * 1_000,
        "a list": b"[1, 2]",
        "empty": b"",
    }[fault]
    told = shop.shopper().post(broken)
    if shop.framework.graphql and fault == "empty":
        assert not told.paid  # selects no mutation: the endpoint's own affair
    else:
        refused(told, status=400, situation="bad_request")
    assert shop.gateway.sends(cart) == []


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", ""])
@only(lambda one: not one.graphql)  # there a mutation is looked for in whatever the endpoint might read
def test_json_under_a_wrong_content_type_is_charged_once_or_turned_away(shop: Ground, cart: str, content_type: str) -> None:
    """Some frameworks read it all the same, so we do: what they charge is charged once, and what they turn away is not."""
    ann = shop.shopper()
    told = [ann.post(_content(shop, cart), content_type=content_type, idempotency_key=f"key-{cart}") for _ in range(2)]
    assert len(shop.gateway.charges(cart)) == (1 if told[0].paid else 0)
    assert told[0].paid is told[1].paid


@pytest.mark.parametrize("amount", [-1, 12.5, "1e3", None, True, 10**18], ids=str)
def test_an_amount_that_nobody_can_pay_is_refused(shop: Ground, cart: str, amount: object) -> None:
    """Negative, with decimals, no number at all."""
    refused(shop.shopper().post(_content(shop, cart, amount=amount)), status=400, situation="bad_request")
    assert shop.gateway.sends(cart) == []


@pytest.mark.parametrize("cookie", [None, "forged"])
@pytest.mark.parametrize("door", DOORS)
def test_a_request_of_nobody_is_401_and_opens_nothing(shop: Ground, cart: str, door: str, cookie: str | None) -> None:
    """Without a session, or with a forged one, nobody can be named as the owner."""
    stranger = shop.stranger()
    if cookie:
        for name, value in shop.shopper().client.cookies.items():
            stranger.client.cookies.set(name, value[:-3] + "abc")
    told = stranger.pay(cart, door=door)
    refused(told, status=401, situation="owner_missing")
    assert told.answer.headers.get("www-authenticate") or shop.framework.graphql
    assert shop.gateway.sends(cart) == []


def test_links_that_are_unknown_expired_or_forged_are_one_and_the_same_404(shop: Ground, cart: str) -> None:
    """Whoever guesses learns nothing, not even that an order exists."""
    ann = shop.shopper()
    url = _status_url(ann, cart)
    token, seal = url.rsplit("/", 1)[1], Seal(KEYS)
    id = seal.read_token(token, now=0.0, purpose="status") or ""
    expired = seal.sign_token(id, expires_at=1_000_000.0, purpose="status")
    other_use = seal.sign_token(id, expires_at=9_000_000_000.0, purpose="resume")
    unknown = seal.sign_token("0" * 64, expires_at=9_000_000_000.0, purpose="status")
    tokens = ["nonsense", "x" * 3_000, expired, other_use, unknown, token[:-2] + "AA"]
    answers = [ann.client.get(f"/_cxguard/orders/{token}", headers={"accept": "application/json"}) for token in tokens]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert ann.client.get(url, headers={"accept": "application/json"}).status_code == 200


def test_the_shops_own_answer_is_shown_to_its_owner_only(shop: Ground, cart: str) -> None:
    """Who else holds the link sees what became of the order, and not the shop's page."""
    ann, bob = shop.shopper("ann"), shop.shopper("bob")
    paid = ann.pay(cart)
    url = _status_url(ann, cart)
    assert ann.client.get(f"{url}/answer").content == paid.answer.content
    assert bob.client.get(f"{url}/answer").status_code == 404
    assert bob.client.get(url, headers={"accept": "application/json"}).json()["situation"] == "placed"


def _status_url(shopper: Shopper, cart: str) -> str:
    """Of an order that is paid: told with the mismatch of its key."""
    shopper.pay(cart)
    return str(shopper.pay(cart, amount=1).body["status_url"])
