"""A gateway that is down while shoppers go on pressing the button: what became of their orders, and how the charges came back.

    python benchmarks/outage.py              50 shoppers a second, 10 s down; about a minute and a half
    python benchmarks/outage.py --mode time_out_before      it takes connections, and never answers
    python benchmarks/outage.py --json       the same, for programs

The guarded demo shop and the gateway run as processes of their own; the shoppers send plain submits to the shop's JSON
API, on time, however long the answers take. What became of each order is read from the gateway's ledger, the shop's
books and what the shoppers were told. Ends with 1 unless

    every order ended paid once, or cancelled and told, and nobody was told wrong,
    no submit waited longer than the rule's deadline,
    after the outage no second has more than 2x + 1 the charges of the one before, counted from the end of the outage.

Were seconds to begin anywhere, no gateway could see its calls come back by that rule: the second call follows the first
after a second at the earliest, and by the time that two calls come in one second, there was one with none a moment ago.
How steep it was wherever they begin is printed, too.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import json
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cxguard.clock import SystemClock
from cxguard.demo.crowd.closing import QUIET_SECONDS_MAX, Closing
from cxguard.demo.crowd.plans import Channel, Habit, Plan
from cxguard.demo.crowd.tills import App
from cxguard.demo.crowd.understanding import NO_ANSWER
from cxguard.demo.crowd.words import ON_ITS_WAY, Transcript
from cxguard.demo.gateway.faults import FaultMode
from cxguard.demo.judge import Case, End, Verdict, cases, count
from cxguard.demo.processes import Child
from cxguard.demo.run import gateway_process, judged, read_ledger, set_control, shop_process
from cxguard.demo.shop.books import all_orders
from cxguard.rules import Rule

DEADLINE_SECONDS: float = next(field.default for field in fields(Rule) if field.name == "deadline_seconds")  # type: ignore[assignment]
BEFORE_SECONDS, AFTER_SECONDS = 3.0, 5.0  # shoppers come before the outage, and go on coming after it
RUN_SECONDS_MAX = 180.0
AT_ONCE = 32  # shoppers who fill their basket, or look at their order, at the same time
LOOK_SECONDS = 1.0
SHIFTS = 20  # where the seconds may begin
CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Told:
    """What the run has shown.

    Attributes:
        charges: by second from the end of the outage.
        steepest: two seconds that follow each other, wherever they begin, of which the second grew most beyond twice the first.
        not_well: the stories of orders that ended otherwise than they should.
    """

    verdict: Verdict
    longest_wait_seconds: float
    first_charge_after_seconds: float
    charges: list[int]
    steepest: tuple[int, int]
    drained_after_seconds: float
    not_well: list[str]

    def failures(self) -> list[str]:
        found = [f"{name} is {count}, not 0" for name, count in self.verdict.to_json().items() if name in _ZERO and count] + self.not_well
        if self.longest_wait_seconds > DEADLINE_SECONDS:
            found.append(f"a submit waited {self.longest_wait_seconds:.2f} s, longer than the rule's {DEADLINE_SECONDS:g} s")
        steep = [pair for pair in itertools.pairwise([0, *self.charges]) if pair[1] > 2 * pair[0] + 1]
        return found + [f"{right} charges in the second after {left}" for left, right in steep]


_ZERO = ("charged_twice", "declined", "false_declines", "false_paid", "lost", "open")


class Shopper:
    """One order, sent once, and looked at until it has ended."""

    def __init__(self, number: int, shop_url: str, *, arrives_at: float) -> None:
        plan = Plan(number, arrives_at, Habit.CALM, Channel.API, f"tok_ok_s{number}", "pilea", 0.0, 0.0, 0.0, 0)
        self.transcript = Transcript(number, plan.source)
        self.arrives_at = arrives_at
        self.waited_seconds = 0.0
        self._till = App(shop_url, plan, self.transcript, clock=CLOCK)
        self._heard = NO_ANSWER

    async def enter(self) -> None:
        await self._till.fill_basket()

    async def pay(self, opened: float) -> None:
        await asyncio.sleep(max(0.0, opened + self.arrives_at - CLOCK.monotonic()))
        began = CLOCK.monotonic()
        self._heard = await self._till.pay()
        self.waited_seconds = CLOCK.monotonic() - began

    async def look(self, closing: Closing) -> None:
        """Until the order has ended, or nothing is heard any more."""
        while self._heard.word in ON_ITS_WAY and self._heard.follow_url and not closing.is_over:
            before = self._heard.word
            self._heard = await self._till.look(self._heard)
            if self._heard.word is not before:
                closing.news()
            elif self._heard.word in ON_ITS_WAY:
                await asyncio.sleep(LOOK_SECONDS)

    async def leave(self) -> None:
        await self._till.aclose()


async def run(folder: Path, *, rate: float, down_seconds: float, mode: str) -> Told:
    """The whole outage, on real processes."""
    async with gateway_process(folder) as gateway, shop_process(gateway, guarded=True, folder=folder) as shop:
        seconds = BEFORE_SECONDS + down_seconds + AFTER_SECONDS
        shoppers = [Shopper(number, shop.url, arrives_at=number / rate) for number in range(int(seconds * rate))]
        try:
            await _some_at_once([shopper.enter() for shopper in shoppers])
            await set_control(gateway, {"script": f"healthy {BEFORE_SECONDS}s, {mode} {down_seconds}s, healthy"})
            opened, opened_at = CLOCK.monotonic(), CLOCK.now()
            await asyncio.gather(*(shopper.pay(opened) for shopper in shoppers))
            await _drained(gateway, wanted=len(shoppers))
            closing = Closing(CLOCK, seconds_max=RUN_SECONDS_MAX)
            await _some_at_once([shopper.look(closing) for shopper in shoppers])
            transcripts = [shopper.transcript for shopper in shoppers]
            await judged(gateway, transcripts, orders=folder / "shop.db", quiet_seconds=QUIET_SECONDS_MAX)  # when nothing changes any more
            return await _told(gateway, shoppers, orders=folder / "shop.db", recovered_at=opened_at + BEFORE_SECONDS + down_seconds)
        finally:
            await asyncio.gather(*(shopper.leave() for shopper in shoppers))


async def _some_at_once(calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(call: Coroutine[Any, Any, None]) -> None:
        async with places:
            await call

    await asyncio.gather(*(one(call) for call in calls))


async def _drained(gateway: Child, *, wanted: int) -> None:
    """Wait, without disturbing the shop, until the ledger has a charge for each order, or gets no more of them."""
    closing = Closing(CLOCK, seconds_max=RUN_SECONDS_MAX)
    before = 0
    while not closing.is_over:
        charged = len((await read_ledger(gateway))["payments"])
        if charged >= wanted:
            return
        if charged > before:
            closing.news()
        before = charged
        await asyncio.sleep(LOOK_SECONDS)


async def _told(gateway: Child, shoppers: Sequence[Shopper], *, orders: Path, recovered_at: float) -> Told:
    ledger = await read_ledger(gateway)
    paid = {order.payment_id for order in all_orders(orders)}
    after = sorted(payment["created_at"] - recovered_at for payment in ledger["payments"] if payment["created_at"] >= recovered_at)
    found = cases(ledger, [shopper.transcript for shopper in shoppers], order_payments=paid)
    return Told(
        verdict=count(found),
        longest_wait_seconds=max(shopper.waited_seconds for shopper in shoppers),
        first_charge_after_seconds=after[0] if after else 0.0,
        charges=_by_second(after, begin=0.0),
        steepest=_steepest(after),
        drained_after_seconds=after[-1] if after else 0.0,
        not_well=[_story(shoppers[case.shopper].transcript, case) for case in found if case.end not in (End.PAID_ONCE, End.CANCELLED_TOLD)],
    )


def _story(transcript: Transcript, case: Case) -> str:
    """What an order's shopper heard that ended badly, for whoever wants to know why."""
    return f"{case.end}: {transcript.source}, " + "; ".join(f"{told.word} {told.text!r} {told.reference}" for told in transcript.told)


