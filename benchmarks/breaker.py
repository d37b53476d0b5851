"""Breakers side by side, in one run: what a call costs, and what each does when it matters. Nothing is asserted.

    python benchmarks/breaker.py             about half a minute
    python benchmarks/breaker.py --quick     a look, not a figure
    python benchmarks/breaker.py --json      the same, for programs

Each library is set up and called as its own documentation says: by its decorator where it has one for async code; five
failures open it, the issuer's no is excluded where it can be. The cost of a call is that of the guarded call less that of
the bare one, on one thread of uvloop; a refusal is counted with raising and catching what the library itself raises.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import click
import uvloop
from breaker_peers import FAILURES, PEERS, RESET_SECONDS, Fn, GatewayAway, IssuerDeclined, Peer
from rich.console import Console
from rich.table import Table

from cxguard.core.breaker import BreakerPolicy

CALLERS = 100
STRAGGLERS = 30
DECLINES, CANCELS = 50, 10


async def well() -> None:
    return


async def fail() -> None:
    raise GatewayAway


async def decline() -> None:
    raise IssuerDeclined


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen of one library. Times in microseconds a call: the median of the rounds, and their range."""

    name: str
    closed_us: float
    closed_range: tuple[float, float]
    open_us: float
    open_range: tuple[float, float]
    probes: int
    trips_at_80_percent: bool
    unmoved_by_declines: bool
    unmoved_by_cancels: bool
    recovers_after_dead_probe: bool
    opened_by_stragglers: int | None


async def attempt(peer: Peer, fn: Fn) -> str:
    try:
        await peer.guard(fn)()
    except (GatewayAway, IssuerDeclined):
        return "failed"
    except peer.refusals:
        return "refused"
    return "well"


async def tripped(make: type[Any], reset_seconds: float = 60.0) -> Peer:
    peer: Peer = make(reset_seconds)
    for _ in range(3 * FAILURES):
        await attempt(peer, fail)
    return peer


async def cost(peer: Peer, fn: Fn, *, calls: int, rounds: int) -> list[float]:
    """Microseconds a call, round by round, without those of the call itself."""
    seen, guarded, refusals = [], peer.guard(fn), peer.refusals
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            await fn()
        bare = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(calls):
            try:
                await guarded()
            except refusals:
                continue
        seen.append((time.perf_counter() - began - bare) / calls * 1e6)
    return seen


async def probes(make: type[Any]) -> int:
    """How many of a hundred callers at once get through when it may be tried again."""
    peer = await tripped(make, RESET_SECONDS)
    await asyncio.sleep(1.2 * RESET_SECONDS)
    inside, go_on = 0, asyncio.Event()

    async def slow() -> None:
        nonlocal inside
        inside += 1
        await go_on.wait()

    tasks = [asyncio.create_task(attempt(peer, slow)) for _ in range(CALLERS)]
    for _ in range(20):
        await asyncio.sleep(0)
    seen = inside
    go_on.set()
    await asyncio.gather(*tasks)
    return seen


async def trips_at_80_percent(make: type[Any]) -> bool:
    """Four of five calls fail, never five in a row."""
    peer: Peer = make(60.0)
    for n in range(100):
        await attempt(peer, well if n % 5 == 4 else fail)
    return peer.is_open()


async def unmoved_by_declines(make: type[Any]) -> bool:
    """A failure, many declines, three failures: neither opened by declines, nor talked out of counting by them."""
    peer: Peer = make(60.0)
    for _ in range(DECLINES):
        await attempt(peer, decline)
    if peer.is_open():
        return False
    for n in range(FAILURES):
        await attempt(peer, fail)
        if n == 1:
            await attempt(peer, decline)
    return peer.is_open()


async def unmoved_by_cancels(make: type[Any]) -> bool:
    """Shoppers who leave say nothing about the gateway."""
    peer: Peer = make(60.0)
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    for _ in range(CANCELS):
        task = asyncio.create_task(attempt(peer, hang))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return not peer.is_open()


async def recovers_after_dead_probe(make: type[Any]) -> bool:
    """Whoever probed is gone, and never says how it ended: does another one get its turn?"""
    peer = await tripped(make, RESET_SECONDS)
    await asyncio.sleep(1.2 * RESET_SECONDS)
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    held = [asyncio.create_task(attempt(peer, hang)) for _ in range(CALLERS)]
    await asyncio.sleep(3 * RESET_SECONDS)
    words = []
    for _ in range(4):
        words.append(await attempt(peer, well))
        await asyncio.sleep(0.01)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    return "well" in words


async def opened_by_stragglers(make: type[Any]) -> int | None:
    """Thirty calls that were under way fail one after the other."""
    peer: Peer = make(60.0)
    go_on = asyncio.Event()

    async def slow_failure() -> None:
        await go_on.wait()
        raise GatewayAway

    tasks = [asyncio.create_task(attempt(peer, slow_failure)) for _ in range(STRAGGLERS)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*tasks)
    return peer.opened()


async def figures_of(make: type[Any], *, calls: int, rounds: int) -> Figures:
    closed = await cost(make(60.0), well, calls=calls, rounds=rounds)
    opened = await cost(await tripped(make), well, calls=calls, rounds=rounds)
    return Figures(
        name=make.name,
        closed_us=round(statistics.median(closed), 2),
        closed_range=(round(min(closed), 2), round(max(closed), 2)),
        open_us=round(statistics.median(opened), 2),
        open_range=(round(min(opened), 2), round(max(opened), 2)),
        probes=await probes(make),
        trips_at_80_percent=await trips_at_80_percent(make),
        unmoved_by_declines=await unmoved_by_declines(make),
        unmoved_by_cancels=await unmoved_by_cancels(make),
        recovers_after_dead_probe=await recovers_after_dead_probe(make),
        opened_by_stragglers=await opened_by_stragglers(make),
    )


def table_of(all_figures: list[Figures]) -> Table:
    table = Table(title=f"breakers; goals: under 1 us both, exactly {BreakerPolicy().probes_max} probes, one opening, yes everywhere")
    for title in ("", "closed us", "open us", "probes", "80 %", "declines", "cancels", "dead probe", "stragglers"):
        table.add_column(title, justify="left" if not title else "right")
    for each in all_figures:
        words = ["yes" if value else "NO" for value in (
            each.trips_at_80_percent, each.unmoved_by_declines, each.unmoved_by_cancels, each.recovers_after_dead_probe,
        )]  # fmt: skip
        closed = f"{each.closed_us} ({each.closed_range[0]} to {each.closed_range[1]})"
        opened = f"{each.open_us} ({each.open_range[0]} to {each.open_range[1]})"
        told = "-" if each.opened_by_stragglers is None else str(each.opened_by_stragglers)
        table.add_row(each.name, closed, opened, str(each.probes), *words, told)
    return table


@click.command()
@click.option("--quick", is_flag=True, help="Fewer calls: a look, not a figure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(quick: bool, as_json: bool) -> None:
    """Breakers side by side: what a call costs, and what each does when it matters."""

    async def all_of_them() -> list[Figures]:
        calls, rounds = (200, 3) if quick else (20_000, 9)
        return [await figures_of(make, calls=calls, rounds=rounds) for make in PEERS]

    found = uvloop.run(all_of_them())
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
    else:
        Console().print(table_of(found))


if __name__ == "__main__":
    main()
