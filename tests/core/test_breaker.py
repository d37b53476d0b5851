"""The breaker's policy: opening, probing, closing, a person's word, and late answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cxguard.core.breaker import (
    Admission,
    BreakerPolicy,
    BreakerState,
    Counts,
    Forced,
    Heard,
    Label,
    Probe,
    Verdict,
    admit,
    force,
    forced_now,
    label_now,
    lift,
    record,
)
from cxguard.core.breaker_json import from_json, to_json

NOW = 1_800_000_000.0
POLICY = BreakerPolicy()


@dataclass
class Bench:
    """One breaker under test, with a clock of its own."""

    state: BreakerState = field(default_factory=lambda: BreakerState(closed_at=NOW - 3600))
    policy: BreakerPolicy = POLICY
    now: float = NOW
    number: int = 0

    def admit(self, *, queued: bool = False, operation_id: str = "") -> Admission:
        self.number += 1
        admission, self.state = admit(
            self.state, self.policy, self.now, probe_id=f"p{self.number}", queued=queued, operation_id=operation_id
        )
        return admission

    def call(self, heard: Heard, *, queued: bool = False, operation_id: str = "", retry_after_seconds: float | None = None) -> Verdict:
        verdict = self.admit(queued=queued, operation_id=operation_id).verdict
        if verdict is not Verdict.REJECTED:
            self.hear(heard, probe_id=f"p{self.number}", retry_after_seconds=retry_after_seconds)
        return verdict

    def hear(self, heard: Heard, *, probe_id: str = "", revision: int | None = None, retry_after_seconds: float | None = None) -> None:
        self.state = record(
            self.state,
            self.policy,
            self.now,
            revision=self.state.revision if revision is None else revision,
            probe_id=probe_id,
            heard=heard,
            retry_after_seconds=retry_after_seconds,
        )

    def trip(self) -> None:
        for _ in range(self.policy.consecutive_failures):
            self.call(Heard.FAILURE)
        assert self.state.label is Label.OPEN

    def half_open(self) -> None:
        """Tripped, and its pause is over: the next call may be a probe, the turn of nobody kept any more."""
        self.trip()
        self.now = self.state.opened_until + 0.001


# Closed.


def test_failures_in_a_row_open_it() -> None:
    """The fifth failure in a row opens; four do not."""
    bench = Bench()
    for _ in range(4):
        bench.call(Heard.FAILURE)
    assert bench.state.label is Label.CLOSED
    bench.call(Heard.FAILURE)
    assert (bench.state.label, bench.state.why) == (Label.OPEN, "consecutive_failures")


@pytest.mark.parametrize("between", [Heard.OK, Heard.SLOW])
def test_an_answer_breaks_the_row(between: Heard) -> None:
    """Failures that are not in a row do not open by their count."""
    bench = Bench()
    for _ in range(3):
        for _ in range(4):
            bench.call(Heard.FAILURE)
        bench.call(between)
    assert bench.state.label is Label.CLOSED


def test_declines_are_neutral() -> None:
    """A thousand declines neither open it nor make a row of failures shorter."""
    bench = Bench()
    for _ in range(1000):
        bench.call(Heard.NEUTRAL)
    assert bench.state == Bench().state
    for _ in range(4):
        bench.call(Heard.FAILURE)
        bench.call(Heard.NEUTRAL)
    bench.call(Heard.FAILURE)
    assert bench.state.label is Label.OPEN


@pytest.mark.parametrize(
    ("calls", "opens"),
    [
        ([Heard.OK, Heard.FAILURE] * 9, False),
        ([Heard.OK, Heard.FAILURE] * 10, True),
        ([Heard.OK, Heard.OK, Heard.FAILURE] * 20, False),
        ([Heard.SLOW] * 19, False),
        ([Heard.SLOW] * 20, True),
        ([Heard.SLOW, Heard.OK] * 40, False),
    ],
)
def test_rates_open_it_only_with_enough_calls(calls: list[Heard], opens: bool) -> None:
    """Half failed, or nearly all late, of at least twenty calls in the window."""
    bench = Bench()
    for heard in calls:
        bench.call(heard)
    assert (bench.state.label is Label.OPEN) is opens


def test_the_window_forgets() -> None:
    """Failures older than the window do not count against the calls of now."""
    bench = Bench()
    for _ in range(9):
        bench.call(Heard.FAILURE)
        bench.call(Heard.OK)
    bench.now += POLICY.window_seconds + 1
    for _ in range(9):
        bench.call(Heard.OK)
        bench.call(Heard.FAILURE)
    assert bench.state.label is Label.CLOSED


def test_the_window_spans_its_seam() -> None:
    """Calls of both halves of the window are counted together."""
    bench = Bench()
    for _ in range(5):
        bench.call(Heard.FAILURE)
        bench.call(Heard.OK)
    bench.state = replace(bench.state, failures=0)
    bench.now += POLICY.window_seconds / 2 + 1
    for _ in range(5):
        bench.call(Heard.OK)
        bench.call(Heard.FAILURE)
    assert bench.state.why == "failure_rate"


def test_the_closed_path_makes_nothing() -> None:
    """Admitting in the usual state returns the very same values."""
    state = BreakerState()
    admission, after = admit(state, POLICY, NOW, probe_id="p")
    assert (admission.verdict, after is state) == (Verdict.ADMITTED, True)


# Open.


def test_open_rejects_until_its_time_is_over() -> None:
    """A rejected call learns how soon asking again may help."""
    bench = Bench()
    bench.trip()
    admission = bench.admit()
    assert admission == Admission(Verdict.REJECTED, POLICY.open_seconds)
    bench.now += POLICY.open_seconds + 0.001
    bench.admit()
    assert bench.state.label is Label.HALF_OPEN


def test_the_pause_doubles_with_each_failed_probe_up_to_its_limit() -> None:
    """2, 4, 8, ... seconds, at most a minute."""
    bench = Bench()
    bench.trip()
    pauses = []
    for _ in range(8):
        pauses.append(round(bench.state.opened_until - bench.now, 6))
        bench.now = bench.state.opened_until + POLICY.same_order_seconds
        assert bench.call(Heard.FAILURE, queued=bench.state.probed % 3 != 2, operation_id=f"o{bench.number}") is Verdict.PROBE
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("healthy_seconds", "pause"), [(10.0, 4.0), (POLICY.trips_forgotten_seconds + 1, 2.0)])
def test_the_pause_is_short_again_only_after_a_healthy_while(healthy_seconds: float, pause: float) -> None:
    """A gateway that fails again right after closing gets the next longer pause."""
    bench = Bench()
    bench.half_open()
    for number in range(2):
        bench.now += POLICY.probe_pause_seconds
        bench.call(Heard.OK, queued=True, operation_id=f"o{number}")
    assert bench.state.label is Label.CLOSED
    bench.now += healthy_seconds
    bench.trip()
    assert bench.state.opened_until - bench.now == pytest.approx(pause)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_jitter_shortens_the_pause(jitter: float) -> None:
    """By up to a fifth, so that processes do not probe in step."""
    state = replace(BreakerState(closed_at=NOW - 3600), failures=4)
    state = record(state, POLICY, NOW, revision=1, probe_id="", heard=Heard.FAILURE, jitter=jitter)
    assert state.opened_until - NOW == pytest.approx(POLICY.open_seconds * (1 - jitter / 5))


def test_thirty_stragglers_make_one_transition() -> None:
    """Calls that were let through before it opened change nothing when they fail, or answer, late."""
    bench = Bench()
    revision = bench.state.revision
    for _ in range(35):
        bench.hear(Heard.FAILURE, revision=revision)
    opened = bench.state
    assert opened.revision == revision + 1
    bench.now = opened.opened_until - 0.001
    for heard in (Heard.OK, Heard.FAILURE, Heard.THROTTLED, Heard.SLOW, Heard.NEUTRAL):
        bench.hear(heard, revision=revision)
    assert bench.state == opened


# Half-open.


def test_half_open_lets_two_probes_through() -> None:
    """However many ask, one goes, a second later another, and no third while both are under way."""
    bench = Bench()
    bench.half_open()
    verdicts = []
    for number in range(200):
        verdicts.append(bench.admit(queued=True, operation_id=f"o{number}").verdict)
        bench.now += 0.0625  # exact in binary
    assert [number for number, verdict in enumerate(verdicts) if verdict is Verdict.PROBE] == [0, 16]
    assert Verdict.ADMITTED not in verdicts


def test_two_probes_that_went_well_close_it() -> None:
    """One is not enough, the second closes; what follows is let through."""
    bench = Bench()
    bench.half_open()
    bench.call(Heard.OK, queued=True, operation_id="a")
    assert bench.state.label is Label.HALF_OPEN
    bench.now += POLICY.probe_pause_seconds
    bench.call(Heard.SLOW, queued=True, operation_id="b")
    assert (bench.state.label, bench.state.why) == (Label.CLOSED, "probes_went_well")
    assert bench.admit().verdict is Verdict.ADMITTED


def test_a_failed_probe_opens_and_its_sibling_changes_nothing() -> None:
    """Two probes under way, one fails: open; the other's answer is of an older revision."""
    bench = Bench()
    bench.half_open()
    for operation_id in "ab":
        bench.admit(queued=True, operation_id=operation_id)
        bench.now += POLICY.probe_pause_seconds
    revision = bench.state.revision
    bench.hear(Heard.FAILURE, probe_id="p6", revision=revision)
    opened = bench.state
    assert (opened.label, opened.why, opened.probes) == (Label.OPEN, "probe_failed", ())
    bench.hear(Heard.OK, probe_id="p7", revision=revision)
    assert bench.state == opened


