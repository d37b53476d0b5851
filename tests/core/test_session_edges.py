"""A session at the edges: facts of one moment, facts that say less, and what is known of the visitor."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from cxguard.core.message import Message
from cxguard.core.session import Basket, Bought, By, Cause, Exposed, Fact, Reached, Session, Stage, fold


def reached(at: float = 1.0, **members: Any) -> Reached:
    return Reached("s", Stage.PAY, at, **members)


def in_any_order(*facts: Fact) -> Session:
    """The session that they make, and that they make in each order."""
    first, *others = (fold(None, order) for order in permutations(facts))
    assert all(other == first for other in others)
    return first


def test_the_newest_fact_says_how_long_the_visit_lasted() -> None:
    """A purchase, too, and whichever is told first."""
    assert in_any_order(reached(at=1.0), Bought("s", 3.0)).last_at == 3.0
    assert in_any_order(reached(at=5.0), Bought("s", 3.0)).last_at == 5.0


ONE = Bought("s", 3.0, 700, "EUR", "ZZZZ-9QXA-2TFV")


@pytest.mark.parametrize(
    ("other", "first"),
    [
        (replace(ONE, at=2.0), replace(ONE, at=2.0)),
        (replace(ONE, reference=""), ONE),
        (replace(ONE, amount_minor=500), replace(ONE, amount_minor=500)),
        (replace(ONE, currency=""), replace(ONE, currency="")),
        (replace(ONE, amount_minor=None), ONE),
        (replace(ONE, amount_minor=None, reference="K7Q2"), replace(ONE, amount_minor=None, reference="K7Q2")),
    ],
)
def test_of_two_purchases_the_first_counts(other: Bought, first: Bought) -> None:
    """Of one moment the one with a reference, then the one with an amount; and always the same one, in whatever order they are told."""
    assert in_any_order(ONE, other).bought == first


@pytest.mark.parametrize("amount_minor", [0, 1, 500])
def test_a_purchase_of_unknown_amount_is_told_from_every_other(amount_minor: int) -> None:
    """Else the order of the facts would decide. So is one of nothing."""
    in_any_order(replace(ONE, amount_minor=None), replace(ONE, amount_minor=amount_minor))
    in_any_order(replace(ONE, amount_minor=0), replace(ONE, amount_minor=amount_minor))


def test_a_message_is_as_old_as_its_first_exposure() -> None:
    """Also when that one is told later."""
    shown = [Exposed(f"x{at}", "s", Stage.PAY, at, Message(key="declined"), Cause.ISSUER, By.OURS, 402) for at in (5.0, 2.0, 9.0)]
    assert [(each.first_at, each.times) for each in in_any_order(*shown).shown] == [(2.0, 3)]


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [
        (Basket(0, "EUR", 2), Basket(1, "EUR", 2), Basket(1, "EUR", 2)),
        (Basket(700, "EUR", 1), Basket(700, "EUR", 2), Basket(700, "EUR", 2)),
        (Basket(700, "EUR", None), Basket(700, "EUR", 1), Basket(700, "EUR", 1)),
        (Basket(700, "EUR", None), Basket(700, "EUR", 0), Basket(700, "EUR", 0)),
        (Basket(700, "EUR", 2), Basket(700, "GBP", 2), Basket(700, "GBP", 2)),
    ],
)
def test_of_two_baskets_of_one_moment_the_fuller_counts(one: Basket, other: Basket, counts: Basket) -> None:
    """Whichever is told first."""
    assert in_any_order(reached(basket=one), reached(basket=other)).basket == counts


def test_what_is_known_of_the_visitor_stays_known() -> None:
    """A fact that says nothing of it takes nothing away; of two that differ it is always the same one."""
    told, silent = reached(market="de", language="fr", device="mobile"), reached(market="", language="", device="")
    known = in_any_order(told, silent)
    assert (known.market, known.language, known.device) == ("de", "fr", "mobile")
    both = in_any_order(told, replace(told, market="at", language="it", device="tablet"))
    assert (both.market, both.language, both.device) == ("at", "fr", "mobile")
