"""Time, passed in wherever it is needed, so that tests can move it."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

LOOK_SECONDS = 30.0  # between two readings of the store's clock
APART_SECONDS = 2.0  # by which clocks may be apart and be taken for the same
LEAPS_MAX = 16  # more of them in one process are no clock
UNNOTICED_SECONDS = 60.0  # whoever has not looked since a leap writes down the time of before for so long


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


class SharedClock:
    """The store's clock, as far as this process knows it: what several machines write down goes by one clock.

    A machine whose own clock is an hour off would take a charge of a minute ago for one of an hour ago, and the next press of
    the button for another purchase; or believe that a gateway still knows a key that it has forgotten. Between two readings
    time goes on by `monotonic`, so that a clock that is set while the shop runs changes nothing.

    Args:
        own: the machine's clocks. Until the store was asked for the first time, they are all that is known.
    """

    def __init__(self, own: Clock) -> None:
        self.own = own
        self.monotonic = own.monotonic
        self._since = (own.now(), own.monotonic())  # what it was, and when
        self.is_known = False  # the store was asked
        self._looked_at: float | None = None
        self._apart = 0.0  # wall clock less monotonic, at the last look

    def now(self) -> float:
        """The store's clock, seconds since the epoch; within `APART_SECONDS`."""
        was, when = self._since
        return was + (self.monotonic() - when)

    async def follow(self, ask: Callable[[], Awaitable[float]]) -> None:
        """Look at the store's clock, if it is time to, or the machine's own was set or stood still meanwhile.

        Args:
            ask: gives the store's clock; what it raises goes on to the caller, and the next call looks again.
        """
        if not self._is_due():
            return
        before, self._looked_at = self._looked_at, self.monotonic()  # one look at a time
        try:
            there = await ask()
        except BaseException:
            self._looked_at = before
            raise
        self._learn(there, within_seconds=self.monotonic() - self._looked_at)

    def _is_due(self) -> bool:
        if self._looked_at is None:
            return True
        monotonic = self.monotonic()
        return monotonic - self._looked_at >= LOOK_SECONDS or abs(self.own.now() - monotonic - self._apart) > APART_SECONDS

    def _learn(self, there: float, *, within_seconds: float) -> None:
        self._apart, self.is_known = self.own.now() - self.monotonic(), True
        now = there + within_seconds / 2
        if abs(now - self.now()) > APART_SECONDS + within_seconds / 2:
            self._since = (now, self.monotonic())


@dataclass(frozen=True, slots=True)
class Leap:
    """A clock was set ahead: what it was, and by how many seconds."""

    was: float
    seconds: float


class Leaps:
    """When *clock* was set ahead while this process runs: what happened before is not as long ago as it seems.

    With it a basket that was bought a moment ago is known again, though by the clock that was yesterday. A time in which the
    machine slept counts as such a leap, too.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leaps: tuple[Leap, ...] = ()
        self._apart: float | None = None  # wall clock less monotonic, at the last look
        self.look()

    def seconds_since(self, at: float, *, until: float = math.inf) -> float:
        """By how much it was set ahead since *at*, and before *until*; both were written down by it."""
        self.look()
        return sum(leap.seconds for leap in self._leaps if at <= leap.was + UNNOTICED_SECONDS and leap.was < until)

    def look(self) -> None:
        """Notice that it was set, before anything is written down by it: two steps that are noticed at once pass for one."""
        if isinstance(self._clock, SharedClock) and not self._clock.is_known:
            return  # what the first answer of the store changes is no leap
        now = self._clock.now()
        apart = now - self._clock.monotonic()
        step, self._apart = apart - (apart if self._apart is None else self._apart), apart
        if step > APART_SECONDS:
            self._leaps = (*self._leaps, Leap(now - step, step))[-LEAPS_MAX:]
        elif step < -APART_SECONDS:
            self._take_back(-step)

    def _take_back(self, seconds: float) -> None:
        """It was set back: as far as the last leaps went, it is what it was before them."""
        while self._leaps and seconds > 0:
            *before, last = self._leaps
            rest = (replace(last, seconds=last.seconds - seconds),) if last.seconds > seconds else ()
            self._leaps = (*before, *rest)
            seconds -= last.seconds


def own_clock(clock: Clock) -> Clock:
    """The machine's own clock behind *clock*: to compare it with the store's."""
    return clock.own if isinstance(clock, SharedClock) else clock


@cache
def boot_id() -> str:
    """Names the machine's life since it was switched on, in which `monotonic` counts for all processes; empty: nobody says."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
