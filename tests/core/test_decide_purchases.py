"""What `decide` says where another record of the owner has the same purchase."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from decide_orders import (
    CELLS,
    CHARGED,
    DECLINED,
    NONE,
    REFUNDED,
    UNKNOWN,
    C,
    F,
    H,
    Q,
    R,
    done,
    may_begin_anew,
    record,
    send,
    submit,
)

from cxguard.core.decide import Do
from cxguard.core.money import MoneyState
from cxguard.core.operation import State
from cxguard.core.outcomes import NotCharged

SAME_PURCHASE = {
    R: dict.fromkeys(MoneyState, Do.DUPLICATE),
    Q: dict.fromkeys(MoneyState, Do.DUPLICATE),
    H: dict.fromkeys(MoneyState, Do.DUPLICATE),
    F: {NONE: Do.SUPERSEDE, UNKNOWN: Do.DUPLICATE, CHARGED: Do.DUPLICATE, DECLINED: Do.SUPERSEDE, REFUNDED: Do.SUPERSEDE},
    C: {NONE: Do.SUPERSEDE, UNKNOWN: Do.DUPLICATE, CHARGED: Do.DUPLICATE, DECLINED: Do.SUPERSEDE, REFUNDED: Do.SUPERSEDE},
}
PAID_CELLS = {(F, CHARGED), (C, CHARGED)}


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize(("leased", "client_key", "same_request"), list(product((False, True), repeat=3)))
def test_the_same_purchase_under_another_key_is_found(
    state: State, money: MoneyState, leased: bool, client_key: bool, same_request: bool
) -> None:
    """While it may charge or has charged it is told about; a surely uncharged end gives way, unless it may begin anew now."""
    what = submit(client_key=client_key, same_request=same_request)
    wanted = Do.WAIT if leased and may_begin_anew(state, money) else SAME_PURCHASE[state][money]
    assert done(record(state, money), what, leased=leased, claim=True) is wanted


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize(
    ("age_seconds", "changes"),
    [(5.0, {"amount_minor": 999}), (5.0, {"currency": "USD"}), (901.0, {}), (5.0, {"confirmed": "R1"}), (901.0, {"confirmed": "R1"})],
    ids=["other amount", "other currency", "after the window", "confirmed", "confirmed after the window"],
)
def test_only_a_paid_purchase_can_be_bought_again(state: State, money: MoneyState, age_seconds: float, changes: dict[str, Any]) -> None:
    """Another amount, the end of the window or the shopper's word let a paid one be; nothing else gives way to them."""
    wanted = Do.SUPERSEDE if (state, money) in PAID_CELLS else SAME_PURCHASE[state][money]
    assert done(record(state, money, age_seconds=age_seconds), submit(**changes), claim=True) is wanted


def test_a_word_about_another_order_does_not_confirm_a_purchase() -> None:
    """The confirmation names the order that it repeats."""
    assert done(record(F, CHARGED), submit(confirmed="R2"), claim=True) is Do.DUPLICATE


@pytest.mark.parametrize(("claims", "wanted"), [("p-1 a-1000", Do.DUPLICATE), ("p-1 a-700", Do.SUPERSEDE), ("p-1", Do.SUPERSEDE)])
def test_a_basket_is_the_same_purchase_at_the_price_that_was_agreed_to(claims: str, wanted: Do) -> None:
    """It was kept, and charged for less later. The basket alone may cost something else."""
    lowered = record(F, CHARGED, amount_minor=700, claims=("p-1", "a-1000"))
    assert done(lowered, submit(claims=tuple(claims.split())), claim=True) is wanted


LAPSED = {R: Do.SUPERSEDE, Q: Do.SUPERSEDE, H: Do.DUPLICATE, F: Do.SUPERSEDE, C: Do.SUPERSEDE}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("leased", [False, True])
def test_a_run_that_died_before_it_sent_anything_blocks_nobody(state: State, leased: bool) -> None:
    """It can never charge by itself, so the same basket under another key goes ahead; a held one waits for somebody."""
    at_work = {R: Do.DUPLICATE, Q: Do.DUPLICATE, H: Do.DUPLICATE, F: Do.WAIT, C: Do.WAIT}
    wanted = at_work[state] if leased else LAPSED[state]
    assert done(record(state, NONE, kept=False), submit(), leased=leased, claim=True) is wanted


@pytest.mark.parametrize("state", [R, Q])
@pytest.mark.parametrize("changes", [{"kept": True}, {"sends": (send(1, NotCharged("refused")),)}], ids=["kept", "was sent"])
def test_a_lapsed_run_that_may_go_on_is_told_about(state: State, changes: dict[str, Any]) -> None:
    """One that is kept, or has called a gateway, may be continued by the queue."""
    assert done(record(state, NONE, **{"kept": False, **changes}), submit(), claim=True) is Do.DUPLICATE
