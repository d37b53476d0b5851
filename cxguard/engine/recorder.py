"""Folds facts about sessions into the store, in batches, beside the request and never in its way.

`put` only appends to a bounded buffer. When the buffer is full the oldest visits are dropped and counted; what says
that a shopper met an error while paying, or bought, displaces them and is itself never dropped: past a second, far
higher limit it is no longer folded into its session but still counted and told to the listeners.

A batch keeps its id until the store has confirmed it, so that a lost answer counts nothing twice; and a fact that was
folded before changes no session, and so no counter.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cxguard.clock import Clock
from cxguard.core.census import CENSUS_PREFIX, counter_deltas
from cxguard.core.message import Message
from cxguard.core.session import Bought, Exposed, Fact, Reached, Session, Stage, fold
from cxguard.core.session_json import session_from_bytes, session_to_bytes
from cxguard.engine.pausing import pause
from cxguard.errors import StoreError
from cxguard.events import Bus, Event
from cxguard.stores.base import SessionBatch, SessionRow, Store

BATCH_FACTS_MAX = 500  # one commit of at most some megabytes
CONFLICTS_MAX = 5  # other processes wrote the same sessions meanwhile; after that the next round tries again
FAULTS_MAX = 3  # a batch that fails for another reason than the store is given up then, or nothing else would be written
KEPT_MAX = 100_000  # money-step errors and purchases while the store is away: half an hour at 50 a second, about 100 MB
COUNTERS_MAX = 1_000  # different names that `count` may use between two flushes
TEXTS_MAX = 500  # different texts of the shop's own in one process; beyond that a text is no message but data
OTHER_TEXT = "(other messages)"
FLUSH_SECONDS_MAX = 30.0  # between two tries while the store is away
STOP_SECONDS = 5.0  # servers give a process some ten seconds to end


@dataclass(frozen=True, slots=True)
class Flushed:
    """What one round did. `waiting` facts are still in the buffer or in an unconfirmed batch; *why* says why."""

    facts: int = 0
    sessions: int = 0
    exposures: int = 0
    waiting: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A batch that the store has not confirmed."""

    id: str
    facts: Mapping[str, list[Fact]] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(len(facts) for facts in self.facts.values())


