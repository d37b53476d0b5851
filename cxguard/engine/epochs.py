"""Whether the store may have lost its tail not long ago: its epoch is another one than the last that was seen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from cxguard.clock import APART_SECONDS, Clock
from cxguard.core.lost import LOST_BACK_SECONDS, is_doubted, may_lack_tries
from cxguard.core.operation import Operation
from cxguard.errors import StoreError, StoreUnavailable
from cxguard.stores.base import Store

SWAPS_MAX = 4  # of the small value; whoever comes first has written what we would
READ_AGAIN_SECONDS = 1.0  # who began after a failover cannot know of it, until a process that was there before has said so


class Epochs:
    """The last epoch that was seen, by this process and (among the store's small values) by all of them.

    Asking costs one small read a second at most, and none once a change is known, until the epoch is another one again.

    Args:
        tell: called with the new epoch when this process is the one that noticed.
    """

    def __init__(self, store: Store, clock: Clock, *, namespace: str, tell: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._key = _key(namespace)
        self._tell = tell
        self._first = ""  # that this process has met, also where nothing could be read or written then
        self._seen: str | None = None
        self._changed_at: float | None = None
        self._read_at = 0.0  # monotonic
        self._met_at: float | None = None  # monotonic: when this process, which knew a former life, met the present one

    async def begin(self) -> None:
        """Know the present epoch, and have it on record, before the first order: else a loss of the first minutes is unseen.

        A store that does not answer is asked again when it matters.
        """
        await self.look()

    async def look(self) -> None:
        """Know the present epoch before something is told about a record that was read in it, if the store can be asked."""
        with contextlib.suppress(StoreError):
            await self.changed_at()

    def doubts(self, operation: Operation) -> bool:
        """Whether *operation*, as it was read, may have lost a charge. A life of the store that nobody looked at is in doubt."""
        return is_doubted(operation, self._since(), self._clock.now())

    def may_lack_tries(self, operation: Operation) -> bool:
        """Whether *operation*, as it was read, may have lost tries, in whichever way it ended."""
        return may_lack_tries(operation, self._since(), self._clock.now())

    def _since(self) -> float | None:
        unseen = bool(self._store.epoch) and self._store.epoch != self._seen
        return self._clock.now() if unseen else self._changed_at

    async def lost_since(self) -> float | None:
        """When the store last began another life, while an order of the former one could still come back; else None.

        Raises:
            StoreUnavailable: it cannot be told now.
        """
        changed_at = await self.changed_at()
        return changed_at if changed_at is not None and self._clock.now() - changed_at < LOST_BACK_SECONDS else None

    async def changed_at(self) -> float | None:
        """When the store last began another life, however long ago; None: it has had one, as far as anybody knows.

        Raises:
            StoreUnavailable: it cannot be told now.
        """
        epoch = self._store.epoch
        self._first = self._first or epoch
        if epoch and (epoch != self._seen or self._may_be_said_by_now()):  # empty: the store does not know yet
            now = self._clock.monotonic()
            met_at = now if epoch != (self._seen or self._first) else self._met_at
            self._changed_at = await self._learn(epoch)
            self._seen, self._met_at, self._read_at = epoch, met_at, now
        return self._changed_at

    def _may_be_said_by_now(self) -> bool:
        return self._changed_at is None and self._clock.monotonic() - self._read_at >= READ_AGAIN_SECONDS

    def began_at(self, changed_at: float) -> float:
        """When the store's present life began, at the latest: a process that has lived through the change also counts from when it
        met it, by a clock that nobody sets. Whoever was the first may have had a wrong one, and so may the store's new server."""
        if self._met_at is None:
            return changed_at
        met_at = self._clock.now() - (self._clock.monotonic() - self._met_at)
        return met_at if met_at - changed_at > APART_SECONDS else changed_at

    async def _learn(self, epoch: str) -> float | None:
        changed_at: float | None = None
        ours = self._seen or self._first
        for _ in range(SWAPS_MAX):
            kept = await self._store.load(self._key)
            last, since = _read(kept.value) if kept.revision else (ours, self._changed_at)
            known_better = since is None and ours != epoch  # by who saw the life before, which the writer did not
            if kept.revision and last == epoch and not known_better:
                return since
            changed_at = await self._store.clock() if last != epoch or known_better else None
            if await self._store.swap(self._key, revision=kept.revision, value=_written(epoch, changed_at)):
                if changed_at is not None:
                    self._tell(epoch)
                return changed_at
        return changed_at


async def doubts_of(store: Store, *, namespace: str, now: float) -> Callable[[Operation], bool]:
    """`Epochs.doubts`, for somebody who only looks: nothing is written, so whoever works with the store still notices by itself.

    Raises:
        StoreUnavailable: it cannot be told now.
    """
    kept = await store.load(_key(namespace))
    if not (kept.revision and store.epoch):
        return lambda operation: False
    last, changed_at = _read(kept.value)
    since = changed_at if last == store.epoch else now
    return lambda operation: is_doubted(operation, since, now)


async def carry_doubt(source: Store, target: Store, *, namespace: str) -> None:
    """What moves from *source* may be older copies, and what it has lost may be pressed again: so *target* is told since when.

    Raises:
        StoreUnavailable: it could not be told.
    """
    kept = await source.load(_key(namespace))
    last, since = _read(kept.value) if kept.revision else (source.epoch, None)
    since = since if last == source.epoch else await source.clock()
    for _ in range(SWAPS_MAX if since is not None else 0):
        there = await target.load(_key(namespace))
        known, began = _read(there.value) if there.revision else (target.epoch, None)
        if known != target.epoch or (began is not None and since is not None and began >= since):
            return  # the target has a later doubt of its own: whoever works there learns of it by itself
        if await target.swap(_key(namespace), revision=there.revision, value=_written(target.epoch, since)):
            return
    if since is not None:
        raise StoreUnavailable("the store to move to did not take since when orders may be older copies: run it again")


def _key(namespace: str) -> str:
    return f"epoch:{namespace}"


def _written(epoch: str, changed_at: float | None) -> bytes:
    return json.dumps({"epoch": epoch, "changed_at": changed_at}).encode()


def _read(value: bytes) -> tuple[str | None, float | None]:
    """What was written; an unreadable value is as good as another epoch."""
    try:
        found = json.loads(value)
        changed_at = found["changed_at"]
        return str(found["epoch"]), float(changed_at) if changed_at is not None else None
    except (ValueError, TypeError, KeyError):
        return "", None
