"""What a fleet's store goes through, fault by fault, while shoppers press the button.

Each fault is a context: a server of its own, the address that the fleet gets, and what happens while it shops. The judge
looks at the store past any proxy.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fleet_shoppers import wishes
from fleet_world import During, Say, Told, fleet_running
from store_machines import Machine, PostgresMachine, postgres_machine
from tcp_proxy import Mode, TcpProxy, proxied

BEGIN_SECONDS = 2.0  # of shopping, before the fault
AWAY_SECONDS = 4.0
FROZEN_SECONDS = 10.0
DISK_MB = 64  # the empty database takes 26 of them
SCRIPT = "healthy 3s, error_after 0.5s, healthy"  # so that some money is unknown when the store goes away
ORDERS, RATE, SEED = 180, 15.0, 11
RUN_SECONDS_MAX = 240.0
QUIET_SECONDS = 120.0  # an order that was under way when a store's life ended waits for its gateway's `settle_seconds`, and its next look


@dataclass(frozen=True, slots=True)
class Ground:
    """Where one fault happens.

    Attributes:
        url: what the fleet is told. honest_url: the same store without anything between.
    """

    url: str
    honest_url: str
    during: During


Fault = Callable[[Path], AbstractAsyncContextManager[Ground]]
Server = Callable[[], AbstractContextManager[Machine]]


async def judged(fault: Fault, folder: Path, *, orders: int = ORDERS, rate: float = RATE, say: Say = lambda line: None) -> Told:
    """One fault under load, from an empty store to the verdict."""
    async with fault(folder) as ground, fleet_running(folder, store_url=ground.url, apps=2, workers=1, lease_seconds=5.0, say=say) as fleet:
        fleet.judge_url = ground.honest_url
        wanted = wishes(orders, rate=rate, seed=SEED)
        return await fleet.through(wanted, script=SCRIPT, during=ground.during, seconds_max=RUN_SECONDS_MAX, quiet_seconds=QUIET_SECONDS)


# --- what happens to one server


async def _killed(machine: Machine) -> None:
    await asyncio.sleep(BEGIN_SECONDS)
    machine.kill()
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(machine.start)


async def _frozen(machine: Machine) -> None:
    await asyncio.sleep(BEGIN_SECONDS)
    machine.freeze()
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        machine.thaw()


async def _terminated(machine: PostgresMachine) -> None:
    """Again and again: some in the middle of a commit."""
    await asyncio.sleep(BEGIN_SECONDS)
    text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cxguard'"
    for _ in range(12):
        await asyncio.to_thread(machine.run, text)
        await asyncio.sleep(0.4)


async def _filled(machine: PostgresMachine) -> None:
    """Whatever the server frees meanwhile is taken, too."""
    await asyncio.sleep(BEGIN_SECONDS)
    for _ in range(round(AWAY_SECONDS / 0.1)):
        await asyncio.to_thread(machine.fill_disk)
        await asyncio.sleep(0.1)
    await asyncio.to_thread(machine.free_disk)


@asynccontextmanager
async def on(server: Server, happens: Callable[[Any], Awaitable[None]], folder: Path) -> AsyncIterator[Ground]:
    with server() as machine:
        yield Ground(machine.url, machine.url, partial(happens, machine))


# --- the network between


async def _network(proxy: TcpProxy, mode: Mode) -> None:
    await asyncio.sleep(BEGIN_SECONDS)
    proxy.mode, proxy.cut_every, proxy.delay_seconds = mode, 3, 0.03
    await asyncio.sleep(AWAY_SECONDS)
    proxy.mode = Mode.PASS


@asynccontextmanager
async def _through(server: Server, mode: Mode, folder: Path) -> AsyncIterator[Ground]:
    with server() as machine:
        async with proxied("127.0.0.1", machine.port) as proxy:
            url = machine.url.replace(f":{machine.port}", f":{proxy.port}")
            yield Ground(url, machine.url, partial(_network, proxy, mode))


def faults_of(store: str, server: Server) -> Iterator[tuple[str, Fault]]:
    """What every server may go through."""
    yield f"{store}: killed and restarted", partial(on, server, _killed)
    yield f"{store}: frozen for 10 s", partial(on, server, _frozen)
    for mode in (Mode.CUT_BEFORE_REQUEST, Mode.CUT_BEFORE_ANSWER, Mode.BLACK_HOLE, Mode.DELAY):
        yield f"{store}: {mode.replace('_', ' ')}", partial(_through, server, mode)


def _all() -> Iterator[tuple[str, Fault]]:
    yield from faults_of("postgresql", postgres_machine)
    yield "postgresql: connections ended", partial(on, postgres_machine, _terminated)
    if os.getuid() == 0:  # a disk of its own is mounted for it
        yield "postgresql: disk full", partial(on, partial(postgres_machine, disk_mb=DISK_MB), _filled)


FAULTS: Mapping[str, Fault] = dict(_all())
