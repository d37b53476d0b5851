"""What is told of a charge after it: captures without an answer, and refunds that the bank sent back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from money_lines import DECLINED, NEEDS, NOT_CHARGED, REFUNDED, RESERVED, UNKNOWN, act, charge, fact, send

from cxguard.core.figures import failed_refunds, standing_minor
from cxguard.core.money import GIVING_BACK, MoneyState, Note, Send, SendKind, fold, pending_captures, unanswered
from cxguard.core.outcomes import Charged, Outcome, Refunded

PART, LESS = Refunded(1000, "EUR"), Refunded(300, "EUR")
OPEN_CAPTURE = act(2, SendKind.CAPTURE, UNKNOWN, key="cap-1", amount_minor=3000)
SECOND_CAPTURE = act(3, SendKind.CAPTURE, UNKNOWN, key="cap-2", amount_minor=1000)
MADE_CAPTURE = replace(SECOND_CAPTURE, outcome=Charged(1000, "EUR"))
ELSEWHERE = replace(MADE_CAPTURE, of="key-2", outcome=Charged(4000, "EUR"))


@pytest.mark.parametrize(
    ("others", "notes", "pending"),
    [
        ([OPEN_CAPTURE], [], ("cap-1",)),
        ([replace(OPEN_CAPTURE, outcome=NEEDS)], [], ("cap-1",)),
        ([replace(OPEN_CAPTURE, outcome=NOT_CHARGED)], [], ()),
        ([OPEN_CAPTURE], [fact(DECLINED, key="cap-1")], ()),
        ([OPEN_CAPTURE], [fact(Charged(3000, "EUR"), key="cap-1")], ()),
        ([OPEN_CAPTURE], [fact(Charged(3000, "EUR"))], ()),
        ([OPEN_CAPTURE], [fact(Charged(2999, "EUR"))], ("cap-1",)),
        ([OPEN_CAPTURE, SECOND_CAPTURE], [], ("cap-1", "cap-2")),
        ([OPEN_CAPTURE, SECOND_CAPTURE], [fact(Charged(1000, "EUR"))], ("cap-1",)),
        ([OPEN_CAPTURE, MADE_CAPTURE], [fact(Charged(3999, "EUR"))], ("cap-1",)),
        ([OPEN_CAPTURE, MADE_CAPTURE], [fact(Charged(4000, "EUR"))], ()),
        ([OPEN_CAPTURE, ELSEWHERE], [fact(Charged(3000, "EUR"))], ()),
        ([replace(OPEN_CAPTURE, of="key-2")], [fact(Charged(3000, "EUR"))], ("cap-1",)),
        ([act(2, SendKind.REFUND, UNKNOWN)], [], ()),
        ([act(2, SendKind.VOID, UNKNOWN), SECOND_CAPTURE], [], ("cap-2",)),
    ],
)
def test_captures_without_an_answer(others: list[Send], notes: list[Note], pending: tuple[str, ...]) -> None:
    """Open until something is said of them, or the charge itself is told to have that much taken, the other captures of it included."""
    sends = [charge(RESERVED), *others]
    assert pending_captures(sends, notes) == pending
    assert fold(sends, notes, generation=1).capture_pending is bool(pending)


def test_one_charge_alone_has_nothing_pending() -> None:
    """Neither a capture nor a refund; the currency is that of the charge."""
    assert [fold([charge(outcome)], [], generation=1).currency for outcome in (RESERVED, Charged(0, "EUR"))] == ["EUR", "EUR"]
    money = fold([charge(UNKNOWN)], [], generation=1)
    assert (money.capture_pending, money.refund_pending, money.charged_keys, money.unknown_keys) == (False, False, (), ("key-1",))


@pytest.mark.parametrize("outcome", [UNKNOWN, NOT_CHARGED, DECLINED, Charged(3000, "EUR"), PART])
@pytest.mark.parametrize("kind", [SendKind.CAPTURE, SendKind.REFUND, SendKind.VOID])
def test_what_follows_a_charge_is_none_without_it(kind: SendKind, outcome: Outcome) -> None:
    """A copy of the record may have lost the charge's own line: no other call stands in for it."""
    money = fold([act(2, kind, outcome)], [], generation=1)
    assert (money.state, money.charged_keys, money.unknown_keys, money.captured_minor) == (MoneyState.NONE, (), (), 0)
    open_refund, open_capture = (outcome is UNKNOWN and kind in GIVING_BACK, outcome is UNKNOWN and kind is SendKind.CAPTURE)
    assert (money.refund_pending, money.capture_pending) == (open_refund, open_capture)


def test_what_was_never_sent_has_nothing_unanswered() -> None:
    """Neither a key that nobody knows, nor one that only a note speaks of."""
    assert unanswered([charge(UNKNOWN)], [], "key-9") == unanswered([], [fact(UNKNOWN, key="key-9")], "key-9") == ()


def heard(outcome: Outcome, at: float, *, key: str = "key-1", through: int | None = None) -> Note:
    return replace(fact(outcome, key=key, through=through), at=at)


BACK = act(2, SendKind.REFUND, PART)
BOTH = [BACK, replace(BACK, number=3, key="act-2", outcome=LESS)]
FAILED = heard(NOT_CHARGED, 3000.0, key="act-1")


