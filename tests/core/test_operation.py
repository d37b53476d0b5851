"""The operation's moves: every cell of state, move and money, and a random walk against a tiny model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import (
    HISTORY_HEAD,
    HISTORY_MAX,
    Entry,
    Move,
    Operation,
    State,
    WaitingFor,
    money_of,
    move,
    refolded,
    remember,
)
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Refunded, Unknown
from cxguard.errors import IllegalMove

OUTCOME_OF: dict[MoneyState, Outcome] = {
    MoneyState.UNKNOWN: Unknown("no answer"),
    MoneyState.CHARGED: Charged(4999, "EUR"),
    MoneyState.DECLINED: Declined(),
    MoneyState.REFUNDED: Refunded(4999, "EUR"),
    MoneyState.NONE: NotCharged("refused"),
}

# Written by hand, apart from the tables in the module: from where to where, and which money each move must not meet.
LEGAL = {
    "running": {"finish": "finished", "defer": "queued", "hold": "held", "cancel": "cancelled"},
    "queued": {"start": "running", "defer": "queued", "hold": "held", "finish": "finished", "cancel": "cancelled"},
    "held": {
        **{"start": "running", "reopen": "running", "hold": "held", "requeue": "queued", "finish": "finished", "cancel": "cancelled"},
    },
    "finished": {"hold": "held", "reopen": "running", "reopen_queued": "queued"},
    "cancelled": {"hold": "held", "rerun": "running", "reopen": "running", "reopen_queued": "queued"},
}
FORBIDDEN_MONEY = {
    "finish": {"unknown"},
    "cancel": {"unknown", "charged"},
    "rerun": {"unknown", "charged", "declined", "refunded"},
    "reopen": {"unknown", "charged"},
    "reopen_queued": {"unknown", "charged"},
}


def line(outcome: Outcome, *, number: int = 1, key: str = "key-1", generation: int = 1) -> Send:
    return Send(number, "http:shop:test", key, "charge", generation, SendKind.CHARGE, 4999, "EUR", 1000.0, outcome=outcome)


def operation(state: State = State.RUNNING, **changes: Any) -> Operation:
    record = Operation(
        id="a" * 64,
        namespace="shop",
        rule="pay",
        owner="owner",
        reference="ABC-DEF",
        fingerprint="f",
        state=state,
        created_at=1000.0,
        updated_at=1000.0,
    )
    return replace(record, **changes)


def with_money(state: State, money: MoneyState) -> Operation:
    return operation(state, sends=(line(OUTCOME_OF[money]),), why="gateway_down", due_at=1.0, waiting_for=WaitingFor.GATEWAY)


@pytest.mark.parametrize("money", list(MoneyState))
@pytest.mark.parametrize("to", list(Move))
@pytest.mark.parametrize("state", list(State))
def test_every_move(state: State, to: Move, money: MoneyState) -> None:
    """Each cell moves as the table says, or raises and nothing changed."""
    before = with_money(state, money)
    untouched = replace(before)
    target = LEGAL[state].get(to)
    if target is None or money in FORBIDDEN_MONEY.get(to, set()):
        with pytest.raises(IllegalMove):
            move(before, to)
    else:
        after = move(before, to)
        assert after.state == target
        assert after.generation == before.generation + (1 if to.startswith("reopen") else 0)
    assert before == untouched


def test_a_move_clears_the_reason_of_the_state_before() -> None:
    """Reason, due time and whom it waits for belong to a state and do not outlive it."""
    after = move(with_money(State.QUEUED, MoneyState.NONE), Move.START)
    assert (after.why, after.due_at, after.waiting_for) == ("", None, None)


def test_a_move_sets_what_it_is_given() -> None:
    """Members given with a move are set with it."""
    after = move(operation(), Move.HOLD, why="needs_shopper", waiting_for=WaitingFor.SHOPPER, due_at=7.0)
    assert (after.why, after.due_at, after.waiting_for) == ("needs_shopper", 7.0, WaitingFor.SHOPPER)


def test_a_held_operation_waits_for_the_agent_unless_told_otherwise() -> None:
    """Nothing is held for nobody."""
    assert move(operation(), Move.HOLD).waiting_for is WaitingFor.AGENT


def test_a_move_is_judged_with_the_facts_that_it_brings() -> None:
    """An answer that comes with the move counts: a charge forbids the cancel, a decline allows the finish."""
    with pytest.raises(IllegalMove):
        move(operation(), Move.CANCEL, sends=(line(OUTCOME_OF[MoneyState.CHARGED]),))
    unknown = operation(sends=(line(OUTCOME_OF[MoneyState.UNKNOWN]),))
    with pytest.raises(IllegalMove):
        move(unknown, Move.FINISH)
    finished = move(unknown, Move.FINISH, sends=(line(OUTCOME_OF[MoneyState.DECLINED]),))
    assert (finished.state, finished.money) == (State.FINISHED, MoneyState.DECLINED)


def test_a_move_is_judged_with_the_notes_that_it_brings() -> None:
    """A charge that a note tells of forbids the cancel that the note comes with."""
    told = Note("e1", NoteKind.OUTCOME, 1.0, gateway_key="key-1", outcome=Charged(4999, "EUR"))
    with pytest.raises(IllegalMove):
        move(operation(), Move.CANCEL, notes=(told,))


@pytest.mark.parametrize("member", ["state", "generation", "money", "captured_minor", "notes_seen"])
def test_a_move_cannot_set_what_the_table_and_the_fold_decide(member: str) -> None:
    """State, generation and money are never passed in."""
    with pytest.raises(TypeError):
        move(operation(), Move.FINISH, **{member: 1})


def test_a_move_counts_every_note_as_seen() -> None:
    """What the holder folded is what it has seen: the store makes the record due for the rest."""
    note = Note("e1", NoteKind.OUTCOME, 1.0, gateway_key="key-1", outcome=Charged(4999, "EUR"))
    after = move(operation(sends=(line(Unknown("no answer")),), notes=(note,)), Move.FINISH)
    assert (after.notes_seen, after.money, after.captured_minor) == (1, MoneyState.CHARGED, 4999)


def test_reopening_leaves_a_decline_behind() -> None:
    """The next life begins with nothing charged and nothing declined."""
    declined = with_money(State.FINISHED, MoneyState.DECLINED)
    assert move(declined, Move.REOPEN).money is MoneyState.NONE


def test_refolding_twice_is_refolding_once() -> None:
    """The kept figures follow the sends and notes; a record whose figures are right stays equal."""
    record = refolded(operation(sends=(line(Charged(4999, "EUR")),)))
    assert (record.money, record.captured_minor) == (MoneyState.CHARGED, 4999)
    assert refolded(record) == record


def test_refolding_sets_what_it_is_given_beside_the_figures() -> None:
    """What the caller changes comes with it."""
    record = refolded(operation(), why="gateway_down")
    assert record.why == "gateway_down"


@pytest.mark.parametrize(
    ("note_generation", "generation", "asked"), [(0, 1, True), (0, 2, True), (1, 1, True), (1, 2, False), (2, 1, False)]
)
def test_a_wish_to_cancel_is_for_the_life_it_names(note_generation: int, generation: int, asked: bool) -> None:
    """Reopening an operation is not undone by the wish that ended its life before."""
    wish = Note("c1", NoteKind.CANCEL, 1.0, generation=note_generation)
    assert operation(generation=generation, notes=(wish,)).cancel_asked is asked


def test_a_remark_is_no_wish_to_cancel() -> None:
    """Only a note of that kind asks for the end."""
    assert not operation(notes=(Note("r", NoteKind.REMARK, 1.0, text="cancel!"),)).cancel_asked


@pytest.mark.parametrize("count", [0, 1, HISTORY_MAX - 1, HISTORY_MAX, HISTORY_MAX + 1, 3 * HISTORY_MAX])
@pytest.mark.parametrize("at_once", [True, False])
def test_the_timeline_keeps_its_head_and_the_newest(count: int, at_once: bool) -> None:
    """However entries come, the first ones and the newest stay, in order, and never more than the limit."""
    entries = [Entry(at=float(number), event=f"event-{number}") for number in range(count)]
    record = operation()
    if at_once:
        record = remember(record, *entries)
    else:
        for entry in entries:
            record = remember(record, entry)
    kept = entries if count <= HISTORY_MAX else entries[:HISTORY_HEAD] + entries[HISTORY_HEAD - HISTORY_MAX :]
    assert list(record.history) == kept
    assert len(record.history) <= HISTORY_MAX


class Walk(RuleBasedStateMachine):
    """One operation through random sends, answers, facts and moves; beside it a model of three members.

    The model keeps, for each gateway key, the gravest thing that is known of it, and only that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record = operation()
        self.state = "running"
        self.generation = 1
        self.known: dict[str, tuple[int, str]] = {}

    def model_money(self) -> str:
        told = {money for _, money in self.known.values()}
        present = {money for generation, money in self.known.values() if generation == self.generation}
        for money, where in (("unknown", told), ("charged", told), ("declined", present), ("refunded", present)):
            if money in where:
                return money
        return "none"

    @rule(step=st.sampled_from(["charge", "gift card"]))
    def send(self, step: str) -> None:
        key = f"{step}-{self.generation}"
        if self.known.get(key, (0, "none"))[1] != "none":
            return  # what may have charged is never sent again here
        self.known[key] = (self.generation, "unknown")
        number = 1 + len(self.record.sends)
        sends = (*self.record.sends, line(Unknown("no answer yet"), number=number, key=key, generation=self.generation))
        self.record = refolded(replace(self.record, sends=sends))

    @rule(money=st.sampled_from(["charged", "declined", "none"]), by_note=st.booleans(), data=st.data())
    def answer(self, money: str, by_note: bool, data: st.DataObject) -> None:
        unknown = sorted(key for key, (_, known) in self.known.items() if known == "unknown")
        if not unknown:
            return
        key = data.draw(st.sampled_from(unknown))
        self._tell(key, money=money, by_note=by_note)

    @rule(by_note=st.just(True), data=st.data())
    def refund(self, by_note: bool, data: st.DataObject) -> None:
        charged = sorted(key for key, (_, known) in self.known.items() if known == "charged")
        if charged:
            self._tell(data.draw(st.sampled_from(charged)), money="refunded", by_note=by_note)

    def _tell(self, key: str, *, money: str, by_note: bool) -> None:
        self.known[key] = (self.known[key][0], money)
        outcome = OUTCOME_OF[MoneyState(money)]
        if by_note:
            through = max(send.number for send in self.record.sends if send.key == key)
            event_id = f"{key}:{through}:{money}"
            note = Note(event_id, NoteKind.OUTCOME, 1.0, gateway_key=key, outcome=outcome, through=through)
            self.record = replace(self.record, notes=(*self.record.notes, note))
            return
        last = max(send.number for send in self.record.sends if send.key == key)
        sends = tuple(replace(send, outcome=outcome) if send.number == last else send for send in self.record.sends)
        self.record = refolded(replace(self.record, sends=sends))

    @rule(to=st.sampled_from(list(Move)))
    def move(self, to: Move) -> None:
        target = LEGAL[self.state].get(to)
        if target is None or self.model_money() in FORBIDDEN_MONEY.get(to, set()):
            before = self.record
            with pytest.raises(IllegalMove):
                move(self.record, to)
            assert self.record is before
            return
        self.record = move(self.record, to)
        self.state = target
        self.generation += 1 if to.startswith("reopen") else 0

    @rule(count=st.integers(1, 40))
    def remember(self, count: int) -> None:
        self.record = remember(self.record, *(Entry(at=1.0, event="order.queued") for _ in range(count)))

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert (self.record.state, self.record.generation) == (self.state, self.generation)
        assert money_of(self.record).state == self.model_money()
        assert len(self.record.history) <= HISTORY_MAX


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
