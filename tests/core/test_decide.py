"""What is done with a submit: every cell of state and money, by each way in which a record can be found."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from decide_orders import (
    CELLS,
    CHARGED,
    CLIENTS_KEY,
    CURRENT,
    DECLINED,
    ENDED,
    NONE,
    NOW,
    REFUNDED,
    RULE,
    SCRIPT,
    SENDS,
    UNKNOWN,
    WISH,
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

from cxguard.core.decide import NOT_KEPT, ORDER_MISSING, RELEASED, Do, Policy, decide
from cxguard.core.money import MoneyState, Note, SendKind
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import NotCharged, Unknown

# --- the same key

LATER = {
    **CLIENTS_KEY,
    F: {NONE: Do.REOPEN, UNKNOWN: Do.TELL, CHARGED: Do.REPLAY, DECLINED: Do.REOPEN, REFUNDED: Do.REOPEN},
    C: {NONE: Do.REOPEN, UNKNOWN: Do.TELL, CHARGED: Do.TELL, DECLINED: Do.REOPEN, REFUNDED: Do.REOPEN},
}
MUCH_LATER = {**LATER, F: {**LATER[F], CHARGED: Do.DUPLICATE}}
OTHER_REQUEST = {**LATER, Q: {**CLIENTS_KEY[Q], NONE: Do.REPLACE}}


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize("age_seconds", [5.0, 60.0, 100_000.0])
def test_the_clients_own_key_is_answered_from_its_record(state: State, money: MoneyState, age_seconds: float) -> None:
    """The same request under a key that the client chose never pays again, however much later it comes."""
    assert done(record(state, money, age_seconds=age_seconds), submit()) is CLIENTS_KEY[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize(("leased", "policy"), list(product((False, True), (RULE, SCRIPT))))
def test_the_clients_own_key_with_another_request_is_a_mismatch(state: State, money: MoneyState, leased: bool, policy: Policy) -> None:
    """Whatever became of the first one, and whether or not somebody works on it."""
    assert done(record(state, money), submit(same_request=False), policy, leased=leased) is Do.MISMATCH


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_a_double_click_under_a_derived_key_is_the_same_press_of_the_button(state: State, money: MoneyState) -> None:
    """Within the double click the same request gets what the first one got."""
    assert done(record(state, money, age_seconds=10.0), submit(client_key=False)) is CLIENTS_KEY[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_the_same_basket_again_a_minute_later_may_be_tried_anew_if_it_is_not_paid(state: State, money: MoneyState) -> None:
    """After the double click an end without a standing charge opens the next generation."""
    assert done(record(state, money, age_seconds=11.0), submit(client_key=False)) is LATER[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_the_same_basket_again_after_the_window_is_asked_about(state: State, money: MoneyState) -> None:
    """A paid one is no longer replayed as if it were this one: the shopper is asked."""
    assert done(record(state, money, age_seconds=901.0), submit(client_key=False)) is MUCH_LATER[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_another_card_for_the_same_basket_needs_no_pause(state: State, money: MoneyState) -> None:
    """Another request under a derived key goes on at once where nothing is charged, and replaces what waits unpaid."""
    assert done(record(state, money), submit(client_key=False, same_request=False)) is OTHER_REQUEST[state][money]


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize(("client_key", "policy"), list(product((False, True), (RULE, SCRIPT))))
def test_nobody_steps_in_while_somebody_works_on_it(state: State, money: MoneyState, client_key: bool, policy: Policy) -> None:
    """Under a live lease the submit waits for the run, or hears what the record says: not of an end that charged nothing, which
    somebody may be about to begin anew."""
    wanted = Do.WAIT if state is R or may_begin_anew(state, money) else Do.TELL
    assert done(record(state, money), submit(client_key=client_key), policy, leased=True) is wanted


@pytest.mark.parametrize(("money", "notes", "kept", "wanted"), [
    (NONE, (), False, Do.WAIT), (DECLINED, (), False, Do.WAIT), (NONE, (), True, Do.TELL), (NONE, (WISH,), False, Do.TELL),
    (UNKNOWN, (), False, Do.TELL), (CHARGED, (), False, Do.TELL),
])  # fmt: skip
@pytest.mark.parametrize("state", [Q, H])
def test_order_that_waits_and_may_be_about_to_run_is_waited_for(
    state: State, money: MoneyState, notes: tuple[Note, ...], kept: bool, wanted: Do
) -> None:
    """Its press holds the lease, and has not written yet that it runs. What is kept waits for the queue, and is told as it is."""
    waiting = record(state, money, kept=kept, notes=notes, waiting_for=WaitingFor.SHOPPER)
    assert done(waiting, submit(), leased=True) is wanted


@pytest.mark.parametrize("waiting_for", [WaitingFor.AGENT, WaitingFor.GATEWAY])
@pytest.mark.parametrize("money", [NONE, DECLINED, REFUNDED])
def test_order_that_a_person_has_in_hand_is_told_as_it_is(waiting_for: WaitingFor, money: MoneyState) -> None:
    """For a quarter of an hour, say: no press begins it anew meanwhile."""
    assert done(record(H, money, kept=False, waiting_for=waiting_for), submit(), leased=True) is Do.TELL


@pytest.mark.parametrize("policy", [RULE, CURRENT])
def test_basket_whose_ended_order_may_begin_anew_is_waited_for(policy: Policy) -> None:
    """By whoever has another basket as well, where an owner has one current order."""
    ended = record(C, NONE, why=RELEASED, age_seconds=2_000.0, basket="b1")
    what = submit(client_key=False, same_request=False, basket="b2")
    assert [done(ended, what, policy, leased=leased, claim=True) for leased in (True, False)] == [Do.WAIT, Do.SUPERSEDE]


@pytest.mark.parametrize(("age_seconds", "wanted"), [(-3_600.0, Do.REOPEN), (-60.1, Do.REOPEN), (-60.0, Do.REPLAY), (-1.0, Do.REPLAY)])
def test_decline_of_before_the_clock_was_set_back_is_not_given_again_for_long(age_seconds: float, wanted: Do) -> None:
    """The shopper tries again. By less than a minute clocks may differ, and what one was set ahead is not known to the second."""
    assert done(record(F, DECLINED, age_seconds=age_seconds), submit(client_key=False)) is wanted


@pytest.mark.parametrize(("notes", "wanted"), [((), Do.REPLAY), ((WISH,), Do.TELL)])
def test_answer_that_has_gone_out_is_given_again_unless_the_order_is_to_end(notes: tuple[Note, ...], wanted: Do) -> None:
    """While it is being cancelled it may be paid back at any moment: "paid" would be too much."""
    assert done(record(R, CHARGED, answer=b"sealed", notes=notes), submit(), leased=True) is wanted


@pytest.mark.parametrize(("notes", "left_minor", "wanted"), [((), 1, Do.REPLAY), ((), 0, Do.TELL), ((WISH,), 1, Do.TELL)])
def test_answer_is_not_given_again_while_nobody_knows_whether_all_went_back(notes: tuple[Note, ...], left_minor: int, wanted: Do) -> None:
    """A refund without an answer; without a wish to cancel it is one of the shop's own, of a part or of all."""
    back = replace(send(2, Unknown("no answer"), kind=SendKind.REFUND), amount_minor=1_000 - left_minor)
    assert done(record(F, CHARGED, sends=(*SENDS[CHARGED], back), notes=notes), submit()) is wanted