class Recorder:
    """One per guard. `put` and `count` from anywhere, any thread; the rest on one event loop between `start` and `stop`.

    Args:
        namespace: keeps shops that share a store apart; in front of each session's and counter's name.
        bus: hears `exposure.recorded` once for each exposure that is safely written, and `session.dropped`.
        buffer_max: facts that may wait; 10,000 are some megabytes, and 20 s of a busy shop.
        flush_seconds: how long a fact waits at most while the store answers.

    Attributes:
        dropped: how many facts were lost, since the start.
    """

    def __init__(
        self, store: Store, clock: Clock, *, namespace: str, bus: Bus | None = None, buffer_max: int = 10_000, flush_seconds: float = 0.5
    ) -> None:
        self._store = store
        self._clock = clock
        self._namespace = namespace
        self._bus = bus if bus is not None else Bus()
        self._buffer_max = buffer_max
        self._flush_seconds = flush_seconds
        self._guard = threading.Lock()  # held for a few appends: handlers may run in threads
        self._visits: deque[Fact] = deque()
        self._kept: deque[Fact] = deque()
        self._counts: dict[str, float] = {}
        self._texts: set[str] = set()
        self._pending: _Pending | None = None
        self._faults = 0
        self._flushing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.dropped = 0
        self._dropped_told = 0

    def put(self, fact: Fact) -> None:
        """Remember a fact. Never blocks, never raises, does no I/O."""
        if not isinstance(fact, Reached | Exposed | Bought):
            self.dropped += 1
            return
        with self._guard:
            if isinstance(fact, Exposed):
                fact = self._with_known_text(fact)
            spilled = not self._buffered(fact)
        if spilled and isinstance(fact, Exposed):
            self._bus.emit(exposure_event(fact))

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a counter of the store with the next flush, for instance `would.duplicates`. Never raises."""
        with self._guard:
            self._count(name, amount)

    @property
    def waiting(self) -> int:
        """Facts that the store has not confirmed."""
        return len(self._visits) + len(self._kept) + (self._pending.size if self._pending is not None else 0)

    async def flush_once(self) -> Flushed:
        """Write one batch, if there is anything to write. While the store is away everything stays as it is."""
        async with self._flushing:
            self._pending = self._pending or self._next()
            if self._pending is None:
                return Flushed()
            try:
                return await self._write(self._pending)
            except StoreError as error:
                return Flushed(waiting=self.waiting, why=type(error).__name__)
            except Exception as error:  # noqa: BLE001  whatever it is: what comes after this batch must still be written
                return self._faulted(type(error).__name__)

    def start(self) -> None:
        """Begin to flush by itself on the running event loop; the same again after a `stop`. Idempotent."""
        if self._running is None:
            self._flushing, self._stopping = asyncio.Lock(), asyncio.Event()  # they belong to one loop
            self._running = asyncio.create_task(self.run(), name="cxguard recorder")

    async def run(self) -> None:
        """Flush again and again until `stop`; ever more rarely while the store is away."""
        seconds = self._flush_seconds
        while not self._stopping.is_set():
            flushed = await self.flush_once()
            if flushed.why:
                seconds = min(max(seconds, self._flush_seconds) * 2, FLUSH_SECONDS_MAX)
            else:
                seconds = 0 if self.waiting >= BATCH_FACTS_MAX else self._flush_seconds
            await pause(self._stopping, seconds=seconds)

    async def stop(self) -> Flushed:
        """End `run`, and write what waits, for at most `STOP_SECONDS`. What the store does not take then is told and counted."""
        self._stopping.set()
        flushed = Flushed()
        running, self._running = self._running, None
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if running is not None:
                    await running  # ends after the flush that it is in; the time-out cancels it
                while (self.waiting or self._counts) and not flushed.why:
                    flushed = await self.flush_once()
        except TimeoutError:
            flushed = Flushed(why="timeout")
        with self._guard:
            left = [*self._kept, *self._visits]
            self._kept.clear()
            self._visits.clear()
        self._give_up([*self._pending_facts(), *left], flushed.why)
        return replace(flushed, waiting=self.waiting)

    # the buffer: under the lock

    def _buffered(self, fact: Fact) -> bool:
        """Append, or make room, or count what is lost. False: it is counted but will not be folded."""
        keep = _must_stay(fact)
        if keep and len(self._kept) >= max(KEPT_MAX, self._buffer_max):
            self._count(f"{CENSUS_PREFIX}unfolded/{_subject(fact)}", 1)
            return False
        if len(self._visits) + len(self._kept) >= self._buffer_max:
            if self._visits:
                self._visits.popleft()
                self.dropped += 1
            elif not keep:
                self.dropped += 1
                return True
        (self._kept if keep else self._visits).append(fact)
        return True

    def _count(self, name: str, amount: float) -> None:
        if name in self._counts or len(self._counts) < COUNTERS_MAX:
            self._counts[name] = self._counts.get(name, 0) + amount

    def _with_known_text(self, fact: Exposed) -> Exposed:
        """The shop's own texts are bounded in number, too: past that, all new ones are one message."""
        text = fact.message.text
        if not text or text in self._texts:
            return fact
        if len(self._texts) >= TEXTS_MAX:
            return replace(fact, message=Message(text=OTHER_TEXT))
        self._texts.add(text)
        return fact

    def _next(self) -> _Pending | None:
        """The next batch: what must stay first, then the oldest visits, and all counts."""
        with self._guard:
            taken = [self._take() for _ in range(min(BATCH_FACTS_MAX, len(self._kept) + len(self._visits)))]
            counts, self._counts = self._counts, {}
            lost = self.dropped - self._dropped_told
            self._dropped_told = self.dropped
        if lost:
            counts["session.dropped"] = counts.get("session.dropped", 0) + lost
            self._tell_dropped(lost, "buffer full")
        if not taken and not counts:
            return None
        facts: dict[str, list[Fact]] = {}
        for fact in taken:
            facts.setdefault(fact.session, []).append(fact)
        return _Pending(id=secrets.token_hex(16), facts=facts, counters=counts)

    def _take(self) -> Fact:
        return self._kept.popleft() if self._kept else self._visits.popleft()

    # the batch

    async def _write(self, pending: _Pending) -> Flushed:
        for _ in range(CONFLICTS_MAX):
            if await self._store.record(await self._folded(pending)):
                return self._confirmed(pending)
        return Flushed(waiting=self.waiting, why="conflict")

    async def _folded(self, pending: _Pending) -> SessionBatch:
        """Load the batch's sessions and fold its facts into them."""
        names = {row_id(self._namespace, session): session for session in pending.facts}
        rows = await self._store.sessions(tuple(names)) if names else {}
        counters = dict(pending.counters)
        written = []
        for name, session in names.items():
            row = rows.get(name)
            before = _session_of(row, session)
            after = fold(before, pending.facts[session])
            if after != before:
                revision = row.revision if row is not None else 0
                written.append(SessionRow(id=name, revision=revision, body=session_to_bytes(after), updated_at=self._clock.now()))
            for counter, amount in counter_deltas(before, after).items():
                counters[counter] = counters.get(counter, 0) + amount
        scoped = {counter_name(self._namespace, counter): amount for counter, amount in counters.items()}
        return SessionBatch(id=pending.id, rows=tuple(written), counters=scoped)

    def _confirmed(self, pending: _Pending) -> Flushed:
        self._pending, self._faults = None, 0
        exposures = {fact.id: fact for facts in pending.facts.values() for fact in facts if isinstance(fact, Exposed)}
        for fact in exposures.values():
            self._bus.emit(exposure_event(fact))
        return Flushed(facts=pending.size, sessions=len(pending.facts), exposures=len(exposures), waiting=self.waiting)

    def _faulted(self, why: str) -> Flushed:
        """Not the store: our own mistake, or the store's. Give the batch up after a few tries, and say so."""
        self._faults += 1
        self._bus.emit(Event("duty.failed", self._clock.now(), detail={"duty": "recorder", "why": why}))
        if self._faults >= FAULTS_MAX:
            self._give_up(self._pending_facts(), why)
        return Flushed(waiting=self.waiting, why=why)

    def _pending_facts(self) -> list[Fact]:
        return [fact for facts in self._pending.facts.values() for fact in facts] if self._pending is not None else []

    def _give_up(self, facts: list[Fact], why: str) -> None:
        """These facts will not be folded. Each exposure among them is still told, so that it is at least in the log."""
        self._pending, self._faults = None, 0
        if facts:
            self.dropped += len(facts)
            self._dropped_told += len(facts)
            self.count("session.dropped", len(facts))
            self._tell_dropped(len(facts), why)
        for fact in facts:
            if isinstance(fact, Exposed):
                self._bus.emit(exposure_event(fact))

    def _tell_dropped(self, lost: int, why: str) -> None:
        self._bus.emit(Event("session.dropped", self._clock.now(), detail={"count": lost, "why": why}))


