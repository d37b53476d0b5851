"""The desk's table: which actions are offered, in every cell, and that nothing is offered which the core forbids."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from cxguard.core.desk import Action, Case, Hands, Said, cancels_at_once, case_of, keys_for, offers, outcome_of, sayable
from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import MONEY_FOR, MOVES, RECORD_VERSION, Move, Operation, State
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Refunded, Unknown

S, M, A = State, MoneyState, Action
NOW = 1_000.0


def allowed(case: Case) -> set[Action]:
    return {action for action, offer in offers(case).items() if offer.allowed}


CASES = [
    Case(state, money, hands, *flags)
    for state, money, hands in product(State, MoneyState, Hands)
    for flags in product((False, True), repeat=8)  # cancel_asked to readable
]
OTHERS = [Case(State.HELD, money, is_order=False) for money in MoneyState]  # facts alone
OTHERS += [Case(State.HELD, MoneyState.NONE, unpaid_answer=True, can_place=True)]
OTHERS += [Case(State.HELD, MoneyState.CHARGED, late_wish=True, can_ask=can_ask) for can_ask in (False, True)]

# Nobody has it, the gateway can be asked, and the queue can place it.
FREE = {
    (S.RUNNING, M.NONE): {A.CANCEL, A.RESOLVE},
    (S.RUNNING, M.UNKNOWN): {A.CANCEL, A.RESOLVE},
    (S.RUNNING, M.CHARGED): {A.CANCEL, A.RESOLVE},
    (S.RUNNING, M.DECLINED): {A.CANCEL, A.RESOLVE},
    (S.RUNNING, M.REFUNDED): {A.CANCEL},
    (S.QUEUED, M.NONE): {A.TAKE, A.CANCEL, A.RESOLVE},
    (S.QUEUED, M.UNKNOWN): {A.TAKE, A.CANCEL, A.RESOLVE},
    (S.QUEUED, M.CHARGED): {A.TAKE, A.CANCEL, A.RESOLVE, A.FINISH},
    (S.QUEUED, M.DECLINED): {A.TAKE, A.CANCEL, A.RESOLVE},
    (S.QUEUED, M.REFUNDED): {A.TAKE, A.CANCEL},
    (S.HELD, M.NONE): {A.TAKE, A.CANCEL, A.RESOLVE, A.REQUEUE},
    (S.HELD, M.UNKNOWN): {A.TAKE, A.CANCEL, A.RESOLVE, A.REQUEUE},
    (S.HELD, M.CHARGED): {A.TAKE, A.CANCEL, A.RESOLVE, A.REQUEUE, A.FINISH},
    (S.HELD, M.DECLINED): {A.TAKE, A.CANCEL, A.RESOLVE},
    (S.HELD, M.REFUNDED): {A.TAKE, A.CANCEL},
    (S.FINISHED, M.NONE): {A.RESOLVE},
    (S.FINISHED, M.UNKNOWN): {A.RESOLVE},
    (S.FINISHED, M.CHARGED): {A.RESOLVE},
    (S.FINISHED, M.DECLINED): {A.RESOLVE},
    (S.FINISHED, M.REFUNDED): set(),
    (S.CANCELLED, M.NONE): {A.RESOLVE},
    (S.CANCELLED, M.UNKNOWN): {A.RESOLVE},
    (S.CANCELLED, M.CHARGED): {A.RESOLVE},
    (S.CANCELLED, M.DECLINED): {A.RESOLVE},
    (S.CANCELLED, M.REFUNDED): set(),
}


@pytest.mark.parametrize(("state", "money"), list(product(State, MoneyState)))
def test_free_order(state: State, money: MoneyState) -> None:
    """What is offered for an order that nobody has in hand, in every cell of state and money."""
    assert allowed(Case(state, money, can_ask=True, can_place=True)) == FREE[state, money] | {A.REMARK}


@pytest.mark.parametrize(("state", "money"), list(product(State, MoneyState)))
def test_somebody_else_has_it(state: State, money: MoneyState) -> None:
    """A live lease of another is never broken: they can be asked to stop, and a remark can be left."""
    live = state in (S.RUNNING, S.QUEUED, S.HELD)
    found = allowed(Case(state, money, Hands.ANOTHER, can_ask=True, can_place=True))
    assert found == ({A.CANCEL, A.REMARK} if live else {A.REMARK})


@pytest.mark.parametrize(("state", "money"), list(product(State, MoneyState)))
def test_my_own_hands_add_only_giving_back(state: State, money: MoneyState) -> None:
    """Whoever has it in hand may do what anyone might with a free one, and give it back."""
    mine = allowed(Case(state, money, Hands.MINE, can_ask=True, can_place=True))
    assert mine == FREE[state, money] | {A.REMARK, A.GIVE_BACK}


@pytest.mark.parametrize("action", Action)
def test_every_refusal_says_why(action: Action) -> None:
    """In every cell each action says what it will do, or why it is not offered: in sentences, and without shouting."""
    said = {offers(case)[action].says for case in CASES + OTHERS}
    assert all(says[0].isupper() and not says.isupper() and says.endswith(".") for says in said)


def test_nothing_is_offered_that_the_moves_forbid() -> None:
    """Requeue, finish and an immediate cancel are legal moves, with this money, wherever they are offered."""
    moves = {A.REQUEUE: Move.REQUEUE, A.FINISH: Move.FINISH, A.CANCEL: Move.CANCEL}
    for case in CASES:
        done = allowed(case) & moves.keys() - ({A.CANCEL} if not cancels_at_once(case) else set())
        for action in done:
            assert (case.state, moves[action]) in MOVES
            assert case.money in MONEY_FOR[moves[action]]


def test_unknown_and_charged_are_never_cancelled_at_once() -> None:
    """What may be charged ends only after it was found out, or given back."""
    assert not [case for case in CASES if cancels_at_once(case) and case.money in (M.UNKNOWN, M.CHARGED)]


def test_every_live_order_has_a_way_out() -> None:
    """A free order that has not ended can be put back, resolved, closed or cancelled: nobody is stranded on the desk."""
    ways = {A.REQUEUE, A.RESOLVE, A.FINISH, A.CANCEL}
    stuck = [
        case
        for case in CASES
        if case.readable and case.hands is not Hands.ANOTHER and case.state in (S.RUNNING, S.QUEUED, S.HELD) and not allowed(case) & ways
    ]
    assert not stuck


def test_a_newer_record_may_only_be_remarked_on() -> None:
    """What a newer cxguard wrote is read, and left alone."""
    assert all(allowed(case) == {A.REMARK} for case in CASES if not case.readable)


REQUEUE = [
    (Case(S.HELD, M.UNKNOWN), False, "Nobody can be asked"),
    (Case(S.HELD, M.UNKNOWN, can_ask=True), True, "asks the gateway again"),
    (Case(S.HELD, M.CHARGED), False, "place it in the shop"),
    (Case(S.HELD, M.CHARGED, can_place=True), True, "not charged again"),
    (Case(S.HELD, M.CHARGED, can_place=True, refund_due=True), False, "Nobody can be asked"),
    (Case(S.HELD, M.CHARGED, cancel_asked=True, late_wish=True, can_ask=True, can_place=True), True, "The money goes back"),
    (Case(S.HELD, M.CHARGED, cancel_asked=True, late_wish=True), False, "at the gateway"),
    (Case(S.HELD, M.NONE), False, "Nothing was kept"),
    (Case(S.HELD, M.NONE, can_place=True, over=True), False, "time is over"),
    (Case(S.HELD, M.NONE, can_place=True, cancel_asked=True), False, "asked to be cancelled"),
    (Case(S.HELD, M.NONE, can_place=True), True, "charges and places"),
    (Case(S.HELD, M.NONE, can_place=True, unpaid_answer=True), True, "has not placed it"),
    (Case(S.HELD, M.DECLINED, can_place=True), False, "order anew"),
    (Case(S.QUEUED, M.NONE, can_place=True), False, "not held"),
]


@pytest.mark.parametrize(("case", "offered", "words"), REQUEUE)
def test_requeue(case: Case, offered: bool, words: str) -> None:
    """An order is put back only where the queue has something to do with it; else the reason says what to do instead."""
    offer = offers(case)[A.REQUEUE]
    assert (offer.allowed, words in offer.says) == (offered, True)


WORDS = [
    (A.TAKE, Case(S.RUNNING, M.NONE), False, "has gone"),
    (A.TAKE, Case(S.RUNNING, M.NONE, Hands.MINE), False, "Somebody is working on it"),
    (A.TAKE, Case(S.RUNNING, M.NONE, Hands.ANOTHER), False, "Somebody is working on it"),
    (A.TAKE, Case(S.FINISHED, M.NONE), False, "nothing to take in hand"),
    (A.TAKE, Case(S.HELD, M.NONE, Hands.ANOTHER), False, "Somebody is working on it"),
    (A.TAKE, Case(S.HELD, M.NONE, Hands.MINE), True, "You have it in hand"),
    (A.TAKE, Case(S.QUEUED, M.NONE), True, "Nobody else acts on it"),
    (A.REQUEUE, Case(S.HELD, M.NONE, refund_pending=True, can_ask=True), True, "asks the gateway again"),
    (A.RESOLVE, Case(S.HELD, M.NONE, Hands.ANOTHER), False, "Somebody is working on it"),
    (A.RESOLVE, Case(S.HELD, M.REFUNDED), False, "The money went back"),
    (A.RESOLVE, Case(S.HELD, M.NONE, has_key=False), False, "no payment to speak about"),
    (A.RESOLVE, Case(S.HELD, M.UNKNOWN), True, "Look the payment up"),
    (A.RESOLVE, Case(S.HELD, M.CHARGED), True, "Give the money back"),
    (A.RESOLVE, Case(S.HELD, M.REFUNDED, refund_pending=True), True, "Give the money back"),
    (A.RESOLVE, Case(S.HELD, M.DECLINED), True, "shows a charge after all"),
    (A.FINISH, Case(S.RUNNING, M.CHARGED), False, "held or queued"),
    (A.FINISH, Case(S.HELD, M.CHARGED, Hands.ANOTHER), False, "Somebody is working on it"),
    (A.FINISH, Case(S.HELD, M.CHARGED, refund_pending=True), False, "Money has to go back first"),
    (A.FINISH, Case(S.HELD, M.CHARGED, refund_due=True), False, "Money has to go back first"),
    (A.FINISH, Case(S.HELD, M.NONE), False, "not known to be paid"),
    (A.FINISH, Case(S.HELD, M.NONE, unpaid_answer=True), True, "without a charge"),
    (A.FINISH, Case(S.HELD, M.NONE, unpaid_answer=True, cancel_asked=True), False, "not known to be paid"),
    (A.FINISH, Case(S.HELD, M.UNKNOWN, unpaid_answer=True), False, "not known to be paid"),
    (A.CANCEL, Case(S.CANCELLED, M.CHARGED), False, "It is cancelled"),
    (A.CANCEL, Case(S.FINISHED, M.CHARGED), False, "placed and paid"),
    (A.CANCEL, Case(S.FINISHED, M.UNKNOWN), False, "It has ended"),
    (A.CANCEL, Case(S.HELD, M.CHARGED, cancel_asked=True, late_wish=True), False, "put it back"),
    (A.CANCEL, Case(S.HELD, M.REFUNDED), True, "No charge stands"),
    (A.CANCEL, Case(S.HELD, M.REFUNDED, refund_pending=True), True, "found out first"),
    (A.CANCEL, Case(S.HELD, M.NONE, Hands.ANOTHER), True, "asked to stop"),
    (A.CANCEL, Case(S.HELD, M.CHARGED), True, "goes back first"),
    (A.CANCEL, Case(S.HELD, M.UNKNOWN), True, "found out first"),
]


@pytest.mark.parametrize(("action", "case", "offered", "words"), WORDS)
def test_the_words_are_those_of_the_case(action: Action, case: Case, offered: bool, words: str) -> None:
    """What is said about an action is what is in its way, or what it comes to."""
    offer = offers(case)[action]
    assert (offer.allowed, words in offer.says) == (offered, True)


def test_cancel_is_asked_once() -> None:
    """A second wish to cancel changes nothing, so it is not offered; where it can be done at once, it is."""
    assert not offers(Case(S.HELD, M.UNKNOWN, cancel_asked=True))[A.CANCEL].allowed
    assert offers(Case(S.HELD, M.NONE, cancel_asked=True))[A.CANCEL].allowed


@pytest.mark.parametrize("money", [M.UNKNOWN, M.CHARGED])
def test_facts_alone_are_not_asked_to_be_cancelled(money: MoneyState) -> None:
    """No worker takes them up, so a wish to cancel would wait for ever: the reason says to speak about the payment first."""
    offer = offers(Case(S.HELD, money, is_order=False))[A.CANCEL]
    assert (offer.allowed, "say first what became of it" in offer.says) == (False, True)


@pytest.mark.parametrize("money", [M.NONE, M.DECLINED, M.REFUNDED])
def test_facts_alone_are_ended_where_no_money_stands(money: MoneyState) -> None:
    """Nobody else has to do anything for it."""
    assert offers(Case(S.HELD, money, is_order=False))[A.CANCEL].allowed


@pytest.mark.parametrize(
    ("money", "said"),
    [
        (M.UNKNOWN, set(Said)),
        (M.CHARGED, {Said.REFUNDED}),
        (M.NONE, {Said.CHARGED}),
        (M.DECLINED, {Said.CHARGED}),
        (M.REFUNDED, set()),
    ],
)
def test_sayable(money: MoneyState, said: set[Said]) -> None:
    """A person may say only what the money leaves open; a charge that surfaced late may always be told."""
    assert set(sayable(Case(S.HELD, money))) == said


@pytest.mark.parametrize(("money", "said"), [(money, tuple(Said) if money is M.UNKNOWN else (Said.REFUNDED,)) for money in MoneyState])
def test_while_a_refund_has_no_answer_that_is_what_can_be_said(money: MoneyState, said: tuple[Said, ...]) -> None:
    """An unknown charge may still be anything."""
    assert sayable(Case(S.HELD, money, refund_pending=True)) == said


def test_nothing_is_said_of_no_payment() -> None:
    """Without any send or fact there is no payment to speak about."""
    assert sayable(Case(S.HELD, M.NONE, has_key=False)) == ()


def record(*sends: Send, notes: tuple[Note, ...] = (), **members: object) -> Operation:
    base: dict[str, object] = {"state": State.HELD, "kept": True} | members
    names = dict.fromkeys(("id", "namespace", "rule", "owner", "reference", "fingerprint"), "x")
    return Operation(**names, created_at=0.0, updated_at=0.0, sends=sends, notes=notes, **base)  # type: ignore[arg-type]


def send(number: int, key: str, outcome: Outcome, kind: SendKind = SendKind.CHARGE, of: str | None = None) -> Send:
    return Send(number, "fake:test", key, "charge", 1, kind, 500, "EUR", 0.0, outcome=outcome, of=of)


def _case(operation: Operation) -> Case:
    return case_of(operation, hands=Hands.NOBODY, can_ask=True, can_place=True, now=NOW)


def test_case_reads_the_folded_money() -> None:
    """The case follows sends and notes, whatever figure the record kept."""
    operation = record(send(1, "k1", Unknown("?")), money=MoneyState.NONE)
    assert _case(operation).money is M.UNKNOWN


def test_case_has_all_that_the_record_says() -> None:
    """Who has it in hand and what can be done about it come from whoever asks; the rest from the record."""
    back = send(2, "r1", Unknown("?"), kind=SendKind.REFUND, of="k1")
    wish = Note("c", NoteKind.CANCEL, 1.0, generation=1)
    rich = record(send(1, "k1", Charged(500, "EUR")), back, notes=(wish,), state=State.QUEUED, give_up_at=NOW - 1)
    told = case_of(rich, hands=Hands.MINE, can_ask=True, can_place=False, now=NOW)
    assert told == Case(S.QUEUED, M.CHARGED, Hands.MINE, True, True, True, over=True, can_ask=True)
    plain = case_of(record(), hands=Hands.NOBODY, can_ask=False, can_place=True, now=NOW)
    assert plain == Case(S.HELD, M.NONE, Hands.NOBODY, can_place=True, has_key=False)
    cancelled = _case(record(send(1, "k1", Charged(500, "EUR")), state=State.CANCELLED))
    assert cancelled.refund_due and not cancelled.cancel_asked
    assert _case(record(send(1, "k1", Charged(500, "EUR")), why="cancel_asked")).late_wish
    assert _case(record(why="replay_not_charged")).unpaid_answer
    assert not _case(record(why="replay_not_charged", state=State.QUEUED)).unpaid_answer
    assert not _case(replace(record(), rule="")).is_order
    assert not _case(record(state=State.CANCELLED)).refund_due


def test_second_charge_is_a_refund_that_is_due() -> None:
    """Two standing charges: one has to go back before anything is closed. One alone is the shop's."""
    once, twice = send(1, "k1", Charged(500, "EUR")), send(2, "k2", Charged(500, "EUR"))
    case = _case(record(once, twice))
    assert case.refund_due
    assert not offers(case)[A.FINISH].allowed
    assert offers(_case(record(once)))[A.FINISH].allowed


