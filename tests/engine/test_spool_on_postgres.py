"""A real PostgreSQL is stopped, killed and started again behind real servers; the gateway's own ledger judges.

Nobody is charged twice, no order is lost, nobody hears a false word, and the shop goes on within milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from postgres_server import PostgresServer, running_postgres
from servers import ROOT, Serve, Server, between_looks

pytestmark = [pytest.mark.long, pytest.mark.server]

SETTLED_SECONDS = 60.0  # a busy machine; on a quiet one it takes three
CLIENT = httpx.Client(trust_env=False, timeout=40, limits=httpx.Limits(max_keepalive_connections=0))  # whom it knew dies
AT_ONCE_SECONDS = 0.75  # of most presses; a time-out would be twice as long


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "cxguard.demo.gateway", "--with-parent"]
    ledger = ["--ledger", str(tmp_path_factory.mktemp("gateway") / "gateway.db")]
    with subprocess.Popen([*command, *ledger], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        try:
            yield facts
        finally:
            process.terminate()


def _tell(pid: int, number: signal.Signals) -> None:
    """One that served a shop which was just killed may end in the moment in which it is told."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@dataclass
class Town:
    """One database, one gateway, one spool, and servers that share them; every press of a button, and what it was told."""

    serve: Serve
    database: PostgresServer
    gateway: dict[str, Any]
    folder: Path
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    told: dict[str, list[httpx.Response]] = field(default_factory=dict)

    def start(self, kill_at: str = "") -> Server:
        env = {
            "SPOOL_DATABASE": self.database.url,
            "SPOOL_SCHEMA": f"s{self.name}",
            "SPOOL_FILE": str(self.folder / "spool.db"),
            "SPOOL_GATEWAY": self.gateway["url"],
            "KILL_AT": kill_at,
        }
        return self.serve("tests.spool_shop:app", env=env)

    def press(self, shop: Server, order: str) -> httpx.Response:
        headers = {"x-user": f"ann-{order}", "idempotency-key": f"{self.name}-{order}", "prefer": "respond-async"}
        body = {"amount": 4999, "cart": order, "source": self._card(order)}
        answer = CLIENT.post(f"{shop.url}/pay", json=body, headers=headers)
        self.told.setdefault(order, []).append(answer)
        self._check_word(order, answer)
        return answer

    def press_in_vain(self, shop: Server, order: str) -> None:
        """The server dies over it."""
        with contextlib.suppress(httpx.HTTPError):
            self.press(shop, order)

    def control(self, method: str, path: str, **members: Any) -> None:
        """Have the gateway hold a charge, or go on."""
        CLIENT.request(method, self.gateway["control_url"] + path, json=members or None)

    def _card(self, order: str) -> str:
        return f"tok_ok_{self.name}_{order}"

    def standing(self, order: str) -> int:
        ledger = CLIENT.get(f"{self.gateway['control_url']}/ledger").json()
        return sum(one["source"] == self._card(order) and one["status"] in ("succeeded", "authorised") for one in ledger["payments"])

    def _check_word(self, order: str, answer: httpx.Response) -> None:
        """Judged at the moment that it is told."""
        said = answer.json()
        assert answer.status_code < 500, said
        charged = self.standing(order)
        assert said.get("money") != "not_charged" or charged == 0, "told 'not charged' over a charge"
        assert (answer.status_code != 201 and said.get("money") != "charged") or charged == 1, "told 'paid' without a charge"

    def page(self, shop: Server, answer: httpx.Response) -> Any:
        url = f"{shop.url}{answer.json()['status_url']}"
        return CLIENT.get(url, headers={"accept": "application/json"}).json()

    def settle(self, shop: Server) -> None:
        """Every order ends as paid, on the very page that its shopper was given, and the ledger has it once."""
        for order, answers in self.told.items():
            saved = [one for one in answers if one.status_code == 202]
            until = time.monotonic() + SETTLED_SECONDS
            while saved and self.page(shop, saved[-1])["situation"] != "placed":
                assert time.monotonic() < until, self.page(shop, saved[-1])
                between_looks()
            assert self.standing(order) == 1
            references = {one.json()["reference"] for one in answers}
            assert len(references) == 1, "the reference stays good"

    # --- the database

    def children(self) -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.database.pid)], capture_output=True, text=True, check=False)
        return [*map(int, found.stdout.split())]

    @contextlib.contextmanager
    def database_stopped(self) -> Iterator[None]:
        """It takes connections, and says nothing. Its parent first: it would start another process while we look for them."""
        _tell(self.database.pid, signal.SIGSTOP)
        stopped = [self.database.pid, *self.children()]
        for pid in stopped[1:]:
            _tell(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                _tell(pid, signal.SIGCONT)


@pytest.fixture
def town(serve: Serve, database: PostgresServer, gateway: dict[str, Any], tmp_path: Path) -> Town:
    return Town(serve, database, gateway, tmp_path)


def test_the_shop_goes_on_while_the_database_hangs(town: Town) -> None:
    """One press waits for a time-out; from then on nobody does. Pressed before, meanwhile and after: one charge each."""
    shop = town.start()
    town.press(shop, "before")
    town.settle(shop)  # on a busy machine the first press may take longer than the shop waits: then it was saved, and is charged now
    with town.database_stopped():
        town.press(shop, "first")
        told = [town.press(shop, order) for order in ("o0", "o1", "o2", "o3", "o4", "o5", "before", "o3")]
        assert statistics.median(one.elapsed.total_seconds() for one in told) < AT_ONCE_SECONDS
        assert {one.json()["situation"] for one in told} == {"spooled"}
        assert town.page(shop, told[0])["situation"] == "spooled"
    town.settle(shop)
    town.press(shop, "o3")
    town.settle(shop)


def test_a_cancel_while_the_database_hangs_is_never_charged(town: Town) -> None:
    """Told as asked for; done when the database is back."""
    shop = town.start()
    town.press(shop, "warm")
    with town.database_stopped():
        told = town.press(shop, "a")
        url = f"{shop.url}{told.json()['status_url']}"
        CLIENT.post(f"{url}/cancel", headers={"accept": "application/json"})
    until = time.monotonic() + SETTLED_SECONDS
    while town.page(shop, told)["situation"] != "cancelled":
        assert time.monotonic() < until
        between_looks()
    assert town.standing("a") == 0


def test_everything_is_restarted_with_a_full_spool(town: Town) -> None:
    """Both servers are killed and started again while the database hangs: the orders are still there, and found."""
    shop, other = town.start(), town.start()
    town.press(shop, "warm")
    with town.database_stopped():
        references = {town.press(shop, f"o{number}").json()["reference"] for number in range(3)}
        again = {town.press(other, f"o{number}").json()["reference"] for number in range(3)}
        assert references == again, "two servers share one spool"
        shop.kill()
        other.kill()
        shop = town.start()
        assert {town.press(shop, f"o{number}").json()["reference"] for number in range(3)} == references
        town.press(shop, "new")
    town.settle(shop)


@pytest.mark.parametrize("point", ["open.before", "open.after", "open.after:2", "seize.after", "save.before", "save.after"])
def test_a_process_that_is_killed_while_it_forwards_leaves_no_second_charge(town: Town, point: str) -> None:
    """Before and after each write of the shared store; one order is new there, one is paid, one was in the middle of a charge."""
    shop = town.start()
    town.press(shop, "paid")
    _killed_in_the_middle(town, shop, "middle")
    with town.database_stopped():
        shop = town.start()
        for order in ("paid", "new", "middle"):
            assert town.press(shop, order).json()["situation"] == "spooled"
        shop.kill()
    mortal = town.start(point)
    assert mortal.wait_gone() == -9, f"it never came to {point}"
    town.settle(town.start())


def _killed_in_the_middle(town: Town, shop: Server, order: str) -> None:
    """The line is written, the gateway has the request, and the server is gone."""
    town.control("POST", "/control/hold", count=1, at="before_charge")
    press = threading.Thread(target=town.press_in_vain, args=(shop, order))
    press.start()
    town.control("GET", "/control/held?count=1&seconds=20")
    shop.kill()
    press.join()
    town.control("POST", "/control/release")


def test_the_database_is_killed_and_started_again(town: Town, database: PostgresServer) -> None:
    """Killed without a word while shoppers press; orders are saved on the machine, and in the database when it is back."""
    with running_postgres() as own:
        town.database = own
        shop = town.start()
        town.press(shop, "before")
        for pid in [town.database.pid, *town.children()]:
            _tell(pid, signal.SIGKILL)
        os.waitpid(own.pid, 0)  # or the next server would take it for one that still runs
        for order in ("before", "a", "b"):
            assert town.press(shop, order).json()["situation"] == "spooled"
        with _started_again(own):
            town.settle(shop)
            shop.stop()


@contextlib.contextmanager
def _started_again(server: PostgresServer) -> Iterator[None]:
    owner = pwd.getpwuid(server.data.stat().st_uid).pw_name if os.getuid() == 0 else None
    folder = server.data.parent
    command = [str(server.binaries / "postgres"), "-D", str(server.data), "-p", str(server.port), "-k", str(folder), "-h", "127.0.0.1"]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, user=owner, stdout=log, stderr=log, cwd=folder) as process:
        try:
            yield
        finally:
            process.terminate()
