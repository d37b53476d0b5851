"""What a PostgreSQL server may do to the store, each on a real server."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from postgres_server import PostgresServer, running_postgres

from cxguard.errors import ConfigurationError, StoreUnavailable, StoreUnfit
from cxguard.stores.base import Level
from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import LEASE_SECONDS, got, put, queued, sample

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest_asyncio.fixture
async def store(server: PostgresServer) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(server.url, schema=f"f{secrets.token_hex(6)}", patience_seconds=2.0)
    await store.start()
    yield store
    await store.stop()


async def until_available(store: PostgresStore, name: str) -> None:
    """Ask until the store has a connection again; it answers at once while it has none."""
    async with asyncio.timeout(20):
        while True:
            try:
                await put(store, queued(name))
                return
            except StoreUnavailable:
                await asyncio.sleep(0)


def sql(server: PostgresServer, text: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(text.encode())


@pytest.mark.asyncio
async def test_connections_that_the_server_ends_are_made_again(store: PostgresStore, server: PostgresServer) -> None:
    """An administrator ends all our connections: one call hears that nobody knows, and the next ones work."""
    await put(store, queued("a"))
    sql(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cxguard'")
    await until_available(store, "b")
    assert (await got(store, sample("a").id)).id == sample("a").id


@pytest.mark.asyncio
async def test_server_that_is_stopped_costs_our_patience_and_no_more(store: PostgresStore, server: PostgresServer) -> None:
    """A server that hangs gives `StoreUnavailable`; when it goes on, so does the store, and nothing is there twice."""
    await put(store, queued("a"))
    backends = children(server.pid)
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            await put(store, queued("b"))
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    await until_available(store, "c")
    assert sum((await store.tally("shop")).operations.values()) in (2, 3), "b may have happened or not"


@pytest.mark.asyncio
async def test_store_is_stopped_in_its_time_while_the_whole_server_hangs() -> None:
    """Frozen, postmaster and all, with hundreds of calls in line: `stop` ends, everybody has been told, and the store starts anew."""
    with running_postgres() as frozen:
        store = PostgresStore(frozen.url, patience_seconds=0.5)
        await store.start()
        await put(store, queued("a"))
        there = [frozen.pid, *children(frozen.pid)]
        for pid in there:
            os.kill(pid, signal.SIGSTOP)
        try:
            reads, writes = (store.get(f"r{n}") for n in range(300)), (put(store, queued(f"w{n}")) for n in range(300))
            calls = [asyncio.create_task(call) for call in (*reads, *writes)]
            await asyncio.sleep(0)
            async with asyncio.timeout(5.0):
                with suppress(StoreUnavailable):
                    await store.stop()
                told = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            for pid in there:
                os.kill(pid, signal.SIGCONT)
        assert {type(each) for each in told} == {StoreUnavailable}
        await store.start()
        await until_available(store, "b")
        await store.stop()


@pytest.mark.asyncio
async def test_acknowledged_records_survive_a_crash_of_the_server() -> None:
    """kill -9 of every process of the server: what was acknowledged is there after its restart."""
    with running_postgres() as crashed:
        store = PostgresStore(crashed.url, patience_seconds=2.0)
        await store.start()
        await asyncio.gather(*(put(store, queued(f"n{n}")) for n in range(50)))
        for pid in children(crashed.pid):
            with suppress(ProcessLookupError):  # the first process ends the others as soon as one has died
                os.kill(pid, signal.SIGKILL)
        await until_available(store, "later")
        assert sum((await store.tally("shop")).operations.values()) == 51
        await store.stop()


@pytest.mark.asyncio
async def test_fork_leaves_the_parents_connections_alone(store: PostgresStore) -> None:
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


@pytest.mark.asyncio
async def test_two_processes_that_start_at_once_make_one_schema(server: PostgresServer) -> None:
    """Whoever comes second waits for the first one's migration."""
    schema = f"m{secrets.token_hex(6)}"
    stores = [PostgresStore(server.url, schema=schema) for _ in range(4)]
    await asyncio.gather(*(store.start() for store in stores))
    await put(stores[0], queued("a"))
    assert (await got(stores[3], sample("a").id)).state == "queued"
    for store in stores:
        await store.stop()


