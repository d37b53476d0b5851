"""Move a shop's operations from one store to another: `cxguard migrate-store`.

    mark the source as moving      its processes notice, and begin nothing any more
    mark the target                no process begins anything there, before all have arrived: what is missing would look new
    tell it of a failover          what the source has lost, or has an older copy of, may be paid
    for each record:               lease it, freeze it there, put it whole into the target; see `core.relocation`
    mark the source as moved       no process starts on it again
    once more over all of it       for facts that came while the mark was not noticed yet
    take the target's mark away    the shop may start there

Each step may be repeated, and each may be the last one before the process is killed: running it again goes on from there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cxguard.core.operation import RECORD_VERSION, Operation, State
from cxguard.core.relocation import (
    CLAIMED_THERE,
    CLOCK_SECONDS,
    Relocation,
    Stage,
    came_from,
    difference,
    frozen,
    held_beside,
    is_frozen,
    joined,
    thawed,
    without_claim,
)
from cxguard.engine.epochs import carry_doubt
from cxguard.engine.operations import twice
from cxguard.engine.whereabouts import marker_key, relocation_of
from cxguard.errors import ConfigurationError, LeaseLost, StoreUnavailable
from cxguard.stores.base import PAGE_MAX, Level, Match, Opened, Query, Seen, Store, gathers

AT_ONCE = 32  # records under way: what makes a store's batches worth their round trip
LEASE_SECONDS = 30.0  # from the lease to the freeze; a killed move gives the record back after it
PASSES_MAX = 1_000  # over the whole source, a pause between two
PASS_SECONDS = 1.0
CLAIMS_MAX = 16  # holders that give a claim up for one record: it has two


class Became(StrEnum):
    """What became of one record in one pass."""

    MOVED = "moved"  # put into the target now
    THERE = "there"  # by an earlier pass
    BUSY = "busy"  # somebody has it in hand, or it has changed: the next pass
    NEWER = "newer"  # written by a newer cxguard, or not readable: left
    CONFLICT = "conflict"  # the target has another record of this name: frozen, and a person's


UNFINISHED = frozenset({Became.BUSY})
LEFT = frozenset({Became.BUSY, Became.NEWER, Became.CONFLICT})
MISSING = frozenset({Became.BUSY, Became.NEWER})  # the target has nothing of that name: sent again there, it would look new


@dataclass(slots=True)
class Moved:
    """What a move has come to.

    Attributes:
        counts: records by what became of them in the last pass; what was moved, over all passes.
        states: what was moved, by state.
        left: references that are not in the target, with why.
        notes: facts that were carried after their record.
        beside: references that wait for a person now, because the target has another order of the same purchase.
    """

    counts: Counter[Became] = field(default_factory=Counter)
    states: Counter[State] = field(default_factory=Counter)
    left: dict[str, Became] = field(default_factory=dict)
    notes: int = 0
    beside: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every record of the source is in the target."""
        return not self.left


Tell = Callable[[Moved], None]


