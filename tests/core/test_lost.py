"""What follows from what a gateway says about the keys of a record that may have been lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxguard.core.decide import NOT_KEPT, RELEASED
from cxguard.core.lost import (
    BELIEVED,
    DOUBT_OR_PAID,
    IN_DOUBT,
    LIVES_MAX,
    LOST_BACK_SECONDS,
    LOST_EVENT,
    NOTHING_STANDS,
    TAKEN_OVER,
    Lost,
    due_for_second_look,
    first_life,
    is_doubted,
    is_silent,
    judge_lost,
    key_life,
    last_life,
    life_after,
    may_come_back,
    own_life,
    put_off,
    second_look_at,
    was_taken_over,
    with_figures_told,
)
from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import Entry, Operation, State, money_of
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.testing.contract.base import charge_send, sample

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


@pytest.mark.parametrize("said", [CHARGED, DECLINED, REFUNDED, NOT_FOUND, SILENT, NOT_CHARGED, BUSY, SHOPPER])
def test_silence_is_that_nobody_knows_of_a_charge_or_surely_none(said: Outcome) -> None:
    """No answer at all is none, and a decline is a word."""
    assert is_silent(said) is (said in (NOT_FOUND, NOT_CHARGED))


@pytest.mark.parametrize(
    ("said", "passed", "follows"),
    [
        ([NOT_FOUND, NOT_FOUND], 1, Lost.LOOK),
        ([NOT_FOUND, NOT_FOUND, NOT_FOUND], 1, Lost.CLEAR),
        ([NOT_FOUND, DECLINED, NOT_FOUND], 1, Lost.LOOK),
        ([SHOPPER], 1, Lost.DOUBT),
        ([NOT_FOUND, CHARGED], 2, Lost.ADOPT),
        ([DECLINED] * LIVES_MAX, 1, Lost.LOOK),
        ([DECLINED] * (LIVES_MAX + 1), 1, Lost.CLEAR),
    ],
)
def test_verdict_after_lives_that_are_over(said: list[Outcome], passed: int, follows: Lost) -> None:
    """Silence about lives that were over before anything was sent says nothing of the present one."""
    assert judge_lost(said, sure=True, passed=passed) is follows


@pytest.mark.parametrize(
    ("generation", "sent_in", "first"),
    [(1, (), 1), (2, (1,), 2), (2, (), 1), (3, (1,), 2), (3, (2,), 1), (3, (1, 2), 3), (LIVES_MAX + 5, (), 5)],
)
def test_first_life_that_is_asked_about(generation: int, sent_in: tuple[int, ...], first: int) -> None:
    """One that is over without a send on record, or whose calls left nothing, may be an older copy of one that charged."""
    sends = tuple(charge_send(f"key-{life}", life, generation=life, outcome=NOT_CHARGED) for life in sent_in)
    assert first_life(sample(generation=generation, sends=sends)) == first
    turned_away = charge_send("key", 9, outcome=NotCharged("throttled", retryable=True))
    assert first_life(sample(generation=2, sends=(turned_away,))) == 1


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


BEGAN = 1_000_000.0  # when the store began its present life


def looked(outcome: str, generation: int, *, since: float = BEGAN, **more: Any) -> Entry:
    return Entry(BEGAN + 1.0, LOST_EVENT, "worker", {"outcome": outcome, "generation": generation, "since": since, **more})


@pytest.mark.parametrize(
    ("since", "created_at", "after_seconds", "looks", "comes"),
    [
        (None, BEGAN, 1.0, (), False),
        (BEGAN, BEGAN + 5.0, 10.0, (), True),
        (BEGAN, BEGAN + 5.0, LOST_BACK_SECONDS, (), False),
        (BEGAN, BEGAN, LOST_BACK_SECONDS, (), False),
        (BEGAN, BEGAN - 5.0, 3 * LOST_BACK_SECONDS, (), True),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(NOTHING_STANDS, 1),), False),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(NOTHING_STANDS, 1, since=BEGAN - 60.0),), True),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(IN_DOUBT, 1),), True),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(IN_DOUBT, 2),), True),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(TAKEN_OVER, 1),), True),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(TAKEN_OVER, 2),), False),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(TAKEN_OVER, 3),), False),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(DOUBT_OR_PAID, 1),), True),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(DOUBT_OR_PAID, 2),), False),
        (BEGAN, BEGAN - 5.0, 10.0, (looked(NOTHING_STANDS, 2, proven=False),), True),
    ],
)
def test_who_is_looked_for(since: float | None, created_at: float, after_seconds: float, looks: tuple[Entry, ...], comes: bool) -> None:
    """Once for each life of the store: what is new for two days, a copy for as long as it waits; a doubt speaks for no life."""
    named = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", State.RUNNING, created_at, created_at)
    there = replace(named, generation=2, history=looks)
    assert may_come_back(there, since, BEGAN + after_seconds) is comes


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(
    ("outcome", "money"),
    [
        (None, MoneyState.NONE),
        (NOT_CHARGED, MoneyState.NONE),
        (DECLINED, MoneyState.DECLINED),
        (SILENT, MoneyState.UNKNOWN),
        (CHARGED, MoneyState.CHARGED),
    ],
)
def test_what_a_copy_says_is_doubted(state: State, outcome: Outcome | None, money: MoneyState) -> None:
    """A "not charged", while the order has no end: what is known of a charge is known, and an end under a client's key is the last."""
    send = Send(1, "http:eu:test", "k1", "charge", 1, SendKind.CHARGE, 4999, "EUR", 0.0, outcome=outcome)
    named = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", state, BEGAN - 5.0, BEGAN - 5.0)
    copy = replace(named, sends=(send,) if outcome else ())
    assert money_of(copy).state is money
    doubted = state in (State.RUNNING, State.QUEUED, State.HELD) and money in (MoneyState.NONE, MoneyState.DECLINED)
    assert is_doubted(copy, BEGAN, BEGAN + 10.0) is doubted
    assert not is_doubted(copy, None, BEGAN + 10.0)
    assert not is_doubted(replace(copy, history=(looked(NOTHING_STANDS, 1),)), BEGAN, BEGAN + 10.0)


