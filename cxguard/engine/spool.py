"""The spool: the journal of one machine that stands in while the shared store is away.

It is an SQLite store of its own (`cxguard.stores.sqlite`): on the disk before it is told, shared by the processes of the
machine, fork-safe, its contents sealed as in the store. An order in it is a queued record; a fact that could not be noted
in the store is a note, on the order or on a stub of that id. Nothing is ever charged from here: `engine.forwarding`
brings everything to the store, and what is forwarded is erased.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cxguard.clock import Clock
from cxguard.config import Secrets
from cxguard.core.decide import Policy, Submit
from cxguard.core.money import Note
from cxguard.core.operation import Operation, State, changed
from cxguard.core.spooling import Lay, lay_over, relaid
from cxguard.engine.secrets import check_key, confirm_secrets
from cxguard.errors import ConfigurationError, LeaseLost, NotADatabase, SpoolFull, StoreDamaged, StoreError, StoreUnavailable
from cxguard.logs import get_logger
from cxguard.stores.base import PAGE_MAX, Match, Query, Seen, Store
from cxguard.stores.sqlite import SQLiteStore
from cxguard.stores.sqlite.aside import Identity, identity, lock_of, set_aside
from cxguard.stores.sqlite.salvage import salvage

_log = get_logger("spool")

FREE_BYTES_MIN = 64 * 1024 * 1024  # of the disk: the shop's own files need some, too
LEASE_SECONDS = 30.0  # of an item that is being forwarded by a process that died
PAUSE_SECONDS_MAX = 120.0  # the longest that one waits until it is looked at again: facts without their order
AT_ONCE = 100  # records of a damaged file that are taken over with one commit, or a few
TURNS_MAX = 4  # tries to put one submit in the place of another


class Journal(Store, Protocol):
    """What a spool is kept in."""

    async def used_bytes(self) -> int:
        """What it takes of the disk."""
        ...


@dataclass(frozen=True, slots=True)
class Laid:
    """What became of one submit: the record in the spool that speaks for it."""

    lay: Lay
    operation: Operation


@dataclass(frozen=True, slots=True)
class SpoolFigures:
    """What waits in the spool. `oldest_at` is wall clock, None when it is empty."""

    orders: int
    facts: int
    oldest_at: float | None
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that was damaged and has given its place to a new one.

    Attributes:
        path: where it lies now.
        taken_over: how many orders and facts could be read of it, and are in the new one.
    """

    path: Path
    taken_over: int


