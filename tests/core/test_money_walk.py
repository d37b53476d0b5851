"""Random sends and facts: their order and repetition change nothing, and the figures never contradict each other."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from money_lines import CHARGED, DECLINED, NEEDS, NOT_CHARGED, OPEN, UNKNOWN, fact, send, state
from money_model import model

from cxguard.core.figures import standing_minor
from cxguard.core.money import Money, MoneyState, Note, NoteKind, Send, SendKind, fold, unanswered
from cxguard.core.outcomes import Charged, Refunded

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
