"""One story: shoppers press buttons, things break, and at last everything comes to rest.

Real middleware, engine, queue and memory store in several processes, in virtual time; what stands between them is
simulated (`process`, `gateway`). Each answer that a shopper got is written down.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cxguard.core.operation import State
from cxguard.engine.casefile import Actor
from cxguard.engine.desk import Desk
from cxguard.errors import StoreError
from cxguard.testing.simulation.loop import Livelock, passed
from cxguard.testing.simulation.process import Process
from cxguard.testing.simulation.store_life import store_trouble
from cxguard.testing.simulation.striking import doom, request
from cxguard.testing.simulation.world import ACTIVE_SECONDS, ASKING, SMALL_SECONDS, Said, World

KIM = Actor("kim", "try again")
HONEST_HABITS = ("good",) * 7 + ("slow", "crash", "background", "late_failure", "thankful", "step")
HABITS = (*HONEST_HABITS, "liar")
TROUBLES = ("freeze", "die", "die", "outage", "desk", "clock", "store clock")
SMALL_TROUBLES = ("freeze", "die", "die", "die", "outage", "clock", "store clock")
TROUBLES_MAX = 20  # of a big one; they come every two seconds at most
PRESSES_MAX = 3  # of one shopper
AGAIN, AGAIN_IF_ERROR, AGAIN_IF_PAID = 0.5, 0.85, 0.3  # who was shown an error presses again, and some do in any case
VISIT_TRIES_MAX = 30  # longer than any store is away, and any process frozen
LANDING_SECONDS = 70.0  # until what was on its way has landed
REST_ROUNDS_MAX = 400  # looks of the queue after the last fault; a day of them is some hundred


@dataclass(frozen=True)
class Click:
    owner: str = "ann"
    cart: str = "c1"
    key: str = "k1"
    amount: int = 1000
    habit: str = "good"
    wants: str = "async"  # async, plain, html

    @property
    def order(self) -> str:
        return f"{self.owner}/{self.cart}/{self.key}/{self.amount}"


async def call(process: Process, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """One request; a process that dies takes the connection with it, and now and then the client goes away.

    Raises:
        ConnectionResetError: no answer came.
    """
    world = process.world
    client = _Client(body)
    work = partial(process.app, scope_of(method, path, headers), client.receive, client.send)
    run = process.begin(work() if world.plan.strikes is None else request(world, work))
    waits: set[asyncio.Future[Any]] = {run, process.died, client.heard}
    await asyncio.wait(waits, timeout=client.patience_seconds(world), return_when=asyncio.FIRST_COMPLETED)
    if not (run.done() or client.heard.done()):
        world.happens("client left")
        client.leave()
        if world.dice.random() < 0.3 and not process.party.dead:
            world.happens("server cancels")
            run.cancel()
        raise ConnectionResetError
    if run.cancelled() and not client.heard.done():
        raise ConnectionResetError
    if run.done() and not run.cancelled():
        run.result()
    return client.answer()


class _Client:
    """One end of a request."""

    def __init__(self, body: bytes) -> None:
        self.heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = [{"type": "http.request", "body": body, "more_body": False}]
        self._sent: list[Any] = []

    def patience_seconds(self, world: World) -> float | None:
        if world.calm or world.dice.random() > 0.1:
            return None
        return world.dice.choice([0.01, 0.3, 2.0, 10.0])

    async def receive(self) -> Any:
        if self._left:
            return self._left.pop()
        await asyncio.shield(self._gone)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self._sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False) and not self.heard.done():
            self.heard.set_result(None)

    def leave(self) -> None:
        self._gone.set_result(None)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        first, *rest = self._sent
        headers = {name.decode(): value.decode() for name, value in first["headers"]}
        return first["status"], headers, b"".join(each.get("body", b"") for each in rest)


def scope_of(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """What a server says about a request."""
    path, _, query = path.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "scheme": "http",
        "server": ("shop.example", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
    }


async def submit(world: World, click: Click, process: Process | None = None) -> Said | None:
    """One press of the button. None: the connection broke."""
    process = process or await world.alive()
    asking = world.next_asking()
    world.clicks.append(replace(click, habit="good", wants="async"))
    ASKING.set(asking)
    began_at = world.clock.monotonic()
    headers = {"x-user": click.owner, "content-type": "application/json", "host": "shop.example", "idempotency-key": click.key}
    headers |= {"async": {"prefer": "respond-async"}, "html": {"accept": "text/html"}, "plain": {}}[click.wants]
    body = {"amount": click.amount, "cart": click.cart, "habit": click.habit, "order": click.order}
    world.log(process.name, "submit", asking, click)
    try:
        status, got, content = await call(process, "POST", "/pay", headers, json.dumps(body).encode())
    except ConnectionResetError:
        world.log("submit", asking, "broken")
        return None
    said = await heard(world, click.order, asking, began_at, status, got, content)
    if world.plan.visits and status >= 400:
        world.errors.append((process, said))
        world.spawn(written_down(world, process))
    return said


async def written_down(world: World, process: Process) -> None:
    """The visits of a process reach the store a moment later, or when it is back."""
    await passed(0.5)
    for _ in range(VISIT_TRIES_MAX):
        try:
            flushed = await process.within(lambda guard: guard.recorder.flush_once())
        except ConnectionResetError:
            return
        if not flushed.waiting:
            return
        await passed(5.0)


async def heard(world: World, order: str, asking: int, began_at: float, status: int, got: dict[str, str], content: bytes) -> Said:
    told = json.loads(content) if "json" in got.get("content-type", "") else {}
    link = told.get("status_url") or (got.get("location") if status == 303 else None)
    said = Said(asking, order, began_at, world.clock.monotonic(), status, told, "submit" if asking else "page")
    world.log("heard", asking, order, status, told.get("situation"), told.get("money"), told.get("paid"), told.get("reference"))
    world.said.append(said)
    if link:
        world.links[link] = order
    return said


async def look(world: World, link: str) -> None:
    began_at = world.clock.monotonic()
    try:
        status, got, content = await call(await world.alive(), "GET", link, {"accept": "application/json", "x-user": "ann"})
    except ConnectionResetError:
        return
    await heard(world, world.links[link], 0, began_at, status, got, content)


async def cancel(world: World, link: str) -> None:
    began_at = world.clock.monotonic()
    world.log("cancel", world.links[link])
    try:
        status, got, content = await call(await world.alive(), "POST", f"{link}/cancel", {"accept": "application/json"})
    except ConnectionResetError:
        return
    said = await heard(world, world.links[link], 0, began_at, status, got, content)
    if said.body.get("situation") == "cancel_asked":
        world.happens("cancel asked")
        world.cancelled.append(said)


async def at_the_desk(world: World) -> None:
    """A person puts back what is held."""
    process = await world.alive()
    rules = {rule.name: rule for rule in process.guard.rules}
    for operation in await world.operations():
        if operation.state is State.HELD and operation.reference and world.dice.random() < 0.5:
            reference = operation.reference
            try:
                became = await process.within(lambda guard: Desk(guard.engine, rules=rules, purposes={}).requeue(reference, KIM))  # noqa: B023
            except (StoreError, ConnectionResetError):
                return
            world.happens("requeued by an agent")
            world.log("requeue", reference, became.done)


# --- the story


async def shopper(world: World) -> None:
    """Comes, presses the button, and perhaps once more."""
    dice, plan = world.dice, world.plan
    await passed(dice.uniform(0, SMALL_SECONDS / 2 if plan.small else ACTIVE_SECONDS * 0.6))
    cart = dice.choice(["c1", "c1", "c2"])
    key = "k2" if dice.random() < 0.2 else "k1"
    click = Click(
        owner=dice.choice(["ann", "ann", "ann", "bob"]),
        cart=cart,
        key=cart if plan.derived else f"{cart}-{key}",
        amount=1000 if dice.random() < 0.85 else 700,
        habit=dice.choice(HABITS if plan.resolve or plan.charged_by == "guard" else HONEST_HABITS),
        wants=dice.choice(["async", "async", "html", "plain"]),
    )
    for _ in range(PRESSES_MAX):
        said = await submit(world, click)
        if plan.small and dice.random() < 0.25:
            await think_better_of(world, click)
        if dice.random() > again(said):
            break
        await passed(dice.choice([0.0, 0.1, 3.0, 12.0]))


def again(said: Said | None) -> float:
    """How likely it is that whoever heard that presses once more."""
    if said is None or said.status >= 400:
        return AGAIN_IF_ERROR
    return AGAIN_IF_PAID if said.status == 201 else AGAIN


async def think_better_of(world: World, click: Click) -> None:
    """Cancel it, where the answer told how."""
    link = next((link for link, order in world.links.items() if order == click.order), None)
    if link is not None:
        await passed(world.dice.choice([0.0, 0.3, 3.0]))
        await cancel(world, link)


async def onlooker(world: World) -> None:
    """Reads the status page, and now and then cancels there."""
    small = world.plan.small
    while world.clock.monotonic() < (SMALL_SECONDS if small else ACTIVE_SECONDS):
        await passed(world.dice.uniform(0.5, 2 * SMALL_SECONDS) if small else world.dice.uniform(4.0, 25.0))
        if world.links:
            link = world.dice.choice(sorted(world.links))
            await (cancel(world, link) if world.dice.random() < 0.3 else look(world, link))


async def trouble(world: World) -> None:
    """Freezes, deaths and outages: one or two in a small story."""
    dice, small = world.dice, world.plan.small
    left = dice.choice([1, 1, 2]) if small else TROUBLES_MAX
    while left and world.clock.monotonic() < ACTIVE_SECONDS:
        left -= 1
        await passed(dice.uniform(0.0, SMALL_SECONDS / 2) if small else dice.uniform(2.0, 15.0))
        await strike(world, await world.alive())


async def strike(world: World, process: Process) -> None:
    """One trouble, of that process or of all."""
    dice, small = world.dice, world.plan.small
    match dice.choice(SMALL_TROUBLES if small else TROUBLES):
        case "freeze" if world.plan.stalls:
            seconds = dice.uniform(5.0, 60.0)
            world.log(process.name, "freezes for", seconds)
            world.happens("freeze")
            process.freeze(seconds)
        case "die":
            process.party.dies_at_turn = process.party.turns + dice.randint(1, 25 if small else 40)
        case "outage":
            world.happens("outage")
            world.bad_until = world.clock.monotonic() + dice.uniform(5.0, 40.0)
        case "desk":
            await at_the_desk(world)
        case "clock":
            process.clock.ahead_seconds = dice.choice([0.0, -3600.0, -30.0, 30.0, 3600.0])
            world.happens("clock set")
        case "store clock" if world.plan.store_jumps:
            world.store_clock.ahead_seconds = dice.choice([0.0, -3600.0, -20.0, 20.0, 90.0])
            world.log("store clock", world.store_clock.ahead_seconds)
            world.happens("store clock set")
            world.stir()


async def reviver(world: World) -> None:
    """Whatever dies is started again."""
    while True:
        await asyncio.wait({process.died for process in world.processes}, return_when=asyncio.FIRST_COMPLETED)
        for number, process in enumerate(world.processes):
            if process.party.dead:
                await passed(world.dice.choice([0.0, 0.5, 5.0]))
                again = Process(world, f"{process.name}'", works=process.works)
                await again.start()
                world.processes[number] = again
                doom(world, again, number=number, life=process.name.count("'") + 1)


async def story(world: World) -> None:
    """All of it, until everything has come to rest."""
    await open_the_shop(world)
    first = list(world.processes)
    started = [process.party.turns for process in first]
    for number, process in enumerate(first):
        doom(world, process, number=number, life=0)
    reviving = world.spawn(reviver(world))
    people = [world.spawn(person) for person in people_of(world)]
    await asyncio.wait(people)
    for person in people:
        person.result()
    await passed(LANDING_SECONDS)
    world.turns = tuple(process.party.turns - before for process, before in zip(first, started, strict=True))
    await rest(world)
    world.at_rest, world.rested_at = frozenset(each.reference for each in await world.operations()), world.clock.monotonic()
    for click in list(dict.fromkeys(world.clicks)):  # whoever presses once more finds what became of it, and pays once at most
        await submit(world, click)
    await rest(world)
    for process in world.processes if world.plan.visits else ():
        await written_down(world, process)  # also what was still being worked on when its answer went out
    assert not reviving.done(), reviving.result()


async def open_the_shop(world: World) -> None:
    """The processes start; in a small story nothing goes wrong with that."""
    dice, small = world.dice, world.plan.small
    world.processes = [Process(world, "a", works=True)]
    if not small or dice.random() < 0.5:
        world.processes.append(Process(world, "b", works=dice.random() < 0.5))
    world.opening = small
    for process in list(world.processes):
        await process.start()
    world.opening = False


def people_of(world: World) -> list[Coroutine[Any, Any, None]]:
    """Whoever comes, by the dice."""
    dice, plan = world.dice, world.plan
    shoppers = dice.choice([1, 1, 2]) if plan.small else dice.randint(1, plan.shoppers_max)
    people = [shopper(world) for _ in range(shoppers)]
    if not plan.small or dice.random() < 0.25:
        people.append(onlooker(world))
    if plan.trouble and (not plan.small or dice.random() < 0.7):
        people.append(trouble(world))
    if plan.store_restarts or plan.loses_tail or plan.spool:
        people.append(store_trouble(world))
    return people


async def rest(world: World) -> None:
    """Everything works again, and time passes until nothing is due."""
    if world.calm:
        await passed(5.0)
    else:
        await calm_down(world)
    for _ in range(REST_ROUNDS_MAX):
        seconds = 0.0 if world.spooled() else await world.due_in_seconds()
        if seconds == float("inf"):
            return
        await passed(max(seconds, 0.0) + 5.0)
    raise Livelock("it never comes to rest")


async def calm_down(world: World) -> None:
    """After the last fault, when what was on its way has landed."""
    world.calm = True
    world.store_clock.ahead_seconds = 0.0
    world.stir()
    for process in world.processes:
        process.thaw()
        process.party.dies_at_turn = None
        process.clock.ahead_seconds = 0.0
    await passed(90.0)  # whatever ran has come to its end
