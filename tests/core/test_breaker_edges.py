"""The breaker at the very moment in which something ends, and all that a change of it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from breaker_bench import NOW, POLICY

from cxguard.core.breaker import (
    FORCED_LEFT_MAX,
    FORCED_SECONDS_MAX,
    PROBE_BUSY_SECONDS,
    Admission,
    BreakerState,
    Counts,
    Forced,
    Heard,
    Label,
    Probe,
    Verdict,
    admit,
    force,
    forced_now,
    lift,
    record,
    silence,
)

CLOSED = BreakerState(closed_at=NOW - 3600.0, now_counts=Counts(NOW - 5.0))
OPEN = BreakerState(label=Label.OPEN, revision=7, why="failure_rate", opened_until=NOW, trips=2, probes_well=1)
HALF = BreakerState(label=Label.HALF_OPEN, revision=8, trips=2, closed_at=NOW - 3600.0)
ONE, TWO = Probe("p1", NOW + 20.0), Probe("p2", NOW + 30.0)
REJECTED, FULL = Verdict.REJECTED, Admission(Verdict.REJECTED, PROBE_BUSY_SECONDS)
WORD = Forced(Label.CLOSED, "checked", NOW - 1.0)


def heard(state: BreakerState, what: Heard, **more: Any) -> BreakerState:
    return record(state, POLICY, NOW, **{"revision": state.revision, "probe_id": "p1", "heard": what, **more})


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        (CLOSED, 0.0),
        (replace(OPEN, opened_until=NOW), 0.0),
        (replace(OPEN, opened_until=NOW + 0.5), 0.5),
        (replace(OPEN, opened_until=NOW + 120.0), 120.0),
        (replace(OPEN, opened_until=NOW + 120.5), 0.0),
        (replace(OPEN, opened_until=NOW - 1.0, throttled_until=NOW + 9.0), 0.0),
        (replace(HALF, opened_until=NOW + 9.0), 0.0),
        (replace(HALF, throttled_until=NOW + 9.0), 9.0),
        (replace(CLOSED, throttled_until=NOW + 9.0, forced=replace(WORD, until=NOW + 5.0)), 0.0),
        (replace(CLOSED, throttled_until=NOW + 9.0, forced=replace(WORD, label=Label.OPEN, until=NOW + 5.0)), 5.0),
    ],
)
def test_how_long_no_call_may_go(state: BreakerState, seconds: float) -> None:
    """Until the end of the pause or of the silence that was asked for; an end further off than any is none."""
    assert silence(state, POLICY, NOW) == seconds


def test_the_longest_pause_is_the_longer_of_the_two() -> None:
    """Where the breaker's own pause may be longer than any silence that a gateway asks for."""
    assert silence(replace(OPEN, opened_until=NOW + 300.0), replace(POLICY, open_seconds_max=300.0), NOW) == 300.0


def test_what_is_over_is_forgotten() -> None:
    """A silence and a person's word; while they last nothing changes."""
    over = replace(CLOSED, throttled_until=NOW - 1.0, forced=WORD)
    assert admit(over, POLICY, NOW, probe_id="p") == (Admission(Verdict.ADMITTED), replace(over, throttled_until=0.0, forced=None))
    lasting = replace(CLOSED, throttled_until=NOW + 1.0)
    assert admit(lasting, POLICY, NOW, probe_id="p") == (Admission(REJECTED, 1.0), lasting)


def test_the_first_probe_after_the_pause() -> None:
    """All that it leaves in the state: its own lease, its order, and when the next one may go."""
    admission, after = admit(OPEN, POLICY, NOW, probe_id="p1", queued=True, operation_id="o1")
    assert admission == Admission(Verdict.PROBE)
    assert after == replace(
        OPEN,
        label=Label.HALF_OPEN,
        revision=8,
        why="pause_over",
        probes=(Probe("p1", NOW + POLICY.probe_lease_seconds),),
        probes_well=0,
        probed=1,
        probed_order="o1",
        probed_at=NOW,
        turn_at=NOW + POLICY.probe_pause_seconds,
    )


