"""The Redis store: many machines, and the lowest latency.

A verb is one script in the partition of its record (`partitions`); scripts that are asked for at the same time leave in one
go (`line`). Leases and due times run on the server's clock. Each event loop has connections of its own; after a fork the
child makes new ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cxguard.clock import Clock
from cxguard.core.money import MoneyState, Note
from cxguard.core.operation import RECORD_VERSION, Operation, State, changed
from cxguard.errors import ConfigurationError, LeaseLost, StoreUnavailable
from cxguard.stores.base import Level, Match, Opened, Page, Query, Seen, SessionBatch, SessionRow, Tally, Versioned
from cxguard.stores.codec import encode_note
from cxguard.stores.record import (
    BATCH_IDS_KEPT_SECONDS,
    PRUNE_MAX,
    SESSIONS_KEPT_SECONDS,
    check_lease_seconds,
    check_limit,
    check_take,
    leased,
    stub,
)
from cxguard.stores.redis import lists
from cxguard.stores.redis.fanning import merged_tally, prune_partition, renew_everywhere, take_everywhere
from cxguard.stores.redis.health import Health
from cxguard.stores.redis.hints import hear_hints
from cxguard.stores.redis.line import Call, Line
from cxguard.stores.redis.partitions import packed_id, partition_of, space_name, tag
from cxguard.stores.redis.routes import Route
from cxguard.stores.redis.rows import (
    fields_of,
    inserted,
    joined,
    note_names,
    notes_words,
    number_text,
    operation_of,
    plain,
    quoted,
    saved,
    sent_values,
)
from cxguard.stores.redis.settings import Address, RedisSettings, read_settings
from cxguard.stores.redis.wire import Answer

Word = str | bytes | int

VISITS = 0  # the partition of all sessions and counters: a batch of them is one commit


class RedisStore:
    """A store on Redis. See `cxguard.stores.base.Store` for what each verb promises.

    Args:
        url: see `cxguard.stores.redis.settings`.
        clock: for tests, instead of the server's.
        settings: changes to what the address says.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, **settings: Any) -> None:
        self._settings: RedisSettings = replace(read_settings(url), **settings)
        self._clock = clock
        self._health = Health(self._settings)
        self._lines: dict[asyncio.AbstractEventLoop, Line] | None = None
        self._pid = os.getpid()
        self._of_parent: list[Any] = []  # kept for ever: closing them in a child would end its parent's connections

    @property
    def level(self) -> Level:
        """`replicated` with `?replicas=`, `fsync` on a single server that appends always, else `best-effort`."""
        return self._health.level

    @property
    def epoch(self) -> str:
        """The servers' replication ids, and a word that is gone when the data is: a failover or an emptied server changes it."""
        return self._health.epoch

    @property
    def ids_led_by_owner(self) -> bool:
        """Whether ids say which owner's they are: where there is more than one partition (see `partitions`)."""
        return self._settings.partitions_wanted > 1

    @property
    def prefix(self) -> str:
        """What every key of this store begins with."""
        return self._settings.prefix

    @property
    def partitions(self) -> int:
        """How many there are; 0 before the start."""
        return self._health.partitions

    async def start(self) -> None:
        if self._lines is None or self._pid != os.getpid():
            self._leave_parent()
            route = Route(self._settings, self._health)
            try:
                await route.start()
            finally:
                await route.close()
            if self._lines is None:  # another one who starts it at the same time may be further
                self._lines = {}

    async def stop(self) -> None:
        """Finish what was accepted, then close.

        Raises:
            StoreUnavailable: the server takes too long for that; what was accepted and not told may have happened or not.
        """
        if self._lines is None or self._pid != os.getpid():
            return
        lines, self._lines = self._lines, None
        own = lines.pop(asyncio.get_running_loop(), None)
        try:
            if own is not None:
                await own.end()
        finally:
            for line in lines.values():  # of other event loops, which have ended or will hear it at their next call
                line.finish()

    async def open(
        self, operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen] = ()
    ) -> Opened:
        if lease_seconds is not None:
            check_lease_seconds(lease_seconds)
        seconds, created = number_text(lease_seconds), number_text(operation.created_at)
        head: list[Word] = [packed_id(operation.id), quoted(holder), quoted(attempt), seconds, created]
        answer = await self._write(operation.id, "open", [*head, *_seen(superseding), *sent_values(operation)])
        if answer[0] != b"new":
            return _found(answer, packed_id(operation.id), won=Match.NEW)
        opened = inserted(operation, holder=holder, attempt=attempt, answer=answer)
        return Opened(True, opened, opened.lease is not None, Match.NEW, float(answer[1]))

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        head: list[Word] = [packed_id(operation.id), token, "1" if keep_lease else "", "1" if gone else ""]
        answer = await self._write(operation.id, "save", [*head, *sent_values(operation)])
        if answer[0] == b"lost":
            raise LeaseLost("somebody else holds this operation now: read it again and act on what you find")
        return saved(operation, answer, token=token)

    async def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        check_take(rules, lease_seconds=lease_seconds, limit=limit)
        return await take_everywhere(self, namespace, rules, holder=quoted(holder), lease_seconds=lease_seconds, limit=limit)

    async def seize(
        self,
        seen: Seen,
        *,
        holder: str,
        attempt: str,
        lease_seconds: float,
        claims: Sequence[str] = (),
        superseding: Sequence[Seen] = (),
    ) -> Opened:
        check_lease_seconds(lease_seconds)
        by: list[Word] = [quoted(holder), quoted(attempt), number_text(lease_seconds), RECORD_VERSION]
        words: list[Word] = [packed_id(seen.id), seen.revision, *by, joined(claims)]
        answer = await self._write(seen.id, "seize", [*words, *_seen(superseding)])
        if answer[0] == b"none":
            raise KeyError(seen.id)
        return _found(answer, packed_id(seen.id), won=Match.ID)

    async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        check_lease_seconds(lease_seconds)
        return await renew_everywhere(self, tokens, seconds=lease_seconds)

    async def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        made = stub(id, note, namespace=namespace, now=0.0, due_at=0.0)
        head: list[Word] = [packed_id(id), *_noted(note), "\t".join(note_names(namespace, [note])), number_text(stub_due_seconds)]
        return operation_of(fields_of(await self._write(id, "note", [*head, *sent_values(made)])), packed_id(id))

    async def put(self, operation: Operation, *, replacing: Seen | None = None, superseding: Sequence[Seen] = ()) -> Opened:
        replaced = str(replacing.revision) if replacing is not None and replacing.id == operation.id else ""
        times = [number_text(operation.created_at), number_text(operation.updated_at)]
        head: list[Word] = [packed_id(operation.id), replaced, *times, *notes_words(operation.namespace, operation.notes)]
        answer = await self._write(operation.id, "put", [*head, *_seen(superseding), *sent_values(operation)])
        if answer[0] != b"new":
            return _found(answer, packed_id(operation.id), won=Match.ID)
        whole = changed(operation, lease=None, revision=int(answer[2]))
        return Opened(True, whole, False, Match.NEW, float(answer[1]))

    async def get(self, id: str) -> Operation | None:
        partition = partition_of(id, self.partitions)
        packed = packed_id(id)
        key = tag(self._settings.prefix, partition).encode() + b"o:" + packed
        fields = fields_of(await self.command(partition, "HGETALL", key))
        return operation_of(fields, packed) if fields else None

    async def search(self, query: Query) -> Page:
        return await lists.search(self, query)

    async def tally(self, namespace: str) -> Tally:
        pairs = [(state.value, kind.value) for state in State for kind in MoneyState]
        words: list[Word] = [space_name(namespace), *(f"{state}:{kind}" for state, kind in pairs)]
        return merged_tally(pairs, await self.everywhere("tally", words))

    async def prune(self, *, namespace: str, limit: int) -> int:
        check_limit(limit, limit_max=PRUNE_MAX)
        changed = 0
        for partition in range(self.partitions):
            if changed < limit:
                changed += await prune_partition(self, partition, namespace, limit=limit - changed)
        return changed

    async def load(self, key: str) -> Versioned:
        partition = partition_of(key, self.partitions)
        home = tag(self._settings.prefix, partition)
        revision, value = await self.command(partition, "HMGET", f"{home}v:{key}", "r", "v")
        return Versioned(int(revision), value) if revision is not None else Versioned(0, b"")

    async def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        return bool(await self._write(key, "swap", [key, revision, value]))

    async def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]:
        found = await self.run(VISITS, "sessions", list(ids))
        rows = [SessionRow(id.decode(), int(revision), body, float(at)) for id, revision, body, at in found]
        return {row.id: row for row in rows}

    async def record(self, batch: SessionBatch) -> bool:
        rows: list[Word] = [word for row in batch.rows for word in (row.id, row.revision, row.body, number_text(row.updated_at))]
        counters: list[Word] = [word for name, amount in batch.counters.items() for word in (name, number_text(amount))]
        head: list[Word] = [batch.id, number_text(BATCH_IDS_KEPT_SECONDS), SESSIONS_KEPT_SECONDS, len(batch.rows)]
        return bool(await self.run(VISITS, "record", [*head, *rows, *counters], writes=True))

    async def counters(self, prefix: str) -> Mapping[str, float]:
        found = await self.run(VISITS, "counters", [prefix])
        return {name.decode(): float(amount) for name, amount in zip(found[::2], found[1::2], strict=True)}

    async def clock(self) -> float:
        if self._clock is not None:
            return self._clock.now()
        silent: dict[Address | None, StoreUnavailable] = {}
        route = (await self._line()).reader.route
        for partition in range(self.partitions):
            if route.home(partition) in silent:
                continue
            try:
                seconds, micros = await self.command(partition, "TIME")
                return int(seconds) + int(micros) / 1e6
            except StoreUnavailable as error:
                silent[route.home(partition)] = error  # any server's time will do, and one that is silent must not stand for all
        raise next(iter(silent.values()), StoreUnavailable("the Redis store has not started: nobody knows the time"))

    async def announce(self, topics: Sequence[str]) -> None:
        channel = f"{self._settings.prefix}:hints"
        await asyncio.gather(*(self.command(VISITS, "PUBLISH", channel, topic) for topic in topics))

    async def listen(self, hear: Callable[[str], None]) -> None:
        line = await self._line()
        await hear_hints(line.reader.route, f"{self._settings.prefix}:hints", hear)

    # --- what the parts beside this file ask of the store

    async def run(self, partition: int, script: str, words: Sequence[Word], *, writes: bool = False) -> Answer:
        """Run a script in one partition."""
        now = number_text(self._clock.now()) if self._clock is not None else ""
        line = await self._line()
        lanes = line.writer if writes else line.reader
        return await lanes.ask(Call(partition, script, [now, *words]))

    async def command(self, partition: int, *words: Word) -> Answer:
        """Send a plain reading command to the server of a partition."""
        return await (await self._line()).reader.ask(Call(partition, "", words))

    async def everywhere(self, script: str, words: Sequence[Word]) -> list[Answer]:
        """Run a reading script in every partition; the answers in order of these."""
        return list(await asyncio.gather(*(self.run(partition, script, words) for partition in range(self.partitions))))

    async def places(self, partition: int, lists: Sequence[str], *, prefix: str, up: bool, after: bytes, limit: int) -> Sequence[bytes]:
        found: list[bytes] = await self.run(partition, "places", ["up" if up else "down", after, limit, prefix, *lists])
        return found

    async def holders(self, claim: str) -> Sequence[bytes]:
        """The records that hold a claim, which is written as in its key."""
        keys = [f"{tag(self._settings.prefix, partition)}c:{claim}" for partition in range(self.partitions)]
        found = await asyncio.gather(*(self.command(partition, "GET", key) for partition, key in enumerate(keys)))
        return [each for each in found if each is not None]

    async def _write(self, id: str, script: str, words: Sequence[Word]) -> Answer:
        return await self.run(partition_of(id, self.partitions), script, words, writes=True)

    async def _line(self) -> Line:
        if self._lines is None:
            raise ConfigurationError("the Redis store is not open: await store.start() first")
        if self._pid != os.getpid():
            await self.start()
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            for ended in [known for known in tuple(self._lines) if known.is_closed()]:
                self._lines.pop(ended)
            line = self._lines[loop] = Line(self._settings, self._health)
            line.keep()
        return line

    def _leave_parent(self) -> None:
        if self._lines is not None:
            self._of_parent.append(self._lines)
            self._lines = None
        self._pid = os.getpid()


def _seen(superseding: Sequence[Seen]) -> list[Word]:
    return [len(superseding), *(word for seen in superseding for word in (packed_id(seen.id), seen.revision))]


def _noted(note: Note) -> tuple[str, str]:
    return quoted(note.event_id), encode_note(note)


def _found(answer: Sequence[Any], packed: bytes, *, won: Match) -> Opened:
    """What `open` or `seize` found, or did to a record that was there."""
    now = float(answer[1])
    if answer[0] == b"claimed":
        claimed, other = plain(answer[2].decode()), operation_of(fields_of(answer[4]), answer[3])
        return Opened(False, other, leased(other, now=now), Match.CLAIM, now, claimed)
    found = operation_of(fields_of(answer[2]), packed)
    if answer[0] == b"won" and found.version <= RECORD_VERSION:  # not one whose body cannot be read
        return Opened(True, found, leased(found, now=now), won, now)
    return Opened(False, found, leased(found, now=now), Match.ID, now)
