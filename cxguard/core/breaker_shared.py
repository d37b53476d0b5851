"""The breakers of a shop as all its processes share them: one small value, folded from what each process heard.

A process lets calls through on a copy of its own, and tells in *batches* how they ended. A batch is folded in once, however
often it is sent, and in the order in which things were heard, so that failures in a row are counted across processes.

One process alone does not stop the others: it takes `BreakerPolicy.quorum` processes whose last word is a failure, or
all that were heard of lately, if they are fewer. A process that finds the gateway away, and does not convince the
others, has perhaps lost its own network: it opens for itself, by its own copy, and goes on to report when it is well.

Probes are leased in the value itself, so that all processes together let through `probes_max`. Times here are on the
store's clock; a copy is *shifted* to the clock of its process. The revision of a breaker only grows: a store that comes
back with an older one has lost its tail, and is told what we know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from cxguard.core.breaker import Admission, BreakerPolicy, BreakerState, Counts, Heard, Label, admit, force, lift, record

Name: TypeAlias = tuple[str, str, str]  # gateway, kind, method

HEARD_LATELY_SECONDS = 15.0  # a process that has calls is heard of three times in it
BATCHES_KEPT_SECONDS = 600.0  # longer than any batch is sent again
SAID_MAX = 30  # of what people said last: for the next one on duty
BREAKERS_MAX = 200  # in one value: more are not shared; it is read whole by every process
FAILED = frozenset({Heard.FAILURE, Heard.THROTTLED})


@dataclass(frozen=True, slots=True)
class Voice:
    """What one process last said about a breaker: when, and whether that was a failure."""

    at: float
    failed: bool


@dataclass(frozen=True, slots=True)
class SharedBreaker:
    """One breaker of all processes.

    Attributes:
        voices: by process.
        more: members of another version, kept as they are.
    """

    state: BreakerState = BreakerState()  # noqa: RUF009 - frozen
    voices: Mapping[str, Voice] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Folded:
    """The newest batch of a process that was folded in, and when."""

    number: int
    at: float


@dataclass(frozen=True, slots=True)
class Said:
    """What a person did about a breaker, for the record.

    Attributes:
        label: what it was forced to be; empty: the word was taken back.
        until: its end, where it has one.
    """

    at: float
    by: str
    name: Name
    label: str
    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """Every breaker of a namespace.

    Attributes:
        batches: by process.
        said: what people did, oldest first; the last ones.
        more: members of another version, kept as they are.
    """

    breakers: Mapping[Name, SharedBreaker] = field(default_factory=dict)
    batches: Mapping[str, Folded] = field(default_factory=dict)
    said: tuple[Said, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def breaker(self, name: Name) -> SharedBreaker:
        """The breaker, or a fresh one: for a method that is new, with the person's word about its gateway and kind."""
        family = self.breakers.get((*name[:2], ""))
        word = family.state.forced if family is not None else None
        return self.breakers.get(name) or SharedBreaker(BreakerState(forced=word))

    def state(self, name: Name) -> BreakerState:
        """That of the breaker."""
        return self.breaker(name).state

    def put(self, name: Name, breaker: SharedBreaker) -> Shared:
        """The same with another breaker of this name; one too many is left out."""
        if name not in self.breakers and len(self.breakers) >= BREAKERS_MAX:
            return self
        return replace(self, breakers={**self.breakers, name: breaker})

    def put_state(self, name: Name, state: BreakerState) -> Shared:
        """The same with this breaker in another state."""
        return self.put(name, replace(self.breaker(name), state=state))


@dataclass(frozen=True, slots=True)
class Told:
    """So many calls in a row that ended alike; a probe comes alone."""

    heard: Heard
    times: int = 1
    probe_id: str = ""
    retry_after_seconds: float | None = None

    @property
    def gives_back(self) -> bool:
        """A probe that nobody makes: its name is unique, so that this may be told late, and about a lease never given."""
        return bool(self.probe_id) and self.heard is Heard.NEUTRAL


