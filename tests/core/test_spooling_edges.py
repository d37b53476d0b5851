"""A spooled order at the edges: of one moment, closed by hand, changed again, or with nothing known of the clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from spooled_orders import CAME, DERIVED, ENTRY, LATER, SOONER, order, plan, submit, there

from cxguard.core.consent import Consent
from cxguard.core.decide import RELEASED, Policy
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import Operation, State, WaitingFor, changed
from cxguard.core.spooling import (
    CLOCK_STEP_SECONDS,
    MARKS_MAX,
    Lay,
    Merge,
    age_of,
    arriving,
    lay_over,
    mark_of,
    merge,
    merged,
    merged_before,
    relaid,
    second_name,
    spooled,
)
from cxguard.testing.contract.base import charge_send, sample

WISH = Note("cancel:1", NoteKind.CANCEL, SOONER, generation=1)
ANOTHER = {"same": False, "client_key": False}
DECLINED_LATER_SAVED = changed(there(State.FINISHED, MoneyState.DECLINED), updated_at=LATER)
DECLINED_BY_HAND = changed(there(State.FINISHED, MoneyState.DECLINED, at=LATER), answered_at=None)


@pytest.mark.parametrize(
    ("record", "compared", "expected"),
    [
        (there(State.RUNNING, kept=True), {}, Merge.DROP),  # a worker goes on with it
        (changed(there(State.QUEUED, kept=True), created_at=CAME), ANOTHER, Merge.REPLACE),
        (there(State.FINISHED, MoneyState.DECLINED), {"same": False}, Merge.REMARK),
        (there(State.FINISHED, MoneyState.DECLINED, at=CAME), ANOTHER, Merge.REOPEN),
        (there(State.FINISHED, MoneyState.DECLINED, at=CAME + 0.5), ANOTHER, Merge.DROP),
        (DECLINED_LATER_SAVED, {"client_key": False}, Merge.REOPEN),
        (DECLINED_BY_HAND, {"client_key": False}, Merge.DROP),
        (there(State.FINISHED, why=RELEASED), {}, Merge.DROP),  # not let go: it was answered
        (there(State.CANCELLED, why=RELEASED, notes=(WISH,)), {}, Merge.DROP),
    ],
)
def test_what_a_spooled_order_meets(record: Operation, compared: dict[str, Any], expected: Merge) -> None:
    """What ended in the very moment in which it came had ended before; a save after the end moves no end."""
    assert plan(record, **compared) is expected


@pytest.mark.parametrize(
    ("money", "answered_at", "updated_at", "expected"),
    [
        (MoneyState.CHARGED, CAME, CAME, Merge.OVER),
        (MoneyState.CHARGED, CAME + 0.5, CAME + 0.5, Merge.DROP),
        (MoneyState.CHARGED, SOONER, LATER, Merge.OVER),
        (MoneyState.CHARGED, None, LATER, Merge.DROP),
        (MoneyState.DECLINED, LATER, LATER, Merge.OVER),
    ],
)
def test_the_current_purchase_was_this_one_if_it_was_paid_after_that_came(
    money: MoneyState, answered_at: float | None, updated_at: float, expected: Merge
) -> None:
    """By its end, which a later save does not move; what charged nothing was none."""
    served = Note("s", NoteKind.SERVED, LATER + 1.0)
    record = changed(there(State.FINISHED, money, notes=(served,)), answered_at=answered_at, updated_at=updated_at)
    policy = Policy(10.0, 900.0, can_resolve=True, current_seconds=1.0)
    assert merge(record, CAME, submit(), policy, leased=False, claim=True, cancelled=False) is expected


@pytest.mark.parametrize(
    ("now", "boot", "steady", "age_seconds"),
    [
        (CAME - 3540.0, "this", 100.0, 0.0),
        (CAME - CLOCK_STEP_SECONDS, "next", 5.0, 0.0),
        (CAME - CLOCK_STEP_SECONDS - 0.5, "next", 5.0, None),
    ],
)
def test_an_age_at_the_edge_of_what_is_known(now: float, boot: str, steady: float, age_seconds: float | None) -> None:
    """In the moment in which it was laid, and with a clock set back by as much as a time service does."""
    item = spooled(sample(created_at=CAME), mark="m", now=CAME, boot="this", steady=100.0, give_up_seconds=600.0)
    assert age_of(item, now=now, boot=boot, steady=steady) == age_seconds


def test_an_order_without_its_machines_clock_is_as_old_as_the_wall_says() -> None:
    """A system that does not tell its own, and a journal of an older version."""
    item = spooled(sample(created_at=CAME), mark="m", now=CAME, give_up_seconds=600.0)
    assert item.extra == {"spool": "m", "laid_at": ["", 0.0]}
    assert age_of(changed(item, extra={}), now=CAME + 60.0, boot="this", steady=900.0) == 60.0


def test_a_spooled_order_has_sent_nothing_and_keeps_the_shoppers_word() -> None:
    """To buy it again was confirmed for a reference, which is looked at when the store is back."""
    fresh = sample(sends=(charge_send(),), created_at=CAME)
    item = spooled(fresh, mark="m", now=CAME, give_up_seconds=600.0, confirmed="R1")
    assert (item.sends, item.kept, item.state, item.due_at, item.why) == ((), True, State.QUEUED, CAME, "store_away")
    assert item.extra["confirmed"] == "R1"


def test_only_its_mark_arrives_of_what_the_spool_wrote() -> None:
    """Its own timeline is the journal's, its last change is its coming, and its facts come by themselves: none was seen yet."""
    told = sample(created_at=CAME, history=(ENTRY,), notes=(WISH,), notes_seen=1)
    item = spooled(told, mark="m", now=CAME, give_up_seconds=600.0, confirmed="R1")
    fresh = arriving(item, age_seconds=100.0, there=CAME + 3700.0)
    assert (fresh.extra, fresh.history, fresh.updated_at) == ({"spool": "m"}, (), CAME + 3600.0)
    assert (fresh.notes, fresh.notes_seen) == ((), 0)