@pytest.mark.parametrize(("state", "money"), CELLS)
def test_an_answer_that_has_gone_out_is_given_again_while_work_goes_on(state: State, money: MoneyState) -> None:
    """While it still runs and its charge stands; over anything else the answer would lie."""
    waits = state is R or may_begin_anew(state, money)
    wanted = Do.REPLAY if (state, money) == (R, CHARGED) else Do.WAIT if waits else Do.TELL
    assert done(record(state, money, answer=b"sealed"), submit(), leased=True) is wanted


@pytest.mark.parametrize("leased", [False, True])
def test_a_fact_that_came_before_its_order_is_told(leased: bool) -> None:
    """It has no owner yet: who knows its name is not refused, and nothing runs over it."""
    assert done(record(Q, CHARGED, owner="", kept=False), submit(), leased=leased) is Do.TELL


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize(("leased", "claim"), list(product((False, True), (False, True))))
def test_another_owner_learns_nothing(state: State, money: MoneyState, leased: bool, claim: bool) -> None:
    """A basket that somebody else pays gets a neutral word in every cell."""
    assert done(record(state, money), replace(submit(), owner="bob"), leased=leased, claim=claim) is Do.FOREIGN


def test_the_window_of_an_order_that_nobody_answered_begins_with_its_end() -> None:
    """One that a person closed has no answer; and what was saved of an answered one later makes it no younger."""
    by_hand = record(F, CHARGED, age_seconds=900.0, answered_at=None)
    assert done(by_hand, submit(client_key=False)) is Do.REPLAY
    saved_later = record(F, CHARGED, age_seconds=901.0, updated_at=NOW)
    assert done(saved_later, submit(client_key=False)) is Do.DUPLICATE
    assert done(saved_later, submit(), claim=True) is Do.SUPERSEDE
    assert done(record(F, CHARGED, age_seconds=900.0), submit(), claim=True) is Do.DUPLICATE
    assert done(saved_later, submit(client_key=False), replace(CURRENT, current_seconds=900.0), claim=True) is Do.SUPERSEDE
    assert done(record(F, DECLINED, age_seconds=11.0, updated_at=NOW), submit(client_key=False)) is Do.REOPEN