def test_a_neutral_probe_frees_its_place() -> None:
    """A probe that was cancelled decides nothing, and another may go."""
    bench = Bench()
    bench.half_open()
    assert bench.call(Heard.NEUTRAL, queued=True, operation_id="a") is Verdict.PROBE
    assert (bench.state.label, bench.state.probes, bench.state.probes_well) == (Label.HALF_OPEN, (), 0)


def test_only_a_probe_is_heard_in_half_open() -> None:
    """An answer without a lease, even of the right revision, changes nothing."""
    bench = Bench()
    bench.half_open()
    bench.admit(queued=True, operation_id="a")
    before = bench.state
    for heard in (Heard.OK, Heard.FAILURE):
        bench.hear(heard, probe_id="somebody")
    assert bench.state == before


def test_a_dead_holder_gives_its_probe_back_at_the_end_of_its_lease() -> None:
    """Nothing lengthens a probe's lease: the others that ask meanwhile do not."""
    bench = Bench()
    bench.half_open()
    bench.admit(queued=True, operation_id="dead-1")
    bench.now += POLICY.probe_pause_seconds
    bench.admit(queued=True, operation_id="dead-2")
    ends = bench.state.probes[0].until
    while bench.now < ends - 1:
        bench.now += 1
        assert bench.admit(queued=True, operation_id="next").verdict is Verdict.REJECTED
    bench.now = ends + 0.001
    assert len(bench.state.probes) == 2
    assert bench.admit(operation_id="live").verdict is Verdict.PROBE
    assert bench.state.probes[-1].id == f"p{bench.number}"


