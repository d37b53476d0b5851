"""The faults that a shop's own tests drive its endpoint through: guarded shops pass, and each kind of careless shop fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from example_ground import client_of
from shopworld import KEYS, SECRET, SHOP, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from test_readme import OWN_TEST, run

from cxguard import Charge, Charged, Guard, Unknown, current_operation
from cxguard.asgi import GuardMiddleware
from cxguard.testing.answers import Answer, Says, read_answer
from cxguard.testing.fake_gateway import FakeGateway
from cxguard.testing.shop_faults.cases import Case, Press, Promise, Told
from cxguard.testing.shop_faults.driving import GuardFaults, PromiseBroken

HERE = tuple(case for case in Case if case is not Case.KILLED)  # what an app of this process can be driven through


@dataclass
class Books:
    """A shop's fake gateway with a plain function: it charges once for each key, and anew without one."""

    taken: list[str] = field(default_factory=list)

    def charge(self, key: str) -> str:
        if not key or key not in self.taken:
            self.taken.append(key)
        return f"pay-{len(self.taken)}"


@pytest.fixture
def faults() -> Iterator[GuardFaults]:
    made = GuardFaults()
    yield made
    made.trouble.close()


Open = Callable[..., Any]


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Open]:
    """Opens a client on an app, until the test ends."""
    async with AsyncExitStack() as stack:

        async def open_client(handler: Any, *, guard: Guard | None = None) -> httpx.AsyncClient:
            app = Starlette(routes=[Route("/pay", handler, methods=["POST"])])
            if guard is not None:
                app.add_middleware(GuardMiddleware, guard=guard)
            client: httpx.AsyncClient = await stack.enter_async_context(client_of(app))
            return client

        yield open_client


def guarded(**options: Any) -> Guard:
    gateways = options.pop("gateways", ())
    one = rule(wait_seconds=2.0, lease_seconds=2.0, **options)
    return Guard("memory://", rules=[one], shop=SHOP, gateways=gateways, secret=SECRET, keys=KEYS)


def paying(client: httpx.AsyncClient) -> Callable[[str], httpx.Request]:
    def pay(name: str) -> httpx.Request:
        order = {"cart": name, "amount": 4_999, "currency": "EUR"}
        return client.build_request("POST", "/pay", json=order, headers={"Idempotency-Key": name, "x-user": "ann"})

    return pay


# --- guarded shops


@pytest.mark.asyncio
async def test_a_shop_whose_guard_charges_passes(faults: GuardFaults, opened: Open) -> None:
    """Every case that an app of this process can be driven through, each with one charge."""
    gateway = FakeGateway()
    gateway.charge = faults.after(gateway.charge)  # type: ignore[method-assign]

    async def pay(request: Request) -> Response:
        order = await request.json()
        payment = await current_operation().charge(Charge(order["amount"], "EUR", source="tok_ok", order_id=order["cart"]))
        return JSONResponse({"payment": payment.payment_id}, 201)

    client = await opened(pay, guard=guarded(gateways=[gateway]))
    found = await faults(client, paying(client), charges=lambda: len(gateway.standing))
    assert [told.case for told in found] == list(HERE)


@pytest.mark.asyncio
async def test_a_shop_that_charges_in_a_thread_passes(faults: GuardFaults, opened: Open) -> None:
    """Its own blocking code charges, passes our key on, and can say afterwards what became of it."""
    books = Books()
    charge = faults.after(books.charge)

    def pay(request: Request) -> Response:
        return JSONResponse({"payment": charge(current_operation().gateway_key("charge"))}, 201)

    async def ask(op: Any) -> Any:
        return Charged(4_999, "EUR") if op.gateway_key("charge") in books.taken else Unknown("not_found")

    client = await opened(pay, guard=guarded(charged_by="shop", resolve=ask, rerun_safe=True))
    found = await faults(client, paying(client), charges=lambda: len(books.taken))
    assert [told.case for told in found] == list(HERE)


@pytest.mark.asyncio
async def test_the_readmes_test_is_one(faults: GuardFaults, opened: Open) -> None:
    """As it stands there, it passes with a guard, and fails without."""

    @dataclass
    class Payments:
        books: list[str] = field(default_factory=list)

        async def charge(self, key: str) -> None:
            if key not in self.books:
                self.books.append(key)

    async def pay(request: Request) -> Response:
        await payments.charge(current_operation().gateway_key("charge") if request.headers.get("x-user") else f"{len(payments.books)}")
        return JSONResponse({"thank": "you"}, 201)

    async def ask(op: Any) -> Any:
        return Charged(4_999, "EUR") if op.gateway_key("charge") in payments.books else Unknown("not_found")

    test = (await run(OWN_TEST))["test_checkout_keeps_its_promises"]
    payments = Payments()
    client = await opened(pay, guard=guarded(charged_by="shop", resolve=ask, rerun_safe=True))
    client.headers["x-user"] = "ann"
    await test(faults, payments, client)
    payments = Payments()
    with pytest.raises(PromiseBroken, match="6 of 6 cases"):
        await test(faults, payments, await opened(pay))


# --- careless shops: a check that cannot fail is no check


@pytest.mark.asyncio
@pytest.mark.parametrize("case", HERE)
async def test_a_shop_without_a_guard_fails_each_case(faults: GuardFaults, opened: Open, case: Case) -> None:
    """Pressing again charges again, and the report says so."""
    books = Books()
    charge = faults.after(books.charge)

    def pay(request: Request) -> Response:
        return JSONResponse({"payment": charge("")}, 201)

    client = await opened(pay)
    with pytest.raises(PromiseBroken, match=r"\d charges stand in the gateway's books") as broken:
        await faults(client, paying(client), charges=lambda: len(books.taken), cases=[case])
    assert f"{case}: " in str(broken.value)


