"""A record on its way to another store, by itself: what comes along, what is left behind, and what counts as the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Lease, Operation, State, WaitingFor, changed
from cxguard.core.outcomes import Charged, Unknown
from cxguard.core.relocation import (
    CLAIMED_THERE,
    CLOCK_SECONDS,
    FROZEN_VERSION,
    RELOCATED_FROM,
    RELOCATED_TO,
    difference,
    frozen,
    held_beside,
    is_frozen,
    thawed,
    without_claim,
)
from cxguard.testing.contract.base import START, charge_send, queued, sample
from cxguard.testing.contract.putting import whole

CHARGED, UNKNOWN = (charge_send(outcome=Charged(4999, "EUR", "pay_1")),), (charge_send(outcome=Unknown("no answer")),)


def test_a_record_is_frozen_by_its_version_and_its_move() -> None:
    """A newer cxguard's is none, and neither is one that only names a move."""
    assert not is_frozen(sample(version=FROZEN_VERSION))
    assert not is_frozen(sample(extra={RELOCATED_TO: {}}))


def test_all_else_that_a_record_carries_comes_along() -> None:
    """But for the move's own note, and for a lease, which is the old store's."""
    leased = queued("a", extra={"spool": "m"}, lease=Lease("worker", 1, START + 30.0, "x"))
    cold = frozen(leased, seen=leased, move="m1")
    assert (thawed(cold).extra, thawed(cold).lease) == ({"spool": "m", RELOCATED_FROM: "m1"}, None)


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"state": State.FINISHED, "sends": CHARGED}, ("mine",)),
        ({"state": State.FINISHED}, ("mine",)),
        ({"state": State.CANCELLED}, ("mine",)),
        ({"state": State.FINISHED, "sends": UNKNOWN}, None),
        ({"state": State.QUEUED, "sends": CHARGED}, None),
        ({"state": State.HELD}, None),
    ],
)
def test_only_what_is_over_leaves_its_claim_to_another(changes: dict[str, Any], left: tuple[str, ...] | None) -> None:
    """And that one claim alone. An unknown charge is not over."""
    there = without_claim(sample(**{"claims": ("taken", "mine"), **changes}), "taken")
    assert (there.claims if there is not None else None) == left


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.HELD])
def test_all_that_waiting_beside_another_changes(state: State) -> None:
    """A person is asked, nothing is left that could be sent, and its timeline says who did it."""
    order = whole(state=state, claims=("taken", "mine"), sends=(charge_send(parcel="sealed", outcome=Unknown("no answer")),))
    there = held_beside(order, "taken", now=START + 5.0)
    assert (there.state, there.why, there.waiting_for) == (State.HELD, CLAIMED_THERE, WaitingFor.AGENT)
    assert (there.claims, there.due_at, there.updated_at) == (("mine",), order.due_at, START + 5.0)
    assert there.sends == (replace(order.sends[0], parcel=None),)
    entry = there.history[-1]
    assert (entry.at, entry.event, entry.by, entry.detail) == (START + 5.0, "order.held", "migrate-store", {"why": CLAIMED_THERE})


TYPED = Note("remark", NoteKind.REMARK, START)


@pytest.mark.parametrize(
    ("due_at", "says"),
    [
        (START + CLOCK_SECONDS, ""),
        (START - CLOCK_SECONDS, ""),
        (START + CLOCK_SECONDS + 0.5, "differs"),
        (None, "differs"),
    ],
)
def test_a_copy_is_due_when_the_record_was(due_at: float | None, says: str) -> None:
    """By clocks that may be a little apart."""
    assert difference(queued("a"), queued("a", due_at=due_at)) == says


def test_a_copy_that_was_worked_on_may_lack_a_remark_and_no_proof() -> None:
    """Only what says something about money has to be there."""
    expected = sample(notes=(TYPED,))
    assert difference(expected, changed(expected, notes=(), updated_at=START + 5.0)) == ""


def test_of_two_that_are_due_at_no_time_neither_differs() -> None:
    """Nobody waits for either."""
    there: Operation = sample(state=State.FINISHED, due_at=None)
    assert difference(there, there) == ""
