"""Money folded from sends and notes: every cell, against a small model that asks the questions one by one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from money_lines import CHARGED, DECLINED, NEEDS, NOT_CHARGED, OUTCOMES, REFUNDED, RESERVED, UNKNOWN, fact, send, state
from money_model import model

from cxguard.core.money import NO_MONEY, MoneyState, Note, NoteKind, fold, next_number, unanswered
from cxguard.core.outcomes import Outcome


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (CHARGED, MoneyState.CHARGED),
        (RESERVED, MoneyState.CHARGED),
        (DECLINED, MoneyState.DECLINED),
        (NOT_CHARGED, MoneyState.NONE),
        (UNKNOWN, MoneyState.UNKNOWN),
        (NEEDS, MoneyState.UNKNOWN),
        (REFUNDED, MoneyState.REFUNDED),
    ],
)
@pytest.mark.parametrize("keyed", [True, False])
def test_one_send_is_worth_its_own_answer(outcome: Outcome, expected: MoneyState, keyed: bool) -> None:
    """A single send's answer is the operation's money."""
    assert state([send(1, outcome, keyed=keyed)]) is expected
    assert state([], [fact(outcome)]) is expected


@pytest.mark.parametrize(
    ("first", "second", "keyed", "expected"),
    [
        (UNKNOWN, CHARGED, True, MoneyState.CHARGED),
        (UNKNOWN, CHARGED, False, MoneyState.CHARGED),
        (CHARGED, UNKNOWN, True, MoneyState.CHARGED),
        (CHARGED, DECLINED, True, MoneyState.CHARGED),
        (CHARGED, NOT_CHARGED, True, MoneyState.CHARGED),
        (UNKNOWN, DECLINED, True, MoneyState.DECLINED),
        (UNKNOWN, DECLINED, False, MoneyState.UNKNOWN),
        (NEEDS, DECLINED, True, MoneyState.DECLINED),
        (NEEDS, DECLINED, False, MoneyState.UNKNOWN),
        (DECLINED, UNKNOWN, True, MoneyState.UNKNOWN),
        (DECLINED, NOT_CHARGED, True, MoneyState.DECLINED),
        (NOT_CHARGED, DECLINED, True, MoneyState.DECLINED),
        (UNKNOWN, NOT_CHARGED, True, MoneyState.UNKNOWN),
        (NOT_CHARGED, UNKNOWN, True, MoneyState.UNKNOWN),
        (NOT_CHARGED, NOT_CHARGED, True, MoneyState.NONE),
        (UNKNOWN, NEEDS, True, MoneyState.UNKNOWN),
    ],
)
def test_two_sends_of_one_key(first: Outcome, second: Outcome, keyed: bool, expected: MoneyState) -> None:
    """A gateway that honours keys answers for the key with a charge or a decline; "not charged" is about one send."""
    assert state([send(1, first, keyed=keyed), send(2, second, keyed=keyed)]) is expected


@pytest.mark.parametrize(
    ("sent", "noted", "through", "expected"),
    [
        (UNKNOWN, CHARGED, 0, MoneyState.CHARGED),
        (UNKNOWN, DECLINED, None, MoneyState.DECLINED),
        (UNKNOWN, DECLINED, 1, MoneyState.DECLINED),
        (UNKNOWN, DECLINED, 0, MoneyState.UNKNOWN),
        (UNKNOWN, NOT_CHARGED, 1, MoneyState.NONE),
        (UNKNOWN, NOT_CHARGED, 0, MoneyState.UNKNOWN),
        (UNKNOWN, UNKNOWN, None, MoneyState.UNKNOWN),
        (NEEDS, NOT_CHARGED, None, MoneyState.NONE),
        (NOT_CHARGED, NEEDS, None, MoneyState.UNKNOWN),
        (NOT_CHARGED, UNKNOWN, 1, MoneyState.UNKNOWN),
        (NOT_CHARGED, DECLINED, None, MoneyState.DECLINED),
        (DECLINED, NEEDS, None, MoneyState.DECLINED),
        (DECLINED, NOT_CHARGED, None, MoneyState.DECLINED),
        (DECLINED, CHARGED, None, MoneyState.CHARGED),
        (CHARGED, NOT_CHARGED, None, MoneyState.CHARGED),
        (CHARGED, DECLINED, None, MoneyState.CHARGED),
        (CHARGED, REFUNDED, None, MoneyState.REFUNDED),
        (UNKNOWN, REFUNDED, None, MoneyState.REFUNDED),
    ],
)
def test_a_send_and_a_fact_about_its_key(sent: Outcome, noted: Outcome, through: int | None, expected: MoneyState) -> None:
    """A fact about the key settles the sends that it covers, and word of a payment under way opens the key again."""
    assert state([send(1, sent)], [fact(noted, through=through)]) is expected


def test_an_unkeyed_decline_does_not_settle_a_payment_under_way() -> None:
    """Where keys are not honoured, the shop's "declined" is about one send, and a webhook's "processing" stays open."""
    assert state([send(1, DECLINED, keyed=False)], [fact(NEEDS)]) is MoneyState.UNKNOWN


def test_a_look_up_does_not_settle_a_send_made_after_it() -> None:
    """A fact covers the sends up to its number; one that left later is still without an answer."""
    sends = [send(1), send(2)]
    assert state(sends, [fact(NOT_CHARGED, through=1)]) is MoneyState.UNKNOWN
    assert unanswered(sends, [fact(NOT_CHARGED, through=1)], "key-1") == (sends[1],)


NOTED: list[tuple[Note, ...]] = [(), *((fact(outcome, through=through),) for outcome in OUTCOMES for through in (None, 0, 1, 2, 3))]


@pytest.mark.parametrize("keyed", list(itertools.product([True, False], repeat=2)))
def test_every_cell_within_one_key_agrees_with_the_model(keyed: tuple[bool, bool]) -> None:
    """All pairs of send outcomes, keyed or not, with each pair of facts: the state that the model finds."""
    for first, second in itertools.product(OUTCOMES, OUTCOMES):
        sends = [send(1, first, keyed=keyed[0]), send(2, second, keyed=keyed[1])]
        for one, other in itertools.combinations_with_replacement(NOTED, 2):
            notes = one + other
            assert state(sends, notes) is model(sends, notes, 1), (sends, notes)


# Across keys and generations.

BY_STATE = {MoneyState.UNKNOWN: UNKNOWN, MoneyState.CHARGED: CHARGED, MoneyState.DECLINED: DECLINED, MoneyState.NONE: NOT_CHARGED}
STRENGTH = [MoneyState.UNKNOWN, MoneyState.CHARGED, MoneyState.DECLINED, MoneyState.REFUNDED, MoneyState.NONE]


@pytest.mark.parametrize(("one", "other"), list(itertools.product([*BY_STATE.items(), (MoneyState.REFUNDED, REFUNDED)], repeat=2)))
def test_across_keys_the_graver_word_wins(one: tuple[MoneyState, Outcome], other: tuple[MoneyState, Outcome]) -> None:
    """Unknown, then charged, then declined, then refunded, then none."""
    sends = [send(1, one[1]), send(2, other[1], key="key-2")]
    assert state(sends) is min(one[0], other[0], key=STRENGTH.index)


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        (UNKNOWN, MoneyState.UNKNOWN),
        (NEEDS, MoneyState.UNKNOWN),
        (CHARGED, MoneyState.CHARGED),
        (DECLINED, MoneyState.NONE),
        (NOT_CHARGED, MoneyState.NONE),
        (REFUNDED, MoneyState.NONE),
    ],
)
def test_an_earlier_life_counts_only_while_its_money_is_open(earlier: Outcome, expected: MoneyState) -> None:
    """A decline or refund of an earlier generation is history; a charge or doubt of it is not."""
    assert state([send(1, earlier)], generation=2) is expected
    assert state([send(1, earlier), send(2, NOT_CHARGED, key="key-2", generation=2)], generation=2) is expected


def test_a_fact_about_a_key_never_sent_belongs_to_the_life_it_names() -> None:
    """A decline told of by a webhook alone colours its own generation, or any when it names none."""
    assert state([], [fact(DECLINED)], generation=2) is MoneyState.DECLINED
    assert state([], [fact(DECLINED, generation=1)], generation=2) is MoneyState.NONE
    assert state([], [fact(DECLINED, generation=2)], generation=2) is MoneyState.DECLINED


def test_keys_come_oldest_first_and_those_only_heard_of_last() -> None:
    """Charged keys keep the order of their first send, so that a second charge is known from the first."""
    sends = [send(1, CHARGED, key="z"), send(2, CHARGED, key="b")]
    notes = [fact(CHARGED, key="y"), fact(CHARGED, key="a")]
    assert fold(sends, notes, generation=1).charged_keys == ("z", "b", "a", "y")
    assert fold([replace(line, outcome=UNKNOWN) for line in sends], (), generation=1).unknown_keys == ("z", "b")


# Notes that say nothing about money.


def test_other_notes_move_no_money() -> None:
    """A wish to cancel, a remark, and an outcome about no key leave the money where it is."""
    others = [
        Note("c", NoteKind.CANCEL, 1.0),
        Note("r", NoteKind.REMARK, 1.0, text="paid!"),
        Note("o", NoteKind.OUTCOME, 1.0, outcome=CHARGED),
        Note("n", NoteKind.OUTCOME, 1.0, gateway_key="key-1"),
    ]
    assert fold([], others, generation=1) == NO_MONEY
    assert fold([send(1)], others, generation=1) == fold([send(1)], [], generation=1)


@pytest.mark.parametrize(
    ("numbers", "covered", "number"), [((), (), 1), ((1, 4), (2, None), 5), ((1,), (3,), 4), ((), (2,), 3), ((), (None,), 1)]
)
def test_new_line_is_covered_by_no_note(numbers: tuple[int, ...], covered: tuple[int | None, ...], number: int) -> None:
    """Also by none about a line that is not on record any more."""
    assert next_number([send(each, NOT_CHARGED) for each in numbers], [fact(NOT_CHARGED, through=each) for each in covered]) == number
