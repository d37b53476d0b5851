"""Wait for somebody else's operation: one looks for all who wait for it in this process, and less often while hints come.

What this process works on itself it need not look at: whoever ends it here says so. For what another process works on, that
one is told by a hint that somebody waits, and answers by a hint when there is news. Hints may be lost, so it is looked at now
and then all the same. What is told to a shopper comes from the store, read after they came: never from what is remembered here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, field

from cxguard.clock import Clock
from cxguard.core.hints import about, awaited_topic, news_topic
from cxguard.core.operation import Operation
from cxguard.engine.hints import Hints
from cxguard.engine.leases import Leases
from cxguard.stores.base import EVERYTHING, Store

LOOK_SECONDS = 0.25  # how often a record that another process holds is looked at
HINTED_LOOK_SECONDS = 1.0  # the same while hints are known to come
LOOKS_PER_SECOND_MAX = 400  # of all records that are waited for: a thousand of them must not be four thousand reads a second
WAITERS_MAX = 10_000  # duplicates that may wait at once; more are told "in flight" at once
AWAITED_MAX = 10_000  # operations in hand here that others are known to wait for
LATELY_MAX = 1_000  # operations that ended here last: who begins to wait now may have come too late to be told
LATELY_SECONDS = 5.0
LAPSE_SECONDS = 0.02  # between two looks at a lease that lapses at this moment, at least


@dataclass(slots=True, eq=False)
class _Watch:
    """All in one loop who wait for one record under one lease.

    Attributes:
        came: somebody has come since the last read was sent: what it says is not for them.
        task: ends with what was read when the record was no longer as it was seen.
    """

    loop: asyncio.AbstractEventLoop
    token: int
    waiters: int = 0
    came: bool = True
    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[Operation | None] = field(init=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What a record was read as, when it was no longer as it was seen. None: it is gone."""

    operation: Operation | None


