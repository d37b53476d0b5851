"""What is heard and told of a breaker that is not calm: each of its calls is looked at, and listeners get figures."""

from __future__ import annotations

import asyncio

import pytest
from breakerworld import CARDS, CHARGED, QUICK, SILENT, World

from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.outcomes import NotCharged
from cxguard.engine.breakers import Breakers, Rejected, Ticket
from cxguard.events import Bus, Event
from cxguard.testing.clock import ManualClock

UNTRIPPED = BreakerPolicy(consecutive_failures=1000, calls_min=10_000)


def _ticket(breakers: Breakers) -> Ticket:
    ticket = breakers.admit("cards", "charge")
    assert isinstance(ticket, Ticket)
    return ticket


def test_after_a_failure_a_call_is_slow_from_the_limit_on() -> None:
    """As before one: nine of ten that took the policy's limit open it."""
    policy = BreakerPolicy(calls_min=10)
    breakers = Breakers(policy, ManualClock(), jitter=lambda: 0.0)
    _ticket(breakers).settle(SILENT, 0.1)
    for ticket in [_ticket(breakers) for _ in range(9)]:
        ticket.settle(CHARGED, policy.slow_call_seconds)
    assert breakers.states()[0].why == "slow_rate"


def test_after_a_failure_a_gateway_is_still_left_in_peace_for_as_long_as_it_asks() -> None:
    """Its Retry-After is heard also of a call that is looked at closely."""
    breakers = Breakers(BreakerPolicy(), ManualClock(), jitter=lambda: 0.0)
    _ticket(breakers).settle(SILENT, 0.1)
    _ticket(breakers).settle(NotCharged("throttled", retryable=True, retry_after_seconds=7.0), 0.1)
    assert breakers.admit("cards", "charge") == Rejected(7.0)


def test_a_pause_is_told_to_the_millisecond() -> None:
    """Chance shortens it by a part of a second, and a pager that counts it down should not be late."""
    heard: list[Event] = []
    bus = Bus()
    bus.listen(heard.append)
    breakers = Breakers(BreakerPolicy(), ManualClock(), bus=bus, jitter=lambda: 0.5)
    for _ in range(5):
        _ticket(breakers).settle(SILENT, 0.1)
    assert [event.detail["open_seconds"] for event in heard] == [1.8]


def test_a_desk_sees_the_ramp_to_a_tenth() -> None:
    """Charges a second while a gateway comes back: 2.2 is another pace than two."""
    clock = ManualClock()
    breakers = Breakers(QUICK, clock, jitter=lambda: 0.0)
    for _ in range(5):
        _ticket(breakers).settle(SILENT, 0.1)
    clock.advance(2.01)
    for ticket in [_ticket(breakers) for _ in range(2)]:
        ticket.settle(CHARGED, 0.1)
    assert breakers.states()[0].label is Label.CLOSED
    for _ in range(300):
        clock.advance(0.01)
        ticket_or_no = breakers.admit("cards", "charge")
        if isinstance(ticket_or_no, Ticket):
            ticket_or_no.settle(CHARGED, 0.1)
    assert breakers.states()[0].rate == 2.2


@pytest.mark.asyncio
async def test_a_long_row_of_failures_is_told_whole() -> None:
    """Calls in a row that ended alike are one word to the other processes, however many they are."""
    shop = World(1, UNTRIPPED)
    await shop.look()
    await shop.all[0].call(*[SILENT] * 150)
    await shop.look()
    assert (await shop.all[0].sharing.read()).state(CARDS).failures == 150


@pytest.mark.asyncio
async def test_a_look_that_finds_nothing_wrong_is_followed_by_none() -> None:
    """A process that begins looks once, and then waits for its time: each look is a round with the store."""
    shop = World(1, UNTRIPPED)
    sharing = shop.all[0].sharing
    sharing.start()
    for _ in range(50):
        await asyncio.sleep(0)
    assert shop.store.calls["load"] == 1
    await sharing.stop()
