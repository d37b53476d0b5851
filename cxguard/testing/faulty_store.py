"""A store that fails on demand, both ways: it did not happen, or it happened and the answer was lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from cxguard.core.money import Note
from cxguard.core.operation import Operation
from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Level, Opened, Page, Query, Seen, SessionBatch, SessionRow, Store, Tally, Versioned, gathers

T = TypeVar("T")


class Fault(StrEnum):
    """What goes wrong with one call."""

    NOT_DONE = "not_done"  # refused before it reached the store
    ANSWER_LOST = "answer_lost"  # done, but the caller is not told


Decide = Callable[[str], Fault | None]


class FaultyStore:
    """Wraps any store. Faults come from a plan per verb, or from a function that is asked for every call.

        store = FaultyStore(MemoryStore(clock=clock))
        store.plan("save", Fault.ANSWER_LOST)

    Attributes:
        decide: asked with the verb's name when the plan has nothing for it; a simulator puts its dice here.
        calls, faults: how often each verb was called, and how often each (verb, fault) really struck.
    """

    def __init__(self, store: Store, *, decide: Decide | None = None) -> None:
        self.store = store
        self.decide = decide
        self.calls: Counter[str] = Counter()
        self.faults: Counter[tuple[str, Fault]] = Counter()
        self._plans: dict[str, deque[Fault | None]] = {}

    @property
    def level(self) -> Level:
        return self.store.level

    @property
    def epoch(self) -> str:
        return self.store.epoch

    @property
    def ids_led_by_owner(self) -> bool:
        return gathers(self.store)

    def plan(self, verb: str, fault: Fault, *, times: int = 1, after: int = 0) -> None:
        """Let the next *times* calls of *verb* fail, once *after* calls have gone well."""
        self._plans.setdefault(verb, deque()).extend([None] * after + [fault] * times)

    def heal(self) -> None:
        """Forget every plan and the function: from now on all goes well."""
        self._plans.clear()
        self.decide = None

    async def start(self) -> None:
        await self._through("start", self.store.start)

    async def stop(self) -> None:
        await self._through("stop", self.store.stop)

    async def open(
        self, operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen] = ()
    ) -> Opened:
        return await self._through(
            "open",
            lambda: self.store.open(operation, holder=holder, attempt=attempt, lease_seconds=lease_seconds, superseding=superseding),
        )

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        return await self._through("save", lambda: self.store.save(operation, token=token, keep_lease=keep_lease, gone=gone))

    async def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        return await self._through(
            "take",
            lambda: self.store.take(namespace=namespace, rules=rules, holder=holder, lease_seconds=lease_seconds, limit=limit),
        )

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
        return await self._through(
            "seize",
            lambda: self.store.seize(
                seen, holder=holder, attempt=attempt, lease_seconds=lease_seconds, claims=claims, superseding=superseding
            ),
        )

    async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        return await self._through("renew", lambda: self.store.renew(tokens, lease_seconds=lease_seconds))

    async def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        return await self._through("note", lambda: self.store.note(id, note, namespace=namespace, stub_due_seconds=stub_due_seconds))

    async def put(self, operation: Operation, *, replacing: Seen | None = None, superseding: Sequence[Seen] = ()) -> Opened:
        return await self._through("put", lambda: self.store.put(operation, replacing=replacing, superseding=superseding))

    async def get(self, id: str) -> Operation | None:
        return await self._through("get", lambda: self.store.get(id))

    async def search(self, query: Query) -> Page:
        return await self._through("search", lambda: self.store.search(query))

    async def tally(self, namespace: str) -> Tally:
        return await self._through("tally", lambda: self.store.tally(namespace))

    async def prune(self, *, namespace: str, limit: int) -> int:
        return await self._through("prune", lambda: self.store.prune(namespace=namespace, limit=limit))

    async def load(self, key: str) -> Versioned:
        return await self._through("load", lambda: self.store.load(key))

    async def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        return await self._through("swap", lambda: self.store.swap(key, revision=revision, value=value))

    async def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]:
        return await self._through("sessions", lambda: self.store.sessions(ids))

    async def record(self, batch: SessionBatch) -> bool:
        return await self._through("record", lambda: self.store.record(batch))

    async def counters(self, prefix: str) -> Mapping[str, float]:
        return await self._through("counters", lambda: self.store.counters(prefix))

    async def clock(self) -> float:
        return await self._through("clock", self.store.clock)

    async def _through(self, verb: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[verb] += 1
        fault = self._next_fault(verb)
        if fault is Fault.NOT_DONE:
            self.faults[verb, fault] += 1
            raise StoreUnavailable(f"the store did not take {verb!r} (a planned fault): ask again later")
        answer = await call()
        if fault is Fault.ANSWER_LOST:
            self.faults[verb, fault] += 1
            raise StoreUnavailable(f"the answer to {verb!r} was lost (a planned fault): look before you act again")
        return answer

    def _next_fault(self, verb: str) -> Fault | None:
        plan = self._plans.get(verb)
        if plan:
            return plan.popleft()
        return self.decide(verb) if self.decide is not None else None
