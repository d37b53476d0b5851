"""The watch over the event loop: what it takes for a stall, in time that passes only when told."""

from __future__ import annotations

import asyncio

from virtual_time import VirtualLoop

from cxguard.engine.stalls import LOOK_SECONDS, STALL_SECONDS, StallWatch


def _told(*stalls: float, starts: int = 1) -> list[float]:
    """What a watch tells of a loop that stands still for so long, again and again."""
    told: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        watch = StallWatch(told.append)
        for _ in range(starts):
            watch.start()
        assert "cxguard-stalls" in {task.get_name() for task in asyncio.all_tasks()}, "for whoever looks at what runs"
        for seconds in stalls:
            await asyncio.sleep(0)
            loop.stand_still(LOOK_SECONDS + seconds)
            await asyncio.sleep(2 * LOOK_SECONDS)
        await watch.stop()
        await watch.stop()
        assert len(asyncio.all_tasks()) == 1, "nobody watches any more"

    loop = VirtualLoop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return told


def test_a_stall_is_told_with_how_long_it_lasted() -> None:
    """Each one, when it is over."""
    assert _told(STALL_SECONDS, 3.0) == [STALL_SECONDS, 3.0]


def test_a_loop_that_is_merely_busy_is_none() -> None:
    """Some ten milliseconds, or half a second."""
    assert _told(0.0, 0.02, STALL_SECONDS / 2) == []


def test_a_watch_that_was_started_twice_tells_each_stall_once() -> None:
    """Idempotent, as its end is."""
    assert _told(2.0, starts=2) == [2.0]