@pytest.mark.parametrize(
    ("changes", "order", "wait_seconds"),
    [
        ({}, "o1", 0.0),
        ({"probed_at": NOW - 0.5}, "o1", 0.5),
        ({"probed_at": NOW - 1.0}, "o1", 0.0),
        ({"probed_at": NOW}, "o1", 1.0),
        ({"probed_at": NOW + 0.5}, "o1", 0.0),  # the clock went back
        ({"probed_at": NOW - 14.5, "probed_order": "o1"}, "o1", 0.5),
        ({"probed_at": NOW - 15.0, "probed_order": "o1"}, "o1", 0.0),
        ({"probed_at": NOW - 14.5, "probed_order": "o2"}, "o1", 0.0),
        ({"probed_at": NOW - 14.5, "probed_order": ""}, "", 0.0),  # no two without a name are the same
        ({"probed_at": NOW + 0.5, "probed_order": "o1"}, "o1", 0.0),
        ({"probed": 2, "turn_at": NOW}, "o1", 1.0),  # a live one's turn
        ({"probed": 2, "turn_at": NOW - 0.5}, "o1", 0.5),
        ({"probed": 2, "turn_at": NOW - 1.0}, "o1", 0.0),
        ({"probed": 2, "turn_at": NOW + 1.0}, "o1", 2.0),
        ({"probed": 2, "turn_at": NOW + 1.5}, "o1", 0.0),
        ({"probed": 3, "turn_at": NOW}, "o1", 0.0),
        ({"probed": 4, "turn_at": NOW}, "o1", 0.0),
        ({"probed": 5, "turn_at": NOW}, "o1", 1.0),
        ({"probed": 2, "turn_at": NOW - 0.5, "probed_at": NOW - 0.25}, "o1", 0.75),
    ],
)
def test_how_long_a_queued_probe_waits(changes: dict[str, Any], order: str, wait_seconds: float) -> None:
    """For the pause after the last one, longer for the same order, and for a turn that is another's: the longest of them."""
    admission, after = admit(replace(HALF, **changes), POLICY, NOW, probe_id="p1", queued=True, operation_id=order)
    assert admission == (Admission(REJECTED, wait_seconds) if wait_seconds else Admission(Verdict.PROBE))
    assert after.probed == replace(HALF, **changes).probed + (0 if wait_seconds else 1)


@pytest.mark.parametrize(("probed", "wait_seconds"), [(0, 1.0), (1, 1.0), (2, 0.0), (3, 1.0)])
def test_how_long_a_live_probe_waits(probed: int, wait_seconds: float) -> None:
    """Every third turn is its own; a call is live, and without a name, unless it says otherwise."""
    state = replace(HALF, probed=probed, turn_at=NOW)
    assert admit(state, POLICY, NOW, probe_id="p1")[0].retry_after_seconds == wait_seconds


def test_two_calls_without_a_name_are_not_the_same_order() -> None:
    """The second one waits for the usual pause, not for that of an order which has probed already."""
    _, first = admit(HALF, POLICY, NOW, probe_id="p1", queued=True)
    assert admit(first, POLICY, NOW + POLICY.probe_pause_seconds, probe_id="p2", queued=True)[0] == Admission(Verdict.PROBE)


@pytest.mark.parametrize("state", [replace(OPEN, opened_until=NOW + 9.0), replace(HALF, probes=(ONE, TWO)), replace(HALF, turn_at=NOW)])
def test_a_call_that_is_refused_changes_nothing(state: BreakerState) -> None:
    """Not even by an equal state: it would be written for all processes, at each call."""
    admission, after = admit(state, POLICY, NOW, probe_id="p9")
    assert (admission.verdict, after is state) == (REJECTED, True)


@pytest.mark.parametrize(("turn_at", "wait_seconds"), [(NOW + 2.0, 2.5), (NOW + 2.25, 0.0)])
def test_a_turn_is_kept_from_the_end_of_the_pause_on(turn_at: float, wait_seconds: float) -> None:
    """For so long after it, whichever of the two is longer."""
    policy = replace(POLICY, probe_pause_seconds=2.0, turn_seconds=0.5)
    assert admit(replace(HALF, turn_at=turn_at), policy, NOW, probe_id="p1")[0].retry_after_seconds == wait_seconds


