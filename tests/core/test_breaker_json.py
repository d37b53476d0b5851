"""A breaker's state as JSON: read back equal, or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from breaker_bench import NOW

from cxguard.core.breaker import BreakerState, Counts, Forced, Label, Probe
from cxguard.core.breaker_json import from_json, to_json

STATES = [
    BreakerState(),
    replace(BreakerState(), forced=Forced(Label.OPEN, "why", NOW), throttled_until=NOW),
    replace(BreakerState(), label=Label.HALF_OPEN, probes=(Probe("a", NOW), Probe("b", NOW + 1)), probed=4, probed_order="o"),
    replace(BreakerState(), label=Label.OPEN, revision=7, why="failure_rate", now_counts=Counts(NOW, 9, 5, 1), opened_until=NOW, trips=3),
]


@pytest.mark.parametrize("state", STATES)
def test_a_state_survives_a_round_trip(state: BreakerState) -> None:
    """What is written as JSON text is read back equal."""
    assert from_json(json.loads(json.dumps(to_json(state)))) == state


def test_another_versions_members_are_passed_over() -> None:
    """Unknown members are ignored, missing ones are as at first."""
    assert from_json({"revision": 3, "moon": "full", "probes": [{"id": "a", "until": 1.0, "colour": "red"}]}) == replace(
        BreakerState(), revision=3, probes=(Probe("a", 1.0),)
    )


@pytest.mark.parametrize(
    "value",
    [
        *({"label": "ajar"}, {"probes": 7}, {"probes": [7]}, {"forced": {}}, {"now_counts": 3}),
        *({"opened_until": "soon"}, {"revision": None}),
        *({"now_counts": {"since": "soon"}}, {"last_counts": {"calls": None}}, {"probes": [{"id": "a", "until": []}]}),
        *({"revision": float("inf")}, {"opened_until": float("nan")}, {"throttled_until": float("inf")}),
        {"forced": {"label": "open", "reason": "why", "until": float("inf")}},
    ],
)
def test_what_is_no_state_is_refused(value: dict[str, object]) -> None:
    """Raises with what to do instead."""
    with pytest.raises(ValueError, match=r"start from BreakerState\(\)"):
        from_json(value)
