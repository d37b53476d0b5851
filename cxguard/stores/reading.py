"""A store that only answers: for looking at a shop without changing anything about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from cxguard.core.money import Note
from cxguard.core.operation import Operation
from cxguard.errors import ConfigurationError, StoreError, StoreUnavailable
from cxguard.stores.base import Level, Opened, Page, Query, Seen, SessionBatch, SessionRow, Store, Tally, Versioned, gathers


class ReadingStore:
    """Another store, for reading. Every write is refused; a small value is never swapped.

    A store that is not there yet, or does not answer, is read as an empty one.

    Attributes:
        away: why nothing can be read; empty while it answers.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = ""
        file = getattr(store, "path", None)
        self._file: Path | None = file if isinstance(file, Path) else None

    @property
    def path(self) -> Path | None:
        """The file of an embedded store, where its secrets were made already: looking must not make them."""
        secret = self._file.with_name(self._file.name + ".secret") if self._file is not None else None
        return self._file if secret is not None and secret.exists() and secret.stat().st_size else None

    @property
    def level(self) -> Level:
        return self._store.level

    @property
    def epoch(self) -> str:
        return self._store.epoch

    @property
    def ids_led_by_owner(self) -> bool:
        return gathers(self._store)

    async def start(self) -> None:
        if self._file is not None and not self._file.exists():
            self.away = f"there is no store at {self._file} yet"
            return
        try:
            await self._store.start()
        except (ConfigurationError, StoreError) as error:
            self.away = str(error)

    async def stop(self) -> None:
        if not self.away:
            await self._store.stop()

    async def get(self, id: str) -> Operation | None:
        return None if self.away else await self._store.get(id)

    async def search(self, query: Query) -> Page:
        return Page(()) if self.away else await self._store.search(query)

    async def tally(self, namespace: str) -> Tally:
        return Tally() if self.away else await self._store.tally(namespace)

    async def load(self, key: str) -> Versioned:
        return Versioned(0, b"") if self.away else await self._store.load(key)

    async def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]:
        return {} if self.away else await self._store.sessions(ids)

    async def counters(self, prefix: str) -> Mapping[str, float]:
        return {} if self.away else await self._store.counters(prefix)

    async def clock(self) -> float:
        _refuse_if(self.away)
        return await self._store.clock()

    async def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        return False  # it was not

    async def record(self, batch: SessionBatch) -> bool:
        _refuse()

    async def open(
        self, operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen] = ()
    ) -> Opened:
        _refuse()

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        _refuse()

    async def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        _refuse()

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
        _refuse()

    async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        _refuse()

    async def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        _refuse()

    async def put(self, operation: Operation, *, replacing: Seen | None = None, superseding: Sequence[Seen] = ()) -> Opened:
        _refuse()

    async def prune(self, *, namespace: str, limit: int) -> int:
        _refuse()


def _refuse_if(away: str) -> None:
    if away:
        raise StoreUnavailable(away)


def _refuse() -> NoReturn:
    raise StoreUnavailable("this store is only being looked at: nothing was written")
