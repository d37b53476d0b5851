"""When the shop closes: by what happens in it, so that a busy machine gets as long as it needs."""

from __future__ import annotations

from cxguard.clock import Clock

QUIET_SECONDS_MAX = 12.0  # longer than any pause in which an order is looked after unseen, some seconds after an outage


class Closing:
    """Closing time has come when there was no news for *quiet_seconds*, and at the latest after *seconds_max*."""

    def __init__(self, clock: Clock, *, seconds_max: float, quiet_seconds: float = QUIET_SECONDS_MAX) -> None:
        self._clock = clock
        self._quiet_seconds = quiet_seconds
        self._latest = clock.monotonic() + seconds_max
        self._news_at = clock.monotonic()

    def news(self) -> None:
        """Somebody left, or heard another word about her order than before: more is to come."""
        self._news_at = self._clock.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether everybody has to leave."""
        return self._clock.monotonic() >= min(self._latest, self._news_at + self._quiet_seconds)
