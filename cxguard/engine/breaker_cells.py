"""One breaker as it lives in a process: its state, its label for pybreaker's listeners, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pybreaker

from cxguard.core.breaker import BreakerState, Forced, Heard, Label, forced_now, label_now
from cxguard.core.breaker_shared import Name, Told
from cxguard.core.schedule import Ramp, is_over
from cxguard.engine.breaker_tickets import OVER, Calm

TOLD_MAX = 100  # runs of outcomes that wait to be told to the other processes; older ones say little by then

_log = logging.getLogger("cxguard.breakers")

EVENTS = {Label.OPEN: "breaker.opened", Label.HALF_OPEN: "breaker.half_opened", Label.CLOSED: "breaker.closed"}
CHANGES: dict[Label, Callable[[pybreaker.CircuitBreaker], object]] = {
    Label.OPEN: pybreaker.CircuitBreaker.open,
    Label.HALF_OPEN: pybreaker.CircuitBreaker.half_open,
    Label.CLOSED: pybreaker.CircuitBreaker.close,
}


@dataclass(slots=True, eq=False)
class Cell:
    """The state that counts, the label that was told, and the ramp.

    Attributes:
        era: counts the revisions that this process has seen: a ticket of an older one changes nothing.
        calm: while all is well, see there; None when a call has to be looked at.
        silent_until: monotonic; until then every call is turned away without a further look.
        recovering: the ramp follows an outage, so that live checkouts go by it, too.
        would_reject: calls that a breaker in shadow let through, and would have turned away.
        base: the state of all processes that `state` came from. Another revision there: this process goes its own way.
        told: what the others have not been told yet.
        leasing: a probe is being asked of the store.
    """

    gateway: str
    kind: str
    method: str
    circuit: pybreaker.CircuitBreaker
    state: BreakerState = BreakerState()  # noqa: RUF009 - frozen
    label: Label = Label.CLOSED
    ramp: Ramp | None = None
    era: int = 1
    calm: Calm | None = None
    silent_until: float = 0.0
    recovering: bool = False
    would_reject: int = 0
    base: BreakerState = BreakerState()  # noqa: RUF009 - frozen
    told: list[Told] = field(default_factory=list)
    leasing: bool = False

    @property
    def name(self) -> Name:
        """Gateway, kind and method."""
        return self.gateway, self.kind, self.method

    @property
    def apart(self) -> bool:
        """Whether it goes another way than all processes do, by its own rule."""
        return self.state.revision != self.base.revision

    def end_calm(self) -> None:
        """Count what went well in passing."""
        calm, self.calm = self.calm, None
        if calm is None:
            return
        calm.ends, well = OVER, calm.well
        if well:
            counts = replace(self.state.now_counts, calls=self.state.now_counts.calls + well)
            self.state = replace(self.state, now_counts=counts)
            self.tell(Told(Heard.OK, well))

    def tell(self, told: Told) -> None:
        """Keep it for the others, in order; calls in a row that ended alike are one."""
        last = self.told[-1] if self.told else None
        if last is not None and not (last.probe_id or told.probe_id) and last.heard is told.heard is not Heard.THROTTLED:
            self.told[-1] = replace(last, times=last.times + told.times)
        else:
            self.told.append(told)
            del self.told[:-TOLD_MAX]


def new_cell(
    names: tuple[str, str, str],
    *,
    shadow: bool,
    forced: Forced | None,
    listeners: tuple[pybreaker.CircuitBreakerListener, ...],
) -> Cell:
    """A closed one.

    Args:
        names: gateway, kind, method.
        forced: a person's word that holds for its gateway and kind already.
    """
    circuit = pybreaker.CircuitBreaker(
        name=" ".join(filter(None, (*names, "(shadow)" if shadow else ""))),
        state_storage=pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED),
        throw_new_error_on_trip=False,
        listeners=listeners,
    )
    label = forced.label if forced is not None else Label.CLOSED
    return Cell(*names, circuit, BreakerState(forced=forced), label)


@dataclass(frozen=True, slots=True)
class BreakerView:
    """One breaker as a desk or a report shows it. Times are wall clock, seconds since the epoch.

    Attributes:
        method: of payment; empty for calls without one.
        until: when an open one is tried, or a person's word ends; None for neither.
        rate: charges a second that the ramp allows after an outage; None at other times.
        forced_reason, forced_by: a person's word, and whose it is; empty without one.
        apart: only this process has it so: what it saw did not convince the others.
        shadow: it only tells, and rejects nothing.
        would_reject: how many calls it would have turned away, were it not in shadow.
    """

    gateway: str
    kind: str
    method: str
    label: Label
    revision: int
    why: str
    trips: int
    until: float | None
    throttled_until: float | None
    forced_reason: str
    forced_by: str
    apart: bool
    rate: float | None
    shadow: bool
    would_reject: int


def view_of(cell: Cell, now: float, *, shadow: bool, shared: bool) -> BreakerView:
    """The cell as it is *now*; *shared* with other processes."""
    state, forced, label = cell.state, forced_now(cell.state, now), label_now(cell.state, now)
    until = forced.until if forced is not None else state.opened_until if label is Label.OPEN else None
    return BreakerView(
        gateway=cell.gateway,
        kind=cell.kind,
        method=cell.method,
        label=label,
        revision=state.revision,
        why=state.why,
        trips=state.trips,
        until=until,
        throttled_until=state.throttled_until if state.throttled_until > now else None,
        forced_reason=forced.reason if forced is not None else "",
        forced_by=forced.by if forced is not None else "",
        apart=shared and cell.apart,
        rate=round(cell.ramp.rate, 1) if cell.ramp is not None and cell.recovering and not is_over(cell.ramp, now) else None,
        shadow=shadow,
        would_reject=cell.would_reject,
    )


def change_told(cell: Cell, now: float, *, shadow: bool) -> dict[str, Any]:
    """The members of the event for the label that *cell* has got."""
    state, forced = cell.state, forced_now(cell.state, now)
    detail: dict[str, Any] = {"gateway": cell.gateway, "kind": cell.kind, "revision": state.revision}
    if cell.method:
        detail["method"] = cell.method
    if shadow:
        detail |= {"shadow": True, "would_reject": cell.would_reject}
    if cell.label is not Label.HALF_OPEN:
        detail["forced"] = forced is not None
        detail |= {"by": forced.by} if forced is not None and forced.by else {}
    if cell.label is Label.OPEN:
        detail["why"] = forced.reason if forced is not None else state.why
        until = forced.until if forced is not None else state.opened_until
        detail["open_seconds"] = round(max(0.0, until - now), 3)  # whoever hears of it late has none left
    return detail


class QuietListener(pybreaker.CircuitBreakerListener):
    """A listener whose failures stay with it: a checkout may not fail because somebody wanted to hear of it."""

    def __init__(self, listener: pybreaker.CircuitBreakerListener) -> None:
        self._listener = listener

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        try:
            self._listener.state_change(cb, old_state, new_state)
        except Exception as error:  # noqa: BLE001 - a listener may fail in any way
            _log.error("breaker listener %s failed with %s", type(self._listener).__qualname__, type(error).__name__)
