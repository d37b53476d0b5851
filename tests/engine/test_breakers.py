"""Breakers of one process: tickets, labels, listeners, the ramp, and what a desk sees."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pybreaker
import pytest

from cxguard.core.breaker import BreakerPolicy, Heard, Label
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.engine.breakers import ROOM_MAX, Breakers, Rejected, Ticket
from cxguard.engine.hearing import heard_from
from cxguard.events import Bus, Event
from cxguard.testing.clock import ManualClock

GATEWAY = "http:shop:test"
CHARGED = Charged(4999, "EUR")
REFUSED = NotCharged("not sent: ConnectError", retryable=True)
SILENT = Unknown("no answer in time")


class Shop:
    """Breakers on a clock in hand, with everything that was heard of them."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self.clock = ManualClock()
        self.bus = Bus()
        self.events: list[Event] = []
        self.bus.listen(self.events.append)
        self.policy = policy or BreakerPolicy()
        self.breakers = Breakers(self.policy, self.clock, bus=self.bus, jitter=lambda: 0.0)

    def call(self, outcome: Outcome, *, kind: str = "charge", queued: bool = False, operation_id: str = "") -> bool:
        ticket = self.breakers.admit(GATEWAY, kind, queued=queued, operation_id=operation_id)
        if isinstance(ticket, Rejected):
            return False
        ticket.settle(outcome, 0.1)
        return True

    def trip(self, kind: str = "charge") -> None:
        for _ in range(5):
            assert self.call(SILENT, kind=kind)
        assert self.label(kind) is Label.OPEN

    def recover(self) -> None:
        self.clock.advance(1.0)
        for number in range(2):
            self.clock.advance(1.01)
            assert self.call(CHARGED, queued=True, operation_id=f"probe-{number}")
        assert self.label() is Label.CLOSED

    def label(self, kind: str = "charge") -> Label:
        return next(view.label for view in self.breakers.states() if view.kind == kind)

    def ticket(self, **changes: Any) -> Ticket:
        ticket = self.breakers.admit(GATEWAY, "charge", **changes)
        assert isinstance(ticket, Ticket)
        return ticket


def test_an_open_charge_blocks_neither_find_nor_refund() -> None:
    """Each kind of call at a gateway has its own breaker, and so has each gateway."""
    shop = Shop()
    shop.trip()
    assert not shop.call(CHARGED)
    assert shop.call(CHARGED, kind="find")
    assert shop.call(Refunded(1, "EUR"), kind="refund")
    assert isinstance(shop.breakers.admit("http:other:test", "charge"), Ticket)


def test_a_rejected_call_says_when_to_come_again() -> None:
    """The rejection carries the rest of the pause."""
    shop = Shop()
    shop.trip()
    shop.clock.advance(0.5)
    assert shop.breakers.admit(GATEWAY, "charge") == Rejected(pytest.approx(1.5))


@pytest.mark.parametrize(
    ("outcome", "heard", "heard_as_probe"),
    [
        (CHARGED, Heard.OK, Heard.OK),
        (Refunded(1, "EUR"), Heard.OK, Heard.OK),
        (NeedsShopper("3ds"), Heard.OK, Heard.OK),
        (Declined(), Heard.NEUTRAL, Heard.OK),
        (NotCharged("refused: no such token"), Heard.NEUTRAL, Heard.NEUTRAL),
        (REFUSED, Heard.FAILURE, Heard.FAILURE),
        (NotCharged("throttled", retryable=True), Heard.THROTTLED, Heard.THROTTLED),
        (NotCharged("busy", retryable=True, retry_after_seconds=3.0), Heard.THROTTLED, Heard.THROTTLED),
        (SILENT, Heard.FAILURE, Heard.FAILURE),
        (Unknown("not_found"), Heard.OK, Heard.OK),
        (Unknown("processing"), Heard.OK, Heard.OK),
    ],
)
def test_what_an_outcome_says_about_the_gateway(outcome: Outcome, heard: Heard, heard_as_probe: Heard) -> None:
    """Answers speak for it, silence and refusal against it, and a decline for neither, except in a probe."""
    assert heard_from(outcome, late=False, probe=False) is heard
    assert heard_from(outcome, late=False, probe=True) is heard_as_probe


