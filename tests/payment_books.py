"""The gateway of the seeded runs, its books, and programs that can die: independent of the product."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Refunded, Unknown
from cxguard.gateways.base import Charge, ListedPayment
from cxguard.stores.memory import MemoryStore

AMOUNT = 5000
OFTEN = 0.4
FATES = ("lost", "unheard", "late", "refused", "throttled", "raises")
HAPPENED: Counter[str] = Counter()  # a fault that never struck proves nothing


@dataclass
class Line:
    """One payment in the gateway's books."""

    id: str
    key: str
    card: str
    order: str
    captured: int
    refunded: int = 0
    declined: bool = False

    @property
    def stands(self) -> bool:
        return not self.declined and self.refunded < AMOUNT


@dataclass
class Books:
    """The gateway: takes requests in, loses answers, lands them late. `keyed`: a key charges once."""

    dice: random.Random
    name: str
    keyed: bool
    calm: bool = False
    lines: list[Line] = field(default_factory=list)
    moved: dict[str, tuple[str, int, Line]] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)  # keys of refunds that the bank sent back
    late: list[tuple[str, Charge]] = field(default_factory=list)

    def of(self, key: str) -> Line | None:
        mine = [line for line in self.lines if line.key == key]
        return next((line for line in mine if line.stands), mine[0] if mine else None)

    def enter(self, key: str, charge: Charge) -> Line:
        known = self.of(key) if self.keyed else None
        if known is not None:
            return known
        name, captured = f"pay_{self.name}_{len(self.lines) + 1}", AMOUNT if charge.capture else 0
        line = Line(name, key, charge.source, charge.order_id, captured, declined="bad" in charge.source)
        self.lines.append(line)
        return line

    def land(self) -> None:
        if self.late:
            self.enter(*self.late.pop(self.dice.randrange(len(self.late))))
            HAPPENED["landed late"] += 1

    def give_back_fails(self) -> str | None:
        """The bank returns a refund. Its key, or None: there is none to return."""
        paid = [key for key, (kind, _, line) in self.moved.items() if kind == "refund" and line.captured and key not in self.returned]
        if not paid:
            return None
        key = self.dice.choice(paid)
        _, amount_minor, line = self.moved[key]
        line.refunded -= amount_minor
        self.returned.add(key)
        HAPPENED["returned"] += 1
        return key

    def fate(self) -> str:
        if self.calm or self.dice.random() > OFTEN:
            return "well"
        fate = self.dice.choice(FATES)
        HAPPENED[fate] += 1
        return fate


class Adapter:
    """How one process speaks to the gateway."""

    key_lifetime_seconds = 86_400.0
    settle_seconds = 600.0

    def __init__(self, books: Books, process: Process) -> None:
        self.name = books.name
        self.keyed = books.keyed
        self._books = books
        self._process = process

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        await self._process.alive()
        books, fate = self._books, self._books.fate()
        if fate == "refused":
            return NotCharged("not sent", retryable=True, reroutable=True)
        if fate == "throttled":
            return NotCharged("throttled", retryable=True, retry_after_seconds=1.0, reroutable=True)
        if fate == "late":
            books.late.append((key, charge))
        if fate in ("lost", "late"):
            return Unknown("no answer in time")
        line = books.enter(key, charge)
        await self._process.alive()
        if fate == "raises":
            raise RuntimeError("a bug in an adapter")
        return Unknown("no answer in time") if fate == "unheard" else told(line)

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        await self._process.alive()
        if self._books.fate() != "well":
            return Unknown("could not ask")
        if key in self._books.moved:
            return self._moved(key)
        line = self._books.of(key)
        return Unknown("not_found") if line is None else told(line)

    def _moved(self, key: str) -> Outcome:
        kind, amount_minor, _ = self._books.moved[key]
        if key in self._books.returned:
            return NotCharged("refund failed")
        return Charged(amount_minor, "EUR") if kind == "capture" else Refunded(amount_minor, "EUR")

    async def list_payments(self, *, since: float, until: float) -> AsyncIterator[ListedPayment]:
        await self._process.alive()
        for line in tuple(self._books.lines):
            yield ListedPayment(line.id, line.key, "", told(line), line.refunded, since)

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        return await self.find(key, timeout_seconds=timeout_seconds)

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        return await self._move("capture", payment_id, key, amount_minor)

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        return await self._move("refund", payment_id, key, amount_minor)

    async def _move(self, kind: str, payment_id: str, key: str, amount_minor: int) -> Outcome:
        await self._process.alive()
        books, fate = self._books, self._books.fate()
        if fate in ("refused", "throttled"):
            return NotCharged("not sent", retryable=True)
        if fate in ("lost", "late"):
            return Unknown("no answer in time")
        line = next(each for each in books.lines if each.id == payment_id)
        if not (books.keyed and key in books.moved):
            released = not line.captured and line.refunded  # nothing is left to be taken
            room = AMOUNT - line.captured if kind == "capture" else (line.captured or AMOUNT) - line.refunded
            room = 0 if kind == "capture" and released else room
            if amount_minor > room:
                return NotCharged("not available")
            if kind == "capture":
                line.captured += amount_minor
            else:
                line.refunded += amount_minor
            books.moved[key] = (kind, amount_minor, line)
        if fate in ("unheard", "raises"):
            return Unknown("no answer in time")
        return Charged(amount_minor, "EUR", payment_id) if kind == "capture" else Refunded(amount_minor, "EUR")


def told(line: Line) -> Outcome:
    if line.declined:
        return Declined()
    if not line.stands:
        return Refunded(line.refunded, "EUR")
    return Charged(AMOUNT, "EUR", payment_id=line.id, captured=line.captured == AMOUNT)


class Process:
    """One program with its guard. Killed, it does nothing any more: what it awaits never comes."""

    def __init__(self) -> None:
        self.dead = False

    async def alive(self) -> None:
        await asyncio.sleep(0)
        if self.dead:
            await asyncio.get_running_loop().create_future()


class ProcessStore:
    """The shared store as one process sees it: a dead one writes nothing more."""

    def __init__(self, store: MemoryStore, process: Process) -> None:
        self._store = store
        self._process = process

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(there) or name in ("start", "stop"):
            return there

        async def verb(*args: Any, **named: Any) -> Any:
            await self._process.alive()
            result = await there(*args, **named)
            await self._process.alive()
            return result

        return verb
