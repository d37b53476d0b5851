"""What one Redis server may do to the store, each on a real server."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from cut_wire import cut_wire
from redis_crowd import Shoppers, assert_whole, until_available
from redis_servers import RedisServer, have_redis, running_redis

from cxguard.core.operation import State
from cxguard.errors import ConfigurationError, StoreUnavailable, StoreUnfit
from cxguard.stores.base import Level, Match
from cxguard.stores.redis import RedisStore
from cxguard.testing.contract.base import LEASE_SECONDS, SHOP, got, open_leased, put, queued, sample, seen, take, token_of

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

SECONDS = 0.5  # of patience: a server that is well is a thousand times faster, even here


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_redis() as running:
        yield running


def store_at(url: str, prefix: str = "", **settings: object) -> RedisStore:
    return RedisStore(url, prefix=prefix or f"f{secrets.token_hex(6)}", **{"answer_seconds": SECONDS, **settings})


@pytest_asyncio.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = store_at(server.url)
    await until_started(store)
    yield store
    await store.stop()


async def until_started(store: RedisStore) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.start()
            except StoreUnavailable:
                await asyncio.sleep(0.01)


# --- lost requests and lost answers


@pytest.mark.parametrize("lost", ["requests", "answers"])
async def test_open_without_an_answer_is_repeated(server: RedisServer, lost: str) -> None:
    """Whether it was the request or the answer that got lost: nobody knows, and the repetition is the same win."""
    async with cut_wire(server.port) as wire:
        store = store_at(f"redis://127.0.0.1:{wire.port}")
        await until_started(store)
        await put(store, queued("before"))
        setattr(wire, lost, False)
        with pytest.raises(StoreUnavailable, match="it may have happened"):
            await open_leased(store, sample("a", claims=("basket",)), attempt="one")
        setattr(wire, lost, True)
        won = await open_leased(store, sample("a", claims=("basket",)), attempt="one")
        assert (await got(store, won.id), (await store.tally(SHOP)).operations[("running", "none")]) == (won, 1)
        other = await store.open(sample("a"), holder="h", attempt="two", lease_seconds=LEASE_SECONDS)
        assert (other.won, other.match) == (False, Match.ID)
        await store.stop()


async def test_connection_that_is_cut_in_the_middle_is_unknown_not_done(server: RedisServer) -> None:
    """A connection that ends while many wait for their answers: each hears that nobody knows, and all can be repeated."""
    async with cut_wire(server.port) as wire:
        store = store_at(f"redis://127.0.0.1:{wire.port}")
        await until_started(store)
        await put(store, queued("before"))
        wire.answers = False
        calls = [asyncio.ensure_future(open_leased(store, sample(f"n{n}"), attempt=f"a{n}")) for n in range(50)]
        while not any(call.done() for call in calls):
            await asyncio.sleep(0.01)
            wire.cut()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        wire.answers = True
        again = await asyncio.gather(*(open_leased(store, sample(f"n{n}"), attempt=f"a{n}") for n in range(50)))
        assert len({token_of(each) for each in again}) == 50
        await assert_whole(store)
        await store.stop()


async def test_nothing_is_sent_twice(server: RedisServer) -> None:
    """A call that ran out of time is not sent again behind its caller's back: a fact that was lost stays lost until repeated."""
    async with cut_wire(server.port) as wire:
        store = store_at(f"redis://127.0.0.1:{wire.port}")
        await until_started(store)
        await put(store, queued("before"))
        wire.requests = False
        with pytest.raises(StoreUnavailable):
            await put(store, queued("lost"))
        wire.requests = True
        await until_available(store, "after")
        assert await store.get(sample("lost").id) is None
        await store.stop()


