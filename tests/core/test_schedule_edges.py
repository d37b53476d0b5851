"""The ramp at its edges: what it remembers, what is forgotten, and who waits for whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.schedule import RAMP_CALM_SECONDS, Ramp, allow, begin_ramp, room, went_badly, went_well

NOW = 1_000.0
NEVER = float("-inf")
FULL = (0,) * 14 + (40,)  # all of it in the running tenth of a second
BUSY = Ramp(rate=30.0, rate_at=NOW, next_at=NOW, began_at=NOW - 5.0, slot=10_000, started=FULL, well=FULL, refused_at=NOW - 1.0)
TENTHS = tuple(range(1, 16))


def test_a_ramp_begins_with_nothing_counted() -> None:
    """Its first start may be put off; it is as if somebody had just been turned away."""
    begun = Ramp(rate=1.0, rate_at=NOW, next_at=NOW + 2.0, began_at=NOW, slot=10_000, refused_at=NOW)
    assert begin_ramp(NOW, after_seconds=2.0) == begun
    assert begin_ramp(NOW) == replace(begun, next_at=NOW)


def test_one_start_is_asked_for_by_somebody_who_waits() -> None:
    """Unless more are, or an order that nobody waits for; it takes no turn of the queue."""
    ramp, allowed = allow(BUSY, NOW)
    assert (allowed, ramp.started[-1], ramp.queued_at) == (1, 41, NEVER)
    assert allow(begin_ramp(NOW, after_seconds=9.0), NOW)[0].live_refused_at == NOW


def test_a_queued_order_that_is_turned_away_takes_no_place_from_the_queue() -> None:
    """Only checkouts that had to go without do; what started is remembered as queued."""
    ramp, allowed = allow(BUSY, NOW, wanted=9, queued=True)
    assert (allowed, ramp.refused_at, ramp.live_refused_at, ramp.queued_at) == (1, NOW, NEVER, NOW)


@pytest.mark.parametrize(("slot", "next_at"), [(-12, NOW + 1.0), (-11, NOW + 0.5), (-1, NOW + 0.5)])
def test_after_a_second_without_a_start_there_is_one(slot: int, next_at: float) -> None:
    """And a second until the next: twice none, and one."""
    counts = tuple(int(each == 15 + slot) for each in range(15))
    ramp, allowed = allow(replace(BUSY, rate=2.0, started=counts, well=counts), NOW)
    assert (allowed, ramp.next_at) == (1, next_at)


def test_all_that_a_failure_changes() -> None:
    """Back to one, a second from now; what went well before speaks for nothing any more."""
    failed = replace(BUSY, rate=1.0, next_at=NOW + 1.0, began_at=NOW, well=(0,) * 15, refused_at=NOW)
    assert went_badly(BUSY, NOW) == failed
    assert went_badly(replace(BUSY, next_at=NOW + 4.0), NOW) == replace(failed, next_at=NOW + 4.0)


@pytest.mark.parametrize(
    ("changes", "queued", "starts"),
    [
        ({"rate": 9.5, "next_at": NOW + 0.05}, False, 0),
        ({"rate": 10.0, "next_at": NOW + 0.05}, False, 1),
        ({"rate": 10.0, "next_at": NOW + 0.05}, True, 0),
        ({"live_refused_at": NOW - 0.5, "queued_at": NOW - 0.5}, True, 0),
        ({"live_refused_at": NOW - 1.0, "queued_at": NOW - 0.5}, True, 1),
        ({"live_refused_at": NOW - 0.5, "queued_at": NOW - 1.0}, True, 1),
        ({"live_refused_at": NOW - 1.5, "queued_at": NOW - 0.5}, True, 1),
        ({"live_refused_at": NOW - 0.5, "queued_at": NOW - 1.5}, True, 1),
        ({"next_at": NOW - 9.0}, True, 2),
        ({"next_at": NOW - 9.0}, False, 5),
    ],
)
def test_how_many_may_start(changes: dict[str, float], queued: bool, starts: int) -> None:
    """A live checkout may go a little before its time at ten a second; a queued order leaves its place, for a second, once."""
    assert room(replace(BUSY, **changes), NOW, queued=queued) == starts  # type: ignore[arg-type]


def test_counts_grow_old() -> None:
    """By tenths of a second, each of its own; what goes well is of the newest one."""
    ramp = went_well(replace(BUSY, started=TENTHS, well=TENTHS), NOW + 0.5)
    assert (ramp.started, ramp.well, ramp.slot) == ((*TENTHS[5:], 0, 0, 0, 0, 0), (*TENTHS[5:], 0, 0, 0, 0, 1), 10_005)
    assert went_well(replace(BUSY, started=TENTHS, well=TENTHS), NOW).well == (*TENTHS[:-1], 16)
    ramp = went_well(replace(BUSY, started=TENTHS, well=TENTHS), NOW + 60.0)
    assert (sum(ramp.started), sum(ramp.well), ramp.slot) == (0, 1, 10_600)


@pytest.mark.parametrize(
    ("rate", "count", "after_seconds", "grown"),
    [(10.0, 40, 0.0, 10.0), (10.0, 40, 1.0, 15.0), (10.0, 40, 1.25, 15.0), (10.0, 3, 0.0, 4.0), (10.0, 40, -1.0, 10.0)],
)
def test_how_a_rate_grows(rate: float, count: int, after_seconds: float, grown: float) -> None:
    """By half in a second and by no more in a longer one, and never much above what started and went well lately."""
    counts = (0,) * 14 + (count,)
    assert went_well(replace(BUSY, rate=rate, started=counts, well=counts), NOW + after_seconds).rate == grown


@pytest.mark.parametrize(("back_seconds", "anew"), [(1.0, False), (RAMP_CALM_SECONDS, False), (RAMP_CALM_SECONDS + 0.5, True)])
def test_a_clock_that_was_set_back(back_seconds: float, anew: bool) -> None:
    """By a moment: all counts stay where they are. By more: the ramp begins again."""
    ramp = went_badly(BUSY, NOW - back_seconds)
    assert (ramp.rate_at, ramp.slot) == ((NOW - back_seconds, int((NOW - back_seconds) * 10)) if anew else (NOW, 10_000))
