"""What a spooled order becomes: every state that the store may have of it, crossed with how the submit compares."""

from __future__ import annotations

from typing import Any

import pytest
from spooled_orders import CAME, DERIVED, ENTRY, LATER, OUTCOMES, SOONER, order, plan, submit, there

from cxguard.core.answer import MoneyTold, Situation
from cxguard.core.consent import Consent
from cxguard.core.decide import NOT_KEPT, RELEASED, Policy
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import Entry, Lease, Operation, State, Step, WaitingFor, changed, money_of
from cxguard.core.spooling import (
    CHANGES,
    MARKS_MAX,
    Lay,
    Merge,
    age_of,
    arriving,
    asked_at,
    lay_over,
    mark_of,
    merge,
    merged,
    merged_before,
    spooled,
    spooled_money,
    spooled_situation,
)
from cxguard.testing.contract.base import charged_note, sample


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("money", list(OUTCOMES))
def test_nothing_is_done_while_somebody_acts_on_the_record(state: State, money: MoneyState) -> None:
    """A live lease: the spooled order waits, whatever the record says."""
    assert plan(there(state, money), leased=True) is Merge.WAIT


@pytest.mark.parametrize("client_key", [True, False])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("at", [SOONER, LATER])
@pytest.mark.parametrize("kept", [True, False])
def test_a_charge_that_stands_is_never_opened_anew(state: State, same: bool, client_key: bool, at: float, kept: bool) -> None:
    """Paid is paid: no plan makes a next life of it, and none puts another basket in its place."""
    found = plan(there(state, MoneyState.CHARGED, at=at, kept=kept), same=same, client_key=client_key)
    assert found not in (Merge.REOPEN, Merge.REPLACE, Merge.OVER)


@pytest.mark.parametrize("client_key", [True, False])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("state", list(State))
def test_what_is_unknown_keeps_its_one_key(state: State, same: bool, client_key: bool) -> None:
    """It may be queued to be resolved; it gets no next life, whose gateway key would be another."""
    assert plan(there(state, MoneyState.UNKNOWN), same=same, client_key=client_key) in (Merge.KEEP, Merge.DROP, Merge.REMARK)


@pytest.mark.parametrize("why", [RELEASED, NOT_KEPT])
@pytest.mark.parametrize("at", [SOONER, LATER])
def test_a_record_that_was_let_go_is_taken_up(why: str, at: float) -> None:
    """Nobody meant it to end: its process died before anybody was told."""
    assert plan(there(State.CANCELLED, at=at, why=why)) is Merge.REOPEN


def test_an_order_that_was_cancelled_after_it_came_is_over() -> None:
    """Forwarded, cancelled by its shopper, and forwarded once more after a crash: it stays cancelled."""
    assert plan(there(State.CANCELLED, at=LATER, why="cancelled"), client_key=False) is Merge.DROP


def test_an_order_that_was_declined_after_it_came_is_over() -> None:
    """The decline was the answer to this very submit."""
    assert plan(there(State.FINISHED, MoneyState.DECLINED, at=LATER), client_key=False) is Merge.DROP


def test_a_new_try_after_a_decline_is_the_next_life() -> None:
    """The decline was there before: under a derived key pressing again is a new try."""
    assert plan(there(State.FINISHED, MoneyState.DECLINED), client_key=False) is Merge.REOPEN
    assert plan(there(State.FINISHED, MoneyState.DECLINED), client_key=True) is Merge.DROP


def test_what_the_shopper_cancelled_while_it_was_spooled_gets_no_next_life() -> None:
    """Neither after a decline nor after the record was let go."""
    assert plan(there(State.FINISHED, MoneyState.DECLINED), client_key=False, cancelled=True) is Merge.DROP
    assert plan(there(State.CANCELLED, why=RELEASED), cancelled=True) is Merge.DROP