async def test_cancelled_callers_leave_the_connection_usable(store: RedisStore) -> None:
    """A caller that goes away never takes the next one's answer with it (CVE-2023-28858)."""
    for n in range(30):
        task = asyncio.ensure_future(put(store, queued(f"c{n}")))
        for _ in range(n % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await put(store, queued(f"d{n}"))
        assert (await got(store, sample(f"d{n}").id)).id == sample(f"d{n}").id


# --- what an administrator, or the machine, does to a server


async def test_killed_connections_are_made_again(store: RedisStore, server: RedisServer) -> None:
    """CLIENT KILL ends them all: some calls hear that nobody knows, and the next ones work."""
    await put(store, queued("a"))
    server.run("CLIENT", "KILL", "TYPE", "normal")
    await until_available(store, "b")
    assert (await got(store, sample("a").id)).state == "queued"


@pytest.mark.parametrize("words", [("CLIENT", "PAUSE", "1500"), ("EVAL", "local n = 0; for i = 1, 2e8 do n = n + i end", "0")])
async def test_server_that_stands_still_is_unavailable_in_time(store: RedisStore, server: RedisServer, words: tuple[str, ...]) -> None:
    """A server that answers nobody for a while costs its time and no more; what was asked meanwhile is then repeated."""
    await put(store, queued("a"))
    sleeper = threading.Thread(target=server.run, args=words)
    sleeper.start()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while True:
            began = loop.time()
            try:
                await open_leased(store, sample("b"), attempt="one")
            except StoreUnavailable:
                assert loop.time() - began < 8 * SECONDS
                break
            await asyncio.sleep(0.01)
    await until_available(store, "c")
    assert token_of(await open_leased(store, sample("b"), attempt="one")) > 0
    sleeper.join()
    await assert_whole(store)


async def test_frozen_server_is_unavailable_and_comes_back(store: RedisStore, server: RedisServer) -> None:
    """SIGSTOP: no answer within the time, for whoever asks; afterwards everything goes on."""
    await put(store, queued("a"))
    server.process.pause()
    try:
        answers = await asyncio.gather(*(put(store, queued(f"n{n}")) for n in range(20)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
    finally:
        server.process.resume()
    await until_available(store, "b")
    await assert_whole(store)


async def test_killed_server_has_everything_that_was_acknowledged(store: RedisStore, server: RedisServer) -> None:
    """kill -9 in the middle of the load: after its restart each acknowledged order is there, under a new epoch."""
    epoch, shoppers = store.epoch, Shoppers(store, count=20)
    await shoppers.until(500)
    await asyncio.to_thread(server.kill)
    server.start()
    await until_available(store, "after")
    await shoppers.end()
    assert await shoppers.missing() == []
    assert shoppers.refusals
    assert store.epoch != epoch


async def test_emptied_server_is_another_life(store: RedisStore, server: RedisServer) -> None:
    """FLUSHALL: the first write hears that the data is gone, the epoch is another, and no lease token comes twice."""
    first = await open_leased(store, sample("a"))
    epoch = store.epoch
    server.run("FLUSHALL")
    with pytest.raises(StoreUnavailable, match="the data is gone"):
        await store.save(first, token=token_of(first), keep_lease=True)
    second = await open_leased(store, sample("a"))
    assert store.epoch != epoch
    assert token_of(second) > token_of(first)
    again = store_at(server.url, prefix=store.prefix)
    await again.start()
    assert again.epoch == store.epoch
    await again.stop()


async def test_forgotten_scripts_are_loaded_again(store: RedisStore, server: RedisServer) -> None:
    """SCRIPT FLUSH under load: nobody notices."""
    for n in range(20):
        server.run("SCRIPT", "FLUSH")
        await asyncio.gather(*(put(store, queued(f"n{n}-{m}")) for m in range(20)))
    assert (await store.tally(SHOP)).operations == {("queued", "none"): 400}


async def test_full_server_takes_nothing_and_loses_nothing() -> None:
    """At its memory's end a server refuses writes whole: nothing half, nothing evicted; with more memory it goes on."""
    with running_redis(maxmemory="6mb") as small:
        store = store_at(small.url)
        await until_started(store)
        acknowledged = []
        with pytest.raises(StoreUnavailable, match="memory is full"):
            for n in range(10_000):
                acknowledged.append((await put(store, queued(f"n{n}", request=b"x" * 2_000, claims=(f"c{n}",)))).id)
        records = await asyncio.gather(*(store.get(id) for id in acknowledged))
        assert None not in records
        small.run("CONFIG", "SET", "maxmemory", "0")
        await assert_whole(store)
        for n in range(50):
            await put(store, queued(f"more-{n}"))
        await store.stop()


# --- fitness, level, layout


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "CONFIG SET maxmemory-policy noeviction"),
        ({"maxmemory-policy": "volatile-ttl"}, "CONFIG SET maxmemory-policy noeviction"),
        ({"appendonly": "no"}, "CONFIG SET appendonly yes"),
    ],
)
async def test_server_that_may_lose_orders_is_unfit(settings: dict[str, str], says: str) -> None:
    """It is refused with the line to write, unless the address says by name that orders may be lost; then it is best-effort."""
    with running_redis(**settings) as unsafe:
        with pytest.raises(StoreUnfit, match=says):
            await store_at(unsafe.url).start()
        store = store_at(f"{unsafe.url}?may_lose_orders=yes")
        await store.start()
        await put(store, queued("a"))
        assert store.level is Level.BEST_EFFORT
        await store.stop()


async def test_server_that_becomes_unfit_is_noticed_while_it_runs() -> None:
    """Somebody changes the policy: at the next look the store is unfit, and fit again when it was mended."""
    with running_redis() as server:
        store = store_at(server.url, check_seconds=0.0)
        await store.start()
        await put(store, queued("a"))
        server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        with pytest.raises(StoreUnfit):
            await put(store, queued("b"))
        server.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
        async with asyncio.timeout(20):
            while True:
                try:
                    await put(store, queued("c"))
                    break
                except StoreUnfit:
                    await asyncio.sleep(0.01)
        await store.stop()


