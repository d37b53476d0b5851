"""A breaker around a shared store: while it is away, every call hears so at once, and no shopper waits for a time-out.

`core.breaker` decides, on one state for each process. The request path never probes: whoever meets the open breaker is
refused within microseconds, and leaves a probe running in the background when one is due. Two kinds of calls pass
always: renewals, which have a thread of their own and must go on trying (a process that cannot renew stops acting before
its leases lapse), and hints, which say nothing by themselves. A good renewal is as good as a probe.

It also lets a guard begin its life without its store: until the store was reached once, and has confirmed whose records
it holds, nothing passes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar, cast
from weakref import WeakSet

from cxguard.clock import Clock
from cxguard.core.breaker import BreakerPolicy, BreakerState, Heard, Label, Verdict, admit, record
from cxguard.errors import ConfigurationError, CxguardError, PartAway, PartlyRenewed, StoreUnavailable
from cxguard.events import Bus, Event
from cxguard.logs import get_logger
from cxguard.stores.base import Hinting, Store

T = TypeVar("T")

LATE_SECONDS = 1.0  # a refusal that took so long was a time-out: one is enough, since each costs a shopper as much
SLOW_SECONDS = 2.0  # an answer that took so long is none: a request needs several
WHY_CHARS_MAX = 200
PROBE_SECONDS = 10.0  # a first start makes the schema; a call has its own, shorter patience
VERBS = frozenset({
    *("open", "put", "save", "take", "seize", "note", "get", "search", "tally", "prune"),
    *("load", "swap", "sessions", "record", "counters", "clock"),
})  # fmt: skip
SHOPPERS = frozenset({"open", "save", "seize", "get", "clock"})  # a list of the desk that takes long says nothing about these
POLICY = BreakerPolicy(
    consecutive_failures=3,
    calls_min=1_000_000_000,  # no rates: a store that answers every other call is asked for each
    open_seconds=0.5,
    open_seconds_max=4.0,  # so long after the store is back, at most, the shop sees it
    probes_max=1,
    probes_well=1,
    probe_lease_seconds=PROBE_SECONDS + 5.0,
    probe_pause_seconds=0.25,
    turn_seconds=0.0,
    same_order_seconds=0.0,
    failures_beside=1,
)

_log = get_logger("store")


class StoreBreaker:
    """Wraps a store; has all its verbs, and whatever else it has.

    Args:
        confirm: asked each time that the store has been started, before anything else passes: is it the right one?
    """

    def __init__(self, store: Store, clock: Clock, *, bus: Bus, confirm: Callable[[Store], Awaitable[None]]) -> None:
        self._store = store
        self._clock = clock
        self._bus = bus
        self._confirm = confirm
        self._state = BreakerState()
        self._lock = threading.Lock()  # the heartbeat asks from a thread of its own
        self._probe_ids = map(str, itertools.count(1))
        self._probing: set[asyncio.Task[None]] = set()
        self._reached = False
        self._stopped = False
        self._away_since = 0.0
        self._why = "it was not started yet"
        _breakers.add(self)

    def after_fork(self) -> None:
        """In the child: no other thread is left that could give the lock back, and probes are the parent's."""
        self._lock = threading.Lock()
        self._probing = set()

    @property
    def away(self) -> bool:
        """Whether calls are refused now."""
        return self._state.label is not Label.CLOSED or not self._reached

    async def start(self) -> None:
        """Reach the store and have it confirmed. While it is away, this too is refused at once.

        Raises:
            ConfigurationError, StoreUnfit, StoreUnavailable: as `Store.start`, and what the confirmation raises.
        """
        if self._reached:
            return
        self._stopped = False
        if self._state.label is not Label.CLOSED:
            self._refuse()
        try:
            await self._reached_in_time()
        except StoreUnavailable as error:
            self._failed("start", error, seconds=LATE_SECONDS)
            raise

    async def stop(self) -> None:
        """Probe no more, and stop the store."""
        loop = asyncio.get_running_loop()
        for probe in [each for each in self._probing if each.get_loop() is loop]:
            probe.cancel()
        self._reached, self._stopped = False, True
        await self._store.stop()

    async def renew(self, tokens: Any, *, lease_seconds: float) -> frozenset[str]:
        """As the store's own; never refused."""
        probe_id = self._probe_due() if self._reached else ""
        return await self._asked("renew", lambda: self._store.renew(tokens, lease_seconds=lease_seconds), probe_id=probe_id)

    async def probe_once(self) -> bool:
        """Ask the store now, if a probe is due. Whether calls pass afterwards."""
        probe_id = self._probe_due()
        if probe_id:
            await self._probe(probe_id)
        return not self.away

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._store, name)
        if name not in VERBS:
            return there

        async def verb(*args: Any, **named: Any) -> Any:
            if self.away and not self._stopped:  # a stopped one has its own word
                self._refuse()
            return await self._asked(name, lambda: there(*args, **named))

        return verb

    # --- calls

    async def _asked(self, verb: str, call: Callable[[], Awaitable[T]], *, probe_id: str = "") -> T:
        began, revision = self._clock.monotonic(), self._state.revision
        try:
            answer = await call()
        except PartlyRenewed:
            self._answered(verb, began, revision=revision, probe_id=probe_id)  # some of its servers are there: it is not away
            raise
        except PartAway:
            self._hear(Heard.NEUTRAL, revision=revision, probe_id=probe_id)  # its other servers answer: their owners go on
            raise
        except StoreUnavailable as error:
            self._failed(verb, error, seconds=self._clock.monotonic() - began, revision=revision, probe_id=probe_id)
            raise
        except ConfigurationError as error:  # it was right when it was started: a password was changed since, say
            if self._stopped:
                raise
            self._tell_if_unusable(error)
            self._failed(verb, error, seconds=0.0, revision=revision, probe_id=probe_id)
            raise StoreUnavailable(f"the store is as good as away until this is mended: {error}") from error
        except asyncio.CancelledError:
            self._hear(Heard.NEUTRAL, revision=revision, probe_id=probe_id)
            raise
        except Exception:
            self._answered(verb, began, revision=revision, probe_id=probe_id)  # a refusal is an answer
            raise
        self._answered(verb, began, revision=revision, probe_id=probe_id)
        return answer

    def _answered(self, verb: str, began: float, *, revision: int, probe_id: str) -> None:
        seconds = self._clock.monotonic() - began
        if seconds >= SLOW_SECONDS and verb in SHOPPERS:
            self._failed(verb, StoreUnavailable(f"an answer took {seconds:.1f} s"), seconds=0.0, revision=revision, probe_id=probe_id)
        elif self._state.failures or self._state.label is not Label.CLOSED:
            self._hear(Heard.OK, revision=revision, probe_id=probe_id)

    def _failed(self, verb: str, error: CxguardError, *, seconds: float, revision: int | None = None, probe_id: str = "") -> None:
        self._why = str(error)[:WHY_CHARS_MAX]
        late = seconds >= LATE_SECONDS and verb in (*SHOPPERS, "start")
        self._hear(Heard.FAILURE, revision=revision, probe_id=probe_id, late=late, verb=verb)

    def _hear(self, heard: Heard, *, revision: int | None, probe_id: str, late: bool = False, verb: str = "") -> None:
        """Let the core decide what it changes, and tell the listeners of a change."""
        now = self._clock.monotonic()
        with self._lock:
            before = self._state
            known = before.revision if revision is None else revision
            self._state = record(before, POLICY, now, revision=known, probe_id=probe_id, heard=heard, beside=late)
            opened = before.label is Label.CLOSED and self._state.label is Label.OPEN
            closed = before.label is not Label.CLOSED and self._state.label is Label.CLOSED
            if opened:
                self._away_since = now
        if opened:
            self._emit("store.unavailable", verb=verb, why=self._why)
        if closed:
            self._emit("store.recovered", away_seconds=round(now - self._away_since, 3))

    def _emit(self, name: str, **detail: Any) -> None:
        self._bus.emit(Event(name, self._clock.now(), detail=detail))

    def _refuse(self) -> NoReturn:
        """Say no at once; and see to it that somebody looks, when it is time."""
        probe_id = self._probe_due()
        if probe_id:
            task = asyncio.get_running_loop().create_task(self._probe(probe_id), name="cxguard-store-probe")
            self._probing.add(task)
            task.add_done_callback(self._probing.discard)
        raise StoreUnavailable(f"the store is away, so nothing was asked of it ({self._why}): it is looked at again every few seconds")

    # --- probes

    def _probe_due(self) -> str:
        """The name of a probe that the caller has to make now; empty: none is due, or one is under way."""
        with self._lock:
            if not self.away:
                return ""
            if self._state.label is Label.CLOSED:  # not reached yet, and nobody has begun
                self._state = record(
                    self._state, POLICY, self._clock.monotonic() - POLICY.open_seconds,
                    revision=self._state.revision, probe_id="", heard=Heard.FAILURE, beside=True,
                )  # fmt: skip
            probe_id = next(self._probe_ids)
            admission, self._state = admit(self._state, POLICY, self._clock.monotonic(), probe_id=probe_id)
            return probe_id if admission.verdict is Verdict.PROBE else ""

    async def _probe(self, probe_id: str) -> None:
        """One look, by which the breaker closes or stays open."""
        began, revision, first = self._clock.monotonic(), self._state.revision, not self._reached
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await (self._reach() if first else self._store.clock())
        except asyncio.CancelledError:
            self._hear(Heard.NEUTRAL, revision=revision, probe_id=probe_id)
            raise
        except TimeoutError:
            unanswered = StoreUnavailable(f"no answer within {PROBE_SECONDS:g} s")
            self._failed("probe", unanswered, seconds=0.0, revision=revision, probe_id=probe_id)
        except CxguardError as error:
            self._tell_if_unusable(error)
            self._failed("probe", error, seconds=0.0, revision=revision, probe_id=probe_id)
        else:
            late = not first and self._clock.monotonic() - began >= SLOW_SECONDS  # a first start may make the schema
            self._hear(Heard.FAILURE if late else Heard.OK, revision=revision, probe_id=probe_id)

    def _tell_if_unusable(self, error: CxguardError) -> None:
        """It answers, and may not be used: until that is mended it is as good as away, and somebody has to know why."""
        if not isinstance(error, StoreUnavailable) and str(error)[:WHY_CHARS_MAX] != self._why:
            _log.error("store.not_usable", why=str(error))

    async def _reached_in_time(self) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._reach()
        except TimeoutError:
            raise StoreUnavailable(f"no answer within {PROBE_SECONDS:g} s: see whether the store's server hangs") from None

    async def _reach(self) -> None:
        await self._store.start()
        await self._confirm(self._store)
        self._reached = True


class HintingBreaker(StoreBreaker):
    """Around a store that gives hints: those pass as they are."""

    async def announce(self, topics: Sequence[str]) -> None:
        await cast(Hinting, self._store).announce(topics)

    async def listen(self, hear: Callable[[str], None]) -> None:
        await cast(Hinting, self._store).listen(hear)


def breaker_around(store: Store, clock: Clock, *, bus: Bus, confirm: Callable[[Store], Awaitable[None]]) -> StoreBreaker:
    """The breaker for *store*; one with hints, if the store has them."""
    kind = HintingBreaker if isinstance(store, Hinting) else StoreBreaker
    return kind(store, clock, bus=bus, confirm=confirm)


def _after_fork() -> None:
    for breaker in tuple(_breakers):
        breaker.after_fork()


_breakers: WeakSet[StoreBreaker] = WeakSet()
os.register_at_fork(after_in_child=_after_fork)
