"""A fleet: processes of the shop and workers on one store, a gateway with its own ledger, and shoppers. Judged by the ledger.

    async with fleet_running(folder, store_url=url, apps=4, workers=2) as fleet:
        told = await fleet.through(wishes(1_000, rate=100, seed=7), script="healthy 2s, refuse 10s, healthy")
    assert not told.failures()

`during` is what happens to the store meanwhile. Everything ends by itself: shoppers when their order has ended, or when
nobody has heard anything new for QUIET_SECONDS, or after `seconds_max`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet_places import Place, placed
from fleet_shop import read_orders
from fleet_shoppers import AGAIN_SECONDS, PRESSES_MAX, Shopper, Street, Wish, ping_for_ever, street

from cxguard.clock import SystemClock
from cxguard.core.operation import State
from cxguard.core.session import Stage
from cxguard.demo.crowd.closing import Closing
from cxguard.demo.crowd.words import Word
from cxguard.demo.judge import Case, End, Verdict, cases, count
from cxguard.demo.processes import Child
from cxguard.demo.run import gateway_process, read_ledger, set_control
from cxguard.engine.report import build_report
from cxguard.errors import StoreError
from cxguard.stores.address import open_store
from cxguard.stores.base import Store

TESTS = Path(__file__).parent
QUIET_SECONDS = 45.0  # the longest pause between two looks at what is unknown, after a short outage
LOOK_SECONDS = 0.5
LOOKING_AT_ONCE = 32
RECORDED_LOOKS = 70  # visits are written twice a second, and after failures of the store half a minute later at most
DEADLINE_SECONDS = 10.0  # the rule's own
_ENDED = frozenset({State.FINISHED, State.CANCELLED})
_ERRORS = frozenset({Word.DECLINED, Word.NOT_CHARGED, Word.KEPT})

Say = Callable[[str], None]
During = Callable[[], Awaitable[None]]
Reach = Callable[[str], AbstractAsyncContextManager[str]]


@dataclass(frozen=True, slots=True)
class Told:
    """What a run has shown. `verdict` counts shoppers, from the ledger, the shop's books and what each was told.

    Attributes:
        stuck: records that have no end, by state; nobody is told of some of them.
        replays, differing: answers under one key that had been given before, and those that were not the same.
        keys_twice: gateway keys under which more than one payment stands.
        pings_failed: of a page without money, while all this went on.
        unseen: shoppers who were shown an error, less the visits that have one on record.
        stories: of orders that ended otherwise than they should.
    """

    verdict: Verdict
    submits: int
    replays: int
    differing: int
    stuck: Mapping[str, int]
    keys_twice: int
    pings: int
    pings_failed: int
    unseen: int
    longest_wait_seconds: float
    p50_seconds: float
    p99_seconds: float
    load_seconds: float
    all_seconds: float
    stories: Sequence[str] = field(default_factory=tuple)

    def wrong(self) -> dict[str, int]:
        """What has to be nought, each by the promise's name."""
        verdict = self.verdict
        return {
            "charged twice": verdict.charged_twice + self.keys_twice,
            "false words": verdict.false_declines + verdict.false_paid + self.differing,
            "lost": verdict.lost,
            "stuck": verdict.open + sum(self.stuck.values()),
        }

    def failures(self) -> list[str]:
        found = [f"{name}: {number}, not 0" for name, number in self.wrong().items() if number]
        if self.pings_failed:
            found.append(f"{self.pings_failed} of {self.pings} looks at a page without money failed")
        return found + (list(self.stories) if found else [])


