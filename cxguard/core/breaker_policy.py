"""The numbers of a breaker, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When to open, for how long, and how to probe. Seconds.

    Attributes:
        consecutive_failures: so many in a row open it at once: a gateway that is down fails every call.
        window_seconds: over which the rates are counted.
        calls_min: below so many calls in the window a rate says nothing.
        failure_rate: a share of failures that no healthy gateway has.
        slow_call_seconds, slow_rate: nearly all answers this late: shoppers give up, and calls pile up.
        open_seconds: the first pause; doubles with each failed probe up to `open_seconds_max`.
        trips_forgotten_seconds: closed for so long, the next pause is the first one again.
        probes_max: probes under way at the same time.
        probes_well: so many probes that went well close it.
        probe_lease_seconds: longer than any call may take; then the probe's holder is taken for dead.
        probe_pause_seconds: between two probes: a gateway that wakes up sees one call, and a second later another.
        turn_seconds: how long a free probe is kept for whose turn it is.
        same_order_seconds: after so long the same order may probe again, or a quiet shop would never reopen.
        throttle_seconds: when the gateway says "too many" without saying until when; at most `throttle_seconds_max`.
        failures_beside: so many in a row are enough while another method of the same gateway is not closed.
        quorum: so many processes must have failed before all stop: one alone may have lost its own network, and stops itself.
        shadow: reject nothing, and only tell what would have been done: to look at before it is trusted.
    """

    consecutive_failures: int = 5
    window_seconds: float = 30.0
    calls_min: int = 20
    failure_rate: float = 0.5
    slow_call_seconds: float = 4.0
    slow_rate: float = 0.9
    open_seconds: float = 2.0
    open_seconds_max: float = 60.0
    trips_forgotten_seconds: float = 60.0
    probes_max: int = 2
    probes_well: int = 2
    probe_lease_seconds: float = 30.0
    probe_pause_seconds: float = 1.0
    turn_seconds: float = 1.0
    same_order_seconds: float = 15.0
    throttle_seconds: float = 1.0
    throttle_seconds_max: float = 120.0
    failures_beside: int = 2
    quorum: int = 2
    shadow: bool = False
