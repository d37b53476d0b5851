"""The numbers of a breaker, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxguard.core.limits import check_limits, limit
from cxguard.errors import ConfigurationError

_PAUSES = (("open_seconds", "open_seconds_max"), ("throttle_seconds", "throttle_seconds_max"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When to open, for how long, and how to probe. Seconds.

    Raises:
        ConfigurationError: a value out of its range, or a first pause that is longer than the longest.
    """

    consecutive_failures: int = limit(5, 1, 1_000_000_000, why="so many in a row open it at once: a gateway that is down fails every call")
    window_seconds: float = limit(30.0, 1.0, 3_600.0, why="over which the rates are counted")
    calls_min: int = limit(20, 1, 1_000_000_000, why="below so many calls in the window a rate says nothing")
    failure_rate: float = limit(0.5, 0.01, 1.0, why="a share of failures that no healthy gateway has")
    slow_call_seconds: float = limit(4.0, 0.01, 300.0, why="so late is a slow answer: shoppers give up")
    slow_rate: float = limit(0.9, 0.01, 1.0, why="nearly all answers are that late: calls pile up")
    open_seconds: float = limit(2.0, 0.01, 86_400.0, why="the first pause; doubles with each failed probe up to `open_seconds_max`")
    open_seconds_max: float = limit(60.0, 0.01, 86_400.0, why="the longest pause between two probes")
    trips_forgotten_seconds: float = limit(60.0, 0.0, 86_400.0, why="closed for so long, the next pause is the first one again")
    probes_max: int = limit(2, 1, 1_000, why="probes under way at the same time")
    probes_well: int = limit(2, 1, 1_000, why="so many probes that went well close it")
    probe_lease_seconds: float = limit(30.0, 0.1, 3_600.0, why="longer than any call may take; then the probe's holder is taken for dead")
    probe_pause_seconds: float = limit(
        1.0, 0.0, 3_600.0, why="between two probes: a gateway that wakes up sees one call, and a second later another"
    )
    turn_seconds: float = limit(1.0, 0.0, 3_600.0, why="how long a free probe is kept for whose turn it is")
    same_order_seconds: float = limit(
        15.0, 0.0, 86_400.0, why="after so long the same order may probe again, or a quiet shop would never reopen"
    )
    throttle_seconds: float = limit(
        1.0, 0.0, 86_400.0, why='when the gateway says "too many" without saying until when; at most `throttle_seconds_max`'
    )
    throttle_seconds_max: float = limit(120.0, 0.0, 86_400.0, why="longer than that no gateway's word keeps it closed to us")
    failures_beside: int = limit(
        2, 1, 1_000_000_000, why="so many in a row are enough while another method of the same gateway is not closed"
    )
    quorum: int = limit(
        2,
        1,
        1_000_000_000,
        why="so many processes must have failed before all stop: one alone may have lost its own network, and stops itself",
    )
    shadow: bool = field(
        default=False, metadata={"why": "reject nothing, and only tell what would have been done: to look at before it is trusted"}
    )

    def __post_init__(self) -> None:
        check_limits(self)
        for first, most in _PAUSES:
            if getattr(self, first) > getattr(self, most):
                raise ConfigurationError(
                    f"{first}={getattr(self, first):g} is longer than {most}={getattr(self, most):g}: "
                    f"write BreakerPolicy({first}={getattr(self, first):g}, {most}={getattr(self, first):g})"
                )