def test_a_late_answer_is_slow() -> None:
    """A charge that took longer than the policy's limit counts as slow; a late failure is a failure."""
    assert heard_from(CHARGED, late=True, probe=False) is Heard.SLOW
    assert heard_from(SILENT, late=True, probe=False) is Heard.FAILURE
    shop = Shop(BreakerPolicy(calls_min=3))
    for _ in range(3):
        shop.ticket().settle(CHARGED, shop.policy.slow_call_seconds)
    assert shop.breakers.states()[0].why == "slow_rate"


def test_a_ticket_is_handed_back_once() -> None:
    """Settling or abandoning again, in any order, changes nothing."""
    shop = Shop()
    for _ in range(4):
        ticket = shop.ticket()
        ticket.settle(SILENT, 0.1)
        ticket.settle(SILENT, 0.1)
        ticket.abandon()
    abandoned = shop.ticket()
    abandoned.abandon()
    abandoned.settle(SILENT, 0.1)
    assert shop.label() is Label.CLOSED


def test_stragglers_make_one_transition() -> None:
    """Thirty calls under way when the gateway dies: one event, one revision, one pause."""
    shop = Shop()
    tickets = [shop.ticket() for _ in range(30)]
    for ticket in tickets:
        shop.clock.advance(0.01)
        ticket.settle(SILENT, 5.0)
    assert [event.name for event in shop.events] == ["breaker.opened"]
    assert shop.breakers.states()[0].revision == 2


def test_events_tell_the_whole_story() -> None:
    """Opened, half-opened, closed: with gateway, kind, reason and pause, all of them in the event table."""
    shop = Shop()
    shop.trip()
    shop.recover()
    common = {"gateway": GATEWAY, "kind": "charge"}
    assert [(event.name, event.detail) for event in shop.events] == [
        ("breaker.opened", {**common, "revision": 2, "why": "consecutive_failures", "open_seconds": 2.0, "forced": False}),
        ("breaker.half_opened", {**common, "revision": 3}),
        ("breaker.closed", {**common, "revision": 4, "forced": False}),
    ]
    assert shop.bus.undeclared == set()


def test_two_probes_over_many_callers() -> None:
    """In half-open two calls go, and a dead holder's place is free at the end of its lease."""
    shop = Shop()
    shop.trip()
    asked = []
    for number in range(100):
        shop.clock.advance(0.1)
        asked.append(shop.breakers.admit(GATEWAY, "charge", queued=True, operation_id=f"o{number}"))
    assert sum(isinstance(ticket, Ticket) and ticket.is_probe for ticket in asked) == 2
    assert sum(isinstance(ticket, Rejected) for ticket in asked) == 98
    shop.clock.advance(shop.policy.probe_lease_seconds + 0.1)
    assert isinstance(shop.breakers.admit(GATEWAY, "charge", operation_id="live"), Ticket)


def test_a_cancelled_probe_frees_its_place() -> None:
    """Abandoned, it counts neither for nor against the gateway."""
    shop = Shop()
    shop.trip()
    shop.clock.advance(2.01)
    shop.ticket(queued=True, operation_id="a").abandon()
    assert shop.label() is Label.HALF_OPEN
    assert shop.breakers.room(GATEWAY) == 2


class Heeding(pybreaker.CircuitBreakerListener):
    """A pybreaker listener as users have them; it may break."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.heard: list[tuple[str | None, str, str]] = []
        self.breaks = breaks

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        self.heard.append((cb.name, old_state.name, new_state.name))
        if self.breaks:
            raise RuntimeError("the pager is broken")


def test_pybreaker_listeners_hear_every_label() -> None:
    """Present and future breakers tell the same listeners, in pybreaker's own words."""
    shop, listener = Shop(), Heeding()
    shop.call(CHARGED)
    shop.breakers.listen(listener)
    shop.trip()
    shop.recover()
    shop.trip("find")
    name = f"{GATEWAY} charge"
    assert listener.heard == [
        (name, "closed", "open"),
        (name, "open", "half-open"),
        (name, "half-open", "closed"),
        (f"{GATEWAY} find", "closed", "open"),
    ]


