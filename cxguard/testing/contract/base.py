"""Fixtures and samples that every part of the suite uses."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest
import pytest_asyncio

from cxguard.core.money import Note, NoteKind, Send, SendKind
from cxguard.core.names import OWNER_DIGITS
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged
from cxguard.stores.base import Opened, Query, Seen, Store
from cxguard.testing.clock import START, ManualClock

T = TypeVar("T")
StoreFactory: TypeAlias = Callable[[ManualClock], Store]

SHOP = "shop"
PAY = "pay"
LEASE_SECONDS = 30.0
TOGETHER = "abc"[:OWNER_DIGITS]  # what each sample's id begins with: see `cxguard.stores.base.Gathering`
CALLERS = 100  # in a race


class ContractBase:
    """What a subclass gives: a `store_factory` fixture. Every store that it makes works on the same storage."""

    durable: ClassVar[bool] = True  # False: a store that was stopped has forgotten everything

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest_asyncio.fixture
    async def store(self, store_factory: StoreFactory, clock: ManualClock) -> AsyncIterator[Store]:
        store = store_factory(clock)
        await store.start()
        yield store
        await store.stop()


def sample(name: str = "a", **changes: Any) -> Operation:
    """A new record whose id derives from *name*. All samples' ids begin alike, so that they may have claims in common."""
    id = TOGETHER + hashlib.sha256(name.encode()).hexdigest()[len(TOGETHER) :]
    members: dict[str, Any] = {
        "id": id,
        "namespace": SHOP,
        "rule": PAY,
        "owner": "owner",
        "reference": id[:13].upper(),
        "fingerprint": "fingerprint",
        "state": State.RUNNING,
        "created_at": START,
        "updated_at": START,
    }
    return Operation(**{**members, **changes})


def queued(name: str, **changes: Any) -> Operation:
    """A record that waits for work, due from the start."""
    return sample(name, **{"state": State.QUEUED, "due_at": START, **changes})


def apart(name: str, **changes: Any) -> Operation:
    """A queued record of an owner of its own, as far from the others as a store may keep them."""
    id = hashlib.sha256(name.encode()).hexdigest()
    return queued(name, id=id, owner=name, reference=id[:13].upper(), **changes)


def charge_send(key: str = "key-1", number: int = 1, **changes: Any) -> Send:
    members: dict[str, Any] = {
        "number": number,
        "gateway": "http:shop:test",
        "key": key,
        "step": "charge",
        "generation": 1,
        "kind": SendKind.CHARGE,
        "amount_minor": 4999,
        "currency": "EUR",
        "sent_at": START,
    }
    return Send(**{**members, **changes})


def charged_note(event_id: str = "event-1", key: str = "key-1") -> Note:
    return Note(
        event_id=event_id, kind=NoteKind.OUTCOME, at=START, source="webhook", gateway_key=key, outcome=Charged(4999, "EUR", "pay_1")
    )


def seen(operation: Operation) -> Seen:
    return Seen(operation.id, operation.revision)


def token_of(operation: Operation) -> int:
    assert operation.lease is not None, "this record should be leased"
    return operation.lease.token


async def open_leased(store: Store, operation: Operation, *, attempt: str = "attempt", holder: str = "holder") -> Operation:
    """Open and win; the record as stored."""
    opened = await store.open(operation, holder=holder, attempt=attempt, lease_seconds=LEASE_SECONDS)
    assert opened.won, "nobody else wanted it"
    return opened.operation


async def put(store: Store, operation: Operation) -> Operation:
    """Insert without a lease."""
    opened = await store.open(operation, holder="holder", attempt=f"put {operation.id}", lease_seconds=None)
    assert opened.won, "nobody else wanted it"
    return opened.operation


async def seize(store: Store, operation: Operation, *, attempt: str = "seizing", holder: str = "agent", **more: Any) -> Opened:
    return await store.seize(seen(operation), holder=holder, attempt=attempt, lease_seconds=LEASE_SECONDS, **more)


async def take(store: Store, *, rules: Sequence[str] = (PAY,), limit: int = 10, namespace: str = SHOP) -> tuple[Operation, ...]:
    return await store.take(namespace=namespace, rules=rules, holder="worker", lease_seconds=LEASE_SECONDS, limit=limit)


async def got(store: Store, id: str) -> Operation:
    operation = await store.get(id)
    assert operation is not None, "this record should be there"
    return operation


async def pages(store: Store, query: Query) -> list[Operation]:
    """Every record of a list, page by page."""
    found: list[Operation] = []
    while True:
        page = await store.search(query)
        found.extend(page.operations)
        if page.cursor is None:
            return found
        assert len(page.operations) == query.limit, "a page that is not the last is full"
        query = Query(**{**{name: getattr(query, name) for name in query.__slots__}, "after": page.cursor})


async def race(call: Callable[[int], Awaitable[T]], *, callers: int = CALLERS) -> list[T]:
    """Let many callers begin at the same moment; their answers in order."""
    barrier = asyncio.Barrier(callers)

    async def run(number: int) -> T:
        await barrier.wait()
        return await call(number)

    return list(await asyncio.gather(*(run(number) for number in range(callers))))