@pytest.mark.parametrize(
    ("record", "compared", "expected"),
    [
        (there(State.RUNNING), {}, Merge.KEEP),  # its process died
        (there(State.RUNNING, MoneyState.UNKNOWN), {}, Merge.KEEP),
        (there(State.RUNNING, answer=b"sealed"), {}, Merge.DROP),  # its answer went out: a person looks
        (there(State.QUEUED), {}, Merge.KEEP),
        (there(State.QUEUED, kept=True), {}, Merge.DROP),
        (there(State.QUEUED, kept=True), {"same": False, "client_key": False}, Merge.REPLACE),
        (there(State.QUEUED, kept=True), {"same": False}, Merge.REMARK),
        (there(State.QUEUED, MoneyState.UNKNOWN, kept=True), {"same": False, "client_key": False}, Merge.REMARK),
        (there(State.HELD, waiting_for=WaitingFor.AGENT), {}, Merge.DROP),
        (there(State.FINISHED, MoneyState.CHARGED), {}, Merge.DROP),
        (there(State.FINISHED, MoneyState.CHARGED), {"same": False}, Merge.REMARK),
        (changed(there(State.HELD), owner="", rule=""), {}, Merge.FILL),
        (changed(there(State.QUEUED), version=99), {}, Merge.WAIT),
    ],
)
def test_each_state_has_its_plan(record: Operation, compared: dict[str, Any], expected: Merge) -> None:
    """What is there wins; what would never go on by itself is queued; the rest is dropped, or said to a person."""
    assert plan(record, **compared) is expected


def test_a_later_basket_is_not_replaced_by_an_earlier_one() -> None:
    """Two machines' spools: the second to be forwarded may hold the older basket."""
    newer = changed(there(State.QUEUED, kept=True), created_at=LATER)
    assert plan(newer, same=False, client_key=False) is Merge.REMARK


def test_an_owners_current_purchase_that_was_paid_since_is_this_very_one() -> None:
    """`per_purchase`: spooled, pressed again when the store was back, paid: no second order of it."""
    policy = Policy(10.0, 900.0, can_resolve=True, current_seconds=1.0)
    paid = there(State.FINISHED, MoneyState.CHARGED, at=LATER, notes=(Note("s", NoteKind.SERVED, LATER + 1),))
    assert merge(paid, CAME, submit(), policy, leased=False, claim=True, cancelled=False) is Merge.DROP


@pytest.mark.parametrize("found", sorted(CHANGES))
def test_a_merge_leaves_its_mark_and_is_never_done_twice(found: Merge) -> None:
    """Whoever comes again after a crash sees it, through any number of later outages."""
    records = {
        Merge.KEEP: there(State.RUNNING),
        Merge.REPLACE: there(State.QUEUED, kept=True),
        Merge.REOPEN: there(State.CANCELLED, why=RELEASED),
        Merge.FILL: changed(there(State.HELD), owner="", rule=""),
    }
    fresh = order()
    record = merged(found, records[found], fresh, same=True, request=b"r", entry=ENTRY)
    assert (record.state, record.kept, record.request, record.owner) == (State.QUEUED, True, b"r", "owner")
    assert merged_before(record, fresh)
    assert not merged_before(records[found], fresh)
    later = changed(record, extra={"spool": " ".join((mark_of(record), *(f"x{n}" for n in range(MARKS_MAX - 1))))})
    assert merged_before(later, fresh)


OWN_WORD = Consent("2026-01", at=CAME, until=CAME + 600.0, ceiling_minor=4999, currency="EUR")
THEIR_WORD = Consent("2025-12", at=SOONER, until=SOONER + 600.0, ceiling_minor=4999, currency="EUR")
STEPS = (Step("mail", 1, "a", SOONER, SOONER + 1.0), Step("invoice", 1, "a", SOONER))


def put_together(plan: Merge, record: Operation, *, same: bool = True) -> Operation:
    fresh = order(consent=OWN_WORD, quote_until=CAME + 30.0)
    return merged(plan, record, fresh, same=same, request=b"new", entry=ENTRY)


