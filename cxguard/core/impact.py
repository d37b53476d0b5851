"""What an error cost: the purchases that are missing, with a range, and whether that can be told from chance.

*Expected* is how many of the exposed sessions would have bought, had they bought as the unexposed ones did that reached
the same stage. With a uniform prior the unexposed sessions' rate is Beta(1 + bought, 1 + not bought), and the purchases
to expect among n exposed ones are beta-binomial; the range is its central 95 %. Lost is expected minus observed.

A range that is looked at again and again is wrong sooner or later. The *evidence* may be watched all the time: it is
the Bayes factor of "the exposed buy at a rate anywhere below the unexposed ones' (uniform)" against "they buy at the
same rate", both averaged over what all the data says of the unexposed rate. Both sides are full probability models of
the same sequence of sessions with the same model of the unexposed, so that under "the same rate" the factor is a
martingale that starts at 1, in whatever order exposed and unexposed sessions come: the chance that it *ever* reaches 20
is at most 1 in 20 (Ville, 1939), averaged over the prior of the rate. It depends on counts only. In the known case
(510 of 1,000 unexposed bought) it is 19.8 after six exposed sessions without a purchase and 35.3 after the seventh.

Sources: beta-binomial predictive: Gelman et al., "Bayesian Data Analysis", 3rd ed., section 2. Evidence that may be
watched: Grünwald, de Heide, Koolen, "Safe testing", 2024.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from operator import mul

from cxguard.core.census import Counts

EVIDENCE_MIN = 20.0  # 1 / 0.05: a false alarm in at most one of twenty errors that cost nothing, however often one looks
EVIDENCE_MAX = 1e12  # beyond this the number says nothing more, and summing it up would only cost time
_TAIL = 0.025  # on each side: a central range of 95 %
_WEIGHT_MIN = 1e-18  # relative to the expected count: what lies beyond cannot be seen in a float


@dataclass(frozen=True, slots=True)
class Impact:
    """What an error cost in purchases.

    Attributes:
        exposed, observed: sessions that met the error; those of them that bought.
        expected: how many would have bought without it.
        lost: expected minus observed; negative when more bought than expected.
        low, high: the central 95 % range of `lost`; whole purchases.
        evidence: how much better "it costs purchases" explains the counts than "it does not".
        told: it can be told from chance. False is an answer: "cannot be told from chance yet".
    """

    exposed: int
    observed: int
    expected: float
    lost: float
    low: int
    high: int
    evidence: float
    told: bool


@dataclass(frozen=True, slots=True)
class MoneyLost:
    """The share of the baskets left behind that would have been bought, in minor units of one currency."""

    lost_minor: int
    low_minor: int
    high_minor: int


def impact(control: Counts, exposed: Counts) -> Impact:
    """Compare exposed sessions with unexposed ones of the same stage.

    Raises:
        ValueError: a count is negative, or more sessions bought than there are.
    """
    for counts in (control, exposed):
        if not 0 <= counts.bought <= counts.sessions:
            raise ValueError(f"{counts.bought} of {counts.sessions} sessions cannot have bought: pass counts with 0 <= bought <= sessions")
    hits, misses = 1 + control.bought, 1 + control.sessions - control.bought
    expected = exposed.sessions * hits / (hits + misses)
    low, high = _range(exposed.sessions, expected, hits=hits, misses=misses)
    evidence = _evidence(exposed, hits=hits, misses=misses)
    return Impact(
        exposed=exposed.sessions,
        observed=exposed.bought,
        expected=expected,
        lost=expected - exposed.bought,
        low=low - exposed.bought,
        high=high - exposed.bought,
        evidence=evidence,
        told=evidence >= EVIDENCE_MIN and low > exposed.bought,
    )


def money_lost(found: Impact, left_minor: Mapping[str, int]) -> dict[str, MoneyLost]:
    """What the lost purchases were worth, by currency, from the baskets that the exposed sessions left behind.

    Each basket left behind counts with the chance that it would have been bought. A basket of unknown amount counts as
    nothing, so that the sum is rather too small than too large.
    """
    left = found.exposed - found.observed
    if left <= 0:
        return {}
    return {currency: _money(found, sum_minor, left) for currency, sum_minor in sorted(left_minor.items())}


def _money(found: Impact, sum_minor: int, left: int) -> MoneyLost:
    lost, low, high = (round(sum_minor * min(max(purchases, 0), left) / left) for purchases in (found.lost, found.low, found.high))
    return MoneyLost(lost_minor=lost, low_minor=low, high_minor=high)


def _range(sessions: int, expected: float, *, hits: int, misses: int) -> tuple[int, int]:
    """The central range of the beta-binomial, in whole purchases; widened where it would miss its own mean."""
    about = int(expected)
    below, above = _weights(sessions, about, hits=hits, misses=misses)
    weights = [*reversed(below), 1.0, *above]
    tail = _TAIL * sum(weights)
    low = about - len(below) + _left_out(tail, weights)
    high = about + len(above) - _left_out(tail, reversed(weights))
    return min(low, about), max(high, ceil(expected))


def _left_out(tail: float, weights: Iterable[float]) -> int:
    """How many weights may be left out before *tail* is passed."""
    return bisect_right(list(accumulate(weights)), tail)


def _weights(sessions: int, about: int, *, hits: int, misses: int) -> tuple[list[float], list[float]]:
    """The beta-binomial's probabilities of the counts below and above *about*, the nearest first, relative to its own.

    From one count to the next is a quotient of small numbers, so that nothing is computed from factorials. There is one
    hill and no valley, and the expected count is high on it.
    """
    below = (1 / _ratio(count, sessions, hits=hits, misses=misses) for count in reversed(range(about)))
    above = (_ratio(count, sessions, hits=hits, misses=misses) for count in range(about, sessions))
    return _seen(below), _seen(above)


def _seen(ratios: Iterable[float]) -> list[float]:
    """The products of *ratios*, as far as they can be seen beside 1."""
    weights = []
    for weight in accumulate(ratios, mul):
        weights.append(weight)
        if weight < _WEIGHT_MIN:
            break
    return weights


def _ratio(count: int, sessions: int, *, hits: int, misses: int) -> float:
    """How much likelier count + 1 is than count."""
    return (sessions - count) * (hits + count) / ((count + 1) * (misses + sessions - count - 1))


def _evidence(exposed: Counts, *, hits: int, misses: int) -> float:
    """The Bayes factor of the module's text, exactly.

    With n exposed, k of them bought, and the unexposed rate p ~ Beta(a, b), the upper side is the mean over p of
    (1/p) * integral over q from 0 to p of q^k (1-q)^(n-k), the lower side the mean of p^k (1-p)^(n-k). The incomplete
    beta integral is a binomial tail, each of its terms has a closed mean, and the quotient becomes the sum over
    j = k+1 .. n+1 of  k! (n-k)! / (j! (n+1-j)!) * B(a+j-1, b+n+1-j) / B(a+k, b+n-k):  all terms positive, the first
    1/(k+1), each from the one before by a quotient of small numbers.
    """
    sessions, bought = exposed.sessions, exposed.bought
    term = total = 1 / (bought + 1)
    for j in range(bought + 1, sessions + 1):
        term *= (sessions + 1 - j) * (hits + j - 1) / ((j + 1) * (misses + sessions - j))
        total += term
        if total > EVIDENCE_MAX:
            return EVIDENCE_MAX
    return total
