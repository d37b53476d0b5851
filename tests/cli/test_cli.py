"""The command line: what it prints, for people and for programs, and what its exit codes say."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from servers import Spawn
from shopworld import SHOP

from cxguard.cli import main
from cxguard.core.message import Message
from cxguard.core.operation import Operation
from cxguard.core.session import Bought, By, Cause, Exposed, Reached, Stage
from cxguard.engine.library import Purpose
from cxguard.errors import OperationHeld, PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

COMMANDS = (
    *("demo", "worker", "dashboard", "orders", "orders list", "orders show", "orders requeue", "orders cancel"),
    *("report", "doctor", "reconcile", "explain", "migrate-store"),
    *("breakers", "breakers list", "breakers force", "breakers release"),
)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a store with one order of each kind, and the folder as the working one."""
    monkeypatch.chdir(tmp_path)
    asyncio.run(_fill("sqlite:///shop.db"))
    yield "sqlite:///shop.db"


async def _fill(url: str) -> None:
    async def place(op: Any) -> dict[str, str]:
        payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
        return {"payment": payment.payment_id}

    gateway = FakeGateway()
    guard = Guard(url, shop=SHOP, gateways=[gateway], purposes=[Purpose("order", later=place)], duties=False)
    async with guard:
        for key, does in (("paid", Does.CHARGE), ("declined", Does.DECLINE), ("odd", Does.REFUSE), ("kept", Does.NOT_CHARGED)):
            gateway.will(*[does] * (3 if does is Does.NOT_CHARGED else 1))  # what was not sent is tried three times
            try:
                options = {"amount_minor": 4999, "currency": "EUR", "deadline_seconds": 0.5}
                await guard.run(place, purpose="order", key=key, owner="ann", **options)
            except (PaymentDeferred, PaymentDeclined, OperationHeld):
                pass
        _visit(guard)


def _visit(guard: Guard) -> None:
    """Twenty good visits, and one that was told "declined" and left."""
    for number in range(20):
        guard.recorder.put(Reached(f"v{number}", Stage.PAY, 1.0))
        guard.recorder.put(Bought(f"v{number}", 2.0))
    guard.recorder.put(Exposed("e", "x", Stage.PAY, 1.0, Message("declined", 1), Cause.ISSUER, By.OURS, status=402))
    guard.recorder.count("would.duplicates", 3)


