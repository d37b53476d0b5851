"""A shop with its desk under /ops and orders of every kind, for a real server: `uvicorn desk_server:app`.

`?as=anna` on the first request signs in: a cookie, as a shop's own sign-in would set one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from deskworld import DeskWorld, desk_world
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from cxguard.clock import SystemClock
from cxguard.core.message import Message
from cxguard.core.money import Note, NoteKind, SendKind
from cxguard.core.operation import Entry, State, WaitingFor
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Refunded
from cxguard.core.session import Basket, Bought, By, Cause, Exposed, Reached, Stage
from cxguard.dashboard import dashboard
from cxguard.guard import Guard

HOSTILE = "\"><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}' --"


def who(request: Request) -> str | None:
    """The shop's own sign-in."""
    return request.cookies.get("staff")


async def sign_in(request: Request) -> Response:
    answer = RedirectResponse("/ops/", status_code=303)
    answer.set_cookie("staff", request.query_params.get("as", "anna"), httponly=True, samesite="lax")
    return answer


async def fill(world: DeskWorld) -> None:
    """Orders in every state, an outage, and errors that shoppers met."""
    now = world.clock.now()
    for number in range(3):
        await world.unknown(f"u{number}", contact=f"shopper{number}@fern.example", locale=("en", "de", "fr")[number])
    await world.unknown("q-unknown", State.QUEUED, due_at=now + 30)
    paid = world.send("missing", Charged(4999, "EUR", payment_id="pay_9"))
    await world.put("missing", State.HELD, paid, why="order_missing", contact="+44 7700 900123", amount_minor=4999)
    await world.put("failed", State.HELD, why="later_failed", attempts=6, give_up_at=now + 40_000)
    bank = {"why": "needs_shopper", "waiting_for": WaitingFor.SHOPPER}
    await world.put("bank", State.HELD, world.send("bank", NeedsShopper("one more step at the bank")), **bank)
    for number in range(4):
        members = {"amount_minor": 1999 + 1111 * number, "due_at": now + 20 * number, "give_up_at": now + 80_000}
        await world.put(f"q{number}", State.QUEUED, why="gateway_down", **members)
    for number in range(60):
        done = world.send(f"f{number}", Charged(2500 + number, "EUR", payment_id=f"pay_{number}"))
        await world.put(f"f{number}", State.FINISHED, done, amount_minor=2500 + number, created_at=now - 3_600 * (number + 2))
    await world.put("declined", State.FINISHED, world.send("declined", Declined()))
    charge = world.send("back", Charged(4999, "EUR", payment_id="pay_b"))
    refund = world.send("back", Refunded(4999, "EUR", refund_id="re_1"), number=2, kind=SendKind.REFUND, of=charge.key)
    await world.put("back", State.CANCELLED, charge, refund, why="cancel_asked")
    await _hostile(world)
    await _visits(world.guard, now)
    for _ in range(6):
        ticket = world.guard.engine.breakers.admit(world.gateway.name, "charge")
        if hasattr(ticket, "settle"):
            ticket.settle(NotCharged("connect refused", retryable=True), 0.1)
    world.guard.engine.breakers.admit(world.gateway.name, "find")


async def _hostile(world: DeskWorld) -> None:
    """What a hostile client and a hostile gateway may have left in a record."""
    remark = Note("r1", NoteKind.REMARK, world.clock.now(), source=HOSTILE, text=HOSTILE)
    line = world.send("x", Charged(4999, "EUR", payment_id=HOSTILE), gateway=HOSTILE)
    now = world.clock.now()
    entries = (Entry(now, HOSTILE, HOSTILE, {"reason": HOSTILE}), Entry(now, "order.held", "h", {"why": HOSTILE}))
    members = {"rule": HOSTILE, "why": HOSTILE, "history": entries, "session": HOSTILE, "locale": HOSTILE}
    await world.put("x", State.HELD, replace(line, step=HOSTILE), contact=HOSTILE, notes=(remark,), **members)


async def _visits(guard: Guard, now: float) -> None:
    basket = Basket(5000, "EUR", 1)
    for number in range(200):
        guard.recorder.put(Reached(f"s{number}", Stage.PAY, now - 900, basket=basket))
        if number % 2:
            guard.recorder.put(Bought(f"s{number}", now - 800))
    for number in range(14):
        message = Message(key="not_kept", version=1) if number < 11 else Message(text=f"Sorry, your <b>card</b> was refused {HOSTILE}")
        guard.recorder.put(Reached(f"e{number}", Stage.PAY, now - 900, basket=basket))
        shown = {"stage": Stage.PAY, "at": now - 890, "message": message, "cause": Cause.OUR_OUTAGE, "by": By.OURS, "status": 503}
        guard.recorder.put(Exposed(id=f"x{number}", session=f"e{number}", **shown))
    while (await guard.recorder.flush_once()).waiting:
        continue


class Mounted:
    """The desk of whatever guard is running now."""

    def __init__(self) -> None:
        self.desk: object = None

    async def __call__(self, scope: dict, receive: object, send: object) -> None:  # type: ignore[type-arg]
        await self.desk(scope, receive, send)  # type: ignore[operator]


mounted = Mounted()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with desk_world(clock=SystemClock()) as world:
        await fill(world)
        mounted.desk = dashboard(world.guard, auth=who)
        yield


app = Starlette(routes=[Route("/sign-in", sign_in), Mount("/ops", mounted)], lifespan=lifespan)