@dataclass(frozen=True, slots=True)
class Report:
    """What a process heard of one breaker, in order, while it was at *revision*."""

    name: Name
    revision: int
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a process tells at a time. Its number grows; a batch that is sent again is the very same one."""

    process: str
    number: int
    reports: tuple[Report, ...]


def fold(shared: Shared, batch: Batch, policy: BreakerPolicy, now: float, *, jitter: float = 0.0) -> Shared:
    """The value with *batch* in it; unchanged if it was there already."""
    last = shared.batches.get(batch.process)
    if last is not None and last.number >= batch.number:
        return shared
    for report in batch.reports:
        shared = _folded(shared, report, policy, now, process=batch.process, jitter=jitter)
    kept = {process: each for process, each in shared.batches.items() if abs(now - each.at) <= BATCHES_KEPT_SECONDS}
    return replace(shared, batches={**kept, batch.process: Folded(batch.number, now)})


def lease(
    shared: Shared, name: Name, policy: BreakerPolicy, now: float, *, probe_id: str, queued: bool, operation_id: str
) -> tuple[Admission, Shared]:
    """Ask for a probe, as `cxguard.core.breaker.admit` does, on behalf of all processes."""
    state = shared.state(name)
    admission, after = admit(state, policy, now, probe_id=probe_id, queued=queued, operation_id=operation_id)
    return admission, shared if after is state else shared.put_state(name, after)


def say(
    shared: Shared,
    name: Name,
    label: Label | None,
    now: float,
    *,
    reason: str = "",
    seconds: float = 0.0,
    by: str = "",
    family: bool = True,
) -> Shared:
    """A person's word, for all processes: open or closed for *seconds*; None takes it back.

    Args:
        family: for every method of this gateway and kind, also those that come.

    Raises:
        ValueError: half-open, no reason, or no end.
    """
    names = {name} | {other for other in shared.breakers if family and other[:2] == name[:2]}
    for each in sorted(names):
        state = shared.state(each)
        after = lift(state) if label is None else force(state, label, now, reason=reason, seconds=seconds, by=by)
        shared = shared.put_state(each, after)
    line = Said(now, by, name, label.value if label is not None else "", reason, now + seconds if label is not None else None)
    return replace(shared, said=(*shared.said, line)[-SAID_MAX:])


def restored(shared: Shared, known: Mapping[Name, BreakerState]) -> Shared:
    """The value with what is *known* of a later revision than it holds: it has lost its tail, or never had it."""
    for name, state in known.items():
        if state.revision > shared.state(name).revision:
            shared = shared.put_state(name, state)
    return shared


def adopted(
    own: BreakerState, base: BreakerState, shared: BreakerState, now: float, *, since: Sequence[Told] | None = None
) -> BreakerState:
    """What a process goes by after it has heard of *shared*; all on its own clock.

    Failures in a row are counted on from those of all processes. So the one that makes them too many opens at once where it
    was heard, and the next call of that process need not wait for the store to say so.

    Args:
        own: what it goes by now.
        base: the shared state that came from.
        since: what it has heard that *shared* does not know yet; None: more than can be said, so its own count stays.
    """
    if shared.revision != base.revision:
        return replace(shared, failures=0, now_counts=Counts(now), last_counts=Counts())
    if own.revision != base.revision:
        return own  # by its own rule it has gone another way: until all go that way, or it has come back
    silent_until = max(own.throttled_until, shared.throttled_until)  # what was asked of us may not have been told yet
    failures = own.failures if since is None else _in_a_row(shared.failures, since)
    return replace(shared, failures=failures, now_counts=own.now_counts, last_counts=own.last_counts, throttled_until=silent_until)


def _in_a_row(failures: int, since: Sequence[Told]) -> int:
    for told in since:
        if told.heard is not Heard.NEUTRAL:
            failures = failures + told.times if told.heard in FAILED else 0
    return failures


def shifted(state: BreakerState, seconds: float) -> BreakerState:
    """The same state on a clock that shows *seconds* more. What never was stays so."""

    def moved(at: float) -> float:
        return at + seconds if at else at

    def moved_counts(counts: Counts) -> Counts:
        return replace(counts, since=moved(counts.since)) if counts.since else counts

    if not seconds:
        return state
    forced = state.forced
    return replace(
        state,
        now_counts=moved_counts(state.now_counts),
        last_counts=moved_counts(state.last_counts),
        opened_until=moved(state.opened_until),
        closed_at=moved(state.closed_at),
        turn_at=moved(state.turn_at),
        probed_at=moved(state.probed_at),
        throttled_until=moved(state.throttled_until),
        probes=tuple(replace(probe, until=moved(probe.until)) for probe in state.probes),
        forced=replace(forced, until=moved(forced.until)) if forced is not None else None,
    )


def _folded(shared: Shared, report: Report, policy: BreakerPolicy, now: float, *, process: str, jitter: float) -> Shared:
    known = shared.breaker(report.name)
    voices = _voices(known.voices, report, now, process=process)
    state, may_open = known.state, _is_quorum(voices, policy)
    beside = any(
        other != report.name and other[:2] == report.name[:2] and each.state.label is not Label.CLOSED
        for other, each in shared.breakers.items()
    )
    for told in report.told:
        state = record(
            state,
            policy,
            now,
            revision=state.revision if told.gives_back else report.revision,
            probe_id=told.probe_id,
            heard=told.heard,
            retry_after_seconds=told.retry_after_seconds,
            jitter=jitter,
            beside=beside,
            times=told.times,
            may_open=may_open,
        )
    return shared.put(report.name, replace(known, state=state, voices=voices))


def _voices(voices: Mapping[str, Voice], report: Report, now: float, *, process: str) -> dict[str, Voice]:
    """With this process's last word that was not neutral; without those that were not heard of lately."""
    lately = {each: voice for each, voice in voices.items() if 0 <= now - voice.at <= HEARD_LATELY_SECONDS}
    said = [told.heard in FAILED for told in report.told if told.heard is not Heard.NEUTRAL]
    return {**lately, process: Voice(now, failed=said[-1])} if said else lately


def _is_quorum(voices: Mapping[str, Voice], policy: BreakerPolicy) -> bool:
    failed = sum(voice.failed for voice in voices.values())
    return failed >= min(policy.quorum, len(voices))