def test_a_lapsed_probe_is_not_heard() -> None:
    """When it answers after its lease, its place is another's: it changes nothing."""
    bench = Bench()
    bench.half_open()
    bench.admit(queued=True, operation_id="slow")
    late = f"p{bench.number}"
    bench.now += POLICY.probe_lease_seconds + POLICY.turn_seconds + 1
    bench.admit(queued=True, operation_id="next")
    before = bench.state
    bench.hear(Heard.FAILURE, probe_id=late)
    assert bench.state == before


def test_queued_orders_probe_first_and_every_third_probe_is_live() -> None:
    """While both kinds ask all the time, probes go queued, queued, live, queued, queued, live."""
    bench = Bench(policy=replace(POLICY, probes_max=1, probes_well=99))
    bench.half_open()
    kinds = []
    for turn in range(9):
        bench.now += POLICY.probe_pause_seconds
        for queued in (False, True):
            verdict = bench.call(Heard.OK, queued=queued, operation_id=f"{'order' if queued else 'live'}-{turn}")
            if verdict is Verdict.PROBE:
                kinds.append("queued" if queued else "live")
    assert kinds == ["queued", "queued", "live"] * 3


@pytest.mark.parametrize(("probed", "queued"), [(0, False), (1, False), (2, True), (5, True)])
def test_a_turn_that_nobody_takes_goes_to_whoever_asks(probed: int, queued: bool) -> None:
    """A shop without a queue, and a queue at night, both get their probe after a second."""
    bench = Bench()
    bench.half_open()
    bench.state = replace(bench.state, probed=probed)
    assert bench.admit(queued=queued, operation_id="x").verdict is Verdict.REJECTED
    bench.now += POLICY.turn_seconds + 0.001
    assert bench.admit(queued=queued, operation_id="x").verdict is Verdict.PROBE


def test_no_order_probes_twice_running() -> None:
    """An order that itself makes the gateway fail lets another one try, also after the next pause."""
    bench = Bench()
    bench.half_open()
    assert bench.call(Heard.FAILURE, queued=True, operation_id="poisoned") is Verdict.PROBE
    bench.now = bench.state.opened_until + 0.001
    rejected = bench.admit(queued=True, operation_id="poisoned")
    assert (rejected.verdict, rejected.retry_after_seconds > 1) == (Verdict.REJECTED, True)
    assert bench.admit(queued=True, operation_id="another").verdict is Verdict.PROBE


