"""One breaker on a bench with a clock of its own, for the tests of its policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from cxguard.core.breaker import Admission, BreakerPolicy, BreakerState, Heard, Label, Verdict, admit, record

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
