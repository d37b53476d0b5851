"""A clock that moves only when a test says so."""

from __future__ import annotations

START = 1_800_000_000.0  # a date in 2027: nothing may depend on the real one


class ManualClock:
    """Both clocks in one hand.

    `advance` moves both, as time does. `jump` moves the wall clock alone, as a machine's owner or NTP does.
    """

    def __init__(self, now: float = START) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass.

        Raises:
            ValueError: time does not go back; use `jump` to move the wall clock.
        """
        if seconds < 0:
            raise ValueError("time does not go back: use jump() to move the wall clock alone")
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back without time passing."""
        self._now += seconds
