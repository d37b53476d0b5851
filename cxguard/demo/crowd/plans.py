"""Who comes to the shop, when, and with which habits: the same crowd for the same seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from cxguard.demo.shop.catalogue import SHELF

Choice = TypeVar("Choice")

ARRIVAL_SECONDS = 10.5  # the whole crowd comes within this time, evenly


class Habit(StrEnum):
    """How a shopper behaves at the button that says "Pay"."""

    CALM = "calm"  # presses once and waits
    DOUBLE_CLICK = "double_click"
    RELOAD = "reload"  # loads the checkout again while it works, and pays there: new form token, or new key
    IMPATIENT = "impatient"  # waits 2 to 3 seconds, then presses again
    CLOSED_TAB = "closed_tab"  # presses and is gone
    CANCELS = "cancels"  # cancels when told that the order is kept for later


class Channel(StrEnum):
    """With what she shops."""

    PAGES = "pages"  # a browser without scripts
    API = "api"  # an app that knows `Prefer: respond-async`


@dataclass(frozen=True, slots=True)
class Plan:
    """One shopper, who wants exactly one order.

    Attributes:
        source: her card. Each shopper has one of her own, so that the ledger shows whose money moved.
        gap_seconds: between the two presses of a double click; before closing the tab.
        patience_seconds: how long she waits before she reloads or presses again.
        think_seconds: how long she looks at an error before she tries again.
        persistence: how often she tries again after an error.
    """

    number: int
    arrives_at: float
    habit: Habit
    channel: Channel
    source: str
    product: str
    gap_seconds: float
    patience_seconds: float
    think_seconds: float
    persistence: int


_HABITS = {
    Habit.CALM: 34,
    Habit.DOUBLE_CLICK: 20,
    Habit.RELOAD: 16,
    Habit.IMPATIENT: 17,
    Habit.CLOSED_TAB: 7,
    Habit.CANCELS: 6,
}
_CARDS = {"tok_ok": 93, "tok_declined": 3, "tok_insufficient": 2, "tok_expired": 2}
_PERSISTENCE = {0: 35, 1: 45, 2: 20}
_API_SHARE = 0.35


def plan_crowd(shoppers: int, *, seed: int) -> list[Plan]:
    """The crowd of *seed*: *shoppers* plans by time of arrival."""
    rng = random.Random(seed)
    arrivals = sorted(rng.uniform(0.0, ARRIVAL_SECONDS) for _ in range(shoppers))
    return [_plan(rng, number, arrives_at) for number, arrives_at in enumerate(arrivals, start=1)]


def _plan(rng: random.Random, number: int, arrives_at: float) -> Plan:
    habit = _pick(rng, _HABITS)
    in_browser = habit is Habit.CLOSED_TAB or rng.random() >= _API_SHARE
    return Plan(
        number=number,
        arrives_at=arrives_at,
        habit=habit,
        channel=Channel.PAGES if in_browser else Channel.API,
        source=f"{_pick(rng, _CARDS)}_s{number}",
        product=rng.choice(sorted(SHELF)),
        gap_seconds=rng.uniform(0.05, 0.25),
        patience_seconds=rng.uniform(0.5, 1.5) if habit is Habit.RELOAD else rng.uniform(2.0, 3.0),
        think_seconds=rng.uniform(0.8, 2.5),
        persistence=_pick(rng, _PERSISTENCE),
    )


def _pick(rng: random.Random, weights: dict[Choice, int]) -> Choice:
    return rng.choices(list(weights), weights=list(weights.values()))[0]
