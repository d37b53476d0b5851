"""A number that a shop sets is looked at when it is set: within its range, of its kind, or refused with the line to write."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cxguard.core.limits import breaches, check_limits, limit
from cxguard.errors import ConfigurationError


@dataclass(frozen=True)
class Pace:
    """Two numbers beside what is none."""

    label: str = "slow"
    pause_seconds: float = limit(2.0, 0.5, 60.0, why="longer than anybody waits")
    tries_max: int = limit(8, 1, 1_000, why="about a day")


NUMBERS = [0.5, 2, 60.0, 60]
NO_NUMBERS = [0.49, 60.01, float("inf"), float("-inf"), float("nan"), 10**400, True, "2", None]
WHOLE_NUMBERS = [1, 1_000]
NO_WHOLE_NUMBERS = [0, 1_001, 8.0, float("nan"), 10**400, True, "8", None]


def test_what_is_not_set_has_its_default() -> None:
    """Which is in its range."""
    pace = Pace()
    assert (pace.pause_seconds, pace.tries_max, list(breaches(pace))) == (2.0, 8, [])


@pytest.mark.parametrize("value", NUMBERS)
def test_a_number_may_be_the_least_and_the_most(value: float) -> None:
    """And a whole one where it need not be."""
    check_limits(Pace(pause_seconds=value))


@pytest.mark.parametrize("value", WHOLE_NUMBERS)
def test_a_whole_number_may_be_the_least_and_the_most(value: int) -> None:
    """Of both kinds of numbers alike."""
    check_limits(Pace(tries_max=value))


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_of_the_range_is_refused_with_the_line_to_write(value: float) -> None:
    """The line has the default, the text the reason for it."""
    with pytest.raises(ConfigurationError) as refused:
        check_limits(Pace(pause_seconds=value))
    assert str(refused.value) == (
        f"pause_seconds={value!r} is not a number from 0.5 to 60 (longer than anybody waits): write Pace(pause_seconds=2)"
    )


@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS)
def test_what_is_no_whole_number_of_the_range_is_refused_likewise(value: int) -> None:
    """Half a try is none, and 8.0 is a slip of whoever meant seconds."""
    with pytest.raises(ConfigurationError) as refused:
        check_limits(Pace(tries_max=value), named='"slow", ')
    assert str(refused.value) == (
        f'tries_max={value!r} is not a whole number from 1 to 1000 (about a day): write Pace("slow", tries_max=8)'
    )


def test_each_number_that_is_wrong_is_told() -> None:
    """In the order in which they are written down."""
    assert [write for _, write in breaches(Pace(pause_seconds=0.0, tries_max=0))] == ["pause_seconds=2", "tries_max=8"]


def test_a_number_is_set_by_its_name() -> None:
    """Two of them in a row could be swapped."""
    with pytest.raises(TypeError, match="positional"):
        Pace("slow", 2.0)