@pytest.mark.parametrize(("age_seconds", "wanted"), [(900.0, Do.REPLAY), (901.0, Do.AGAIN)])
def test_a_confirmed_repetition_after_the_window_is_bought(age_seconds: float, wanted: Do) -> None:
    """To buy it again is a new operation; within the window the answer is still the first one's."""
    assert done(record(F, CHARGED, age_seconds=age_seconds), submit(client_key=False, confirmed="R1")) is wanted


@pytest.mark.parametrize(("confirmed", "wanted"), [(None, Do.DUPLICATE), ("R1", Do.AGAIN)])
def test_a_basket_that_costs_something_else_by_now_is_not_given_the_first_answer(confirmed: str | None, wanted: Do) -> None:
    """Under a derived key, within the window: the answer of before would pass for one about what was added since."""
    dearer = submit(client_key=False, confirmed=confirmed, same_request=False, amount_minor=6000)
    assert done(record(F, CHARGED), dearer) is wanted
    assert done(record(R, CHARGED, answer=b"sealed"), dearer, leased=True) is Do.WAIT
    assert done(record(F, CHARGED), replace(dearer, amount_minor=0)) is Do.REPLAY  # the shop has emptied the basket that was paid


def test_a_basket_of_unknown_amount_costs_nothing_else() -> None:
    """Whichever of the two it is that nobody knows: it is the same submit, sent again."""
    again = submit(client_key=False, same_request=False)
    assert done(record(F, CHARGED, amount_minor=None, currency=None), again) is Do.REPLAY
    assert done(record(F, CHARGED), replace(again, amount_minor=None)) is Do.REPLAY


def test_a_confirmation_of_another_order_confirms_nothing() -> None:
    """The reference must be that of the order that this one looks like."""
    assert done(record(F, CHARGED, age_seconds=901.0), submit(client_key=False, confirmed="R2")) is Do.DUPLICATE


# --- what waits


@pytest.mark.parametrize("same_request", [False, True])
def test_an_unknown_that_nobody_can_be_asked_about_is_told(same_request: bool) -> None:
    """Without a look-up a submit changes nothing about an unknown charge."""
    policy = replace(RULE, can_resolve=False)
    assert done(record(Q, UNKNOWN), submit(client_key=False, same_request=same_request), policy) is Do.TELL


def test_a_request_that_may_not_be_kept_takes_no_kept_ones_place() -> None:
    """One with a card number in it, or from a client that would take "kept" for "paid": the order that waits stays as it is."""
    assert done(record(Q, NONE), submit(client_key=False, same_request=False, may_keep=False)) is Do.TELL


QUEUED_UNKEPT = {NONE: Do.RERUN, UNKNOWN: Do.RESOLVE, CHARGED: Do.TELL, DECLINED: Do.TELL, REFUNDED: Do.TELL}


