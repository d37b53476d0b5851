"""The gateway fails in each of its ways, on each framework: nothing charged twice, nothing lost, no wrong word."""

from __future__ import annotations

import pytest
from frameworks.ground import ASYNC, Ground, only, until

pytestmark = pytest.mark.server


def test_silence_after_the_charge_is_looked_up_within_the_request(shop: Ground, cart: str) -> None:
    """Where the guard charges, the handler goes on with the charge that the look-up found."""
    shop.gateway.mode("time_out_after")
    assert shop.shopper().pay(cart).paid
    assert len(shop.gateway.charges(cart)) == 1


def test_silence_after_the_shops_own_charge_is_told_as_paid(shop: Ground, cart: str) -> None:
    """The handler failed, the hook found the charge: "paid, we are finishing it", also to the retry."""
    shop.gateway.mode("time_out_after")
    ann = shop.shopper()
    first = ann.pay(cart, door="shop-pay")
    shop.gateway.mode("healthy")
    again = ann.pay(cart, door="shop-pay")
    assert (first.status, first.money, again.money) == (202, "charged", "charged")
    assert len(shop.gateway.sends(cart)) == 1


@pytest.mark.parametrize("door", ("pay", "shop-pay"))
@only(lambda one: one.name in ("starlette", "django-sync"))  # the engine's work, the same for all: once with a lifespan and once without
def test_silence_that_nothing_explains_is_unknown_until_it_is_explained(shop: Ground, cart: str, door: str) -> None:
    """409 "do not pay again" while the gateway says nothing at all; "charged" once it speaks again."""
    shop.gateway.mode("time_out_after", lookups_too=True)
    ann = shop.shopper()
    told = ann.pay(cart, door=door)
    assert (told.status, told.money, told.body["safe_to_retry"]) == (409, "unknown", False)
    shop.gateway.recover()
    later = until(lambda: ann.pay(cart, door=door), wanted=lambda now: now.money == "charged")
    assert later.status in (200, 201, 202)
    assert len(shop.gateway.charges(cart)) == 1


@pytest.mark.parametrize("door", ("pay", "pay-now"))
def test_a_gateway_that_is_down_is_told_as_not_charged_and_nothing_is_kept(shop: Ground, cart: str, door: str) -> None:
    """503 for a client that would take a 202 for "paid"; afterwards the same submit pays."""
    shop.gateway.mode("refuse")
    ann = shop.shopper()
    told = ann.pay(cart, door=door)
    assert (told.status, told.money, told.body["order_saved"], told.body["safe_to_retry"]) == (503, "not_charged", False, True)
    assert "retry-after" in told.answer.headers
    shop.gateway.mode("healthy")
    assert ann.pay(cart, door=door).paid
    assert len(shop.gateway.charges(cart)) == 1


def test_a_kept_order_can_be_cancelled_and_is_never_charged(shop: Ground, cart: str) -> None:
    """202 for a client that knows it; cancelled on its status page, and the retry is told so."""
    shop.gateway.mode("refuse")
    ann = shop.shopper()
    kept = ann.pay(cart, **ASYNC)
    assert (kept.status, kept.situation, kept.money, kept.body["order_saved"]) == (202, "kept", "not_charged", True)
    page, as_json = kept.body["status_url"], {"accept": "application/json"}
    told = ann.client.post(f"{page}/cancel", headers=as_json).json()
    assert (told["situation"] in ("cancelled", "cancel_asked"), told["money"]) == (True, "not_charged")  # asked: the queue is at it
    until(lambda: ann.client.get(page, headers=as_json).json()["situation"], wanted=lambda now: now == "cancelled")
    shop.gateway.mode("healthy")
    again = ann.pay(cart, **ASYNC)
    assert (again.situation, again.money) == ("cancelled", "not_charged")
    assert shop.gateway.charges(cart) == []


def test_the_shops_own_charge_that_nobody_can_explain_is_never_tried_again(shop: Ground, cart: str) -> None:
    """The hook finds nothing and cannot say "never sent": it stays unknown, and the shop's code is not run again."""
    shop.gateway.mode("refuse")
    ann = shop.shopper()
    told = ann.pay(cart, door="shop-pay")
    assert (told.status, told.money, told.body["safe_to_retry"]) == (409, "unknown", False)
    shop.gateway.mode("healthy")
    assert ann.pay(cart, door="shop-pay").money == "unknown"
    assert shop.gateway.sends(cart) == []
