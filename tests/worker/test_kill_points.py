"""A process is killed at every point between "the intent is written" and "the answer is stored", and afterwards.

It really dies (`SIGKILL`, by its own hand, at a point that only the test's shop knows); another one starts on the same file.
The gateway's own ledger judges: one charge, the right word to the shopper, or a person's desk where nobody can say.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import ROOT, Serve, between_looks

from cxguard.core.operation import State
from cxguard.gateways.http import HttpGateway
from cxguard.guard import Guard
from cxguard.rules import Rule, Shop, header
from cxguard.stores.base import Query
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing import ManualClock

pytestmark = [pytest.mark.long, pytest.mark.server]
CLIENT = httpx.Client(trust_env=False, timeout=40, limits=httpx.Limits(max_keepalive_connections=0))  # whom it knew dies

# In the order in which a submit passes them. `save.1` writes the line of the send, the last save ends the operation.
POINTS = (
    "open.before",
    "open.after",
    "handler.begun",
    "save.before:1",
    "save.after:1",
    "charge.before",  # what happens while the gateway has it: two tests of their own
    "charge.after",
    "handler.charged",
    "save.before:2",
    "save.after:2",
    "save.before:3",
    "save.after:3",
    "handler.placed",
    "save.before:4",
    "save.after:4",
    "answer.head.before",
    "answer.last.before",
    "answer.last.after",
)


@dataclass(frozen=True)
class GatewayAt:
    url: str
    control_url: str
    keyed: bool

    def ask(self, method: str, path: str, **members: Any) -> Any:
        return CLIENT.request(method, self.control_url + path, json=members or None).json()

    def payments(self, source: str) -> list[Any]:
        return [each for each in self.ask("GET", "/ledger")["payments"] if each["source"] == source]


def _gateway(folder: Path, *, keyed: bool) -> Iterator[GatewayAt]:
    command = [sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(folder / "gateway.db"), "--with-parent"]
    with subprocess.Popen(
        [*command, *(() if keyed else ("--no-keys",))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        try:
            yield GatewayAt(facts["url"], facts["control_url"], keyed)
        finally:
            process.terminate()


@pytest.fixture(scope="module", params=[True, False], ids=["keyed", "unkeyed"])
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayAt]:
    yield from _gateway(tmp_path_factory.mktemp("gateway"), keyed=request.param)


@dataclass
class Victim:
    """The shop that dies and the one that comes after it, on one file."""

    serve: Serve
    gateway: GatewayAt
    folder: Path
    key: str

    @property
    def source(self) -> str:
        """A card of its own, so that the ledger tells the tests apart."""
        return f"tok_ok_{self.key}"

    def start(self, kill_at: str = "") -> Any:
        env = {"KILL_GATEWAY": self.gateway.url, "KILL_FOLDER": str(self.folder), "KILL_KEYED": "yes" if self.gateway.keyed else "no"}
        return self.serve("tests.kill_point_shop:app", env={**env, "KILL_AT": kill_at})

    def pay(self, url: str) -> httpx.Response | None:
        """One press of the button; None: the server died over it."""
        headers = {"x-user": "ann", "idempotency-key": self.key, "prefer": "respond-async"}
        body = {"amount": 4999, "cart": "c1", "source": self.source}
        try:
            return CLIENT.post(f"{url}/pay", json=body, headers=headers, timeout=20)
        except httpx.HTTPError:
            return None

    def standing(self) -> int:
        return sum(each["status"] in ("succeeded", "authorised") for each in self.gateway.payments(self.source))

    def orders(self) -> int:
        file = self.folder / "orders"
        return len(file.read_text("utf-8").split()) if file.exists() else 0


@pytest.fixture
def victims(serve: Serve, gateway: GatewayAt, tmp_path: Path) -> Callable[[str], Victim]:
    """Makes one, in a folder of its own."""

    def victim(name: str) -> Victim:
        folder = tmp_path / name
        folder.mkdir()
        return Victim(serve, gateway, folder, secrets.token_hex(8))

    return victim


def killed_at_each(points: Sequence[str], killed_at: Callable[[str], None]) -> None:
    """Most of each story is waiting for a lease to lapse, so some are played at a time.

    Raises:
        ExceptionGroup: what went wrong, each with its point.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        stories = {point: threads.submit(killed_at, point) for point in points}
    errors = []
    for point, story in stories.items():
        if (error := story.exception()) is not None:
            error.add_note(f"killed at {point}")
            errors.append(error)
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} of {len(points)} points", errors)


AT_ONCE = 4  # stories
PAID_SECONDS = 60.0  # on a busy machine
SETTLED = ("held", "placed", "answered")


def until_settled(victim: Victim, url: str, *, seconds: float) -> Any:
    """Press again, as a patient shopper does, until the order has an end or a person has it, or patience ends: sooner where nobody
    can say what became of the charge than where it is paid, and placed in a moment."""
    said: Any = {}
    began = time.monotonic()
    while time.monotonic() - began < (PAID_SECONDS if said.get("money") == "charged" else seconds):
        answer = victim.pay(url)
        assert answer is not None, "nobody dies any more"
        said = answer.json()
        assert answer.status_code < 500, said
        assert said.get("money") != "not_charged" or victim.standing() == 0, "told 'not charged' over a charge"
        if "paid" in said or said.get("situation") in SETTLED:
            break
        between_looks()
    return said


