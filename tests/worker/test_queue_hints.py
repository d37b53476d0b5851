"""An order that is due is taken by a hint: at once, by a process that would not have looked for an hour."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP, rule

from cxguard.clock import SystemClock
from cxguard.core.money import Note, NoteKind
from cxguard.core.names import reference_of
from cxguard.core.operation import Operation, State
from cxguard.engine import duties
from cxguard.engine.duties import HINTED_LOOK_SECONDS, LOOK_SECONDS, Duties
from cxguard.events import Event
from cxguard.guard import Guard
from cxguard.stores.base import EVERYTHING
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import FaultyStore

pytestmark = pytest.mark.asyncio

HOUR = 3_600.0


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where nobody looks by themselves, but once at the beginning."""
    monkeypatch.setattr(duties, "LOOK_SECONDS", HOUR)
    monkeypatch.setattr(duties, "HINTED_LOOK_SECONDS", HOUR)
    if request.param == "memory":
        return MemoryStore(clock=SystemClock())
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return f"{url}?answer_seconds=2" if request.param == "redis" else url  # the machine is shared with many other tests


class Pair:
    """A process of the shop, and one that works on its queue; `ended` has the orders that this one has brought to an end."""

    def __init__(self, store: Any) -> None:
        self.ended: asyncio.Queue[Event] = asyncio.Queue()
        options: dict[str, Any] = {"namespace": secrets.token_hex(4), "rules": [rule()], "shop": SHOP, "secret": SECRET, "keys": KEYS}
        self.shop = Guard(store, duties=False, **options)
        self.worker = Guard(store, duties=True, listeners=[self._hear], **options)

    async def start(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.shop)
        await stack.enter_async_context(self.worker)
        listening: asyncio.Queue[str] = asyncio.Queue()
        hints = self.worker.engine.operations.hints
        hints.listen(listening.put_nowait)
        async with asyncio.timeout(10):
            while not hints.come:
                hints.tell("x:ready")
                while await listening.get() not in ("x:ready", EVERYTHING):
                    pass  # a process that hears itself, late: by that it knows that hints come

    async def lay(self, *, due_at: float, give_up_at: float) -> Operation:
        """Put an order into the queue, by the process of the shop."""
        id = self.shop.engine.operation_id(purpose="pay", owner="ann", key=secrets.token_hex(8))
        order = Operation(
            id=id,
            namespace=self.shop.namespace,
            rule=self.shop.rules[0].name,
            owner="ann",
            reference=reference_of(id),
            fingerprint="f",
            state=State.QUEUED,
            created_at=time.time(),
            updated_at=time.time(),
            kept=True,
            due_at=due_at,
            give_up_at=give_up_at,
        )
        return await self.shop.engine.operations.lay(order)

    async def next_ended(self) -> str:
        async with asyncio.timeout(10):
            return (await self.ended.get()).operation

    def _hear(self, event: Event) -> None:
        if event.name == "order.cancelled":
            self.ended.put_nowait(event)


@pytest.mark.server
async def test_an_order_that_is_due_is_taken_at_once(store: Any) -> None:
    """Put into the queue by one process, its time over, and brought to its end by another one."""
    async with AsyncExitStack() as stack:
        pair = Pair(store)
        await pair.start(stack)
        order = await pair.lay(due_at=time.time(), give_up_at=time.time() - 1.0)
        assert await pair.next_ended() == order.id


@pytest.mark.server
async def test_an_order_that_is_due_in_a_moment_is_taken_then(store: Any) -> None:
    """The hint tells when: not before, and no later than by looking."""
    async with AsyncExitStack() as stack:
        pair = Pair(store)
        await pair.start(stack)
        due_at = time.time() + 0.5
        order = await pair.lay(due_at=due_at, give_up_at=time.time() - 1.0)
        assert await pair.next_ended() == order.id
        assert time.time() >= due_at


@pytest.mark.server
async def test_a_wish_to_cancel_is_carried_out_at_once(store: Any) -> None:
    """The order was due in an hour; what its shopper wants is due now."""
    async with AsyncExitStack() as stack:
        pair = Pair(store)
        await pair.start(stack)
        order = await pair.lay(due_at=time.time() + HOUR, give_up_at=time.time() + 2 * HOUR)
        await pair.shop.engine.operations.note(order.id, Note(at=time.time(), kind=NoteKind.CANCEL, event_id="cancel:1"))
        assert await pair.next_ended() == order.id


@pytest.mark.parametrize(("hinted", "seconds"), [(True, HINTED_LOOK_SECONDS), (False, LOOK_SECONDS)])
async def test_an_empty_queue_is_looked_at_seldom_while_hints_come(hinted: bool, seconds: float) -> None:
    """Twice a second is for stores that do not hint, or whose hints do not arrive."""
    clock = ManualClock()
    memory = MemoryStore(clock=clock)
    store = memory if hinted else FaultyStore(memory)
    async with Guard(store, rules=[rule()], shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock) as guard:
        hints = guard.engine.operations.hints
        heard: asyncio.Queue[str] = asyncio.Queue()
        hints.listen(heard.put_nowait)
        hints.tell("x:ready")
        while await heard.get() != "x:ready":
            hints.tell("x:ready")
        queue = Duties(guard.queue(), store=guard.store, namespace="shop", bus=guard.bus, clock=clock, hints=hints)
        assert await queue.queue_once() == seconds
