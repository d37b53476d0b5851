"""Outcomes go to JSON and back; what cannot be read is unknown."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from cxguard.core.outcomes import (
    Charged,
    Declined,
    DeclineReason,
    NeedsShopper,
    NotCharged,
    Outcome,
    Refunded,
    Unknown,
    outcome_from_json,
    outcome_kind,
    outcome_to_json,
)

EVERY: list[Outcome] = [
    Charged(4999, "EUR", "pay_1"),
    Charged(1, "JPY", captured=False),
    *(Declined(reason, "05") for reason in DeclineReason),
    NotCharged("connect refused", retryable=True, retry_after_seconds=2.5),
    NotCharged("stock"),
    NeedsShopper("3ds", "https://bank.example/step"),
    Unknown("no answer in time"),
    Refunded(4999, "EUR", "re_1"),
]


@pytest.mark.parametrize("outcome", EVERY, ids=repr)
def test_every_outcome_survives_a_round_trip(outcome: Outcome) -> None:
    """What is written to the record as JSON text is read back equal."""
    assert outcome_from_json(json.loads(json.dumps(outcome_to_json(outcome)))) == outcome


def test_the_list_above_has_every_kind() -> None:
    """A new kind of outcome cannot be forgotten here, and each kind has a name of its own."""
    assert {type(outcome) for outcome in EVERY} == set(get_args(Outcome))
    assert len({outcome_kind(outcome) for outcome in EVERY}) == len(get_args(Outcome))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": None},
        {"kind": "settled_next_year", "amount_minor": 1},
        {"kind": "charged"},
        {"kind": "charged", "amount_minor": 4999},
        {"kind": "charged", "amount_minor": "4999", "currency": "EUR"},
        {"kind": "charged", "amount_minor": 49.99, "currency": "EUR"},
        {"kind": "charged", "amount_minor": True, "currency": "EUR"},
        {"kind": "refunded", "amount_minor": None, "currency": "EUR"},
        {"kind": "not_charged"},
    ],
)
def test_what_cannot_be_read_is_unknown(value: dict[str, Any]) -> None:
    """A damaged or newer outcome is neither a charge nor proof of none."""
    assert isinstance(outcome_from_json(value), Unknown)


def test_what_cannot_be_read_is_named_by_its_kind() -> None:
    """As far as 40 characters go; and what has only its kind is read as far as it goes."""
    assert outcome_from_json({"kind": "settled"}) == Unknown("unreadable outcome 'settled'")
    assert outcome_from_json({"kind": "x" * 50}) == Unknown(f"unreadable outcome {'x' * 40!r}")
    assert outcome_from_json({"kind": "declined"}) == Declined()


def test_members_of_a_newer_version_are_passed_over() -> None:
    """A known kind with a member that we do not know keeps its meaning."""
    value = {**outcome_to_json(Charged(1, "EUR")), "network": "visa"}
    assert outcome_from_json(value) == Charged(1, "EUR")


@pytest.mark.parametrize("reason", ["moon_phase", None, 7])
def test_an_unknown_reason_is_told_as_the_general_one(reason: object) -> None:
    """A decline stays a decline, whatever its reason is called."""
    assert outcome_from_json({"kind": "declined", "reason": reason}) == Declined(DeclineReason.GENERIC)