async def hours_later(victim: Victim) -> Any:
    """The same file, looked at by a worker whose clock is further on each time: what becomes of an order that nobody can explain."""
    clock = ManualClock(time.time())
    gateway = HttpGateway("http:shop:test", victim.gateway.url, keyed=False, settle_seconds=0.0)
    store = SQLiteStore(victim.folder / "shop.db", clock=clock)
    shop = Shop("Fern & Co", phone="+44 20 7946 0000")
    rule = Rule("POST /pay", owner=header("x-user"))
    options: Any = {"secret": bytes(range(32)), "keys": [bytes(range(1, 33))], "duties": False, "clock": clock}
    async with Guard(store, rules=[rule], shop=shop, gateways=[gateway], **options) as guard:
        for _ in range(40):
            clock.advance(300.0)
            await guard.queue().run_once()
        (record,) = (await store.search(Query(namespace="shop"))).operations
    return record


def test_killed_there_the_order_is_charged_once_or_held(victims: Callable[[str], Victim]) -> None:
    """One charge, and the shopper hears "paid"; or, where the gateway cannot say what became of it, a person looks."""

    def killed_at(point: str) -> None:
        victim = victims(point)
        shop = victim.start(point)
        victim.pay(shop.url)
        assert shop.wait_gone() == -9, f"it never came to {point}"
        _charged_once_or_held(victim)

    killed_at_each(POINTS, killed_at)


@pytest.mark.parametrize("at", ["before_charge", "after_charge"])
def test_killed_while_the_gateway_has_it_the_order_is_charged_once_or_held(victims: Callable[[str], Victim], at: str) -> None:
    """The gateway has the request and has not charged; or it has charged and has not answered."""
    victim = victims(at)
    victim.gateway.ask("POST", "/control/hold", count=1, at=at)
    _killed_while_the_gateway_has_it(victim, victim.start())
    _charged_once_or_held(victim)


def _charged_once_or_held(victim: Victim) -> None:
    again = victim.start()
    said = until_settled(victim, again.url, seconds=20.0 if victim.gateway.keyed else 8.0)
    again.stop()
    assert victim.standing() <= 1
    if "paid" in said or said["money"] == "charged":
        assert victim.standing() == 1
        assert victim.orders() >= 1
        return
    assert not victim.gateway.keyed, f"a gateway with keys can always say: {said}"
    record = asyncio.run(hours_later(victim))
    assert (record.state, record.why) == (State.HELD, "unknown_unresolved")
    assert victim.standing() <= 1


def _killed_while_the_gateway_has_it(victim: Victim, shop: Any) -> None:
    press = threading.Thread(target=victim.pay, args=(shop.url,))
    press.start()
    victim.gateway.ask("GET", "/control/held?count=1&seconds=20")
    shop.kill()
    press.join()
    victim.gateway.ask("POST", "/control/release")


def test_killed_there_a_refund_is_made_once(victims: Callable[[str], Victim]) -> None:
    """The order was paid; its refund dies in the middle, at each of six points, and is asked for again."""
    points = ["save.before:1", "save.after:1", "refund.before", "refund.after", "save.before:2", "save.after:2"]
    killed_at_each(points, lambda point: _refunded_once(victims(point), point))


def _refunded_once(victim: Victim, point: str) -> None:
    paid = victim.start()
    assert victim.pay(paid.url) is not None
    kept = victim.pay(paid.url)
    assert kept is not None
    reference = kept.json()["reference"]
    paid.stop()
    dying = victim.start(point)
    try:
        CLIENT.post(f"{dying.url}/refund/{reference}", timeout=20)
    except httpx.HTTPError:
        pass
    assert dying.wait_gone() == -9, f"it never came to {point}"
    again = victim.start()
    answer = None
    until = time.monotonic() + (40.0 if victim.gateway.keyed else 5.0)
    while time.monotonic() < until:  # its lease has to lapse; then the very same is asked again
        answer = CLIENT.post(f"{again.url}/refund/{reference}", timeout=20)
        if answer.status_code == 200:
            break
        between_looks()
    (payment,) = victim.gateway.payments(victim.source)
    assert payment["refunded_minor"] in ((1000,) if victim.gateway.keyed else (0, 1000)), answer


def test_a_request_that_lands_after_its_client_gave_up_is_no_second_charge(victims: Callable[[str], Victim]) -> None:
    """The gateway takes the request in, answers nothing, and charges five seconds later."""
    victim = victims("late")
    victim.gateway.ask("PUT", "/control", mode="late", late_seconds=5.0)
    shop = victim.start()
    first = victim.pay(shop.url)
    victim.gateway.ask("PUT", "/control", mode="healthy")
    assert first is not None
    assert first.json()["money"] == "unknown"
    victim.gateway.ask("GET", "/control/landed")
    said = until_settled(victim, shop.url, seconds=20.0)
    assert victim.standing() == 1
    assert "paid" in said or said["money"] == "charged"
