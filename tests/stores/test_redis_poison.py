"""What somebody else has written under our keys: it stalls no queue and hides no other order, and is never taken for free."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from redis_servers import RedisServer, have_redis, running_redis

from cxguard.core.operation import State
from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Query
from cxguard.stores.redis import RedisStore
from cxguard.testing.contract.base import LEASE_SECONDS, SHOP, got, pages, put, queued, sample, take

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

Poison = Callable[[RedisServer, bytes], object]

POISONS: dict[str, Poison] = {
    "a head of one word": lambda server, key: server.run("HSET", key, "h", "garbage"),
    "a head without numbers": lambda server, key: server.run("HSET", key, "h", b"\n".join([b"x"] * 18)),
    "a head that is no text": lambda server, key: server.run("HSET", key, "h", b"\xff\xfe"),
    "no head": lambda server, key: server.run("HDEL", key, "h"),
    "no body": lambda server, key: server.run("HDEL", key, "b"),
    "a body of one word": lambda server, key: server.run("HSET", key, "b", "garbage"),
    "a word in its place": lambda server, key: server.run("SET", key, "x"),
    "a list in its place": lambda server, key: (server.run("DEL", key), server.run("LPUSH", key, "x")),
}


def damage_the_body(server: RedisServer, key: bytes) -> None:
    server.run("HSET", key, "b", server.run("HGET", key, "b").replace(b'"fingerprint":"f', b'"fingerprint":"g'))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_redis() as running:
        yield running


@pytest_asyncio.fixture(params=POISONS)
async def poisoned(server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[RedisStore]:
    """A store with two kept orders, the more overdue of which is spoilt."""
    store = RedisStore(server.url, prefix=f"p{secrets.token_hex(6)}", answer_seconds=0.5)
    await store.start()
    await put(store, queued("a", due_at=1.0))
    await put(store, queued("b", due_at=2.0))
    keys = server.run("KEYS", f"*{store.prefix}:*o:*")
    POISONS[request.param](server, next(key for key in keys if bytes.fromhex(sample("a").id) in key))
    yield store
    await store.stop()


async def test_queue_and_lists_go_on_without_it(poisoned: RedisStore) -> None:
    """The order behind it is taken, one at a time too; each list shows it; the counts and forgetting go on."""
    assert [each.id for _ in range(2) for each in await take(poisoned, limit=1)] == [sample("b").id]
    for due in (False, True):
        assert [each.id for each in await pages(poisoned, Query(SHOP, due=due, limit=1))] == [sample("b").id]
    assert sum((await poisoned.tally(SHOP)).operations.values()) == 2
    await poisoned.prune(namespace=SHOP, limit=10)


async def test_it_is_nobody_knows_to_whoever_submits_it_again(poisoned: RedisStore) -> None:
    """The record may stand for a charge: a repetition neither wins nor crashes."""
    with pytest.raises(StoreUnavailable):
        await poisoned.open(queued("a"), holder="h", attempt="again", lease_seconds=LEASE_SECONDS)
    with pytest.raises(StoreUnavailable):
        await poisoned.get(sample("a").id)


@pytest.mark.parametrize("spoil", [*POISONS.values(), damage_the_body], ids=[*POISONS, "a damaged body"])
async def test_forgetting_goes_on_behind_it(server: RedisServer, spoil: Poison) -> None:
    """What cannot be read is left as it is and looked at later; the record behind it is forgotten."""
    store = RedisStore(server.url, prefix=f"p{secrets.token_hex(6)}", answer_seconds=0.5)
    await store.start()
    now = await store.clock()
    for name, keep_until in (("a", now - 2.0), ("b", now - 1.0)):
        await put(store, sample(name, state=State.FINISHED, keep_until=keep_until, contact=b"contact"))
    (key,) = (key for key in server.run("KEYS", f"*{store.prefix}:*o:*") if bytes.fromhex(sample("a").id) in key)
    spoil(server, key)
    spoilt = server.run("DUMP", key)
    assert [await store.prune(namespace=SHOP, limit=1) for _ in range(3)] == [1, 1, 0]
    assert (await got(store, sample("b").id)).contact is None
    assert server.run("DUMP", key) == spoilt
    await store.stop()
