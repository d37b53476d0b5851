"""The shop's own code, or its shopper's connection, fails before, during and after the charge, on each framework."""

from __future__ import annotations

import os

import pytest
from frameworks.apps.orders import Trouble
from frameworks.ground import Ground, connected, only, raw_request, until, written

pytestmark = pytest.mark.server
DOORS = ("pay", "pay-now", "shop-pay")
AFTER = (Trouble.RAISE_AFTER, Trouble.ERROR_AFTER)


@pytest.mark.parametrize("door", DOORS)
def test_a_handler_that_raises_before_the_charge_frees_the_key(shop: Ground, cart: str, door: str) -> None:
    """503, surely not charged, basket kept; the same submit may be sent again and pays."""
    ann = shop.shopper()
    failed = ann.pay(cart, door=door, x_trouble=Trouble.RAISE_BEFORE)
    assert (failed.status, failed.money, failed.body["safe_to_retry"]) == (503, "not_charged", True)
    assert shop.gateway.sends(cart) == []
    assert ann.pay(cart, door=door).paid
    assert len(shop.gateway.charges(cart)) == 1


@pytest.mark.parametrize("trouble", AFTER)
@pytest.mark.parametrize("door", DOORS)
def test_a_failure_after_the_charge_is_told_as_paid_and_never_charged_again(shop: Ground, cart: str, door: str, trouble: str) -> None:
    """ "No payment has been taken" is not let through: the first answer and every repetition say "charged"."""
    ann = shop.shopper()
    first = ann.pay(cart, door=door, x_trouble=trouble)
    again = ann.pay(cart, door=door)
    assert (first.status, first.money) == (202, "charged")
    assert again.money == "charged"
    assert len(shop.gateway.sends(cart)) == 1


@pytest.mark.parametrize("door", DOORS)
@only(lambda one: one.name == "starlette")  # the guard's own work, the same for all
def test_an_answer_that_breaks_off_is_replaced_by_a_whole_one(shop: Ground, cart: str, door: str) -> None:
    """The handler raises while it answers: no half of a page leaves, and the shopper hears that the order is paid."""
    ann = shop.shopper()
    first = ann.pay(cart, door=door, x_trouble=Trouble.BREAKS_OFF)
    again = ann.pay(cart, door=door)
    assert (first.status, first.money, again.money) == (202, "charged", "charged")
    assert len(shop.gateway.sends(cart)) == 1


@only(lambda one: one.name in ("starlette", "django-sync"))  # the engine's work, the same for all: once with a lifespan and once without
def test_a_paid_order_that_failed_is_completed_without_the_shopper(shop: Ground, cart: str) -> None:
    """`later` places it; the status page follows to "placed", and nothing is charged again."""
    ann = shop.shopper()
    failed = ann.pay(cart, x_trouble=Trouble.RAISE_AFTER)
    placed = until(lambda: ann.status(failed), wanted=lambda now: now["situation"] == "placed")
    assert placed["money"] == "charged"
    assert len(shop.gateway.charges(cart)) == 1


@pytest.mark.parametrize("door", DOORS)
def test_a_shopper_who_leaves_in_the_middle_of_the_charge_finds_the_paid_order(shop: Ground, cart: str, door: str) -> None:
    """The connection is cut while the gateway works; the run goes on, and the retry gets the shop's own answer."""
    ann = shop.shopper()
    with shop.gateway.holding():
        connection = connected(shop)
        connection.sendall(_submit(shop, ann, cart, door))
        shop.gateway.until_held()
        connection.close()
    again = ann.pay(cart, door=door)
    assert again.paid
    assert len(shop.gateway.sends(cart)) == 1


def test_a_shopper_who_leaves_in_the_middle_of_the_body_has_sent_nothing(shop: Ground, cart: str) -> None:
    """Half a body opens nothing; the whole one pays."""
    ann = shop.shopper()
    whole = _submit(shop, ann, cart, "pay")
    connection = connected(shop)
    connection.sendall(whole[:-10])
    connection.close()
    assert ann.pay(cart).paid
    assert len(shop.gateway.sends(cart)) == 1


def _submit(shop: Ground, shopper: object, cart: str, door: str) -> bytes:
    _, content = written(shop, door, {"cart": cart, "amount": 1000, "currency": "EUR", "card": "tok_ok"})
    return raw_request(shop, shopper, content, lines=(f"idempotency-key: key-{cart}".encode(),), door=door)  # type: ignore[arg-type]


@only(lambda one: one.background)  # elsewhere its work after the answer is no part of the request
def test_an_answer_does_not_wait_for_long_work_after_it(shop: Ground, cart: str) -> None:
    """The answer and its repetition go out while the work after it still runs; when that has ended they are the same."""
    pipe, mailed = shop.folder / f"{cart}.pipe", shop.folder / f"{cart}.mailed"
    os.mkfifo(pipe)
    ann = shop.shopper()
    first = ann.pay(cart, door="shop-pay", x_trouble=Trouble.BACKGROUND)
    second = ann.pay(cart, door="shop-pay")
    assert first.paid
    assert not mailed.exists()
    pipe.write_bytes(b"go")
    until(mailed.exists, wanted=bool)
    third = ann.pay(cart, door="shop-pay")
    assert [second.answer.content, third.answer.content] == [first.answer.content] * 2
    assert len(shop.gateway.sends(cart)) == 1


@pytest.mark.parametrize("door", ("pay-now", "shop-pay"))
@only(lambda one: one.background)  # elsewhere its work after the answer is no part of the request
def test_work_after_the_answer_that_fails_frees_nothing(shop: Ground, cart: str, door: str) -> None:
    """The order stands, and the repetition says so."""
    ann = shop.shopper()
    first = ann.pay(cart, door=door, x_trouble=Trouble.BACKGROUND_FAILS)
    again = ann.pay(cart, door=door)
    assert (first.money, again.money) == ("charged", "charged")
    assert len(shop.gateway.sends(cart)) == 1


@only(lambda one: one.name == "fastapi")  # only FastAPI commits after its answer
def test_the_answer_leaves_after_the_shops_commit(shop: Ground, cart: str) -> None:
    """FastAPI ends its dependencies after the answer: whoever has the whole answer finds the order committed."""
    assert shop.shopper().pay(cart).paid
    assert (shop.folder / f"{cart}.committed").exists()


@pytest.mark.parametrize("door", DOORS)
@only(lambda one: one.name == "fastapi")  # only FastAPI commits after its answer
def test_a_commit_that_fails_after_the_answer_is_no_success(shop: Ground, cart: str, door: str) -> None:
    """The shopper hears "paid, we are finishing it", not the shop's thank-you for an order that is not in its books."""
    ann = shop.shopper()
    first = ann.pay(cart, door=door, x_trouble=Trouble.COMMIT_FAILS)
    again = ann.pay(cart, door=door)
    assert (first.status, first.situation, first.money) == (202, "paid_unfinished", "charged")
    assert again.money == "charged"
    assert len(shop.gateway.sends(cart)) == 1
