"""What runs beside the requests: a round that fails is told and outlived, and a stop ends what hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP, rule
from tillworld import till

from cxguard.core.hints import due_topic, news_topic
from cxguard.core.operation import Operation
from cxguard.engine import duties, left_behind
from cxguard.engine.duties import UPKEEP_SECONDS, Duties
from cxguard.engine.left_behind import may_be_tried
from cxguard.events import Event
from cxguard.guard import Guard
from cxguard.stores.base import EVERYTHING
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock

pytestmark = pytest.mark.asyncio


class Pruned(MemoryStore):
    """A store whose rounds of forgetting do what a test says, one after the other; after that there is nothing to forget."""

    def __init__(self, *rounds: Any) -> None:
        super().__init__(clock=ManualClock())
        self.rounds = list(rounds)
        self.begun = asyncio.Event()

    async def prune(self, **options: Any) -> int:
        self.begun.set()
        does = self.rounds.pop(0) if self.rounds else 0
        if isinstance(does, Exception):
            raise does
        if does is None:
            await asyncio.Event().wait()
        return int(does or 0)


class Looked(MemoryStore):
    """A store that counts the looks at its queue."""

    def __init__(self) -> None:
        super().__init__(clock=ManualClock())
        self.looks = 0
        self.looked = asyncio.Event()

    async def take(self, **options: Any) -> tuple[Operation, ...]:
        self.looks += 1
        self.looked.set()
        return await super().take(**options)

    async def until(self, looks: int) -> None:
        while self.looks < looks:
            self.looked.clear()
            await self.looked.wait()


async def duties_on(store: MemoryStore, heard: list[Event]) -> Duties:
    """Those of a guard that has none of its own."""
    guard = Guard(store, rules=[rule()], shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=ManualClock(), listeners=[heard.append])
    await guard.start()
    hints = guard.engine.operations.hints
    return Duties(guard.queue(), store=store, namespace="shop", bus=guard.bus, clock=guard.engine.clock, hints=hints)


async def test_what_is_past_its_time_is_forgotten_in_steps_and_then_once_a_minute() -> None:
    """At once again while there is more: a store that is looked at without a pause would do nothing else."""
    made = await duties_on(Pruned(200), [])
    assert [await made.upkeep_once(), await made.upkeep_once()] == [0.0, UPKEEP_SECONDS]


async def test_round_that_fails_is_told() -> None:
    """By its duty and what was raised, and never what that said: it may quote a person's data."""
    heard: list[Event] = []
    store = Pruned(ValueError("jane@example.org"))
    made = await duties_on(store, heard)
    made.start()
    await store.begun.wait()
    await made.stop()
    told = [dict(event.detail) for event in heard if event.name == "duty.failed"]
    assert told == [{"duty": "upkeep", "why": "ValueError"}]


async def test_queue_is_looked_at_when_an_order_is_due_by_a_hint_and_not_with_every_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who wait for one another hint: each look is a read of the store."""
    monkeypatch.setattr(duties, "LOOK_SECONDS", 3_600.0)
    monkeypatch.setattr(duties, "HINTED_LOOK_SECONDS", 3_600.0)
    monkeypatch.setattr(duties, "HINT_PAUSE_SECONDS", 0.0)
    store = Looked()
    made = await duties_on(store, [])
    made.start()
    async with asyncio.timeout(20):
        await store.until(1)
        for topic, looks in ((EVERYTHING, 2), (news_topic("k"), 2), (due_topic("other", 0.0, 0.0), 2), (due_topic("shop", 0.0, 0.0), 3)):
            await store.announce((topic or "",))
            for _ in range(50):
                await asyncio.sleep(0)
            await store.until(looks)
            assert store.looks == looks, topic
    await made.stop()


async def test_stop_ends_a_round_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was in hand has had its time; the process must come to its end."""
    monkeypatch.setattr(duties, "STOP_SECONDS", 0.05)
    store = Pruned(None)
    made = await duties_on(store, [])
    made.start()
    await store.begun.wait()
    async with asyncio.timeout(20):
        await made.stop()


async def test_code_that_hangs_holds_up_no_other_order_that_was_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tried one after the other, and the next one waits for a moment only."""
    monkeypatch.setattr(left_behind, "APART_SECONDS", 0.01)
    hangs = asyncio.create_task(asyncio.Event().wait())
    async with till() as shop, shop.guard.operation(purpose="order", key="o1", owner="ann") as op, asyncio.timeout(20):
        assert await may_be_tried(shop.guard.engine, op.work, after=[hangs])
    hangs.cancel()