class Spool:
    """The spool of one namespace.

    Args:
        path: the file; made on first use, readable by this user only. On a disk that outlives the process and its container.
        items_max, bytes_max, free_bytes_min: beyond these nothing new is taken in: the shopper hears "not charged, not kept".
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock,
        namespace: str,
        holder: str,
        items_max: int,
        bytes_max: int,
        free_bytes_min: int = FREE_BYTES_MIN,
    ) -> None:
        self.path = Path(path).absolute()
        self.namespace = namespace
        self._journal: Journal = SQLiteStore(self.path, clock=clock, free_bytes_min=free_bytes_min)
        self._clock = clock
        self._holder = holder
        self._items_max = items_max
        self._bytes_max = bytes_max
        self.open = False

    @property
    def store(self) -> Store:
        """The journal itself, to look into."""
        return self._journal

    def use(self, journal: Journal) -> None:
        """Keep everything in *journal* instead of the file: before the start, for a test that brings its own disk."""
        self._journal = journal

    async def start(self, names: Secrets) -> Aside | None:
        """Open it. A disk that is full or does not answer leaves it closed: then there is none until the next start.

        Returns:
            What became of a file that was damaged: the shop must not stand still for it, nor be without a spool. None: it was not.

        Raises:
            ConfigurationError: no such folder, no right to write there, another program's file, or its orders were named with
                another secret.
        """
        path, taken_over = None, 0
        try:
            path = await self._start_file()
            await confirm_secrets(self._journal, names, namespace=self.namespace)
            taken_over = await self._take_over(path, names) if path is not None else 0
        except StoreError as error:
            _log.error("spool.not_opened", why=str(error)[:200])
        else:
            self.open = True
        return Aside(path, taken_over) if path is not None else None

    async def _start_file(self) -> Path | None:
        ours, seen = lock_of(self.path).exists(), identity(self.path)
        try:
            await self._journal.start()
        except (StoreDamaged, NotADatabase) as error:
            if not ours:
                lock_of(self.path).unlink(missing_ok=True)  # made just now: the next start must not take this file for ours
                raise
            aside = await self._set_aside(seen, error)
            await self._journal.start()
            return aside
        return None

    async def _set_aside(self, seen: Identity | None, error: Exception) -> Path | None:
        try:
            aside = await asyncio.to_thread(set_aside, self.path, seen)
        except OSError as failed:
            raise StoreUnavailable(f"{error}; it could not be put aside ({failed}): move it away by hand") from error
        if aside is not None:
            _log.error("spool.damaged", why=str(error)[:200], aside=str(aside))
        return aside

    async def _take_over(self, path: Path, names: Secrets) -> int:
        """Put what can still be read of the damaged file into the new one, if it was named with our secret; how much that was."""
        found = await asyncio.to_thread(salvage, path, key=check_key(self.namespace))
        try:
            names.require_same(found.value.value if found.value is not None else b"")
        except ConfigurationError:
            return 0  # of another shop, or nobody knows of which: it is for a person to say
        ours = [one for one in found.operations if one.namespace == self.namespace]
        taken_over = 0
        for first in range(0, len(ours), AT_ONCE):
            laid = await asyncio.gather(*(self._journal.put(one) for one in ours[first : first + AT_ONCE]))
            taken_over += sum(one.won for one in laid)
        return taken_over

    async def stop(self) -> None:
        """Close it; what waits in it waits on the disk."""
        self.open = False
        await self._journal.stop()

    # --- taking in

    async def lay(self, order: Operation, submit_of: Callable[[Operation], Submit], policy: Policy) -> Laid:
        """Put *order* down, or learn what is there for it.

        Raises:
            SpoolFull: a bound is reached; nothing was kept.
            StoreUnavailable: the disk did not answer; nothing may be promised.
        """
        there = await self.get(order.id)
        if there is None:
            await self._check_room()
        for _ in range(TURNS_MAX):
            opened = await self._journal.open(order, holder=self._holder, attempt=secrets.token_hex(8), lease_seconds=None)
            there = opened.operation
            if opened.won:
                return Laid(Lay.NEW, there)
            claim, now = opened.match is Match.CLAIM, self._clock.now()
            lay = lay_over(there, submit_of(there), policy, leased=opened.leased, claim=claim, now=now)
            if lay not in (Lay.REPLACE, Lay.FILL) or claim:
                return Laid(Lay.TELL if lay is Lay.REPLACE else lay, there)
            placed = await self._put_in_place(there, order, lay)
            if placed is not None:
                return Laid(lay, placed)
        return Laid(Lay.WAIT, there or order)

    async def note(self, id: str, note: Note) -> Operation:
        """Keep a fact about an operation, whether its order lies here or not. Facts are small, and taken beyond `items_max`.

        Raises:
            StoreUnavailable: it is closed, or the disk did not answer.
        """
        if not self.open:
            raise SpoolFull("the spool is closed: nothing was kept; `cxguard doctor` says why")
        return await self._journal.note(id, note, namespace=self.namespace, stub_due_seconds=0.0)

    async def get(self, id: str) -> Operation | None:
        """What lies here under *id*: an order, or facts alone."""
        if not self.open:
            return None
        found = await self._journal.get(id)
        return found if found is not None and found.namespace == self.namespace else None

    async def _check_room(self) -> None:
        if not self.open:
            raise SpoolFull("the spool is closed: nothing was kept; `cxguard doctor` says why")
        items = sum((await self._journal.tally(self.namespace)).operations.values())
        used = await self._journal.used_bytes()
        if items >= self._items_max or used >= self._bytes_max:
            raise SpoolFull(
                f"the spool {self.path} is full ({items} of {self._items_max} items, {used >> 20} of {self._bytes_max >> 20} MB): "
                "no new order was kept; bring the store back"
            )

    async def _put_in_place(self, there: Operation, order: Operation, lay: Lay) -> Operation | None:
        """This order in the place of what is there; None: it has moved meanwhile."""
        held = await self.seize(there, claims=order.claims)
        if held is None or held.lease is None:
            return None
        try:
            return await self._journal.save(relaid(held, order, lay), token=held.lease.token, keep_lease=False)
        except LeaseLost:
            return None

    # --- giving out

    async def due(self, *, limit: int) -> tuple[Operation, ...]:
        """What is to be forwarded now, the oldest first."""
        now = self._clock.now()
        page = await self._journal.search(Query(namespace=self.namespace, due=True, limit=limit))
        return tuple(one for one in page.operations if _is_due(one, now) and not _in_hand(one, now))

    async def seize(self, item: Operation, *, claims: tuple[str, ...] = ()) -> Operation | None:
        """Take one in hand, as it was seen; None: another process has it, or it has changed."""
        try:
            opened = await self._journal.seize(
                Seen(item.id, item.revision), holder=self._holder, attempt=secrets.token_hex(8), lease_seconds=LEASE_SECONDS, claims=claims
            )
        except KeyError:
            return None
        return opened.operation if opened.won else None

    async def give_back(self, item: Operation, *, seconds: float) -> None:
        """Let go of one that could not be forwarded; it is looked at again after *seconds*."""
        await self._end(changed(item, due_at=self._clock.now() + seconds), gone=False)

    async def erase(self, item: Operation) -> None:
        """It is forwarded. A fact that came meanwhile stays, and is forwarded next."""
        await self._end(item, gone=True)

    async def _end(self, item: Operation, *, gone: bool) -> None:
        token = item.lease.token if item.lease is not None else 0
        try:
            await self._journal.save(changed(item, notes_seen=len(item.notes)), token=token, keep_lease=False, gone=gone)
        except LeaseLost:  # another process has it, and comes to the same end
            return

    async def figures(self) -> SpoolFigures:
        """What waits here, as far as the oldest page shows."""
        page = await self._journal.search(Query(namespace=self.namespace, due=True, limit=PAGE_MAX))
        tally = await self._journal.tally(self.namespace)
        orders = sum(count for (state, _), count in tally.operations.items() if state == State.QUEUED)
        return SpoolFigures(
            orders=orders,
            facts=sum(tally.operations.values()) - orders,
            oldest_at=min((one.created_at for one in page.operations), default=None),
            used_bytes=await self._journal.used_bytes(),
        )


def _is_due(item: Operation, now: float) -> bool:
    """Also when the clock was set back since it came, or since it was given back: nothing waits so long by our own wish."""
    set_back = item.created_at > now or (item.due_at is not None and item.due_at > now + PAUSE_SECONDS_MAX)
    return set_back or item.due_at is None or item.due_at <= now


def _in_hand(item: Operation, now: float) -> bool:
    """Whether a process is forwarding it. No lease is so long that this may be read here of a clock that was set back: that
    one is the store's to judge, when it is asked for it."""
    return item.lease is not None and now < item.lease.until <= now + LEASE_SECONDS
