"""The quick way of the usual case, a good answer of a closed breaker, forgets nothing and counts nothing twice."""

from __future__ import annotations

import pytest

from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.outcomes import Charged, Outcome, Unknown
from cxguard.engine.breakers import Breakers, Ticket
from cxguard.testing.clock import ManualClock

CHARGED = Charged(4999, "EUR")
SILENT = Unknown("no answer in time")


def test_good_answers_in_passing_count_in_the_rate() -> None:
    """The quick way of the usual case forgets none: nine good calls of twenty keep a rate below one half from opening it."""
    breakers = Breakers(BreakerPolicy(consecutive_failures=100, calls_min=20, failure_rate=0.5), ManualClock())

    def call(outcome: Outcome) -> None:
        ticket = breakers.admit("gw", "find")
        assert isinstance(ticket, Ticket)
        ticket.settle(outcome, 0.1)

    for _ in range(11):
        call(Charged(1, "EUR"))
    for _ in range(9):
        call(Unknown("no answer"))
    assert breakers.states()[0].label is Label.CLOSED
    for _ in range(2):
        call(Unknown("no answer"))
    assert breakers.states()[0].label is Label.OPEN


def _rates_only(clock: ManualClock) -> Breakers:
    return Breakers(BreakerPolicy(consecutive_failures=1000, calls_min=20, failure_rate=0.5), clock)


def _settled(breakers: Breakers, outcome: Outcome, *, times: int) -> None:
    for _ in range(times):
        ticket = breakers.admit("gw", "find")
        assert isinstance(ticket, Ticket)
        ticket.settle(outcome, 0.1)


def test_good_answers_in_passing_are_forgotten_with_their_window() -> None:
    """A hundred good calls of a minute ago, and as many that were under way since, do not talk an outage small."""
    clock = ManualClock()
    breakers = _rates_only(clock)
    _settled(breakers, CHARGED, times=100)
    late = [breakers.admit("gw", "find") for _ in range(8)]
    clock.advance(61.0)
    for ticket in late:
        assert isinstance(ticket, Ticket)
        ticket.settle(CHARGED, 0.1)
    _settled(breakers, SILENT, times=12)
    assert breakers.states()[0].label is Label.OPEN


def test_a_good_answer_in_passing_is_counted_once() -> None:
    """Settled again, or abandoned and then settled, a ticket adds nothing."""
    breakers = _rates_only(ManualClock())
    _settled(breakers, CHARGED, times=1)
    for _ in range(9):
        ticket = breakers.admit("gw", "find")
        assert isinstance(ticket, Ticket)
        ticket.settle(CHARGED, 0.1)
        ticket.settle(CHARGED, 0.1)
        left = breakers.admit("gw", "find")
        assert isinstance(left, Ticket)
        left.abandon()
        left.settle(CHARGED, 0.1)
    _settled(breakers, SILENT, times=10)
    assert breakers.states()[0].label is Label.OPEN


class CountingClock(ManualClock):
    """Counts how often somebody asks what time it is: whoever looks at a breaker closely does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def now(self) -> float:
        self.asked += 1
        return super().now()


@pytest.mark.parametrize("outcome", [CHARGED, SILENT], ids=["closed", "open"])
def test_the_usual_case_is_answered_without_a_closer_look(outcome: Outcome) -> None:
    """Good calls of a closed breaker, and calls that an open one turns away: a flood of either costs next to nothing."""
    clock = CountingClock()
    breakers = Breakers(BreakerPolicy(consecutive_failures=1), clock)
    _settled(breakers, outcome, times=1)
    asked = clock.asked
    for _ in range(100):
        answer = breakers.admit("gw", "find")
        if isinstance(answer, Ticket):
            answer.settle(CHARGED, 0.1)
        assert isinstance(answer, Ticket) is (outcome is CHARGED)
    assert clock.asked == asked
