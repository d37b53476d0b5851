"""Two versions of cxguard side by side on one PostgreSQL, as during a rolling upgrade: each as processes of its own."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from newer_copies import HERE, NEW_MEMBER, newer_copy
from postgres_server import PostgresServer, running_postgres
from servers import Process, Spawn

from cxguard.core.names import reference_of
from cxguard.core.operation import RECORD_VERSION

pytestmark = [pytest.mark.long, pytest.mark.server]
TESTS = Path(__file__).parent.parent
PLACED_SECONDS_MAX = 40.0  # a queued order's first pause, and a ramp that begins with one charge a second
PRESSES_MAX = 20
ADDITIVE = "-- older ones may go on: 1\nALTER TABLE operations ADD COLUMN later int;\n"
BREAKING = "ALTER TABLE operations ADD COLUMN later int;\n"


@dataclass
class Town:
    """A store, a gateway, and shops of both versions."""

    spawn: Spawn
    server: PostgresServer
    gateway: Mapping[str, str]
    folder: Path
    environment: dict[str, str]

    def shop(self, package: Path = HERE.parent) -> str:
        """A process of the shop that runs *package*; its address."""
        process = self.spawn([sys.executable, "-P", "-m", "fleet_shop"], ready='"url"', env=self.running(package))
        url: str = json.loads(process.ready_line)["url"]
        return url

    def worker(self, package: Path = HERE.parent) -> Process:
        command = [sys.executable, "-P", "-m", "cxguard.cli", "worker", "fleet_shop:app", "--app-dir", str(TESTS)]
        return self.spawn(command, ready="working on", env=self.running(package))

    def gateway_is(self, mode: str) -> None:
        httpx.put(self.gateway["control_url"] + "/control", json={"mode": mode}, trust_env=False).raise_for_status()

    def pay(self, shop: str, order: str) -> httpx.Response:
        body = {"order": order, "amount": 4_999, "source": f"tok_ok_{order}"}
        headers = {"Idempotency-Key": f"key-{order}", "x-shopper": "ann", "Prefer": "respond-async"}
        return httpx.post(f"{shop}/pay", json=body, headers=headers, trust_env=False, timeout=30)

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def record(self, reference: str) -> tuple[str, int, dict[str, Any]]:
        """State, version and body as they are in the table."""
        for id, state, version, body in self.rows("SELECT id, state, version, body FROM cxguard.operations"):
            if reference_of(id) == reference:
                return state, version, json.loads(body)
        raise AssertionError(f"there is no {reference}")

    def until_finished(self, reference: str) -> int:
        """Wait until a worker has placed the order; the version that its record has then."""
        asked_until = time.monotonic() + PLACED_SECONDS_MAX
        while time.monotonic() < asked_until:
            self.rows("SELECT pg_sleep(0.1)")
            state, version, _ = self.record(reference)
            if state == "finished":
                return version
        raise AssertionError(f"{reference} is still {state}")

    def kept(self, shop: str, order: str) -> dict[str, Any]:
        """Press until the order is kept: a process that has just lost its connection says first that it cannot."""
        for _ in range(PRESSES_MAX):
            answer: dict[str, Any] = self.pay(shop, order).json()
            if answer["situation"] == "kept":
                return answer
        raise AssertionError(f"not kept: {answer}")

    def charges(self) -> dict[str, int]:
        """Standing charges by card."""
        ledger = httpx.get(self.gateway["control_url"] + "/ledger", trust_env=False).json()
        cards = [payment["source"] for payment in ledger["payments"]]
        return {card: cards.count(card) for card in cards}

    def running(self, package: Path) -> dict[str, str]:
        return {**self.environment, "PYTHONPATH": os.pathsep.join([str(package), str(TESTS)])}


@pytest.fixture
def town(spawn: Spawn, tmp_path: Path) -> Iterator[Town]:
    process = spawn([sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(tmp_path / "ledger")], ready='"control_url"')
    gateway = json.loads(process.ready_line)
    with running_postgres() as server:
        environment = {
            "FLEET_STORE": server.url,
            "FLEET_GATEWAY": gateway["url"],
            "FLEET_ORDERS": str(tmp_path / "orders"),
            "CXGUARD_SECRET": secrets.token_hex(32),
            "CXGUARD_KEYS": secrets.token_hex(32),
        }
        yield Town(spawn, server, gateway, tmp_path, environment)


def test_old_and_new_work_side_by_side(town: Town) -> None:
    """The older one replays what is there, goes on with its own orders on the new schema, and leaves the newer one's alone."""
    newer_package = newer_copy(town.folder / "newer", record_version=RECORD_VERSION + 1, migration=ADDITIVE)
    older = town.shop()
    paid = town.pay(older, "first")
    newer = town.shop(newer_package)  # makes the schema newer, under the older one's feet
    assert town.pay(newer, "first").content == paid.content, "each replays the other's answers"
    town.gateway_is("refuse")
    of_newer = town.kept(newer, "of_newer")
    town.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cxguard'")
    of_older = town.kept(older, "of_older")
    assert town.pay(older, "of_newer").json()["situation"] == "kept", "the older one tells what it may not touch"
    town.gateway_is("healthy")
    old_worker = town.worker()
    assert town.until_finished(of_older["reference"]) == RECORD_VERSION
    old_worker.stop()
    assert town.record(of_newer["reference"])[:2] == ("queued", RECORD_VERSION + 1)
    town.worker(newer_package)
    assert town.until_finished(of_newer["reference"]) == RECORD_VERSION + 1
    assert set(town.charges().values()) == {1}


def test_members_of_a_newer_version_survive_an_older_one(town: Town) -> None:
    """A later version that only added a member lets the older one work on its records, which loses nothing of them."""
    newer = town.shop(newer_copy(town.folder / "newer", record_version=RECORD_VERSION))
    town.gateway_is("refuse")
    kept = town.kept(newer, "green")
    town.gateway_is("healthy")
    town.worker()
    assert town.until_finished(kept["reference"]) == RECORD_VERSION
    assert town.record(kept["reference"])[2][NEW_MEMBER] == "green"
    assert town.charges() == {"tok_ok_green": 1}


def test_a_newer_version_marks_what_it_has_written(town: Town) -> None:
    """A record that a newer version has worked on is in the newer format, whoever opened it: the older one leaves it alone."""
    older = town.shop()
    town.gateway_is("refuse")
    kept = town.kept(older, "taken_over")
    town.gateway_is("healthy")
    town.worker(newer_copy(town.folder / "newer", record_version=RECORD_VERSION + 1))
    assert town.until_finished(kept["reference"]) == RECORD_VERSION + 1
    assert town.pay(older, "taken_over").json()["money"] == "charged"


def test_a_schema_that_leaves_nobody_behind_is_refused_with_the_way_out(town: Town) -> None:
    """A migration that does not say who may go on lets no older version in: it says so instead of guessing."""
    town.shop(newer_copy(town.folder / "newer", record_version=RECORD_VERSION + 1, migration=BREAKING))
    refused = town.spawn([sys.executable, "-P", "-m", "fleet_shop"], ready="newer cxguard", env=town.running(HERE.parent))
    assert refused.wait_gone() != 0