def test_charge_on_a_cancelled_order_is_a_refund_that_is_due() -> None:
    """Asked to cancel, and charged: the money goes back."""
    wish = Note("c", NoteKind.CANCEL, 1.0, generation=1)
    assert _case(record(send(1, "k1", Charged(500, "EUR")), notes=(wish,))).refund_due


@pytest.mark.parametrize(("give_up_at", "over"), [(None, False), (NOW, True), (NOW + 1, False)])
def test_order_is_over_at_its_own_end(give_up_at: float | None, over: bool) -> None:
    """An order is over at the moment it gives up, not before."""
    assert _case(record(give_up_at=give_up_at)).over is over


def test_unkept_order_cannot_be_placed_unless_it_is_paid() -> None:
    """What was not kept can be completed by the queue only once it is paid."""
    assert not _case(record(kept=False)).can_place
    assert _case(record(send(1, "k1", Charged(500, "EUR")), kept=False)).can_place


def test_newer_version_is_not_readable() -> None:
    """A record of a higher version is not acted on."""
    assert not _case(record(version=RECORD_VERSION + 1)).readable


def test_keys_for_unknown_are_the_unknown_ones() -> None:
    """What a person says about an unknown order is about the payments that are unknown."""
    operation = record(send(1, "k1", NotCharged("refused")), send(2, "k2", Unknown("?")))
    assert keys_for(operation, Said.NOT_CHARGED) == ("k2",)


