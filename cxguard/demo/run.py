"""The same crowd through the same outage, twice: in a shop without the guard, and in one with it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cxguard.clock import SystemClock
from cxguard.demo.crowd.closing import QUIET_SECONDS_MAX, Closing
from cxguard.demo.crowd.crowd import run_crowd
from cxguard.demo.crowd.plans import Plan, plan_crowd
from cxguard.demo.crowd.words import Transcript
from cxguard.demo.judge import Verdict, judge
from cxguard.demo.processes import Child, running
from cxguard.demo.shop.books import all_orders
from cxguard.demo.shop.placing import NAIVE_TIMEOUT_SECONDS

OUTAGE = "healthy 2.5s, time_out_after 2.5s, refuse 2s, 500 0.5s, healthy"
CLOSING_SECONDS_MAX = 120.0  # on a machine that does much else; alone, all have left after 25
JUDGE_SECONDS_MAX = 60.0  # for orders of shoppers who have gone; the judge comes when nothing changes any more
_UNGUARDED_QUIET_SECONDS = NAIVE_TIMEOUT_SECONDS + 0.5  # the last request is over by then, and nobody works on without one
_JUDGE_LOOK_SECONDS = 0.5
BAD_ENDS_MIN = 10  # an outage that did the unguarded shop no harm proves nothing
PAID_SHARE_MIN = 0.8


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    guarded: bool
    left: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the demo answers while it stays open. The desk is part of the guarded shop; the unguarded one has none."""

    shop: str
    gateway_control: str
    desk: str = ""
    desk_name: str = ""
    desk_password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Both verdicts."""

    unguarded: Verdict
    guarded: Verdict

    def to_json(self) -> dict[str, dict[str, int]]:
        """What `cxguard demo --json` prints."""
        return {"unguarded": self.unguarded.to_json(), "guarded": self.guarded.to_json()}

    def failures(self) -> list[str]:
        """What does not hold; empty when the demo shows what it promises."""
        return [*guarded_failures(self.guarded), *unguarded_failures(self.unguarded)]


def guarded_failures(verdict: Verdict) -> list[str]:
    """With the guard nobody is charged twice, told wrong, lost or left open, and most get what they came for."""
    zero = ("charged_twice", "false_declines", "false_paid", "lost", "open")
    wrong = [f"guarded: {name} is {getattr(verdict, name)}, not 0" for name in zero if getattr(verdict, name)]
    if verdict.paid_once < PAID_SHARE_MIN * verdict.wanted:
        wrong.append(f"guarded: paid_once is {verdict.paid_once} of {verdict.wanted}, less than {PAID_SHARE_MIN:.0%}")
    return wrong


def unguarded_failures(verdict: Verdict) -> list[str]:
    """Without it the outage must have hurt, or the comparison says nothing."""
    bad = verdict.charged_twice + verdict.false_declines + verdict.lost
    return [] if bad >= BAD_ENDS_MIN else [f"unguarded: charged_twice + false_declines + lost is {bad}, less than {BAD_ENDS_MIN}"]


Linger = Callable[[DemoResult, Addresses], Awaitable[None]]


async def run_demo(
    *,
    shoppers: int = 300,
    seed: int = 7,
    progress: Callable[[Progress], None] = lambda step: None,
    linger: Linger | None = None,
    folder: Path | None = None,
) -> DemoResult:
    """Run both shops and judge them. Every process has ended when this returns or is cancelled.

    Args:
        progress: told whenever a shopper leaves.
        linger: awaited at the end, while the guarded shop and the gateway still run; gets the result and the addresses.
        folder: where databases and logs are kept; by default in a folder that goes away.
    """
    plans = plan_crowd(shoppers, seed=seed)
    with tempfile.TemporaryDirectory(prefix="cxguard-demo-") as made:
        place = folder or Path(made)
        async with run_side(plans, guarded=False, folder=place / "unguarded", progress=progress) as (unguarded, _):
            pass
        async with run_side(plans, guarded=True, folder=place / "guarded", progress=progress) as (guarded, addresses):
            result = DemoResult(unguarded, guarded)
            if linger is not None:
                await linger(result, addresses)
    return result


@asynccontextmanager
async def run_side(
    plans: Sequence[Plan], *, guarded: bool, folder: Path, progress: Callable[[Progress], None] = lambda step: None
) -> AsyncIterator[tuple[Verdict, Addresses]]:
    """One shop with a gateway of its own through the outage; both still run in the block."""
    _make(folder)
    async with gateway_process(folder) as gateway, shop_process(gateway, guarded=guarded, folder=folder) as shop:
        await set_control(gateway, {"script": OUTAGE})

        def left(count: int) -> None:
            progress(Progress(guarded, count, len(plans)))

        transcripts = await run_crowd(plans, shop.url, seconds=CLOSING_SECONDS_MAX, left=left)
        quiet_seconds = QUIET_SECONDS_MAX if guarded else _UNGUARDED_QUIET_SECONDS
        verdict = await judged(gateway, transcripts, orders=folder / "shop.db", quiet_seconds=quiet_seconds)
        desk = {name: shop.facts.get(name, "") for name in ("desk", "desk_name", "desk_password")}
        yield verdict, Addresses(shop=shop.url, gateway_control=gateway.facts["control_url"], **desk)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


@asynccontextmanager
async def gateway_process(folder: Path) -> AsyncIterator[Child]:
    """A payment gateway with its ledger and log in *folder*, while the block runs."""
    arguments = ["--ledger", str(folder / "gateway.db"), "--with-parent"]
    async with running("cxguard.demo.gateway", arguments, log=folder / "gateway.log") as child:
        yield child


@asynccontextmanager
async def shop_process(gateway: Child, *, guarded: bool, folder: Path) -> AsyncIterator[Child]:
    """Fern & Co at *gateway*, with its databases and log in *folder*, while the block runs."""
    which = "--guarded" if guarded else "--unguarded"
    arguments = ["--gateway", gateway.url, "--database", str(folder / "shop.db"), which, "--with-parent"]
    async with running("cxguard.demo.shop", arguments, log=folder / "shop.log") as child:
        yield child


async def judged(gateway: Child, transcripts: Sequence[Transcript], *, orders: Path, quiet_seconds: float) -> Verdict:
    """The verdict as soon as nothing is lost or open, or when it has not changed for *quiet_seconds*."""
    closing = Closing(SystemClock(), seconds_max=JUDGE_SECONDS_MAX, quiet_seconds=quiet_seconds)
    last: Verdict | None = None
    while True:
        paid = {order.payment_id for order in all_orders(orders)}
        verdict = judge(await read_ledger(gateway), transcripts, order_payments=paid)
        if verdict != last:
            closing.news()
        if not (verdict.lost or verdict.open) or closing.is_over:
            return verdict
        last = verdict
        await asyncio.sleep(_JUDGE_LOOK_SECONDS)


async def set_control(gateway: Child, members: dict[str, Any]) -> None:
    """Set the gateway's faults."""
    async with httpx.AsyncClient(trust_env=False) as client:
        (await client.put(f"{gateway.facts['control_url']}/control", json=members)).raise_for_status()


async def read_ledger(gateway: Child) -> dict[str, list[dict[str, Any]]]:
    """Everything in the gateway's own books."""
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        answer = await client.get(f"{gateway.facts['control_url']}/ledger")
        answer.raise_for_status()
        return dict(answer.json())