def _by_second(moments: Sequence[float], *, begin: float) -> list[int]:
    """How many of the sorted *moments* are in each second from *begin* on."""
    seconds = int((moments[-1] if moments else 0.0) - begin) + 1
    edges = [bisect.bisect_left(moments, begin + second) for second in range(seconds + 1)]
    return [right - left for left, right in itertools.pairwise(edges)]


def _steepest(moments: Sequence[float]) -> tuple[int, int]:
    """Two seconds that follow each other, of which the second grew most beyond twice the first."""
    pairs = [
        pair
        for shift in range(SHIFTS)
        for counts in [_by_second(moments, begin=shift / SHIFTS - 1.0)]
        for pair in itertools.pairwise(counts)
    ]
    return max(pairs, key=lambda pair: pair[1] - 2 * pair[0], default=(0, 0))


def show(told: Told, console: Console) -> None:
    verdict = told.verdict
    table = Table(title="what became of the orders")
    for name in verdict.to_json():
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*(str(count) for count in verdict.to_json().values()))
    console.print(table)
    console.print(f"longest wait for an answer: {told.longest_wait_seconds:.2f} s (the rule's deadline: {DEADLINE_SECONDS:g} s)")
    console.print(f"charges by second after the outage: {' '.join(map(str, told.charges))}")
    console.print(
        f"first after {told.first_charge_after_seconds:.1f} s, last after {told.drained_after_seconds:.1f} s; "
        f"steepest: {told.steepest[1]} in the second after {told.steepest[0]}, wherever seconds begin"
    )


@click.command()
@click.option("--rate", default=50.0, show_default=True, help="Shoppers a second.")
@click.option("--down-seconds", default=10.0, show_default=True, help="How long the gateway is down.")
@click.option(
    "--mode",
    type=click.Choice([str(mode) for mode in FaultMode]),
    default=str(FaultMode.REFUSE),
    show_default=True,
    help="What down means.",
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A folder for databases and logs, kept afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rate: float, down_seconds: float, mode: str, keep: Path | None, as_json: bool) -> None:
    """A gateway that is down while shoppers go on pressing the button."""
    with TemporaryDirectory() as made:
        folder = keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        told = asyncio.run(run(folder, rate=rate, down_seconds=down_seconds, mode=mode))
    if as_json:
        print(json.dumps(asdict(told), indent=2))
    else:
        show(told, Console(width=120))
    for failure in told.failures():
        print(failure, file=sys.stderr)
    sys.exit(1 if told.failures() else 0)


if __name__ == "__main__":
    main()
