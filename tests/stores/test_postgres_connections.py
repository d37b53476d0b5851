"""No connection outlives what made it: a stop that is cancelled, a listener that ends, a loop that has ended."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest
from postgres_server import PostgresServer, running_postgres
from shopworld import SHOP

from cxguard.errors import StoreUnavailable
from cxguard.guard import Guard
from cxguard.stores.base import EVERYTHING
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.postgres.connection import Server, serving
from cxguard.stores.postgres.lines import Link
from cxguard.testing.contract.base import put, queued
from cxguard.testing.fake_gateway import FakeGateway

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest.fixture
def store(server: PostgresServer) -> PostgresStore:
    return PostgresStore(server.url, schema=f"c{secrets.token_hex(6)}", patience_seconds=5.0)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    yield
    assert connections_open() == []


def connections_open() -> list[str]:
    """Of this process. Not by `isinstance`, which wakes other tests' lazy objects."""
    return [repr(each) for each in gc.get_objects() if issubclass(type(each), psycopg.AsyncConnection) and not each.closed]


@pytest.mark.asyncio
async def test_a_stop_that_is_cancelled_has_closed_everything(store: PostgresStore, server: PostgresServer) -> None:
    """Whoever stops the store and loses patience, since a write hangs, leaves no connection behind."""
    await store.start()
    await put(store, queued("a"))
    with psycopg.connect(server.url) as blocker:
        blocker.execute(f"LOCK TABLE {store._schema}.operations".encode())
        writing = asyncio.create_task(put(store, queued("b")))
        await until_waiting(server)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await store.stop()
        assert connections_open() == []
    with pytest.raises(StoreUnavailable):
        await writing


@pytest.mark.asyncio
async def test_a_connection_that_comes_after_the_end_is_closed(store: PostgresStore, server: PostgresServer) -> None:
    """A store is stopped while one of its links is still connecting: what it gets is closed, and nothing is sent with it."""
    await store.start()
    connected, used = asyncio.Event(), []
    goes_on = asyncio.Event()

    async def connect() -> Server:
        made = await serving(server.url, schema=store._schema, migrate=False)
        connected.set()
        await goes_on.wait()
        return made

    async def work(given: Server) -> None:
        used.append(given)

    link = Link(connect, patience_seconds=20.0)
    asking = asyncio.create_task(link.use(work))
    await connected.wait()
    link.end()
    goes_on.set()
    with pytest.raises(StoreUnavailable, match="stopped"):
        await asking
    assert used == []
    await store.stop()


@pytest.mark.asyncio
async def test_a_listener_that_is_cancelled_or_raises_closes_its_connection(store: PostgresStore) -> None:
    """However listening ends: by cancelling, at any turn of the loop while it begins, or since the one who hears fails."""
    await store.start()
    for turns in range(40):
        task = asyncio.create_task(store.listen(lambda topic: None))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert connections_open() == []
    heard = asyncio.Queue[str]()
    task = asyncio.create_task(store.listen(partial(hear_or_fail, heard)))
    assert await heard.get() == EVERYTHING
    await store.announce(["queue:shop"])
    with pytest.raises(LookupError):
        await task
    await store.stop()


@pytest.mark.asyncio
async def test_a_listener_whose_connection_is_ended_says_so(store: PostgresStore, server: PostgresServer) -> None:
    """The server ends the listener's connection: it is closed here too, and whoever listens hears that it is over."""
    await store.start()
    heard = asyncio.Queue[str]()
    task = asyncio.create_task(store.listen(heard.put_nowait))
    await heard.get()
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    with pytest.raises(StoreUnavailable):
        await task
    await store.stop()


class Stubborn(FakeGateway):
    """A gateway that cannot be closed."""

    async def aclose(self) -> None:
        raise OSError("still busy")


@pytest.mark.asyncio
async def test_a_guard_whose_stop_fails_has_stopped_its_store(store: PostgresStore) -> None:
    """What fails at the end of a guard is told, and the store is closed all the same."""
    guard = Guard(store, shop=SHOP, gateways=[Stubborn()], secret=bytes(range(32)), keys=[bytes(range(1, 33))])
    await guard.start()
    with pytest.raises(OSError, match="still busy"):
        await guard.stop()
    assert not guard.started
    assert connections_open() == []


def test_a_loop_that_ends_takes_its_connections_along(store: PostgresStore) -> None:
    """Two loops used the store and one listened; both have ended, and a third one stops it."""

    async def use(name: str) -> None:
        await store.start()
        heard = asyncio.Queue[str]()
        listening = asyncio.create_task(store.listen(heard.put_nowait))
        await heard.get()
        await put(store, queued(name))
        assert not listening.done()

    asyncio.run(use("a"))
    asyncio.run(use("b"))
    asyncio.run(store.stop())


def hear_or_fail(heard: asyncio.Queue[str], topic: str) -> None:
    if topic != EVERYTHING:
        raise LookupError(topic)
    heard.put_nowait(topic)


async def until_waiting(server: PostgresServer) -> None:
    """Until some statement of ours waits for a lock."""
    asked = b"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cxguard' AND wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        for _ in range(2_000):
            if (await (await connection.execute(asked)).fetchone() or (0,))[0] > 0:
                return
    raise AssertionError("nothing waits for the lock")
