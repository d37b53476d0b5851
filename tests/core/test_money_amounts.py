"""Amounts reserved, captured and given back, each payment and refund once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from money_lines import CHARGED, DECLINED, NEEDS, NOT_CHARGED, REFUNDED, RESERVED, UNKNOWN, act, charge, fact, send, state

from cxguard.core.figures import ChargeFigures, failed_refunds, figures_of, made_refunds, standing_minor
from cxguard.core.money import MoneyState, Note, Send, SendKind, fold, pending_refunds
from cxguard.core.outcomes import Charged, Refunded


@pytest.mark.parametrize(
    ("sends", "notes", "expected"),
    [
        ([charge()], [], (MoneyState.CHARGED, 0, 4999, 0)),
        ([charge(RESERVED)], [], (MoneyState.CHARGED, 4999, 0, 0)),
        ([charge(RESERVED)], [fact(CHARGED)], (MoneyState.CHARGED, 0, 4999, 0)),
        ([charge(RESERVED), act(2, SendKind.CAPTURE, CHARGED)], [], (MoneyState.CHARGED, 0, 4999, 0)),
        ([charge(RESERVED), act(2, SendKind.CAPTURE, CHARGED)], [fact(CHARGED)], (MoneyState.CHARGED, 0, 4999, 0)),
        ([charge(RESERVED), act(2, SendKind.CAPTURE, Charged(3000, "EUR"))], [], (MoneyState.CHARGED, 1999, 3000, 0)),
        ([charge(RESERVED), act(2, SendKind.CAPTURE, Charged(9000, "EUR"))], [], (MoneyState.CHARGED, 0, 4999, 0)),
        ([charge(RESERVED), act(2, SendKind.CAPTURE, UNKNOWN)], [], (MoneyState.CHARGED, 4999, 0, 0)),
        ([charge(RESERVED), act(2, SendKind.CAPTURE, NOT_CHARGED)], [], (MoneyState.CHARGED, 4999, 0, 0)),
        ([charge(RESERVED), act(2, SendKind.VOID, REFUNDED)], [], (MoneyState.REFUNDED, 4999, 0, 4999)),
        ([charge(), act(2, SendKind.REFUND, REFUNDED)], [], (MoneyState.REFUNDED, 0, 4999, 4999)),
        ([charge(), act(2, SendKind.REFUND, Refunded(1000, "EUR"))], [], (MoneyState.CHARGED, 0, 4999, 1000)),
        ([charge(), act(2, SendKind.REFUND, REFUNDED)], [fact(REFUNDED)], (MoneyState.REFUNDED, 0, 4999, 4999)),
        ([charge(), act(2, SendKind.REFUND, REFUNDED), act(3, SendKind.REFUND, REFUNDED)], [], (MoneyState.REFUNDED, 0, 4999, 4999)),
        ([charge(), act(2, SendKind.REFUND, NOT_CHARGED)], [], (MoneyState.CHARGED, 0, 4999, 0)),
        ([charge(), act(2, SendKind.REFUND, UNKNOWN)], [], (MoneyState.CHARGED, 0, 4999, 0)),
        ([charge(), act(2, SendKind.REFUND, UNKNOWN)], [fact(REFUNDED, key="act-1")], (MoneyState.REFUNDED, 0, 4999, 4999)),
        ([charge()], [fact(Refunded(4998, "EUR"))], (MoneyState.CHARGED, 0, 4999, 4998)),
        ([charge(UNKNOWN)], [fact(Refunded(1000, "EUR"))], (MoneyState.CHARGED, 4999, 0, 1000)),
        ([charge(UNKNOWN)], [fact(REFUNDED)], (MoneyState.REFUNDED, 4999, 0, 4999)),
        ([], [fact(REFUNDED)], (MoneyState.REFUNDED, 0, 0, 4999)),
        ([charge(Charged(0, ""))], [], (MoneyState.CHARGED, 0, 0, 0)),
        ([charge(Charged(0, ""))], [fact(Refunded(0, ""))], (MoneyState.REFUNDED, 0, 0, 0)),
    ],
)
def test_amounts(sends: list[Send], notes: list[Note], expected: tuple[MoneyState, int, int, int]) -> None:
    """Reserved, captured and given back are folded from what was told, each payment and refund once."""
    money = fold(sends, notes, generation=1)
    assert (money.state, money.authorised_minor, money.captured_minor, money.refunded_minor) == expected


def test_partial_refunds_add_up_by_key() -> None:
    """Two refunds under two keys give back both amounts; the charge stands until all of it went back."""
    part = [act(number, SendKind.REFUND, Refunded(2000, "EUR"), key=f"act-{number}") for number in (2, 3)]
    assert fold([charge(), *part], [], generation=1).refunded_minor == 4000
    assert standing_minor([charge(), *part], [], "key-1") == 999
    last = act(4, SendKind.REFUND, Refunded(999, "EUR"), key="act-4")
    assert state([charge(), *part, last]) is MoneyState.REFUNDED
    assert standing_minor([charge(), *part, last], [], "key-1") == 0


@pytest.mark.parametrize(
    ("sends", "notes", "pending"),
    [
        ([act(2, SendKind.REFUND, UNKNOWN)], [], True),
        ([act(2, SendKind.VOID, UNKNOWN)], [], True),
        ([act(2, SendKind.REFUND, NEEDS)], [], True),
        ([act(2, SendKind.REFUND, UNKNOWN), act(3, SendKind.REFUND, NOT_CHARGED)], [], True),
        ([act(2, SendKind.REFUND, UNKNOWN), act(3, SendKind.REFUND, REFUNDED)], [], False),
        ([act(2, SendKind.REFUND, UNKNOWN)], [fact(NOT_CHARGED, key="act-1")], False),
        ([act(2, SendKind.REFUND, UNKNOWN)], [fact(REFUNDED, key="act-1")], False),
        ([act(2, SendKind.REFUND, NOT_CHARGED)], [], False),
        ([act(2, SendKind.REFUND, DECLINED)], [], False),
        ([act(2, SendKind.CAPTURE, UNKNOWN)], [], False),
    ],
)
def test_refund_pending(sends: list[Send], notes: list[Note], pending: bool) -> None:
    """A refund is pending while a send of it may have worked and nobody said; it never makes the charge unknown."""
    money = fold([charge(), *sends], notes, generation=1)
    assert money.refund_pending is pending
    assert pending_refunds([charge(), *sends], notes) == (("act-1",) if pending else ())
    assert money.unknown_keys == ()


def test_a_second_charge_in_another_currency_stands_but_is_not_added() -> None:
    """Amounts are never summed over two currencies; the other charge is still named."""
    money = fold([charge(), send(2, Charged(700, "USD"), key="key-2")], [], generation=1)
    assert (money.captured_minor, money.currency, money.charged_keys) == (4999, "EUR", ("key-1", "key-2"))


@pytest.mark.parametrize("key", ["key-1", "act-1", "elsewhere"])
def test_nothing_stands_under_a_key_without_a_charge(key: str) -> None:
    """Only a charge's own key can have money standing under it."""
    assert standing_minor([charge(UNKNOWN), act(2, SendKind.REFUND, UNKNOWN)], [], key) == 0


