"""What follows from what a gateway says about the keys of a record that may have been lost."""

from __future__ import annotations

import pytest

from cxguard.core.lost import LIVES_MAX, Lost, judge_lost, life_after
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown

CHARGED, DECLINED, REFUNDED = Charged(4999, "EUR", "pay_1"), Declined(), Refunded(4999, "EUR")
NOT_FOUND, SILENT, NOT_CHARGED, BUSY = Unknown("not_found"), Unknown("no answer in time"), NotCharged("refused"), Unknown("processing")
SHOPPER = NeedsShopper("authentication_required")


@pytest.mark.parametrize(
    ("said", "sure", "follows"),
    [
        ([], True, Lost.LOOK),
        ([], False, Lost.LOOK),
        ([CHARGED], True, Lost.ADOPT),
        ([CHARGED], False, Lost.ADOPT),
        ([DECLINED, CHARGED], True, Lost.ADOPT),
        ([NOT_FOUND, CHARGED], True, Lost.ADOPT),
        ([SHOPPER], True, Lost.DOUBT),
        ([BUSY], True, Lost.DOUBT),
        ([SILENT], True, Lost.DOUBT),
        ([DECLINED, SILENT], False, Lost.DOUBT),
        ([NOT_FOUND], True, Lost.LOOK),
        ([NOT_FOUND], False, Lost.DOUBT),
        ([NOT_CHARGED], False, Lost.LOOK),
        ([NOT_FOUND, NOT_FOUND], True, Lost.CLEAR),
        ([NOT_CHARGED, NOT_FOUND], True, Lost.CLEAR),
        ([NOT_CHARGED, NOT_CHARGED], False, Lost.CLEAR),
        ([DECLINED, NOT_FOUND], True, Lost.LOOK),
        ([DECLINED, NOT_FOUND, NOT_FOUND], True, Lost.CLEAR),
        ([REFUNDED], True, Lost.LOOK),
        ([DECLINED] * LIVES_MAX, True, Lost.CLEAR),
    ],
)
def test_verdict(said: list[Outcome], sure: bool, follows: Lost) -> None:
    """Only an answer that surely speaks of no charge leads to the next life, and only silence about two ends the search."""
    assert judge_lost(said, sure=sure) is follows


@pytest.mark.parametrize(
    ("said", "life"),
    [
        ([NOT_FOUND, NOT_FOUND], 3),
        ([DECLINED, NOT_FOUND, NOT_FOUND], 4),
        ([NOT_FOUND, DECLINED, NOT_FOUND, NOT_FOUND], 5),
        ([REFUNDED, NOT_CHARGED, NOT_FOUND], 4),
    ],
)
def test_next_life(said: list[Outcome], life: int) -> None:
    """A key that was declined (or whose charge was given back) is never sent again; one that nobody knows is."""
    assert life_after(said, generation=3) == life
