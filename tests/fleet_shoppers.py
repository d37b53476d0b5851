"""The shoppers of a fleet: each wants one order, and sends it to whichever processes a balancer would.

A habit says how often and where an order is sent. Whoever hears that it is in hand follows it; whoever hears nothing, or
that nobody can say, presses the same button again at the next process.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from fleet_shop import AMOUNT_MINOR
from plain_http import Answer, NoAnswer, PlainClient

from cxguard.demo.crowd.understanding import NO_ANSWER, Heard, understand_json
from cxguard.demo.crowd.words import ON_ITS_WAY, Told, Transcript, Word

ANSWER_SECONDS_MAX = 20.0
PATIENCE_SECONDS = 0.25  # of those who press again before the answer is there
AGAIN_SECONDS = 0.8  # until the same button is pressed again after an answer that says nothing
PRESSES_MAX = 40  # of one shopper; a fleet that needs more has not come back
PINGS_A_SECOND = 4.0
PING_SECONDS_MAX = 2.0  # a page without money that takes longer has met the fault


class Habit(StrEnum):
    """How a shopper presses the button."""

    ONCE = "once"
    TWICE_AT_ONCE = "twice_at_once"  # the same key, at two processes at the same moment
    THRICE_AT_ONCE = "thrice_at_once"
    IMPATIENT = "impatient"  # drops the first request after PATIENCE_SECONDS, and sends it to another process
    AFTERWARDS = "afterwards"  # once more at another process, when the answer is there
    TWO_TABS = "two_tabs"  # the same order under two keys


_HABITS = {
    Habit.ONCE: 40,
    Habit.TWICE_AT_ONCE: 20,
    Habit.THRICE_AT_ONCE: 8,
    Habit.IMPATIENT: 12,
    Habit.AFTERWARDS: 12,
    Habit.TWO_TABS: 8,
}
DECLINED_EVERY = 50  # one card in so many


@dataclass(frozen=True, slots=True)
class Wish:
    """One order that somebody wants. *first* is the process that hears of it first; *source* her own card."""

    number: int
    arrives_at: float
    habit: Habit
    first: int
    source: str


def wishes(orders: int, *, rate: float, seed: int) -> list[Wish]:
    """*orders* of them, *rate* a second; the same for the same seed."""
    rng = random.Random(seed)
    habits = rng.choices(list(_HABITS), weights=list(_HABITS.values()), k=orders)
    return [
        Wish(
            number=number,
            arrives_at=number / rate,
            habit=habits[number],
            first=rng.randrange(1_000),
            source=f"tok_{'declined' if number % DECLINED_EVERY == DECLINED_EVERY - 1 else 'ok'}_s{number}",
        )
        for number in range(orders)
    ]


@dataclass(slots=True)
class Street:
    """Where the shoppers are: a client for each process of the shop, and what came of it all.

    Attributes:
        replays: how many answers under one key were equal to the one before, byte for byte.
        left: how often a client has gone away in the middle of a request or of its answer.
        differing: of which order two "paid" answers under one key were different.
    """

    clients: Sequence[PlainClient]
    submits: int = 0
    left: int = 0
    waits: list[float] = field(default_factory=list)
    replays: int = 0
    differing: list[int] = field(default_factory=list)
    pings: int = 0
    pings_failed: list[str] = field(default_factory=list)

    def client(self, number: int) -> PlainClient:
        return self.clients[number % len(self.clients)]


def street(urls: Sequence[str]) -> Street:
    return Street([PlainClient(url, seconds_max=ANSWER_SECONDS_MAX) for url in urls])


class Shopper:
    """One wish, and everything that its shopper was told."""

    def __init__(self, wish: Wish, where: Street) -> None:
        self.wish = wish
        self.transcript = Transcript(wish.number, wish.source)
        self.street = where
        self._heard: Heard = NO_ANSWER
        self._paid: dict[str, bytes] = {}
        self._process = wish.first
        self.order = json.dumps({"order": f"o{wish.number}", "amount": AMOUNT_MINOR, "source": wish.source}).encode()

    @property
    def word(self) -> Word:
        return self._heard.word

    async def pay(self, opened: float) -> None:
        """Press the button as the habit has it. *opened*: `time.monotonic()` when the shop opened."""
        await self.arrived(opened)
        match self.wish.habit:
            case Habit.ONCE:
                await self.press()
            case Habit.TWICE_AT_ONCE:
                await asyncio.gather(self.press(), self.press())
            case Habit.THRICE_AT_ONCE:
                await asyncio.gather(self.press(), self.press(), self.press())
            case Habit.TWO_TABS:
                await asyncio.gather(self.press(), self.press(tab="b"))
            case Habit.AFTERWARDS:
                await self.press()
                await self.press()
            case Habit.IMPATIENT:
                await self._press_and_drop()
                await self.press()

    async def arrived(self, opened: float) -> None:
        """When she comes to the shop."""
        await asyncio.sleep(max(0.0, opened + self.wish.arrives_at - time.monotonic()))

    async def look(self) -> None:
        """Once: at the order's page, or by pressing again where none was named. The last word counts."""
        if not self._heard.follow_url:
            await self.press()
            return
        path = urlsplit(self._heard.follow_url).path
        heard = await self._ask("GET", path)
        if heard.word is not Word.NOTHING:
            self._heard = heard

    @property
    def waits(self) -> bool:
        """Whether there is more to hear: in hand, or nothing that she could act on."""
        return self.word in ON_ITS_WAY or self.word in (Word.NOTHING, Word.NOT_CHARGED)

    async def press(self, *, tab: str = "a") -> None:
        key = f"key-{self.wish.number}-{tab}"
        self.street.submits += 1
        heard = await self._ask("POST", "/pay", headers=self.headers(tab), key=key)
        if heard.word is not Word.NOTHING or self._heard is NO_ANSWER:
            self._heard = heard

    def headers(self, tab: str) -> dict[str, str]:
        """Of a press from one tab."""
        return {"Idempotency-Key": f"key-{self.wish.number}-{tab}", "x-shopper": f"shopper {self.wish.number}", "Prefer": "respond-async"}

    def client(self) -> PlainClient:
        """At the process that is next."""
        self._process += 1
        return self.street.client(self._process - 1)

    async def _press_and_drop(self) -> None:
        task = asyncio.create_task(self.press())
        await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        self.street.left += not task.done()
        task.cancel()
        await asyncio.wait({task})

    async def _ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, key: str = "") -> Heard:
        """Ask the next process, and write down what it said."""
        client = self.client()
        asked_at, began = time.time(), time.monotonic()
        try:
            answer = await client.ask(method, path, headers=headers, body=self.order if method == "POST" else b"")
        except NoAnswer as error:
            heard = Heard(Word.NOTHING, str(error))
        else:
            heard = understand_json(answer.status, answer.content, url=client.url)
            self._compare(key, answer)
        if method == "POST":
            self.street.waits.append(time.monotonic() - began)
        self.transcript.told.append(Told(asked_at, time.time(), heard.word, heard.text, heard.reference))
        return heard

    def _compare(self, key: str, answer: Answer) -> None:
        """The shop's own answer under one key is the same at every process, or it is no replay."""
        if not key or answer.status != 201:
            return
        before = self._paid.setdefault(key, answer.content)
        if before is answer.content:
            return
        self.street.replays += 1
        if before != answer.content:
            self.street.differing.append(self.wish.number)


async def ping_for_ever(where: Street) -> None:
    """Look at a page without money, at each process in turn; what did not answer in time is written down."""
    number = 0
    while True:
        number += 1
        where.pings += 1
        try:
            async with asyncio.timeout(PING_SECONDS_MAX):
                if (await where.client(number).ask("GET", "/ping")).status != 200:
                    where.pings_failed.append("status")
        except (NoAnswer, TimeoutError) as error:
            where.pings_failed.append(type(error).__name__)
        await asyncio.sleep(1 / PINGS_A_SECOND)