class Relocator:
    """Moves one namespace from *source* to *target*, both started.

    Args:
        origin: the source's address, without a password: what the target says to whoever starts on it too early.
        to: the target's: what the source says to whoever starts on it again.
        notice_seconds: how long processes of the shop take to notice the mark; 0 when it is stopped.
        patience_seconds: how long to wait for what somebody has in hand.
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        *,
        namespace: str,
        origin: str,
        to: str,
        notice_seconds: float,
        patience_seconds: float,
        tell: Tell = lambda moved: None,
    ) -> None:
        self._source = source
        self._target = target
        self._namespace = namespace
        self._origin = origin
        self._to = to
        self._notice_seconds = notice_seconds
        self._passes_max = min(PASSES_MAX, 1 + round(patience_seconds / PASS_SECONDS))
        self._tell = tell
        self._holder = f"migrate-store:{secrets.token_hex(4)}"
        self._later_seconds = 0.0
        self._move = ""  # its id
        self._arrived: dict[str, int] = {}  # by this run: how many notes came along

    async def run(self) -> Moved:
        """Move everything. What could not be moved is in the result; running it again goes on.

        Raises:
            ConfigurationError: it must not be moved like this.
            StoreUnavailable: a store did not answer: run it again.
        """
        await self._check()
        moved = Moved()
        mark = await self._mark(Stage.MOVING)
        self._move = mark.id
        if mark.stage is Stage.MOVING:  # one that was moved before is in use there
            await self._expect(Relocation(Stage.ARRIVING, self._origin, mark.id))
        await carry_doubt(self._source, self._target, namespace=self._namespace)
        await asyncio.sleep(self._notice_seconds)  # also after a move that was killed: its mark may be as new
        for number in range(self._passes_max):
            await self._pass(moved)
            if not UNFINISHED & set(moved.left.values()):
                break
            if number + 1 < self._passes_max:
                await asyncio.sleep(PASS_SECONDS)
        if moved.complete:
            await self._mark(Stage.MOVED)
            await asyncio.sleep(self._notice_seconds)
            await self._pass(moved)
        if not MISSING & set(moved.left.values()):
            await self._expect(None)
        return moved

    async def _check(self) -> None:
        if self._source.epoch == self._target.epoch:
            raise ConfigurationError("both addresses name the same store: name the one to move to")
        if gathers(self._source) is not gathers(self._target):
            raise ConfigurationError(
                "the two stores name orders differently, and an order that is sent again would be a stranger there: a Redis of one "
                "partition names them as SQLite and PostgreSQL do: write ?partitions=1 behind its address"
            )
        if self._source.level is Level.BEST_EFFORT and self._notice_seconds > 0:
            raise ConfigurationError("a failover of the old store could forget the move: stop the shop, and say --stopped")
        await self._check_target(await relocation_of(self._target, namespace=self._namespace))
        self._later_seconds = await clocks_apart(self._source, self._target)

    async def _check_target(self, known: Relocation | None) -> None:
        mine = await relocation_of(self._source, namespace=self._namespace)
        if known is not None and known.stage is not Stage.ARRIVING:
            raise ConfigurationError("the orders of the store to move to were moved away before: name a fresh one")
        if known is not None and (mine is None or mine.id != known.id):
            raise ConfigurationError(f"the orders of {known.to} are still on their way into the store to move to: end that move first")

    async def _expect(self, mark: Relocation | None) -> None:
        """Say in the target that orders are on their way; None: all have arrived."""
        key = marker_key(self._namespace)
        while True:
            there = await self._target.load(key)
            known = Relocation.from_bytes(there.value)
            if known == mark or (known is not None and known.id != self._move):
                return
            await self._target.swap(key, revision=there.revision, value=mark.to_bytes() if mark is not None else b"")

    async def _mark(self, stage: Stage) -> Relocation:
        """Write the mark into the source, unless it stands there; a completed move stays so. What stands there then."""
        key = marker_key(self._namespace)
        while True:
            there = await self._source.load(key)
            known = Relocation.from_bytes(there.value)
            if known is not None and known.to != self._to:
                raise ConfigurationError(f"the orders of this store go to {known.to}: run it with that address again")
            if known is not None and (known.stage is stage or known.stage is Stage.MOVED):
                return known
            mark = Relocation(stage, self._to, known.id if known is not None else secrets.token_hex(8))
            await self._source.swap(key, revision=there.revision, value=mark.to_bytes())  # then read what stands there

    async def _pass(self, moved: Moved) -> None:
        """Every record once."""
        counts, left = Counter({Became.MOVED: moved.counts[Became.MOVED]}), {}
        async for page in pages_of(self._source, namespace=self._namespace):
            for start in range(0, len(page), AT_ONCE):
                some = page[start : start + AT_ONCE]
                ends = await asyncio.gather(*(self._bring(each, moved) for each in some))
                for operation, became in zip(some, ends, strict=True):
                    counts[became] += 1
                    if became in LEFT:
                        left[operation.reference or operation.id] = became
            moved.counts, moved.left = counts, dict(left)
            self._tell(moved)
        moved.counts, moved.left = counts, left

    async def _bring(self, seen: Operation, moved: Moved) -> Became:
        if is_frozen(seen):
            if self._arrived.get(seen.id) == len(seen.notes):
                return Became.THERE
            return await self._arrive(seen, moved)
        if seen.version > RECORD_VERSION:
            return Became.NEWER
        kept = await self._freeze(seen)
        return Became.BUSY if kept is None else await self._arrive(kept, moved)

    async def _freeze(self, seen: Operation) -> Operation | None:
        """Take it from everybody, for ever. None: somebody has it, or it has changed."""
        attempt = secrets.token_hex(8)
        try:
            opened = await twice(
                lambda: self._source.seize(Seen(seen.id, seen.revision), holder=self._holder, attempt=attempt, lease_seconds=LEASE_SECONDS)
            )
        except KeyError:
            return None  # it was released a moment ago: there is nothing to move
        lease = opened.operation.lease
        if not opened.won or lease is None:
            return None
        cold = frozen(opened.operation, seen=seen, move=self._move)
        try:
            return await self._source.save(cold, token=lease.token, keep_lease=False)
        except LeaseLost:
            return None
        except StoreUnavailable:
            there = await self._source.get(seen.id)
            return there if there is not None and is_frozen(there) else None

    async def _arrive(self, cold: Operation, moved: Moved) -> Became:
        """Put the frozen record into the target, unless it is there."""
        whole = thawed(cold, later_seconds=self._later_seconds)
        put = await self._put(whole)
        if put.won:
            moved.states[whole.state] += 1
            moved.beside += [whole.reference] if put.operation.why == CLAIMED_THERE else []
            became = Became.MOVED
        elif put.match is Match.ID and came_from(put.operation) == came_from(whole):
            moved.notes += await self._carry_notes(whole, put.operation)
            became = Became.THERE
        else:
            return Became.CONFLICT
        self._arrived[cold.id] = len(cold.notes)
        return became

    async def _put(self, whole: Operation) -> Opened:
        """Put it, past a stub that a fact has made there, and past claims that it has taken from others since they moved.

        One that is over gives way where a newer order of the target has its claim: its answer and its money come along. One
        that is not over does so, too, and waits for a person there.
        """
        record, replacing, superseding = whole, None, []
        put = await self._target.put(record)
        for _ in range(CLAIMS_MAX):
            if put.won:
                break
            if put.match is Match.CLAIM and await self._gave_up(put.claim, put.operation, move=came_from(whole)):
                superseding.append(Seen(put.operation.id, put.operation.revision))
            elif put.match is Match.CLAIM:
                record = without_claim(record, put.claim) or held_beside(record, put.claim, now=await self._target.clock())
            elif put.match is Match.ID and not put.operation.owner and not came_from(put.operation):
                record, replacing = joined(put.operation, whole), Seen(put.operation.id, put.operation.revision)
            else:
                break
            put = await self._target.put(record, replacing=replacing, superseding=superseding)
        return put

    async def _gave_up(self, claim: str, holder: Operation, *, move: str) -> bool:
        """Whether the target's holder came from here, and has lost the claim here since."""
        there = await self._source.get(holder.id) if came_from(holder) == move else None
        return there is not None and claim not in there.claims

    async def _carry_notes(self, whole: Operation, there: Operation) -> int:
        """Facts that reached the frozen record after it had moved."""
        known = {note.event_id for note in there.notes}
        late = [note for note in whole.notes if note.event_id not in known]
        for note in late:
            await twice(lambda: self._target.note(whole.id, note, namespace=whole.namespace))  # noqa: B023 - awaited at once
        return len(late)