@pytest.mark.parametrize(
    ("probes", "admission"),
    [
        ((ONE, TWO), FULL),
        ((ONE, TWO, replace(ONE, id="p3")), FULL),
        ((ONE, replace(TWO, until=NOW)), Admission(REJECTED, 1.0)),
        ((ONE, replace(TWO, until=NOW + 30.5)), Admission(REJECTED, 1.0)),
        ((ONE, replace(TWO, until=NOW + 0.5)), FULL),
        ((ONE,), Admission(Verdict.PROBE)),
    ],
)
def test_the_place_of_a_probe_is_free_from_the_end_of_its_lease(probes: tuple[Probe, ...], admission: Admission) -> None:
    """Then it is the turn of a queued one, and a live one waits a second more."""
    state = replace(HALF, probes=probes, turn_at=NOW - 9.0)
    assert admit(state, POLICY, NOW, probe_id="p9")[0] == admission


def test_calls_in_a_row_are_heard_at_once() -> None:
    """As many as it is told, one without a number; well answered ones end a row of failures."""
    failed = heard(replace(CLOSED, failures=1), Heard.FAILURE, times=3)
    assert (failed.failures, failed.now_counts) == (4, Counts(NOW - 5.0, 3, 3, 0))
    slow = heard(failed, Heard.SLOW, times=2)
    assert (slow.failures, slow.now_counts) == (0, Counts(NOW - 5.0, 5, 3, 2))
    well = heard(slow, Heard.OK)
    assert (well.failures, well.now_counts) == (0, Counts(NOW - 5.0, 6, 3, 2))


def test_one_that_may_not_open_goes_on_counting() -> None:
    """Others have to have failed, too."""
    failed = heard(replace(CLOSED, failures=4), Heard.FAILURE, may_open=False)
    assert (failed.label, failed.failures) == (Label.CLOSED, 5)
    assert heard(failed, Heard.NEUTRAL).label is Label.CLOSED
    assert heard(failed, Heard.FAILURE).label is Label.OPEN


def test_one_that_a_person_vouches_for_counts_nothing() -> None:
    """But that the gateway asked for silence is kept for later."""
    forced = replace(CLOSED, forced=replace(WORD, until=NOW + 60.0))
    assert heard(forced, Heard.FAILURE) == forced
    assert heard(forced, Heard.THROTTLED, retry_after_seconds=5.0) == replace(forced, throttled_until=NOW + 5.0)


OLD = Counts(NOW - 15.0, 9, 4, 2)


@pytest.mark.parametrize(
    ("since", "now_counts", "last_counts"),
    [
        (NOW, Counts(NOW, 10, 4, 2), Counts()),
        (NOW - 14.5, Counts(NOW - 14.5, 10, 4, 2), Counts()),
        (NOW - 15.0, Counts(NOW, 1), OLD),
        (NOW - 29.5, Counts(NOW, 1), replace(OLD, since=NOW - 29.5)),
        (NOW - 30.0, Counts(NOW, 1), Counts()),
        (NOW + 0.5, Counts(NOW, 1), Counts()),
    ],
)
def test_the_halves_of_the_window(since: float, now_counts: Counts, last_counts: Counts) -> None:
    """The running one becomes the last one when its time is over; what is older, or of a clock that went back, is forgotten."""
    after = heard(replace(CLOSED, now_counts=replace(OLD, since=since)), Heard.OK)
    assert (after.now_counts, after.last_counts) == (now_counts, last_counts)


@pytest.mark.parametrize(
    ("last", "what", "why"),
    [
        (Counts(0.0, 19, 9, 0), Heard.FAILURE, "failure_rate"),
        (Counts(0.0, 19, 8, 0), Heard.FAILURE, ""),
        (Counts(0.0, 18, 17, 0), Heard.FAILURE, ""),
        (Counts(0.0, 19, 0, 17), Heard.SLOW, "slow_rate"),
        (Counts(0.0, 19, 0, 16), Heard.SLOW, ""),
        (Counts(0.0, 99, 0, 60), Heard.SLOW, ""),
        (Counts(0.0, 99, 40, 0), Heard.FAILURE, ""),
    ],
)
def test_the_rates_are_those_of_both_halves(last: Counts, what: Heard, why: str) -> None:
    """Exactly so many of exactly enough calls open it."""
    after = heard(replace(CLOSED, last_counts=last), what)
    assert (after.label, after.why) == ((Label.OPEN, why) if why else (Label.CLOSED, ""))


