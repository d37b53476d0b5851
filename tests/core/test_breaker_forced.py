"""A person's word goes before what the breaker hears, with a reason and an end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from breaker_bench import NOW, Bench

from cxguard.core.breaker import (
    FORCED_SECONDS_MAX,
    Admission,
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
    silence,
)


def test_forced_open_rejects_until_its_end() -> None:
    """With a reason and an end; then it is as it was before."""
    bench = Bench()
    bench.state = force(bench.state, Label.OPEN, bench.now, reason="maintenance at the bank", seconds=600.0)
    assert bench.admit() == Admission(Verdict.REJECTED, 600.0)
    assert label_now(bench.state, bench.now) is Label.OPEN
    bench.now += 600.0
    assert bench.admit().verdict is Verdict.ADMITTED
    assert (bench.state.forced, label_now(bench.state, bench.now)) == (None, Label.CLOSED)


def test_forced_closed_admits_whatever_is_heard() -> None:
    """While a person vouches for the gateway no failure opens it."""
    bench = Bench()
    bench.trip()
    bench.state = force(bench.state, Label.CLOSED, bench.now, reason="false alarm", seconds=60.0)
    for _ in range(50):
        assert bench.call(Heard.FAILURE) is Verdict.ADMITTED
    assert forced_now(bench.state, bench.now) == Forced(Label.CLOSED, "false alarm", bench.now + 60.0)
    bench.now += 61.0
    assert bench.admit(queued=True).verdict is Verdict.PROBE


def test_a_word_taken_back_leaves_it_as_it_was() -> None:
    """Lifting counts as a change; lifting nothing does not."""
    state = BreakerState()
    forced = force(state, Label.OPEN, NOW, reason="test", seconds=60.0)
    assert lift(forced) == replace(state, revision=state.revision + 2)
    assert lift(state) is state


def test_a_forced_breaker_forgets_the_calls_under_way() -> None:
    """Answers to calls from before a person's word change nothing after it."""
    bench = Bench()
    before = bench.state.revision
    bench.state = lift(force(bench.state, Label.OPEN, bench.now, reason="test", seconds=60.0))
    for _ in range(10):
        bench.hear(Heard.FAILURE, revision=before)
    assert bench.state.label is Label.CLOSED


@pytest.mark.parametrize(
    ("label", "reason", "seconds", "advice"),
    [
        (Label.HALF_OPEN, "why", 60.0, "open or closed"),
        (Label.OPEN, "", 60.0, "give the reason"),
        (Label.OPEN, "  ", 60.0, "give the reason"),
        (Label.CLOSED, "why", 0.0, "for how long"),
        (Label.CLOSED, "why", -1.0, "for how long"),
        (Label.CLOSED, "why", FORCED_SECONDS_MAX + 1.0, "a week at most"),
    ],
)
def test_a_word_without_reason_or_end_is_refused(label: Label, reason: str, seconds: float, advice: str) -> None:
    """Raises and says what is missing; half-open cannot be asked for at all."""
    with pytest.raises(ValueError, match=advice):
        force(BreakerState(), label, NOW, reason=reason, seconds=seconds)


@pytest.mark.parametrize("label", [Label.OPEN, Label.CLOSED])
def test_a_word_that_would_hold_longer_than_any_may_is_no_persons(label: Label) -> None:
    """Somebody spoilt the value, or the clock that it was said by was a year ahead: the breaker goes on by itself."""
    state = replace(BreakerState(), forced=Forced(label, "why", NOW + 365 * 86_400.0))
    assert forced_now(state, NOW) is None
    assert silence(state, BreakerPolicy(), NOW) == 0.0
    assert admit(state, BreakerPolicy(), NOW, probe_id="p")[0] == Admission(Verdict.ADMITTED)


def test_a_word_for_a_week_holds_on_a_clock_that_is_a_little_behind() -> None:
    """The longest word, looked at by a process whose clock was set back by minutes."""
    state = force(BreakerState(), Label.OPEN, NOW, reason="why", seconds=FORCED_SECONDS_MAX)
    assert forced_now(state, NOW - 600.0) == state.forced
