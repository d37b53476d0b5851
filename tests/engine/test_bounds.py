"""A call to somebody else's code ends, and what it did not say is unknown, with the reason in the order's timeline."""

from __future__ import annotations

import asyncio

import pytest

from cxguard.core.outcomes import Outcome, Unknown
from cxguard.engine.bounds import bounded

pytestmark = pytest.mark.asyncio


async def hangs() -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def raises() -> Outcome:
    raise ValueError("jane@example.org")


async def waits_for_what_was_cancelled() -> Outcome:
    task = asyncio.create_task(hangs())
    task.cancel()
    return await task


async def test_silence_is_unknown() -> None:
    """However long it would last."""
    assert await bounded(hangs, 0.01, doing="asking") == Unknown("no answer in time")


async def test_what_raises_is_unknown_and_its_words_are_not_kept() -> None:
    """They may quote a person's data: what it was, and what was going on, is enough."""
    assert await bounded(raises, 20.0, doing="asking") == Unknown("ValueError while asking")


async def test_what_waits_for_a_task_that_was_cancelled_is_unknown() -> None:
    """Nobody has cancelled ours."""
    assert await bounded(waits_for_what_was_cancelled, 20.0, doing="asking") == Unknown("CancelledError while asking")


async def test_who_is_cancelled_is() -> None:
    """An answer that nobody waits for any more is none."""
    task = asyncio.create_task(bounded(hangs, 20.0, doing="asking"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
