"""When to stop calling a gateway, and how to find out that it works again. Frozen values and pure functions.

    closed --too many failures--> open --its time is over--> half-open --enough probes went well--> closed
                                   ^                            |
                                   +------- a probe failed -----+

Each change of the label counts the *revision* up; an answer to a call that was let through under an older revision
changes nothing, so thirty stragglers make one transition. Half-open lets through a few *probes*, each leased until a
time that nothing lengthens: when its holder dies, another may probe. Queued orders probe first, since nobody waits for
them; but every third probe is a live checkout, and no order probes twice running, so that an order which itself makes
the gateway fail cannot keep the shop closed. Either may take the other's turn when it is left for a second.

Declines and cancelled calls are neutral: they say nothing against the gateway. Times may be wall clock, so that
processes can share a state; every end that lies further away than it ever could (the clock went back) is taken as past.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from cxguard.core.breaker_policy import BreakerPolicy as BreakerPolicy  # part of what is asked for here


class Label(StrEnum):
    """What the breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Verdict(StrEnum):
    """What a call was told."""

    ADMITTED = "admitted"
    PROBE = "probe"
    REJECTED = "rejected"


class Heard(StrEnum):
    """What the end of a call says about the gateway."""

    OK = "ok"
    SLOW = "slow"  # answered well, but later than `slow_call_seconds`
    FAILURE = "failure"
    THROTTLED = "throttled"  # a failure that names when to come back
    NEUTRAL = "neutral"  # a decline, a cancelled call: nothing about the gateway


@dataclass(frozen=True, slots=True)
class Counts:
    """What was heard in one half of the window."""

    since: float = 0.0
    calls: int = 0
    failures: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """One test call that is under way."""

    id: str
    until: float


@dataclass(frozen=True, slots=True)
class Forced:
    """A person's word: open or closed, whatever is heard, until a time.

    Attributes:
        by: who said so.
    """

    label: Label
    reason: str
    until: float
    by: str = ""


@dataclass(frozen=True, slots=True)
class BreakerState:
    """One breaker. Times are seconds on the clock that is passed in.

    Attributes:
        revision: counts the changes of the label (and of a person's word).
        why: the reason of the last change, a short code.
        failures: failures in a row.
        now_counts, last_counts: the running half of the window and the one before.
        opened_until, closed_at: the end of the pause; when it last closed.
        trips: how often it opened without being well for a while in between.
        probes: under way.
        probed, probes_well: how many were begun since it was last closed; how many ended well since it is half-open.
        turn_at: from when on the next probe is kept for whose turn it is.
        probed_order, probed_at: which order probed last, and when.
        throttled_until: the gateway asked for silence until then.
    """

    label: Label = Label.CLOSED
    revision: int = 1
    why: str = ""
    failures: int = 0
    now_counts: Counts = field(default_factory=Counts)
    last_counts: Counts = field(default_factory=Counts)
    opened_until: float = 0.0
    closed_at: float = 0.0
    trips: int = 0
    probes: tuple[Probe, ...] = ()
    probed: int = 0
    probes_well: int = 0
    turn_at: float = 0.0
    probed_order: str = ""
    probed_at: float = 0.0
    throttled_until: float = 0.0
    forced: Forced | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What a call was told; when rejected, how soon asking again may help."""

    verdict: Verdict
    retry_after_seconds: float = 0.0


ADMITTED = Admission(Verdict.ADMITTED)
PROBE = Admission(Verdict.PROBE)
FORCED_SECONDS_MAX = 7 * 86_400.0  # a word that nobody remembers must not keep a shop closed, or unguarded
FORCED_LEFT_MAX = FORCED_SECONDS_MAX + 86_400.0  # seen from a clock that was set back a little meanwhile
PROBE_BUSY_SECONDS = 1.0  # a probe takes about so long


def admit(
    state: BreakerState, policy: BreakerPolicy, now: float, *, probe_id: str, queued: bool = False, operation_id: str = ""
) -> tuple[Admission, BreakerState]:
    """Whether a call may go. Pure: the caller keeps the returned state, and the revision in it for `record`.

    Args:
        probe_id: unique; becomes the probe's name if this call is one.
        queued: nobody waits for this call.
        operation_id: which order it is for; "" for one without a name.
    """
    if state.label is Label.CLOSED and state.forced is None and not state.throttled_until:
        return ADMITTED, state
    silent_seconds = silence(state, policy, now)
    if silent_seconds > 0:
        return Admission(Verdict.REJECTED, silent_seconds), state
    if forced_now(state, now) is not None:
        return ADMITTED, state
    state = replace(state, forced=None) if state.forced is not None else state
    match state.label:
        case Label.CLOSED:
            return ADMITTED, replace(state, throttled_until=0.0)
        case Label.OPEN:
            state = _half_opened(state, now)
        case Label.HALF_OPEN:
            state = _without_lapsed(state, policy, now)
    return _probe(state, policy, now, probe_id=probe_id, queued=queued, operation_id=operation_id)


def silence(state: BreakerState, policy: BreakerPolicy, now: float) -> float:
    """For how many seconds no call may go at all: open, throttled, or by a person's word. 0: `admit` has to decide."""
    forced = forced_now(state, now)
    if forced is not None:
        return forced.until - now if forced.label is Label.OPEN else 0.0
    until = state.opened_until if state.label is Label.OPEN else state.throttled_until
    left = until - now
    # an end further away than any could be: the clock was set back
    return left if 0 < left <= max(policy.open_seconds_max, policy.throttle_seconds_max) else 0.0