def row_id(namespace: str, session: str) -> str:
    """The store's name of a session."""
    return f"{namespace}:{session}"


def counter_name(namespace: str, name: str) -> str:
    """The store's name of a counter; also of the beginning of one."""
    return f"{namespace}:{name}"


async def load_session(store: Store, session: str, *, namespace: str) -> Session | None:
    """One visit as it is known now, or None."""
    name = row_id(namespace, session)
    return _session_of((await store.sessions((name,))).get(name), session)


def exposure_event(fact: Exposed) -> Event:
    """The one line that the log gets for an exposure."""
    basket = fact.basket
    detail = {
        "stage": str(fact.stage),
        "message": fact.message.key,
        "version": fact.message.version,
        "text": fact.message.text,
        "cause": str(fact.cause),
        "by": str(fact.by),
        "status": fact.status,
        "field_name": fact.field_name,
        "basket_minor": basket.amount_minor if basket is not None else None,
        "currency": basket.currency if basket is not None else "",
        "items": basket.items if basket is not None else None,
        "market": fact.market,
        "language": fact.language,
        "device": fact.device,
    }
    return Event("exposure.recorded", fact.at, reference=fact.reference, session=fact.session, detail=detail)


def _session_of(row: SessionRow | None, session: str) -> Session | None:
    """An unreadable row is begun anew: a session is worth less than the recorder's going on."""
    try:
        found = session_from_bytes(row.body) if row is not None else None
    except ValueError:
        return None
    return found if found is not None and found.id == session else None


def _must_stay(fact: Fact) -> bool:
    """An error at the money step is why the record exists; a purchase that is forgotten would look like a loss."""
    return isinstance(fact, Bought) or (isinstance(fact, Exposed) and fact.stage is Stage.PAY)


def _subject(fact: Fact) -> str:
    return "bought" if isinstance(fact, Bought) else f"{fact.stage}"
