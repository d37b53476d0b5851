"""A Redis that wants a user and a password: a mistake at the start, a store that is away once the shop runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis_servers import RedisServer, have_redis, running_redis

from cxguard.engine.store_breaker import POLICY, breaker_around
from cxguard.errors import ConfigurationError, StoreUnavailable
from cxguard.events import Bus
from cxguard.stores.base import Store
from cxguard.stores.redis import RedisStore
from cxguard.testing import ManualClock
from cxguard.testing.contract.base import put, queued

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_redis() as running:
        running.run("ACL", "SETUSER", "shop", "on", ">right", "~*", "&*", "+@all")
        yield running


def store_at(server: RedisServer, password: str) -> RedisStore:
    return RedisStore(f"redis://shop:{password}@127.0.0.1:{server.port}", answer_seconds=0.5)


async def confirmed(store: Store) -> None:
    """It is the right one."""


async def test_wrong_password_is_said_without_repeating_it(server: RedisServer) -> None:
    """A server that wants a user and password refuses ours: a mistake in the settings, named."""
    with pytest.raises(ConfigurationError, match=r"Redis refuses us \([^:].*[^.]\): check user and password") as error:
        await store_at(server, f"wrong-{'word'}").start()
    assert "wrong-word" not in str(error.value)
    store = store_at(server, "right")
    await store.start()
    await put(store, queued("a"))
    await store.stop()


async def test_a_password_that_is_changed_while_the_shop_runs_takes_the_store_away(server: RedisServer) -> None:
    """And no more than that: set back, it is there again."""
    store, clock = store_at(server, "right"), ManualClock()
    breaker = breaker_around(store, clock, bus=Bus(), confirm=confirmed)
    await breaker.start()
    server.run("ACL", "SETUSER", "shop", "resetpass", ">other")
    server.run("CLIENT", "KILL", "USER", "shop")
    for _ in range(POLICY.consecutive_failures):
        with pytest.raises(StoreUnavailable):
            await breaker.clock()
    assert breaker.away
    server.run("ACL", "SETUSER", "shop", ">right")
    async with asyncio.timeout(30):
        while not await breaker.probe_once():
            clock.advance(POLICY.open_seconds_max)
            await asyncio.sleep(0.01)
    await store.stop()