@pytest.mark.parametrize(
    ("state", "trips", "pause"),
    [
        (replace(CLOSED, failures=4, trips=3), 1, 2.0),
        (replace(CLOSED, failures=4, trips=3, closed_at=NOW - 60.0), 4, 16.0),
        (replace(CLOSED, failures=4, trips=3, closed_at=NOW - 60.5), 1, 2.0),
        (replace(HALF, probes=(ONE, TWO)), 3, 8.0),
        (replace(HALF, probes=(ONE, TWO), trips=5_000), 5_001, 60.0),
    ],
)
def test_all_that_opening_changes(state: BreakerState, trips: int, pause: float) -> None:
    """A closed one that was well for long enough begins with the first pause; a probe that failed never does."""
    why = "probe_failed" if state.label is Label.HALF_OPEN else "consecutive_failures"
    assert heard(replace(state, throttled_until=NOW + 1.0, last_counts=Counts(NOW - 20.0, 1)), Heard.FAILURE) == replace(
        state,
        label=Label.OPEN,
        revision=state.revision + 1,
        why=why,
        failures=0,
        now_counts=Counts(NOW),
        last_counts=Counts(),
        opened_until=NOW + pause,
        trips=trips,
        probes=(),
        throttled_until=NOW + 1.0,
    )


def test_all_that_closing_changes() -> None:
    """As at first, but for how often it tripped, and a person's word, which is over."""
    before = replace(
        HALF, probes=(ONE, TWO), probes_well=1, probed=4, probed_order="o", probed_at=NOW - 2.0, throttled_until=1.0, forced=WORD
    )
    assert heard(before, Heard.OK) == BreakerState(
        revision=9, why="probes_went_well", now_counts=Counts(NOW), closed_at=NOW, trips=2, forced=WORD
    )


@pytest.mark.parametrize(("probed_at", "turn_at"), [(NOW - 0.25, NOW + 0.75), (NOW - 5.0, NOW)])
@pytest.mark.parametrize(("what", "well"), [(Heard.OK, 1), (Heard.SLOW, 1), (Heard.NEUTRAL, 0)])
def test_all_that_the_end_of_a_probe_changes(probed_at: float, turn_at: float, what: Heard, well: int) -> None:
    """Its place is free, and the next turn begins when the next probe may go."""
    before = replace(HALF, probes=(ONE, TWO), probed=2, probed_at=probed_at)
    assert heard(before, what) == replace(before, probes=(TWO,), turn_at=turn_at, probes_well=well)


@pytest.mark.parametrize(
    ("silent_until", "asked", "until"),
    [
        (0.0, None, NOW + 1.0),
        (0.0, 120.0, NOW + 120.0),
        (0.0, 121.0, NOW + 120.0),
        (0.0, -1.0, NOW),
        (0.0, 0.0, NOW),
        (NOW + 90.0, 5.0, NOW + 90.0),
        (NOW + 500.0, 5.0, NOW + 120.0),  # the clock went back
    ],
)
def test_until_when_a_gateway_is_left_in_peace(silent_until: float, asked: float | None, until: float) -> None:
    """As long as it asked for, within a limit; never shorter than it asked for before."""
    after = heard(replace(CLOSED, throttled_until=silent_until), Heard.THROTTLED, retry_after_seconds=asked)
    assert after.throttled_until == until


def test_all_that_a_persons_word_changes() -> None:
    """Who said so, until when; probes that are under way no longer count, also when it is taken back."""
    forced = force(replace(HALF, probes=(ONE,)), Label.OPEN, NOW, reason="bank", seconds=FORCED_SECONDS_MAX, by="ann")
    assert forced == replace(HALF, forced=Forced(Label.OPEN, "bank", NOW + FORCED_SECONDS_MAX, "ann"), revision=9)
    assert lift(replace(forced, probes=(ONE,))) == replace(HALF, revision=10)
    assert silence(force(HALF, Label.OPEN, NOW, reason="bank", seconds=0.5), POLICY, NOW) == 0.5


@pytest.mark.parametrize(("left", "holds"), [(0.0, False), (0.5, True), (FORCED_LEFT_MAX, True), (FORCED_LEFT_MAX + 0.5, False)])
def test_until_when_a_persons_word_holds(left: float, holds: bool) -> None:
    """To its very end, and no word for longer than any may be given for."""
    state = replace(CLOSED, forced=replace(WORD, until=NOW + left))
    assert forced_now(state, NOW) == (state.forced if holds else None)
