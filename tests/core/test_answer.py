"""What the shopper is told: every cell of the table, and whom it can be told to."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from cxguard.core.answer import (
    CANCELLABLE,
    FINAL,
    PAID,
    SPECS,
    WHY_GAVE_UP,
    WHY_REPLACED,
    About,
    Answer,
    AnswerSpec,
    Audience,
    Medium,
    MoneyTold,
    Situation,
    Telling,
    answer_for,
    can_be_told,
    goes_to_status_page,
    status_for,
)
from cxguard.core.asks import PRICE_UP
from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.situation import money_told, money_told_of, situation_of, situation_of_operation

S = Situation
R, Q, H, F, C = State.RUNNING, State.QUEUED, State.HELD, State.FINISHED, State.CANCELLED
NONE, UNKNOWN, CHARGED, DECLINED, REFUNDED = MoneyState

FOUND = Note("n1", NoteKind.OUTCOME, 1.0, gateway_key="k1", outcome=Charged(4999, "EUR"))
RESERVED = Note("n1", NoteKind.OUTCOME, 1.0, gateway_key="k1", outcome=Charged(4999, "EUR", captured=False))
PLAIN = {
    R: {NONE: S.IN_FLIGHT, UNKNOWN: S.UNKNOWN, CHARGED: S.PAID_UNFINISHED, DECLINED: S.DECLINED, REFUNDED: S.REFUNDED},
    Q: {NONE: S.KEPT, UNKNOWN: S.UNKNOWN, CHARGED: S.PAID_UNFINISHED, DECLINED: S.DECLINED, REFUNDED: S.REFUNDED},
    H: {NONE: S.HELD, UNKNOWN: S.HELD, CHARGED: S.PAID_UNFINISHED, DECLINED: S.HELD, REFUNDED: S.REFUNDED},
    F: {NONE: S.ANSWERED, UNKNOWN: S.UNKNOWN, CHARGED: S.PLACED, DECLINED: S.DECLINED, REFUNDED: S.REFUNDED},
    C: {NONE: S.CANCELLED, UNKNOWN: S.CANCEL_ASKED, CHARGED: S.REFUND_DUE, DECLINED: S.CANCELLED, REFUNDED: S.REFUNDED},
}
CANCEL_WISHED = {
    R: {NONE: S.CANCEL_ASKED, UNKNOWN: S.CANCEL_ASKED, CHARGED: S.REFUND_DUE, DECLINED: S.CANCEL_ASKED, REFUNDED: S.REFUNDED},
    Q: {NONE: S.CANCEL_ASKED, UNKNOWN: S.CANCEL_ASKED, CHARGED: S.REFUND_DUE, DECLINED: S.CANCEL_ASKED, REFUNDED: S.REFUNDED},
    H: {NONE: S.CANCEL_ASKED, UNKNOWN: S.CANCEL_ASKED, CHARGED: S.REFUND_DUE, DECLINED: S.CANCEL_ASKED, REFUNDED: S.REFUNDED},
    F: {NONE: S.ANSWERED, UNKNOWN: S.CANCEL_ASKED, CHARGED: S.CANCEL_ASKED, DECLINED: S.DECLINED, REFUNDED: S.REFUNDED},
    C: PLAIN[C],
}
CELLS = list(product(State, MoneyState))
MONEY = {
    NONE: MoneyTold.NOT_CHARGED,
    UNKNOWN: MoneyTold.UNKNOWN,
    CHARGED: MoneyTold.CHARGED,
    DECLINED: MoneyTold.NOT_CHARGED,
    REFUNDED: MoneyTold.NOT_CHARGED,
}


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_each_cell_has_its_situation(state: State, money: MoneyState) -> None:
    """A record's state and money alone say which row of the table it is."""
    assert situation_of(state, money) is PLAIN[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_a_wish_to_cancel_changes_what_has_no_end_yet(state: State, money: MoneyState) -> None:
    """A wish to cancel is answered as such until the order has its end, and then only where money is at stake."""
    assert situation_of(state, money, cancel_asked=True) is CANCEL_WISHED[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_while_somebody_works_on_it_a_running_order_is_in_flight(state: State, money: MoneyState) -> None:
    """Under another's live lease neither unknown nor declined is the last word; a charge is."""
    wanted = S.IN_FLIGHT if state is R and money not in (CHARGED, REFUNDED) else PLAIN[state][money]
    assert situation_of(state, money, at_work=True) is wanted


@pytest.mark.parametrize(("money", "waiting_for"), list(product(MoneyState, WaitingFor)))
def test_held_says_whom_it_waits_for(money: MoneyState, waiting_for: WaitingFor) -> None:
    """A held order asks the shopper for a step, says that we check, or that a person is looking."""
    special = {
        (WaitingFor.SHOPPER, NONE): S.NEEDS_SHOPPER,
        (WaitingFor.SHOPPER, UNKNOWN): S.NEEDS_SHOPPER,
        (WaitingFor.SHOPPER, DECLINED): S.DECLINED,
        (WaitingFor.GATEWAY, UNKNOWN): S.UNKNOWN,
    }
    assert situation_of(H, money, waiting_for=waiting_for) is special.get((waiting_for, money), PLAIN[H][money])


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_a_reservation_is_not_called_paid(state: State, money: MoneyState) -> None:
    """Money that is only reserved is told as reserved."""
    said = situation_of(state, money, captured=False)
    assert said not in (S.PLACED, S.PAID_UNFINISHED)
    assert said is {S.PLACED: S.PLACED_RESERVED, S.PAID_UNFINISHED: S.RESERVED_UNFINISHED}.get(PLAIN[state][money], PLAIN[state][money])


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_an_order_that_nobody_will_place_is_not_called_kept(state: State, money: MoneyState) -> None:
    """A queued order that is not kept is told as neither charged nor kept."""
    assert situation_of(state, money, kept=False) is (S.NOT_KEPT if PLAIN[state][money] is S.KEPT else PLAIN[state][money])


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_an_end_without_an_answer_is_neither_charged_nor_kept(state: State, money: MoneyState) -> None:
    """An order that finished uncharged and without the shop's answer is told as not kept."""
    assert situation_of(state, money, has_answer=False) is (S.NOT_KEPT if PLAIN[state][money] is S.ANSWERED else PLAIN[state][money])
    assert situation_of(state, money, has_answer=False, why="placed_by_hand") is PLAIN[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_giving_up_is_told_apart_from_cancelling(state: State, money: MoneyState) -> None:
    """An order that ended because its time was over says so."""
    assert situation_of(state, money, why=WHY_GAVE_UP) is (S.GAVE_UP if PLAIN[state][money] is S.CANCELLED else PLAIN[state][money])


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_a_changed_basket_is_told(state: State, money: MoneyState) -> None:
    """A kept order whose request gave way to a changed basket says so."""
    assert situation_of(state, money, why=WHY_REPLACED) is (S.REPLACED if PLAIN[state][money] is S.KEPT else PLAIN[state][money])


ALL_COMBINATIONS = list(
    product(State, MoneyState, [None, *WaitingFor], ["", WHY_GAVE_UP, WHY_REPLACED], *[[False, True]] * 5),
)


def test_no_combination_says_more_than_is_known() -> None:
    """Over every combination: paid only when charged, declined only when declined, not charged only when no charge can stand."""
    for state, money, waiting_for, why, cancel_asked, captured, has_answer, kept, at_work in ALL_COMBINATIONS:
        situation = situation_of(
            state,
            money,
            waiting_for=waiting_for,
            why=why,
            cancel_asked=cancel_asked,
            captured=captured,
            has_answer=has_answer,
            kept=kept,
            at_work=at_work,
        )
        answer = answer_for(situation, recorded=money_told(state, money))
        assert (situation in PAID) <= (money is CHARGED)
        assert (situation is S.DECLINED) <= (money is DECLINED)
        assert (answer.money is MoneyTold.CHARGED) <= (money is CHARGED)
        assert (answer.money is MoneyTold.NOT_CHARGED) <= (MONEY[money] is MoneyTold.NOT_CHARGED)
        assert answer.safe_to_retry <= (answer.money is MoneyTold.NOT_CHARGED)
        assert (situation in FINAL) <= (money is not UNKNOWN)


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_while_it_runs_nothing_is_surely_not_charged(state: State, money: MoneyState) -> None:
    """The word for the money follows the record, except that a running order may be charged at any moment."""
    wanted = MoneyTold.UNKNOWN if state is R and money is not CHARGED else MONEY[money]
    assert money_told(state, money) is wanted


def _operation(outcome: Outcome | None, *, state: State = R, notes: tuple[Note, ...] = (), **changes: Any) -> Operation:
    send = Send(1, "http:eu:test", "k1", "charge", 1, SendKind.CHARGE, 4999, "EUR", 0.0, outcome=outcome or Unknown("no answer"))
    record = Operation(
        id="0" * 64,
        namespace="shop",
        rule="POST /pay",
        owner="o",
        reference="7K4M-Q2XN-8PHD",
        fingerprint="f",
        state=state,
        created_at=0.0,
        updated_at=0.0,
        kept=True,
        sends=(send,) if outcome else (),
        notes=notes,
    )
    return replace(record, **changes)


@pytest.mark.parametrize(
    ("operation", "situation"),
    [
        (_operation(None, state=Q), S.KEPT),
        (_operation(None, state=Q, kept=False), S.NOT_KEPT),
        (_operation(None, state=Q, why=WHY_REPLACED), S.REPLACED),
        (_operation(None, state=F), S.NOT_KEPT),
        (_operation(None, state=F, answer=b"sealed"), S.ANSWERED),
        (_operation(None, state=H, waiting_for=WaitingFor.SHOPPER), S.NEEDS_SHOPPER),
        (_operation(None, state=H, waiting_for=WaitingFor.SHOPPER, why="price_up"), S.SHOPPER_ASKED),
        (_operation(Unknown("timeout"), state=H, waiting_for=WaitingFor.SHOPPER, why="price_up"), S.NEEDS_SHOPPER),
        (_operation(Charged(1, "EUR")), S.PAID_UNFINISHED),
        (_operation(Charged(4999, "EUR")), S.PAID_UNFINISHED),
        (_operation(Charged(4999, "EUR", captured=False)), S.RESERVED_UNFINISHED),
        (_operation(Unknown("timeout"), state=Q, notes=(Note("n1", NoteKind.CANCEL, 1.0),)), S.CANCEL_ASKED),
        (
            _operation(Unknown("timeout"), notes=(Note("n1", NoteKind.OUTCOME, 1.0, gateway_key="k1", outcome=Charged(4999, "EUR")),)),
            S.PAID_UNFINISHED,
        ),
        (_operation(Declined(), state=F, money=DECLINED, notes=(FOUND,)), S.PAID_UNFINISHED),
        (_operation(Declined(), state=F, money=DECLINED, notes=(replace(FOUND, outcome=Charged(1, "EUR")),)), S.PAID_UNFINISHED),
        (_operation(Declined(), state=F, money=DECLINED, notes=(RESERVED,)), S.RESERVED_UNFINISHED),
        (_operation(Declined(), state=F, money=DECLINED, notes=(FOUND, Note("n2", NoteKind.CANCEL, 1.0))), S.CANCEL_ASKED),
        (_operation(Declined(), state=F, money=CHARGED, notes=(FOUND,), notes_seen=1), S.PLACED),
        (_operation(Charged(4999, "EUR"), state=F, money=CHARGED, notes=(Note("n2", NoteKind.REMARK, 1.0),)), S.PLACED),
    ],
)
def test_a_record_is_read_with_its_money_folded_anew(operation: Operation, situation: Situation) -> None:
    """Sends and notes that came after the last save count."""
    assert situation_of_operation(operation) is situation


@pytest.mark.parametrize(
    ("state", "waiting_for", "why", "wished", "situation"),
    [
        (Q, None, "", False, S.UNKNOWN),
        (Q, None, WHY_REPLACED, False, S.UNKNOWN),
        (Q, None, "", True, S.CANCEL_ASKED),
        (H, WaitingFor.GATEWAY, "", False, S.UNKNOWN),
        (H, WaitingFor.SHOPPER, "", False, S.UNKNOWN),
        (H, WaitingFor.SHOPPER, PRICE_UP, False, S.UNKNOWN),
        (H, WaitingFor.AGENT, "", False, S.HELD),
        (R, None, "", False, S.UNKNOWN),
        (F, None, "", False, S.UNKNOWN),
        (C, None, "released", False, S.UNKNOWN),
        (C, None, "cancel_asked", True, S.UNKNOWN),
    ],
)
@pytest.mark.parametrize("outcome", [None, Declined()])
def test_a_copy_that_may_have_lost_a_charge_says_that_nothing_is_known(
    state: State, waiting_for: WaitingFor | None, why: str, wished: bool, situation: Situation, outcome: Outcome | None
) -> None:
    """Neither "not charged", nor that it is safe to pay anew, nor a question that may have been answered."""
    notes = (Note("n1", NoteKind.CANCEL, 1.0),) if wished else ()
    copy = replace(_operation(outcome, state=state, notes=notes), waiting_for=waiting_for, why=why)
    told = answer_for(situation_of_operation(copy, doubted=True), recorded=money_told_of(copy, doubted=True))
    assert (told.situation, told.money, told.safe_to_retry) == (situation, MoneyTold.UNKNOWN, False)


def test_a_record_that_somebody_works_on_is_in_flight() -> None:
    """What is unknown without them is not, yet."""
    assert situation_of_operation(_operation(Unknown("timeout"))) is S.UNKNOWN
    assert situation_of_operation(_operation(Unknown("timeout")), at_work=True) is S.IN_FLIGHT


def test_the_money_of_a_record_that_nobody_doubts_is_told() -> None:
    """From its sends and notes."""
    assert money_told_of(_operation(Charged(4999, "EUR"))) is MoneyTold.CHARGED
    assert money_told_of(_operation(None, state=Q)) is MoneyTold.NOT_CHARGED


REFUND = Send(2, "http:eu:test", "k2", "refund", 1, SendKind.REFUND, 4999, "EUR", 1.0, of="k1")
WISH = Note("n1", NoteKind.CANCEL, 1.0)


@pytest.mark.parametrize(
    ("state", "notes", "refund", "told"),
    [
        (Q, (WISH,), REFUND, MoneyTold.UNKNOWN),
        (C, (), REFUND, MoneyTold.UNKNOWN),
        (Q, (WISH,), None, MoneyTold.UNKNOWN),
        (Q, (WISH,), replace(REFUND, outcome=NotCharged("busy")), MoneyTold.UNKNOWN),
        (F, (WISH,), None, MoneyTold.CHARGED),
        (Q, (WISH,), replace(REFUND, outcome=Refunded(4999, "EUR")), MoneyTold.NOT_CHARGED),
        (F, (), replace(REFUND, amount_minor=100), MoneyTold.CHARGED),
        (H, (WISH,), None, MoneyTold.UNKNOWN),
    ],
)
def test_what_is_on_its_way_back_is_not_told_as_charged(
    state: State, notes: tuple[Note, ...], refund: Send | None, told: MoneyTold
) -> None:
    """From the wish to cancel until the refund's answer; what had its end stays paid, also with a part of it refunded."""
    paid = _operation(Charged(4999, "EUR"), state=state, notes=notes)
    assert money_told_of(replace(paid, sends=(*paid.sends, *([refund] if refund else [])))) is told


def test_every_situation_has_its_row() -> None:
    """The table is total, and each row has words and a problem type of its own, after its name."""
    assert SPECS[S.IN_FLIGHT] == AnswerSpec(409, MoneyTold.UNKNOWN, True, False, "in_flight", "in-flight", 2)
    assert SPECS[S.NOT_KEPT] == AnswerSpec(503, MoneyTold.NOT_CHARGED, False, True, "not_kept", "not-kept", 30)
    assert SPECS[S.MISMATCH] == AnswerSpec(422, None, False, False, "mismatch", "mismatch", None)
    assert set(SPECS) == set(Situation)
    assert len({spec.message for spec in SPECS.values()}) == len({spec.problem for spec in SPECS.values()}) == len(Situation)


def test_the_record_fills_in_what_the_row_leaves_open() -> None:
    """Where a row leaves the money to the record, the record's word is told; without one it is unknown."""
    assert answer_for(S.HELD, recorded=MoneyTold.CHARGED).money is MoneyTold.CHARGED
    assert answer_for(S.HELD).money is MoneyTold.UNKNOWN
    assert answer_for(S.KEPT, recorded=MoneyTold.UNKNOWN).money is MoneyTold.NOT_CHARGED
    assert answer_for(S.NO_SUCH_ORDER).money is None


def test_a_known_pause_goes_before_the_usual_one() -> None:
    """When the breaker knows how long to wait, that is what the client is told."""
    assert answer_for(S.NOT_KEPT).retry_after_seconds == 30
    assert answer_for(S.NOT_KEPT, About(retry_after_seconds=7)).retry_after_seconds == 7


def test_what_has_its_end_cannot_be_cancelled() -> None:
    """The button is offered only while there is something to stop, and never once money is surely taken."""
    assert not CANCELLABLE & (FINAL | PAID | {S.CANCEL_ASKED, S.REFUND_DUE})


TELLINGS = [Telling(medium, audience, reads) for medium, audience, reads in product(Medium, Audience, [False, True])]


@pytest.mark.parametrize("telling", TELLINGS)
def test_only_who_can_be_told_is_kept(telling: Telling) -> None:
    """Pages, and clients that asked for it, can be told "not paid yet"; a machine never."""
    wanted = telling.audience is Audience.SHOPPER and (telling.medium is Medium.HTML or telling.reads_202)
    assert can_be_told(telling) is wanted


@pytest.mark.parametrize("telling", [telling for telling in TELLINGS if not can_be_told(telling)])
@pytest.mark.parametrize("situation", Situation)
def test_to_a_client_that_never_heard_of_us_2xx_means_paid(telling: Telling, situation: Situation) -> None:
    """Without a promise to read our members a client gets 2xx only for paid, or for the shop's own answer."""
    status = status_for(answer_for(situation), telling)
    if status < 300:
        assert situation in PAID or situation is S.ANSWERED


def test_a_machine_is_told_of_what_is_done() -> None:
    """Placed, or bought before: it need not come again. Paid and not yet placed is a 409 to it."""
    machine = Telling(Medium.JSON, Audience.MACHINE)
    told = [status_for(answer_for(situation), machine) for situation in (S.PLACED, S.PLACED_RESERVED, S.DUPLICATE, S.PAID_UNFINISHED)]
    assert told == [SPECS[S.PLACED].status, SPECS[S.PLACED_RESERVED].status, SPECS[S.DUPLICATE].status, 409]


@pytest.mark.parametrize("situation", Situation)
def test_a_machine_never_gets_a_202(situation: Situation) -> None:
    """A webhook's sender repeats until the work is done."""
    for telling in TELLINGS:
        if telling.audience is Audience.MACHINE:
            assert status_for(answer_for(situation), telling) != 202


@pytest.mark.parametrize("situation", Situation)
def test_who_can_be_told_gets_the_status_of_the_table(situation: Situation) -> None:
    """Pages and clients that read 202 get each row as it is."""
    for telling in TELLINGS:
        if can_be_told(telling):
            assert status_for(answer_for(situation), telling) == SPECS[situation].status


@pytest.mark.parametrize(
    ("situation", "status"),
    [
        (S.UNKNOWN, 409),
        (S.HELD, 409),
        (S.KEPT, 409),
        (S.NEEDS_SHOPPER, 409),
        (S.CANCELLED, 409),
        (S.PAID_UNFINISHED, 202),
        (S.NOT_KEPT, 503),
    ],
)
def test_a_plain_json_client_is_told_in_statuses_it_knows(situation: Situation, status: int) -> None:
    """Unknown and held are a 409 to it, an outage a 503, and paid stays paid."""
    assert status_for(answer_for(situation), Telling(Medium.JSON)) == status


@pytest.mark.parametrize("situation", Situation)
def test_a_browser_goes_to_the_status_page_where_there_is_one(situation: Situation) -> None:
    """What is not refused is told on the status page, so that a reload sends nothing again."""
    answer = answer_for(situation, About(status_url="/cxguard/orders/t"))
    wanted = situation is S.IN_FLIGHT or (SPECS[situation].status < 300 and situation is not S.DUPLICATE)
    assert goes_to_status_page(answer) is wanted
    assert not goes_to_status_page(answer_for(situation))


def test_an_answer_is_a_value() -> None:
    """Two answers about the same thing are equal."""
    assert answer_for(S.KEPT, About(reference="A")) == answer_for(S.KEPT, About(reference="A"))
    assert isinstance(answer_for(S.KEPT), Answer)
