"""A guarded shop that runs as several processes on one store: `fleet_shop:app` for servers and workers.

From the environment: FLEET_STORE (a URL), FLEET_GATEWAY (a URL), FLEET_ORDERS (the shop's own books: a line for each order,
`order payment`, appended in one write, so that all processes share the file), and the guard's two secrets.

    python -m fleet_shop --with-parent       one of the shop's processes; says where it answers in a line of JSON
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Guard, Rule, Shop, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.demo.serving import BACKLOG, end_with_parent, listen, say_ready, url_of
from cxguard.engine.engine import Timeouts
from cxguard.errors import PaymentDeclined
from cxguard.gateways.http import HttpGateway

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


async def place_later(op: Any) -> str:
    return await place(op, op.request.json())


async def ping(request: Request) -> JSONResponse:
    """A page that has nothing to do with money: it must not notice what the store is going through."""
    return JSONResponse({"pid": os.getpid()})


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
    gateway = HttpGateway("http:fleet:test", os.environ.get("FLEET_GATEWAY", "http://127.0.0.1:9"))
    return Guard(
        os.environ.get("FLEET_STORE", "memory://"),
        rules=[rule],
        shop=Shop("Fern & Co", phone="+44 20 7946 0000"),
        gateways=[gateway],
        timeouts=Timeouts(attempt_seconds=2.0, find_seconds=1.0),
    )


def make_app() -> Starlette:
    shop = Starlette(routes=[Route("/pay", pay, methods=["POST"]), Route("/ping", ping, methods=["GET"])])
    shop.add_middleware(GuardMiddleware, guard=make_guard())
    return shop


app = make_app()


@click.command()
@click.option("--with-parent", is_flag=True, help="End when standard input closes.")
def main(with_parent: bool) -> None:
    """One process of the shop, on the loopback interface."""
    from cxguard.logs import configure_logging

    configure_logging(json=True, level="WARNING")
    config = uvicorn.Config(
        app, lifespan="on", access_log=False, log_level="warning", ws="none", timeout_graceful_shutdown=2, backlog=BACKLOG
    )
    server = uvicorn.Server(config)
    listener = listen("127.0.0.1", 0)
    if with_parent:
        end_with_parent(server)
    say_ready({"url": url_of(listener), "pid": os.getpid()})
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
