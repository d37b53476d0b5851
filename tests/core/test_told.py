"""What an adapter hands back is believed only where it can be true."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.told import outcome_told

GOOD: list[Outcome] = [
    Charged(4999, "EUR", "pay_1"),
    Charged(0, ""),
    Declined(DeclineReason.FUNDS, "51"),
    NotCharged("throttled", retryable=True, retry_after_seconds=7, reroutable=True),
    NotCharged("throttled", retryable=True, retry_after_seconds=0),
    NotCharged("throttled", retryable=True, retry_after_seconds=0.5),
    NotCharged("refused"),
    NeedsShopper("3ds"),
    Unknown("no answer"),
    Refunded(4999, "EUR"),
]


@pytest.mark.parametrize("told", GOOD, ids=repr)
def test_an_outcome_is_taken_as_it_is(told: Outcome) -> None:
    """The very same value."""
    assert outcome_told(told) is told


class Charming(Charged):
    """An adapter's own idea."""


AMOUNTS: list[Any] = [49.99, 4999.0, float("nan"), float("inf"), -1, "4999", None, True]
BAD: list[Any] = [
    None,
    True,
    "charged",
    {"kind": "charged"},
    Charged,
    Charming(4999, "EUR"),
    *(kind(amount, "EUR") for kind in (Charged, Refunded) for amount in AMOUNTS),
    Charged(4999, None),  # type: ignore[arg-type]
    Refunded(4999, 978),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("told", BAD, ids=repr)
def test_anything_else_is_unknown(told: Any) -> None:
    """Never charged, never "not charged"; and the reason quotes nothing that was said."""
    outcome = outcome_told(told)
    assert isinstance(outcome, Unknown)
    assert outcome.why.startswith("the gateway adapter")
    assert "4999" not in outcome.why


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"kind": "charged"}, "gave a dict for an outcome"),
        (Charged("4999", "EUR"), "said an amount of type str"),  # type: ignore[arg-type]
        (Charged(-1, "EUR"), "said an amount of -1"),
        (Refunded(4999, 978), "said a currency of type int"),  # type: ignore[arg-type]
    ],
)
def test_what_was_wrong_is_named_by_its_type(told: Any, said: str) -> None:
    """Whoever wrote the adapter finds it by that."""
    assert outcome_told(told) == Unknown(f"the gateway adapter {said}")


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, "7", True])
def test_a_pause_that_is_none_is_left_out(seconds: Any) -> None:
    """Surely not charged stays surely not charged."""
    told = NotCharged("throttled", retryable=True, retry_after_seconds=seconds, reroutable=True)
    assert outcome_told(told) == NotCharged("throttled", retryable=True, reroutable=True)


def test_a_reason_of_its_own_is_the_general_one() -> None:
    """A shopper is told only what the table of reasons has."""
    assert outcome_told(Declined("stolen", "43")) == Declined(DeclineReason.GENERIC, "43")  # type: ignore[arg-type]
