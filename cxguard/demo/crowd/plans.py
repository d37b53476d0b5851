"""Who comes to the shop, when, and with which habits: the same crowd for the same seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from cxguard.demo.shop.catalogue import SHELF

Choice = TypeVar("Choice")

ARRIVAL_SECONDS = 9.5  # the whole crowd comes within this time, evenly


class Habit(StrEnum):
    """How a shopper behaves at the button that says "Pay"."""

    CALM = "calm"  # presses once and waits
    DOUBLE_CLICK = "double_click"
    RELOAD = "reload"  # loads the checkout again while it works, and pays there: new form token, or new key
    IMPATIENT = "impatient"  # waits 2 to 3 seconds, then presses again
    CLOSED_TAB = "closed_tab"  # presses and is gone; comes back if she could read that her order is saved
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
    Habit.CALM: 0.34,
    Habit.DOUBLE_CLICK: 0.21,
    Habit.RELOAD: 0.16,
    Habit.IMPATIENT: 0.17,
    Habit.CLOSED_TAB: 0.07,
    Habit.CANCELS: 0.05,
}
_CARDS = {"tok_ok": 0.94, "tok_declined": 0.02, "tok_insufficient": 0.02, "tok_expired": 0.02}
_PERSISTENCE = {0: 0.35, 1: 0.45, 2: 0.20}
_CHANNELS = {Channel.PAGES: 0.65, Channel.API: 0.35}


def plan_crowd(shoppers: int, *, seed: int) -> list[Plan]:
    """The crowd of *seed*: *shoppers* plans by time of arrival. The shares of habits and cards are the same in each crowd."""
    rng = random.Random(seed)
    arrivals = sorted(rng.uniform(0.0, ARRIVAL_SECONDS) for _ in range(shoppers))
    habits, cards = _dealt(rng, _HABITS, shoppers), _dealt(rng, _CARDS, shoppers)
    channels, persistence = _dealt(rng, _CHANNELS, shoppers), _dealt(rng, _PERSISTENCE, shoppers)
    return [
        Plan(
            number=number,
            arrives_at=arrivals[number - 1],
            habit=habits[number - 1],
            # an app has no tab to close
            channel=Channel.PAGES if habits[number - 1] is Habit.CLOSED_TAB else channels[number - 1],
            source=f"{cards[number - 1]}_s{number}",
            product=rng.choice(sorted(SHELF)),
            gap_seconds=rng.uniform(0.05, 0.25),
            patience_seconds=rng.uniform(0.5, 1.5) if habits[number - 1] is Habit.RELOAD else rng.uniform(2.0, 3.0),
            think_seconds=rng.uniform(0.8, 2.5),
            persistence=persistence[number - 1],
        )
        for number in range(1, shoppers + 1)
    ]


def _dealt(rng: random.Random, shares: dict[Choice, float], count: int) -> list[Choice]:
    """*count* cards from a deck in which each choice has its share, shuffled."""
    deck: list[Choice] = []
    due = 0.0
    for choice, share in shares.items():
        due += share * count
        deck += [choice] * (round(due) - len(deck))
    rng.shuffle(deck)
    return deck
