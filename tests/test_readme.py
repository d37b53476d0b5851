"""The README is run: its code does what the words around it say, its tables are the code's, its tests are there."""

from __future__ import annotations

import ast
import base64
import inspect
import os
import re
import sys
import textwrap
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from itsdangerous import TimestampSigner
from nursery import Warm
from readme_tables import README, TABLES, block
from servers import ROOT
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from stripe_stand_in import StripeStandIn

from cxguard import Guard, Shop, current_operation
from cxguard.asgi import GuardMiddleware
from cxguard.core.outcomes import Charged, Refunded
from cxguard.engine.report import would_have
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does, FakeGateway

TEXT = README.read_text("utf-8")
BLOCKS = [textwrap.dedent(found) for found in re.findall(r"(?s)```python\n(.*?)```", TEXT)]
SECRET_KEY = "a secret of the tests"
SHOP = Shop("Fern & Co", phone="+44 20 7946 0000")

# What tells each block from the others, and so which test runs it.
WATCH, FASTAPI, LIBRARY, DESK, DJANGO = 'mode="watch"', "FastAPI()", "create invoice", "dashboard(guard", "get_asgi_application"
LATER, WEBHOOK, REFUND, CORS, GATEWAY, LISTENER = "later=place_later", "on_event", "refund order", "cors_options", "Timeouts(", "listeners="
LOOK_AGAIN, NOTIFY = "async def look_again", "notify=tell_shopper"  # run in test_readme_payments.py, as those:
RESUME, SYNC, ONCE, STRIPE = "guard.resume", "guard.sync.run", "@guard.once", "StripeGateway("  # run in test_readme_payments.py
IN_ONE = "op.finish("  # run in test_examples_transaction.py
OWN_TEST = "guard_faults"  # run in testing/test_shop_faults.py
MARKS = (
    *(WATCH, FASTAPI, LIBRARY, DESK, DJANGO, LATER, WEBHOOK, REFUND, CORS, GATEWAY, LISTENER),
    *(LOOK_AGAIN, NOTIFY, RESUME, SYNC, ONCE, STRIPE, IN_ONE, OWN_TEST),
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def source_of(mark: str) -> str:
    (found,) = [each for each in BLOCKS if mark in each]
    return found


async def run(mark: str, **names: Any) -> dict[str, Any]:
    """Run one block of the README with *names* in place of the shop's own."""
    space: dict[str, Any] = {"SECRET_KEY": SECRET_KEY, **names}
    code = compile(source_of(mark), f"README.md, {mark}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    awaited = eval(code, space)
    if inspect.isawaitable(awaited):
        await awaited
    return space


@pytest_asyncio.fixture
async def stack() -> Any:
    async with AsyncExitStack() as entered:
        yield entered


async def client_of(stack: AsyncExitStack, app: Any, guard: Guard) -> httpx.AsyncClient:
    """A visitor's browser, signed in as the shop would have done it."""
    await stack.enter_async_context(guard)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop.example"))
    session = base64.b64encode(b'{"visitor_id": "ann"}')
    client.cookies.set("session", TimestampSigner(SECRET_KEY).sign(session).decode())
    return client


async def library_guard(stack: AsyncExitStack, gateway: FakeGateway) -> Guard:
    return await stack.enter_async_context(Guard("memory://", shop=SHOP, gateways=[gateway], duties=False))


class Till:
    """A shop's own handler that counts."""

    def __init__(self) -> None:
        self.orders = 0

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/checkout/pay", self.pay, methods=["POST"])])

    async def pay(self, request: Request) -> JSONResponse:
        self.orders += 1
        return JSONResponse({"order": self.orders}, status_code=201)


def test_each_block_is_run_by_one_test() -> None:
    """No block of Python stands in the README that nobody runs."""
    assert Counter(mark for each in BLOCKS for mark in MARKS if mark in each) == Counter(MARKS)
    assert len(BLOCKS) == len(MARKS)


def test_the_first_screen_is_short() -> None:
    """One sentence, two commands, eight lines of Python, a table: before the contents."""
    first = TEXT.partition("## Contents")[0]
    lines = [line for line in source_of(WATCH).splitlines() if line]
    assert source_of(WATCH) in first
    assert len(lines) <= 8
    assert re.search(r"(?m)^make demo .*\nmake test ", first)
    assert all(
        line.startswith(("#", "cxguard", "```", "make", "|", "`make", "In a shop", "`cxguard")) or line in lines or not line
        for line in first.splitlines()
    )


@pytest.mark.asyncio
async def test_the_first_lines_watch_and_then_guard(stack: AsyncExitStack) -> None:
    """In watch mode both submits run, and the report says what would have been; without it the second one is a replay."""
    till = Till()
    app = till.app()
    space = await run(WATCH, app=app)
    client = await client_of(stack, app, space["guard"])
    answers = [await client.post("/checkout/pay", json={"cart_id": "c1"}) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"order": 1}, {"order": 2}]
    await space["guard"].finish_runs()
    await space["guard"].recorder.flush_once()
    assert sum((await would_have(space["guard"].store, namespace="shop")).values()) > 0
    guard = Guard("memory://", rules=[space["pay"]], shop=SHOP, duties=False)
    guarded = GuardMiddleware(Till().app(), guard=guard)
    client = await client_of(stack, guarded, guard)
    first, second = [await client.post("/checkout/pay", json={"cart_id": "c1"}) for _ in range(2)]
    assert (first.content, second.headers["idempotency-replayed"]) == (second.content, "true")


@pytest.mark.asyncio
@pytest.mark.parametrize("silent", [False, True])
async def test_fastapi_and_stripe_charge_once(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, silent: bool) -> None:
    """Two submits, one payment; when Stripe charged and said nothing, the shopper hears that it is paid."""
    stripe = StripeStandIn()
    stripe.then = [ConnectionError("read timed out")] if silent else []
    monkeypatch.setitem(sys.modules, "stripe", stripe)
    space = await run(FASTAPI)
    client = await client_of(stack, space["app"], space["guard"])
    order = {"cart_id": "c1", "amount": 4999, "currency": "EUR", "payment_method": "pm_1"}
    answers = [await client.post("/checkout/pay", json=order, headers={"idempotency-key": "k1"}) for _ in range(2)]
    assert len(stripe.intents) == 1
    if silent:
        assert [answer.json()["money"] for answer in answers] == ["charged", "charged"]
    else:
        assert [answer.json() for answer in answers] == [{"order": "c1", "payment": "pi_1"}] * 2


@pytest.mark.asyncio
async def test_fastapi_and_stripe_tell_a_decline_as_one(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook finds the refused payment, so the handler's own words go out."""
    stripe = StripeStandIn()
    stripe.status = "requires_payment_method"
    monkeypatch.setitem(sys.modules, "stripe", stripe)
    space = await run(FASTAPI)
    client = await client_of(stack, space["app"], space["guard"])
    order = {"cart_id": "c1", "amount": 4999, "currency": "EUR", "payment_method": "pm_1"}
    answer = await client.post("/checkout/pay", json=order, headers={"idempotency-key": "k1"})
    assert (answer.status_code, answer.json()) == (402, {"message": "Your bank did not approve the payment."})


@pytest.mark.asyncio
async def test_a_script_charges_and_steps_once(stack: AsyncExitStack) -> None:
    """Run twice, it gives one result, one charge and one invoice."""
    gateway, invoices = FakeGateway(), []
    guard = await library_guard(stack, gateway)
    order = {"id": "o1", "customer": "ann", "amount": 4999, "currency": "EUR", "token": "tok_ok"}

    def create_invoice(order_id: str, payment_id: str) -> str:
        invoices.append(order_id)
        return f"I-{len(invoices)}"

    spaces = [await run(LIBRARY, guard=guard, order=order, create_invoice=create_invoice) for _ in range(2)]
    assert [space["result"] for space in spaces] == [{"invoice": "I-1"}] * 2
    assert (len(gateway.standing), invoices) == (1, ["o1"])


@pytest.mark.asyncio
async def test_the_desk_is_closed_to_visitors(stack: AsyncExitStack) -> None:
    """Who is not of the shop's staff does not come in."""
    guard = await library_guard(stack, FakeGateway())
    app = Starlette(middleware=[Middleware(SessionMiddleware, secret_key=SECRET_KEY)])
    await run(DESK, app=app, guard=guard)
    client = await client_of(stack, app, guard)
    assert (await client.get("/ops/")).status_code in (401, 403)
    staff = TimestampSigner(SECRET_KEY).sign(base64.b64encode(b'{"staff": "anna"}')).decode()
    client.cookies.set("session", staff)
    assert (await client.get("/ops/")).status_code == 200


DJANGO_SHOP = """
import django, sys
from django.conf import settings
from django.urls import path
settings.configure(SECRET_KEY="s" * 50, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
from cxguard.testing.fake_gateway import FakeGateway
SECRET_KEY, gateway = settings.SECRET_KEY, FakeGateway()
basket_total = lambda request: 4999
{block}
urlpatterns = [path("checkout/pay", pay)]
import asyncio, base64, json, time
import httpx
from django.core import signing
session = signing.dumps({{"visitor_id": "ann"}}, salt="django.contrib.sessions.backends.signed_cookies", compress=True)
async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://shop.example") as client:
        client.cookies.set("sessionid", session)
        answers = [await client.post("/checkout/pay", data={{"basket_id": "b1", "token": "tok_ok"}}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [302, 302], answers[0].text
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert len(gateway.standing) == 1
    await guard.stop()
asyncio.run(main())
print("charged once")
"""


def test_the_django_form_charges_once(tmp_path: Path) -> None:
    """In a process of its own, since a process has one Django: a form that is sent twice is one charge, and one confirmation."""
    (tmp_path / "django_shop.py").write_text(DJANGO_SHOP.format(block=source_of(DJANGO)), "utf-8")
    shop = Warm("django_shop", env=os.environ, folder=tmp_path)
    try:
        shop.wait(60)
        said = shop.stdout.read()
    finally:
        shop.kill()
        shop.close()
    assert said.endswith("charged once\n"), said[-2_000:]


@pytest.mark.asyncio
async def test_a_kept_order_is_placed_later(stack: AsyncExitStack) -> None:
    """The gateway is down: kept and not charged. It comes back: charged once."""
    from cxguard.testing import ManualClock

    gateway, clock = FakeGateway(), ManualClock()
    gateway.will(*[Does.NOT_CHARGED] * 3)
    space = await run(LATER)

    async def pay(request: Request) -> JSONResponse:
        order = await request.json()
        payment = await current_operation().charge(Charge(order["amount"], order["currency"], source=order["token"]))
        return JSONResponse({"payment": payment.payment_id}, status_code=201)

    guard = Guard("memory://", rules=[space["rule"]], shop=SHOP, gateways=[gateway], duties=False, clock=clock)
    app = GuardMiddleware(Starlette(routes=[Route("/checkout/pay", pay, methods=["POST"])]), guard=guard)
    client = await client_of(stack, app, guard)
    order = {"cart_id": "c1", "amount": 4999, "currency": "EUR", "token": "tok_ok", "email": "ann@example.org"}
    kept = await client.post("/checkout/pay", json=order, headers={"idempotency-key": "k1"})
    assert (kept.status_code, kept.json()["money"]) == (202, "not_charged")
    clock.advance(120.0)
    await guard.queue().run_once()
    assert len(gateway.standing) == 1


@pytest.mark.asyncio
async def test_a_webhook_takes_effect_once(stack: AsyncExitStack) -> None:
    """The same event twice: one run, and one fact."""
    guard, handled = await library_guard(stack, FakeGateway()), []

    async def handle_event(op: Any, event: dict[str, str]) -> None:
        handled.append(event["id"])

    space = await run(WEBHOOK, guard=guard, handle_event=handle_event)
    paid = {"id": "e2", "type": "payment.succeeded", "amount_minor": 1, "currency": "EUR", "payment_id": "p1", "key": "gk"}
    for event in ({"id": "e1", "type": "order.packed"}, paid) * 2:
        await space["on_event"](event)
    assert handled == ["e1"]


@pytest.mark.asyncio
async def test_a_refund_is_given_once(stack: AsyncExitStack) -> None:
    """The job runs twice: the money goes back once."""
    gateway = FakeGateway()
    paid = await gateway.charge(Charge(4999, "EUR", source="tok_ok"), key="k1", timeout_seconds=1.0)
    assert isinstance(paid, Charged)

    async def send_refund(key: str, order: dict[str, str]) -> str:
        back = await gateway.refund(paid.payment_id, key=key, amount_minor=4999, currency="EUR", timeout_seconds=1.0)
        assert isinstance(back, Refunded)
        return back.refund_id

    for _ in range(2):
        guard = Guard("sqlite:///shop.db", shop=SHOP, gateways=[gateway], duties=False)
        await run(REFUND, guard=guard, order={"id": "o1", "customer": "ann"}, send_refund=send_refund)
    assert gateway.count("refund") == 1


@pytest.mark.asyncio
async def test_cors_lets_the_key_through(stack: AsyncExitStack) -> None:
    """A page on another origin may send the key."""
    guard = await library_guard(stack, FakeGateway())
    app = Till().app()
    await run(CORS, app=app, guard=guard)
    client = await client_of(stack, app, guard)
    asks = {"origin": "https://shop.example", "access-control-request-method": "POST", "access-control-request-headers": "idempotency-key"}
    assert (await client.options("/checkout/pay", headers=asks)).status_code == 200


@pytest.mark.asyncio
async def test_numbers_are_set_as_shown(stack: AsyncExitStack) -> None:
    """A guard with time-outs and a breaker policy of its own starts."""
    space = await run(GATEWAY, API_KEY="key")
    await stack.enter_async_context(space["guard"])
    assert space["guard"].engine.timeouts.attempt_seconds == 8.0


@pytest.mark.asyncio
async def test_a_listener_hears_events(stack: AsyncExitStack) -> None:
    """What the guard tells is counted."""
    space = await run(LISTENER, counters=Counter())
    guard = await stack.enter_async_context(space["guard"])

    async def nothing(op: Any) -> None:
        return None

    await guard.run(nothing, purpose="test", key="k1", owner="ann")
    assert space["counters"]["operation.opened"] == 1


# --- tables and names


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_codes_own(name: str) -> None:
    """Settings and events stand in the README as the code has them. `python tests/readme_tables.py` writes them anew."""
    found = block(name).search(TEXT)
    assert found is not None
    assert found[0].splitlines() == TABLES[name]()


def test_every_test_that_is_named_is_there() -> None:
    """A promise names the tests that prove it."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", TEXT)
    missing = [f"{path}::{name}" for path, name in named if not _has_test(ROOT / path, name)]
    assert len(named) >= 15
    assert not missing


def _has_test(path: Path, name: str) -> bool:
    return path.is_file() and re.search(rf"(?m)^\s*(?:async )?def {name}\(", path.read_text("utf-8")) is not None


def test_every_file_that_is_linked_is_there() -> None:
    """Links lead to files of the project and headings of the page."""
    links = re.findall(r"\]\(([^)#]+|#[\w-]+)\)", TEXT)
    anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.+)$", TEXT)}
    assert not [link for link in links if link not in anchors and not (ROOT / link).is_file()]


def test_commands_do_what_is_said_of_them() -> None:
    """Each module, script and option that the README calls by name is there."""
    for script in re.findall(r"`python ([\w/]+\.py)`", TEXT):
        assert (ROOT / script).is_file()
    extras = set(re.findall(r"cxguard\[([\w,]+)\]", TEXT)[0].split(","))
    assert extras <= set(re.findall(r"(?m)^(\w+) = \[", (ROOT / "pyproject.toml").read_text("utf-8")))


def test_the_single_page_lines_stand_in_the_example() -> None:
    """What the README shows of the script is what the example does."""
    script = (ROOT / "examples/spa/checkout.js").read_text("utf-8")
    for word in (
        "sessionStorage.getItem",
        "crypto.randomUUID()",
        '"Idempotency-Key"',
        "order_saved",
        "status_url",
        "safe_to_retry",
        "final",
    ):
        assert word in script
        assert word in TEXT
