"""Hints, for a store that has them (`cxguard.stores.base.Hinting`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from cxguard.stores.base import EVERYTHING, TOPIC_CHARS_MAX, Hinting, Store
from cxguard.testing.clock import ManualClock
from cxguard.testing.contract.base import ContractBase

HEARD_SECONDS_MAX = 20.0  # a store that takes longer has lost the hint


def hinting(store: Store) -> Hinting:
    assert isinstance(store, Hinting), "give the store `announce` and `listen`, or leave `HintingContract` out"
    return cast(Hinting, store)


@asynccontextmanager
async def listening(store: Store) -> AsyncIterator[asyncio.Queue[str]]:
    """What is heard on *store*, from when it listens."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(hinting(store).listen(heard.put_nowait))
    try:
        assert await next_of(heard) == EVERYTHING
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def next_of(heard: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(HEARD_SECONDS_MAX):
        return await heard.get()


@pytest.mark.asyncio
class HintingContract(ContractBase):
    async def test_whoever_listens_hears_each_topic(self, store: Store) -> None:
        """Listening begins with `EVERYTHING`; then each announced topic comes, in the order of one announcement."""
        async with listening(store) as heard:
            await hinting(store).announce(["breakers:shop", "x" * TOPIC_CHARS_MAX])
            assert [await next_of(heard), await next_of(heard)] == ["breakers:shop", "x" * TOPIC_CHARS_MAX]

    async def test_all_stores_on_the_same_storage_hear(self, store: Store, store_factory: Callable[[ManualClock], Store]) -> None:
        """A hint reaches those who listen at another store object, too: in another process, say."""
        if not self.durable:
            pytest.skip("each of these stores has a storage of its own")
        other = store_factory(ManualClock())
        await other.start()
        async with listening(other) as there, listening(store) as here:
            await hinting(store).announce(["queue:shop"])
            assert [await next_of(there), await next_of(here)] == ["queue:shop", "queue:shop"]
        await other.stop()

    async def test_what_was_written_before_can_be_read_when_it_is_heard(self, store: Store) -> None:
        """Whoever looks because of a hint sees at least what was there when it was given."""
        async with listening(store) as heard:
            for number in range(20):
                await store.swap("value", revision=number, value=b"%d" % number)
                await hinting(store).announce(["value"])
                await next_of(heard)
                assert (await store.load("value")).revision > number

    async def test_announcing_to_nobody_is_well(self, store: Store) -> None:
        """Nobody has to listen, and who has stopped listening hears nothing."""
        async with listening(store) as heard:
            pass
        await hinting(store).announce(["queue:shop"])
        assert heard.empty()

    async def test_two_may_listen(self, store: Store) -> None:
        """Each listener hears every hint."""
        async with listening(store) as first, listening(store) as second:
            await hinting(store).announce(["queue:shop"])
            assert [await next_of(first), await next_of(second)] == ["queue:shop", "queue:shop"]