def test_a_poisoned_order_cannot_keep_the_shop_closed() -> None:
    """With one order that always fails and live checkouts that would go well, it closes within a minute."""
    bench = Bench()
    bench.half_open()
    for _ in range(600):
        bench.now += 0.1
        bench.call(Heard.FAILURE, queued=True, operation_id="poisoned")
        bench.call(Heard.OK, operation_id=f"live-{bench.number}")
        if bench.state.label is Label.CLOSED:
            return
    pytest.fail("still not closed")


def test_a_lonely_order_may_probe_again_after_a_while() -> None:
    """In a quiet shop the only order is not locked out by having probed last."""
    bench = Bench()
    bench.half_open()
    bench.call(Heard.FAILURE, queued=True, operation_id="only")
    bench.now += POLICY.same_order_seconds + 0.001
    assert bench.admit(queued=True, operation_id="only").verdict is Verdict.PROBE


# Throttling.


@pytest.mark.parametrize(
    ("asked", "silent"), [(None, POLICY.throttle_seconds), (7.0, 7.0), (10_000.0, POLICY.throttle_seconds_max), (-5.0, 0.0)]
)
def test_a_throttling_gateway_is_left_in_peace(asked: float | None, silent: float) -> None:
    """No call goes until the time that it named, within a limit; then they go again."""
    bench = Bench()
    bench.call(Heard.THROTTLED, retry_after_seconds=asked)
    assert bench.state.label is Label.CLOSED
    if silent:
        assert bench.admit() == Admission(Verdict.REJECTED, silent)
    bench.now += silent + 0.001
    assert bench.admit().verdict is Verdict.ADMITTED
    assert bench.state.throttled_until == 0.0


def test_a_later_word_does_not_shorten_the_silence() -> None:
    """Calls that were under way and are throttled for less leave the longer time."""
    bench = Bench()
    bench.hear(Heard.THROTTLED, retry_after_seconds=30.0)
    bench.hear(Heard.THROTTLED, retry_after_seconds=1.0)
    assert bench.admit().retry_after_seconds == 30.0


def test_a_throttled_probe_opens_at_least_until_then() -> None:
    """Half-open and told to wait: open again, no shorter than was asked."""
    bench = Bench()
    bench.half_open()
    bench.call(Heard.THROTTLED, queued=True, operation_id="a", retry_after_seconds=50.0)
    assert (bench.state.label, bench.state.opened_until) == (Label.OPEN, bench.now + 50.0)


def test_throttling_counts_as_failure() -> None:
    """A gateway that only ever says "too many" opens it."""
    bench = Bench()
    for _ in range(5):
        bench.call(Heard.THROTTLED)
        bench.now += POLICY.throttle_seconds + 0.001
    assert bench.state.label is Label.OPEN


# A person's word.


def test_forced_open_rejects_until_its_end() -> None:
    """With a reason and an end; then it is as it was before."""
    bench = Bench()
    bench.state = force(bench.state, Label.OPEN, bench.now, reason="maintenance at the bank", seconds=600.0)
    assert bench.admit() == Admission(Verdict.REJECTED, 600.0)
    assert label_now(bench.state, bench.now) is Label.OPEN
    bench.now += 600.0
    assert bench.admit().verdict is Verdict.ADMITTED
    assert (bench.state.forced, label_now(bench.state, bench.now)) == (None, Label.CLOSED)


def test_forced_closed_admits_whatever_is_heard() -> None:
    """While a person vouches for the gateway no failure opens it."""
    bench = Bench()
    bench.trip()
    bench.state = force(bench.state, Label.CLOSED, bench.now, reason="false alarm", seconds=60.0)
    for _ in range(50):
        assert bench.call(Heard.FAILURE) is Verdict.ADMITTED
    assert forced_now(bench.state, bench.now) == Forced(Label.CLOSED, "false alarm", bench.now + 60.0)
    bench.now += 61.0
    assert bench.admit(queued=True).verdict is Verdict.PROBE


def test_a_word_taken_back_leaves_it_as_it_was() -> None:
    """Lifting counts as a change; lifting nothing does not."""
    state = BreakerState()
    forced = force(state, Label.OPEN, NOW, reason="test", seconds=60.0)
    assert lift(forced) == replace(state, revision=state.revision + 2)
    assert lift(state) is state


def test_a_forced_breaker_forgets_the_calls_under_way() -> None:
    """Answers to calls from before a person's word change nothing after it."""
    bench = Bench()
    before = bench.state.revision
    bench.state = lift(force(bench.state, Label.OPEN, bench.now, reason="test", seconds=60.0))
    for _ in range(10):
        bench.hear(Heard.FAILURE, revision=before)
    assert bench.state.label is Label.CLOSED


