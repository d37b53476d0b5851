"""The whole crowd at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from cxguard.clock import Clock, SystemClock
from cxguard.demo.crowd.closing import Closing
from cxguard.demo.crowd.plans import Channel, Plan
from cxguard.demo.crowd.shopper import Shopper
from cxguard.demo.crowd.tills import App, Browser
from cxguard.demo.crowd.words import Transcript

LEAVE_SECONDS_MAX = 3.0  # after closing time, for an answer that is on its way
_CLOSING_LOOK_SECONDS = 0.5


async def run_crowd(
    plans: Sequence[Plan], shop_url: str, *, seconds: float, left: Callable[[int], None] = lambda count: None, clock: Clock | None = None
) -> list[Transcript]:
    """Let everybody shop until all have left, or closing time: at most *seconds* (and a moment to leave).

    Args:
        left: told, each time a shopper leaves, how many have left.

    Returns:
        One transcript per plan, in the order of the plans.
    """
    watch = clock or SystemClock()
    opened = watch.monotonic()
    closing = Closing(watch, seconds_max=seconds)
    transcripts = [Transcript(plan.number, plan.source) for plan in plans]
    gone = 0

    async def visit(plan: Plan, transcript: Transcript) -> None:
        nonlocal gone
        await asyncio.sleep(max(0.0, opened + plan.arrives_at - watch.monotonic()))
        till = (Browser if plan.channel is Channel.PAGES else App)(shop_url, plan, transcript, clock=watch)
        try:
            await Shopper(plan, till, closing).shop()
        finally:
            await till.aclose()
            gone += 1
            closing.news()
            left(gone)

    tasks = [asyncio.create_task(visit(*pair)) for pair in zip(plans, transcripts, strict=True)]
    await _until_closing(tasks, closing)
    return transcripts


async def _until_closing(tasks: Sequence[asyncio.Task[None]], closing: Closing) -> None:
    inside: set[asyncio.Task[None]] = set(tasks)
    try:
        while inside and not closing.is_over:
            _, inside = await asyncio.wait(inside, timeout=_CLOSING_LOOK_SECONDS)
        if inside:
            await asyncio.wait(inside, timeout=LEAVE_SECONDS_MAX)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()
