"""An event loop whose time passes only when everybody waits: hours of retries in a moment, the same for each seed."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cxguard.testing.clock import START

T = TypeVar("T")


class _Hurrying(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Never waits: tells how long it would have waited."""

    passed: Callable[[float], None]

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found:
            return found
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever come")
        if timeout > 0:
            self.passed(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer whenever nothing is ready to run."""

    def __init__(self) -> None:
        self._passed_seconds = 0.0
        selector = _Hurrying()
        selector.passed = self._pass
        super().__init__(selector)

    def time(self) -> float:
        return self._passed_seconds

    def stand_still(self, seconds: float) -> None:
        """As if something blocked it for so long."""
        self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self._passed_seconds += seconds


class LoopClock:
    """Both clocks, read from the running loop."""

    def now(self) -> float:
        return START + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def passed(seconds: float) -> None:
    """Let virtual time pass for this task."""
    over = asyncio.get_running_loop().create_future()
    timer = asyncio.get_running_loop().call_later(seconds, over.set_result, None)
    try:
        await over
    finally:
        timer.cancel()


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* to its end on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
