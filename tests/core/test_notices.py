"""Which notices a record owes its shopper, in every state, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from resolve_orders import CHARGED, NOW, order, send, wish

from cxguard.core.consent import Consent
from cxguard.core.notices import PROMISE_SECONDS, TRIES_MAX, NoticeKind, due_for_notice, next_notice_at, owed, tried, tries_of
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import Declined, Refunded, Unknown

K, R, Q, H, F, C = NoticeKind, State.RUNNING, State.QUEUED, State.HELD, State.FINISHED, State.CANCELLED
FRESH = Consent("1", at=NOW - 5, until=NOW + 3600)
OLD = Consent("1", at=NOW - PROMISE_SECONDS, until=NOW + 3600)
SHOPPER = {"waiting_for": WaitingFor.SHOPPER, "why": "price_up"}


@pytest.mark.parametrize(
    ("record", "kinds"),
    [
        (order(Q, consent=FRESH), (K.ACCEPTED,)),
        (order(Q, consent=OLD), (K.ACCEPTED, K.DELAYED)),
        (order(R, consent=FRESH), (K.ACCEPTED,)),
        (order(H, consent=FRESH, waiting_for=WaitingFor.AGENT), (K.ACCEPTED,)),
        (order(H, consent=OLD, waiting_for=WaitingFor.AGENT), (K.ACCEPTED, K.DELAYED)),
        (order(H, consent=FRESH, **SHOPPER), (K.ACCEPTED, K.ACTION_NEEDED)),
        (order(H, consent=OLD, **SHOPPER), (K.ACCEPTED, K.ACTION_NEEDED)),
        (order(Q, send(Unknown("no answer")), consent=FRESH), (K.ACCEPTED,)),
        (order(F, send(CHARGED), consent=OLD), (K.PAID,)),
        (order(F, send(Declined()), consent=OLD), (K.CANCELLED,)),
        (order(F, send(Unknown("late")), consent=OLD), ()),
        (order(F, consent=OLD), ()),
        (order(C, consent=OLD, why="gave_up"), (K.EXPIRED,)),
        (order(C, consent=OLD, why="cancel_asked"), (K.CANCELLED,)),
        (order(C, consent=OLD, why="out_of_stock"), (K.CANCELLED,)),
        (order(C, send(CHARGED), consent=OLD), ()),
        (order(C, send(Unknown("late")), consent=OLD), ()),
        (order(C, send(Refunded(4999, "EUR")), consent=OLD), (K.CANCELLED,)),
        (order(Q), ()),
        (order(F, send(CHARGED)), ()),
        (order(Q, consent=FRESH, kept=False), ()),
    ],
)
def test_each_state_owes_what_it_has_to_tell(record: Any, kinds: tuple[NoticeKind, ...]) -> None:
    """Only of orders that were kept with the shopper's word; nothing is told over money that is not known."""
    assert owed(record, now=NOW) == kinds


def test_a_notice_is_owed_once_in_each_life_of_the_order() -> None:
    """What was given is not owed; the next generation is another order to its shopper."""
    told = tried(tried(order(Q, consent=FRESH), K.ACCEPTED, now=NOW), K.ACCEPTED, now=NOW, done=True)
    assert tries_of(told, K.ACCEPTED) == 1 and tries_of(told, K.PAID) == 0
    assert [line.at for line in tried(told, K.ACCEPTED, now=NOW + 5.0, done=True).notices] == [NOW + 5.0]
    assert owed(told, now=NOW + 1e6)[0] is K.DELAYED
    assert K.ACCEPTED in owed(replace(told, generation=2), now=NOW)


@pytest.mark.parametrize("kind", [K.PAID, K.EXPIRED, K.CANCELLED])
def test_an_order_that_is_held_after_its_end_is_not_late(kind: NoticeKind) -> None:
    """A refund that has no answer for days is no delay of an order that its shopper was told to be paid and placed."""
    for consent in (OLD, FRESH):
        paid = order(H, send(CHARGED), consent=consent, waiting_for=WaitingFor.AGENT, why="refund_unknown")
        held = tried(paid, kind, now=NOW, done=True)
        assert (owed(held, now=NOW), next_notice_at(held, now=NOW)) == ((), None)


@pytest.mark.parametrize(("notes", "kinds"), [((), ()), ((wish(),), (K.CANCELLED,))])
def test_money_that_went_back_after_the_end_does_not_cancel_the_order(notes: Any, kinds: tuple[NoticeKind, ...]) -> None:
    """It was told as paid and placed, and is in the post: only who asked for it to be cancelled hears that it is."""
    paid = tried(order(F, send(CHARGED), consent=OLD, notes=notes), K.PAID, now=NOW, done=True)
    assert owed(replace(paid, sends=(send(Refunded(4999, "EUR")),)), now=NOW) == kinds


def test_a_failed_notice_is_tried_again_ever_later_and_not_for_ever() -> None:
    """The pauses double; after the last try nobody is asked any more."""
    record, now, pauses = order(H, consent=FRESH, waiting_for=WaitingFor.SHOPPER, why="price_up"), NOW, []
    record = tried(record, K.ACCEPTED, now=now, done=True)
    for _ in range(TRIES_MAX):
        at = next_notice_at(record, now=now)
        assert at is not None
        pauses.append(at - now)
        now = at
        assert owed(record, now=now) == (K.ACTION_NEEDED,)
        record = tried(record, K.ACTION_NEEDED, now=now)
        assert owed(record, now=now) == ()
    assert pauses == sorted(pauses)
    assert next_notice_at(record, now=now) is None


@pytest.mark.parametrize(
    ("record", "due_at"),
    [
        (order(Q, consent=FRESH, due_at=NOW + 60), NOW + 60),
        (order(H, consent=FRESH, due_at=NOW + 60, **SHOPPER), NOW),
        (order(H, consent=FRESH, due_at=NOW - 60, **SHOPPER), NOW - 60),
        (order(F, send(CHARGED), consent=FRESH), NOW),
        (order(C, consent=FRESH, why="gave_up"), NOW),
        (order(C, why="gave_up"), None),
        (order(H, waiting_for=WaitingFor.AGENT), None),
    ],
)
def test_a_record_is_due_in_time_for_its_notice(record: Any, due_at: float | None) -> None:
    """A queued one keeps its turn: earlier would be a charge tried too early."""
    assert due_for_notice(record, now=NOW).due_at == due_at


def test_an_order_on_a_persons_desk_is_due_when_the_promise_is_over() -> None:
    """Its shopper hears of the delay, though nobody has touched it."""
    held = tried(order(H, consent=FRESH, waiting_for=WaitingFor.AGENT), K.ACCEPTED, now=NOW, done=True)
    over = FRESH.at + PROMISE_SECONDS
    assert next_notice_at(tried(held, K.DELAYED, now=over, done=True), now=over) is None
    assert due_for_notice(held, now=NOW).due_at == FRESH.at + PROMISE_SECONDS
