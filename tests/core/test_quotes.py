"""What follows from what a shop's `revalidate` says: every answer, and those that are none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from resolve_orders import order

from cxguard.core.operation import State, WaitingFor
from cxguard.core.quotes import AskShopper, GoOn, GoOnLower, Stop, judged
from cxguard.core.resolve import Cancel, Hold
from cxguard.rules.moments import moment_of

SHOPPER, AGENT = WaitingFor.SHOPPER, WaitingFor.AGENT


@pytest.mark.parametrize(
    ("said", "follows"),
    [
        (GoOn(), GoOn()),
        (GoOnLower(1_000), GoOnLower(1_000)),
        (GoOnLower(1), GoOnLower(1)),
        (GoOnLower(1_001), Hold("price_up", SHOPPER)),
        (AskShopper(), Hold("order_changed", SHOPPER)),
        (AskShopper(1_001), Hold("price_up", SHOPPER)),
        (AskShopper(900), Hold("order_changed", SHOPPER)),
        (AskShopper(1_000), Hold("order_changed", SHOPPER)),
        (AskShopper("12.00"), Hold("order_changed", SHOPPER)),  # type: ignore[arg-type]
        (Stop("out_of_stock"), Cancel("out_of_stock")),
        (Stop(), Cancel("stopped")),
        (Stop("Ann Smith's card 4242"), Cancel("stopped")),
        (Stop(7), Cancel("stopped")),  # type: ignore[arg-type]
        (GoOnLower(0), Hold("revalidate hook gave a GoOnLower that cannot be used", AGENT)),
        (GoOnLower(True), Hold("revalidate hook gave a GoOnLower that cannot be used", AGENT)),
        (GoOnLower(9.5), Hold("revalidate hook gave a GoOnLower that cannot be used", AGENT)),  # type: ignore[arg-type]
        (True, Hold("revalidate hook gave a bool that cannot be used", AGENT)),
        ("ok", Hold("revalidate hook gave a str that cannot be used", AGENT)),
    ],
)
def test_each_answer_of_the_hook_has_one_consequence(said: Any, follows: Any) -> None:
    """Lower passes, higher asks, gone ends; what is no answer waits for a person, and nothing is charged on it."""
    assert judged(order(State.QUEUED, amount_minor=1_000, currency="EUR"), said, now=100.0) == follows


@pytest.mark.parametrize(
    ("quote_until", "follows"),
    [(None, GoOn()), (100.5, GoOn()), (100.0, Hold("quote_ended", SHOPPER)), (1.0, Hold("quote_ended", SHOPPER))],
)
def test_without_a_hook_the_accepted_price_is_charged_while_it_holds(quote_until: float | None, follows: Any) -> None:
    """After that, the shopper is asked."""
    assert judged(order(State.QUEUED, amount_minor=1_000, currency="EUR", quote_until=quote_until), None, now=100.0) == follows


def test_a_hook_is_believed_over_the_clock() -> None:
    """The shop has looked: its price is the price, whatever was said before."""
    assert judged(order(State.QUEUED, amount_minor=1_000, currency="EUR", quote_until=1.0), GoOn(), now=100.0) == GoOn()


def test_a_lower_price_of_an_order_without_an_amount_means_nothing() -> None:
    """There is nothing that it would be lower than."""
    follows = judged(order(State.QUEUED, amount_minor=None, currency=None), GoOnLower(5), now=100.0)
    assert isinstance(follows, Hold) and follows.waiting_for is AGENT


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1800000000", 1.8e9),
        (1_800_000_000, 1.8e9),
        (1_800_000_000.5, 1_800_000_000.5),
        ("2027-01-15T08:00:00Z", 1.8e9),
        ("2027-01-15T09:00:00+01:00", 1.8e9),
        (datetime(2027, 1, 15, 8, tzinfo=UTC), 1.8e9),
        ("2027-01-15T08:00:00", None),
        (datetime(2027, 1, 15, 8), None),  # noqa: DTZ001
        ("1800000000000", None),
        ("tomorrow", None),
        ("in-a-while", None),
        (True, None),
        (float("nan"), None),
        ([], None),
    ],
)
def test_a_moment_is_read_without_guessing(said: Any, seconds: float | None) -> None:
    """Another unit, or a time without a zone, is no moment."""
    assert moment_of(said) == seconds