def test_refund_under_way_is_what_refunded_speaks_about() -> None:
    """While a refund has no answer, "refunded" is about it; otherwise about the charge."""
    charged = send(1, "k1", Charged(500, "EUR", payment_id="p"))
    refund = send(2, "r1", Unknown("?"), kind=SendKind.REFUND, of="k1")
    assert keys_for(record(charged, refund), Said.REFUNDED) == ("r1",)
    assert keys_for(record(charged), Said.REFUNDED) == ("k1",)
    void = send(4, "v1", Unknown("?"), kind=SendKind.VOID, of="k1")
    made = send(3, "r2", Refunded(1, "EUR"), kind=SendKind.REFUND, of="k1")
    assert keys_for(record(charged, refund, made, void), Said.REFUNDED) == ("r1", "v1")


def test_surfaced_charge_is_about_the_newest_payment_first() -> None:
    """For a late charge the newest payment is meant, unless a person names another."""
    operation = record(send(1, "k1", Declined()), send(2, "k2", Declined()))
    assert keys_for(operation, Said.CHARGED) == ("k2", "k1")


def test_what_is_no_charge_is_never_meant_by_charged() -> None:
    """A refund's own key is not among them, whoever told of it; a key that only a note knows is."""
    back = send(2, "r1", Unknown("?"), kind=SendKind.REFUND, of="k1")
    notes = tuple(Note(key, NoteKind.OUTCOME, 1.0, gateway_key=key, outcome=Declined()) for key in ("r1", "k9"))
    assert keys_for(record(send(1, "k1", Declined()), back, notes=notes), Said.CHARGED) == ("k9", "k1")


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (Said.CHARGED, Charged(500, "EUR", "pay_1", captured=False)),
        (Said.DECLINED, Declined()),
        (Said.NOT_CHARGED, NotCharged("a person looked it up")),
        (Said.REFUNDED, Refunded(500, "EUR", "pay_1")),
    ],
)
def test_word_becomes_an_outcome(said: Said, outcome: Outcome) -> None:
    """Each word has its outcome, with amount and number where they belong."""
    assert outcome_of(said, amount_minor=500, currency="EUR", payment_id="pay_1", captured=False) == outcome


def test_what_a_person_calls_charged_is_captured_unless_they_say_otherwise() -> None:
    """Nothing is captured a second time on their word."""
    assert outcome_of(Said.CHARGED, amount_minor=500, currency="EUR", payment_id="") == Charged(500, "EUR", captured=True)
