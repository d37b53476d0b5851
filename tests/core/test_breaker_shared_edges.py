"""The shared breakers at the moment in which something is forgotten, and what is told late."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from breaker_bench import NOW, POLICY

from cxguard.core.breaker import Admission, BreakerState, Heard, Label, Probe, Verdict
from cxguard.core.breaker_shared import (
    BATCHES_KEPT_SECONDS,
    BREAKERS_MAX,
    HEARD_LATELY_SECONDS,
    Batch,
    Folded,
    Name,
    Report,
    Said,
    Shared,
    SharedBreaker,
    Told,
    Voice,
    fold,
    lease,
    restored,
    shifted,
)
from cxguard.core.breaker_shared_json import shared_from_bytes, shared_to_bytes

CARDS: Name = ("cards", "charge", "")
DEBIT: Name = ("cards", "charge", "debit")
FIND: Name = ("cards", "find", "")
DOWN = Told(Heard.FAILURE, 5)
HALF = BreakerState(label=Label.HALF_OPEN, revision=8, probes=(Probe("p1", NOW + 20.0),), closed_at=NOW)
OPEN = BreakerState(label=Label.OPEN, revision=8, opened_until=NOW + 9.0)


def told(shared: Shared, *calls: Told, name: Name = CARDS, revision: int | None = None, now: float = NOW) -> Shared:
    at = shared.state(name).revision if revision is None else revision
    return fold(shared, Batch("a", 1, (Report(name, at, calls),)), POLICY, now)


def holding(*, cards: BreakerState | None = None, debit: BreakerState | None = None, **voices: Voice) -> Shared:
    found = {CARDS: cards, DEBIT: debit}
    return Shared({name: SharedBreaker(state, voices) for name, state in found.items() if state is not None})


@pytest.mark.parametrize(
    ("at", "counts"),
    [(NOW, True), (NOW - HEARD_LATELY_SECONDS, True), (NOW - HEARD_LATELY_SECONDS - 0.5, False), (NOW + 0.5, False)],
)
def test_until_when_another_process_is_waited_for(at: float, counts: bool) -> None:
    """For as long as it counts as heard of lately; one of a time to come was heard of by a clock that went back."""
    after = told(holding(cards=BreakerState(), b=Voice(at, failed=False)), DOWN)
    assert after.state(CARDS).label is (Label.CLOSED if counts else Label.OPEN)
    assert after.breaker(CARDS).voices == {"a": Voice(NOW, failed=True)} | ({"b": Voice(at, failed=False)} if counts else {})


@pytest.mark.parametrize(
    ("calls", "voice"),
    [
        ((DOWN, Told(Heard.OK)), Voice(NOW, failed=False)),
        ((Told(Heard.OK), DOWN), Voice(NOW, failed=True)),
        ((Told(Heard.THROTTLED), Told(Heard.NEUTRAL)), Voice(NOW, failed=True)),
        ((Told(Heard.SLOW),), Voice(NOW, failed=False)),
        ((Told(Heard.NEUTRAL),), None),
    ],
)
def test_the_voice_of_a_process_is_its_last_word(calls: tuple[Told, ...], voice: Voice | None) -> None:
    """What says nothing about the gateway is none."""
    assert told(Shared(), *calls).breaker(CARDS).voices == ({"a": voice} if voice else {})


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        (NOW - BATCHES_KEPT_SECONDS, True),
        (NOW - BATCHES_KEPT_SECONDS - 0.5, False),
        (NOW + BATCHES_KEPT_SECONDS, True),
        (NOW + BATCHES_KEPT_SECONDS + 0.5, False),
    ],
)
def test_how_long_a_batch_is_remembered(at: float, kept: bool) -> None:
    """Longer than any is sent again, also by a clock that was set."""
    after = told(Shared(batches={"b": Folded(7, at)}), Told(Heard.OK))
    assert after.batches == ({"b": Folded(7, at)} if kept else {}) | {"a": Folded(1, NOW)}


@pytest.mark.parametrize(
    ("call", "probes"),
    [
        (Told(Heard.NEUTRAL, probe_id="p1"), ()),
        (Told(Heard.NEUTRAL, probe_id="p2"), HALF.probes),
        (Told(Heard.NEUTRAL), HALF.probes),
        (Told(Heard.FAILURE, probe_id="p1"), HALF.probes),
        (Told(Heard.OK, probe_id="p1"), HALF.probes),
    ],
)
def test_a_probe_that_nobody_makes_is_given_back_late(call: Told, probes: tuple[Probe, ...]) -> None:
    """Whatever revision its process was at; every other word of an older one changes nothing."""
    assert told(holding(cards=HALF), call, revision=3).state(CARDS).probes == probes


@pytest.mark.parametrize(
    ("beside", "name", "opens"),
    [(OPEN, DEBIT, True), (HALF, DEBIT, True), (BreakerState(), DEBIT, False), (OPEN, FIND, False)],
)
def test_beside_which_methods_a_failure_weighs_more(beside: BreakerState, name: Name, opens: bool) -> None:
    """Others of the same gateway and kind that are not closed."""
    after = told(holding(cards=beside), Told(Heard.FAILURE, POLICY.failures_beside), name=name)
    assert (after.state(name).label is Label.OPEN) is opens


def test_a_cancelled_call_opens_nothing_beside_another() -> None:
    """However many failed before it."""
    after = told(holding(cards=OPEN, debit=BreakerState(failures=4)), Told(Heard.NEUTRAL), name=DEBIT)
    assert after.state(DEBIT) == BreakerState(failures=4)


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 2.0), (1.0, 1.6)])
def test_the_pause_is_shortened_for_all_alike(jitter: float, pause: float) -> None:
    """By whoever folds the batch that opens it; not at all unless it is said."""
    batch = Batch("a", 1, (Report(CARDS, 1, (DOWN,)),))
    assert fold(Shared(), batch, POLICY, NOW, jitter=jitter).state(CARDS).opened_until == NOW + pause
    assert told(Shared(), DOWN).state(CARDS).opened_until == NOW + 2.0


def test_a_probe_that_is_refused_changes_nothing() -> None:
    """Not even by an equal value: it would be written."""
    shared = holding(cards=OPEN)
    admission, after = lease(shared, CARDS, POLICY, NOW, probe_id="p", queued=True, operation_id="o")
    assert (admission, after is shared) == (Admission(Verdict.REJECTED, 9.0), True)


def test_whose_probe_it_is_goes_with_it() -> None:
    """An order that nobody waits for goes first, and is remembered by its name."""
    half = holding(cards=replace(HALF, probes=(), turn_at=NOW))
    admission, after = lease(half, CARDS, POLICY, NOW, probe_id="p", queued=True, operation_id="o")
    assert (admission.verdict, after.state(CARDS).probed_order) == (Verdict.PROBE, "o")


def test_one_that_is_known_has_its_place_in_a_full_value() -> None:
    """Only what is new does not fit."""
    full = Shared({("gw", "find", f"m{number}"): SharedBreaker() for number in range(BREAKERS_MAX)})
    assert full.put_state(("gw", "find", "m0"), OPEN).state(("gw", "find", "m0")) == OPEN
    assert full.put_state(CARDS, OPEN) is full
    assert len(Shared(dict(list(full.breakers.items())[1:])).put_state(CARDS, OPEN).breakers) == BREAKERS_MAX


def test_what_is_known_of_the_same_revision_is_not_put_back() -> None:
    """The store has heard more of it since."""
    shared = holding(cards=replace(OPEN, trips=3))
    assert restored(shared, {CARDS: OPEN}) is shared


def test_bytes_are_short() -> None:
    """Every process reads all of them, again and again."""
    written = shared_to_bytes(told(holding(cards=OPEN), DOWN))
    assert b": " not in written and b", " not in written


def test_what_an_older_version_did_not_say_of_a_person_is_not_known() -> None:
    """Neither who, nor what, nor why."""
    value = {"v": 1, "breakers": [], "batches": {}, "said": [{"at": NOW, "name": CARDS}]}
    assert shared_from_bytes(json.dumps(value).encode()).said == (Said(NOW, "", CARDS, "", ""),)


def test_a_state_on_the_same_clock_is_that_very_one() -> None:
    """Nothing is made for it."""
    assert shifted(OPEN, 0.0) is OPEN
