"""Enter, save, end: the store's verbs as the rest of the engine uses them, with leases, lost answers and the timeline."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cxguard.clock import Clock, Leaps
from cxguard.core.decide import Do, Policy, Submit, decide
from cxguard.core.hints import due_topic
from cxguard.core.lost import due_for_second_look
from cxguard.core.money import Note
from cxguard.core.notices import due_for_notice
from cxguard.core.operation import RECORD_VERSION, Entry, Move, Operation, State, appended, changed, ended_at, move, refolded
from cxguard.engine.hints import Hints
from cxguard.engine.leases import HeldLease, Leases
from cxguard.engine.spool import Spool
from cxguard.engine.waiting import Waiting
from cxguard.engine.whereabouts import Whereabouts
from cxguard.errors import LeaseLost, StoreUnavailable
from cxguard.events import Bus, Event
from cxguard.stores.base import Match, Opened, Seen, Store

T = TypeVar("T")

LOOK_AGAIN_SECONDS = 1.0  # whoever presses again sooner hears the same: a gateway's books do not change that fast
ENTER_TURNS_MAX = 12  # looks at one record before we say "in flight": each turn means that somebody else moved it
SEIZING = frozenset({Do.RESCUE, Do.RESOLVE, Do.RERUN, Do.REOPEN, Do.RESUME, Do.REPLACE})


@dataclass(frozen=True, slots=True)
class Terms:
    """How a submit enters: lease times and the rule's policy. Seconds."""

    policy: Policy
    lease_seconds: float
    run_seconds_max: float


@dataclass(frozen=True, slots=True)
class Entered:
    """What was decided for a submit, and the lease when we hold one.

    Attributes:
        claims_before: of a record that was seized: those that it had without the ones of this submit.
    """

    do: Do
    operation: Operation
    lease: HeldLease | None = None
    claim: bool = False
    claims_before: tuple[str, ...] = ()


