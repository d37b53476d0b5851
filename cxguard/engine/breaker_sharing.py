"""Keeps the breakers of this process and of all others in step, by one small value in the store.

One task looks at the value when it is told to: by a hint of the store, by something to tell, and otherwise now and then.
It folds in what this process heard, swaps the value by its revision, and has the breakers adopt what it says. Nothing of
this is on a request's way, but for a probe that has to be leased: that waits `LEASE_SECONDS_MAX` at most.

While the store is away every process goes by its own rule. What it heard too long ago is not told afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from typing import Final, assert_never

from cxguard.clock import Clock
from cxguard.core.breaker import Admission, BreakerState, Heard, Label, Verdict
from cxguard.core.breaker_shared import Batch, Name, Shared, Told, fold, lease, restored, say, shifted
from cxguard.core.breaker_shared_json import shared_from_bytes, shared_to_bytes
from cxguard.core.hints import breakers_topic
from cxguard.engine.breaker_tickets import Rejected, Ticket, Wanted
from cxguard.engine.breakers import Breakers
from cxguard.engine.hints import Hints
from cxguard.errors import StoreUnavailable
from cxguard.logs import get_logger
from cxguard.stores.base import EVERYTHING, Store

LOOK_SECONDS: Final = 0.25  # between two looks at the value, for all breakers, while no hints are known to come
HINTED_LOOK_SECONDS: Final = 1.0  # while they are: one may be lost
QUIET_LOOK_SECONDS: Final = 2.0  # while nothing is wrong and this process has made no call lately; its first failure is told at once
QUIET_HINTED_LOOK_SECONDS: Final = 5.0
QUIET_AFTER_SECONDS: Final = 10.0  # longer than between two words of a process that makes calls
TELL_SECONDS: Final = 4.0  # between two words of a process whose calls all go well: that it has some, and how many
LEASE_SECONDS_MAX: Final = 0.25  # a checkout must not wait longer for a breaker's sake
SYNC_SECONDS_MAX: Final = 2.0  # for one round with the store
SWAP_TRIES_MAX: Final = 30  # others swap, too; then the next round goes on
SWAP_PAUSE_SECONDS: Final = 0.004  # at most, before swapping again: half of it is a commit
BATCH_SECONDS_MAX: Final = 10.0  # what was heard longer ago says nothing about now
CLOCK_SECONDS: Final = 30.0  # between two readings of the store's clock

_log = get_logger("breakers")


def key_of(namespace: str) -> str:
    """The name of the value."""
    return f"breakers:{namespace}"


class Sharing:
    """The breakers of all processes, as this one sees them.

    Args:
        process: names this process among all; never used by another one.
        hints: what is heard of the other processes, and told them; None: nothing, and they look by themselves.
        jitter: 0 to 1, random: pulls apart what processes do at the same time.
        lease_seconds_max: how long a call waits for the store to lease it a probe, before the own rule holds.
    """

    def __init__(
        self,
        breakers: Breakers,
        store: Store,
        clock: Clock,
        *,
        namespace: str,
        process: str,
        hints: Hints | None = None,
        jitter: Callable[[], float] = random.random,
        lease_seconds_max: float = LEASE_SECONDS_MAX,
    ) -> None:
        self.away = True
        self._breakers = breakers
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._lease_seconds_max = lease_seconds_max
        self._key = key_of(namespace)
        self._topic = breakers_topic(namespace)
        self._hints = hints
        self._process = process
        self._number = 0
        self._seen = 0  # revision of the value
        self._last_read: tuple[bytes, Shared] | None = None
        self._adopted: tuple[int, float] | None = None  # with how far the store's clock was ahead
        self._lock = threading.Lock()  # held to adopt, never across an await
        self._batch: Batch | None = None  # told, and not known to have arrived
        self._told_at = self._lost_at = clock.monotonic()
        self._read_clock_at: float | None = None  # monotonic
        self._ahead_seconds = 0.0  # of the store's clock
        self._urgent = False
        self._all_closed = True
        self._worried = False  # some breaker of all counts failures: good answers are wanted soon
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._woken.set()
        self._breakers.share(self)
        self._task = asyncio.create_task(self._run(), name="cxguard-breakers")
        if self._hints is not None:
            self._hints.listen(self._hear)

    async def stop(self) -> None:
        """Tell what is left to tell, and stop. Idempotent."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if not self.away:
            self._urgent = True
            await self.look()
        self._breakers.share(None)

    def wake(self) -> None:
        self._urgent = True
        self._stir()

    async def look(self) -> None:
        """One round: hear what all others know, and tell what was heard here. A store that is away is no error."""
        urgent, self._urgent = self._urgent, False
        try:
            async with asyncio.timeout(SYNC_SECONDS_MAX):
                await self._read_clock()
                self._gather(urgent=urgent)
                await self._swap(self._with_batch)
            self._batch = None
            if self._urgent:  # that batch was told again; there is more
                self._woken.set()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the store: calls go on, by the own rule
            self._lost(error)

    async def lease(self, wanted: Wanted) -> Ticket | Rejected:
        """Ask for a probe: leased by the store, so that all processes together let `probes_max` through.

        One call of this process asks at a time; the others are told to come again. When the store does not answer, the
        own rule holds. A lease that was perhaps given is given back, and lapses by itself if that is lost, too.
        """
        cell, busy = wanted.cell, Rejected(1.0)
        if cell.leasing:
            return busy
        cell.leasing, probe_id = True, self._breakers.probe_id()
        try:
            async with asyncio.timeout(self._lease_seconds_max):
                return await self._leased(wanted, probe_id) or busy
        except Exception as error:  # noqa: BLE001 - a checkout may not fail because of it
            self._give_back(wanted, probe_id)
            self._lost(error)
            return self._breakers.admit_alone(wanted)
        except BaseException:
            self._give_back(wanted, probe_id)
            raise
        finally:
            cell.leasing = False

    async def say(
        self, name: Name, label: Label | None, *, reason: str = "", seconds: float = 0.0, by: str = "", family: bool = True
    ) -> None:
        """A person's word, for all processes. See `cxguard.core.breaker_shared.say`.

        Raises:
            StoreUnavailable: it may hold or not: look.
            ValueError: half-open, no reason, no end; or the value is a newer version's.
        """

        def said(shared: Shared) -> Shared:
            return say(shared, name, label, self._store_now(), reason=reason, seconds=seconds, by=by, family=family)

        try:
            async with asyncio.timeout(SYNC_SECONDS_MAX):
                await self._read_clock()
                await self._swap(said)
        except TimeoutError:
            raise StoreUnavailable("the store did not answer in time: look whether the breaker is forced before saying it again") from None

    async def read(self) -> Shared:
        """What all processes know, as it is in the store; times are on its clock.

        Raises:
            StoreUnavailable: it does not answer.
            ValueError: the value is a newer version's.
        """
        return shared_from_bytes((await self._store.load(self._key)).value)

    # --- the value

    async def _swap(self, change: Callable[[Shared], Shared]) -> None:
        """Load, change, swap, until nobody was in between; then have it adopted."""
        doubted = False
        for _ in range(SWAP_TRIES_MAX):
            seen = await self._store.load(self._key)
            if seen.revision < self._seen and not doubted:
                doubted = True  # another task was faster; seen once more, the store has lost its tail
                continue
            read = self._read_value(seen.value)
            after = change(restored(read, self._known()))
            if after is read:
                return self._adopt(read, seen.revision, sure=doubted)
            value = shared_to_bytes(after)
            if await self._store.swap(self._key, revision=seen.revision, value=value):
                self._last_read = (value, after)
                self._adopt(after, seen.revision + 1, sure=doubted)
                return self._announce(read, after)
            await asyncio.sleep(self._jitter() * SWAP_PAUSE_SECONDS)
        raise StoreUnavailable("the breakers' value in the store is swapped by others all the time: the next round goes on")

    def _read_value(self, value: bytes) -> Shared:
        """What the value means; most looks find the one of the last look."""
        if self._last_read is None or self._last_read[0] != value:
            self._last_read = (value, shared_from_bytes(value))
        return self._last_read[1]

    def _adopt(self, shared: Shared, revision: int, *, sure: bool) -> None:
        """Have the breakers of this process go by the value, on this process's clock."""
        with self._lock:
            if revision < self._seen and not sure:
                return
            adopted = (revision, self._ahead_seconds)
            self._seen, self.away = revision, False
            if adopted == self._adopted:
                return
            self._adopted = adopted
            names = set(shared.breakers) | set(self._breakers.names())
            last = shared.batches.get(self._process)
            all_told = self._batch is None or (last is not None and last.number >= self._batch.number)
            states = {name: shifted(shared.state(name), -self._ahead_seconds) for name in names}
            self._breakers.adopt(states, all_told=all_told)
        self._all_closed = all(each.state.label is Label.CLOSED for each in shared.breakers.values())
        worried = any(each.state.label is Label.CLOSED and each.state.failures for each in shared.breakers.values())
        if worried and not self._worried:
            self._stir()  # what went well here weighs against it
        self._worried = worried

    def _announce(self, before: Shared, after: Shared) -> None:
        """Tell the others to look, when they would see another label, a probe more or less, or a silence."""
        if self._hints is not None and _heard_by_others(before) != _heard_by_others(after):
            self._hints.tell(self._topic)

    def _known(self) -> dict[Name, BreakerState]:
        return {name: shifted(state, self._ahead_seconds) for name, state in self._breakers.known().items()}

    async def _leased(self, wanted: Wanted, probe_id: str) -> Ticket | Rejected | None:
        """The ticket of a leased probe, or how long to wait."""
        told: list[Admission] = []

        def ask(shared: Shared) -> Shared:
            admission, after = lease(
                shared,
                wanted.cell.name,
                self._breakers.policy,
                self._store_now(),
                probe_id=probe_id,
                queued=wanted.queued,
                operation_id=wanted.operation_id,
            )
            told.append(admission)
            return after

        await self._swap(ask)
        match told[-1].verdict:
            case Verdict.PROBE:
                return self._breakers.probe_of(wanted.cell, probe_id)
            case Verdict.REJECTED:
                return Rejected(told[-1].retry_after_seconds)
            case Verdict.ADMITTED:
                return None  # it has closed since: by the ramp, like everybody
            case _:
                assert_never(told[-1].verdict)

    def _give_back(self, wanted: Wanted, probe_id: str) -> None:
        """A lease that was perhaps given: nobody will make that call."""
        self._breakers.tell(wanted.cell, Told(Heard.NEUTRAL, probe_id=probe_id))
        self.wake()

    # --- telling

    def _gather(self, *, urgent: bool) -> None:
        """Make a batch of what was heard, if it is time. One that may not have arrived is told again first, as it was."""
        now = self._clock.monotonic()
        if self._batch is not None and now - self._told_at <= BATCH_SECONDS_MAX:
            self._urgent = self._urgent or urgent
            return
        self._batch = None
        if not (urgent or self._worried or now - self._told_at >= TELL_SECONDS):
            return
        reports = self._breakers.reports()
        if self.away and now - self._lost_at > BATCH_SECONDS_MAX:
            return
        if reports:
            self._number += 1
            self._batch, self._told_at = Batch(self._process, self._number, reports), now

    def _with_batch(self, shared: Shared) -> Shared:
        if self._batch is None:
            return shared
        return fold(shared, self._batch, self._breakers.policy, self._store_now(), jitter=self._jitter())

    # --- when to look

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.look_seconds):
                    await self._woken.wait()
            self._woken.clear()
            await self.look()

    @property
    def look_seconds(self) -> float:
        """Between two looks, if nothing is heard: seldom while hints come, and while there is nothing to hear."""
        hinted = self._hints is not None and self._hints.come
        quiet = self._all_closed and self._clock.monotonic() - self._told_at > QUIET_AFTER_SECONDS
        if quiet:
            return QUIET_HINTED_LOOK_SECONDS if hinted else QUIET_LOOK_SECONDS
        return HINTED_LOOK_SECONDS if hinted else LOOK_SECONDS

    def _hear(self, topic: str) -> None:
        if topic in (self._topic, EVERYTHING):
            self._woken.set()

    def _stir(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: the process is ending
                loop.call_soon_threadsafe(self._woken.set)

    def _lost(self, error: Exception) -> None:
        if not self.away:
            self._lost_at = self._clock.monotonic()
            _log.warning("breakers.alone", why=str(error)[:200] or type(error).__name__)
        self.away = True

    async def _read_clock(self) -> None:
        """How far the store's clock is ahead of ours, taken in the middle of asking."""
        began = self._clock.monotonic()
        if self._read_clock_at is not None and began - self._read_clock_at < CLOCK_SECONDS:
            return
        before = self._clock.now()
        there = await self._store.clock()
        self._ahead_seconds = there - (before + self._clock.now()) / 2
        self._read_clock_at = began

    def _store_now(self) -> float:
        return self._clock.now() + self._ahead_seconds


def _heard_by_others(shared: Shared) -> dict[Name, tuple[object, ...]]:
    """What makes a difference to another process's next call."""
    return {
        name: (each.state.revision, each.state.probes, each.state.throttled_until, each.state.failures)
        for name, each in shared.breakers.items()
    }
