"""Time, passed in wherever it is needed, so that tests can move it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: `now` for what is written down, `monotonic` for how long something took."""

    def now(self) -> float:
        """Wall clock, seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, without a meaning of their own."""
        ...


class SystemClock:
    """The machine's clocks: the functions themselves, since breakers read them at every call."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
