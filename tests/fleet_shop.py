"""A guarded shop that runs as several processes on one store: `fleet_shop:app` for servers and workers.

From the environment: FLEET_STORE (a URL), FLEET_GATEWAY (a URL), FLEET_ORDERS (the shop's own books: a line for each order,
`order payment`, appended in one write, so that all processes share the file), and the guard's two secrets. For faults:

    FLEET_CLOCK         "set": by the seconds that stand in the file `clock` beside the orders
    FLEET_POISON        an order at which the process that places it later dies
    FLEET_DUTIES        "no": only workers work on the queue
    FLEET_KEY_SECONDS   for how long the gateway says that it knows a key
    FLEET_LOG_LEVEL     with INFO, every event is a line
    FLEET_UNGUARDED     "yes": a shop as there are many
    FLEET_MUTANT        one of the simulator's deliberate bugs, by its name

    python -m fleet_shop --with-parent       one of the shop's processes; says where it answers in a line of JSON
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Funnel, Guard, Rule, Shop, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.clock import SystemClock
from cxguard.core.outcomes import Charged
from cxguard.demo.serving import BACKLOG, end_with_parent, listen, say_ready, url_of
from cxguard.engine.engine import Timeouts
from cxguard.errors import PaymentDeclined
from cxguard.gateways.http import HttpGateway
from cxguard.logs import configure_logging

AMOUNT_MINOR = 4_999


def write_order(order: str, payment_id: str) -> str:
    """One line in the shop's books. Written twice it is the same order: the step may be repeated."""
    line = f"{order} {payment_id}\n".encode()
    books = os.open(os.environ["FLEET_ORDERS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(books, line)
    finally:
        os.close(books)
    return f"FC-{order}"


def read_orders(path: Path) -> set[str]:
    """The payments that an order belongs to."""
    return {line.split()[1] for line in path.read_text("ascii").splitlines()} if path.exists() else set()


async def place(op: Any, order: dict[str, Any]) -> str:
    payment = await op.charge(Charge(order["amount"], "EUR", source=order["source"], order_id=order["order"]))
    number: str = await op.step("write order", write_order, order["order"], payment.payment_id, repeatable=True)
    return number


async def pay(request: Request) -> JSONResponse:
    try:
        number = await place(current_operation(), await request.json())
    except PaymentDeclined:
        return JSONResponse({"status": "declined", "message": "Your bank did not approve it."}, 402)
    return JSONResponse({"status": "paid", "order": number}, 201)


async def pay_unguarded(request: Request) -> JSONResponse:
    """The same button in a shop that is like many: silence is a failure, and a failure is told as the bank's no."""
    order = await request.json()
    charge = Charge(order["amount"], "EUR", source=order["source"], order_id=order["order"])
    gateway = HttpGateway("http:fleet:test", os.environ["FLEET_GATEWAY"])
    outcome = await gateway.charge(charge, key=os.urandom(8).hex(), timeout_seconds=2.0)
    if not isinstance(outcome, Charged):
        return JSONResponse({"status": "declined", "message": "Your payment failed. Please try again."}, 402)
    return JSONResponse({"status": "paid", "order": write_order(order["order"], outcome.payment_id)}, 201)


async def place_later(op: Any) -> str:
    order = op.request.json()
    if order["order"] == os.environ.get("FLEET_POISON"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return await place(op, order)


async def ping(request: Request) -> JSONResponse:
    """A page that has nothing to do with money: it must not notice what the store is going through."""
    return JSONResponse({"pid": os.getpid()})


async def stall(request: Request) -> JSONResponse:
    """A call that blocks the loop, in code that should not have one."""
    time.sleep(float(request.query_params["seconds"]))  # noqa: ASYNC251 - that is the fault
    return JSONResponse({"pid": os.getpid()})


async def hoard(request: Request) -> JSONResponse:
    """A page that takes as much memory as it is told to, and touches it."""
    taken = bytearray(int(request.query_params["bytes"]))
    taken[::4096] = b"x" * len(taken[::4096])
    return JSONResponse({"pid": os.getpid()})


class SetClock(SystemClock):
    """A machine whose clock somebody sets: by what stands in a file, from the moment on that it stands there."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> float:  # type: ignore[override]
        return time.time() + (float(self._file.read_text("ascii")) if self._file.exists() else 0.0)


def make_guard() -> Guard:
    rule = Rule(
        "POST /pay",
        owner=header("x-shopper"),
        purchase=(json_field("order"),),
        amount_minor=json_field("amount"),
        currency="EUR",
        later=place_later,
        terms="2026-11",
        lease_seconds=float(os.environ.get("FLEET_LEASE_SECONDS", "10")),
    )
    remembered_seconds = float(os.environ.get("FLEET_KEY_SECONDS", "86400"))
    gateway = HttpGateway("http:fleet:test", os.environ.get("FLEET_GATEWAY", "http://127.0.0.1:9"), key_lifetime_seconds=remembered_seconds)
    clock = SetClock(Path(os.environ["FLEET_ORDERS"]).with_name("clock")) if "FLEET_CLOCK" in os.environ else SystemClock()
    return Guard(
        os.environ.get("FLEET_STORE", "memory://"),
        rules=[rule],
        shop=Shop("Fern & Co", phone="+44 20 7946 0000"),
        funnel=Funnel(pay="POST /pay"),
        gateways=[gateway],
        timeouts=Timeouts(attempt_seconds=2.0, find_seconds=1.0),
        duties=False if os.environ.get("FLEET_DUTIES") == "no" else None,
        clock=clock,
    )


BUGS = ExitStack()  # for as long as the process lives


def put_in(bug: str) -> None:
    """What a judge should see."""
    from cxguard.testing.simulation.mutants import MUTANTS

    BUGS.enter_context(next(mutant for mutant in MUTANTS if mutant.name == bug).alive())


def make_app() -> Starlette:
    if "FLEET_MUTANT" in os.environ:
        put_in(os.environ["FLEET_MUTANT"])
    unguarded = os.environ.get("FLEET_UNGUARDED") == "yes"
    pages = [Route(f"/{page.__name__}", page, methods=["GET"]) for page in (ping, stall, hoard)]
    shop = Starlette(routes=[Route("/pay", pay_unguarded if unguarded else pay, methods=["POST"]), *pages])
    if not unguarded:
        shop.add_middleware(GuardMiddleware, guard=make_guard())
    return shop


app = make_app()


@click.command()
@click.option("--with-parent", is_flag=True, help="End when standard input closes.")
@click.option("--port", default=0, help="Where to listen; 0: at a free one.")
@click.option("--http", default=os.environ.get("FLEET_HTTP", "auto"), help="uvicorn's own: h11 or httptools.")
def main(with_parent: bool, port: int, http: Any) -> None:
    """One process of the shop, on the loopback interface."""
    configure_logging(json=True, level=os.environ.get("FLEET_LOG_LEVEL", "WARNING"))
    config = uvicorn.Config(
        app, http=http, lifespan="on", access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=2, backlog=BACKLOG
    )
    server = uvicorn.Server(config)
    listener = listen("127.0.0.1", port)
    if with_parent:
        end_with_parent(server)
    say_ready({"url": url_of(listener), "pid": os.getpid()})
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