def test_a_listener_that_raises_breaks_no_checkout() -> None:
    """Its failure stays with it, and the next listener still hears."""
    shop, broken, whole = Shop(), Heeding(breaks=True), Heeding()
    shop.breakers.listen(broken)
    shop.breakers.listen(whole)
    shop.trip()
    assert len(broken.heard) == len(whole.heard) == 1


def test_a_throttled_gateway_is_left_in_peace() -> None:
    """Its Retry-After holds for all calls of this kind, also where the breaker stays closed."""
    shop = Shop()
    assert shop.call(NotCharged("throttled", retryable=True, retry_after_seconds=7.0))
    assert shop.breakers.admit(GATEWAY, "charge") == Rejected(7.0)
    assert shop.breakers.room(GATEWAY) == 0
    assert shop.breakers.states()[0].throttled_until == shop.clock.now() + 7.0
    shop.clock.advance(7.1)
    assert shop.call(CHARGED)


# A person's word.


def test_forced_open_and_lifted() -> None:
    """Open with the person's reason until it is taken back; both are told."""
    shop = Shop()
    shop.breakers.force(GATEWAY, "charge", Label.OPEN, reason="bank holiday", seconds=600.0)
    assert shop.breakers.admit(GATEWAY, "charge") == Rejected(600.0)
    view = shop.breakers.states()[0]
    assert (view.label, view.forced_reason, view.until) == (Label.OPEN, "bank holiday", shop.clock.now() + 600.0)
    shop.breakers.force(GATEWAY, "charge", None)
    assert shop.call(CHARGED)
    assert shop.breakers.states()[0].forced_reason == ""
    assert [(event.name, event.detail["forced"]) for event in shop.events] == [("breaker.opened", True), ("breaker.closed", False)]


def test_forced_open_ends_by_itself() -> None:
    """At its end calls go again, and the label is told."""
    shop = Shop()
    shop.breakers.force(GATEWAY, "charge", Label.OPEN, reason="bank holiday", seconds=600.0)
    shop.clock.advance(600.1)
    assert shop.call(CHARGED)
    assert [event.name for event in shop.events] == ["breaker.opened", "breaker.closed"]


def test_forced_closed_lets_calls_through_an_outage() -> None:
    """Whatever is heard, a person vouches for it; afterwards it is open as before."""
    shop = Shop()
    shop.trip()
    shop.breakers.force(GATEWAY, "charge", Label.CLOSED, reason="false alarm", seconds=60.0)
    for _ in range(20):
        shop.clock.advance(1.1)
        assert shop.call(SILENT)
    shop.breakers.force(GATEWAY, "charge", None)
    shop.call(SILENT)
    assert shop.label() is not Label.CLOSED


def test_a_word_without_a_reason_changes_nothing() -> None:
    """Raises, and the breaker is as it was."""
    shop = Shop()
    shop.call(CHARGED)
    with pytest.raises(ValueError, match="reason"):
        shop.breakers.force(GATEWAY, "charge", Label.OPEN, seconds=60.0)
    assert shop.label() is Label.CLOSED


# The ramp.


def test_after_an_outage_live_checkouts_come_back_by_the_ramp() -> None:
    """The moment it closes one may go; the others are told to come again in a moment."""
    shop = Shop()
    shop.trip()
    shop.recover()
    assert not shop.call(CHARGED)
    shop.clock.advance(1.01)
    assert shop.call(CHARGED)
    rejected = shop.breakers.admit(GATEWAY, "charge")
    assert isinstance(rejected, Rejected)
    assert 0 < rejected.retry_after_seconds < 1


