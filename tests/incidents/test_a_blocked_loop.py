"""The story of a synchronous SDK in an async route: the gateway hangs, and every other request waits with it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from shopworld import SHOP

from cxguard.engine.doctor import Health, examine_counters
from cxguard.engine.stalls import LOOK_SECONDS, STALL_SECONDS
from cxguard.events import Event
from cxguard.guard import Guard
from cxguard.stores.sqlite import SQLiteStore


@pytest.mark.asyncio
async def test_a_stall_is_seen_and_named_by_the_doctor(tmp_path: Path) -> None:
    """An async route calls a synchronous client: the guard tells of the stall, and the doctor what to write instead."""
    told = asyncio.Event()
    stalls: list[Event] = []

    def listen(event: Event) -> None:
        if event.name == "loop.stalled":
            stalls.append(event)
            told.set()

    async with Guard(f"sqlite:///{tmp_path / 'shop.db'}", shop=SHOP, duties=False, listeners=[listen]) as guard:
        await asyncio.sleep(0)  # the watch is under way
        block(LOOK_SECONDS + STALL_SECONDS + 0.1)
        async with asyncio.timeout(10):
            await told.wait()
        store = guard.store
    assert isinstance(store, SQLiteStore)
    assert stalls[0].detail["seconds"] >= STALL_SECONDS
    async with Guard(f"sqlite:///{tmp_path / 'shop.db'}", shop=SHOP, duties=False) as again:
        (line,) = await examine_counters(again.store, namespace="shop")
    assert (line.about, line.health) == ("loop", Health.WARN)
    assert "plain `def`" in line.do


def block(seconds: float) -> None:
    """What a blocking call does to a loop: nothing else runs until it returns."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
