"""What is done with a submit where each owner has one current operation: this very one, or the next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from decide_orders import CELLS, CHARGED, CLIENTS_KEY, CURRENT, NOW, UNKNOWN, WISH, C, F, done, record, submit

from cxguard.core.decide import Do
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import State


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_the_owners_current_operation_is_this_very_one(state: State, money: MoneyState) -> None:
    """Found by the owner's claim, it is decided as if found by its id."""
    assert done(record(state, money), submit(client_key=False), CURRENT, claim=True) is CLIENTS_KEY[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize("sign", ["served", "basket", "window"])
def test_a_purchase_that_is_over_gives_way_to_the_next(state: State, money: MoneyState, sign: str) -> None:
    """Ended with its money known, and its confirmation served, its basket changed or its window passed: a new purchase."""
    served = (Note("served:1", NoteKind.SERVED, NOW - 1.0),) if sign == "served" else ()
    age_seconds = 1_801.0 if sign == "window" else 5.0
    operation = record(state, money, age_seconds=age_seconds, notes=served, basket="b1")
    what = submit(client_key=False, basket="b2" if sign == "basket" else "b1")
    over = state in (F, C) and money is not UNKNOWN
    told = done(operation, what, CURRENT, claim=True)
    assert (told is Do.SUPERSEDE) is over


def test_a_confirmation_that_was_served_before_the_end_says_nothing() -> None:
    """The page of the purchase before this one does not end this one."""
    operation = record(F, CHARGED, notes=(Note("served:0", NoteKind.SERVED, NOW - 100.0),))
    assert done(operation, submit(client_key=False), CURRENT, claim=True) is Do.REPLAY


@pytest.mark.parametrize(("age_seconds", "wanted"), [(1_800.0, Do.DUPLICATE), (1_800.5, Do.SUPERSEDE)])
def test_a_current_purchase_is_over_after_its_window_and_not_at_its_end(age_seconds: float, wanted: Do) -> None:
    """At the last moment it is still the same one; a wish to cancel is no page that was served."""
    operation = record(F, CHARGED, age_seconds=age_seconds, notes=(replace(WISH, at=NOW),))
    assert done(operation, submit(client_key=False), CURRENT, claim=True) is wanted


def test_a_confirmation_that_was_served_at_the_end_is_its_own() -> None:
    """Both in one moment: the page was this order's."""
    operation = record(F, CHARGED, notes=(Note("served:1", NoteKind.SERVED, NOW - 5.0),))
    assert done(operation, submit(client_key=False), CURRENT, claim=True) is Do.SUPERSEDE


def test_the_basket_of_the_current_purchase_is_looked_at_only_when_found_by_its_claim() -> None:
    """Found by its own key, it is answered as such."""
    operation = record(F, CHARGED, basket="b1")
    assert done(operation, submit(client_key=False, basket="b2"), CURRENT) is Do.REPLAY
