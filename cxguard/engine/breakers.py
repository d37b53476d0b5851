"""One breaker for each gateway and kind of call: an open `charge` must not block `find` or `refund`.

`core.breaker` decides, on one frozen state for each; here are only the dict that holds them, the clock and the jitter.
pybreaker carries the label and tells listeners of its changes; it never runs a call. A call asks with `admit`, before
it leaves, and hands its ticket back with `settle` or `abandon`. Admitting does no I/O and takes under a microsecond.

After an outage charges come back by a ramp (`core.schedule`): live checkouts and queued orders together, the live ones
first. Queued orders go by a ramp of their own at other times, too, so that a long queue never falls on a gateway at once.
"""

from __future__ import annotations

import itertools
import logging
import random
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, assert_never

import pybreaker

from cxguard.clock import Clock
from cxguard.core.breaker import (
    BreakerPolicy,
    BreakerState,
    Heard,
    Label,
    Verdict,
    admit,
    force,
    forced_now,
    label_now,
    lift,
    record,
    silence,
)
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.schedule import RAMP_CALM_SECONDS, Ramp, allow, begin_ramp, is_over, room, went_badly, went_well
from cxguard.events import Bus, Event

_log = logging.getLogger("cxguard.breakers")

RAMPED_KIND = "charge"  # what a recovering gateway is spared; asking and giving back are rare
RAMP_ASK_AGAIN_SECONDS = 0.25  # for whoever was turned away by the ramp: a shopper's next try should find a place
ROOM_MAX = 1_000  # what `room` says when nothing limits: more than any worker takes at once
ANSWERED = frozenset({"not_found", "processing"})  # unknown to us, but said by a gateway that works


@dataclass(slots=True)  # not frozen: that costs as much as all the rest of a rejection
class Rejected:
    """The call must not be made. Nothing was sent.

    Attributes:
        by_ramp: the gateway works, and is only given its calls back gently: the next turn is a moment away.
    """

    retry_after_seconds: float
    by_ramp: bool = False


class Ticket:
    """The right to make one call. Hand it back once: by `settle`, or by `abandon` when nothing was learnt."""

    __slots__ = ("_breakers", "_cell", "_open", "_probe_id", "_ramped", "_revision")

    def __init__(self, breakers: Breakers, cell: _Cell, revision: int, probe_id: str = "", *, ramped: bool = False) -> None:
        self._breakers = breakers
        self._cell = cell
        self._revision = revision
        self._probe_id = probe_id
        self._ramped = ramped
        self._open = True

    @property
    def is_probe(self) -> bool:
        """Whether this call finds out if the gateway works again."""
        return bool(self._probe_id)

    def settle(self, outcome: Outcome, duration_seconds: float) -> None:
        """Tell how the call ended. A second word changes nothing."""
        plain = type(outcome) is Charged and self._open and not self._probe_id and not self._ramped
        if plain and duration_seconds < self._breakers.policy.slow_call_seconds and self._breakers._went_well(self._cell, self._revision):
            self._open = False
            return
        late = duration_seconds >= self._breakers.policy.slow_call_seconds
        heard = heard_from(outcome, late=late, probe=self.is_probe)
        self._end(heard, outcome.retry_after_seconds if isinstance(outcome, NotCharged) else None)

    def abandon(self) -> None:
        """The call was cancelled, or never made: it says nothing about the gateway."""
        self._end(None, None)

    def _end(self, heard: Heard | None, retry_after_seconds: float | None) -> None:
        if self._open:
            self._open = False
            self._breakers._ended(self._cell, self._revision, self._probe_id, heard, retry_after_seconds, ramped=self._ramped)


@dataclass(frozen=True, slots=True)
class BreakerView:
    """One breaker as a desk or a report shows it. Times are wall clock, seconds since the epoch.

    Attributes:
        until: when an open one is tried, or a person's word ends; None for neither.
        rate: charges a second that the ramp allows after an outage; None at other times.
    """

    gateway: str
    kind: str
    label: Label
    revision: int
    why: str
    trips: int
    until: float | None
    throttled_until: float | None
    forced_reason: str
    rate: float | None


