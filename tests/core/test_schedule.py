"""Pauses, ends, and the ramp after an outage."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxguard.core.schedule import (
    ATTEMPTS_MAX,
    BACKOFF_SECONDS_MAX,
    QUEUE_SECONDS_MAX,
    RAMP_CALM_SECONDS,
    RESOLVE_PAUSES_SECONDS,
    Ramp,
    allow,
    backoff_seconds,
    begin_ramp,
    give_up_at,
    is_over,
    resolve_pause_seconds,
    room,
    went_badly,
    went_well,
)

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 320), (8, 640), (9, 900), (10, 900), (10_000, 900)],
)
def test_backoff_grows_from_seconds_to_a_quarter_of_an_hour(attempts: int, seconds: float) -> None:
    """5 s, doubling, and never more than 15 minutes, however often it failed."""
    assert backoff_seconds(attempts) == seconds


@pytest.mark.parametrize(
    ("looks", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 5), (4, 10), (5, 20), (8, 160), (9, 300), (10, 300), (10_000, 300)]
)
def test_looks_at_an_unknown_are_fast_first(looks: int, seconds: float) -> None:
    """1, 2, 5, 10 s, and never more than 5 minutes."""
    assert resolve_pause_seconds(looks) == seconds


@given(st.integers(0, 500), st.floats(0, 1))
def test_jitter_only_shortens_and_never_by_more_than_half(tries: int, jitter: float) -> None:
    """With any jitter a pause stays between half of it and all of it."""
    for pause in (backoff_seconds, resolve_pause_seconds):
        assert pause(tries) / 2 <= pause(tries, jitter=jitter) <= pause(tries)


@pytest.mark.parametrize("jitter", [-1.0, 2.0])
def test_a_jitter_out_of_range_is_taken_as_the_nearest(jitter: float) -> None:
    """A careless source of jitter makes no negative pause."""
    assert backoff_seconds(1, jitter=jitter) == backoff_seconds(1, jitter=min(max(jitter, 0.0), 1.0))


def test_the_attempts_last_about_a_day() -> None:
    """At the mean jitter all attempts together fill 20 to 30 hours."""
    seconds = sum(backoff_seconds(attempt, jitter=0.5) for attempt in range(1, ATTEMPTS_MAX + 1))
    assert 20 * 3600 < seconds < 30 * 3600


def test_the_limits_are_those_of_the_tables() -> None:
    """The last pause of each table is its limit."""
    assert (backoff_seconds(ATTEMPTS_MAX), resolve_pause_seconds(ATTEMPTS_MAX)) == (BACKOFF_SECONDS_MAX, RESOLVE_PAUSES_SECONDS[-1])


@pytest.mark.parametrize(
    ("keep", "ends", "expected"),
    [
        (3600.0, [], NOW + 3600),
        (QUEUE_SECONDS_MAX * 3, [], NOW + QUEUE_SECONDS_MAX),
        (3600.0, [None, NOW + 600], NOW + 600),
        (3600.0, [NOW + 7200], NOW + 3600),
        (3600.0, [NOW - 1], NOW - 1),
    ],
)
def test_an_order_ends_with_what_it_rests_on(keep: float, ends: list[float | None], expected: float) -> None:
    """A day at most, and never past the end of the authorisation, the token or the quote."""
    assert give_up_at(NOW, keep_seconds=keep, ends_at=ends) == expected


# The ramp.


def take(ramp: Ramp, now: float, wanted: int = 1_000, *, queued: bool = True) -> tuple[Ramp, int]:
    return allow(ramp, now, wanted=wanted, queued=queued)


def one_second(ramp: Ramp, since: float, *, well: bool = True, queued: bool = True) -> tuple[Ramp, int]:
    """Ask a hundred times a second for all that may go, and answer it at once."""
    count = 0
    for hundredth in range(100):
        now = since + hundredth / 100
        ramp, allowed = take(ramp, now, queued=queued)
        count += allowed
        for _ in range(allowed if well else 0):
            ramp = went_well(ramp, now)
    return ramp, count


def warmed(seconds: int) -> Ramp:
    ramp = begin_ramp(NOW)
    for second in range(seconds):
        ramp, _ = one_second(ramp, NOW + second)
    return ramp


def test_a_ramp_starts_with_one() -> None:
    """However many are wanted, one may go, and no other until the next second."""
    ramp, first = take(begin_ramp(NOW), NOW)
    ramp, second = take(ramp, NOW + 0.5)
    assert (first, second) == (1, 0)


def test_a_ramp_without_answers_stays_at_one_a_second() -> None:
    """Starting is not going well: while no answer comes back, nothing grows."""
    ramp, counts = begin_ramp(NOW), []
    for second in range(6):
        ramp, count = one_second(ramp, NOW + second, well=False)
        counts.append(count)
    assert counts == [1] * 6


def test_a_ramp_grows_while_all_go_well() -> None:
    """With every answer good it grows each second, and passes fifty a second within a dozen."""
    ramp, counts = begin_ramp(NOW), []
    for second in range(12):
        ramp, count = one_second(ramp, NOW + second)
        counts.append(count)
    assert counts[0] == 1
    assert max(counts) == counts[-1] > 50


def test_a_failure_brings_a_ramp_back_to_one() -> None:
    """After failures the second goes on with nothing more, and the next one has one."""
    ramp = warmed(6)
    for _ in range(30):
        ramp = went_badly(ramp, NOW + 6.05)
        ramp, allowed = take(ramp, NOW + 6.05)
        assert allowed == 0
    assert one_second(ramp, NOW + 7, well=False)[1] == 1


def test_a_live_checkout_goes_before_the_queue() -> None:
    """It may borrow from the time to come, and the queue waits it out."""
    ramp, since = warmed(10), NOW + 10.0
    ramp, live = take(ramp, since, queued=False)
    assert live > 0
    assert room(ramp, since + 0.05, queued=True) == 0
    assert room(ramp, since + 0.05) > 0
    assert room(ramp, since + 0.25, queued=True) > 0


def test_the_queue_leaves_a_place_while_live_checkouts_go_without() -> None:
    """One queued order a second takes its turn with them, the next one lets them go first."""
    ramp, since = warmed(5), NOW + 5.2
    ramp, first = take(ramp, since, 1, queued=True)
    ramp, refused = take(ramp, since + 0.01, 1, queued=False)
    assert (first, refused) == (1, 0)
    free_at = ramp.next_at + 0.01
    assert (room(ramp, free_at, queued=True), room(ramp, free_at)) == (0, 1)
    assert room(ramp, since + 1.01, queued=True) == 1


def test_a_ramp_is_over_when_the_demand_has_been_met() -> None:
    """Nobody turned away for a while: no count is needed any more."""
    ramp, _ = take(begin_ramp(NOW), NOW)
    assert not is_over(ramp, NOW + RAMP_CALM_SECONDS)
    assert is_over(ramp, NOW + RAMP_CALM_SECONDS + 0.1)
    ramp, allowed = take(ramp, NOW + 2, 1)
    assert (allowed, is_over(ramp, NOW + RAMP_CALM_SECONDS + 0.1)) == (1, True)


def test_a_ramp_ends_in_any_case() -> None:
    """Chance bursts alone do not keep it up; a failure does, for as long again."""
    ramp = begin_ramp(NOW)
    for second in range(19):
        ramp, _ = take(ramp, NOW + second)
    ramp, _ = take(ramp, NOW + 19.5)
    assert not is_over(ramp, NOW + 20)
    assert is_over(ramp, NOW + 20.1)
    assert not is_over(went_badly(ramp, NOW + 20), NOW + 20.1)


def test_a_clock_that_goes_back_does_not_freeze_a_ramp() -> None:
    """After a jump of an hour, either way, the ramp still lets one start, and is over."""
    ramp, _ = take(begin_ramp(NOW), NOW)
    for jump in (-3600.0, 3600.0):
        assert room(ramp, NOW + jump) == 1
        assert is_over(ramp, NOW + jump)


def drive(seed: int, *, latency: Callable[[random.Random], float], seconds: float = 14.0) -> list[float]:
    """Saturated demand, live and queued, asked for at random times; returns when each charge reached the gateway."""
    chance = random.Random(seed)
    ramp, arrivals = begin_ramp(NOW), []
    asks = sorted(NOW + chance.uniform(0, seconds) for _ in range(int(400 * seconds)))
    answers: list[float] = []
    for at in asks:
        while answers and answers[0] <= at:
            ramp = went_well(ramp, heapq.heappop(answers))
        ramp, allowed = take(ramp, at, 1, queued=chance.random() < 0.5)
        if allowed:
            took = latency(chance)
            arrivals.append(at + min(took / 10, 0.02))  # on the way there; the rest is the gateway's own time
            heapq.heappush(answers, at + took)
    return sorted(arrivals)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.1, 0.3, 0.8]), st.floats(0, 1))
def test_no_second_after_recovery_has_more_than_twice_the_one_before_and_one(seed: int, latency: float, offset: float) -> None:
    """Wherever seconds begin, and however long answers take, the gateway sees at most 2x + 1 of its last second."""
    arrivals = drive(seed, latency=lambda chance: chance.uniform(0.2, 1.0) * latency)
    for second in range(-1, 13):
        since = NOW + second + offset
        count = sum(since <= at < since + 1 for at in arrivals)
        # a twentieth of a second for the way there, and for asking a moment after it was allowed
        assert count <= 2 * sum(since - 1.05 <= at < since for at in arrivals) + 1