class Operations:
    """The records of one namespace, as this process works on them."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        leases: Leases,
        bus: Bus,
        *,
        namespace: str,
        holder: str,
        waiting: Waiting,
        hints: Hints,
        spool: Spool | None = None,
        tells: bool = False,
        doubts: Callable[[Operation], bool] = lambda operation: False,
    ) -> None:
        self.store = store
        self.doubts = doubts  # whether a record may be an older copy, of before its store lost its tail
        self.tells = tells  # somebody gives notices to shoppers: records are due in time for them
        self.clock = clock
        self.leaps = Leaps(clock)
        self.leases = leases
        self.bus = bus
        self.namespace = namespace
        self.holder = holder
        self.waiting = waiting
        self.hints = hints
        self.whereabouts = Whereabouts(store, clock, namespace=namespace)
        self.spool = spool

    async def enter(
        self,
        fresh: Operation,
        terms: Terms,
        submit_of: Callable[[Operation], Submit],
        again: Callable[[Operation], Operation],
    ) -> Entered:
        """Open *fresh*, or decide what to do with what is there; seize it when the decision asks for that.

        Args:
            submit_of: how this request compares with the record found.
            again: the record for a confirmed second purchase of the record found.

        Raises:
            StoreUnavailable: nothing is known; nothing may be run.
        """
        first, at_work = self.waiting.begin_to_enter(fresh.id), None
        try:
            entered = await self._enter(fresh, terms, submit_of, again)
            at_work = entered.operation if entered.lease or (entered.do is Do.WAIT and not entered.claim) else None
            return entered
        finally:
            self.waiting.entered(fresh.id, first, at_work)

    async def _enter(
        self,
        fresh: Operation,
        terms: Terms,
        submit_of: Callable[[Operation], Submit],
        again: Callable[[Operation], Operation],
    ) -> Entered:
        await self.whereabouts.check()
        self.leaps.look()
        superseding: tuple[Seen, ...] = ()
        entered = None
        for _ in range(ENTER_TURNS_MAX):
            opened, asked_at = await self._open(fresh, terms, superseding)
            if opened.won:
                self.emit("operation.opened", opened.operation)
                return Entered(Do.RUN, opened.operation, self._hold(opened.operation, terms, asked_at))
            claim = opened.match is Match.CLAIM
            do = self.decide(opened.operation, submit_of, terms, leased=opened.leased, claim=claim)
            if do in SEIZING:
                claims_before = opened.operation.claims
                try:
                    opened, asked_at = await self._seize(opened.operation, fresh, terms, superseding)
                except KeyError:
                    continue  # it was cleared away between the look and the seize: its key is free
                if opened.won:
                    return Entered(do, opened.operation, self._hold(opened.operation, terms, asked_at), claims_before=claims_before)
                if opened.match is not Match.CLAIM and not opened.leased:
                    continue  # it moved between the look and the seize: look again
                claim = opened.match is Match.CLAIM
                do = self.decide(opened.operation, submit_of, terms, leased=opened.leased, claim=claim)
            entered = Entered(do, opened.operation, claim=claim)
            if do is Do.SUPERSEDE:
                superseding = (*superseding, Seen(opened.operation.id, opened.operation.revision))
            elif do is Do.AGAIN:
                superseding = (Seen(opened.operation.id, opened.operation.revision),)
                fresh = again(opened.operation)
            else:
                return entered
        return replace(entered, do=Do.WAIT) if entered else Entered(Do.WAIT, fresh)

    def decide(
        self, operation: Operation, submit_of: Callable[[Operation], Submit], terms: Terms, *, leased: bool, claim: bool = False
    ) -> Do:
        """What to do with a submit, when the store has *operation* for it. See `cxguard.core.decide`."""
        now, doubted = self.clock.now(), claim and self.doubts(operation)
        unleapt = now - self.leaps.seconds_since(ended_at(operation))
        do = decide(operation, submit_of(operation), terms.policy, leased=leased, claim=claim, now=unleapt, doubted=doubted)
        asked_lately = 0 <= now - operation.updated_at < LOOK_AGAIN_SECONDS
        return Do.TELL if do is Do.RESOLVE and asked_lately else do

    async def _open(self, fresh: Operation, terms: Terms, superseding: tuple[Seen, ...]) -> tuple[Opened, float]:
        attempt = secrets.token_hex(8)
        asked_at = self.clock.monotonic()
        opened = await twice(
            lambda: self.store.open(fresh, holder=self.holder, attempt=attempt, lease_seconds=terms.lease_seconds, superseding=superseding)
        )
        return opened, asked_at

    async def _seize(self, seen: Operation, fresh: Operation, terms: Terms, superseding: tuple[Seen, ...]) -> tuple[Opened, float]:
        attempt = secrets.token_hex(8)
        asked_at = self.clock.monotonic()
        opened = await twice(
            lambda: self.store.seize(
                Seen(seen.id, seen.revision),
                holder=self.holder,
                attempt=attempt,
                lease_seconds=terms.lease_seconds,
                claims=fresh.claims,
                superseding=superseding,
            )
        )
        return opened, asked_at

    async def lay(self, fresh: Operation) -> Operation:
        """Put a record down without a lease (an order that is queued at once). Returns what is there."""
        attempt = secrets.token_hex(8)
        opened = await twice(lambda: self.store.open(fresh, holder=self.holder, attempt=attempt, lease_seconds=None))
        self._tell_if_due(opened.operation)
        return opened.operation

    async def seize(self, seen: Operation, *, lease_seconds: float, run_seconds_max: float) -> tuple[Operation, HeldLease] | None:
        """Take the lease of a record as we saw it, or None when it has moved or somebody has it."""
        await self.whereabouts.check()
        terms = Terms(_NO_POLICY, lease_seconds, run_seconds_max)
        try:
            opened, asked_at = await self._seize(seen, changed(seen, claims=()), terms, ())
        except KeyError:
            return None
        return (opened.operation, self._hold(opened.operation, terms, asked_at)) if opened.won else None

    def _hold(self, operation: Operation, terms: Terms, asked_at: float) -> HeldLease:
        if operation.lease is None:
            raise LeaseLost("the store gave no lease")
        return self.adopt(operation, lease_seconds=terms.lease_seconds, run_seconds_max=terms.run_seconds_max, asked_at=asked_at)

    def adopt(self, operation: Operation, *, lease_seconds: float, run_seconds_max: float, asked_at: float) -> HeldLease:
        """Begin to renew a lease that came with *operation* (from `take`, say)."""
        token = operation.lease.token if operation.lease else 0
        lease = self.leases.add(operation.id, token, lease_seconds=lease_seconds, run_seconds_max=run_seconds_max, asked_at=asked_at)
        lease.record = operation
        return lease

    async def write(self, operation: Operation, lease: HeldLease) -> Operation:
        """Save and keep the lease. Returns the record as stored, with every note.

        Raises:
            LeaseLost: somebody else holds it; nothing of this write was kept.
        """
        lease.record = saved = await self._save(operation, lease, keep_lease=True)
        if saved.answer is not None:
            self.waiting.news(operation.id)
        return saved

    async def end(self, operation: Operation, lease: HeldLease) -> Operation:
        """Save and end the lease.

        Raises:
            LeaseLost: somebody else holds it; nothing of this write was kept.
        """
        try:
            saved = await self._save(operation, lease, keep_lease=False)
        finally:
            self.leases.drop(lease)
            self.waiting.ended(operation.id)
        self._tell_if_due(saved)
        return saved

    def _tell_if_due(self, operation: Operation) -> None:
        """Whoever works on the queue need not find out by looking."""
        topic = due_topic(self.namespace, operation.due_at, self.clock.now()) if operation.lease is None else None
        if topic is not None:
            self.hints.tell(topic)

    async def _save(self, operation: Operation, lease: HeldLease, *, keep_lease: bool) -> Operation:
        lease.refuse_child()
        record = self.ready(operation, ends=not keep_lease)
        if not keep_lease:
            await self.facts_first(record, lease)
        try:
            saved = await self.store.save(record, token=lease.token, keep_lease=keep_lease)
        except StoreUnavailable:
            saved = await self._save_again(record, lease, keep_lease=keep_lease)
        except LeaseLost:
            self.emit("lease.lost", operation)
            raise
        return await self.noted_again(saved, record.notes)

    async def facts_first(self, record: Operation, lease: HeldLease) -> None:
        """Where the store has begun another life since, an end that rests on facts which it may have lost is not written before they
        are there again. Whoever dies in between leaves an order that lapses, and is looked into; an end is looked at by nobody.

        Raises:
            StoreUnavailable: nothing was saved.
        """
        lost = lease.epoch != self.store.epoch and record.notes
        there = await self.store.get(record.id) if lost else None
        if there is not None:
            await self.noted_again(there, record.notes)

    async def noted_again(self, saved: Operation, folded: Sequence[Note]) -> Operation:
        """The record with the facts that were folded into it: a store that lost its tail and kept the lease has it without them.

        Raises:
            StoreUnavailable: it was saved, and may be without them.
        """
        there = {note.event_id for note in saved.notes}
        for note in folded:
            if note.event_id not in there:
                saved = await self.note(saved.id, note)
        return saved

    def ready(self, operation: Operation, *, ends: bool) -> Operation:
        """The record as it is saved: folded, and due in time for a notice or a look if its lease *ends* with this save."""
        self.leaps.look()
        now = self.clock.now()
        # in our format from now on, whoever opened it: an older cxguard that runs beside us must not work on what it cannot read
        record = refolded(operation, updated_at=now, version=RECORD_VERSION, deaths=0 if ends else operation.deaths)
        if ends:
            record = due_for_second_look(due_for_notice(record, now=now) if self.tells else record)
        return record

    async def _save_again(self, record: Operation, lease: HeldLease, *, keep_lease: bool) -> Operation:
        """The first answer was lost: the write may have happened. A second refusal is then read against the record."""
        try:
            return await self.store.save(record, token=lease.token, keep_lease=keep_lease)
        except LeaseLost:
            there = await self.store.get(record.id)
            if there is not None and _same_work(there, record):
                return there
            self.emit("lease.lost", record)
            raise

    async def note(self, id: str, note: Note) -> Operation:
        """Append a fact; needs no lease."""
        await self.whereabouts.check(fact=True)
        noted = await twice(lambda: self.store.note(id, note, namespace=self.namespace))
        self._tell_if_due(noted)
        return noted

    async def note_or_spool(self, id: str, note: Note) -> Operation:
        """Append a fact; while the store is away, to the spool, which brings it there. Returns the record that has it now.

        Raises:
            StoreUnavailable: neither took it.
        """
        try:
            return await self.note(id, note)
        except StoreUnavailable:
            if self.spool is None:
                raise
            return await self.spool.note(id, note)

    def entry(self, event: str, **detail: Any) -> Entry:
        """A line for the timeline, stamped with the time and this holder."""
        return Entry(at=self.clock.now(), event=event, by=self.holder, detail=detail)

    def moved(self, operation: Operation, to: Move, event: str, *, detail: dict[str, Any] | None = None, **changes: Any) -> Operation:
        """The record after one legal move, with its line in the timeline. Emits nothing: that follows the save."""
        history = appended(operation.history, self.entry(event, **(detail or {})))
        return move(operation, to, history=history, **changes)

    def emit(self, name: str, operation: Operation, **detail: Any) -> None:
        """Tell the listeners a fact about an operation."""
        self.bus.emit(
            Event(
                name=name,
                at=self.clock.now(),
                operation=operation.id,
                reference=operation.reference,
                rule=operation.rule,
                session=operation.session or "",
                detail=detail,
            )
        )


_NO_POLICY = Policy(double_click_seconds=0, duplicate_window_seconds=0, can_resolve=False)


async def twice(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat once what is the same win when repeated, if the first answer was lost."""
    try:
        return await call()
    except StoreUnavailable:
        return await call()


def _same_work(there: Operation, written: Operation) -> bool:
    """Whether *there* is what we wrote: only our own lost write can have left exactly this.

    The store stamps the time itself; our last line in the timeline has our name and our moment.
    """
    if _last(there) != _last(written):
        return False
    return (there.state, there.generation, there.answer, there.sends, there.steps) == (
        written.state,
        written.generation,
        written.answer,
        written.sends,
        written.steps,
    )


def _last(operation: Operation) -> tuple[float, str, str] | None:
    if not operation.history:
        return None
    entry = operation.history[-1]
    return entry.at, entry.event, entry.by


def ended(operation: Operation) -> bool:
    """Whether nobody works on it and nothing is due by itself."""
    return operation.state in (State.FINISHED, State.CANCELLED)