@pytest.mark.parametrize(
    ("plan", "record", "why", "ends"),
    [
        (Merge.KEEP, there(State.RUNNING), "store_away", (CAME, CAME + 3600.0)),
        (Merge.KEEP, there(State.RUNNING, give_up_at=LATER), "store_away", (CAME, LATER)),
        (Merge.REPLACE, there(State.QUEUED, kept=True, due_at=LATER, give_up_at=LATER), "replaced", (LATER, LATER)),
        (Merge.REOPEN, there(State.CANCELLED, why=RELEASED, attempts=3), "store_away", (CAME, CAME + 3600.0)),
        (Merge.FILL, changed(there(State.HELD), owner="", rule=""), "store_away", (CAME, CAME + 3600.0)),
    ],
)
def test_what_a_merge_waits_for(plan: Merge, record: Operation, why: str, ends: tuple[float, float]) -> None:
    """It is due at once, unless it was to wait longer anyway; it is given up when it would have been, or when its own time is over."""
    found = put_together(plan, record)
    assert (found.why, found.due_at, found.give_up_at, found.attempts, found.answer) == (why, *ends, 0, None)
    assert found.history[-2:-1] == (ENTRY,) or found.history[-1:] == (ENTRY,)
    assert found.extra["spool"] == "m1"


def test_marks_are_apart_from_each_other() -> None:
    """Two spooled orders, two marks."""
    once = put_together(Merge.KEEP, there(State.RUNNING))
    again = merged(Merge.REPLACE, once, changed(order(), extra={"spool": "m2"}), same=False, request=b"r", entry=ENTRY)
    assert again.extra["spool"] == "m1 m2"


@pytest.mark.parametrize(("same", "names"), [(True, ["mail", "invoice"]), (False, ["invoice"])])
def test_finished_steps_belong_to_their_request(same: bool, names: list[str]) -> None:
    """The same request goes on after its mail; another one has its own. What may still be under way is asked about in both."""
    found = put_together(Merge.KEEP, there(State.RUNNING, steps=STEPS), same=same)
    assert [step.name for step in found.steps] == names


@pytest.mark.parametrize(("theirs", "expected"), [(None, (OWN_WORD, CAME + 30.0)), (THEIR_WORD, (THEIR_WORD, SOONER + 9.0))])
def test_the_shoppers_first_word_stands(theirs: Consent | None, expected: tuple[Consent, float]) -> None:
    """What was agreed to with the store's own record, else what came with the spooled one; of the same request."""
    record = there(State.RUNNING, consent=theirs, quote_until=SOONER + 9.0 if theirs else None)
    found = put_together(Merge.KEEP, record)
    assert (found.consent, found.quote_until) == expected


@pytest.mark.parametrize(("same", "request_"), [(True, b"new"), (False, None)])
def test_an_unknown_charge_gets_no_other_request(same: bool, request_: bytes | None) -> None:
    """A record without its request takes that of the very same submit, and no other."""
    assert put_together(Merge.KEEP, there(State.RUNNING, MoneyState.UNKNOWN), same=same).request == request_


def test_a_basket_that_was_replaced_is_as_old_as_that() -> None:
    """Only an order that was put in its place counts: neither another wait, nor another event."""
    replaced = Entry(at=LATER, event="order.queued", detail={"why": "replaced"})
    others = tuple(Entry(LATER, event, detail={"why": why}) for event, why in (("order.queued", "outage"), ("order.held", "replaced")))
    kept = there(State.QUEUED, kept=True)
    assert asked_at(changed(kept, history=(replaced,))) == LATER
    assert asked_at(changed(kept, history=others)) == SOONER
    assert plan(changed(kept, history=(replaced,)), same=False, client_key=False) is Merge.REMARK


@pytest.mark.parametrize(
    ("policy", "basket", "at", "expected"),
    [
        (Policy(10.0, 900.0, can_resolve=True, current_seconds=1.0), "b", LATER, Merge.DROP),  # this very one, paid since
        (Policy(10.0, 900.0, can_resolve=True, current_seconds=1.0), "c", LATER, Merge.OVER),  # another basket
        (Policy(10.0, 900.0, can_resolve=True, current_seconds=1.0), "b", CAME - 300.0, Merge.OVER),  # paid before it was pressed
    ],
)
def test_the_current_purchase_of_an_owner_is_told_apart_by_basket_and_time(policy: Policy, basket: str, at: float, expected: Merge) -> None:
    """`per_purchase` gives way to the next purchase, and not to the same one again."""
    paid = there(State.FINISHED, MoneyState.CHARGED, at=at, basket="b", notes=(Note("s", NoteKind.SERVED, CAME - 400.0),))
    asked = submit(same=basket == "b", basket=basket)
    assert merge(paid, CAME, asked, policy, leased=False, claim=True, cancelled=False) is expected


