"""What happens to the processes of a shop while it is shopping: killed, ended, frozen, starved, stalled, poisoned."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
from campaign.playing import Scene, control, held_at_the_gateway, let_go, pause
from fleet_places import Place
from fleet_world import Fleet

BEGIN_SECONDS = 1.0  # of shopping, before the fault
ROUNDS = 3
LONG = 160  # orders, so that there still are some after several starts
FROZEN_SECONDS = 7.0  # longer than a lease
STARVED_SECONDS, SLICE_SECONDS, SHARE = 6.0, 0.1, 0.05
STALL_SECONDS = 5.0
AWAY_SECONDS = 10.0
POISON_DEATHS, POISON_DEATHS_MAX = 3, 8
POISON_SECONDS_MAX = 40.0  # until it is due again, and somebody takes it
MEMORY_BYTES = 16 << 20  # of what a process asks for anew, once it may have no more
MEMORY_GROUP = Path("/sys/fs/cgroup/memory")


def everybody(fleet: Fleet) -> list[Place]:
    return [*fleet.apps, *fleet.workers]


async def killed_while_charging(fleet: Fleet, *, at: str) -> int:
    """All processes of the shop die at once while the gateway has some charges in hand; how many those were."""
    caught = 0
    for _ in range(ROUNDS):
        caught += await held_at_the_gateway(fleet, at=at)
        await asyncio.gather(*(place.kill() for place in everybody(fleet)))
        await let_go(fleet)
        await asyncio.gather(*(place.again() for place in everybody(fleet)))
        await pause(0.5)
    return caught


async def killed_again_and_again(fleet: Fleet) -> int:
    """One process after another, wherever it is just then."""
    await pause(BEGIN_SECONDS)
    for number in range(ROUNDS * len(everybody(fleet))):
        place = everybody(fleet)[number % len(everybody(fleet))]
        await place.kill()
        await place.again()
    return sum(place.deaths for place in everybody(fleet))


async def workers_killed(fleet: Fleet) -> int:
    """Whoever resolves dies, again and again, while another one resolves the same orders."""
    await pause(BEGIN_SECONDS)
    for number in range(ROUNDS * len(fleet.workers)):
        place = fleet.workers[number % len(fleet.workers)]
        await place.kill()
        await place.again()
    return sum(place.deaths for place in fleet.workers)


async def ended_with_too_little_grace(fleet: Fleet) -> int:
    """SIGTERM in the middle of charges, and SIGKILL a second later, before they could come to their end."""
    caught = 0
    for app in fleet.apps:
        caught += await held_at_the_gateway(fleet, at="after_charge")
        app.signal(signal.SIGTERM)
        if not await app.gone(seconds_max=1.0):
            await app.kill()
        await let_go(fleet)
        await app.again()
    return caught


async def frozen_past_its_lease(fleet: Fleet) -> int:
    """One process sleeps in the middle of its charges until others have taken them over, and wakes up."""
    caught = await held_at_the_gateway(fleet, at="after_charge", count=4)
    fleet.apps[0].freeze()
    await let_go(fleet)
    await pause(FROZEN_SECONDS)
    fleet.apps[0].thaw()
    return caught


async def starved(fleet: Fleet) -> int:
    """Everybody gets a twentieth of a core."""
    await pause(BEGIN_SECONDS)
    slices = round(STARVED_SECONDS / SLICE_SECONDS)
    try:
        for _ in range(slices):
            for place in everybody(fleet):
                place.freeze()
            await pause(SLICE_SECONDS * (1 - SHARE))
            for place in everybody(fleet):
                place.thaw()
            await pause(SLICE_SECONDS * SHARE)
    finally:
        for place in everybody(fleet):
            place.thaw()
    return slices


async def stalled(fleet: Fleet) -> int:
    """A call in the shop's own code blocks the loop of one process."""
    await pause(BEGIN_SECONDS)
    return int(await _asked(fleet.apps[0], "/stall", seconds=STALL_SECONDS) == 200)


