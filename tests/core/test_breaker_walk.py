"""Random walks of the breaker: calls that come, end, die and straggle, over any time."""

from __future__ import annotations

import json

from breaker_bench import POLICY, Bench
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cxguard.core.breaker import Heard, Label, Verdict
from cxguard.core.breaker_json import from_json, to_json


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