def record(
    state: BreakerState,
    policy: BreakerPolicy,
    now: float,
    *,
    revision: int,
    probe_id: str,
    heard: Heard,
    retry_after_seconds: float | None = None,
    jitter: float = 0.0,
    beside: bool = False,
    times: int = 1,
    may_open: bool = True,
) -> BreakerState:
    """What the end of a call changes.

    Args:
        revision: that of the state when the call was admitted: an older one changes nothing.
        probe_id: as given to `admit`; "" for a call that was no probe.
        retry_after_seconds: what a throttling gateway asked for.
        jitter: 0 to 1; shortens the pause by up to a fifth, so that processes do not probe in step.
        beside: another method of the same gateway is not closed, so that this one's failures weigh more.
        times: so many calls in a row ended like this.
        may_open: a closed one that has heard too much opens; otherwise it goes on counting.
    """
    if revision != state.revision:
        return state
    if heard is Heard.THROTTLED:
        state = _throttled(state, policy, now, retry_after_seconds)
    if forced_now(state, now) is not None:
        return state
    if state.label is Label.CLOSED:
        state = _heard_closed(state, policy, now, heard=heard, times=times)
        why = _too_much(state, policy, beside=beside) if may_open and heard is not Heard.NEUTRAL else ""
        return _opened(state, policy, now, why=why, jitter=jitter) if why else state
    if state.label is Label.HALF_OPEN and any(probe.id == probe_id for probe in state.probes):
        return _heard_probe(state, policy, now, probe_id=probe_id, heard=heard, jitter=jitter)
    return state


def force(state: BreakerState, label: Label, now: float, *, reason: str, seconds: float, by: str = "") -> BreakerState:
    """A person's word for *seconds*: open or closed. What was under way no longer counts.

    Raises:
        ValueError: half-open cannot be forced, a reason is needed, and an end.
    """
    if label is Label.HALF_OPEN:
        raise ValueError("a breaker can be forced open or closed: half-open it becomes by itself")
    if not reason.strip() or not 0 < seconds <= FORCED_SECONDS_MAX:
        raise ValueError("give the reason, and for how long, a week at most: the next person on duty will ask")
    return replace(state, forced=Forced(label, reason, now + seconds, by), revision=state.revision + 1, probes=())


def lift(state: BreakerState) -> BreakerState:
    """Take a person's word back: the breaker goes on as it was before."""
    return state if state.forced is None else replace(state, forced=None, revision=state.revision + 1, probes=())


def forced_now(state: BreakerState, now: float) -> Forced | None:
    """The person's word that holds at *now*, or None. One that would hold longer than any may is no person's."""
    return state.forced if state.forced is not None and now < state.forced.until <= now + FORCED_LEFT_MAX else None


def label_now(state: BreakerState, now: float) -> Label:
    """What the breaker does with calls at *now*: a person's word first."""
    forced = forced_now(state, now)
    return forced.label if forced is not None else state.label


# --- letting a call through


def _probe(
    state: BreakerState, policy: BreakerPolicy, now: float, *, probe_id: str, queued: bool, operation_id: str
) -> tuple[Admission, BreakerState]:
    if len(state.probes) >= policy.probes_max:
        return Admission(Verdict.REJECTED, PROBE_BUSY_SECONDS), state
    live_turn = state.probed % 3 == 2
    same_order = bool(operation_id) and operation_id == state.probed_order
    wait_seconds = max(
        _left(state.probed_at + policy.probe_pause_seconds, now, policy.probe_pause_seconds),
        _left(state.probed_at + policy.same_order_seconds, now, policy.same_order_seconds) if same_order else 0.0,
        _left(state.turn_at + policy.turn_seconds, now, policy.probe_pause_seconds + policy.turn_seconds) if queued is live_turn else 0.0,
    )
    if wait_seconds > 0:
        return Admission(Verdict.REJECTED, wait_seconds), state
    return PROBE, replace(
        state,
        probes=(*state.probes, Probe(probe_id, now + policy.probe_lease_seconds)),
        probed=state.probed + 1,
        probed_order=operation_id,
        probed_at=now,
        turn_at=now + policy.probe_pause_seconds,
    )