TWO = [charge(), send(2, Charged(700, "EUR"), key="key-2")]
ELSEWHERE = act(9, SendKind.REFUND, Refunded(300, "EUR"), key="back-2")
ELSEWHERE_TOO = [*TWO, replace(ELSEWHERE, of="key-2")]


@pytest.mark.parametrize(
    ("sends", "notes", "figures"),
    [
        (TWO, [], (4999, 4999, 0, 0)),
        (ELSEWHERE_TOO, [], (4999, 4999, 0, 0)),
        ([charge(RESERVED)], [], (4999, 0, 0, 0)),
        ([charge(RESERVED), act(2, SendKind.CAPTURE, Charged(3000, "EUR"))], [], (4999, 3000, 0, 0)),
        ([charge(RESERVED), act(2, SendKind.VOID, REFUNDED)], [], (4999, 0, 4999, 0)),
        ([charge(), act(2, SendKind.REFUND, Refunded(1000, "EUR"))], [], (4999, 4999, 0, 1000)),
        ([charge(), act(2, SendKind.REFUND, UNKNOWN)], [], (4999, 4999, 0, 0)),
        ([charge()], [fact(Refunded(1200, "EUR"))], (4999, 4999, 0, 1200)),
        ([charge(), act(2, SendKind.REFUND, Refunded(1000, "EUR"))], [fact(Refunded(1200, "EUR"))], (4999, 4999, 0, 1200)),
        ([charge(RESERVED), act(2, SendKind.VOID, Refunded(1000, "EUR"))], [fact(Refunded(1200, "EUR"))], (4999, 0, 1000, 200)),
        ([act(1, SendKind.REFUND, REFUNDED), send(2, CHARGED)], [], (4999, 4999, 0, 4999)),
        ([charge(UNKNOWN)], [], None),
        ([charge(UNKNOWN)], [fact(REFUNDED)], None),
        ([send(1, CHARGED, key="key-2")], [], None),
    ],
)
def test_the_figures_of_a_charge(sends: list[Send], notes: list[Note], figures: tuple[int, ...] | None) -> None:
    """Of what was authorised: taken, let go, given back; of this charge and of no other, and none where no amount was told."""
    assert figures_of(sends, notes, "key-1") == (ChargeFigures(*figures, "EUR") if figures else None)


def test_what_can_still_be_taken_and_given_back() -> None:
    """A refund of more than was taken has let go of the rest; neither is ever below nothing."""
    found = [ChargeFigures(5000, *parts, "EUR") for parts in ((0, 0, 0), (3000, 1000, 500), (3000, 0, 3500), (5000, 1000, 6000))]
    assert [figures.capturable_minor for figures in found] == [5000, 1000, 1500, 0]
    assert [figures.refundable_minor for figures in found] == [0, 2500, 0, 0]


def test_what_was_given_back_is_found_by_its_charge() -> None:
    """Refunds and voids that were made; and those of which it was told later that nothing arrived."""
    failed = act(3, SendKind.REFUND, Refunded(10, "EUR"), key="act-2")
    sends = [*ELSEWHERE_TOO, act(4, SendKind.CAPTURE, CHARGED, key="cap"), act(2, SendKind.REFUND, Refunded(10, "EUR")), failed]
    notes = [fact(NOT_CHARGED, key="act-2")]
    assert (made_refunds(sends, notes, "key-1"), made_refunds(sends, notes, "key-2")) == (("act-1",), ("back-2",))
    assert made_refunds([charge(), act(2, SendKind.REFUND, UNKNOWN)], [], "key-1") == ()
    assert failed_refunds(sends, notes) == failed_refunds(sends, notes, "key-1") == {"act-2"}
    assert failed_refunds(sends, notes, "key-2") == frozenset()
    assert [standing_minor(ELSEWHERE_TOO, [], key) for key in ("key-1", "key-2")] == [4999, 400]
