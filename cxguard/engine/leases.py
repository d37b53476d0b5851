"""One heartbeat for all the leases of a process, in a thread of its own.

A blocked event loop does not starve it. A lease counts from the moment its renewal was *sent*, on the monotonic clock,
and ends for us a margin before the store would give it to another: a process that cannot renew stops acting in time.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cxguard.clock import Clock
from cxguard.core.operation import Operation
from cxguard.errors import LeaseLost, OfParentProcess, PartlyRenewed, StoreError
from cxguard.logs import get_logger
from cxguard.stores.base import Level, Store

MARGIN = 0.2  # of the lease: we stop this much earlier than the store would give it away
BEATS_PER_LEASE = 4  # renewals in one lease's time: three may fail in a row

_log = get_logger("leases")


@dataclass(slots=True)
class HeldLease:
    """A lease that this process holds. `check` it right before anything that cannot be taken back.

    Attributes:
        record: as the store last gave it under this lease.
        epoch: the store's life in which it was given.
    """

    id: str
    token: int
    lease_seconds: float
    safe_until: float  # monotonic
    run_until: float  # monotonic; never renewed past this
    clock: Clock = field(repr=False)
    record: Operation | None = field(default=None, repr=False)
    pid: int = field(default_factory=os.getpid, repr=False)
    epoch: str = ""

    def alive(self) -> bool:
        """Whether nobody else can hold the operation at this moment."""
        return self.clock.monotonic() < self.safe_until

    def refuse_child(self) -> None:
        """Raise in a child of the process that was given the lease: two processes would act under one.

        Raises:
            OfParentProcess: nothing may be written or sent.
        """
        if self.pid != os.getpid():
            raise OfParentProcess()

    def check(self) -> None:
        """Raise unless the lease is surely ours.

        Raises:
            LeaseLost: it may have been given to another.
        """
        if not self.alive():
            raise LeaseLost("the lease could not be renewed in time: stop; whoever holds the order now goes on with it")

    def renewed(self, sent_at: float) -> None:
        """Note that a renewal sent at *sent_at* (monotonic) was granted."""
        self.safe_until = sent_at + self.lease_seconds * (1 - MARGIN)

    def lost(self) -> None:
        """Note that the store refused: not ours any more."""
        self.safe_until = float("-inf")


class Leases:
    """All leases of this process, and the thread that renews them.

    Args:
        beat_seconds: pause between two renewals; at most a quarter of the shortest lease in use.
    """

    def __init__(self, store: Store, clock: Clock, *, beat_seconds: float, on_lost: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._beat_seconds = beat_seconds
        self._on_lost = on_lost
        self._held: dict[int, HeldLease] = {}
        self._by_id: dict[str, HeldLease] = {}
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._woken: asyncio.Event | None = None  # while there is a task, of its loop
        self._idle: asyncio.AbstractEventLoop | None = None  # in which the task waits for a first lease
        self._stopping = threading.Event()

    def add(self, id: str, token: int, *, lease_seconds: float, run_seconds_max: float, asked_at: float) -> HeldLease:
        """Start to renew a lease that the store granted to a call sent at *asked_at* (monotonic)."""
        lease = HeldLease(
            id=id,
            token=token,
            lease_seconds=lease_seconds,
            safe_until=asked_at + lease_seconds * (1 - MARGIN),
            run_until=asked_at + run_seconds_max,
            clock=self._clock,
            epoch=self._store.epoch,
        )
        self._by_id[id] = lease
        self._beat_seconds = min(self._beat_seconds, lease_seconds / BEATS_PER_LEASE)
        self.keep(lease)
        return lease

    def keep(self, lease: HeldLease) -> None:
        """Renew it again."""
        self._held[lease.token] = lease
        loop, self._idle = self._idle, None
        if loop is not None and self._woken is not None:
            loop.call_soon_threadsafe(self._woken.set)

    def drop(self, lease: HeldLease) -> None:
        """Renew it no more."""
        self._held.pop(lease.token, None)
        if self._by_id.get(lease.id) is lease:
            self._by_id.pop(lease.id, None)

    def on(self, id: str) -> HeldLease | None:
        """The lease that this process holds on an operation; the newest one, and perhaps not alive any more."""
        return self._by_id.get(id)

    def held(self) -> tuple[HeldLease, ...]:
        """The leases that this process holds now."""
        return tuple(self._held.values())

    def start(self) -> None:
        """Start to renew. Idempotent. A memory store lives in the event loop, and so do its renewals: it is not for two
        threads, and while the loop is blocked nobody else can take its leases either.
        """
        if self._store.level is Level.MEMORY:
            if self._task is None:
                self._woken = asyncio.Event()
                self._task = asyncio.get_running_loop().create_task(self._beats(self._woken))
        elif self._thread is None or not self._thread.is_alive():
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="cxguard-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop; what is still held lapses by itself."""
        self._stopping.set()
        if self._task is not None:
            self._task.cancel()
            self._task = self._idle = None
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)
        self._thread = None

    async def renew_once(self) -> int:
        """Renew everything that may be renewed, in one call to the store. Returns how many are still ours.

        Raises:
            StoreError: of some or all nobody knows; those that are known are settled first.
        """
        sent_at = self._clock.monotonic()
        due = [lease for lease in self.held() if lease.alive() and sent_at < lease.run_until]
        renewed, errors = 0, []
        for seconds in {lease.lease_seconds for lease in due}:
            try:
                renewed += await self._renew([lease for lease in due if lease.lease_seconds == seconds], seconds, sent_at=sent_at)
            except StoreError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return renewed

    async def _renew(self, leases: Sequence[HeldLease], seconds: float, *, sent_at: float) -> int:
        unanswered: frozenset[str] = frozenset()
        silence: PartlyRenewed | None = None
        try:
            lost = await self._store.renew({lease.id: lease.token for lease in leases}, lease_seconds=seconds)
        except PartlyRenewed as error:
            silence, lost, unanswered = error, error.lost, error.unanswered
        for lease in leases:
            if lease.id not in unanswered:
                self._settle(lease, lost=lease.id in lost, sent_at=sent_at)
        if silence is not None:
            raise silence
        return len(leases) - len(lost)

    def _settle(self, lease: HeldLease, *, lost: bool, sent_at: float) -> None:
        if not lost:
            lease.renewed(sent_at)
        elif lease.token in self._held:  # not one that was ended while the renewal was on its way
            lease.lost()
            self.drop(lease)
            self._on_lost(lease.id)

    def _run(self) -> None:
        with asyncio.Runner() as runner:  # its end lets a store close what it opened in this loop
            while not self._stopping.wait(self._beat_seconds):
                if self._held:
                    runner.run(self._beat())

    async def _beats(self, woken: asyncio.Event) -> None:
        while True:
            woken.clear()
            self._idle = asyncio.get_running_loop()
            if not self._held:  # looked at after the line above, so that no lease is added unseen
                await woken.wait()
            self._idle = None
            await asyncio.sleep(self._beat_seconds)
            if self._held:
                await self._beat()

    async def _beat(self) -> None:
        try:
            await self.renew_once()
        except StoreError as error:
            _log.warning("lease.not_renewed", why=str(error))
        except Exception:  # noqa: BLE001 - the heartbeat must outlive whatever a store or a listener does
            _log.exception("lease.not_renewed")