def test_a_word_of_the_future_holds_from_now_on() -> None:
    """The clock was set back since it was given: it holds no longer than it was given for."""
    word = Consent("2026-01", at=CAME + 50.0, until=CAME + 600.0, ceiling_minor=4999, currency="EUR")
    item = spooled(sample(created_at=CAME, consent=word, quote_until=CAME + 70.0), mark="m", now=CAME, give_up_seconds=600.0)
    fresh = arriving(item, age_seconds=20.0, there=CAME + 3700.0)
    assert fresh.consent == replace(word, at=CAME + 3700.0, until=CAME + 3700.0 + 550.0)
    assert fresh.quote_until == CAME + 3700.0 + 50.0


def test_an_order_without_a_mark_was_never_merged() -> None:
    """One that did not come by a spool, with another one like it."""
    assert mark_of(sample()) == ""
    assert not merged_before(sample(), sample())


def test_the_newest_marks_are_kept() -> None:
    """As many as there are outages in an order's life."""
    full = changed(there(State.RUNNING), extra={"spool": " ".join(f"x{number}" for number in range(MARKS_MAX))})
    found = merged(Merge.KEEP, full, order(), same=True, request=b"r", entry=ENTRY)
    assert mark_of(found).split() == [*(f"x{number}" for number in range(1, MARKS_MAX)), "m1"]


def test_a_replaced_basket_that_was_due_at_no_time_is_due_now() -> None:
    """It waits for nothing else."""
    found = merged(Merge.REPLACE, there(State.QUEUED, kept=True), order(), same=False, request=b"r", entry=ENTRY)
    assert found.due_at == CAME


def test_facts_that_a_person_has_ended_stay_ended() -> None:
    """They get their order's names, and are not queued."""
    stub = changed(there(State.CANCELLED, why="cancelled"), owner="", rule="")
    found = merged(Merge.FILL, stub, order(), same=True, request=b"r", entry=ENTRY)
    assert (found.state, found.why, found.owner, found.due_at) == (State.CANCELLED, "cancelled", "owner", None)


def test_another_owners_spooled_basket_is_refused_in_neutral_words() -> None:
    """As a key that was used for something else."""
    assert lay_over(changed(order(), owner="bob"), submit(), DERIVED, leased=False, claim=True, now=CAME) is Lay.MISMATCH


def test_a_changed_basket_takes_the_spooled_ones_place() -> None:
    """With its own time and mark; it is due when the first one was."""
    held = changed(order(), due_at=CAME + 7.0)
    later = spooled(sample("b", created_at=LATER, amount_minor=700, request=b"new"), mark="m2", now=LATER, give_up_seconds=60.0)
    found = relaid(held, later, Lay.REPLACE)
    assert (found.id, found.state, found.why, found.due_at) == (held.id, State.QUEUED, "store_away", CAME + 7.0)
    assert (found.amount_minor, found.request, found.created_at, found.extra) == (700, b"new", LATER, later.extra)


def test_spooled_facts_get_their_order() -> None:
    """With its end, and its mark."""
    held = changed(order(), owner="", rule="", state=State.HELD, due_at=None)
    later = spooled(sample(created_at=LATER, amount_minor=700, request=b"new"), mark="m2", now=LATER, give_up_seconds=60.0)
    found = relaid(held, later, Lay.FILL)
    assert (found.state, found.owner, found.due_at, found.give_up_at) == (State.QUEUED, "owner", LATER, LATER + 60.0)
    assert (found.amount_minor, found.request, found.created_at, found.extra) == (700, b"new", LATER, later.extra)


@pytest.mark.parametrize(("due_at", "keep_until"), [(LATER, LATER + 60.0), (None, CAME + 60.0)])
def test_a_second_name_is_kept_from_when_it_came(due_at: float | None, keep_until: float) -> None:
    """It waits for nothing, gives up nothing, and lays claim to no purchase; its mark stays, so that it is merged once."""
    fresh = changed(order(), due_at=due_at, claims=("purchase",))
    ended = second_name(fresh, sample("b"), keep_seconds=60.0)
    assert (ended.keep_until, ended.due_at, ended.give_up_at, ended.extra["spool"]) == (keep_until, None, None, "m1")
    held = second_name(fresh, sample("b"), keep_seconds=60.0, doubted=True)
    assert (held.waiting_for, held.give_up_at) == (WaitingFor.GATEWAY, None)
    assert (ended.claims, held.claims) == ((), ())
