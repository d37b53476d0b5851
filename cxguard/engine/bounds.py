"""A call to somebody else's code, a gateway adapter or a hook, with an end to it: whatever it does, an outcome comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cxguard.core.outcomes import Outcome, Unknown
from cxguard.core.told import outcome_told


async def bounded(call: Callable[[], Awaitable[Outcome]], seconds: float, *, doing: str) -> Outcome:
    """The outcome of *call*; silence and exceptions are `Unknown`, because they tell nothing about the money.

    Args:
        doing: for the reason: what was going on when it raised.
    """
    try:
        async with asyncio.timeout(seconds):
            return outcome_told(await call())
    except TimeoutError:
        return Unknown(why="no answer in time")
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        return Unknown(why=f"CancelledError while {doing}")
    except Exception as error:  # noqa: BLE001 - an adapter or hook that raises has told us nothing
        return Unknown(why=f"{type(error).__name__} while {doing}")


def is_cancelled() -> bool:
    """Whether a `CancelledError` in hand is meant for this task. Otherwise it is somebody else's, of a task that was waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