class Breakers:
    """The breakers of this process."""

    def __init__(
        self, policy: BreakerPolicy, clock: Clock, *, bus: Bus | None = None, jitter: Callable[[], float] = random.random
    ) -> None:
        self.policy = policy
        self._half_window = policy.window_seconds / 2
        self._clock = clock
        self._bus = bus
        self._jitter = jitter
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._listeners: tuple[pybreaker.CircuitBreakerListener, ...] = ()
        self._lock = threading.RLock()
        # unique among the processes that may share a state one day
        self._probe_ids = map(f"{secrets.token_hex(4)}-{{}}".format, itertools.count(1))

    def admit(self, gateway: str, kind: str, *, queued: bool = False, operation_id: str = "") -> Ticket | Rejected:
        """Whether a call of *kind* may be made at *gateway*, now.

        Args:
            queued: no shopper waits for it.
            operation_id: which order it is for, so that one that fails by itself does not probe again and again.
        """
        cell = self._cells.get((gateway, kind)) or self._cell(gateway, kind)
        state = cell.state
        if state.label is Label.CLOSED and cell.ramp is None and not queued and state.forced is None and not state.throttled_until:
            return Ticket(self, cell, state.revision)
        silent_seconds = silence(state, self.policy, self._clock.now())
        if silent_seconds > 0:
            return Rejected(silent_seconds)
        with self._lock:
            return self._admit(cell, queued=queued, operation_id=operation_id)

    def room(self, gateway: str, kind: str = RAMPED_KIND) -> int:
        """How many queued orders might start a call now: what a worker should take at most. Books nothing."""
        cell = self._cells.get((gateway, kind))
        if cell is None or kind != RAMPED_KIND:
            return ROOM_MAX
        now = self._clock.now()
        if silence(cell.state, self.policy, now) > 0:
            return 0
        if label_now(cell.state, now) is not Label.CLOSED:
            return self.policy.probes_max - len(cell.state.probes)
        return room(cell.ramp, now, queued=True) if cell.ramp is not None else ROOM_MAX

    def force(self, gateway: str, kind: str, label: Label | None, *, reason: str = "", seconds: float = 0.0) -> None:
        """A person's word: open or closed for *seconds*, whatever is heard; None takes it back.

        Raises:
            ValueError: half-open, no reason, or no end.
        """
        with self._lock:
            cell = self._cells.get((gateway, kind)) or self._cell(gateway, kind)
            now = self._clock.now()
            state = lift(cell.state) if label is None else force(cell.state, label, now, reason=reason, seconds=seconds)
            self._swap(cell, state, now)

    def states(self) -> tuple[BreakerView, ...]:
        """Every breaker that was ever asked, by gateway and kind."""
        now = self._clock.now()
        return tuple(_view(cell, now) for _, cell in sorted(self._cells.items()))

    def listen(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Have *listener* hear every change of a label, of present and future breakers. What it raises stays here."""
        quiet = _Quiet(listener)
        with self._lock:
            self._listeners = (*self._listeners, quiet)
            for cell in self._cells.values():
                cell.circuit.add_listener(quiet)

    def _cell(self, gateway: str, kind: str) -> _Cell:
        with self._lock:
            circuit = pybreaker.CircuitBreaker(
                name=f"{gateway} {kind}",
                state_storage=pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED),
                throw_new_error_on_trip=False,
                listeners=self._listeners,
            )
            return self._cells.setdefault((gateway, kind), _Cell(gateway, kind, circuit))

    def _admit(self, cell: _Cell, *, queued: bool, operation_id: str) -> Ticket | Rejected:
        now = self._clock.now()
        probe_id = next(self._probe_ids) if cell.state.label is not Label.CLOSED else ""
        admission, state = admit(cell.state, self.policy, now, probe_id=probe_id, queued=queued, operation_id=operation_id)
        self._swap(cell, state, now)
        match admission.verdict:
            case Verdict.REJECTED:
                return Rejected(admission.retry_after_seconds)
            case Verdict.PROBE:
                return Ticket(self, cell, state.revision, probe_id)
            case Verdict.ADMITTED:
                return self._ramp(cell, now, queued=queued)
            case _:
                assert_never(admission.verdict)

    def _ramp(self, cell: _Cell, now: float, *, queued: bool) -> Ticket | Rejected:
        if cell.ramp is not None and is_over(cell.ramp, now):
            cell.recovering = False
            cell.ramp = cell.ramp if now - cell.ramp.queued_at <= RAMP_CALM_SECONDS else None  # a queue keeps its pace
        if cell.ramp is None and queued and cell.kind == RAMPED_KIND:
            cell.ramp = begin_ramp(now)
        if cell.ramp is None or not (queued or cell.recovering):
            return Ticket(self, cell, cell.state.revision)
        cell.ramp, allowed = allow(cell.ramp, now, queued=queued)
        return Ticket(self, cell, cell.state.revision, ramped=True) if allowed else Rejected(RAMP_ASK_AGAIN_SECONDS, by_ramp=True)

    def _went_well(self, cell: _Cell, revision: int) -> bool:
        """Count a good answer of a closed breaker in passing, as almost every one is. False: it has to be looked at."""
        state = cell.state
        if state.label is not Label.CLOSED or state.failures or state.revision != revision or state.forced or cell.ramp:
            return False
        if not 0 <= self._clock.now() - state.now_counts.since < self._half_window:
            return False
        cell.well += 1  # two threads may lose one of the other's: a rate is none the worse for it
        return True

    def _ended(
        self, cell: _Cell, revision: int, probe_id: str, heard: Heard | None, retry_after_seconds: float | None, *, ramped: bool
    ) -> None:
        with self._lock:
            now = self._clock.now()
            if cell.well:
                counts, cell.well = replace(cell.state.now_counts, calls=cell.state.now_counts.calls + cell.well), 0
                cell.state = replace(cell.state, now_counts=counts)
            if ramped and cell.ramp is not None and heard is not None:
                failed = heard in (Heard.FAILURE, Heard.THROTTLED)
                cell.ramp = went_badly(cell.ramp, now) if failed else went_well(cell.ramp, now)
            state = record(
                cell.state,
                self.policy,
                now,
                revision=revision,
                probe_id=probe_id,
                heard=heard or Heard.NEUTRAL,
                retry_after_seconds=retry_after_seconds,
                jitter=self._jitter(),
            )
            self._swap(cell, state, now)

    def _swap(self, cell: _Cell, state: BreakerState, now: float) -> None:
        """Keep the new state; when its label is another, tell pybreaker, and by it every listener."""
        if state is cell.state:
            return
        cell.state = state
        before, label = cell.label, label_now(state, now)
        if label is before:
            return
        cell.label = label
        if label is Label.CLOSED and cell.kind == RAMPED_KIND:
            # where a probe closed it, that was this second's charge
            cell.ramp, cell.recovering = begin_ramp(now, after_seconds=1.0 if before is Label.HALF_OPEN else 0.0), True
        self._announce(cell, now)
        _CHANGES[label](cell.circuit)

    def _announce(self, cell: _Cell, now: float) -> None:
        if self._bus is None:
            return
        state, forced = cell.state, forced_now(cell.state, now)
        detail: dict[str, Any] = {"gateway": cell.gateway, "kind": cell.kind, "revision": state.revision}
        if cell.label is not Label.HALF_OPEN:
            detail["forced"] = forced is not None
        if cell.label is Label.OPEN:
            detail["why"] = forced.reason if forced is not None else state.why
            detail["open_seconds"] = round((forced.until if forced is not None else state.opened_until) - now, 3)
        self._bus.emit(Event(_EVENTS[cell.label], at=now, detail=detail))


@dataclass(slots=True)
class _Cell:
    """One breaker in this process: the state that counts, the label that was told, and its ramp.

    Attributes:
        well: good answers that were counted in passing since `state` was last looked at.
        recovering: the ramp follows an outage, so that live checkouts go by it, too.
    """

    gateway: str
    kind: str
    circuit: pybreaker.CircuitBreaker
    state: BreakerState = BreakerState()  # noqa: RUF009 - frozen
    label: Label = Label.CLOSED
    ramp: Ramp | None = None
    recovering: bool = False
    well: int = 0


def heard_from(outcome: Outcome, *, late: bool, probe: bool) -> Heard:
    """What an outcome says about the gateway. It never says anything about the shopper's card."""
    match outcome:
        case Charged() | Refunded() | NeedsShopper():
            return Heard.SLOW if late else Heard.OK
        case Declined():
            # a gateway that can say "declined" works: enough for a probe, but declines neither open nor keep closed
            return Heard.OK if probe else Heard.NEUTRAL
        case NotCharged(retryable=True, why=why, retry_after_seconds=seconds):
            return Heard.THROTTLED if seconds is not None or why == "throttled" else Heard.FAILURE
        case NotCharged():
            return Heard.NEUTRAL  # about this one order, or about our own side: a probe has to find out more
        case Unknown(why=why):
            return Heard.OK if why in ANSWERED else Heard.FAILURE
        case _:
            assert_never(outcome)


class _Quiet(pybreaker.CircuitBreakerListener):
    """A listener whose failures stay with it: a checkout may not fail because somebody wanted to hear of it."""

    def __init__(self, listener: pybreaker.CircuitBreakerListener) -> None:
        self._listener = listener

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        try:
            self._listener.state_change(cb, old_state, new_state)
        except Exception as error:  # noqa: BLE001 - a listener may fail in any way
            _log.error("breaker listener %s failed with %s", type(self._listener).__qualname__, type(error).__name__)


_EVENTS = {Label.OPEN: "breaker.opened", Label.HALF_OPEN: "breaker.half_opened", Label.CLOSED: "breaker.closed"}
_CHANGES: dict[Label, Callable[[pybreaker.CircuitBreaker], object]] = {
    Label.OPEN: pybreaker.CircuitBreaker.open,
    Label.HALF_OPEN: pybreaker.CircuitBreaker.half_open,
    Label.CLOSED: pybreaker.CircuitBreaker.close,
}


def _view(cell: _Cell, now: float) -> BreakerView:
    state, forced, label = cell.state, forced_now(cell.state, now), label_now(cell.state, now)
    until = forced.until if forced is not None else state.opened_until if label is Label.OPEN else None
    return BreakerView(
        gateway=cell.gateway,
        kind=cell.kind,
        label=label,
        revision=state.revision,
        why=state.why,
        trips=state.trips,
        until=until,
        throttled_until=state.throttled_until if state.throttled_until > now else None,
        forced_reason=forced.reason if forced is not None else "",
        rate=round(cell.ramp.rate, 1) if cell.ramp is not None and cell.recovering and not is_over(cell.ramp, now) else None,
    )
