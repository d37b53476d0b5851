"""The pause between two rounds of what runs for as long as the process."""

from __future__ import annotations

import asyncio


async def pause(stopping: asyncio.Event, *, seconds: float) -> None:
    """Wait that long, or until told to stop, or to go on."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