@dataclass(slots=True)
class Fleet:
    """The running processes.

    Attributes:
        judge_url: where the judge finds the store; the fleet's own way may lead through a fault.
        street: the shoppers' side of it, while and after they shop.
    """

    gateway: Child
    apps: Sequence[Place]
    workers: Sequence[Place]
    judge_url: str
    orders: Path
    environment: Mapping[str, str]
    say: Say
    street: Street | None = None

    async def through(
        self,
        wanted: Sequence[Wish],
        *,
        script: str = "healthy",
        during: During | None = None,
        seconds_max: float = 180.0,
        quiet_seconds: float = QUIET_SECONDS,
        shopper: type[Shopper] = Shopper,
        waits: int = 0,
    ) -> Told:
        """Let everybody shop while the gateway plays *script* and *during* runs beside it; then judge.

        Args:
            waits: so many orders may stay without an end: once no more do, the shoppers are asked what they hear.
        """
        where = self.street = street([app.url for app in self.apps])
        shoppers = [shopper(wish, where) for wish in wanted]
        await set_control(self.gateway, {"script": script})
        began = time.monotonic()
        pinging = asyncio.create_task(ping_for_ever(where))
        try:
            await self._load(shoppers, during, began=began)
            load_seconds = time.monotonic() - began
            closing = Closing(SystemClock(), seconds_max=max(10.0, seconds_max - load_seconds), quiet_seconds=quiet_seconds)
            await self._drained(closing, waits)
            await self._followed(shoppers, closing)
            await self._settled(shoppers, closing)
            return await self._told(shoppers, where, load_seconds=load_seconds, began=began)
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
            for client in where.clients:
                client.close()

    async def _load(self, shoppers: Sequence[Shopper], during: During | None, *, began: float) -> None:
        paying = [asyncio.ensure_future(shopper.pay(began)) for shopper in shoppers]
        meanwhile = [asyncio.ensure_future(during())] if during is not None else []
        everything: list[asyncio.Future[None]] = [*paying, *meanwhile]
        try:
            left: set[asyncio.Future[None]] = set(everything)
            while left:
                _, left = await asyncio.wait(left, timeout=5.0)
                self.say(f"{len(paying) - sum(not each.done() for each in paying)} of {len(paying)} have pressed")
            await asyncio.gather(*everything)
        finally:
            for each in everything:
                each.cancel()

    async def _drained(self, closing: Closing, waits: int) -> None:
        """Until every record has an end: without disturbing shop or gateway, which have enough to do."""
        before: Mapping[str, int] = {}
        while not closing.is_over:
            waiting = await self.not_ended()
            self.say(f"without an end: {', '.join(f'{number} {state}' for state, number in waiting.items()) or 'none'}")
            if sum(waiting.values()) <= waits:
                return
            if waiting != before:
                closing.news()
            before = waiting
            await asyncio.sleep(LOOK_SECONDS * 2)

    async def _followed(self, shoppers: Sequence[Shopper], closing: Closing) -> None:
        places = asyncio.Semaphore(LOOKING_AT_ONCE)

        async def follow(shopper: Shopper) -> None:
            for _ in range(PRESSES_MAX):
                if not shopper.waits or closing.is_over:
                    return
                before = shopper.word
                async with places:
                    await shopper.look()
                if shopper.word is not before:
                    closing.news()
                if shopper.waits:
                    await asyncio.sleep(AGAIN_SECONDS)

        await asyncio.gather(*(follow(shopper) for shopper in shoppers))

    async def _settled(self, shoppers: Sequence[Shopper], closing: Closing) -> None:
        """Until neither the judge nor the store has anything open, or nothing changes any more."""
        while not closing.is_over:
            verdict = count(await self._cases(shoppers))
            if not (verdict.open or verdict.lost or await self.not_ended()):
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _unseen(self, shown: int) -> int:
        """How many of those who were shown an error no report tells of, when the last facts are written."""
        for _ in range(RECORDED_LOOKS):
            if (unseen := shown - await self._on_record()) <= 0:
                return 0
            await asyncio.sleep(LOOK_SECONDS)
        return unseen

    async def _on_record(self) -> int:
        """Visits that met an error, as a report tells them."""
        try:
            async with self._store() as store:
                report = await build_report(store, namespace="shop")
        except StoreError:
            return 0
        return sum(line.reached.sessions - line.unexposed.sessions for line in report.stages if line.stage is Stage.PAY)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[Store]:
        store = open_store(self.judge_url, clock=SystemClock())
        try:
            await store.start()
            yield store
        finally:
            await store.stop()

    async def not_ended(self) -> dict[str, int]:
        """Records without an end, by state, counted by the store itself; "store away" when it does not say."""
        try:
            async with self._store() as store:
                tally = await store.tally("shop")
        except StoreError:
            return {"store away": 1}
        found: Counter[str] = Counter()
        for (state, _), number in tally.operations.items():
            if State(state) not in _ENDED:
                found[state] += number
        return {state: number for state, number in found.items() if number}

    async def _cases(self, shoppers: Sequence[Shopper]) -> list[Case]:
        transcripts = [shopper.transcript for shopper in shoppers]
        return list(cases(await read_ledger(self.gateway), transcripts, order_payments=read_orders(self.orders)))

    async def _told(self, shoppers: Sequence[Shopper], where: Street, *, load_seconds: float, began: float) -> Told:
        found = await self._cases(shoppers)
        waits = sorted(where.waits)
        return Told(
            verdict=count(found),
            submits=where.submits,
            replays=where.replays,
            differing=len(where.differing),
            stuck=await self.not_ended(),
            keys_twice=_keys_twice((await read_ledger(self.gateway))["payments"]),
            pings=where.pings,
            pings_failed=len(where.pings_failed),
            unseen=await self._unseen(sum(map(_met_an_error, shoppers))),
            longest_wait_seconds=waits[-1],
            p50_seconds=waits[len(waits) // 2],
            p99_seconds=waits[int(len(waits) * 0.99)],
            load_seconds=load_seconds,
            all_seconds=time.monotonic() - began,
            stories=tuple(_story(shoppers[case.shopper], case) for case in found if _is_wrong(case)),
        )


def _met_an_error(shopper: Shopper) -> bool:
    return any(told.word in _ERRORS for told in shopper.transcript.told)


def _keys_twice(payments: Sequence[Mapping[str, Any]]) -> int:
    keys = Counter(payment["key"] for payment in payments if payment["status"] in ("succeeded", "authorised"))
    return sum(number > 1 for number in keys.values())


def _is_wrong(case: Case) -> bool:
    return case.end not in (End.PAID_ONCE, End.DECLINED, End.CANCELLED_TOLD) or case.false_decline or case.false_paid


def _story(shopper: Shopper, case: Case) -> str:
    """What an order's shopper heard that ended badly, for whoever wants to know why."""
    heard = "; ".join(f"{told.word} {told.text!r} {told.reference}" for told in shopper.transcript.told)
    lies = " false decline" * case.false_decline + " false paid" * case.false_paid
    return f"{case.end}{lies}: {shopper.wish.habit} {shopper.wish.source}, {heard}"


@asynccontextmanager
async def fleet_running(
    folder: Path,
    *,
    store_url: str,
    apps: int,
    workers: int,
    lease_seconds: float = 10.0,
    settings: Mapping[str, str] | None = None,
    reach: Reach = nullcontext,
    say: Say = lambda line: None,
) -> AsyncIterator[Fleet]:
    """The whole fleet while the block runs; logs, ledger and the shop's books are in *folder*.

    Args:
        settings: more of what `fleet_shop` reads from its environment.
        reach: what lies between the fleet and its gateway: from the gateway's address to the one that the fleet is told.
    """
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_process(folder))
        environment = {
            "FLEET_STORE": store_url,
            "FLEET_GATEWAY": await stack.enter_async_context(reach(gateway.url)),
            "FLEET_ORDERS": str(folder / "orders"),
            "FLEET_LEASE_SECONDS": str(lease_seconds),
            "CXGUARD_SECRET": secrets.token_hex(32),
            "CXGUARD_KEYS": secrets.token_hex(32),
            "PYTHONPATH": str(TESTS),
            **(settings or {}),
        }
        shops = [placed("fleet_shop", ["--with-parent"], log=folder / f"app{n}.log", environment=environment) for n in range(apps)]
        first = await stack.enter_async_context(shops[0])  # alone: it makes the schema
        others = await asyncio.gather(*(stack.enter_async_context(each) for each in shops[1:]))
        work = ["worker", "fleet_shop:app", "--json", "--log-level", "WARNING"]
        workshop = [placed("cxguard.cli", work, log=folder / f"worker{n}.log", environment=environment) for n in range(workers)]
        helping = await asyncio.gather(*(stack.enter_async_context(each) for each in workshop))
        say(f"{apps} processes of the shop and {workers} workers on {store_url.partition('://')[0]}")
        yield Fleet(gateway, [first, *others], helping, store_url, folder / "orders", environment, say)