async def _asked(app: Place, path: str, **params: float) -> int:
    """The status of one page of one process."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
        return (await client.get(app.url + path, params=params)).status_code


async def nobody_works(fleet: Fleet) -> int:
    """Every worker is away while orders are kept; how many waited when they came back."""
    for worker in fleet.workers:
        await worker.kill()
    await pause(AWAY_SECONDS)
    waited = (await fleet.not_ended()).get("queued", 0)
    for worker in fleet.workers:
        await worker.again()
    return waited


async def poisoned(fleet: Fleet) -> int:
    """Whoever places one order dies of it. As a supervisor does, start the next one, at least until no other order dies with it."""
    deaths = 0
    while deaths < POISON_DEATHS or (deaths < POISON_DEATHS_MAX and sum((await fleet.not_ended()).values()) > 1):
        for worker in fleet.workers:
            if not await worker.gone(seconds_max=POISON_SECONDS_MAX):
                return deaths
            await worker.again()
        deaths = sum(worker.deaths for worker in fleet.workers)
    return deaths


async def out_of_memory(fleet: Fleet) -> int:
    """The kernel takes a process whose memory is used up."""
    await pause(BEGIN_SECONDS)
    for app in fleet.apps:
        group = MEMORY_GROUP / f"cxguard-{app.pid}"
        group.mkdir()
        try:
            _put(group / "cgroup.procs", app.pid)
            _put(group / "memory.limit_in_bytes", MEMORY_BYTES)
            with suppress(httpx.HTTPError):
                await _asked(app, "/hoard", bytes=MEMORY_BYTES * 4)
            if await app.gone(seconds_max=5.0):
                await app.again()
        finally:
            with suppress(OSError):
                group.rmdir()
    return sum(app.deaths for app in fleet.apps)


def _put(file: Path, value: int) -> None:
    file.write_text(f"{value}\n", "ascii")


def may_limit_memory() -> str:
    """Why it cannot be done here; empty when it can."""
    return "" if os.access(MEMORY_GROUP / "cgroup.procs", os.W_OK) else "wants root and cgroups of version 1"


async def _keys_turned(fleet: Fleet) -> int:
    """A new key in front of the ring, process after process, while orders wait that the old one has sealed."""
    await pause(BEGIN_SECONDS * 2)
    ring = f"{os.urandom(32).hex()},{fleet.environment['CXGUARD_KEYS']}"
    waited = (await fleet.not_ended()).get("queued", 0)
    for place in everybody(fleet):
        await place.kill()
        place.environment["CXGUARD_KEYS"] = ring
        await place.again()
    await control(fleet, "PUT", "/control", mode="healthy")
    return waited


UNKNOWNS = "healthy 1s, error_after 1s, healthy 1s, error_after 1s, healthy"
SCENES: Mapping[str, Scene] = {
    "killed before the gateway charged": Scene(lambda fleet: killed_while_charging(fleet, at="before_charge"), orders=LONG, dies=True),
    "killed after the gateway charged": Scene(lambda fleet: killed_while_charging(fleet, at="after_charge"), orders=LONG, dies=True),
    "killed again and again": Scene(killed_again_and_again, script=UNKNOWNS, dies=True),
    "SIGTERM and no grace": Scene(ended_with_too_little_grace, apps=3, orders=LONG, settings={"FLEET_HTTP": "h11"}, dies=True),
    "frozen past its lease": Scene(frozen_past_its_lease, dies=True),
    "out of memory": Scene(out_of_memory, dies=True),
    "a twentieth of a core": Scene(starved, dies=True),
    "the loop stalls 5 s": Scene(stalled, dies=True),
    "nobody works on the queue": Scene(nobody_works, script="refuse 4s, healthy", settings={"FLEET_DUTIES": "no"}, guarded=True),
    "an order that kills its worker": Scene(
        poisoned,
        script="refuse 4s, healthy",
        settings={"FLEET_DUTIES": "no", "FLEET_POISON": "o7"},
        waits=1,  # it is tried again and again until its end, alone
        dies=True,
        guarded=True,
    ),
    "the key ring is turned": Scene(_keys_turned, script="refuse", dies=True, guarded=True),
    "those who resolve are killed": Scene(
        workers_killed, workers=2, script=UNKNOWNS, settings={"FLEET_DUTIES": "no"}, dies=True, guarded=True
    ),
}