async def test_level_is_what_the_server_does(store: RedisStore, server: RedisServer) -> None:
    """Each write on its disk before it is answered: fsync. Once a second: best-effort."""
    assert store.level is Level.FSYNC
    with running_redis(appendfsync="everysec") as lazy:
        other = store_at(lazy.url)
        await other.start()
        assert other.level is Level.BEST_EFFORT
        await other.stop()


async def test_number_of_partitions_is_for_good(server: RedisServer) -> None:
    """It is fixed at first use: ids depend on it. Another one is refused with the right line."""
    first = store_at(server.url, prefix="parts", partitions=4)
    await first.start()
    await put(first, queued("a"))
    for wrong in ({"partitions": 8}, {}):
        with pytest.raises(ConfigurationError, match=r"write \?partitions=4"):
            await store_at(server.url, prefix="parts", **wrong).start()
    again = store_at(f"{server.url}?partitions=4", prefix="parts")
    await again.start()
    assert (again.ids_led_by_owner, (await got(again, sample("a").id)).state) == (True, State.QUEUED)
    await again.stop()
    await first.stop()


async def test_newer_layout_is_refused(server: RedisServer) -> None:
    """Keys that a newer version laid out are not touched."""
    server.run("HSET", "{newer:0}:m", "layout", "2", "partitions", "1")
    with pytest.raises(ConfigurationError, match="newer cxguard"):
        await store_at(server.url, prefix="newer").start()


async def test_nobody_there_is_unavailable_not_wrong() -> None:
    """A server that is away may come back: that is no mistake in the settings."""
    with pytest.raises(StoreUnavailable):
        await store_at("redis://127.0.0.1:9").start()


# --- clocks, loops and processes


async def test_lease_runs_on_the_servers_clock(store: RedisStore) -> None:
    """Without a clock of a test, a lease ends by the server's own, and `take` works by it."""
    opened = await store.open(sample("a"), holder="h", attempt="a", lease_seconds=LEASE_SECONDS)
    assert opened.operation.lease is not None
    assert abs(opened.operation.lease.until - LEASE_SECONDS - await store.clock()) < 5
    await put(store, queued("b", due_at=1.0))
    assert [each.id for each in await take(store)] == [sample("b").id]


async def test_heartbeat_of_another_thread_has_connections_of_its_own(store: RedisStore) -> None:
    """A thread with an event loop renews leases while this loop opens orders; its end leaves nothing open."""
    opened = await open_leased(store, sample("a"))
    lost: list[frozenset[str]] = []

    def beat() -> None:
        with asyncio.Runner() as runner:
            for _ in range(20):
                lost.append(runner.run(store.renew({opened.id: token_of(opened)}, lease_seconds=LEASE_SECONDS)))

    thread = threading.Thread(target=beat)
    thread.start()
    await asyncio.gather(*(put(store, queued(f"n{n}")) for n in range(200)))
    await asyncio.to_thread(thread.join)
    assert lost == [frozenset()] * 20


async def test_fork_leaves_the_parents_connections_alone(store: RedisStore) -> None:
    """A child makes connections of its own; the parent's still work when it has ended."""
    await put(store, queued("a"))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            found = asyncio.new_event_loop().run_until_complete(store.get(sample("a").id))
            code = 0 if found is not None else 2
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    await put(store, queued("b"))


async def test_record_that_cannot_be_read_is_shown_and_never_leased(store: RedisStore, server: RedisServer) -> None:
    """A body that somebody has spoilt: a person sees the record, nobody acts on it, and those behind it go on."""
    await put(store, queued("a", due_at=1.0))
    await put(store, queued("b", due_at=2.0))
    key = key_of(store, server, "a")
    named, _, _ = server.run("HGET", key, "b").partition(b"\n")
    server.run("HSET", key, "b", named + b"\n{broken")
    shown = await got(store, sample("a").id)
    assert (shown.why, shown.state) == ("unreadable", State.QUEUED)
    assert [each.id for each in await take(store, limit=2)] == [sample("b").id]
    assert not (await store.seize(seen(shown), holder="h", attempt="a", lease_seconds=LEASE_SECONDS)).won


async def test_record_that_was_deleted_by_hand_holds_up_nobody(store: RedisStore, server: RedisServer) -> None:
    """An administrator deletes a key: the queue goes on with those behind it."""
    await put(store, queued("a", due_at=1.0))
    await put(store, queued("b", due_at=2.0))
    server.run("DEL", key_of(store, server, "a"))
    assert [each.id for _ in range(2) for each in await take(store, limit=1)] == [sample("b").id]


def key_of(store: RedisStore, server: RedisServer, name: str) -> bytes:
    """The key of a sample's record."""
    keys = server.run("KEYS", f"*{store.prefix}:*o:*")
    return next(key for key in keys if bytes.fromhex(sample(name).id) in key)