@pytest.mark.parametrize(
    ("label", "reason", "seconds", "advice"),
    [
        (Label.HALF_OPEN, "why", 60.0, "open or closed"),
        (Label.OPEN, "", 60.0, "give the reason"),
        (Label.OPEN, "  ", 60.0, "give the reason"),
        (Label.CLOSED, "why", 0.0, "how many seconds"),
        (Label.CLOSED, "why", -1.0, "how many seconds"),
    ],
)
def test_a_word_without_reason_or_end_is_refused(label: Label, reason: str, seconds: float, advice: str) -> None:
    """Raises and says what is missing; half-open cannot be asked for at all."""
    with pytest.raises(ValueError, match=advice):
        force(BreakerState(), label, NOW, reason=reason, seconds=seconds)


# Clocks that jump.


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_jump_of_the_clock_does_not_lock_the_shop_out(jump: float) -> None:
    """An hour back or forth: an open one is tried, a throttled one is called, dead probes are given up."""
    bench = Bench()
    bench.trip()
    bench.now += jump
    assert bench.admit(queued=True, operation_id="a").verdict is Verdict.REJECTED or bench.state.label is Label.HALF_OPEN
    bench.now += POLICY.turn_seconds + 0.001
    assert bench.admit(queued=True, operation_id="b").verdict is Verdict.PROBE
    throttled = Bench()
    throttled.call(Heard.THROTTLED, retry_after_seconds=60.0)
    throttled.now += jump
    assert throttled.admit().verdict is Verdict.ADMITTED


def test_probes_from_before_a_jump_back_are_given_up() -> None:
    """Leases that seem to end in an hour are no leases."""
    bench = Bench()
    bench.half_open()
    for operation_id in "ab":
        bench.admit(queued=True, operation_id=operation_id)
        bench.now += POLICY.probe_pause_seconds
    bench.now -= 3600.0
    bench.admit(queued=True, operation_id="c")
    bench.now += POLICY.turn_seconds + 0.001
    assert bench.admit(queued=True, operation_id="d").verdict is Verdict.PROBE


# JSON.

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
    [{"label": "ajar"}, {"probes": 7}, {"probes": [7]}, {"forced": {}}, {"now_counts": 3}, {"opened_until": "soon"}, {"revision": None}],
)
def test_what_is_no_state_is_refused(value: dict[str, object]) -> None:
    """Raises with what to do instead."""
    with pytest.raises(ValueError, match=r"start from BreakerState\(\)"):
        from_json(value)


# Random walks.


class Walk(RuleBasedStateMachine):
    """Calls that come, end, die and straggle, over any time; what must hold at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.under_way: list[tuple[str, int]] = []
        self.transitions = 0
        self.orders: list[str] = []

    @rule(queued=st.booleans(), order=st.sampled_from(["", "a", "b", "c"]))
    def ask(self, queued: bool, order: str) -> None:
        before = self.bench.state
        admission = self.bench.admit(queued=queued, operation_id=order)
        assert (admission.verdict is Verdict.ADMITTED) <= (before.label is Label.CLOSED)
        if admission.verdict is Verdict.REJECTED:
            assert 0 < admission.retry_after_seconds <= 600
        else:
            self.under_way.append((f"p{self.bench.number}", self.bench.state.revision))

    @rule(heard=st.sampled_from(list(Heard)), data=st.data())
    def end(self, heard: Heard, data: st.DataObject) -> None:
        if not self.under_way:
            return
        probe_id, revision = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.bench.state
        self.bench.hear(heard, probe_id=probe_id, revision=revision)
        if revision != before.revision:
            assert self.bench.state == before

    @rule(seconds=st.sampled_from([0.1, 1.1, 5.0, 31.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @rule()
    def read_back(self) -> None:
        self.bench.state = from_json(json.loads(json.dumps(to_json(self.bench.state))))

    @invariant()
    def is_sound(self) -> None:
        state = self.bench.state
        assert len(state.probes) <= POLICY.probes_max
        assert state.label is Label.HALF_OPEN or not state.probes
        assert state.failures < POLICY.consecutive_failures
        assert state.opened_until <= self.bench.now + POLICY.throttle_seconds_max

    def teardown(self) -> None:
        """Whatever happened, a gateway that works again is called again within two minutes."""
        for turn in range(130):
            self.bench.now += 1.1
            self.bench.call(Heard.OK, queued=turn % 2 == 0, operation_id=f"end-{turn}")
        assert self.bench.state.label is Label.CLOSED


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
