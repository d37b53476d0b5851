"""How much the recorder writes at once, and what becomes of what it cannot write."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from cxguard.core.message import Message
from cxguard.core.session import By, Cause, Exposed, Stage
from cxguard.engine.recorder import BATCH_FACTS_MAX, FAULTS_MAX, Recorder
from cxguard.events import Bus
from cxguard.stores.base import SessionRow
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock


def shown(number: int) -> Exposed:
    message = Message(key="declined", version=1)
    return Exposed(f"x{number}", f"e{number}", Stage.PAY, at=2.0, message=message, cause=Cause.ISSUER, by=By.SHOP, status=402)


@pytest.mark.asyncio
async def test_what_is_given_up_is_counted_in_the_store() -> None:
    """With the next batch that gets there: a report knows how much it does not show."""
    clock, broken = ManualClock(), [True]

    class Poisoned(MemoryStore):
        async def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]:
            if broken:
                raise RuntimeError("boom")
            return await super().sessions(ids)

    store = Poisoned(clock=clock)
    recorder = Recorder(store, clock, namespace="shop")
    for number in range(2):
        recorder.put(shown(number))
    for _ in range(FAULTS_MAX):
        await recorder.flush_once()
    broken.clear()
    await recorder.flush_once()
    assert await store.counters("shop:session.dropped") == {"shop:session.dropped": 2}


@pytest.mark.asyncio
async def test_what_does_not_fit_into_one_batch_is_written_without_a_pause() -> None:
    """A rush must not grow over the buffer while the store answers."""
    written, bus, clock = asyncio.Event(), Bus(), ManualClock()
    recorder = Recorder(MemoryStore(clock=clock), clock, namespace="shop", bus=bus, flush_seconds=3_600.0)
    for number in range(2 * BATCH_FACTS_MAX):
        recorder.put(shown(number))
    bus.listen(lambda event: written.set() if recorder.waiting == 0 else None)
    recorder.start()
    async with asyncio.timeout(20):
        await written.wait()
    await recorder.stop()