@pytest.mark.parametrize(
    ("state", "why", "client_key", "doubted"),
    [
        (State.FINISHED, "declined", True, False),
        (State.FINISHED, "declined", False, True),
        (State.CANCELLED, "cancel_asked", True, False),
        (State.CANCELLED, "cancel_asked", False, True),
        (State.CANCELLED, RELEASED, True, True),
        (State.CANCELLED, NOT_KEPT, True, True),
        (State.FINISHED, RELEASED, True, False),
    ],
)
def test_an_end_is_doubted_where_its_key_was_free_for_another_press(state: State, why: str, client_key: bool, doubted: bool) -> None:
    """For two days, until it was looked for, or believed where nobody can be asked; whenever the record was opened."""
    named = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", state, BEGAN + 5.0, BEGAN + 5.0)
    copy = replace(named, why=why, client_key=client_key)
    assert is_doubted(copy, BEGAN, BEGAN + 10.0) is doubted
    old = replace(copy, created_at=BEGAN - 5.0)
    assert is_doubted(old, BEGAN, BEGAN + LOST_BACK_SECONDS - 1.0) is doubted
    assert not is_doubted(old, BEGAN, BEGAN + LOST_BACK_SECONDS)
    assert not is_doubted(old, None, BEGAN + 10.0)
    for word in (NOTHING_STANDS, BELIEVED):
        entry = Entry(BEGAN + 1.0, LOST_EVENT, "worker", {"outcome": word, "since": BEGAN})
        assert not is_doubted(replace(old, history=(entry,)), BEGAN, BEGAN + 10.0)
        before = replace(entry, detail={"outcome": word, "since": BEGAN - 60.0})
        assert is_doubted(replace(old, history=(before,)), BEGAN, BEGAN + 10.0) is doubted


WEBHOOK = Note("evt", NoteKind.OUTCOME, BEGAN + 5.0, gateway_key="k1", outcome=CHARGED)
ASKED = replace(WEBHOOK, event_id="find:k1", through=1)