@pytest.mark.parametrize("same", [True, False])
def test_another_request_for_what_was_cancelled_is_told_to_a_person(same: bool) -> None:
    """The same one is over with it."""
    expected = Merge.DROP if same else Merge.REMARK
    assert plan(there(State.CANCELLED, why=RELEASED), cancelled=True, same=same) is expected


def test_what_may_have_been_charged_keeps_its_own_request() -> None:
    """The amount of an unknown charge is not changed under it."""
    record = merged(Merge.KEEP, there(State.RUNNING, MoneyState.UNKNOWN, request=b"old"), order(), same=False, request=b"new", entry=ENTRY)
    assert (record.request, record.amount_minor, record.kept) == (b"old", 4999, True)


def test_a_stub_keeps_its_facts_when_it_gets_its_order() -> None:
    """Charged by a webhook that came first, or cancelled by the shopper: both are folded."""
    cancel = Note("cancel:1", NoteKind.CANCEL, CAME, generation=1)
    stub = changed(there(State.HELD), owner="", rule="", notes=(charged_note(), cancel))
    record = merged(Merge.FILL, stub, order(), same=True, request=b"r", entry=ENTRY)
    assert (money_of(record).state, record.cancel_asked, record.rule) == (MoneyState.CHARGED, True, order().rule)


def test_times_travel_as_ages() -> None:
    """The store's clock is an hour ahead of this machine's: the order is as old there as it is here."""
    item = spooled(sample(created_at=CAME), mark="m", now=CAME, give_up_seconds=600.0)
    fresh = arriving(item, age_seconds=100.0, there=CAME + 3700.0)
    assert (fresh.created_at, fresh.give_up_at, fresh.due_at) == (CAME + 3600.0, CAME + 3700.0 + 500.0, CAME + 3700.0)


def test_the_shoppers_word_is_as_old_there_as_it_is_here() -> None:
    """It holds for as long as it did, and not an hour more because the store's clock is ahead."""
    item = changed(sample(created_at=CAME), consent=Consent("2026-01", at=CAME, until=CAME + 600.0, ceiling_minor=4999, currency="EUR"))
    fresh = arriving(spooled(item, mark="m", now=CAME, give_up_seconds=600.0), age_seconds=100.0, there=CAME + 3700.0)
    assert fresh.consent == Consent("2026-01", at=CAME + 3600.0, until=CAME + 4200.0, ceiling_minor=4999, currency="EUR")


def test_an_order_of_unknown_age_lives_no_longer_than_its_rule_says() -> None:
    """Counted from now, since nobody knows what has passed."""
    item = spooled(sample(created_at=CAME), mark="m", now=CAME, give_up_seconds=600.0)
    fresh = arriving(item, age_seconds=None, there=CAME)
    assert (fresh.created_at, fresh.give_up_at) == (CAME, CAME + 600.0)


@pytest.mark.parametrize(
    ("now", "boot", "steady", "age_seconds"),
    [
        (CAME + 60.0, "this", 160.0, 60.0),
        (CAME - 3540.0, "this", 160.0, 60.0),  # set back by an hour
        (CAME + 3660.0, "this", 160.0, 3660.0),  # set forward, or asleep for an hour: never taken for younger than it may be
        (CAME + 60.0, "next", 5.0, 60.0),  # switched off and on
        (CAME - 1.0, "next", 5.0, 0.0),  # a time service at work
        (CAME - 3540.0, "next", 5.0, None),
        (CAME - 3540.0, "", 160.0, None),  # a system that does not name its lives
        (CAME + 60.0, "this", 5.0, 60.0),  # another machine's clock under the same name
    ],
)
def test_the_age_of_an_order_is_that_of_the_clock_that_nobody_sets(now: float, boot: str, steady: float, age_seconds: float | None) -> None:
    """As long as the machine was not switched off; then the wall clock's, unless that was set back."""
    item = spooled(sample(created_at=CAME), mark="m", now=CAME, boot="this" if boot else "", steady=100.0, give_up_seconds=600.0)
    assert age_of(item, now=now, boot=boot, steady=steady) == age_seconds


