"""How often a process looks at the breakers of all, and what it is given from outside."""

from __future__ import annotations

import asyncio

import pytest
from breakerworld import CARDS, CHARGED, QUICK, SILENT, Process, World, world

from cxguard.engine.breaker_sharing import (
    HINTED_LOOK_SECONDS,
    LOOK_SECONDS,
    QUIET_AFTER_SECONDS,
    QUIET_HINTED_LOOK_SECONDS,
    QUIET_LOOK_SECONDS,
)
from cxguard.stores.base import EVERYTHING

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("hinted", "called", "tripped", "seconds"),
    [
        (False, True, False, LOOK_SECONDS),
        (False, False, True, LOOK_SECONDS),
        (False, False, False, QUIET_LOOK_SECONDS),
        (True, True, False, HINTED_LOOK_SECONDS),
        (True, False, True, HINTED_LOOK_SECONDS),
        (True, False, False, QUIET_HINTED_LOOK_SECONDS),
    ],
)
async def test_looks_come_seldom_while_nothing_happens(hinted: bool, called: bool, tripped: bool, seconds: float) -> None:
    """Four a second are for a process with calls, or with a breaker that is not closed, that hears no hints."""
    async with world(2) as shop:
        process = shop.all[0]
        if tripped:
            await shop.trip()
        shop.clock.advance(QUIET_AFTER_SECONDS + 1.0)
        if called:
            await process.call(CHARGED)
        await process.look()
        if hinted:
            heard: asyncio.Queue[str] = asyncio.Queue()
            process.hints.listen(heard.put_nowait)
            process.hints.start()
            while await heard.get() != EVERYTHING:
                pass
            process.hints.tell("news:1")
            while await heard.get() != "news:1":
                pass
        assert process.sharing.look_seconds == seconds
        await process.hints.stop()


@pytest.mark.parametrize(("jitter", "share"), [(0.0, 1.0), (1.0, 0.8)])
async def test_chance_comes_from_outside(jitter: float, share: float) -> None:
    """The pause of an open breaker is shortened by what the process was given, by a fifth at most."""
    shop = World(1, QUICK)
    process = Process(shop.store, shop.clock, "p", QUICK, jitter=jitter)
    await process.look()
    await process.call(*[SILENT] * 5)
    await process.look()
    shared = await process.sharing.read()
    assert shared.state(CARDS).opened_until - shop.clock.now() == pytest.approx(share * QUICK.open_seconds)