@pytest.mark.parametrize(
    ("state", "notes", "changes", "doubted"),
    [
        (State.RUNNING, (WEBHOOK,), {}, True),
        (State.QUEUED, (WEBHOOK,), {}, True),
        (State.HELD, (WEBHOOK,), {}, True),
        (State.HELD, (WEBHOOK,), {"due_at": None}, False),
        (State.FINISHED, (WEBHOOK,), {}, False),
        (State.CANCELLED, (WEBHOOK,), {}, False),
        (State.QUEUED, (WEBHOOK, ASKED), {}, False),
        (State.QUEUED, (WEBHOOK,), {"created_at": BEGAN + 1.0}, False),
        (State.QUEUED, (WEBHOOK,), {"created_at": BEGAN}, False),
        (State.QUEUED, (WEBHOOK,), {"owner": ""}, False),
    ],
)
def test_a_charge_that_only_a_webhook_tells_a_copy_of_is_doubted(
    state: State, notes: tuple[Note, ...], changes: dict[str, Any], doubted: bool
) -> None:
    """It may have been given back in the lost writes; until we were told of it ourselves, if somebody is going to ask."""
    named = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", state, BEGAN - 5.0, BEGAN - 5.0)
    copy = replace(named, sends=(charge_send("k1", 1, outcome=SILENT),), notes=notes, **{"due_at": BEGAN, **changes})
    assert money_of(copy).state is MoneyState.CHARGED
    assert is_doubted(copy, BEGAN, BEGAN + 10.0) is doubted
    assert not is_doubted(copy, None, BEGAN + 10.0)
    assert not is_doubted(copy, BEGAN, BEGAN + LOST_BACK_SECONDS)
    answered = replace(copy, sends=(*copy.sends, charge_send("k1", 2, outcome=CHARGED)))
    assert not is_doubted(answered, BEGAN, BEGAN + 10.0)


def test_what_was_believed_says_nothing_about_an_order_that_waits() -> None:
    """Only an end rests on it."""
    named = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", State.QUEUED, BEGAN - 5.0, BEGAN - 5.0)
    assert is_doubted(replace(named, history=(looked(BELIEVED, 0),)), BEGAN, BEGAN + 10.0)


@pytest.mark.parametrize(
    ("sent", "told", "outcome", "life"),
    [(1, 0, CHARGED, 1), (2, 0, CHARGED, 2), (1, 3, CHARGED, 3), (2, 2, DECLINED, 1), (1, 0, DECLINED, 1)],
)
def test_the_last_life_is_the_one_of_a_charge_that_stands(sent: int, told: int, outcome: Outcome, life: int) -> None:
    """By the line, or by the fact alone; what was declined says nothing about it."""
    send = Send(1, "http:eu:test", "k1", "charge", sent, SendKind.CHARGE, 4999, "EUR", 0.0, outcome=outcome)
    note = Note("find:k1", NoteKind.OUTCOME, 1.0, gateway_key="k1", outcome=outcome, generation=told)
    named = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", State.CANCELLED, 0.0, 0.0)
    assert last_life(replace(named, sends=(send,), notes=(note,))) == life


def test_a_look_that_names_no_life_speaks_for_none() -> None:
    """Nor does what is no look."""
    named = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", State.RUNNING, BEGAN - 5.0, BEGAN - 5.0)
    for event in (LOST_EVENT, "payment.resolved"):
        there = replace(named, history=(Entry(BEGAN + 1.0, event, "worker", {"outcome": TAKEN_OVER, "since": BEGAN}),))
        assert may_come_back(there, BEGAN, BEGAN + 10.0)


@pytest.mark.parametrize(
    ("look", "generation", "comes"),
    [
        (looked(NOTHING_STANDS, 1, proven=True), 2, False),
        (looked(NOTHING_STANDS, 1, proven=False), 1, False),
        (looked(NOTHING_STANDS, 1, proven=False), 2, True),
        (looked(NOTHING_STANDS, 1, proven=False, since=BEGAN - 60.0), 1, True),
        (looked(IN_DOUBT, 1), 1, True),
    ],
)
def test_look_without_proof_is_good_for_charges_of_its_own_life(look: Entry, generation: int, comes: bool) -> None:
    """Under its key what is still under way is the same charge; under the next life's it would be another one."""
    assert may_come_back(sample(generation=generation, history=(look,)), BEGAN, BEGAN + 10.0, charging=True) is comes


@pytest.mark.parametrize(
    ("looks", "life"),
    [
        ((), 3),
        ((looked(NOTHING_STANDS, 3, key_of=1),), 1),
        ((looked(NOTHING_STANDS, 3, key_of=1), looked(NOTHING_STANDS, 3)), 1),
        ((looked(NOTHING_STANDS, 3, key_of=1), looked(NOTHING_STANDS, 3, key_of=2)), 2),
        ((looked(NOTHING_STANDS, 2, key_of=1),), 3),
        ((Entry(BEGAN, "payment.sent", "", {"generation": 3, "key_of": 1}),), 3),
    ],
)
def test_whose_keys_a_life_charges_under(looks: tuple[Entry, ...], life: int) -> None:
    """Its own, or those of an earlier one that may still charge."""
    assert key_life(sample(generation=3, history=looks)) == life