def _without_lapsed(state: BreakerState, policy: BreakerPolicy, now: float) -> BreakerState:
    """A probe whose lease is over is lost: its holder died or hangs. Its place is free since then."""
    alive = tuple(probe for probe in state.probes if _left(probe.until, now, policy.probe_lease_seconds) > 0)
    return state if len(alive) == len(state.probes) else replace(state, probes=alive, turn_at=now)


def _half_opened(state: BreakerState, now: float) -> BreakerState:
    """Who probed last, and whose turn is next, outlive the pause: that order may have made the last probe fail."""
    return replace(state, label=Label.HALF_OPEN, revision=state.revision + 1, why="pause_over", probes=(), probes_well=0, turn_at=now)


def _left(until: float, now: float, seconds_max: float) -> float:
    """Seconds until *until*; none when it is past, or so far off that the clock must have gone back."""
    left = until - now
    return left if 0 < left <= seconds_max else 0.0


# --- hearing how a call ended


def _heard_closed(state: BreakerState, policy: BreakerPolicy, now: float, *, heard: Heard, times: int) -> BreakerState:
    if heard is Heard.NEUTRAL:
        return state
    failed = times if heard in (Heard.FAILURE, Heard.THROTTLED) else 0
    slow = times if heard is Heard.SLOW else 0
    so_far, last_counts = _counts(state, policy, now)
    now_counts = Counts(so_far.since, so_far.calls + times, so_far.failures + failed, so_far.slow + slow)
    return replace(state, failures=state.failures + failed if failed else 0, now_counts=now_counts, last_counts=last_counts)


def _counts(state: BreakerState, policy: BreakerPolicy, now: float) -> tuple[Counts, Counts]:
    """The two halves of the window at *now*: the running one becomes the last one when its time is over."""
    half = policy.window_seconds / 2
    age = now - state.now_counts.since
    if 0 <= age < half:
        return state.now_counts, state.last_counts
    return Counts(now), state.now_counts if half <= age < 2 * half else Counts()


def _too_much(state: BreakerState, policy: BreakerPolicy, *, beside: bool) -> str:
    """Why it has to open, or ""."""
    if beside and state.failures >= policy.failures_beside:
        return "failures_beside"
    if state.failures >= policy.consecutive_failures:
        return "consecutive_failures"
    calls = state.now_counts.calls + state.last_counts.calls
    if calls < policy.calls_min:
        return ""
    if state.now_counts.failures + state.last_counts.failures >= policy.failure_rate * calls:
        return "failure_rate"
    return "slow_rate" if state.now_counts.slow + state.last_counts.slow >= policy.slow_rate * calls else ""


def _heard_probe(state: BreakerState, policy: BreakerPolicy, now: float, *, probe_id: str, heard: Heard, jitter: float) -> BreakerState:
    if heard in (Heard.FAILURE, Heard.THROTTLED):
        return _opened(state, policy, now, why="probe_failed", jitter=jitter)
    others = tuple(probe for probe in state.probes if probe.id != probe_id)
    state = replace(state, probes=others, turn_at=max(now, state.probed_at + policy.probe_pause_seconds))
    if heard is Heard.NEUTRAL:
        return state
    # slow is still an answer: were it held against a probe, a slow gateway would stay closed for ever
    state = replace(state, probes_well=state.probes_well + 1)
    return _closed(state, now) if state.probes_well >= policy.probes_well else state


def _opened(state: BreakerState, policy: BreakerPolicy, now: float, *, why: str, jitter: float) -> BreakerState:
    lasting = state.label is Label.CLOSED and now - state.closed_at > policy.trips_forgotten_seconds
    trips = 1 if lasting else state.trips + 1
    pause = min(policy.open_seconds * 2.0 ** min(trips - 1, 30), policy.open_seconds_max) * (1.0 - 0.2 * jitter)
    return replace(
        state,
        label=Label.OPEN,
        revision=state.revision + 1,
        why=why,
        failures=0,
        now_counts=Counts(now),
        last_counts=Counts(),
        opened_until=max(now + pause, state.throttled_until),
        trips=trips,
        probes=(),
    )


def _closed(state: BreakerState, now: float) -> BreakerState:
    """As at first, but for how often it tripped, and a person's word."""
    return BreakerState(
        revision=state.revision + 1,
        why="probes_went_well",
        now_counts=Counts(now),
        closed_at=now,
        trips=state.trips,
        forced=state.forced,
    )


def _throttled(state: BreakerState, policy: BreakerPolicy, now: float, seconds: float | None) -> BreakerState:
    """A later word never shortens the silence that an earlier one asked for."""
    asked = policy.throttle_seconds if seconds is None else seconds
    until = now + min(max(asked, 0.0), policy.throttle_seconds_max)
    return replace(state, throttled_until=max(until, min(state.throttled_until, now + policy.throttle_seconds_max)))
