"""What a life of a record may have sent in lost writes, and what is believed of it where nobody can be asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxguard.core.decide import NOT_KEPT, RELEASED
from cxguard.core.lost import (
    LOST_EVENT,
    NOTHING_STANDS,
    PRESSED_AGAIN_SECONDS,
    is_declined_by_hearsay,
    is_doubted,
    is_of_later_try,
    is_taken_for_new,
    second_look_at,
    steps_of_life,
)
from cxguard.core.money import Note, NoteKind, Send, SendKind
from cxguard.core.operation import Entry, Operation, State
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Unknown
from cxguard.testing.contract.base import charge_send, sample

BEGAN = 1_000_000.0  # when the store began its present life
CHARGED, THROTTLED = Charged(4999, "EUR", "pay_1"), NotCharged("throttled", retryable=True)
ONE, THREE, FOUR = ("charge",), ("charge", "charge~1", "charge~2"), ("charge", "charge~1", "charge~2", "charge~3")


def asked(number: int, **members: Any) -> Send:
    return charge_send(f"key-{number}", number, **({"generation": 2, "step": "charge"} | members))


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, ONE),
        ({"sends": (asked(1), asked(2))}, ONE),
        ({"kept": True}, THREE),
        ({"request": b"sealed"}, THREE),
        ({"amount_minor": None}, THREE),
        ({"kept": True, "sends": (asked(1),)}, THREE),
        ({"kept": True, "sends": (asked(1), replace(asked(1), number=2))}, THREE),
        ({"kept": True, "sends": (asked(1), asked(2))}, FOUR),
        ({"kept": True, "sends": (asked(1), asked(2, generation=1), asked(3, step="tip"))}, THREE),
    ],
)
def test_under_which_steps_a_life_may_have_charged(changes: dict[str, Any], steps: tuple[str, ...]) -> None:
    """A basket can have been changed twice in lost writes, after all keys of that life that are on record."""
    there = sample(**({"generation": 2, "kept": False, "request": None, "amount_minor": 4999, "sends": ()} | changes))
    assert steps_of_life(there, "charge", generation=2) == steps


@pytest.mark.parametrize(
    ("sends", "hearsay"),
    [
        ((), False),
        ((asked(1, outcome=Unknown("no answer")),), True),
        ((asked(1, outcome=NeedsShopper("3ds")),), True),
        ((asked(1, outcome=Declined()),), False),
        ((asked(1, outcome=Unknown("no answer")), asked(2, outcome=Declined())), False),
        ((asked(1, outcome=Declined()), asked(2, outcome=Unknown("no answer"))), True),
        ((asked(1, generation=1, outcome=Unknown("no answer")),), False),
        ((asked(1, kind=SendKind.REFUND, outcome=Unknown("no answer")),), False),
    ],
)
def test_decline_is_hearsay_where_the_last_call_of_this_life_has_no_answer(sends: tuple[Send, ...], hearsay: bool) -> None:
    """A call of another life, and a refund, say nothing about it."""
    assert is_declined_by_hearsay(sample(generation=2, sends=sends)) is hearsay


@pytest.mark.parametrize(("after_seconds", "new"), [(PRESSED_AGAIN_SECONDS + 0.5, True), (PRESSED_AGAIN_SECONDS, False), (-5.0, False)])
def test_what_comes_long_after_the_failover_is_taken_for_new(after_seconds: float, new: bool) -> None:
    """Not within the time in which its shopper may have pressed again."""
    assert is_taken_for_new(sample(created_at=BEGAN + after_seconds), BEGAN) is new


TURNED_AWAY = asked(1, outcome=THROTTLED)


@pytest.mark.parametrize(
    ("changes", "key", "lost", "later"),
    [
        ({}, "key-1", True, True),
        ({}, "key-1", False, False),
        ({}, "key-9", True, False),
        ({"why": NOT_KEPT}, "key-1", True, False),
        ({"sends": (TURNED_AWAY, asked(2, outcome=Declined()))}, "key-1", True, False),
        ({"generation": 1}, "key-1", False, True),
        ({"generation": 1}, "key-9", True, True),
    ],
)
def test_whose_charge_it_is_that_stands(changes: dict[str, Any], key: str, lost: bool, later: bool) -> None:
    """A later try's: of another life, or of this one, if tries may be lost and all that it is known to have sent left nothing."""
    told = Note("find:1", NoteKind.OUTCOME, BEGAN, gateway_key="key-1", outcome=CHARGED)
    members = {"state": State.CANCELLED, "why": RELEASED, "generation": 2, "sends": (TURNED_AWAY,), "notes": (told,)}
    assert is_of_later_try(sample(**(members | changes)), key, lost=lost) is later


def looked(**detail: Any) -> Entry:
    return Entry(BEGAN + 1.0, LOST_EVENT, "worker", {"outcome": NOTHING_STANDS, "generation": 1, "since": BEGAN, **detail})


def test_look_without_proof_is_good_for_no_end() -> None:
    """Only for a charge of its own life: what was under way then may have come since."""
    ended = Operation("a" * 64, "shop", "pay", "owner", "ABC-DEF", "f", State.CANCELLED, BEGAN - 5.0, BEGAN, why=RELEASED)
    assert is_doubted(replace(ended, history=(looked(proven=False),)), BEGAN, BEGAN + 10.0)


def test_look_of_an_older_version_was_proof() -> None:
    """It does not say so, and is not made again."""
    there = sample(history=(looked(settles_at=BEGAN + 60.0),), sends=(charge_send("key", 1, outcome=CHARGED),))
    assert second_look_at(there) is None
