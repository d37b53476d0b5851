"""One breaker for each gateway, kind of call and, where the shop names it, method: an open `charge` must not block `find` or
`refund`, and card payments that fail must not block direct debits.

A call is asked of one breaker alone, and what comes of it is heard by that one: so a method can only be closed by its own
failures. But while another method of the gateway is not closed, two of them in a row are enough (`failures_beside`): when the
whole gateway is away, the first method needs five failures, and every other one two. A person's word about a gateway and
kind holds for all its methods. In *shadow* (`BreakerPolicy(shadow=True)`) breakers count, change and tell as ever, and
reject nothing; only a person's word does, and the pace of the queue stays.

`core.breaker` decides, on one frozen state for each; here are only the dict that holds them, the clock and the jitter.
pybreaker carries the label and tells listeners of its changes; it never runs a call. A call asks with `admit`, before
it leaves, and hands its ticket back with `settle` or `abandon`. Admitting does no I/O and takes under a microsecond.

After an outage charges come back by a ramp (`core.schedule`): live checkouts and queued orders together, the live ones
first. Queued orders go by a ramp of their own at other times, too, so that a long queue never falls on a gateway at once.
"""

from __future__ import annotations

import itertools
import random
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, assert_never

import pybreaker

from cxguard.clock import Clock
from cxguard.core.breaker import (
    PROBE_BUSY_SECONDS,
    BreakerPolicy,
    BreakerState,
    Forced,
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
from cxguard.core.breaker_shared import FAILED, Name, Report, Told, adopted
from cxguard.core.schedule import RAMP_CALM_SECONDS, allow, begin_ramp, is_over, room, went_badly, went_well
from cxguard.engine.breaker_cells import CHANGES, EVENTS, BreakerView, Cell, QuietListener, change_told, new_cell, view_of
from cxguard.engine.breaker_tickets import OVER, Calm, CountedTicket, Ended, Wanted
from cxguard.engine.breaker_tickets import Rejected as Rejected  # part of what is asked for here
from cxguard.engine.breaker_tickets import Ticket as Ticket
from cxguard.events import Bus, Event

RAMPED_KIND = "charge"  # what a recovering gateway is spared; asking and giving back are rare
RAMP_ASK_AGAIN_SECONDS = 0.25  # for whoever was turned away by the ramp: a shopper's next try should find a place
ROOM_MAX = 1_000  # what `room` says when nothing limits: more than any worker takes at once
METHODS_MAX = 16  # of one gateway and kind, with breakers of their own: the names come from callers
METHOD_CHARS_MAX = 40
_bare = object.__new__
_NO_ERA = 0  # none has it: what is heard of a call that would have been rejected counts for nothing


class Others(Protocol):
    """The other processes, as the breakers of this one see them: by the store that all share."""

    @property
    def away(self) -> bool:
        """Nothing is known of them now: the store does not answer."""
        ...

    def wake(self) -> None:
        """There is something to tell them. From any thread; does not wait."""
        ...

    async def lease(self, wanted: Wanted) -> Ticket | Rejected:
        """Ask for a probe; answers within a moment."""
        ...


class Breakers:
    """The breakers of this process: alone, or with `share` as a copy of those of all processes."""

    def __init__(self, policy: BreakerPolicy, clock: Clock, *, bus: Bus | None = None, jitter: Callable[[], float] = random.random) -> None:
        self.policy = policy
        self._clock = clock
        self._monotonic = clock.monotonic
        self._bus = bus
        self._jitter = jitter
        self._cells: dict[tuple[str, str, str], Cell] = {}
        self._listeners: tuple[pybreaker.CircuitBreakerListener, ...] = ()
        self._lock = threading.RLock()
        self._others: Others | None = None
        # unique among the processes that share a state
        self._probe_ids = map(f"{secrets.token_hex(4)}-{{}}".format, itertools.count(1))

    def admit(self, gateway: str, kind: str, *, method: str = "", queued: bool = False, operation_id: str = "") -> Ticket | Rejected:
        """Whether a call of *kind* may be made at *gateway*, now. No I/O: for a probe that only all may grant, see `enter`.

        Args:
            method: of payment, or the acquirer, where the shop names it; each has a breaker of its own.
            queued: no shopper waits for it.
            operation_id: which order it is for, so that one that fails by itself does not probe again and again.
        """
        cell = self._cells.get((gateway, kind, method)) or self._cell(gateway, kind, method)
        calm = cell.calm
        if calm is not None and not queued:
            ticket = _bare(Ticket)  # and not Ticket(calm): a call of a class costs as much as all the rest of this
            ticket._calm = calm
            return ticket
        silent_seconds = cell.silent_until - self._monotonic()
        if silent_seconds > 0:
            return Rejected(silent_seconds)
        with self._lock:
            answer = self._admit(cell, queued=queued, operation_id=operation_id)
            self._look_ahead(cell)
            return answer

    async def enter(self, gateway: str, kind: str, *, method: str = "", queued: bool = False, operation_id: str = "") -> Ticket | Rejected:
        """As `admit`; and where the call may be a probe, ask the store for one, which takes a moment at most."""
        answer = self.admit(gateway, kind, method=method, queued=queued, operation_id=operation_id)
        if isinstance(answer, Rejected) and answer.wanted is not None and self._others is not None:
            return await self._others.lease(answer.wanted)
        return answer

    def room(self, gateway: str, kind: str = RAMPED_KIND) -> int:
        """How many queued orders might start a call now: what a worker should take at most. Books nothing."""
        if kind != RAMPED_KIND:
            return ROOM_MAX
        return max((self._room(cell, self._clock.now()) for cell in self._family(gateway, kind)), default=ROOM_MAX)

    def _room(self, cell: Cell, now: float) -> int:
        if not self.policy.shadow or forced_now(cell.state, now) is not None:
            if silence(cell.state, self.policy, now) > 0:
                return 0
            if label_now(cell.state, now) is not Label.CLOSED:
                return self.policy.probes_max - len(cell.state.probes)
        return room(cell.ramp, now, queued=True) if cell.ramp is not None else ROOM_MAX

    def force(
        self, gateway: str, kind: str, label: Label | None, *, method: str | None = None, reason: str = "", seconds: float = 0.0
    ) -> None:
        """A person's word: open or closed for *seconds*, whatever is heard; None takes it back.

        Args:
            method: for this one alone; None: for every method, also those that come.

        Raises:
            ValueError: half-open, no reason, or no end.
        """
        with self._lock:
            own = self._cell(gateway, kind, method or "")
            now = self._clock.now()
            for cell in [own] if method is not None else self._family(gateway, kind):
                state = lift(cell.state) if label is None else force(cell.state, label, now, reason=reason, seconds=seconds)
                self._swap(cell, state, now)
                self._look_ahead(cell)

    def states(self) -> tuple[BreakerView, ...]:
        """Every breaker that was ever asked, by gateway, kind and method."""
        now = self._clock.now()
        shared = self._others is not None
        return tuple(view_of(cell, now, shadow=self.policy.shadow, shared=shared) for _, cell in sorted(self._cells.items()))

    # --- sharing

    def share(self, others: Others | None) -> None:
        """Go by what all processes know from now on, and tell them what is heard; None: alone again."""
        with self._lock:
            self._others = others
            for cell in self._cells.values():
                cell.told.clear()

    def reports(self) -> tuple[Report, ...]:
        """What was heard and not told yet; it is forgotten here."""
        with self._lock:
            found = []
            for name, cell in self._cells.items():
                self._look_ahead(cell)
                if cell.told:
                    found.append(Report(name, cell.base.revision, tuple(cell.told)))
                    cell.told.clear()
            return tuple(found)

    def known(self) -> dict[Name, BreakerState]:
        """What all processes were last known to go by."""
        return {name: cell.base for name, cell in tuple(self._cells.items()) if cell.base.revision > 1}

    def names(self) -> tuple[Name, ...]:
        """Every breaker that was ever asked here."""
        return tuple(self._cells)

    def tell(self, cell: Cell, told: Told) -> None:
        """Keep something for the other processes."""
        with self._lock:
            cell.tell(told)

    def adopt(self, states: dict[Name, BreakerState], *, all_told: bool = True) -> None:
        """Hear how the breakers of all processes stand, on this one's clock.

        Args:
            all_told: they know of everything that `reports` has given out.
        """
        with self._lock:
            now = self._clock.now()
            for name, state in states.items():
                cell = self._cells.get(name) or self._new_cell(name, None)
                cell.end_calm()
                own, base = cell.state, cell.base
                cell.base = state
                if state.revision != base.revision:
                    cell.told = [told for told in cell.told if told.gives_back]
                    cell.era += 1
                self._swap(cell, adopted(own, base, state, now, since=cell.told if all_told else None), now)
                self._look_ahead(cell)

    def probe_of(self, cell: Cell, probe_id: str) -> Ticket:
        """The ticket of a probe that the store has leased."""
        return self._ticket(cell, cell.era, probe_id=probe_id)

    def probe_id(self) -> str:
        """A name for a probe, which nobody else has."""
        return next(self._probe_ids)

    def admit_alone(self, wanted: Wanted) -> Ticket | Rejected:
        """By this process's own rule, because the store did not answer."""
        with self._lock:
            answer = self._admit(wanted.cell, queued=wanted.queued, operation_id=wanted.operation_id, alone=True)
            self._look_ahead(wanted.cell)
            return answer

    def listen(self, listener: pybreaker.CircuitBreakerListener) -> None:
        """Have *listener* hear every change of a label, of present and future breakers. What it raises stays here."""
        quiet = QuietListener(listener)
        with self._lock:
            self._listeners = (*self._listeners, quiet)
            for cell in self._cells.values():
                cell.circuit.add_listener(quiet)

    def _cell(self, gateway: str, kind: str, method: str) -> Cell:
        """The breaker of a method; the gateway's own one for a name that is none, and for one too many."""
        with self._lock:
            known = self._cells.get((gateway, kind, method))
            if known is not None:
                return known
            family = self._family(gateway, kind)
            full = sum(bool(cell.method) for cell in family) >= METHODS_MAX
            if method and (full or len(method) > METHOD_CHARS_MAX or not method.isprintable()):
                return self._cell(gateway, kind, "")
            word = next((cell.state.forced for cell in family if not cell.method), None)
            return self._new_cell((gateway, kind, method), word)

    def _new_cell(self, name: Name, word: Forced | None) -> Cell:
        cell = new_cell(name, shadow=self.policy.shadow, forced=word, listeners=self._listeners)
        self._look_ahead(cell)
        return self._cells.setdefault(name, cell)

    def _family(self, gateway: str, kind: str) -> list[Cell]:
        """Every breaker of the gateway for this kind of call, whatever the method."""
        return [cell for cell in tuple(self._cells.values()) if cell.gateway == gateway and cell.kind == kind]

    def _beside(self, cell: Cell) -> bool:
        return any(other is not cell and other.state.label is not Label.CLOSED for other in self._family(cell.gateway, cell.kind))

    def _refused(self, cell: Cell, seconds: float) -> Ticket | Rejected:
        """What would be rejected goes through in shadow, and is counted. A person's word is meant, and holds."""
        if not self.policy.shadow or forced_now(cell.state, self._clock.now()) is not None:
            return Rejected(seconds)
        cell.would_reject += 1
        return self._ticket(cell, _NO_ERA)

    def _ticket(self, cell: Cell, era: int, *, probe_id: str = "", ramped: bool = False) -> Ticket:
        return CountedTicket(cell, era, self.policy.slow_call_seconds, self._ended, probe_id=probe_id, ramped=ramped)

    def _admit(self, cell: Cell, *, queued: bool, operation_id: str, alone: bool = False) -> Ticket | Rejected:
        now = self._clock.now()
        probe_id = self.probe_id() if cell.state.label is not Label.CLOSED else ""
        admission, state = admit(cell.state, self.policy, now, probe_id=probe_id, queued=queued, operation_id=operation_id)
        if state is not cell.state and state.label is not Label.CLOSED and not alone and self._is_for_all(cell):
            return Rejected(admission.retry_after_seconds or PROBE_BUSY_SECONDS, wanted=Wanted(cell, queued, operation_id))
        self._swap(cell, state, now)
        match admission.verdict:
            case Verdict.REJECTED:
                return self._refused(cell, admission.retry_after_seconds)
            case Verdict.PROBE:
                return self._ticket(cell, cell.era, probe_id=probe_id)
            case Verdict.ADMITTED:
                return self._ramp(cell, now, queued=queued)
            case _:
                assert_never(admission.verdict)

    def _is_for_all(self, cell: Cell) -> bool:
        """Whether a probe is to be leased from the store: in shadow none is kept from going, so none has to be asked for."""
        return self._others is not None and not self._others.away and not cell.apart and not self.policy.shadow

    def _ramp(self, cell: Cell, now: float, *, queued: bool) -> Ticket | Rejected:
        if cell.ramp is not None and is_over(cell.ramp, now):
            cell.recovering = False
            cell.ramp = cell.ramp if now - cell.ramp.queued_at <= RAMP_CALM_SECONDS else None  # a queue keeps its pace
        if cell.ramp is None and queued and cell.kind == RAMPED_KIND:
            cell.ramp = begin_ramp(now)
        if cell.ramp is None or not (queued or cell.recovering):
            return self._ticket(cell, cell.era)
        cell.ramp, allowed = allow(cell.ramp, now, queued=queued)
        return self._ticket(cell, cell.era, ramped=True) if allowed else Rejected(RAMP_ASK_AGAIN_SECONDS, by_ramp=True)

    def _ended(self, ended: Ended) -> None:
        with self._lock:
            cell, now = ended.cell, self._clock.now()
            cell.end_calm()
            if ended.ramped and cell.ramp is not None and ended.heard is not None:
                failed = ended.heard in (Heard.FAILURE, Heard.THROTTLED)
                cell.ramp = went_badly(cell.ramp, now) if failed else went_well(cell.ramp, now)
            if ended.era == cell.era:
                self._tell(ended)
                self._swap(cell, self._recorded(ended, now), now)
            self._look_ahead(cell)

    def _tell(self, ended: Ended) -> None:
        """Keep it for the other processes; what went wrong, and how a probe ended, they hear at once."""
        if self._others is None or ended.cell.apart or (ended.heard is None and not ended.probe_id):
            return
        heard = ended.heard or Heard.NEUTRAL
        ended.cell.tell(Told(heard, probe_id=ended.probe_id, retry_after_seconds=ended.retry_after_seconds))
        if heard in FAILED or ended.probe_id:
            self._others.wake()

    def _recorded(self, ended: Ended, now: float) -> BreakerState:
        state, base = ended.cell.state, ended.cell.base
        after = record(
            state,
            self.policy,
            now,
            revision=state.revision,
            probe_id=ended.probe_id,
            heard=ended.heard or Heard.NEUTRAL,
            retry_after_seconds=ended.retry_after_seconds,
            jitter=self._jitter(),
            beside=ended.heard is not None and self._beside(ended.cell),
        )
        back = self._others is not None and after is not state and after.label is base.label is Label.CLOSED
        return replace(after, revision=base.revision) if back else after

    def _look_ahead(self, cell: Cell) -> None:
        """Find out how the next calls can be answered without a look: let through while calm, turned away while silent."""
        cell.end_calm()
        state, now, monotonic = cell.state, self._clock.now(), self._monotonic()
        cell.silent_until = monotonic + silence(state, self.policy, now) if not self.policy.shadow else OVER
        if state.label is not Label.CLOSED or cell.ramp or state.forced or state.throttled_until or state.failures:
            return
        age = now - state.now_counts.since
        left = self.policy.window_seconds / 2 - age if age >= 0 else OVER
        cell.calm = Calm(cell, cell.era, monotonic + left, self.policy.slow_call_seconds, self._monotonic, self._ended)

    def _swap(self, cell: Cell, state: BreakerState, now: float) -> None:
        """Keep the new state; when its label is another, tell pybreaker, and by it every listener."""
        if state is cell.state:
            return
        cell.era += state.revision != cell.state.revision
        cell.state = state
        before, label = cell.label, label_now(state, now)
        if label is before:
            return
        cell.label = label
        if label is Label.CLOSED and cell.kind == RAMPED_KIND and not self.policy.shadow:
            # where a probe closed it, that was this second's charge
            cell.ramp, cell.recovering = begin_ramp(now, after_seconds=1.0 if before is Label.HALF_OPEN else 0.0), True
        if self._bus is not None:
            self._bus.emit(Event(EVENTS[label], at=now, detail=change_told(cell, now, shadow=self.policy.shadow)))
        CHANGES[label](cell.circuit)
