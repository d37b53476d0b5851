"""The breaker's policy: what opens it, for how long, and late answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from breaker_bench import NOW, POLICY, Bench

from cxguard.core.breaker import Admission, BreakerState, Heard, Label, Verdict, admit, record


def test_failures_in_a_row_open_it() -> None:
    """The fifth failure in a row opens; four do not."""
    bench = Bench()
    for _ in range(4):
        bench.call(Heard.FAILURE)
    assert bench.state.label is Label.CLOSED
    bench.call(Heard.FAILURE)
    assert (bench.state.label, bench.state.why) == (Label.OPEN, "consecutive_failures")


@pytest.mark.parametrize("between", [Heard.OK, Heard.SLOW])
def test_an_answer_breaks_the_row(between: Heard) -> None:
    """Failures that are not in a row do not open by their count."""
    bench = Bench()
    for _ in range(3):
        for _ in range(4):
            bench.call(Heard.FAILURE)
        bench.call(between)
    assert bench.state.label is Label.CLOSED


def test_declines_are_neutral() -> None:
    """A thousand declines neither open it nor make a row of failures shorter."""
    bench = Bench()
    for _ in range(1000):
        bench.call(Heard.NEUTRAL)
    assert bench.state == Bench().state
    for _ in range(4):
        bench.call(Heard.FAILURE)
        bench.call(Heard.NEUTRAL)
    bench.call(Heard.FAILURE)
    assert bench.state.label is Label.OPEN


@pytest.mark.parametrize(
    ("calls", "opens"),
    [
        ([Heard.OK, Heard.FAILURE] * 9, False),
        ([Heard.OK, Heard.FAILURE] * 10, True),
        ([Heard.OK, Heard.OK, Heard.FAILURE] * 20, False),
        ([Heard.SLOW] * 19, False),
        ([Heard.SLOW] * 20, True),
        ([Heard.SLOW, Heard.OK] * 40, False),
    ],
)
def test_rates_open_it_only_with_enough_calls(calls: list[Heard], opens: bool) -> None:
    """Half failed, or nearly all late, of at least twenty calls in the window."""
    bench = Bench()
    for heard in calls:
        bench.call(heard)
    assert (bench.state.label is Label.OPEN) is opens


def test_the_window_forgets() -> None:
    """Failures older than the window do not count against the calls of now."""
    bench = Bench()
    for _ in range(9):
        bench.call(Heard.FAILURE)
        bench.call(Heard.OK)
    bench.now += POLICY.window_seconds + 1
    for _ in range(9):
        bench.call(Heard.OK)
        bench.call(Heard.FAILURE)
    assert bench.state.label is Label.CLOSED


def test_the_window_spans_its_seam() -> None:
    """Calls of both halves of the window are counted together."""
    bench = Bench()
    for _ in range(5):
        bench.call(Heard.FAILURE)
        bench.call(Heard.OK)
    bench.state = replace(bench.state, failures=0)
    bench.now += POLICY.window_seconds / 2 + 1
    for _ in range(5):
        bench.call(Heard.OK)
        bench.call(Heard.FAILURE)
    assert bench.state.why == "failure_rate"


def test_the_closed_path_makes_nothing() -> None:
    """Admitting in the usual state returns the very same values."""
    state = BreakerState()
    admission, after = admit(state, POLICY, NOW, probe_id="p")
    assert (admission.verdict, after is state) == (Verdict.ADMITTED, True)


# Open.


def test_open_rejects_until_its_time_is_over() -> None:
    """A rejected call learns how soon asking again may help."""
    bench = Bench()
    bench.trip()
    admission = bench.admit()
    assert admission == Admission(Verdict.REJECTED, POLICY.open_seconds)
    bench.now += POLICY.open_seconds + 0.001
    bench.admit()
    assert bench.state.label is Label.HALF_OPEN


def test_the_pause_doubles_with_each_failed_probe_up_to_its_limit() -> None:
    """2, 4, 8, ... seconds, at most a minute."""
    bench = Bench()
    bench.trip()
    pauses = []
    for _ in range(8):
        pauses.append(round(bench.state.opened_until - bench.now, 6))
        bench.now = bench.state.opened_until + POLICY.same_order_seconds
        assert bench.call(Heard.FAILURE, queued=bench.state.probed % 3 != 2, operation_id=f"o{bench.number}") is Verdict.PROBE
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("healthy_seconds", "pause"), [(10.0, 4.0), (POLICY.trips_forgotten_seconds + 1, 2.0)])
def test_the_pause_is_short_again_only_after_a_healthy_while(healthy_seconds: float, pause: float) -> None:
    """A gateway that fails again right after closing gets the next longer pause."""
    bench = Bench()
    bench.half_open()
    for number in range(2):
        bench.now += POLICY.probe_pause_seconds
        bench.call(Heard.OK, queued=True, operation_id=f"o{number}")
    assert bench.state.label is Label.CLOSED
    bench.now += healthy_seconds
    bench.trip()
    assert bench.state.opened_until - bench.now == pytest.approx(pause)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_jitter_shortens_the_pause(jitter: float) -> None:
    """By up to a fifth, so that processes do not probe in step."""
    state = replace(BreakerState(closed_at=NOW - 3600), failures=4)
    state = record(state, POLICY, NOW, revision=1, probe_id="", heard=Heard.FAILURE, jitter=jitter)
    assert state.opened_until - NOW == pytest.approx(POLICY.open_seconds * (1 - jitter / 5))


def test_thirty_stragglers_make_one_transition() -> None:
    """Calls that were let through before it opened change nothing when they fail, or answer, late."""
    bench = Bench()
    revision = bench.state.revision
    for _ in range(35):
        bench.hear(Heard.FAILURE, revision=revision)
    opened = bench.state
    assert opened.revision == revision + 1
    bench.now = opened.opened_until - 0.001
    for heard in (Heard.OK, Heard.FAILURE, Heard.THROTTLED, Heard.SLOW, Heard.NEUTRAL):
        bench.hear(heard, revision=revision)
    assert bench.state == opened


# Throttling.


@pytest.mark.parametrize(
    ("asked", "silent"), [(None, POLICY.throttle_seconds), (7.0, 7.0), (10_000.0, POLICY.throttle_seconds_max), (-5.0, 0.0)]
)
def test_a_throttling_gateway_is_left_in_peace(asked: float | None, silent: float) -> None:
    """No call goes until the time that it named, within a limit; then they go again."""
    bench = Bench()
    bench.call(Heard.THROTTLED, retry_after_seconds=asked)
    assert bench.state.label is Label.CLOSED
    if silent:
        assert bench.admit() == Admission(Verdict.REJECTED, silent)
    bench.now += silent + 0.001
    assert bench.admit().verdict is Verdict.ADMITTED
    assert bench.state.throttled_until == 0.0


def test_a_later_word_does_not_shorten_the_silence() -> None:
    """Calls that were under way and are throttled for less leave the longer time."""
    bench = Bench()
    bench.hear(Heard.THROTTLED, retry_after_seconds=30.0)
    bench.hear(Heard.THROTTLED, retry_after_seconds=1.0)
    assert bench.admit().retry_after_seconds == 30.0


def test_a_throttled_probe_opens_at_least_until_then() -> None:
    """Half-open and told to wait: open again, no shorter than was asked."""
    bench = Bench()
    bench.half_open()
    bench.call(Heard.THROTTLED, queued=True, operation_id="a", retry_after_seconds=50.0)
    assert (bench.state.label, bench.state.opened_until) == (Label.OPEN, bench.now + 50.0)


def test_throttling_counts_as_failure() -> None:
    """A gateway that only ever says "too many" opens it."""
    bench = Bench()
    for _ in range(5):
        bench.call(Heard.THROTTLED)
        bench.now += POLICY.throttle_seconds + 0.001
    assert bench.state.label is Label.OPEN


@pytest.mark.parametrize(("beside", "failures", "label"), [(False, 4, Label.CLOSED), (True, 1, Label.CLOSED), (True, 2, Label.OPEN)])
def test_failures_weigh_more_beside_a_method_that_is_not_closed(beside: bool, failures: int, label: Label) -> None:
    """Two in a row are enough then: it is likely the gateway, not the method."""
    state = BreakerState(closed_at=NOW - 3600)
    for _ in range(failures):
        state = record(state, POLICY, NOW, revision=state.revision, probe_id="", heard=Heard.FAILURE, beside=beside)
    assert (state.label, state.why) == (label, "failures_beside" if label is Label.OPEN else "")
