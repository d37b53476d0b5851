"""The story of one interleaving: shoppers press buttons, things break, and at last everything comes to rest.

Real middleware, engine, queue and memory store in several processes, in virtual time; what stands between them is
simulated (`interleaving_process`, `interleaving_gateway`). Each answer that a shopper got is written down.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

from interleaving_process import Process, ripe_at
from interleaving_world import ACTIVE_SECONDS, ASKING, Said, World
from virtual_time import passed

from cxguard.core.operation import State
from cxguard.engine.casefile import Actor
from cxguard.engine.desk import Desk
from cxguard.errors import StoreError


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
    """One request; a process that dies takes the connection with it."""
    sent: list[Any] = []
    whole = asyncio.Event()
    gone = asyncio.get_running_loop().create_future()
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return left.pop() if left else await gone

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            whole.set()

    path, _, query = path.partition("?")
    scope = {
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
    run = process.world.spawn(process.app(scope, receive, send))
    heard = process.world.spawn(whole.wait())
    while not run.done() and not heard.done():
        await asyncio.wait({run, heard}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        if process.dead:
            raise ConnectionResetError
    heard.cancel()
    if run.done():
        run.result()
    started = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], started, b"".join(each.get("body", b"") for each in sent[1:])


async def submit(world: World, click: Click, process: Process | None = None) -> Said | None:
    """One press of the button. None: the connection broke."""
    process = process or world.alive()
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
    return await heard(world, click.order, asking, began_at, status, got, content)


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
        status, got, content = await call(world.alive(), "GET", link, {"accept": "application/json", "x-user": "ann"})
    except ConnectionResetError:
        return
    await heard(world, world.links[link], 0, began_at, status, got, content)


async def cancel(world: World, link: str) -> None:
    began_at = world.clock.monotonic()
    world.log("cancel", world.links[link])
    try:
        status, got, content = await call(world.alive(), "POST", f"{link}/cancel", {"accept": "application/json"})
    except ConnectionResetError:
        return
    await heard(world, world.links[link], 0, began_at, status, got, content)


async def at_the_desk(world: World) -> None:
    """A person puts back what is held."""
    process = world.alive()
    desk = Desk(process.guard.engine, rules={rule.name: rule for rule in process.guard.rules}, purposes={})
    for operation in await world.operations():
        if operation.state is State.HELD and operation.reference and world.dice.random() < 0.5:
            try:
                became = await desk.requeue(operation.reference, Actor("kim", "try again"))
                world.log("requeue", operation.reference, became.done)
            except StoreError:
                return


# --- the story


async def shopper(world: World) -> None:
    dice, plan = world.dice, world.plan
    await passed(dice.uniform(0, ACTIVE_SECONDS * 0.6))
    cart = dice.choice(["c1", "c1", "c2"])
    key = "k2" if dice.random() < 0.2 else "k1"
    amount = 1000 if dice.random() < 0.85 else 700
    habits = ["good"] * 6 + ["slow", "crash", "background", "late_failure", "liar", "thankful", "step"]
    click = Click(
        owner=dice.choice(["ann", "ann", "ann", "bob"]),
        cart=cart,
        key=cart if plan.derived else f"{cart}-{key}",
        amount=amount,
        habit=honest if (honest := dice.choice(habits)) != "liar" or plan.resolve or plan.charged_by == "guard" else "good",
        wants=dice.choice(["async", "async", "html", "plain"]),
    )
    for _ in range(dice.choice([1, 1, 2, 3])):
        await submit(world, click)
        await passed(dice.choice([0.0, 0.1, 3.0, 12.0, 40.0]))


async def onlooker(world: World) -> None:
    while world.clock.monotonic() < ACTIVE_SECONDS:
        await passed(world.dice.uniform(2.0, 20.0))
        if not world.links:
            continue
        link = world.dice.choice(sorted(world.links))
        await (cancel(world, link) if world.dice.random() < 0.2 else look(world, link))


async def trouble(world: World) -> None:
    """Freezes, deaths and outages."""
    dice = world.dice
    while world.clock.monotonic() < ACTIVE_SECONDS:
        await passed(dice.uniform(5.0, 30.0))
        what = dice.choice(["freeze", "die", "outage", "desk", "nothing"])
        process = world.alive()
        if what == "freeze" and world.plan.stalls:
            process.stalled_until = world.clock.monotonic() + dice.uniform(5.0, 60.0)
            world.log(process.name, "freezes until", process.stalled_until)
        elif what == "die":
            await process.die()
            await revive(world, process)
        elif what == "outage":
            world.bad_until = world.clock.monotonic() + dice.uniform(5.0, 40.0)
        elif what == "desk":
            await at_the_desk(world)


async def revive(world: World, died: Process) -> None:
    again = Process(world, f"{died.name}'", works=died.works)
    await again.start()
    world.processes[world.processes.index(died)] = again
    world.graves.append(died)


async def story(world: World) -> None:
    """All of it, until everything has come to rest."""
    world.processes = [Process(world, "a", works=True), Process(world, "b", works=world.dice.random() < 0.5)]
    for process in list(world.processes):
        await process.start()
    people = [world.spawn(shopper(world)) for _ in range(world.dice.randint(2, 7))]
    people += [world.spawn(onlooker(world)), world.spawn(trouble(world))]
    await asyncio.wait(people)
    for person in people:
        person.result()
    await rest(world)
    for click in list(dict.fromkeys(world.clicks)):  # whoever presses once more finds what became of it, and pays once at most
        await submit(world, click)
    await rest(world)


async def rest(world: World) -> None:
    """Everything works again, and time passes until nothing is due."""
    await passed(70.0)  # what was on its way lands
    world.calm = True
    for process in world.processes:
        process.stalled_until = 0.0
    await passed(90.0)
    for _ in range(400):
        due = [at for operation in await world.operations() if (at := ripe_at(operation)) is not None]
        if not due:
            return
        await passed(max(min(due) - world.clock.now(), 0.0) + 5.0)
    raise AssertionError("it never comes to rest")


async def end(world: World) -> None:
    for process in [*world.processes, *world.graves]:
        process.bury()
    for task in world.tasks:
        task.cancel()
    runs = [run for process in [*world.processes, *world.graves] for run in process.guard.runs]
    for run in runs:
        run.cancel()
    await asyncio.gather(*world.tasks, *runs, return_exceptions=True)
