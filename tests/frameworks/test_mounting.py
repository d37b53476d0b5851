"""Starting, stopping and mounting each of the shops on a real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from frameworks.ground import ASYNC, Ground, environment, only, until
from servers import NotReady, Serve, Spawn

pytestmark = pytest.mark.server
ROOT = "/shop"


@pytest.fixture
def mounted(shop: Ground, serve: Serve) -> Iterator[Ground]:
    """The same shop once more, on a server that was told of a mount."""
    folder = shop.folder / "mounted"
    folder.mkdir()
    ground = Ground.opened(serve, shop.gateway, shop.framework, folder, root=ROOT)
    with ground.stack:
        yield ground


def test_a_kept_order_below_a_mount_is_placed_by_the_apps_own_code_after_the_outage(mounted: Ground, cart: str) -> None:
    """`later=replay` runs the kept request through the whole framework again: mount, session, CSRF check and handler."""
    gateway, ann = mounted.gateway, mounted.shopper()
    gateway.mode("refuse")
    page = _kept(mounted, cart)
    assert page.startswith(f"{ROOT}/_cxguard/orders/")
    as_json = {"accept": "application/json"}
    now = ann.client.get(page, headers=as_json).json()
    assert (now["situation"], now["money"]) == ("kept", "not_charged")
    gateway.mode("healthy")
    with gateway.holding():
        gateway.until_held()
    placed = until(lambda: ann.client.get(page, headers=as_json).json(), wanted=lambda now: now["situation"] == "placed")
    assert placed["money"] == "charged"
    again = ann.checkout(cart) if mounted.framework.form else ann.pay(cart, **ASYNC).answer
    assert again.headers["idempotency-replayed"] == "true"
    assert len(gateway.charges(cart)) == 1


def _kept(mounted: Ground, cart: str) -> str:
    """Submit in the outage; where the status page is."""
    ann = mounted.shopper()
    if not mounted.framework.form:
        return str(ann.pay(cart, **ASYNC).body["status_url"])
    kept = ann.checkout(cart)
    assert kept.status_code == 303
    return kept.headers["location"]


@only(lambda one: one.lifespan)  # the others have none that could fail
def test_a_start_that_fails_is_the_apps_own_failure(shop: Ground, spawn: Spawn) -> None:
    """The guard passes a failed lifespan on: the server does not start, and says why."""
    folder = shop.folder / "failing"
    (folder / "sent").mkdir(parents=True)
    env = {**environment(shop.framework, shop.gateway, folder), "SHOP_LIFESPAN_FAILS": "1"}
    with pytest.raises(NotReady, match=r"exit code 3(.|\n)*the catalogue cannot be read"):
        spawn([sys.executable, "-m", "uvicorn", shop.framework.app, "--port", "0"], ready="Uvicorn running on", env=env)


@only(lambda one: one.name == "django-async")  # only Django has no lifespan
def test_a_shop_without_a_lifespan_works_off_its_kept_orders_from_the_first_request_of_any_path(
    shop: Ground, serve: Serve, cart: str
) -> None:
    """Nobody has to pay before the orders of the outage are placed."""
    folder = shop.folder / "restarted"
    folder.mkdir()
    before = Ground.opened(serve, shop.gateway, shop.framework, folder)
    with before.stack:
        shop.gateway.mode("refuse")
        assert before.shopper().pay(cart, **ASYNC).situation == "kept"
    assert before.server.stop() != -9
    shop.gateway.mode("healthy")
    after = Ground.opened(serve, shop.gateway, shop.framework, folder)
    with after.stack, shop.gateway.holding():
        after.stranger().client.get("/thank-you/nobody")
        shop.gateway.until_held()
    assert len(shop.gateway.charges(cart)) == 1
