"""Breakers of methods of payment, and breakers in shadow."""

from __future__ import annotations

import pybreaker
import pytest

from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Unknown
from cxguard.engine.breaker_cells import BreakerView
from cxguard.engine.breakers import METHOD_CHARS_MAX, METHODS_MAX, ROOM_MAX, Breakers, Rejected, Ticket
from cxguard.events import Bus, Event
from cxguard.testing.clock import ManualClock

GATEWAY = "http:shop:test"
CHARGED = Charged(4999, "EUR")
SILENT = Unknown("no answer in time")


class Till:
    """Breakers on a clock in hand."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self.clock = ManualClock()
        self.bus = Bus()
        self.events: list[Event] = []
        self.bus.listen(self.events.append)
        self.breakers = Breakers(policy or BreakerPolicy(), self.clock, bus=self.bus, jitter=lambda: 0.0)

    def call(self, method: str, outcome: Outcome = CHARGED, *, queued: bool = False) -> bool:
        ticket = self.breakers.admit(GATEWAY, "charge", method=method, queued=queued)
        if isinstance(ticket, Ticket):
            ticket.settle(outcome, 0.1)
        return isinstance(ticket, Ticket)

    def fails(self, method: str, times: int) -> None:
        for _ in range(times):
            assert self.call(method, SILENT)

    def view(self, method: str = "") -> BreakerView:
        return next(view for view in self.breakers.states() if view.method == method)


# Methods.


@pytest.mark.parametrize("others", [("sepa_debit", ""), ("", "sepa_debit")])
def test_an_outage_of_one_method_leaves_the_others_open_for_business(others: tuple[str, ...]) -> None:
    """Cards fail; direct debits, and charges that name no method, go on."""
    till = Till()
    till.fails("card", 5)
    assert not till.call("card")
    assert all(till.call(other) for other in others * 20)
    assert [view.label for view in till.breakers.states()] == [Label.CLOSED, Label.OPEN, Label.CLOSED]


def test_a_single_failure_beside_an_outage_closes_nothing() -> None:
    """A good answer in between, and the next one counts from the start."""
    till = Till()
    till.fails("card", 5)
    for _ in range(10):
        till.fails("sepa_debit", 1)
        assert all(till.call("sepa_debit") for _ in range(3))
    assert till.view("sepa_debit").label is Label.CLOSED


def test_an_outage_of_the_whole_gateway_trips_every_method_fast() -> None:
    """Five failures for the first one, two for each other one."""
    till = Till()
    till.fails("card", 5)
    for method in ("sepa_debit", "wallet", ""):
        till.fails(method, 2)
        assert not till.call(method)
        assert till.view(method).why == "failures_beside"


def test_the_event_names_the_method() -> None:
    """And an event about charges without one has no such member."""
    till = Till()
    till.fails("card", 5)
    till.fails("", 2)
    assert [event.detail.get("method") for event in till.events] == ["card", None]
    assert till.bus.undeclared == set()


def test_names_come_from_callers_and_are_bounded() -> None:
    """One too many, one too long, one with a line break: they go with the gateway's own breaker."""
    till = Till()
    for number in range(100):
        assert till.call(f"m{number}")
    assert till.call("x" * (METHOD_CHARS_MAX + 1)) and till.call("car\nd")
    assert len(till.breakers.states()) == METHODS_MAX + 1
    till.fails("m99", 5)
    assert till.view().label is Label.OPEN and not till.call("m98")
    assert till.call("m0")


def test_a_persons_word_about_the_gateway_holds_for_every_method() -> None:
    """For those that were used before, for one that comes later, and it is taken back for all."""
    till = Till()
    till.call("card")
    till.breakers.force(GATEWAY, "charge", Label.OPEN, reason="bank holiday", seconds=60.0)
    assert not any(till.call(method) for method in ("", "card", "wallet"))
    till.breakers.force(GATEWAY, "charge", None)
    assert all(till.call(method) for method in ("", "card", "wallet"))