def drain(shop: Shop, *, seconds: int, live: int, queued: int) -> list[tuple[int, int]]:
    """Ask evenly, so many times a second; how many of each went, second by second."""
    counts = []
    for _ in range(seconds):
        went = [0, 0]
        for hundredth in range(100):
            shop.clock.advance(0.01)
            for index, wanted in enumerate((live, queued)):
                asks = wanted * (hundredth + 1) // 100 - wanted * hundredth // 100
                went[index] += sum(shop.call(CHARGED, queued=bool(index), operation_id=f"o{index}") for _ in range(asks))
        counts.append((went[0], went[1]))
    return counts


def test_no_second_after_an_outage_has_more_than_twice_the_one_before_and_one() -> None:
    """With fifty shoppers a second and a long queue, and both are served in full in the end."""
    shop = Shop()
    shop.trip()
    shop.recover()
    counts = drain(shop, seconds=16, live=50, queued=100)
    sums = [1, *(sum(pair) for pair in counts)]
    assert all(later <= 2 * earlier + 1 for earlier, later in pairwise(sums))
    assert counts[-1] == (50, 100)
    assert all(queued <= 1 for live, queued in counts if live < 40)


def test_the_ramp_ends_when_the_demand_is_met() -> None:
    """Then the hot path counts nothing any more, and a burst of shoppers is let through."""
    shop = Shop()
    shop.trip()
    shop.recover()
    drain(shop, seconds=21, live=5, queued=0)
    assert shop.breakers.states()[0].rate is None
    assert all(shop.call(CHARGED) for _ in range(100))


def test_a_failure_in_the_ramp_brings_it_back_to_one() -> None:
    """Growth is lost, the breaker itself stays closed."""
    shop = Shop()
    shop.trip()
    shop.recover()
    drain(shop, seconds=10, live=50, queued=0)
    before = shop.breakers.states()[0].rate
    assert before is not None and before > 20
    while not shop.call(SILENT):
        shop.clock.advance(0.01)
    assert shop.breakers.states()[0].rate == 1.0
    assert shop.label() is Label.CLOSED


def test_a_long_queue_never_falls_on_a_healthy_gateway_at_once() -> None:
    """Without any outage queued orders start with one, while live checkouts all go."""
    shop = Shop()
    assert shop.breakers.room(GATEWAY) == ROOM_MAX
    assert shop.call(CHARGED, queued=True)
    assert not shop.call(CHARGED, queued=True)
    assert shop.breakers.room(GATEWAY) == 0
    assert all(shop.call(CHARGED) for _ in range(50))


def test_asking_and_giving_back_go_by_no_ramp() -> None:
    """A worker may look at many unknown charges at once."""
    shop = Shop()
    assert all(shop.call(CHARGED, kind="find", queued=True, operation_id=f"o{number}") for number in range(50))
    assert shop.breakers.room(GATEWAY, "find") == ROOM_MAX


def test_what_waited_to_be_given_back_goes_by_no_ramp_after_an_outage() -> None:
    """Refunds charge nobody, and their shoppers have waited long enough."""
    shop, back = Shop(), Refunded(1, "EUR")
    shop.trip("refund")
    shop.clock.advance(1.0)
    for number in range(2):
        shop.clock.advance(1.01)
        assert shop.call(back, kind="refund", queued=True, operation_id=f"probe-{number}")
    assert all(shop.call(back, kind="refund", queued=True, operation_id=f"r{number}") for number in range(50))


def test_room_follows_the_label() -> None:
    """None while open, the free probes when its pause is over, then the ramp."""
    shop = Shop()
    shop.trip()
    assert shop.breakers.room(GATEWAY) == 0
    shop.clock.advance(2.01)
    assert shop.breakers.room(GATEWAY) == 2
    for number in range(2):
        shop.call(CHARGED, queued=True, operation_id=f"probe-{number}")
        shop.clock.advance(1.01)
    assert shop.breakers.room(GATEWAY) == 1
