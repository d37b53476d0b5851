"""The breakers that `breaker.py` looks at, each set up and called as its own documentation says, behind the same questions.

A decorator where there is one for async code, so that what is measured is what a shop would call, with nothing of ours
around it; what it raises when it lets nothing through is named in `refusals`, and never translated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiobreaker
import circuitbreaker
import interlock
import purgatory
import pybreaker

from cxguard.clock import SystemClock
from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.outcomes import Charged, Declined, Unknown
from cxguard.engine.breakers import Breakers, Rejected

FAILURES = 5
RESET_SECONDS = 0.2

Fn = Callable[[], Awaitable[None]]


class GatewayAway(Exception):
    """The gateway failed."""


class IssuerDeclined(Exception):
    """The issuer's no: nothing about the gateway."""


class Refused(Exception):
    """The breaker let nothing through."""


class Peer:
    """One library, behind the same three questions."""

    name = ""
    refusals: tuple[type[Exception], ...] = ()

    def guard(self, fn: Fn) -> Fn:
        """*fn* as a shop would call it; it raises one of `refusals` when the breaker lets nothing through."""
        raise NotImplementedError

    def is_open(self) -> bool:
        raise NotImplementedError

    def opened(self) -> int | None:
        """How often it opened; None: it does not tell."""
        return None


class Ours(Peer):
    name = "cxguard"
    refusals = (Refused,)

    def __init__(self, reset_seconds: float = 60.0) -> None:
        policy = BreakerPolicy(
            open_seconds=reset_seconds,
            open_seconds_max=reset_seconds,
            probe_lease_seconds=RESET_SECONDS,
            probe_pause_seconds=0.0,
            turn_seconds=0.0,
        )
        self.probes_max = policy.probes_max
        self._breakers = Breakers(policy, SystemClock(), jitter=lambda: 0.0)
        self._count = 0
        self._ok = Charged(1, "EUR")
        self._listener = _Listener(self)
        self._breakers.listen(self._listener)

    def note_open(self) -> None:
        self._count += 1

    def guard(self, fn: Fn) -> Fn:
        """As `engine/charging.py` does it, the watch for slow answers included."""
        breakers, ok, monotonic = self._breakers, self._ok, SystemClock().monotonic

        async def call() -> None:
            ticket = breakers.admit("gateway", "find")
            if isinstance(ticket, Rejected):
                raise Refused
            began = monotonic()
            try:
                await fn()
            except IssuerDeclined:
                ticket.settle(Declined(), monotonic() - began)
                raise
            except GatewayAway:
                ticket.settle(Unknown("away"), monotonic() - began)
                raise
            except BaseException:
                ticket.abandon()
                raise
            ticket.settle(ok, monotonic() - began)

        return call

    def is_open(self) -> bool:
        return any(view.label is Label.OPEN for view in self._breakers.states())

    def opened(self) -> int | None:
        return self._count


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, peer: Any) -> None:
        self._peer = peer

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        if new_state.name == "open":
            self._peer.note_open()


class PyBreaker(Peer):
    name = "pybreaker calling()"  # its decorator never trips on async code
    refusals = (pybreaker.CircuitBreakerError,)

    def __init__(self, reset_seconds: float = 60.0) -> None:
        self._count = 0
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=FAILURES, reset_timeout=reset_seconds, exclude=[IssuerDeclined], listeners=[_Listener(self)]
        )

    def note_open(self) -> None:
        self._count += 1

    def guard(self, fn: Fn) -> Fn:
        breaker = self._breaker

        async def call() -> None:
            with breaker.calling():
                await fn()

        return call

    def is_open(self) -> bool:
        return bool(self._breaker.current_state == "open")

    def opened(self) -> int | None:
        return self._count


class CircuitBreakerLib(Peer):
    name = "circuitbreaker"
    refusals = (circuitbreaker.CircuitBreakerError,)

    def __init__(self, reset_seconds: float = 60.0) -> None:
        self._breaker = circuitbreaker.CircuitBreaker(
            failure_threshold=FAILURES, recovery_timeout=reset_seconds, expected_exception=GatewayAway
        )

    def guard(self, fn: Fn) -> Fn:
        guarded: Fn = self._breaker(fn)
        return guarded

    def is_open(self) -> bool:
        return bool(self._breaker.state == circuitbreaker.STATE_OPEN)


class AioBreaker(Peer):
    name = "aiobreaker"
    refusals = (aiobreaker.CircuitBreakerError,)

    def __init__(self, reset_seconds: float = 60.0) -> None:
        self._count = 0
        peer = self

        class Listener(aiobreaker.CircuitBreakerListener):  # type: ignore[misc]
            def state_change(self, breaker: Any, old: Any, new: Any) -> None:
                peer._count += new.state == aiobreaker.CircuitBreakerState.OPEN

        self._breaker = aiobreaker.CircuitBreaker(
            fail_max=FAILURES, timeout_duration=timedelta(seconds=reset_seconds), exclude=[IssuerDeclined], listeners=[Listener()]
        )

    def guard(self, fn: Fn) -> Fn:
        guarded: Fn = self._breaker(fn)
        return guarded

    def is_open(self) -> bool:
        return bool(self._breaker.current_state == aiobreaker.CircuitBreakerState.OPEN)

    def opened(self) -> int | None:
        return self._count


class Purgatory(Peer):
    name = "purgatory"
    refusals = (purgatory.domain.model.OpenedState,)

    def __init__(self, reset_seconds: float = 60.0) -> None:
        self._factory = purgatory.AsyncCircuitBreakerFactory(
            default_threshold=FAILURES, default_ttl=reset_seconds, exclude=[IssuerDeclined]
        )
        self._breaker: Any = None

    def guard(self, fn: Fn) -> Fn:
        factory = self._factory

        async def call() -> None:
            async with await factory.get_breaker("gateway") as breaker:
                self._breaker = breaker
                await fn()

        return call

    def is_open(self) -> bool:
        return self._breaker is not None and self._breaker.context.state == "opened"


class Interlock(Peer):
    name = "interlock-cb"
    refusals = (interlock.CircuitOpenError,)

    def __init__(self, reset_seconds: float = 60.0) -> None:
        class Classifier:
            def is_failure(self, *, result: object, exception: Exception | None) -> bool:
                return isinstance(exception, GatewayAway)

        config = interlock.Config(
            minimum_number_of_calls=FAILURES, permitted_calls_in_half_open=2, max_concurrent_probes=2, wait_duration_in_open=reset_seconds
        )
        self._breaker = interlock.CircuitBreaker(name="gateway", config=config, classifier=Classifier())

    def guard(self, fn: Fn) -> Fn:
        guarded: Fn = self._breaker(fn)
        return guarded

    def is_open(self) -> bool:
        return bool(self._breaker.state is interlock.State.OPEN)


PEERS: tuple[type[Peer], ...] = (Ours, PyBreaker, CircuitBreakerLib, AioBreaker, Purgatory, Interlock)