async def pages_of(store: Store, *, namespace: str, states: tuple[State, ...] | None = None) -> AsyncIterator[Sequence[Operation]]:
    """Every record of a namespace, or of some *states*, page by page, the newest first."""
    after: str | None = None
    while True:
        page = await store.search(Query(namespace, states=states, after=after, limit=PAGE_MAX))
        if page.operations:
            yield page.operations
        if page.cursor is None:
            return
        after = page.cursor


async def verify(source: Store, target: Store, *, namespace: str) -> dict[str, str]:
    """Compare both stores, record by record: references with what is wrong. Empty: every order can act in one place only."""
    wrong: dict[str, str] = {}
    later = await clocks_apart(source, target)
    async for page in pages_of(source, namespace=namespace):
        for cold in page:
            name = cold.reference or cold.id
            if not is_frozen(cold):
                wrong[name] = "is still free in the old store"
                continue
            apart = difference(thawed(cold, later_seconds=later), await target.get(cold.id))
            if apart:
                wrong[name] = apart
    return wrong


async def clocks_apart(source: Store, target: Store) -> float:
    """By how much the target's clock is ahead; what is within `CLOCK_SECONDS` is none."""
    apart = await target.clock() - await source.clock()
    return apart if abs(apart) > CLOCK_SECONDS else 0.0