@pytest.mark.parametrize(
    ("others", "notes", "refunded"),
    [
        ([BACK], [], 1000),
        ([BACK], [FAILED], 0),
        ([replace(BACK, kind=SendKind.VOID)], [FAILED], 0),
        ([BACK], [heard(PART, 2999.0)], 1000),
        ([BACK], [heard(PART, 2999.0), FAILED], 0),
        ([BACK], [heard(PART, 3000.0), FAILED], 0),
        ([BACK], [heard(PART, 3001.0), FAILED], 1000),
        ([BACK], [heard(PART, 3001.0), FAILED, heard(NOT_CHARGED, 3500.0, key="act-1")], 0),
        ([BACK], [heard(PART, 3001.0), heard(NOT_CHARGED, 3500.0, key="act-1"), FAILED], 0),
        ([BACK], [heard(LESS, 2999.0), FAILED], 0),
        ([BACK], [heard(REFUNDED, 2999.0), FAILED], 3999),
        ([BACK], [heard(REFUNDED, 2999.0), heard(PART, 3001.0), FAILED], 3999),
        ([BACK], [heard(PART, 2999.0), heard(REFUNDED, 3001.0), FAILED], 4999),
        ([BACK], [heard(PART, 2999.0), heard(NOT_CHARGED, 3000.0, key="act-1", through=1)], 1000),
        ([BACK], [heard(PART, 2999.0), heard(NOT_CHARGED, 3000.0, key="act-1", through=2)], 0),
        ([replace(BACK, outcome=UNKNOWN)], [heard(PART, 2500.0, key="act-1", through=2), FAILED], 0),
        ([replace(BACK, outcome=UNKNOWN)], [heard(PART, 2500.0, key="act-1"), FAILED], 0),
        ([BACK, replace(BACK, number=3)], [heard(NOT_CHARGED, 3000.0, key="act-1", through=2)], 1000),
        (BOTH, [], 1300),
        (BOTH, [FAILED], 300),
        (BOTH, [heard(Refunded(1300, "EUR"), 2999.0), FAILED], 300),
        (BOTH, [heard(Refunded(1300, "EUR"), 2999.0), FAILED, heard(NOT_CHARGED, 2999.5, key="act-2")], 0),
        (BOTH, [heard(Refunded(1300, "EUR"), 3500.0), FAILED], 1300),
        ([replace(BACK, of="key-2")], [heard(PART, 2999.0), FAILED], 1000),
    ],
)
def test_a_refund_that_the_bank_sent_back_was_none(others: list[Send], notes: list[Note], refunded: int) -> None:
    """What was told of it before it failed had it in the sum; what is told after that has not, and other refunds stay."""
    for told in (notes, notes[::-1]):
        money = fold([charge(), *others], told, generation=1)
        assert (money.state, money.refunded_minor) == (MoneyState.REFUNDED if refunded == 4999 else MoneyState.CHARGED, refunded)
        assert standing_minor([charge(), *others], told, "key-1") == 4999 - refunded


def test_a_charge_is_no_refund_that_failed() -> None:
    """To be told that nothing was charged under a key, after a refund of it was told of, takes the refund not away."""
    assert fold([charge()], [fact(REFUNDED), FAILED, heard(NOT_CHARGED, 3000.0)], generation=1).state is MoneyState.REFUNDED
    assert failed_refunds([charge()], [fact(REFUNDED), heard(NOT_CHARGED, 3000.0)]) == frozenset()


@pytest.mark.parametrize(
    ("sends", "notes", "captured"),
    [
        ([charge(RESERVED), replace(OPEN_CAPTURE, outcome=Charged(3000, "EUR")), MADE_CAPTURE], [], 4000),
        ([charge(RESERVED), replace(OPEN_CAPTURE, outcome=Charged(3000, "EUR")), ELSEWHERE], [], 3000),
        ([charge(RESERVED), MADE_CAPTURE], [fact(Charged(3000, "EUR"))], 3000),
        ([charge(RESERVED), MADE_CAPTURE], [fact(Charged(700, "EUR"))], 1000),
        ([charge(RESERVED), MADE_CAPTURE, BACK], [], 1000),
        ([charge(Charged(700, "EUR"))], [fact(RESERVED)], 700),
        ([charge(RESERVED)], [fact(Charged(700, "EUR"))], 700),
    ],
)
def test_what_was_taken(sends: list[Send], notes: list[Note], captured: int) -> None:
    """At once or by captures of its own, whichever is more; the largest telling of the charge is the charge."""
    money = fold(sends, notes, generation=1)
    assert (money.captured_minor, money.authorised_minor) == (captured, 4999 - captured)


def test_what_was_asked_for_stands_in_for_a_charge_that_only_a_refund_tells_of() -> None:
    """The largest of its sends; a send without an amount asks for nothing."""
    sends = [send(1, amount_minor=None), send(2, amount_minor=500), send(3, amount_minor=300)]
    money = fold(sends, [fact(Refunded(200, "EUR"))], generation=1)
    assert (money.authorised_minor, money.refunded_minor, money.currency, money.charged_keys) == (500, 200, "EUR", ("key-1",))


def test_what_was_given_back_of_a_charge_in_another_currency_is_not_added() -> None:
    """As the charge itself is not."""
    sends = [charge(), send(2, Charged(700, "USD"), key="key-2")]
    assert fold(sends, [fact(Refunded(700, "USD"), key="key-2")], generation=1).refunded_minor == 0
