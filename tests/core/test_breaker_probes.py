"""Half-open: who probes, what an answer to a probe does, and clocks that jump."""

from __future__ import annotations

from dataclasses import replace

import pytest
from breaker_bench import POLICY, Bench

from cxguard.core.breaker import Heard, Label, Verdict


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
