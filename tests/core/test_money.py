"""Money folded from sends and notes: every cell, against a small model that asks the questions one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxguard.core.money import (
    NO_MONEY,
    Money,
    MoneyState,
    Note,
    NoteKind,
    Send,
    SendKind,
    fold,
    pending_refunds,
    standing_minor,
    unanswered,
)
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown

CHARGED = Charged(4999, "EUR", "pay_1")
RESERVED = Charged(4999, "EUR", "pay_1", captured=False)
DECLINED = Declined()
NOT_CHARGED = NotCharged("connect refused", retryable=True)
UNKNOWN = Unknown("no answer in time")
NEEDS = NeedsShopper("3ds")
REFUNDED = Refunded(4999, "EUR", "re_1")
OUTCOMES: tuple[Outcome, ...] = (CHARGED, RESERVED, DECLINED, NOT_CHARGED, UNKNOWN, NEEDS, REFUNDED)
OPEN = (Unknown, NeedsShopper)


def send(number: int, outcome: Outcome = UNKNOWN, **changes: object) -> Send:
    line = Send(number, "http:shop:test", "key-1", "charge", 1, SendKind.CHARGE, 4999, "EUR", 1000.0 + number, outcome=outcome)
    return replace(line, **changes)  # type: ignore[arg-type]


def fact(outcome: Outcome, *, key: str = "key-1", through: int | None = None, generation: int = 0) -> Note:
    event_id = f"{key}:{outcome}:{through}"
    return Note(event_id, NoteKind.OUTCOME, 2000.0, "webhook", gateway_key=key, outcome=outcome, through=through, generation=generation)


def state(sends: Sequence[Send], notes: Iterable[Note] = (), generation: int = 1) -> MoneyState:
    return fold(sends, notes, generation=generation).state


# The model: it asks each question by itself and looks for whatever closes it.


def model_key(sends: Sequence[Send], notes: Sequence[Note]) -> MoneyState:
    told = [line.outcome for line in sends] + [note.outcome for note in notes]
    if any(isinstance(outcome, Charged | Refunded) for outcome in told):
        return MoneyState.CHARGED
    newest = max((line.number for line in sends), default=0)
    questions = [line.number for line in sends if isinstance(line.outcome, OPEN)]
    questions += [newest if note.through is None else note.through for note in notes if isinstance(note.outcome, OPEN)]
    if any(not _closed(question, sends, notes) for question in questions):
        return MoneyState.UNKNOWN
    return MoneyState.DECLINED if any(isinstance(outcome, Declined) for outcome in told) else MoneyState.NONE


def _closed(question: int, sends: Sequence[Send], notes: Sequence[Note]) -> bool:
    by_fact = any(not isinstance(note.outcome, OPEN) and (note.through is None or note.through >= question) for note in notes)
    by_send = any(line.keyed and line.number >= question and isinstance(line.outcome, Declined) for line in sends)
    return by_fact or by_send


def model(sends: Sequence[Send], notes: Sequence[Note], generation: int) -> MoneyState:
    """Only for charges without refund sends: the state over all keys."""
    facts = [note for note in notes if note.kind is NoteKind.OUTCOME and note.gateway_key]
    keys = {line.key for line in sends} | {note.gateway_key for note in facts}
    mine = {key: ([line for line in sends if line.key == key], [note for note in facts if note.gateway_key == key]) for key in keys}
    states = {key: model_key(*known) for key, known in mine.items()}
    if MoneyState.UNKNOWN in states.values():
        return MoneyState.UNKNOWN
    charged = [key for key in keys if states[key] is MoneyState.CHARGED]
    if any(_model_stands(*mine[key]) for key in charged):
        return MoneyState.CHARGED
    present = {states[key] for key in keys if _model_life(*mine[key]) in (0, generation)}
    if MoneyState.DECLINED in present:
        return MoneyState.DECLINED
    return MoneyState.REFUNDED if MoneyState.CHARGED in present else MoneyState.NONE


def _model_stands(sends: Sequence[Send], notes: Sequence[Note]) -> bool:
    told = [line.outcome for line in sends] + [note.outcome for note in notes]
    back = [outcome.amount_minor for outcome in told if isinstance(outcome, Refunded)]
    taken = [outcome.amount_minor for outcome in told if isinstance(outcome, Charged)] or [line.amount_minor or 0 for line in sends]
    return not back or max(back) < max(taken, default=0)


def _model_life(sends: Sequence[Send], notes: Sequence[Note]) -> int:
    return sends[0].generation if sends else max(note.generation for note in notes)


# One key, by hand: what each cell must be.


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


# Amounts.


def charge(outcome: Outcome = CHARGED) -> Send:
    return send(1, outcome)


def act(number: int, kind: SendKind, outcome: Outcome, *, key: str = "act-1", amount_minor: int = 4999) -> Send:
    return send(number, outcome, key=key, kind=kind, of="key-1", amount_minor=amount_minor)


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


# Order and repetition.

outcomes = st.one_of(
    st.builds(Charged, st.sampled_from([0, 1, 4999]), st.sampled_from(["EUR", "USD", ""]), captured=st.booleans()),
    st.builds(Refunded, st.sampled_from([0, 1, 4999]), st.sampled_from(["EUR", "USD"])),
    st.sampled_from([DECLINED, NOT_CHARGED, UNKNOWN, NEEDS]),
)
keys = st.sampled_from(["a", "b", "c"])
facts = st.builds(fact, outcomes, key=keys, through=st.sampled_from([None, 0, 1, 2, 5]), generation=st.integers(0, 2))
other_notes = st.sampled_from([Note("c", NoteKind.CANCEL, 1.0), Note("x", NoteKind.OUTCOME, 1.0, outcome=CHARGED)])
all_notes = st.lists(st.one_of(facts, other_notes), max_size=6)


@st.composite
def lines(draw: st.DrawFn, kinds: tuple[SendKind, ...] = tuple(SendKind)) -> list[Send]:
    """Sends numbered upwards; a key keeps the kind, the generation and the charge that it had at first."""
    made: dict[str, tuple[SendKind, int, str | None]] = {}
    sends = []
    for number in range(1, 1 + draw(st.integers(0, 5))):
        key = draw(keys)
        kind, generation, of = made.setdefault(key, (draw(st.sampled_from(kinds)), draw(st.integers(1, 2)), draw(keys)))
        about = None if kind is SendKind.CHARGE else of
        asked = draw(st.sampled_from([None, 4999]))
        line = send(number, draw(outcomes), key=key, kind=kind, generation=generation, of=about, amount_minor=asked)
        sends.append(replace(line, keyed=draw(st.booleans())))
    return sends


@settings(max_examples=400, deadline=None)
@given(lines(), all_notes, st.integers(1, 3), st.data())
def test_order_and_repetition_of_facts_change_nothing(sends: list[Send], notes: list[Note], generation: int, data: st.DataObject) -> None:
    """Any order of the notes, with any of them told again, folds to the same money."""
    shuffled = data.draw(st.permutations(notes + data.draw(st.lists(st.sampled_from(notes), max_size=4) if notes else st.just([]))))
    assert fold(sends, shuffled, generation=generation) == fold(sends, notes, generation=generation)


@settings(max_examples=400, deadline=None)
@given(lines(kinds=(SendKind.CHARGE,)), all_notes, st.integers(1, 3))
def test_random_charges_agree_with_the_model(sends: list[Send], notes: list[Note], generation: int) -> None:
    """Over several keys, generations and facts, the state is what the model finds."""
    assert state(sends, notes, generation) is model(sends, notes, generation)


@settings(max_examples=300, deadline=None)
@given(lines(), all_notes, st.integers(1, 3))
def test_figures_agree_with_each_other(sends: list[Send], notes: list[Note], generation: int) -> None:
    """No amount is negative, and the state, the keys and the unanswered sends never contradict each other."""
    money: Money = fold(sends, notes, generation=generation)
    assert min(money.authorised_minor, money.captured_minor, money.refunded_minor) >= 0
    assert (money.state is MoneyState.UNKNOWN) == bool(money.unknown_keys)
    assert (money.state is MoneyState.CHARGED) == (bool(money.charged_keys) and not money.unknown_keys)
    assert not set(money.charged_keys) & set(money.unknown_keys)
    for key in money.unknown_keys:
        told = [note for note in notes if note.gateway_key == key and isinstance(note.outcome, OPEN)]
        assert unanswered(sends, notes, key) or told
    for key in money.charged_keys:
        assert standing_minor(sends, notes, key) >= 0


@settings(max_examples=300, deadline=None)
@given(lines(kinds=(SendKind.CHARGE,)), all_notes, st.sampled_from(["a", "b", "c", "d"]))
def test_proof_of_a_charge_is_never_folded_away(sends: list[Send], notes: list[Note], key: str) -> None:
    """Once a charge is proven and nothing was given back, no other fact makes it unproven."""
    without_refunds = [note for note in notes if not isinstance(note.outcome, Refunded)]
    plain = [line for line in sends if not isinstance(line.outcome, Refunded)]
    money = fold(plain, [*without_refunds, fact(CHARGED, key=key)], generation=3)
    assert key in money.charged_keys
    assert money.state in (MoneyState.CHARGED, MoneyState.UNKNOWN)