@pytest.mark.parametrize("compared", [{"claim": True}, {"client_key": False}, {"client_key": True}])
@pytest.mark.parametrize("at", [CAME - 90_000.0, LATER])
def test_an_order_of_unknown_age_is_no_second_purchase_of_what_was_paid(compared: dict[str, Any], at: float) -> None:
    """The charge may be of a minute before it, or after: it is told of, and never made again."""
    claim, paid = "claim" in compared, there(State.FINISHED, MoneyState.CHARGED, at=at)
    asked = submit(**({} if claim else compared))
    assert merge(paid, None, asked, DERIVED, leased=False, claim=claim, cancelled=False) is Merge.DROP


@pytest.mark.parametrize("money", [MoneyState.NONE, MoneyState.DECLINED])
def test_an_order_of_unknown_age_opens_nothing_that_has_ended(money: MoneyState) -> None:
    """It may have been what was cancelled, or declined."""
    ended = there(State.FINISHED if money is MoneyState.DECLINED else State.CANCELLED, money)
    assert merge(ended, None, submit(client_key=False), DERIVED, leased=False, claim=False, cancelled=False) is Merge.DROP


def test_nothing_of_the_journal_is_taken_along() -> None:
    """Lease, revision and notes of the spool are not the store's."""
    item = spooled(sample(), mark="m", now=CAME, give_up_seconds=1.0)
    item = changed(item, lease=Lease("x", 7, 9.0), revision=9, notes=(charged_note(),))
    fresh = arriving(item, age_seconds=0.0, there=CAME)
    assert (fresh.lease, fresh.revision, fresh.notes, fresh.notes_seen) == (None, 0, (), 0)


@pytest.mark.parametrize(
    ("record", "compared", "expected"),
    [
        (order(), {}, Lay.TELL),
        (order(), {"same": False}, Lay.MISMATCH),
        (order(), {"same": False, "client_key": False}, Lay.REPLACE),
        (changed(order(), owner="", state=State.HELD), {}, Lay.FILL),
        (changed(order(), owner="", state=State.HELD, notes=(charged_note(),)), {}, Lay.TELL),
    ],
)
def test_another_submit_meets_the_spooled_order(record: Operation, compared: dict[str, Any], expected: Lay) -> None:
    """Found, refused, replaced, or given to facts that came first."""
    assert lay_over(record, submit(**compared), DERIVED, leased=False, claim=False, now=CAME) is expected


def test_what_is_being_forwarded_is_not_changed_under_way() -> None:
    """The client asks again in a moment."""
    for record in (order(), changed(order(), owner="", state=State.HELD)):
        assert lay_over(record, submit(same=False, client_key=False), DERIVED, leased=True, claim=False, now=CAME) is Lay.WAIT


def test_the_same_purchase_under_another_key_is_shown() -> None:
    """By its claim, whatever the key."""
    assert lay_over(order(), submit(), DERIVED, leased=False, claim=True, now=CAME) is Lay.DUPLICATE


@pytest.mark.parametrize(
    ("notes", "situation", "money"),
    [
        ((), Situation.SPOOLED, MoneyTold.UNKNOWN),
        ((Note("cancel:1", NoteKind.CANCEL, CAME, generation=1),), Situation.CANCEL_ASKED, MoneyTold.UNKNOWN),
        ((charged_note(),), Situation.PAID_UNFINISHED, MoneyTold.CHARGED),
    ],
)
def test_nobody_is_told_not_charged(notes: tuple[Note, ...], situation: Situation, money: MoneyTold) -> None:
    """What an earlier press did is not known here: the only word for money is "unknown", or "charged"."""
    record = changed(order(), notes=notes)
    assert (spooled_situation(record), spooled_money(record)) == (situation, money)


def test_facts_alone_tell_a_shopper_nothing_unless_they_are_a_charge() -> None:
    """A stub in the spool is no order that was saved."""
    facts = changed(order(), owner="", notes=(Note("r", NoteKind.REMARK, CAME),))
    assert spooled_situation(facts) is None
    assert spooled_situation(changed(facts, notes=(charged_note(),))) is Situation.PAID_UNFINISHED
