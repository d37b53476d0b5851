"""`kill -9` of the shop in the middle of a charge, and a restart on the same SQLite file: the gateway's ledger judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from frameworks.ground import FRAMEWORKS, Gateway, Ground, Shopper, Told, until
from servers import Serve

pytestmark = pytest.mark.server
DOORS = ("pay", "pay-now", "shop-pay")  # `later`, no `later`, and the shop's own charge with a hook
RUNS = {framework.name: framework for framework in FRAMEWORKS if framework.name in ("starlette", "django-sync")}


@pytest.fixture(params=RUNS.values(), ids=list(RUNS))
def killable(request: pytest.FixtureRequest, serve: Serve, payments: Gateway, tmp_path: Path) -> Iterator[Ground]:
    """A shop of this test's own: one with a lifespan, and one without."""
    ground = Ground.opened(serve, payments, request.param, tmp_path)
    with ground.stack:
        yield ground
    payments.recover()


def killed_while(ground: Ground, serve: Serve, cart: str, *, when: Callable[[], object]) -> Ground:
    """Submit a basket through each door; kill the shop when *when* returns; start it again on the same files."""
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(len(DOORS)))
        shoppers = [ground.shopper() for _ in DOORS]
        running = [threads.submit(ann.pay, f"{cart}-{door}", door=door) for ann, door in zip(shoppers, DOORS, strict=True)]
        when()
        ground.server.kill()
        for one in running:
            _heard_nothing_wrong(one)
    return Ground.opened(serve, ground.gateway, ground.framework, ground.folder, port=ground.server.port)


def _heard_nothing_wrong(answer: Future[Told]) -> None:
    """The connection broke; or, for the first of the doors on a slow machine, the attempt was over before the kill."""
    error = answer.exception()
    assert isinstance(error, httpx.TransportError) if error is not None else answer.result().money == "unknown"


def paid_in_the_end(ann: Shopper, cart: str, door: str) -> Told:
    """What the same submit, sent again and again, is told at last. On the way there no word is wrong."""

    def again() -> Told:
        told = ann.pay(f"{cart}-{door}", door=door)
        assert told.money in ("charged", "unknown"), told
        return told

    return until(again, wanted=lambda told: told.money == "charged")


def test_a_charge_that_was_made_is_found_and_told(killable: Ground, serve: Serve, cart: str) -> None:
    """The gateway charged and its answer never came: one charge, and each retry gets the paid order.

    https://github.com/woocommerce/woocommerce-gateway-stripe/pull/3725
    """
    gateway = killable.gateway
    with gateway.holding(len(DOORS)):
        shop = killed_while(killable, serve, cart, when=lambda: gateway.until_held(len(DOORS)))
    with shop.stack:
        told = {door: paid_in_the_end(shop.shopper(), cart, door) for door in DOORS}
        placed = until(lambda: shop.shopper().pay(f"{cart}-pay"), wanted=lambda now: now.situation == "placed")
    assert [len(gateway.charges(f"{cart}-{door}")) for door in DOORS] == [1, 1, 1]
    assert (told["pay-now"].situation, told["shop-pay"].situation) == ("paid_unfinished", "paid_unfinished")
    assert placed.status == 200


def test_a_charge_that_never_reached_the_ledger_is_made_once(killable: Ground, serve: Serve, cart: str) -> None:
    """The gateway got the request and did nothing: under the same key it is charged once, where the guard charges.

    What the shop's own code may have sent stays unknown, and is never sent again by us.
    """
    gateway = killable.gateway
    gateway.mode("time_out_before")
    shop = killed_while(killable, serve, cart, when=lambda: _until_received(gateway, cart))
    gateway.mode("healthy")
    with shop.stack:
        for door in ("pay", "pay-now"):
            paid_in_the_end(shop.shopper(), cart, door)
        unseen = until(lambda: shop.shopper().pay(f"{cart}-shop-pay", door="shop-pay"), wanted=lambda told: told.situation != "in_flight")
    assert [len(gateway.charges(f"{cart}-{door}")) for door in DOORS] == [1, 1, 0]
    assert (unseen.money, unseen.body["safe_to_retry"]) == ("unknown", False)
    assert len(gateway.sends(f"{cart}-shop-pay")) == 1


def _until_received(gateway: Gateway, cart: str) -> None:
    for door in DOORS:
        until(lambda door=door: gateway.sends(f"{cart}-{door}"), wanted=bool)  # type: ignore[misc]


def test_a_charge_that_lands_after_the_restart_is_still_one(killable: Ground, serve: Serve, cart: str) -> None:
    """The request is on its way for long: it arrives when the retry has been answered, and nothing is charged twice."""
    gateway = killable.gateway
    with gateway.holding(len(DOORS), at="before_charge"):
        shop = killed_while(killable, serve, cart, when=lambda: gateway.until_held(len(DOORS)))
        for door in ("pay", "pay-now"):
            paid_in_the_end(shop.shopper(), cart, door)
    with shop.stack:
        assert paid_in_the_end(shop.shopper(), cart, "shop-pay").situation == "paid_unfinished"
    assert [len(gateway.charges(f"{cart}-{door}")) for door in DOORS] == [1, 1, 1]
