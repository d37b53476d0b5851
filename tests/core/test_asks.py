"""Which orders wait for their shopper's word, for how long, and what a link to go on leads to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from resolve_orders import ALL, CHARGED, NOW, duty, order, send, wish

from cxguard.core.asks import ASK_SECONDS, ASKS, CARD_DECLINED, TRY_FAILED, asked_words, falls_back, gone_on_with, may_resume, shopper_ends
from cxguard.core.decide import Do, Policy, Submit, decide
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import Declined, Unknown
from cxguard.core.resolve import Cancel, Duty, Finish, Hold

SHOPPER = WaitingFor.SHOPPER
POLICY = Policy(double_click_seconds=10.0, duplicate_window_seconds=900.0, can_resolve=True)
ASKING = replace(ALL, ask=True)


@pytest.mark.parametrize("why", sorted(ASKS))
def test_a_question_is_open_for_a_day_and_asked_once(why: str) -> None:
    """From the moment it is asked; being looked at again does not lengthen it."""
    asked = order(State.QUEUED, give_up_at=NOW + 60)
    assert shopper_ends(asked, why, now=NOW, queue_seconds=5.0) == {"due_at": NOW + ASK_SECONDS, "give_up_at": NOW + ASK_SECONDS}
    held = order(State.HELD, why=why, waiting_for=SHOPPER, give_up_at=NOW + 60)
    assert shopper_ends(held, why, now=NOW, queue_seconds=5.0) == {"due_at": NOW + 60, "give_up_at": NOW + 60}
    tried = replace(asked, asked_until=NOW + 30)
    assert shopper_ends(tried, why, now=NOW, queue_seconds=5.0) == {"due_at": NOW + 30, "give_up_at": NOW + 30}
    elsewhere = replace(held, state=State.QUEUED)
    assert shopper_ends(elsewhere, why, now=NOW, queue_seconds=5.0) == {"due_at": NOW + ASK_SECONDS, "give_up_at": NOW + ASK_SECONDS}
    other = replace(held, why="order_missing")
    assert shopper_ends(other, why, now=NOW, queue_seconds=5.0) == {"due_at": NOW + ASK_SECONDS, "give_up_at": NOW + ASK_SECONDS}


@pytest.mark.parametrize(("give_up_at", "ends"), [(NOW + 3600, NOW + 3600), (None, NOW + 5)])
def test_a_step_at_the_bank_is_looked_up_each_minute_until_the_order_is_given_up(give_up_at: float | None, ends: float) -> None:
    """By its own time where it has one."""
    held = order(State.HELD, why="needs_shopper", waiting_for=SHOPPER, give_up_at=give_up_at)
    assert shopper_ends(held, "needs_shopper", now=NOW, queue_seconds=5.0) == {"due_at": NOW + 60, "give_up_at": ends}


@pytest.mark.parametrize(
    ("why", "give_up_at", "until"),
    [("price_up", NOW + 60, NOW + 60), ("price_up", None, NOW + ASK_SECONDS), ("needs_shopper", NOW + 60, NOW + ASK_SECONDS)],
)
def test_whoever_goes_on_keeps_their_day_and_their_link(why: str, give_up_at: float | None, until: float) -> None:
    """For the case that the try charges nothing."""
    held = order(State.HELD, why=why, waiting_for=SHOPPER, give_up_at=give_up_at, generation=3)
    gone_on = gone_on_with(held, now=NOW)
    assert (gone_on.asked_until, gone_on.asked_generation) == (until, 3)


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({"why": "price_up"}, True),
        ({"why": "consent_ended"}, True),
        ({"why": "card_declined"}, True),
        ({"why": "needs_shopper"}, True),
        ({"why": "order_missing"}, False),
        ({"why": "price_up", "waiting_for": WaitingFor.AGENT}, False),
        ({"why": "price_up", "state": State.QUEUED}, False),
        ({"why": "price_up", "state": State.FINISHED}, False),
        ({"why": "price_up", "give_up_at": NOW}, False),
        ({"why": "price_up", "notes": (wish(),)}, False),
    ],
)
def test_only_an_order_that_waits_for_its_shopper_can_be_gone_on_with(changes: dict[str, Any], may: bool) -> None:
    """Not when its time is over, not when it was cancelled, and not while somebody else has the next word."""
    assert may_resume(replace(order(State.HELD, waiting_for=SHOPPER), **changes), now=NOW) is may


@pytest.mark.parametrize(
    ("changes", "leased", "resumes", "do"),
    [
        ({}, False, 1, Do.RESUME),
        ({}, False, 2, Do.TELL),
        ({}, True, 1, Do.TELL),
        ({"generation": 2}, False, 1, Do.TELL),
        ({"state": State.RUNNING}, True, 1, Do.WAIT),
        ({"state": State.RUNNING, "generation": 2}, True, 1, Do.WAIT),
        ({"state": State.RUNNING, "generation": 2}, False, 1, Do.TELL),
        ({"state": State.QUEUED}, False, 1, Do.TELL),
        ({"state": State.FINISHED, "generation": 2, "answer": b"x"}, False, 1, Do.TELL),
        ({"state": State.CANCELLED}, False, 1, Do.TELL),
        ({"owner": "another"}, False, 1, Do.FOREIGN),
    ],
)
def test_a_link_is_for_one_try_of_one_generation(changes: dict[str, Any], leased: bool, resumes: int, do: Do) -> None:
    """Whatever else the request holds: another payload is no mismatch, and nothing is reopened by an old link."""
    held = replace(order(State.HELD, waiting_for=SHOPPER, why="price_up"), **changes)
    submit = Submit(owner="owner", client_key=True, same_request=False, resumes=resumes)
    assert decide(held, submit, POLICY, leased=leased, claim=False, now=NOW) is do


@pytest.mark.parametrize(
    ("changes", "back"),
    [
        ({}, False),
        ({"asked_until": NOW + 1}, True),
        ({"asked_until": NOW}, False),
        ({"asked_until": NOW + 1, "notes": (wish(),)}, False),
    ],
)
def test_an_order_waits_for_its_shopper_again_until_their_day_is_over(changes: dict[str, Any], back: bool) -> None:
    """If a try of theirs charges nothing, and they have not cancelled."""
    assert falls_back(order(State.RUNNING, **changes), now=NOW) is back


DECLINED = send(Declined())


@pytest.mark.parametrize(
    ("operation", "ways", "expected"),
    [
        (order(State.QUEUED, DECLINED), ASKING, Hold(CARD_DECLINED, SHOPPER)),
        (order(State.RUNNING, DECLINED), ASKING, Hold(CARD_DECLINED, SHOPPER)),
        (order(State.HELD, DECLINED, why="needs_shopper", waiting_for=SHOPPER), ASKING, Hold(CARD_DECLINED, SHOPPER)),
        (order(State.QUEUED, DECLINED), ALL, Finish("declined")),
        (order(State.QUEUED, DECLINED, kept=False), ASKING, Finish("declined")),
        (order(State.QUEUED, DECLINED, notes=(wish(),)), ASKING, Finish("declined")),
        (order(State.QUEUED, DECLINED, give_up_at=NOW - 1), ASKING, Finish("declined")),
        (order(State.FINISHED, DECLINED), ASKING, Finish("declined")),
        (order(State.HELD, DECLINED, why=CARD_DECLINED, waiting_for=SHOPPER), ALL, Hold(CARD_DECLINED, SHOPPER)),
        (order(State.HELD, DECLINED, why=CARD_DECLINED, give_up_at=NOW - 1), ASKING, Cancel("gave_up")),
        (order(State.HELD, DECLINED, why=CARD_DECLINED, notes=(wish(),)), ASKING, Cancel("cancel_asked")),
    ],
)
def test_a_late_decline_waits_for_another_card_where_there_is_a_way_to_give_one(operation: Any, ways: Any, expected: Any) -> None:
    """Otherwise, and where the shopper wants out or the time is over, it is the end."""
    assert duty(operation, ways) == expected


def test_what_is_asked_has_words_of_its_own_while_it_is_asked() -> None:
    """`price` and `card`; nothing in particular for the rest, and nothing once it is over."""
    assert asked_words(order(State.HELD, why="price_up")) == "price"
    assert asked_words(order(State.HELD, why="card_declined")) == "card"
    assert asked_words(order(State.HELD, why=TRY_FAILED)) == "again"
    assert asked_words(order(State.HELD, why="consent_ended")) == ""
    assert asked_words(order(State.CANCELLED, why="price_up")) == ""


def test_the_money_goes_before_the_question() -> None:
    """Over a charge, or one that is unknown, nobody is asked for another card."""
    assert not isinstance(duty(order(State.QUEUED, send(CHARGED)), ASKING), Hold)
    assert duty(order(State.QUEUED, send(Unknown("no answer"))), ASKING) != Hold(CARD_DECLINED, SHOPPER)


def test_the_link_of_a_try_that_charged_nothing_leads_on_again_and_newer_ones_too() -> None:
    """One made for an older life does not, and a link of the next life is nobody's."""
    held = order(State.HELD, why=TRY_FAILED, waiting_for=SHOPPER, generation=3, asked_until=NOW + 60, asked_generation=2)
    submits = [Submit(owner=held.owner, client_key=False, same_request=False, resumes=of) for of in (1, 2, 3, 4)]
    done = [decide(held, submit, POLICY, leased=False, claim=False, now=NOW) for submit in submits]
    assert done == [Do.TELL, Do.RESUME, Do.RESUME, Do.TELL]


@pytest.mark.parametrize("state", [State.RUNNING, State.QUEUED])
@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Hold(TRY_FAILED, SHOPPER)),
        ({"asked_until": NOW}, Cancel("gave_up")),
        ({"notes": (wish(),)}, Cancel("cancel_asked")),
    ],
)
def test_what_a_dead_process_had_gone_on_with_waits_for_its_shopper(state: State, changes: dict[str, Any], wanted: Duty) -> None:
    """Nothing was charged, and nobody agreed to a later charge."""
    gone_on = order(state, kept=False, asked_until=NOW + 60, asked_generation=1)
    assert duty(replace(gone_on, **changes), ASKING) == wanted