def test_a_persons_word_ends_for_every_method() -> None:
    """Also for one that came while it held."""
    till = Till()
    till.breakers.force(GATEWAY, "charge", Label.OPEN, reason="bank holiday", seconds=60.0)
    assert not till.call("card")
    till.clock.advance(60.1)
    assert till.call("card") and till.call("")


def test_a_persons_word_may_be_about_one_method() -> None:
    """The others go on."""
    till = Till()
    till.breakers.force(GATEWAY, "charge", Label.OPEN, method="card", reason="acquirer moves", seconds=60.0)
    assert (till.call("card"), till.call("wallet"), till.call("")) == (False, True, True)


def test_the_queue_has_room_while_one_method_works() -> None:
    """Its orders may be of any method."""
    till = Till()
    till.fails("card", 5)
    assert till.breakers.room(GATEWAY) == 0
    till.call("wallet")
    assert till.breakers.room(GATEWAY) == ROOM_MAX


# Shadow.


SHADOW = BreakerPolicy(shadow=True)


def test_in_shadow_nothing_is_rejected() -> None:
    """Open, half-open, throttled: every call goes, and those that would not have are counted."""
    till = Till(SHADOW)
    till.fails("", 5)
    assert till.view().label is Label.OPEN
    assert all(till.call("") for _ in range(10))
    assert till.view().would_reject == 10
    till.clock.advance(2.01)
    held = [till.breakers.admit(GATEWAY, "charge", queued=not number) for number in range(10)]
    assert all(isinstance(ticket, Ticket) for ticket in held)
    assert sum(isinstance(ticket, Ticket) and ticket.is_probe for ticket in held) == 1
    assert till.view().would_reject == 19
    assert till.breakers.room(GATEWAY) == ROOM_MAX


def test_in_shadow_it_changes_as_it_would_have() -> None:
    """What would not have been sent teaches it nothing: same changes at the same times as one that rejects."""
    told = []
    for policy in (BreakerPolicy(), SHADOW):
        till = Till(policy)
        for number in range(400):
            till.call("", SILENT if 20 <= number < 200 else CHARGED)
            till.clock.advance(0.1)
        told.append([(event.name, event.at) for event in till.events])
    assert told[0] == told[1] and [name for name, _ in told[0]][-1] == "breaker.closed"


def test_in_shadow_every_event_says_so() -> None:
    """With how many calls it would have turned away."""
    till = Till(SHADOW)
    till.fails("", 8)
    till.clock.advance(2.01)
    till.call("", SILENT, queued=True)
    assert [(event.detail["shadow"], event.detail["would_reject"]) for event in till.events] == [(True, 0), (True, 3), (True, 3)]
    assert {event.detail["gateway"] for event in till.events} == {GATEWAY}
    assert till.bus.undeclared == set()


def test_in_shadow_listeners_hear_a_name_that_says_so() -> None:
    """A pager must not take it for an outage of checkouts."""
    heard: list[str | None] = []

    class Pager(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: pybreaker.CircuitBreaker, old_state: object, new_state: object) -> None:
            heard.append(cb.name)

    till = Till(SHADOW)
    till.breakers.listen(Pager())
    till.fails("card", 5)
    assert heard == [f"{GATEWAY} charge card (shadow)"]


def test_in_shadow_a_gateway_that_asks_for_silence_is_still_called() -> None:
    """Nothing is rejected means nothing."""
    till = Till(SHADOW)
    till.call("", NotCharged("throttled", retryable=True, retry_after_seconds=7.0))
    assert till.call("")
    assert till.view().would_reject == 1


def test_in_shadow_a_persons_word_holds() -> None:
    """Whoever forces a breaker open means it; at its end the shadow is back."""
    till = Till(SHADOW)
    till.fails("", 5)
    till.breakers.force(GATEWAY, "charge", Label.OPEN, reason="bank holiday", seconds=1.0)
    assert isinstance(till.breakers.admit(GATEWAY, "charge"), Rejected)
    assert till.breakers.room(GATEWAY) == 0
    till.clock.advance(1.1)
    assert till.call("")
