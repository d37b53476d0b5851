"""A fleet that shops through one fault, and what the judge makes of it, by promise."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fleet_shoppers import Shopper, Street, Wish, wishes
from fleet_world import QUIET_SECONDS, Fleet, Reach, Say, Told, fleet_running
from store_machines import STORES

PROMISES: Mapping[str, str] = {
    "P1": "charged twice",
    "P2": "told wrong",
    "P3": "lost or stuck",
    "P4": "met an error that is not on record",
    "P5": "looks at other pages that failed",
}
ORDERS, RATE, SEED = 80, 16.0, 11
RUN_SECONDS_MAX = 240.0  # on a machine that does much else; alone, most are over in half a minute
LEASE_SECONDS = 5.0
STORIES_MAX = 10
UNGUARDED_QUIET_SECONDS = 3.0

Trouble = Callable[[Fleet], Awaitable[int]]
"""Does it to a fleet that is shopping; how often it came about."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What one fault has shown.

    Attributes:
        happened: how often it really came about: a fault that never did was not tried.
        wrong: how often each promise was broken; one that this fault says nothing about is not in it.
        seconds: how long it took.
        stories: of what went wrong.
    """

    happened: int
    orders: int
    wrong: Mapping[str, int]
    seconds: float
    stories: Sequence[str] = field(default_factory=tuple)

    def failures(self) -> list[str]:
        found = [f"{promise}, {PROMISES[promise]}: {number}" for promise, number in self.wrong.items() if number]
        if not self.happened:
            found.append("it never came about, so it was not tried")
        return found + (list(self.stories)[:STORIES_MAX] if found else [])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault is played: all that differs from fault to fault.

    Attributes:
        dies: processes of the shop are killed, frozen or choked by it: a page that they would have given is no fault of the
            guard, and what a killed one had seen in its last half second is in no report.
        counted: how often it came about, where it is the shoppers who do it.
        guarded: it befalls what only a guard has: orders that are kept, who works on them, a store's file, a log of its own.
        waits: orders that may be without an end when the run is over, each with its reason in the fault's own text.
        sends_max: to the gateway, for one order.
    """

    trouble: Trouble | None = None
    script: str = "healthy"
    orders: int = ORDERS
    rate: float = RATE
    apps: int = 2
    workers: int = 1
    reach: Reach = nullcontext
    settings: Mapping[str, str] = field(default_factory=dict)
    control: Mapping[str, Any] = field(default_factory=dict)
    shopper: type[Shopper] = Shopper
    wanted: Callable[[], Sequence[Wish]] | None = None
    quiet_seconds: float = QUIET_SECONDS
    counted: Callable[[Street], int] | None = None
    dies: bool = False
    guarded: bool = False
    waits: int = 0
    sends_max: int | None = None

    def changed(self, settings: Mapping[str, str]) -> Scene:
        """The same with more settings of the shop. One without a guard has no worker, and nothing is on its way when all have left."""
        changed = replace(self, settings={**self.settings, **settings})
        return replace(changed, workers=0, quiet_seconds=UNGUARDED_QUIET_SECONDS) if "FLEET_UNGUARDED" in settings else changed


async def played(scene: Scene, folder: Path, store: str, *, say: Say = lambda line: None) -> Shown:
    """One fault on one store, from an empty store to the verdict."""
    happened = 0
    with STORES[store](folder) as url:
        options = {"lease_seconds": LEASE_SECONDS, "settings": scene.settings, "reach": scene.reach, "say": say}
        async with fleet_running(folder, store_url=url, apps=scene.apps, workers=scene.workers, **options) as fleet:
            if scene.control:
                await control(fleet, "PUT", "/control", **scene.control)

            async def during() -> None:
                nonlocal happened
                happened += await scene.trouble(fleet) if scene.trouble is not None else 0

            wanted = scene.wanted() if scene.wanted is not None else wishes(scene.orders, rate=scene.rate, seed=SEED)
            told = await fleet.through(
                wanted,
                script=scene.script,
                during=during,
                seconds_max=RUN_SECONDS_MAX,
                quiet_seconds=scene.quiet_seconds,
                shopper=scene.shopper,
                waits=scene.waits,
            )
            assert fleet.street is not None, "they have shopped there"
            sends = (await control(fleet, "GET", "/ledger"))["sends"]
    if scene.counted is not None:
        happened = scene.counted(fleet.street)
    elif scene.trouble is None:
        happened = sum(send["mode"] != "healthy" for send in sends)
    return _judged(scene, told, sends, happened=happened)


def shown(told: Told, *, happened: int, dies: bool = False) -> Shown:
    """The judge's figures, by promise."""
    wrong = told.wrong()
    by_promise = {"P1": wrong["charged twice"], "P2": wrong["false words"], "P3": wrong["lost"] + wrong["stuck"]}
    if not dies:
        by_promise |= {"P4": told.unseen, "P5": told.pings_failed}
    return Shown(happened, told.verdict.wanted, by_promise, told.all_seconds, tuple(told.stories))


def _judged(scene: Scene, told: Told, sends: Sequence[Mapping[str, Any]], *, happened: int) -> Shown:
    found = shown(told, happened=happened, dies=scene.dies)
    wrong, stories = dict(found.wrong), list(found.stories)
    if scene.waits:
        waiting = max(told.verdict.open, sum(told.stuck.values()))  # one order, seen by its shopper and in the store
        wrong["P3"] = told.verdict.lost + max(0, waiting - scene.waits)
    most = _most_sends(sends)
    if scene.sends_max is not None and most > scene.sends_max:
        wrong["P5"] = wrong.get("P5", 0) + 1
        stories.append(f"the gateway was called {most} times for one order")
    return Shown(found.happened, found.orders, wrong, found.seconds, tuple(stories))


def _most_sends(sends: Sequence[Mapping[str, Any]]) -> int:
    references = [send["reference"] for send in sends]
    return max((references.count(each) for each in set(references)), default=0)


async def control(fleet: Fleet, method: str, path: str, **members: Any) -> Any:
    """A word with the gateway, past everything that lies between it and the shop."""
    async with httpx.AsyncClient(trust_env=False, timeout=40.0) as client:
        answer = await client.request(method, fleet.gateway.facts["control_url"] + path, json=members or None)
        answer.raise_for_status()
        return answer.json()


async def held_at_the_gateway(fleet: Fleet, *, at: str, count: int = 3) -> int:
    """Stop the next charges before or after the ledger has them; how many stand there when they do."""
    await control(fleet, "POST", "/control/hold", count=count, at=at)
    return len((await control(fleet, "GET", f"/control/held?count={count}&seconds=5"))["held"])


async def let_go(fleet: Fleet) -> None:
    await control(fleet, "POST", "/control/release")


def end_politely() -> None:
    """Whoever ends this run ends it as Ctrl-C does: servers, shops and workers are ended with it, and none is left behind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's script lets what it puts into the background ignore it
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(os.getpid(), signal.SIGINT))


async def pause(seconds: float) -> None:
    """How long a fault lasts."""
    await asyncio.sleep(seconds)
