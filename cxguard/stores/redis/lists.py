"""Look-ups and lists over all partitions: places first, merged in one order, then the records of one page."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State
from cxguard.logs import get_logger
from cxguard.stores.base import Page, Query
from cxguard.stores.record import check_query, cursor_text, matches
from cxguard.stores.redis.partitions import (
    bucket_of,
    exact_name,
    number_of,
    packed_id,
    packed_of,
    place_of,
    place_parts,
    space_name,
    unpacked_id,
)
from cxguard.stores.redis.rows import quoted
from cxguard.stores.redis.wire import Unreadable

EXACT = ("reference", "gateway_key", "session", "contact_hash", "kept_by")  # the rarest first: one leads, the others are compared

_log = get_logger("store")


class Partitioned(Protocol):
    """What a list needs of the store."""

    @property
    def partitions(self) -> int: ...

    async def places(self, partition: int, lists: Sequence[str], *, prefix: str, up: bool, after: bytes, limit: int) -> Sequence[bytes]:
        """The first *limit* places behind *after* of each list, in no order."""
        ...

    async def holders(self, claim: str) -> Sequence[bytes]:
        """Packed ids of the records that hold a claim, each in its partition."""
        ...

    async def get(self, id: str) -> Operation | None: ...


async def search(store: Partitioned, query: Query) -> Page:
    """One page of what *query* asks for."""
    after = check_query(query)
    start = place_of(after[0], packed_of(after[1])) if after is not None else b""
    if query.claim is not None:
        return await _sorted_page(store, query, await _by_claim(store, query.claim), start)
    exact = next((kind for kind in EXACT if getattr(query, kind) is not None), None)
    if exact is not None and query.due:
        name = exact_name(exact, query.namespace, getattr(query, exact))
        found = [place async for place in _walk(store, [bucket_of(name)], prefix=name, up=False, start=b"", chunk=query.limit)]
        return await _sorted_page(store, query, [place_parts(place)[1] for place in found], start)
    return await _walked_page(store, query, exact=exact, start=start)


async def _walked_page(store: Partitioned, query: Query, *, exact: str | None, start: bytes) -> Page:
    lists, prefix = _lists(query, exact)
    page: list[tuple[bytes, Operation]] = []
    chunk: list[bytes] = []
    async for place in _walk(store, lists, prefix=prefix, up=query.due, start=start, chunk=query.limit + 1):
        chunk.append(place)
        if len(chunk) > query.limit:
            page += await _loaded(store, query, chunk)
            chunk = []
            if len(page) > query.limit:
                break
    page += await _loaded(store, query, chunk)
    return _page(page, query.limit)


def _lists(query: Query, exact: str | None) -> tuple[list[str], str]:
    if exact is not None:
        name = exact_name(exact, query.namespace, getattr(query, exact))
        return [bucket_of(name)], name
    space = space_name(query.namespace)
    if query.due:
        return [f"d:{space}"], ""
    states = State if query.states is None else query.states
    money = MoneyState if query.money is None else query.money
    return [f"g:{space}:{state}:{kind}" for state in states for kind in money], ""


async def _sorted_page(store: Partitioned, query: Query, ids: Sequence[bytes], start: bytes) -> Page:
    """A page of a few records that are known by name: ordered here."""
    found = await _each(ids, lambda packed: store.get(unpacked_id(packed)))
    placed = [(place_of(_time(each, query), packed_id(each.id)), each) for each in found if each is not None and matches(each, query)]
    placed.sort(key=lambda pair: pair[0], reverse=not query.due)
    behind = [pair for pair in placed if not start or (pair[0] > start if query.due else pair[0] < start)]
    return _page(behind, query.limit)


def _time(operation: Operation, query: Query) -> float:
    return (operation.due_at or 0.0) if query.due else operation.created_at


def _page(found: Sequence[tuple[bytes, Operation]], limit: int) -> Page:
    page = tuple(operation for _, operation in found[:limit])
    if len(found) <= limit:
        return Page(page)
    time, packed = place_parts(found[limit - 1][0])
    return Page(page, cursor_text(time, number_of(packed)))


async def _loaded(store: Partitioned, query: Query, places: Sequence[bytes]) -> list[tuple[bytes, Operation]]:
    """The records at these places that are what the query asks for, as they are now."""
    found = await _each(places, lambda place: store.get(unpacked_id(place_parts(place)[1])))
    pairs = zip(places, found, strict=True)
    return [(place, each) for place, each in pairs if each is not None and matches(each, query)]


async def _walk(store: Partitioned, lists: Sequence[str], *, prefix: str, up: bool, start: bytes, chunk: int) -> AsyncIterator[bytes]:
    """Every place behind *start*, across all partitions, in one order; *chunk* of each partition at a time."""
    after = start
    while lists:
        found = await asyncio.gather(
            *(store.places(partition, lists, prefix=prefix, up=up, after=after, limit=chunk) for partition in range(store.partitions))
        )
        near = [each for places in found for each in places]
        first = heapq.nsmallest(chunk, near) if up else heapq.nlargest(chunk, near)
        for place in first:
            yield place
        if len(first) < chunk:
            return
        after = first[-1]


async def _by_claim(store: Partitioned, claim: str) -> Sequence[bytes]:
    return await store.holders(quoted(claim))


async def _each(items: Sequence[bytes], call: Callable[[bytes], Awaitable[Operation | None]]) -> list[Operation | None]:
    return list(await asyncio.gather(*(_readable(call(item)) for item in items)))


async def _readable(call: Awaitable[Operation | None]) -> Operation | None:
    """A record, if it can be read: one that somebody has spoilt hides no other from a list."""
    try:
        return await call
    except Unreadable as error:
        _log.error("store.unreadable", why=str(error))
        return None
