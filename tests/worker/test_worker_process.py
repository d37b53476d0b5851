"""The worker as a process: what it does, what its signals do, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
from servers import Process, Serve, Spawn

from cxguard import Guard, Purpose
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State
from cxguard.errors import PaymentDeferred
from cxguard.gateways.http import HttpGateway
from cxguard.rules import Shop
from cxguard.stores.base import Query

pytestmark = pytest.mark.server

CLI = (sys.executable, "-m", "cxguard.cli")


@dataclass
class Shop_:
    """A gateway process, a store on disk, and what is needed to see into both."""

    folder: Path
    spawn: Spawn
    gateway: dict[str, str]

    @property
    def env(self) -> dict[str, str]:
        return {"WORKSHOP_STORE": str(self.folder), "WORKSHOP_GATEWAY": self.gateway["url"]}

    def control(self, method: str, path: str, **members: Any) -> Any:
        answer = httpx.request(method, self.gateway["control_url"] + path, json=members or None, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def held(self) -> None:
        """Until one charge is stopped in its very middle."""
        found = httpx.get(self.gateway["control_url"] + "/control/held?count=1&seconds=20", trust_env=False, timeout=30).json()
        assert len(found["held"]) == 1

    def charges(self) -> list[Any]:
        return list(self.control("GET", "/ledger")["payments"])

    def worker(self, target: str = "workshop:app", *options: str) -> Process:
        return self.spawn(
            [*CLI, "worker", target, "--app-dir", str(Path(__file__).parent.parent), *options], ready="working on", env=self.env
        )

    def make_due(self) -> None:
        """Leases have lapsed and pauses are over: what a test does not wait for."""
        connection = apsw.Connection(str(self.folder / "guard.db"))
        connection.setbusytimeout(5_000)
        connection.execute(
            "UPDATE operations SET due_at = 1, ripe_at = 1, lease_until = CASE WHEN lease_until IS NULL THEN NULL ELSE 1 END"
        )
        connection.close()

    def guard(self) -> Guard:
        gateway = HttpGateway("http:workshop:test", self.gateway["url"])

        async def place(op: Any) -> None:
            raise AssertionError("the test places nothing")

        purposes = [Purpose("place order", later=place)]
        store = f"sqlite:///{self.folder}/guard.db"
        return Guard(store, shop=Shop("Fern & Co", phone="1"), gateways=[gateway], purposes=purposes, duties=False)

    async def order(self) -> Operation:
        """The one order, as it is now."""
        async with self.guard() as guard:
            (operation,) = (await guard.store.search(Query("shop"))).operations
            return operation


@pytest.fixture
def shop(tmp_path: Path, spawn: Spawn) -> Iterator[Shop_]:
    ledger = tmp_path / "gateway.db"
    process = spawn([sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(ledger)], ready='"control_url"')
    yield Shop_(tmp_path, spawn, json.loads(process.ready_line))


async def queue_an_order(shop: Shop_) -> None:
    """A script's order, given while the gateway refuses connections."""
    from workshop import place

    shop.control("PUT", "/control", mode="refuse")
    async with shop.guard() as guard:
        with pytest.raises(PaymentDeferred):
            await guard.run(
                place, purpose="place order", key="order 1", owner="ann", amount_minor=4999, currency="EUR", deadline_seconds=1.0
            )
    shop.control("PUT", "/control", mode="healthy")
    shop.make_due()


@pytest.mark.asyncio
async def test_a_worker_killed_in_the_middle_of_a_charge_is_finished_by_the_next_one(shop: Shop_) -> None:
    """kill -9 after the gateway has charged and before it has answered: exactly one charge, and the order is placed."""
    await queue_an_order(shop)
    shop.control("POST", "/control/hold", count=1)
    first = shop.worker("workshop:guard")
    shop.held()
    first.kill()
    shop.control("POST", "/control/release")
    shop.make_due()
    second = shop.worker("workshop:guard")
    second.wait_log("operation.finished")
    assert second.stop() == 0
    assert [payment["status"] for payment in shop.charges()] == ["succeeded"]
    order = await shop.order()
    assert (order.state, order.money) == (State.FINISHED, MoneyState.CHARGED)


@pytest.mark.asyncio
async def test_a_stop_finishes_what_is_in_hand(shop: Shop_) -> None:
    """SIGTERM in the middle of a charge: the charge is answered, the order finished, then the worker ends with 0."""
    await queue_an_order(shop)
    shop.control("POST", "/control/hold", count=1)
    worker = shop.worker("workshop:guard")
    shop.held()
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait_log("stopping: finishing what is in hand")
    shop.control("POST", "/control/release")
    worker.wait_log("cxguard worker: stopped")
    assert len(shop.charges()) == 1
    assert (await shop.order()).state is State.FINISHED


@pytest.mark.asyncio
async def test_a_second_signal_ends_at_once_and_the_order_is_taken_over(shop: Shop_) -> None:
    """Who cannot wait says so twice: the worker ends with 1, and another one brings the order to its one charge."""
    await queue_an_order(shop)
    shop.control("POST", "/control/hold", count=1)
    worker = shop.worker("workshop:guard")
    shop.held()
    os.kill(worker.pid, signal.SIGINT)
    worker.wait_log("stopping: finishing what is in hand")
    os.kill(worker.pid, signal.SIGINT)
    assert worker.wait_gone() == 1  # not told to stop once more: it is on its way out
    assert "another worker takes it over" in worker.log
    shop.control("POST", "/control/release")
    shop.make_due()
    other = shop.worker("workshop:guard")
    other.wait_log("operation.finished")
    assert len(shop.charges()) == 1


def test_a_kept_request_runs_again_through_the_whole_app(shop: Shop_, serve: Serve) -> None:
    """`later=replay`: the worker has run the app's lifespan, so the handler finds what it opened, and places the order."""
    shop.control("PUT", "/control", mode="refuse")
    web = serve("workshop:app", env=shop.env)
    headers = {"x-user": "ann", "idempotency-key": "k1", "prefer": "respond-async"}
    body = {"amount": 1000, "currency": "EUR", "cart": "c1"}
    kept = httpx.post(f"{web.url}/pay", json=body, headers=headers, trust_env=False, timeout=30)
    assert (kept.status_code, kept.json()["money"]) == (202, "not_charged")
    shop.control("PUT", "/control", mode="healthy")
    shop.make_due()
    worker = shop.worker()
    worker.wait_log("order.placed")
    assert worker.stop() == 0
    assert worker.log.index("own lifespan has begun") < worker.log.index("working on") < worker.log.index("own lifespan has ended")
    paid = httpx.post(f"{web.url}/pay", json=body, headers=headers, trust_env=False, timeout=30)
    assert (paid.status_code, paid.json()["pool"]) == (201, "open")
    assert len(shop.charges()) == 1


def test_states_can_be_read_by_programs(shop: Shop_) -> None:
    """With --json each change of state is one line, from starting to stopped."""
    worker = shop.worker("workshop:guard", "--json", "--log-level", "ERROR")
    assert worker.stop() == 0
    assert [json.loads(line)["state"] for line in worker.log.splitlines()] == ["starting", "working", "stopping", "stopped"]
