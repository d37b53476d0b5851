"""What is told of an order that is held although it is paid and placed: for a wish that came late, or a refund of a part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from resolve_orders import CHARGED, UNKNOWN, C, F, H, Q, R, back, order, send, wish

from cxguard.core.answer import MoneyTold
from cxguard.core.answer import Situation as S
from cxguard.core.operation import Entry, State
from cxguard.core.situation import money_told_of, situation_of_operation
from cxguard.core.wishes import was_placed


def test_a_wish_that_came_after_the_end_promises_nothing() -> None:
    """It is paid, and a person looks at the wish; who closes it as placed has decided."""
    paid = order(H, send(CHARGED), notes=(wish(),), why="cancel_asked")
    assert (situation_of_operation(paid), money_told_of(paid)) == (S.CANCEL_ASKED, MoneyTold.CHARGED)
    assert situation_of_operation(replace(paid, state=F, why="placed_by_hand")) is S.PLACED


@pytest.mark.parametrize(
    ("detail", "answered_at", "situation"),
    [
        ({"money": "charged"}, 1.0, S.PLACED),
        ({"why": "paid"}, 1.0, S.PLACED),
        ({"reason": "by phone"}, 1.0, S.PLACED),
        ({"money": "declined"}, 1.0, S.PAID_UNFINISHED),
        ({"why": "declined"}, 1.0, S.PAID_UNFINISHED),
        ({"money": "charged"}, None, S.PAID_UNFINISHED),
    ],
)
def test_a_refund_without_an_answer_does_not_unplace_an_order(detail: Any, answered_at: float | None, situation: S) -> None:
    """A bank may take days over a part that is given back: the order is held for that, and is placed all the same."""
    paid = replace(order(H, send(CHARGED)), why="refund_unknown", answered_at=answered_at)
    held = replace(paid, history=(Entry(1.0, "operation.finished", detail=detail), Entry(2.0, "order.held")))
    assert situation_of_operation(held) is situation
    assert situation_of_operation(replace(held, why="refund_due")) is S.PAID_UNFINISHED
    asked = situation_of_operation(replace(held, notes=(wish(at=2.0),)))  # after it was placed: nobody promises the money back
    assert asked is (S.CANCEL_ASKED if situation is S.PLACED else S.REFUND_DUE)


@pytest.mark.parametrize(
    ("event", "before", "placed"),
    [("order.requeued", "cancel_asked", False), ("order.requeued", "refund_unknown", True), ("order.held", "cancel_asked", True)],
)
def test_only_a_person_who_grants_the_wish_unplaces_an_order(event: str, before: str, placed: bool) -> None:
    """Put back for anything else it is as it was."""
    lines = (Entry(1.0, "operation.finished", detail={"money": "charged"}), Entry(2.0, event, detail={"before": before}))
    assert was_placed(replace(order(H, send(CHARGED)), answered_at=1.0, history=lines)) is placed


@pytest.mark.parametrize(
    ("state", "asked", "situation"),
    [
        (F, False, S.UNKNOWN),
        (F, True, S.CANCEL_ASKED),
        (H, False, S.HELD),
        (Q, False, S.UNKNOWN),
        (R, False, S.UNKNOWN),
        (C, False, S.REFUND_DUE),
        (H, True, S.REFUND_DUE),
    ],
)
def test_nobody_is_told_paid_while_all_of_it_may_be_back(state: State, asked: bool, situation: S) -> None:
    """A refund of all has no answer: it is being checked, or goes back where the order was cancelled. A part changes nothing."""
    lines = (send(CHARGED), back(UNKNOWN))
    paid = order(state, *lines, notes=(wish(),) if asked else ())
    assert (situation_of_operation(paid), money_told_of(paid)) == (situation, MoneyTold.UNKNOWN)
    part = replace(paid, sends=(lines[0], replace(lines[1], amount_minor=1)))
    assert situation_of_operation(part) is situation_of_operation(replace(paid, sends=lines[:1]))
