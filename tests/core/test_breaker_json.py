"""A breaker's state as JSON: read back equal, or refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from breaker_bench import NOW

from cxguard.core.breaker import BreakerPolicy, BreakerState, Counts, Forced, Heard, Label, Probe, Verdict, admit, record, silence
from cxguard.core.breaker_json import COUNT_MAX, from_json, to_json

STATES = [
    BreakerState(),
    replace(BreakerState(), forced=Forced(Label.OPEN, "why", NOW), throttled_until=NOW),
    replace(BreakerState(), forced=Forced(Label.OPEN, "why", NOW, "ada")),
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


def test_a_word_of_which_nobody_knows_whose_it_is_holds_all_the_same() -> None:
    """An older version did not say."""
    assert from_json({"forced": {"label": "open", "reason": "why", "until": 5.0}}).forced == Forced(Label.OPEN, "why", 5.0, "")


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


@pytest.mark.parametrize("member", ["failures", "trips", "probed", "probes_well", "revision"])
@pytest.mark.parametrize(("told", "read"), [(-(10**9), 0), (-(10**400), 0), (10**400, COUNT_MAX)], ids=["below", "far", "above"])
def test_a_count_that_nothing_can_have_counted_is_made_one_that_could_be(member: str, told: int, read: int) -> None:
    """Below zero it would never be enough to open, or to close; and no float is as large as the other."""
    assert getattr(from_json({member: told}), member) == read


@pytest.mark.parametrize("member", ["failures", "trips"])
@pytest.mark.parametrize("told", [-(10**9), 10**400], ids=["below", "above"])
def test_a_spoilt_count_keeps_no_breaker_from_opening(member: str, told: int) -> None:
    """Five failures in a row open it, whatever was written in the store, and the end of a call raises nothing."""
    state = from_json({member: told, "now_counts": {"since": NOW, "calls": told, "failures": told}})
    for _ in range(BreakerPolicy().consecutive_failures):
        state = record(state, BreakerPolicy(), NOW, revision=state.revision, probe_id="", heard=Heard.FAILURE)
    assert state.label is Label.OPEN
    assert silence(state, BreakerPolicy(), NOW) > 0


def test_a_spoilt_count_keeps_no_breaker_from_closing() -> None:
    """Two good probes close it."""
    state = from_json({"label": "half-open", "probes_well": -5, "probed": -7})
    for n in range(2):
        admission, state = admit(state, BreakerPolicy(), NOW + 60.0 * n, probe_id=str(n), operation_id=str(n))
        assert admission.verdict is Verdict.PROBE
        state = record(state, BreakerPolicy(), NOW + 60.0 * n, revision=state.revision, probe_id=str(n), heard=Heard.OK)
    assert state.label is Label.CLOSED
