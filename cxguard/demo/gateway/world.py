"""The gateway's present state: which fault is on, which script runs, which charges are held back for a test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cxguard.clock import Clock, SystemClock
from cxguard.demo.gateway.faults import FaultMode, Phase, without_flap
from cxguard.demo.gateway.webhooks import Webhooks

SLOW_SECONDS = 1.5  # under most time-outs, over most people's patience
ALL_WELL = Phase(FaultMode.HEALTHY)
LATE_SECONDS = 5.0  # longer than any caller listens
HOLD_SECONDS_MAX = 60.0  # a test that forgot to release


@dataclass(slots=True)
class Hold:
    """A barrier for tests: charges stop here until released, so that a process can be killed in the very middle."""

    remaining: int = 0
    before_charge: bool = False
    held: list[str] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def arm(self, *, count: int, before_charge: bool) -> None:
        """Hold the next *count* charges: after the ledger was written, or before."""
        async with self._changed:
            self.remaining, self.before_charge = count, before_charge

    async def stop_here(self, name: str) -> None:
        """Wait in front of the barrier if it is down for us."""
        async with self._changed:
            if self.remaining == 0:
                return
            self.remaining -= 1
            self.held.append(name)
            self._changed.notify_all()
            await _bounded(self._changed, lambda: name not in self.held, seconds=HOLD_SECONDS_MAX)

    async def release(self) -> None:
        """Let all go on, and hold nothing more."""
        async with self._changed:
            self.remaining = 0
            self.held.clear()
            self._changed.notify_all()

    async def wait_for(self, count: int, *, seconds: float) -> list[str]:
        """The charges that are held, as soon as there are *count*; fewer when the time is over."""
        async with self._changed:
            await _bounded(self._changed, lambda: len(self.held) >= count, seconds=seconds)
            return list(self.held)


@dataclass(slots=True)
class World:
    """What is wrong right now. *set_open* opens and shuts the door that payments come through."""

    set_open: Callable[[bool], Awaitable[None]]
    clock: Clock = field(default_factory=SystemClock)
    phases: tuple[Phase, ...] = (ALL_WELL,)
    slow_seconds: float = SLOW_SECONDS
    late_seconds: float = LATE_SECONDS
    lookups_too: bool = False
    webhooks: Webhooks = field(default_factory=Webhooks)
    hold: Hold = field(default_factory=Hold)
    _phase: Phase = ALL_WELL
    _since: float = 0.0
    _playing: asyncio.Task[None] | None = None
    _late: set[asyncio.Task[None]] = field(default_factory=set)

    def land_late(self, charge: Callable[[], object]) -> None:
        """Do *charge* when everybody has stopped listening."""

        async def land() -> None:
            await asyncio.sleep(self.late_seconds)
            charge()

        task = asyncio.create_task(land(), name="late charge")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def late_charges_landed(self) -> None:
        """Wait until every late charge is in the books."""
        while self._late:
            await asyncio.wait(self._late)

    @property
    def mode(self) -> FaultMode:
        """The fault of this moment; `flap` is seen as what it is just now."""
        return without_flap(self._phase.mode, elapsed_seconds=self.clock.monotonic() - self._since)

    @property
    def phase_mode(self) -> FaultMode:
        return self._phase.mode

    async def play(self, phases: tuple[Phase, ...]) -> None:
        """Start a script. When this returns its first phase is in force; the rest follows by itself."""
        await self.stop()
        self.phases = phases
        await self._enter(phases[0])
        if len(phases) > 1:
            self._playing = asyncio.create_task(self._play_on(phases), name="fault script")

    async def stop(self) -> None:
        """End the running script where it is."""
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])
            self._playing = None

    async def _play_on(self, phases: tuple[Phase, ...]) -> None:
        ends_at = self.clock.monotonic()
        for phase, following in itertools.pairwise(phases):
            ends_at += phase.seconds or 0.0
            await asyncio.sleep(max(0.0, ends_at - self.clock.monotonic()))
            await self._enter(following)

    async def _enter(self, phase: Phase) -> None:
        self._phase, self._since = phase, self.clock.monotonic()
        await self.set_open(phase.mode is not FaultMode.REFUSE)


async def _bounded(condition: asyncio.Condition, done: Callable[[], bool], *, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await condition.wait_for(done)
    except TimeoutError:
        return