@pytest.mark.asyncio
async def test_newer_schema_is_refused(server: PostgresServer) -> None:
    """A schema that a newer version made is not touched."""
    schema = f"n{secrets.token_hex(6)}"
    store = PostgresStore(server.url, schema=schema)
    await store.start()
    await store.stop()
    sql(server, f"INSERT INTO {schema}.migrations (number) VALUES (9999)")
    with pytest.raises(ConfigurationError, match="newer cxguard"):
        await PostgresStore(server.url, schema=schema).start()


@pytest.mark.asyncio
async def test_without_migrate_the_command_is_named(server: PostgresServer) -> None:
    """A store that may not change the schema says who can."""
    with pytest.raises(ConfigurationError, match="cxguard migrate"):
        await PostgresStore(server.url, schema="nowhere", migrate=False).start()


@pytest.mark.asyncio
async def test_role_without_rights_is_told_what_to_run(server: PostgresServer) -> None:
    """A role that may not create anything is refused with the command to run, not with a traceback."""
    sql(server, "DROP ROLE IF EXISTS poor")
    sql(server, "CREATE ROLE poor LOGIN")
    poor = server.url.replace("shop@", "poor@")
    with pytest.raises(ConfigurationError, match="cxguard migrate"):
        await PostgresStore(poor, schema="unmade").start()


@pytest.mark.asyncio
async def test_role_without_rights_on_what_is_there_is_told_what_it_lacks(server: PostgresServer) -> None:
    """It was taken for a server that is away, for ever: the shop started, and each order met 503."""
    sql(server, "DROP ROLE IF EXISTS poor")
    sql(server, "CREATE ROLE poor LOGIN")
    made = PostgresStore(server.url, schema="made")
    await made.start()
    await made.stop()
    with pytest.raises(ConfigurationError, match=r"permission denied for schema made.*grant this one what examples/deploy/roles\.sql does"):
        await PostgresStore(server.url.replace("shop@", "poor@"), schema="made").start()


@pytest.mark.asyncio
async def test_nobody_there_is_unavailable_not_wrong() -> None:
    """A server that is away may come back: that is no mistake in the settings."""
    with pytest.raises(StoreUnavailable):
        await PostgresStore("postgresql://shop@127.0.0.1:9/postgres").start()


@pytest.mark.asyncio
async def test_unsafe_server_is_unfit() -> None:
    """A server that does not sync its log may lose what it acknowledged: the store refuses it."""
    with running_postgres(options="-c fsync=off") as unsafe, pytest.raises(StoreUnfit, match="fsync"):
        await PostgresStore(unsafe.url).start()


@pytest.mark.asyncio
async def test_level_and_epoch_are_the_servers(store: PostgresStore, server: PostgresServer) -> None:
    """Without a standby a commit is on one machine; the epoch is the same for all who use this server."""
    assert store.level is Level.FSYNC
    other = PostgresStore(server.url, schema="other")
    await other.start()
    assert other.epoch == store.epoch != ""
    await other.stop()


@pytest.mark.asyncio
async def test_lease_runs_on_the_servers_clock(store: PostgresStore) -> None:
    """Without a clock of a test, a lease ends by the server's own."""
    opened = await store.open(sample("a"), holder="h", attempt="a", lease_seconds=LEASE_SECONDS)
    assert opened.operation.lease is not None
    assert abs(opened.operation.lease.until - LEASE_SECONDS - await store.clock()) < 5


@pytest.mark.asyncio
async def test_cancelled_caller_leaves_the_connection_usable(store: PostgresStore) -> None:
    """A caller that goes away never takes the next one's answer with it."""
    for n in range(20):
        task = asyncio.ensure_future(put(store, queued(f"c{n}")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await put(store, queued(f"d{n}"))
        assert (await got(store, sample(f"d{n}").id)).id == sample(f"d{n}").id


def children(pid: int) -> list[int]:
    """The server's own processes: those that the first one started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
