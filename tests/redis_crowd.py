"""Callers of a store under load, what they were told, and whether what is stored agrees with itself."""

from __future__ import annotations

import asyncio

from cxguard.core.operation import Operation
from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Query
from cxguard.stores.redis import RedisStore
from cxguard.testing.contract.base import SHOP, apart, pages, put, queued

UNTIL_SECONDS_MAX = 60.0
READ_AT_ONCE = 500


class Shoppers:
    """Put orders of ever new owners, one after the other; after a refusal they go on with the next.

    Attributes:
        acknowledged: names of the orders that the store has said it has.
        refusals: what was said of the others.
    """

    def __init__(self, store: RedisStore, *, count: int) -> None:
        self.acknowledged: list[str] = []
        self.refusals: list[str] = []
        self._store = store
        self._open = True
        self._news = asyncio.Condition()
        self._tasks = [asyncio.ensure_future(self._shop(n)) for n in range(count)]

    async def until(self, more: int) -> None:
        """Until so many more are acknowledged."""
        wanted = len(self.acknowledged) + more
        async with asyncio.timeout(UNTIL_SECONDS_MAX), self._news:
            await self._news.wait_for(lambda: len(self.acknowledged) >= wanted)

    async def end(self) -> None:
        self._open = False
        await asyncio.gather(*self._tasks)

    async def missing(self) -> list[str]:
        """Orders that were acknowledged and are not there."""
        return await missing_of(self._store, self.acknowledged)

    async def _shop(self, shopper: int) -> None:
        n = 0
        while self._open:
            name, n = f"{shopper}-{n}", n + 1
            try:
                await put(self._store, apart(name, due_at=1.0, claims=(f"c-{name}",)))
            except StoreUnavailable as error:
                self.refusals.append(str(error))
                await asyncio.sleep(0.01)
                continue
            self.acknowledged.append(name)
            async with self._news:
                self._news.notify_all()


async def missing_of(store: RedisStore, names: list[str]) -> list[str]:
    """Which of these orders the store does not have."""
    missing = []
    for first in range(0, len(names), READ_AT_ONCE):
        some = names[first : first + READ_AT_ONCE]
        found = await asyncio.gather(*(store.get(apart(name).id) for name in some))
        missing += [name for name, there in zip(some, found, strict=True) if there is None]
    return missing


async def until_available(store: RedisStore, name: str, *, spread: int = 1) -> None:
    """Ask until the store takes orders again, those of *spread* owners."""
    async with asyncio.timeout(UNTIL_SECONDS_MAX):
        for n in range(spread):
            await _until_taken(store, apart(f"{name}-{n}") if spread > 1 else queued(name))


async def _until_taken(store: RedisStore, operation: Operation) -> None:
    while True:
        try:
            await put(store, operation)
            return
        except StoreUnavailable:
            await asyncio.sleep(0.01)


async def assert_whole(store: RedisStore) -> None:
    """No list, count or claim disagrees with the records."""
    records = await pages(store, Query(SHOP, limit=100))
    counted = sum((await store.tally(SHOP)).operations.values())
    assert counted == len(records) == len({each.id for each in records})
    due = [each.id for each in records if each.due_at is not None]
    assert sorted(due) == sorted(each.id for each in await pages(store, Query(SHOP, due=True, limit=100)))
    claims = {claim: each.id for each in records for claim in each.claims}
    for claim, id in list(claims.items())[:200]:
        assert [one.id for one in (await store.search(Query(SHOP, claim=claim))).operations] == [id]