def cxguard(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def as_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(cxguard(*arguments, "--json", code=code).stdout)


def orders(url: str) -> dict[str, Operation]:
    """By state and money."""

    async def read() -> dict[str, Operation]:
        async with Guard(url, shop=SHOP, duties=False) as guard:
            return {f"{one.state} {one.money}": one for one in (await guard.store.search(Query("shop"))).operations}

    return asyncio.run(read())


# --- help and errors


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_examples_or_says_what_is_meant(command: str) -> None:
    """Every command explains itself; those one would try first show how."""
    text = cxguard(*command.split(), "--help").output
    assert "Usage:" in text
    if " " not in command:
        assert "Examples:" in text
        assert "Exit codes:" in text


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ("orders", "breakers")])
def test_every_command_speaks_json(command: str) -> None:
    """Programs are served everywhere."""
    assert "--json" in cxguard(*command.split(), "--help").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("orders", "list", "sqlite:///none.db"), "there is no store at"),
        (("orders", "list", "postgres://me:secret@127.0.0.1:9/db"), "PostgreSQL did not answer"),  # pragma: allowlist secret
        (("report", "no_such_module:app"), "there is no module"),
        (("worker", "workshop:pay"), "has no guard"),
        (("reconcile", "sqlite:///shop.db"), "has no gateway whose books could be read: name the program"),
        (("orders", "show", "sqlite:///shop.db", "7K3M-9QXA-2TFV"), "no order here is called '7K3M-9QXA-2TFV'"),
        (("orders", "cancel", "sqlite:///shop.db", "nonsense", "--why", "x"), "no order here is called 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(shop: str, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 1, a line that says what to do, no traceback, and no password."""
    result = cxguard(*arguments, code=1)
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr


@pytest.mark.parametrize("arguments", [("orders", "list"), ("orders", "list", "x", "--state", "no"), ("nothing",), ("report", "a", "b")])
def test_a_command_written_wrongly_ends_with_2(arguments: tuple[str, ...]) -> None:
    """Usage errors have a code of their own."""
    cxguard(*arguments, code=2)


def test_a_command_that_is_none_is_told_with_the_one_that_was_meant() -> None:
    """Whoever types it at night need not look it up."""
    assert "there is no command 'wokrer': write cxguard worker" in cxguard("wokrer", code=2).stderr


def test_looking_makes_no_store(tmp_path: Path) -> None:
    """A mistyped address must not leave an empty database behind."""
    cxguard("report", f"sqlite:///{tmp_path}/typo.db", code=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_store_is_said_so(tmp_path: Path) -> None:
    """A store's own refusal comes through as one line."""
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be looked at as one" * 20)
    assert "Error:" in cxguard("orders", "list", f"sqlite:///{tmp_path}/notes.txt", code=1).stderr


# --- orders


def test_orders_are_listed(shop: str) -> None:
    """People see a line for each order; programs get the figures as texts."""
    text = cxguard("orders", "list", shop).output
    for reference in (one.reference for one in orders(shop).values()):
        assert reference in text
    listed = as_json("orders", "list", shop)["orders"]
    assert {one["amount_minor"] for one in listed} == {"4999"}


def test_orders_are_filtered_and_paged(shop: str) -> None:
    """By state, by money, and page by page without losing or repeating one."""
    (paid,) = as_json("orders", "list", shop, "--state", "finished", "--money", "charged")["orders"]
    assert paid["state"] == "finished"
    seen, after = [], ()
    while True:
        page = as_json("orders", "list", shop, "--limit", "1", *after)
        seen += [one["reference"] for one in page["orders"]]
        if page["next"] is None:
            break
        after = ("--after", page["next"])
    assert sorted(seen) == sorted(one.reference for one in orders(shop).values())


def test_a_page_that_is_none_is_said_in_one_line(shop: str) -> None:
    """A mark that was cut while copying, say: no traceback."""
    result = CliRunner().invoke(main, ["orders", "list", shop, "--after", "garbage"])
    assert result.exit_code == 2 and "Invalid value for --after: that is not a cursor" in result.output


def test_an_empty_list_says_so(shop: str) -> None:
    """Nothing is a result, too, and another namespace is another shop."""
    assert "No such orders." in cxguard("orders", "list", shop, "--namespace", "elsewhere").output


def test_an_order_is_shown_with_money_sends_and_timeline(shop: str) -> None:
    """What a person on the phone needs, by a reference as somebody says it."""
    paid = orders(shop)["finished charged"]
    text = cxguard("orders", "show", shop, paid.reference.lower().replace("-", " ")).output
    assert f"Order {paid.reference}: finished, money charged" in text
    assert "49.99 EUR" in text
    assert "payment.sent" in text
    whole = as_json("orders", "show", shop, paid.reference)
    assert whole["sends"][0]["outcome"] == "charged"
    assert "sealed" not in whole


def test_sealed_parts_are_opened_only_when_asked(shop: str) -> None:
    """The keys beside the file open what the shop answered."""
    paid = orders(shop)["finished charged"]
    assert as_json("orders", "show", shop, paid.reference, "--reveal")["sealed"] == {
        "result": {"payment": paid.sends[0].outcome.payment_id}
    }


def test_an_order_that_may_be_an_older_copy_is_shown_as_such(shop: str) -> None:
    """The store has lost its last writes: nobody on the phone hears that nothing was charged. Looking writes nothing."""
    kept, paid = orders(shop)["queued none"], orders(shop)["finished charged"]
    assert not as_json("orders", "show", shop, kept.reference)["doubted"]
    life = asyncio.run(_lose_the_tail(shop))
    assert "NOBODY KNOWS whether it was charged" in cxguard("orders", "show", shop, kept.reference).output
    listed = {one["reference"]: one["doubted"] for one in as_json("orders", "list", shop)["orders"]}
    assert (listed[kept.reference], listed[paid.reference]) == (True, False)
    assert "unknown?: the store has lost its last writes" in cxguard("orders", "list", shop).output
    assert as_json("orders", "list", shop, "--money", "none") == {"orders": [], "doubted_left_out": 2, "next": None}
    assert "Left out: 2 that may be older copies" in cxguard("orders", "list", shop, "--money", "none").output
    assert as_json("orders", "show", shop, kept.reference, "--reveal")["doubted"]
    assert not as_json("orders", "show", shop, paid.reference)["doubted"]
    assert asyncio.run(_life_of(shop)) == life


async def _life_of(url: str) -> bytes:
    async with Guard(url, shop=SHOP, duties=False) as guard:
        return (await guard.store.load("epoch:shop")).value


async def _lose_the_tail(url: str) -> bytes:
    """As somebody noticed it a moment ago."""
    async with Guard(url, shop=SHOP, duties=False) as guard:
        kept = await guard.store.load("epoch:shop")
        value = json.dumps({**json.loads(kept.value), "changed_at": guard.clock.now()}).encode()
        assert await guard.store.swap("epoch:shop", revision=kept.revision, value=value)
        return value


def test_an_unpaid_order_is_cancelled_and_remembers_why(shop: str) -> None:
    """Surely not charged: it ends at once, and the record says who and why."""
    kept = orders(shop)["queued none"]
    became = as_json("orders", "cancel", shop, kept.reference, "--why", "the shopper called", "--by", "anna")
    assert became["done"]
    after = as_json("orders", "show", shop, kept.reference)
    assert after["state"] == "cancelled"
    assert "the shopper called" in json.dumps(after)
    assert "anna" in json.dumps(after)


def test_what_the_desk_refuses_ends_with_1(shop: str) -> None:
    """A finished order cannot go back into the queue: the words say why, and nothing was changed."""
    paid = orders(shop)["finished charged"]
    became = as_json("orders", "requeue", shop, paid.reference, "--why", "try", code=1)
    assert not became["done"]
    assert became["says"]
    assert as_json("orders", "show", shop, paid.reference)["state"] == "finished"


def test_a_reason_is_demanded(shop: str) -> None:
    """Nothing is done to an order without a word about why."""
    cxguard("orders", "cancel", shop, "7K3M-9QXA-2TFV", code=2)


# --- report


def test_the_report_shows_what_errors_cost(shop: str) -> None:
    """Visits, errors and orders, as tables and as JSON."""
    text = cxguard("report", shop).output
    assert "declined@1" in text
    assert "pay" in text
    (error,) = as_json("report", shop)["errors"]
    assert (error["message"], error["control"]) == ("declined@1", {"sessions": 20, "bought": 20})


def test_the_report_says_what_watching_found(shop: str) -> None:
    """Each figure of watch mode comes with what it means."""
    text = cxguard("report", shop, "--would-have").output
    assert "the same submit again" in text
    assert as_json("report", shop, "--would-have") == {"duplicates": 3}


def test_a_report_on_nothing_says_so(shop: str) -> None:
    """A shop without visits yet gets sentences, not empty tables."""
    assert "No error was shown" in cxguard("report", shop, "--namespace", "new").output
    assert "Nothing was watched yet" in cxguard("report", shop, "--namespace", "new", "--would-have").output


# --- doctor


def test_the_doctor_looks_at_a_store(shop: str) -> None:
    """A sound store has its level, its keys and its orders named."""
    found = {one["about"]: one for one in as_json("doctor", shop)["examined"]}
    assert found["store"]["health"] == "ok"
    assert "fsync" in found["store"]["found"]
    assert found["secrets"]["health"] == "ok"
    assert "1 queued" in found["orders"]["found"]


def test_the_doctor_fails_a_store_without_its_secrets(shop: str) -> None:
    """The file beside the database is gone: that is a `fail`, with what to do, and exit code 1."""
    Path("shop.db.secret").unlink()
    found = as_json("doctor", shop, code=1)
    assert found["health"] == "fail"
    (secrets,) = [one for one in found["examined"] if one["about"] == "secrets"]
    assert "Restore that file" in secrets["do"]


def test_the_doctor_looks_at_a_program(shop: str, tmp_path: Path) -> None:
    """Rules, gateways, lifespan and CORS of a whole app are looked at, in the order in which they stand."""
    (tmp_path / "doctored.py").write_text(PROGRAM)
    found = as_json("doctor", "doctored:app")["examined"]
    told = {one["about"]: (one["health"], one["found"], one["do"]) for one in found}
    assert told["CORS"][0] == "warn"
    assert "app.add_middleware(CORSMiddleware" in told["CORS"][2]
    assert told["lifespan"][0] == "ok"
    assert told["rule POST /pay"][0] == "warn"
    assert "resolve=" in told["rule POST /pay"][2]
    assert told["gateway fake:test"][0] == "ok"


def test_the_doctor_knows_django(shop: str, tmp_path: Path) -> None:
    """Django has no lifespan: the guard starts late there, and the queue needs a worker."""
    (tmp_path / "djangoed.py").write_text(DJANGO)
    told = {one["about"]: one for one in as_json("doctor", "djangoed:app")["examined"]}
    assert told["lifespan"]["do"].startswith("Django: run the worker")


PROGRAM = """
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from cxguard import Guard, Rule, Shop, header
from cxguard.asgi import GuardMiddleware
from cxguard.testing.fake_gateway import FakeGateway

guard = Guard(
    "sqlite:///shop.db",
    rules=[Rule("POST /pay", owner=header("x-user"), charged_by="shop")],
    shop=Shop("Fern & Co", phone="1"),
    gateways=[FakeGateway(name="fake:test")],
)
app = Starlette()
app.add_middleware(CORSMiddleware)
app.add_middleware(GuardMiddleware, guard=guard)
"""

DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x")
urlpatterns = []
from django.core.asgi import get_asgi_application
from cxguard import Guard, Shop
from cxguard.asgi import GuardMiddleware

app = GuardMiddleware(get_asgi_application(), guard=Guard("sqlite:///shop.db", shop=Shop("Fern & Co", phone="1")))
"""

# --- dashboard


@pytest.mark.server
def test_the_dashboard_opens_with_the_password_that_it_prints(shop: str, tmp_path: Path, spawn: Spawn) -> None:
    """On this machine only, closed without the password, and ended by a signal."""
    command = [sys.executable, "-m", "cxguard.cli", "dashboard", f"sqlite:///{tmp_path}/shop.db", "--port", "0", "--json", "--name", "anna"]
    desk = spawn(command, ready='"password"')
    told = json.loads(desk.ready_line)
    with httpx.Client(trust_env=False, timeout=20) as client:
        assert client.get(told["url"]).status_code == 401
        assert client.get(told["url"], auth=("anna", "wrong")).status_code == 401
        assert client.get(told["url"], auth=(told["name"], told["password"])).status_code == 200
    assert told["url"].startswith("http://127.0.0.1:")
    desk.stop()


def test_a_port_in_use_is_one_clear_line(shop: str) -> None:
    """Another desk is there already: give another port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on port {port}" in cxguard("dashboard", shop, "--port", port, code=1).stderr