class Waiting:
    """Who waits for which operation, in this process.

    Args:
        leases: what this process works on.
    """

    def __init__(self, clock: Clock, leases: Leases, hints: Hints) -> None:
        self._clock = clock
        self._leases = leases
        self._hints = hints
        self._watches: dict[str, list[_Watch]] = {}
        self._entering: dict[str, asyncio.Future[Operation | None]] = {}
        self._count = 0
        self._awaited: set[str] = set()
        self._lately: OrderedDict[str, float] = OrderedDict()  # monotonic
        hints.listen(self._hear)

    def ended(self, id: str) -> None:
        """This process has given its lease of *id* back: tell everybody who waits."""
        self.news(id)
        self._awaited.discard(id)
        self._lately[id] = self._clock.monotonic()
        if len(self._lately) > LATELY_MAX:
            self._lately.popitem(last=False)

    def news(self, id: str) -> None:
        """*id*, which this process works on, is worth a look to everybody who waits."""
        self._look_at(id)
        if id in self._awaited:
            self._hints.tell(news_topic(id))

    # --- who comes first asks for all

    def begin_to_enter(self, id: str) -> asyncio.Future[Operation | None] | None:
        """Be the one of this process who asks the store about *id*; None: somebody does already. See `entered`."""
        if id in self._entering:
            return None
        first = self._entering[id] = asyncio.get_running_loop().create_future()
        return first

    def entered(self, id: str, first: asyncio.Future[Operation | None] | None, at_work: Operation | None) -> None:
        """Say what was found: the record that somebody is at work on, or None."""
        if first is not None:
            del self._entering[id]
            first.set_result(at_work)

    async def at_work(self, id: str, *, seconds: float) -> Operation | None:
        """The record as it is remembered here, if somebody is surely at work on it: this process under a live lease, or
        whoever it was that the store has named to those of this process who have asked it at this moment."""
        first = self._entering.get(id)
        found = None
        if first is not None and first.get_loop() is asyncio.get_running_loop():
            done, _ = await asyncio.wait({first}, timeout=seconds)
            found = first.result() if done else None
        held = self._leases.on(id)
        return held.record if held is not None and held.alive() else found

    # --- waiting

    async def for_change(self, store: Store, seen: Operation, *, seconds: float) -> Change | None:
        """Wait until the record is no longer held as it was *seen*, or its answer has gone out.

        Returns:
            What was read then. None: the time is over, or too many wait already.

        Raises:
            StoreUnavailable: it could not be read.
        """
        if self._count >= WAITERS_MAX:
            return None
        watch = self._watch(store, seen)
        watch.waiters, watch.came, self._count = watch.waiters + 1, True, self._count + 1
        try:
            async with asyncio.timeout(seconds):
                return Change(await asyncio.shield(watch.task))
        except TimeoutError:
            return None
        finally:
            watch.waiters, self._count = watch.waiters - 1, self._count - 1
            if not watch.waiters:
                watch.task.cancel()
                self._forget(seen.id, watch)

    @property
    def look_seconds(self) -> float:
        """Between two looks at one record: longer, the more are waited for."""
        return max(HINTED_LOOK_SECONDS if self._hints.come else LOOK_SECONDS, len(self._watches) / LOOKS_PER_SECOND_MAX)

    def _watch(self, store: Store, seen: Operation) -> _Watch:
        """The one for this record, which others may have begun."""
        loop, token = asyncio.get_running_loop(), seen.lease.token if seen.lease is not None else 0
        watches = self._watches.setdefault(seen.id, [])
        for watch in watches:
            if watch.loop is loop and watch.token == token and not watch.task.done():
                return watch
        watch = _Watch(loop, token)
        watch.task = loop.create_task(self._changed(store, seen, watch), name="cxguard-waiting")
        watch.task.add_done_callback(_heard)
        watches.append(watch)
        return watch

    async def _changed(self, store: Store, seen: Operation, watch: _Watch) -> Operation | None:
        if not self._is_ours(seen):
            self._hints.tell(awaited_topic(seen.id))
            if self._hints.come or self._left(seen) <= 0:  # the store has said a moment ago that it is held
                await _pause(watch, min(self.look_seconds, max(self._left(seen), LOOK_SECONDS)))
        while True:
            while self._is_ours(seen) and not await _pause(watch, LOOK_SECONDS):
                pass  # nobody else can end it, and who does it here says so
            watch.came = False
            there = await store.get(seen.id)
            if there is None or _moved_on(there, seen) or self._left(there) <= 0:
                if not watch.came:
                    return there
            else:
                await _pause(watch, min(self.look_seconds, max(self._left(there), LAPSE_SECONDS)))

    def _is_ours(self, seen: Operation) -> bool:
        """Whether this process works on it, under that very lease."""
        held = self._leases.on(seen.id)
        return held is not None and seen.lease is not None and held.token == seen.lease.token and held.alive()

    def _left(self, there: Operation) -> float:
        """Seconds until its lease lapses, as far as our clock can say: the store, asked again, knows."""
        return there.lease.until - self._clock.now() if there.lease is not None else 0.0

    def _forget(self, id: str, watch: _Watch) -> None:
        watches = self._watches.get(id, [])
        if watch in watches:
            watches.remove(watch)
        if not watches:
            self._watches.pop(id, None)

    # --- hints

    def _hear(self, topic: str) -> None:
        if topic == EVERYTHING:
            for id in tuple(self._watches):
                self._look_at(id)
            return
        ended, awaited = about(topic, "news"), about(topic, "awaited")
        if ended is not None:
            self._look_at(ended)
        elif awaited is not None:
            self._be_awaited(awaited)

    def _be_awaited(self, id: str) -> None:
        """Somebody elsewhere waits for *id*: if it is in hand here, they are told its end; at once, if that was a moment ago."""
        if self._leases.on(id) is not None:
            if len(self._awaited) >= AWAITED_MAX:
                self._awaited = {each for each in self._awaited if self._leases.on(each) is not None}
            if len(self._awaited) < AWAITED_MAX:
                self._awaited.add(id)
        elif self._clock.monotonic() - self._lately.get(id, float("-inf")) <= LATELY_SECONDS:
            self._hints.tell(news_topic(id))

    def _look_at(self, id: str) -> None:
        for watch in tuple(self._watches.get(id, ())):
            with contextlib.suppress(RuntimeError):  # its loop is closed
                watch.loop.call_soon_threadsafe(watch.news.set)


def _moved_on(there: Operation, seen: Operation) -> bool:
    """Its lease ended or went to another, or its answer has gone out while work goes on."""
    mine, other = seen.lease, there.lease
    if other is None or mine is None or other.token != mine.token:
        return True
    return there.answer is not None and there.answer != seen.answer  # that of the life before may be there


async def _pause(watch: _Watch, seconds: float) -> bool:
    """Wait so long, or until there is news; whether there was."""
    try:
        async with asyncio.timeout(seconds):
            await watch.news.wait()
    except TimeoutError:
        return False
    watch.news.clear()
    return True


def _heard(task: asyncio.Task[Operation | None]) -> None:
    """An error that nobody waited for any more is nobody's."""
    if not task.cancelled():
        task.exception()