@pytest.mark.asyncio
async def test_a_shop_that_calls_a_time_out_a_decline_fails(faults: GuardFaults, opened: Open) -> None:
    """It charges once by its key, and still lies about it."""
    books = Books()
    charge = faults.after(books.charge)

    def pay(request: Request) -> Response:
        try:
            return JSONResponse({"payment": charge(request.headers["idempotency-key"])}, 201)
        except TimeoutError:
            return JSONResponse({"message": "Your card was declined."}, 402)

    client = await opened(pay)
    with pytest.raises(PromiseBroken, match="press 1 was told that nothing was paid, while a charge stood"):
        await faults(client, paying(client), charges=lambda: len(books.taken), cases=[Case.ANSWER_LOST])


@pytest.mark.asyncio
async def test_a_gateway_that_is_not_wrapped_is_named(faults: GuardFaults, opened: Open) -> None:
    """Nothing went wrong since nothing was tried: that is no pass."""
    books = Books()

    def pay(request: Request) -> Response:
        return JSONResponse({"payment": books.charge(request.headers["idempotency-key"])}, 201)

    client = await opened(pay)
    with pytest.raises(PromiseBroken, match=r"wrap what charges in guard_faults\.after"):
        await faults(client, paying(client), charges=lambda: len(books.taken), cases=[Case.RAISED])


@pytest.mark.asyncio
async def test_what_was_not_tried_is_said(faults: GuardFaults, opened: Open) -> None:
    """Beside what broke stands which case could not be played, and why."""
    books = Books()
    charge = faults.after(books.charge)

    def pay(request: Request) -> Response:
        return JSONResponse({"payment": charge("")}, 201)

    client = await opened(pay)
    with pytest.raises(PromiseBroken, match="not tried: killed: no server= was given"):
        await faults(client, paying(client), charges=lambda: len(books.taken), cases=[Case.TWICE_AFTERWARDS, Case.KILLED])


# --- the judge


PAID = Press(Answer(201, body=b'{"order": 1}'), Says.PAID)
OTHER = Press(Answer(201, body=b'{"order": 2}'), Says.PAID)
WAIT = Press(Answer(202, body=b'{"money": "unknown"}'), Says.WAIT)
LATER = Press(Answer(202, body=b'{"money": "unknown", "next_update_by": "14:30"}'), Says.WAIT)
DOING = Press(Answer(202, body=b'{"money": "charged"}'), Says.PAID)
DOING_STILL = Press(Answer(202, body=b'{"money": "charged", "next_update_by": "14:30"}'), Says.PAID)
DENIED = Press(Answer(402), Says.NOT_PAID)
ERROR = Press(Answer(500), Says.NOTHING)
CONFLICT = Press(Answer(409), Says.NOTHING)
NONE = Press(Answer(None, why="ReadError"), Says.NOTHING)


@pytest.mark.parametrize(
    ("case", "charges", "presses", "broken"),
    [
        (Case.TWICE_AFTERWARDS, 1, (PAID, PAID, PAID), set()),
        (Case.TWICE_AFTERWARDS, 2, (PAID, PAID, PAID), {Promise.ONCE}),
        (Case.TWICE_AFTERWARDS, 0, (PAID, PAID), {Promise.ONCE, Promise.TRUTH}),
        (Case.TWICE_AFTERWARDS, 1, (OTHER, PAID, PAID), {Promise.SAME}),
        (Case.TWICE_AT_ONCE, 1, (PAID, CONFLICT, PAID, PAID), set()),
        (Case.KILLED, 1, (NONE, CONFLICT, OTHER, PAID, PAID), set()),  # more was known later
        (Case.KILLED, 1, (NONE, CONFLICT, PAID, OTHER), {Promise.SAME}),
        (Case.KILLED, 1, (NONE, WAIT, LATER), set()),  # a person looks
        (Case.KILLED, 1, (NONE, DOING, DOING_STILL), set()),  # paid, and still being finished
        (Case.KILLED, 1, (NONE, DOING, PAID), set()),  # and finished in between
        (Case.KILLED, 1, (NONE, DOING, WAIT), {Promise.SAME}),
        (Case.KILLED, 1, (NONE, CONFLICT, CONFLICT), {Promise.TRUTH}),  # a conflict for ever is no end
        (Case.KILLED, 1, (NONE, PAID, CONFLICT), {Promise.TRUTH, Promise.SAME}),
        (Case.KILLED, 1, (NONE, PAID, WAIT), {Promise.SAME}),
        (Case.ANSWER_LOST, 1, (DENIED, PAID, PAID), {Promise.TRUTH}),
        (Case.RAISED, 1, (ERROR, PAID, PAID), {Promise.TRUTH}),
    ],
)
def test_each_ending_is_judged(case: Case, charges: int, presses: tuple[Press, ...], broken: set[Promise]) -> None:
    """Charges, words and repetitions, each by its own promise."""
    assert set(Told(case, charges=charges, struck=1, presses=presses).broken()) == broken


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(201, body=b"<p>thank you</p>"), Says.PAID),
        (Answer(202), Says.WAIT),
        (Answer(402), Says.NOT_PAID),
        (Answer(409), Says.NOTHING),
        (Answer(409, body=b'{"money": "unknown"}'), Says.WAIT),
        (Answer(503, body=b'{"money": "not_charged"}'), Says.NOT_PAID),
        (Answer(202, body=b'{"money": "charged"}'), Says.PAID),
        (Answer(200, body=b'["money"]'), Says.PAID),
        (Answer(None), Says.NOTHING),
    ],
)
def test_an_answer_is_read(answer: Answer, says: Says) -> None:
    """The member `money` counts before the status."""
    assert read_answer(answer) is says