@pytest.mark.parametrize(
    ("history", "life"),
    [
        ((), 3),
        ((looked(IN_DOUBT, 3, before=2),), 2),
        ((looked(IN_DOUBT, 2, before=1), looked(IN_DOUBT, 3, before=2)), 1),
        ((looked(IN_DOUBT, 3, before=3),), 3),
        ((looked(IN_DOUBT, 2, before=1),), 3),
        ((looked(TAKEN_OVER, 3, before=2),), 3),
        ((looked(IN_DOUBT, 3),), 3),
        ((looked(IN_DOUBT, 3, before=2), looked(TAKEN_OVER, 1)), 2),
        ((looked(IN_DOUBT, 3, before=2), Entry(BEGAN, "operation.opened", "", {"generation": 3})), 3),
        ((Entry(BEGAN, "operation.opened", "", {"generation": 3}), looked(IN_DOUBT, 3, before=2)), 2),
    ],
)
def test_life_that_was_written_down_in_doubt_may_never_have_been(history: tuple[Entry, ...], life: int) -> None:
    """Unless it was begun since; then it is the record's own."""
    assert own_life(sample(generation=3, history=history)) == life


def test_line_that_was_written_in_doubt_is_told_from_a_call_of_ours() -> None:
    """By its number; a charge that was found is no doubt."""
    history = (looked(IN_DOUBT, 1, number=2), looked(TAKEN_OVER, 1, number=3))
    there = sample(history=history, sends=tuple(charge_send("key", number) for number in (1, 2, 3)))
    assert [was_taken_over(there, send) for send in there.sends] == [False, True, False]


UNPROVEN = looked(NOTHING_STANDS, 1, proven=False, settles_at=BEGAN + 60.0)


@pytest.mark.parametrize(
    ("looks", "outcome", "at"),
    [
        ((UNPROVEN,), CHARGED, BEGAN + 60.0),
        ((UNPROVEN,), DECLINED, BEGAN + 60.0),
        ((UNPROVEN,), REFUNDED, BEGAN + 60.0),
        ((UNPROVEN,), NOT_CHARGED, None),
        ((UNPROVEN,), SILENT, None),
        ((), CHARGED, None),
        ((looked(NOTHING_STANDS, 1, proven=False),), CHARGED, None),
        ((looked(NOTHING_STANDS, 1, proven=True, settles_at=BEGAN + 60.0),), CHARGED, None),
        ((UNPROVEN, looked(NOTHING_STANDS, 1, proven=True)), CHARGED, None),
        ((UNPROVEN, looked(IN_DOUBT, 1)), CHARGED, BEGAN + 60.0),
    ],
)
def test_when_a_second_charge_is_looked_for(looks: tuple[Entry, ...], outcome: Outcome, at: float | None) -> None:
    """Where a charge was tried without proof, and has an answer: once. The record is due for it then, or sooner for something else."""
    there = sample(history=looks, sends=(charge_send("key", 1, outcome=outcome),), due_at=None)
    assert second_look_at(there) == at
    assert due_for_second_look(there).due_at == at
    assert due_for_second_look(replace(there, due_at=BEGAN)).due_at == BEGAN
    assert due_for_second_look(replace(there, due_at=BEGAN + 90.0)).due_at == (at or BEGAN + 90.0)


def test_look_that_is_put_off_adds_no_line() -> None:
    """It is the same one, later."""
    there = sample(history=(looked(IN_DOUBT, 1), UNPROVEN, looked(IN_DOUBT, 2)), sends=(charge_send("key", 1, outcome=CHARGED),))
    later = put_off(there, until=BEGAN + 300.0)
    assert (second_look_at(later), len(later.history)) == (BEGAN + 300.0, 3)
    assert (later.history[0], later.history[2]) == (there.history[0], there.history[2])


@pytest.mark.parametrize(
    ("key", "told", "amounts"),
    [
        ("key", Refunded(700, "USD"), [(4999, "EUR"), (700, "USD")]),
        ("other", Refunded(700, "USD"), [(4999, "EUR"), (4999, "EUR")]),
        ("key", Charged(700, "USD"), [(4999, "EUR"), (4999, "EUR")]),
        ("key", SILENT, [(4999, "EUR"), (4999, "EUR")]),
    ],
)
def test_line_in_doubt_takes_the_figures_of_what_went_back(key: str, told: Outcome, amounts: list[tuple[int, str]]) -> None:
    """It has those of a newer basket. A call of our own has asked for what it says, and what stands is a person's."""
    there = sample(history=(looked(IN_DOUBT, 1, number=2),), sends=(charge_send("key", 1), charge_send("key", 2)))
    assert [(send.amount_minor, send.currency) for send in with_figures_told(there, key, told).sends] == amounts
