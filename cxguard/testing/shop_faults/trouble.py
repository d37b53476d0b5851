"""Trouble at the moment that counts: right after a fake gateway has charged, before anybody has heard so.

Works in the loop and the threads of whoever calls the wrapped function; the test is told from there that it happened.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar, cast

HELD_MAX = 64  # calls that are held at the same time
Function = TypeVar("Function", bound=Callable[..., Any])


class Kind(StrEnum):
    """What comes over a call that has charged."""

    NONE = "none"
    RAISE = "raise"  # the first call raises
    LOSE = "lose"  # the first call's answer is lost: it times out
    HOLD = "hold"  # every call is held until `release`
    DROP = "drop"  # as HOLD; `drop` then cancels the first call's task


class Raised(RuntimeError):
    """What a call raises that has charged: a bug, a broken connection, a full disk."""


class Trouble:
    """What the charging calls of one test meet, from `begin` to the next `begin`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._go_on = threading.Event()
        self._dropped = False
        self._kind = Kind.NONE
        self._struck = 0
        self._waiters = ThreadPoolExecutor(HELD_MAX, thread_name_prefix="guard-faults")

    def after(self, function: Function, *, lost: type[Exception] | None = TimeoutError) -> Function:
        """*function*, which charges, async or not, with the trouble of the moment right after it.

        Args:
            lost: what a call whose answer is lost raises here, as the gateway's SDK does; None: it hangs, until the shop's
                own time limit or the end of the case. For a fake gateway that is asked over a connection.
        """
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def later(*args: Any, **named: Any) -> Any:
                result = await function(*args, **named)
                await self._strike(lost)
                return result

            return cast(Function, later)

        @wraps(function)
        def now(*args: Any, **named: Any) -> Any:
            result = function(*args, **named)
            self._strike_here(lost)
            return result

        return cast(Function, now)

    def begin(self, kind: Kind) -> None:
        """From now on charging calls meet *kind*. Whatever is still held goes on."""
        self.release()
        with self._changed:
            self._go_on, self._dropped, self._kind, self._struck = threading.Event(), False, kind, 0

    @property
    def struck(self) -> int:
        """How many calls have charged since `begin`."""
        with self._changed:
            return self._struck

    async def until_struck(self, count: int = 1, *, seconds_max: float) -> bool:
        """Wait until so many calls have charged; False if they have not in time."""
        return await asyncio.get_running_loop().run_in_executor(self._waiters, self._until, count, seconds_max)

    def release(self) -> None:
        """Let every held call go on."""
        self._go_on.set()

    def drop(self) -> None:
        """Cancel the first call that is held, as a server does with its tasks when it has to stop. The others go on."""
        self._dropped = True
        self._go_on.set()

    def close(self) -> None:
        """The end: nothing is held any more."""
        self.begin(Kind.NONE)
        self._waiters.shutdown(wait=True)

    def _until(self, count: int, seconds_max: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._struck >= count, seconds_max)

    async def _strike(self, lost: type[Exception] | None) -> None:
        held, first = self._hit(lost)
        if held is None:
            return
        await asyncio.get_running_loop().run_in_executor(self._waiters, held.wait)
        if first and self._dropped:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)  # the cancellation comes here

    def _strike_here(self, lost: type[Exception] | None) -> None:
        held, first = self._hit(lost)
        if held is not None:
            held.wait()
            if first and self._dropped:
                raise asyncio.CancelledError("dropped by the test")  # a thread has no task: its awaiter hears this

    def _hit(self, lost: type[Exception] | None) -> tuple[threading.Event | None, bool]:
        """Note the call; raise, or return what it waits for, and whether it is the first."""
        with self._changed:
            self._struck += 1
            kind, held, first = self._kind, self._go_on, self._struck == 1
            self._changed.notify_all()
        if kind in (Kind.HOLD, Kind.DROP):
            return held, first
        if not first or kind is Kind.NONE:
            return None, first
        if kind is Kind.RAISE:
            raise Raised("raised by the test, right after the charge")
        if lost is None:
            return held, first
        raise lost("no answer from the gateway: lost by the test, right after the charge")
