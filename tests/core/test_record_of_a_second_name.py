"""The record of a purchase's second name: what it says, and when it speaks for itself."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.operation import Operation, State, changed
from cxguard.core.spooling import arriving, is_second_name, second_name, spooled
from cxguard.testing.contract.base import charged_note, sample

CAME = 1_800_000_000.0


def spooled_order() -> Operation:
    """As it arrives at the store."""
    fresh = sample("b", amount_minor=4999, currency="EUR", request=b"sealed", created_at=CAME)
    return arriving(spooled(fresh, mark="m1", now=CAME, give_up_seconds=3600.0), age_seconds=0.0, there=CAME)


def test_a_second_name_ends_and_says_who_speaks_for_it() -> None:
    """Nothing of it can be charged: no claim, no request, not kept."""
    record = second_name(spooled_order(), sample("a"), keep_seconds=60.0)
    assert (record.state, record.kept, record.request, record.claims) == (State.CANCELLED, False, None, ())
    assert record.extra["same_as"] == sample("a").id
    assert record.keep_until == CAME + 60.0


def test_a_second_name_that_may_have_been_charged_is_held_until_the_gateway_was_asked() -> None:
    """Nothing of it can be charged then, either, and it is due at once."""
    record = second_name(spooled_order(), sample("a"), keep_seconds=60.0, doubted=True)
    assert (record.state, record.kept, record.request, record.claims) == (State.HELD, False, None, ())
    assert (record.due_at, record.keep_until, record.extra["same_as"]) == (CAME, None, sample("a").id)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, True),
        ({"doubted": True}, True),
        ({"notes": (charged_note(),)}, False),
        ({"state": State.FINISHED}, False),
        ({"why": "cancel_asked"}, False),
    ],
)
def test_a_second_name_with_money_speaks_for_itself(members: dict[str, Any], expected: bool) -> None:
    """What has an end of its own, or was charged, is more than a name of another order."""
    doubted = bool(members.pop("doubted", False))
    record = second_name(spooled_order(), sample("a"), keep_seconds=60.0, doubted=doubted)
    assert is_second_name(changed(record, **members)) is expected
