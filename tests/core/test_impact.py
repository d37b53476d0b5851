"""What an error cost, against exact references."""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb, factorial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cxguard.core.census import Counts
from cxguard.core.impact import EVIDENCE_MIN, impact, money_lost

CONTROL = Counts(sessions=1000, bought=510)
counts = st.integers(0, 60).flatmap(lambda sessions: st.builds(Counts, st.just(sessions), st.integers(0, sessions)))


def _beta(a: int, b: int) -> Fraction:
    return Fraction(factorial(a - 1) * factorial(b - 1), factorial(a + b - 1))


def _predictive(control: Counts, sessions: int) -> list[Fraction]:
    """The beta-binomial, exactly."""
    a, b = 1 + control.bought, 1 + control.sessions - control.bought
    return [comb(sessions, k) * _beta(a + k, b + sessions - k) / _beta(a, b) for k in range(sessions + 1)]


def _exact_evidence(control: Counts, exposed: Counts) -> Fraction:
    """The Bayes factor from its definition: q = p t with t uniform, (1 - p t)^m expanded, both integrals term by term."""
    a, b = 1 + control.bought, 1 + control.sessions - control.bought
    k, m = exposed.bought, exposed.sessions - exposed.bought
    upper = sum(comb(m, i) * (-1) ** i * Fraction(1, k + i + 1) * _beta(a + k + i, b) for i in range(m + 1))
    return upper / _beta(a + k, b + m)


def test_known_case() -> None:
    """510 of 1,000 unexposed bought and none of 42 exposed: 21.42 expected, 15 to 28 lost, and it can be told."""
    found = impact(CONTROL, Counts(42, 0))
    assert (round(found.expected, 2), found.low, found.high, found.observed, found.told) == (21.42, 15, 28, 0, True)
    assert found.lost == found.expected


def test_gate_trips_at_the_seventh_exposed_session_that_does_not_buy() -> None:
    """With 510 of 1,000 as control, six lost sessions cannot be told from chance, seven can."""
    told = [impact(CONTROL, Counts(sessions, 0)).told for sessions in range(10)]
    assert told.index(True) == 7
    assert all(told[7:])
    assert [round(impact(CONTROL, Counts(sessions, 0)).evidence, 1) for sessions in (0, 6, 7)] == [1.0, 19.8, 35.3]


@given(counts, counts)
def test_range_is_the_exact_central_one_and_contains_what_is_expected(control: Counts, exposed: Counts) -> None:
    """The range leaves out at most 2.5 % on each side, no more than it must, and never its own mean."""
    found = impact(control, exposed)
    chances = _predictive(control, exposed.sessions)
    low, high = found.low + exposed.bought, found.high + exposed.bought
    tail = Fraction(1, 40) + Fraction(1, 10**12)
    assert sum(chances[:low]) <= tail
    assert sum(chances[high + 1 :]) <= tail
    assert sum(chances[: low + 1]) > Fraction(1, 40) - Fraction(1, 10**12) or low == int(found.expected)
    assert low <= found.expected <= high
    assert found.expected == pytest.approx(float(sum(k * chance for k, chance in enumerate(chances))))


@given(counts, counts)
def test_evidence_is_the_exact_bayes_factor(control: Counts, exposed: Counts) -> None:
    """The recurrence gives what the integrals give."""
    assert impact(control, exposed).evidence == pytest.approx(min(float(_exact_evidence(control, exposed)), 1e12), rel=1e-9)


@given(counts, counts)
def test_evidence_is_a_martingale_when_nothing_is_wrong(control: Counts, exposed: Counts) -> None:
    """Whether the next exposed session buys or not, the evidence stays the same on average: looking often is no harm."""
    a = 1 + control.bought + exposed.bought
    chance = Fraction(a, 2 + control.sessions + exposed.sessions)
    bought = _exact_evidence(control, Counts(exposed.sessions + 1, exposed.bought + 1))
    not_bought = _exact_evidence(control, Counts(exposed.sessions + 1, exposed.bought))
    assert chance * bought + (1 - chance) * not_bought == _exact_evidence(control, exposed)


@given(counts, counts)
def test_evidence_is_a_martingale_when_the_next_session_is_unexposed(control: Counts, exposed: Counts) -> None:
    """Averaged over both explanations' own predictions, one more unexposed session shifts nothing by itself."""
    a = 1 + control.bought + exposed.bought
    chance = Fraction(a, 2 + control.sessions + exposed.sessions)
    bought = _exact_evidence(Counts(control.sessions + 1, control.bought + 1), exposed)
    not_bought = _exact_evidence(Counts(control.sessions + 1, control.bought), exposed)
    assert chance * bought + (1 - chance) * not_bought == _exact_evidence(control, exposed)