@pytest.mark.parametrize(("money", "same_request"), list(product(MoneyState, (False, True))))
def test_a_run_that_left_steps_goes_on_with_the_next_submit(money: MoneyState, same_request: bool) -> None:
    """A queued record that is not kept for later waits for its shopper: nothing charged, so it is tried again."""
    operation = record(Q, money, kept=False)
    assert done(operation, submit(client_key=False, same_request=same_request)) is QUEUED_UNKEPT[money]


@pytest.mark.parametrize(("kept", "same_request"), list(product((False, True), (False, True))))
def test_an_order_that_is_to_end_is_not_tried_again(kept: bool, same_request: bool) -> None:
    """After the wish to cancel neither a repetition nor a changed basket starts it anew."""
    operation = record(Q, NONE, kept=kept, notes=(WISH,))
    assert done(operation, submit(client_key=False, same_request=same_request)) is Do.TELL


# --- scripts

SCRIPT_CELLS = {
    R: dict.fromkeys(MoneyState, Do.RESCUE),
    Q: {NONE: Do.RERUN, UNKNOWN: Do.RESOLVE, CHARGED: Do.RERUN, DECLINED: Do.RERUN, REFUNDED: Do.TELL},
    H: dict.fromkeys(MoneyState, Do.TELL),
    F: {NONE: Do.REPLAY, UNKNOWN: Do.TELL, CHARGED: Do.REPLAY, DECLINED: Do.REPLAY, REFUNDED: Do.TELL},
    C: dict.fromkeys(MoneyState, Do.TELL),
}


@pytest.mark.parametrize(("state", "money"), CELLS)
@pytest.mark.parametrize("age_seconds", [5.0, 100_000.0])
def test_a_script_goes_on_after_its_last_step(state: State, money: MoneyState, age_seconds: float) -> None:
    """What a run left behind is continued by the same call; what has ended gives its kept result for ever."""
    assert done(record(state, money, age_seconds=age_seconds), submit(), SCRIPT) is SCRIPT_CELLS[state][money]


@pytest.mark.parametrize(
    ("why", "notes", "wanted"), [(ORDER_MISSING, (), Do.RERUN), ("refund_due", (), Do.TELL), (ORDER_MISSING, (WISH,), Do.TELL)]
)
def test_a_paid_order_that_is_missing_is_completed_by_the_same_call(why: str, notes: tuple[Note, ...], wanted: Do) -> None:
    """Held as paid but not placed: calling again places it, unless it is to be cancelled, and so to be paid back."""
    operation = record(H, CHARGED, why=why, notes=notes, waiting_for=WaitingFor.AGENT)
    assert done(operation, submit(), SCRIPT) is wanted


def test_an_order_that_was_given_back_is_not_completed_by_the_same_call() -> None:
    """The function would place it, unpaid."""
    assert done(record(H, REFUNDED, why=ORDER_MISSING, waiting_for=WaitingFor.AGENT), submit(), SCRIPT) is Do.TELL


def test_a_rules_submit_does_not_complete_a_held_order() -> None:
    """A handler is not run again over a charge that stands."""
    assert done(record(H, CHARGED, why=ORDER_MISSING), submit()) is Do.TELL


def test_a_script_that_is_to_end_is_not_continued() -> None:
    """A queued script with a wish to cancel is told as it is."""
    assert done(record(Q, CHARGED, notes=(WISH,)), submit(), SCRIPT) is Do.TELL


# --- ends, looked at closely

LATE_FACTS = [(state, before, after) for state in (F, C) for before, after in product(MoneyState, MoneyState) if before is not after]


@pytest.mark.parametrize(("state", "before", "after"), LATE_FACTS)
@pytest.mark.parametrize("client_key", [False, True])
def test_an_answer_is_replayed_only_while_the_money_is_as_it_was(
    state: State, before: MoneyState, after: MoneyState, client_key: bool
) -> None:
    """After a late fact the stored answer would lie: the record speaks, and nothing is charged over an open question."""
    told = done(replace(record(state, after), money=before), submit(client_key=client_key))
    assert told is Do.TELL
    again = done(replace(record(state, after, age_seconds=60.0), money=before), submit(client_key=client_key))
    assert again is (Do.TELL if client_key or after in (UNKNOWN, CHARGED) else Do.REOPEN)


@pytest.mark.parametrize(("state", "money"), ENDED)
def test_an_end_without_a_stored_answer_is_told_from_the_record(state: State, money: MoneyState) -> None:
    """Only a paid one is still a replay: the record's own words stand in for the answer that was not kept."""
    wanted = Do.REPLAY if (state, money) == (F, CHARGED) else Do.TELL
    assert done(record(state, money, answer=None), submit()) is wanted


@pytest.mark.parametrize(("client_key", "same_request"), list(product((True, False), repeat=2)))
@pytest.mark.parametrize("policy", [RULE, SCRIPT])
def test_a_key_that_was_freed_may_be_sent_again(client_key: bool, same_request: bool, policy: Policy) -> None:
    """Its client was told "not charged, safe to try again": the same key runs, as the next generation."""
    freed = record(C, NONE, why=RELEASED, sends=(send(1, NotCharged("refused")),))
    assert done(freed, submit(client_key=client_key, same_request=same_request), policy) is Do.REOPEN


@pytest.mark.parametrize(
    ("why", "money", "notes"), [("cancel_asked", NONE, ()), (RELEASED, NONE, (WISH,)), (RELEASED, UNKNOWN, ()), (RELEASED, CHARGED, ())]
)
def test_a_client_that_repeats_by_itself_does_not_undo_a_cancellation(why: str, money: MoneyState, notes: tuple[Note, ...]) -> None:
    """A freed key runs again only if nobody wished to cancel, and no late charge is on it."""
    assert done(record(C, money, why=why, notes=notes), submit()) is Do.TELL
    assert done(record(C, money, why=why, notes=notes), submit(same_request=False)) is Do.MISMATCH


@pytest.mark.parametrize("state", list(State))
def test_only_an_ended_life_frees_its_key(state: State) -> None:
    """The reason alone says nothing."""
    assert (done(record(state, NONE, why=RELEASED), submit(same_request=False)) is Do.MISMATCH) is (state is not C)


@pytest.mark.parametrize(("policy", "wanted"), [(RULE, Do.TELL), (SCRIPT, Do.REOPEN)])
def test_only_a_script_is_run_again_after_it_was_found_uncharged(policy: Policy, wanted: Do) -> None:
    """It ended because nothing said how to go on without its caller, and here the caller is."""
    assert done(record(C, NONE, why=NOT_KEPT), submit(), policy) is wanted


# --- over everything

RUNNING_IT = {Do.RUN, Do.REOPEN, Do.SUPERSEDE, Do.AGAIN, Do.REPLACE}


def test_no_submit_starts_a_second_charge_over_one_that_may_stand() -> None:
    """However it is found: over unknown money nothing begins, and over a charge within the window nothing either."""
    ways = product(CELLS, (False, True), (False, True), (False, True), (RULE, CURRENT), (5.0, 60.0, 901.0, 1_801.0))
    for (state, money), claim, client_key, same_request, policy, age_seconds in ways:
        operation = record(state, money, age_seconds=age_seconds)
        told = done(operation, submit(client_key=client_key, same_request=same_request), policy, claim=claim)
        if money is UNKNOWN:
            assert told not in RUNNING_IT
        if money is CHARGED and age_seconds < 900.0:
            assert told not in RUNNING_IT


@pytest.mark.parametrize(
    ("state", "kept", "can_ask", "wanted"),
    [
        (R, False, True, Do.DUPLICATE),
        (F, False, True, Do.DUPLICATE),
        (C, False, True, Do.DUPLICATE),
        (Q, False, True, Do.SUPERSEDE),  # it waits for a submit, and is asked about with that one
        (R, False, False, Do.SUPERSEDE),
        (C, False, False, Do.SUPERSEDE),
    ],
)
def test_an_older_copy_of_a_purchase_gives_way_to_no_other_key(state: State, kept: bool, can_ask: bool, wanted: Do) -> None:
    """It may be paid: the gateway, or the shop, is asked first, where that can be."""
    there, policy = record(state, NONE, kept=kept), Policy(10.0, 900.0, can_resolve=True, can_ask=can_ask)
    assert decide(there, submit(), policy, leased=False, claim=True, now=NOW, doubted=True) is wanted
    assert decide(there, submit(), policy, leased=False, claim=True, now=NOW) is Do.SUPERSEDE