@given(counts, counts)
def test_more_exposed_purchases_mean_less_loss(control: Counts, exposed: Counts) -> None:
    """One exposed session more that bought lowers the loss, its range and the evidence."""
    assume(exposed.bought < exposed.sessions)
    fewer, more = impact(control, exposed), impact(control, Counts(exposed.sessions, exposed.bought + 1))
    assert (more.lost, more.low, more.high) == (pytest.approx(fewer.lost - 1), fewer.low - 1, fewer.high - 1)
    assert more.evidence <= fewer.evidence


def test_harmless_error_is_rarely_told_however_often_one_looks() -> None:
    """Looking after every session at 400 errors that cost nothing, at most 1 in 20 is ever called costly."""
    dice = random.Random(7)
    alarms = 0
    for _ in range(400):
        bought = 0
        for sessions in range(1, 121):
            bought += dice.random() < 0.51
            if impact(CONTROL, Counts(sessions, bought)).evidence >= EVIDENCE_MIN:
                alarms += 1
                break
    assert alarms <= 20


@pytest.mark.parametrize("exposed", [Counts(0, 0), Counts(1, 0), Counts(30, 16)])
def test_too_little_or_no_difference_cannot_be_told(exposed: Counts) -> None:
    """No exposed sessions, one of them, or a rate like the control's: not told."""
    assert not impact(CONTROL, exposed).told
    assert not impact(Counts(0, 0), exposed).told


def test_one_lost_session_is_never_enough() -> None:
    """Even where nearly everybody buys, a single exposed session without a purchase cannot be told from chance."""
    assert not impact(Counts(100_000, 99_900), Counts(1, 0)).told


@pytest.mark.parametrize(
    ("control", "exposed"), [(Counts(1, 2), Counts(0, 0)), (Counts(1, 1), Counts(1, -1)), (Counts(-1, 0), Counts(0, 0))]
)
def test_impossible_counts_are_refused(control: Counts, exposed: Counts) -> None:
    """More purchases than sessions, or fewer than none, raise."""
    with pytest.raises(ValueError, match="cannot have bought"):
        impact(control, exposed)


def test_large_counts_stay_finite() -> None:
    """A million sessions are compared without overflow, and the range is narrow and around what is expected."""
    found = impact(Counts(1_000_000, 510_000), Counts(1_000_000, 400_000))
    assert found.told
    assert found.low == pytest.approx(110_000, abs=4_000)
    assert found.high == pytest.approx(110_000, abs=4_000)


def test_a_large_control_finds_the_middle_of_a_range() -> None:
    """From wherever it is looked for."""
    found = impact(Counts(100_000, 50_000), Counts(10_000, 5_000))
    assert (found.low, found.high) == (pytest.approx(-103, abs=3), pytest.approx(103, abs=3))


def test_a_range_leaves_out_what_is_just_as_rare_as_it_may_be() -> None:
    """Of forty equally likely counts one on each side: a fortieth."""
    found = impact(Counts(0, 0), Counts(39, 0))
    assert (found.low, found.high) == (1, 38)


def test_what_is_rarely_bought_may_have_been_bought_once() -> None:
    """The range never ends below what is expected, however little that is."""
    found = impact(Counts(1000, 0), Counts(10, 0))
    assert (found.low, found.high, round(found.expected, 2)) == (0, 1, 0.01)


def test_money_lost_is_the_expected_share_of_the_baskets_left_behind() -> None:
    """42 baskets of 50 EUR stayed behind and 21.42 of them would have been bought: 1,070.96 EUR, 750 to 1,400."""
    money = money_lost(impact(CONTROL, Counts(42, 0)), {"EUR": 42 * 5000})["EUR"]
    assert (money.lost_minor, money.low_minor, money.high_minor) == (107_096, 75_000, 140_000)


def test_money_lost_is_never_negative_nor_more_than_was_left() -> None:
    """More purchases than expected cost nothing; and without a basket left behind there is no sum."""
    gained = money_lost(impact(CONTROL, Counts(42, 41)), {"EUR": 5000})["EUR"]
    assert (gained.lost_minor, gained.low_minor, gained.high_minor) == (0, 0, 0)
    assert money_lost(impact(CONTROL, Counts(3, 3)), {"EUR": 0}) == {}
