"""What is known after a write to PostgreSQL that did not end well, and what others may not do to it. On real servers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from postgres_server import PostgresServer, running_postgres

from cxguard.core.operation import State, changed
from cxguard.errors import StoreError, StoreUnavailable, StoreUnfit
from cxguard.stores.codec import encode_note
from cxguard.stores.postgres import PostgresStore, writing
from cxguard.testing.contract.base import LEASE_SECONDS, SHOP, charged_note, got, open_leased, put, queued, sample, take, token_of

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres(options="-c max_connections=30") as running:
        yield running


@pytest.fixture(autouse=True)
def _locks_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough to be seen waiting, on a busy machine too."""
    monkeypatch.setattr(writing, "LOCK_SECONDS", 10.0)


@pytest.fixture
def schema() -> str:
    return f"c{secrets.token_hex(6)}"


@pytest_asyncio.fixture
async def store(server: PostgresServer, schema: str) -> AsyncIterator[PostgresStore]:
    async with started(server, schema) as store:
        yield store


@asynccontextmanager
async def started(server: PostgresServer, schema: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(server.url, schema=schema, patience_seconds=10.0)
    await store.start()
    yield store
    await store.stop()


async def sql(server: PostgresServer, *texts: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        for text in texts:
            cursor = await connection.execute(text.encode())
        return await cursor.fetchall() if cursor.description else []


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await happened():
                return


async def waiting(server: PostgresServer, event: str) -> bool:
    """Whether one of our connections waits for *event*."""
    found = await sql(server, f"SELECT 1 FROM pg_stat_activity WHERE application_name = 'cxguard' AND wait_event = '{event}'")
    return bool(found)


@asynccontextmanager
async def standby_away(server: PostgresServer) -> AsyncIterator[None]:
    """Every commit waits for a standby that nobody has ever seen."""
    await sql(server, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await sql(server, "SET synchronous_commit = local", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("verb", ["open", "note"])
async def test_commit_without_its_standby_is_unknown(store: PostgresStore, server: PostgresServer, end: str, verb: str) -> None:
    """Whoever cancels the wait for the standby makes the server say success: we say that nobody knows, and the record is there."""
    if verb == "note":
        await put(store, queued("a"))
    async with standby_away(server):
        await until(lambda: commit_waits(server))
        writing = asyncio.ensure_future(
            put(store, queued("a")) if verb == "open" else store.note(sample("a").id, charged_note(), namespace=SHOP)
        )
        await until(lambda: waiting(server, "SyncRep"))
        await sql(server, f"SELECT {end}(pid) FROM pg_stat_activity WHERE application_name = 'cxguard' AND wait_event = 'SyncRep'")
        with pytest.raises(StoreUnavailable):
            await writing
    found = await got(store, sample("a").id)
    assert len(found.notes) == (verb == "note")


async def commit_waits(server: PostgresServer) -> bool:
    """Whether the server has read its new settings."""
    return (await sql(server, "SHOW synchronous_standby_names"))[0][0] == "nobody"


async def test_connection_that_ends_while_it_waits_for_a_lock_has_written_nothing(
    store: PostgresStore, server: PostgresServer, schema: str
) -> None:
    """Ended before its commit: the caller hears that nobody knows; the record is as it was, and the next write works."""
    first = await put(store, queued("a"))
    async with await psycopg.AsyncConnection.connect(server.url) as holding:
        await holding.execute(f"SELECT 1 FROM {schema}.operations FOR UPDATE".encode())
        noting = asyncio.ensure_future(store.note(first.id, charged_note(), namespace=SHOP))
        await until(lambda: waiting(server, "transactionid"))
        await sql(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'transactionid'")
        with pytest.raises(StoreUnavailable):
            await noting
    assert (await got(store, first.id)).revision == first.revision
    assert len((await store.note(first.id, charged_note(), namespace=SHOP)).notes) == 1


async def test_fact_that_comes_while_a_save_waits_is_seen(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """A save that stood before a lock reads the notes again: else it would put the record to rest with a fact unfolded."""
    leased = await open_leased(store, sample("a"))
    async with started(server, schema) as other, await psycopg.AsyncConnection.connect(server.url) as noting:
        note = encode_note(charged_note())
        await noting.execute(
            f"UPDATE {schema}.operations SET notes = 1, due_at = 0, revision = nextval('{schema}.numbers')".encode()
        )
        await noting.execute(f"INSERT INTO {schema}.notes VALUES (%s, 1, 'event-1', %s)".encode(), (leased.id, note))
        saving = asyncio.ensure_future(other.save(changed(leased, state=State.HELD), token=token_of(leased), keep_lease=False))
        await until(lambda: waiting(server, "transactionid"))
        await noting.commit()
        saved = await saving
    assert [each.event_id for each in saved.notes] == ["event-1"]
    assert saved.due_at is not None, "a fact that nobody has folded makes the record due"


async def test_fact_from_another_process_makes_the_next_save_look(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """What a process believes of a record that it holds is compared before it is replaced."""
    await put(store, queued("a", due_at=0.0))
    (taken,) = await take(store)
    async with started(server, schema) as other:
        await other.note(taken.id, charged_note(), namespace=SHOP)
    saved = await store.save(changed(taken, due_at=None), token=token_of(taken), keep_lease=False)
    assert (len(saved.notes), saved.due_at is not None) == (1, True)


async def test_renewal_by_another_loop_is_not_undone_by_a_save(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """The heartbeat lengthens the lease from its own thread: a save that keeps it leaves its end as it is."""
    leased = await open_leased(store, sample("a"))
    async with started(server, schema) as heartbeat:
        assert not await heartbeat.renew({leased.id: token_of(leased)}, lease_seconds=100 * LEASE_SECONDS)
    saved = await store.save(leased, token=token_of(leased), keep_lease=True)
    stored = await got(store, leased.id)
    assert saved.lease == stored.lease
    assert stored.lease is not None
    assert stored.lease.until > await store.clock() + 50 * LEASE_SECONDS


BAD = {
    "a NUL": {"session": "a\x00b"},
    "half a character": {"session": "\ud800"},
    "a number too large": {"amount_minor": 10**30, "currency": "EUR"},
}


@pytest.mark.parametrize("what", BAD)
async def test_value_that_cannot_be_kept_fails_its_own_caller_alone(store: PostgresStore, what: str) -> None:
    """Orders that share a batch with one that the server refuses are taken in, and the text tells nothing of the value."""
    bad = queued("bad", **BAD[what])
    results = await asyncio.gather(
        *(put(store, queued(f"n{n}")) for n in range(5)), put(store, bad), return_exceptions=True
    )
    assert [type(each).__name__ for each in results] == ["Operation"] * 5 + ["ValueError"]
    assert await store.get(bad.id) is None
    note = dataclasses.replace(charged_note(), event_id="e\x00")
    facts = await asyncio.gather(
        store.note(queued("n0").id, note, namespace=SHOP),
        store.note(queued("n1").id, charged_note(), namespace=SHOP),
        return_exceptions=True,
    )
    assert [isinstance(each, ValueError) for each in facts] == [True, False]


async def test_server_that_turns_read_only_is_unfit_until_it_writes_again(store: PostgresStore, server: PostgresServer) -> None:
    """A primary that became read-only under open connections is noticed; when it writes again, so do we."""
    await sql(server, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")

    async def refused() -> bool:
        try:
            await put(store, queued(secrets.token_hex(4)))
        except StoreUnfit:
            return True
        except StoreUnavailable:
            return False
        return False

    try:
        await until(refused)
    finally:
        await sql(
            server,
            "SET default_transaction_read_only = off",
            "SET transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )
    await until(lambda: works(store, queued(secrets.token_hex(4))))


async def works(store: PostgresStore, operation: Any) -> bool:
    try:
        return (await store.open(operation, holder="h", attempt=operation.id, lease_seconds=None)).won
    except StoreError:
        return False


async def test_server_without_room_for_us_is_unavailable(server: PostgresServer, schema: str) -> None:
    """All of the server's connections are taken: that passes, and is no mistake in the settings."""
    held = []
    try:
        with suppress(psycopg.OperationalError):
            while len(held) < 40:
                held.append(await psycopg.AsyncConnection.connect(server.url))
        with pytest.raises(StoreUnavailable, match=r"too many|reserved"):
            await PostgresStore(server.url, schema=schema).start()
    finally:
        for connection in held:
            await connection.close()


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk of 8 MB that the server may write on."""
    with tempfile.TemporaryDirectory(prefix="cxguard-small-") as place:
        Path(place).chmod(0o777)
        disk = Path(place) / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "tmpfs", disk], check=False, capture_output=True).returncode:
            pytest.skip("only root may mount a small disk")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", disk], check=True)


async def test_full_disk_refuses_and_recovers(schema: str) -> None:
    """While the disk is full nothing is said to be kept that is not; when there is room again, orders are taken in."""
    with small_disk() as disk, running_postgres() as server:
        os.chown(disk, server.data.stat().st_uid, -1)
        async with started(server, schema) as store:
            await sql(server, f"CREATE TABLESPACE small LOCATION '{disk}'", f"ALTER TABLE {schema}.operations SET TABLESPACE small")
            ballast = disk / "ballast"
            with suppress(OSError):
                ballast.write_bytes(bytes(8 << 20))
            kept = 0
            with pytest.raises(StoreUnavailable):
                while True:
                    await put(store, queued(f"n{kept}", request=secrets.token_bytes(3000)))
                    kept += 1
            ballast.unlink()
            await until(lambda: works(store, queued("after")))
            assert sum((await store.tally(SHOP)).operations.values()) == kept + 1


async def test_claims_that_go_and_come_at_once_stop_nobody(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """Orders end and give up their claim while another process opens the next one under it: no deadlock, no two holders."""
    async with started(server, schema) as other:
        for turn in range(15):
            claims = tuple(f"basket-{turn}-{n}" for n in range(4))
            held = [await open_leased(store, sample(f"{turn}-{n}", claims=(claim,))) for n, claim in enumerate(claims)]
            ending = [store.save(changed(each, claims=()), token=token_of(each), keep_lease=False) for each in held]
            wishes = [sample(f"{turn}-all", claims=claims), sample(f"{turn}-back", claims=claims[::-1])]
            opening = [other.open(wish, holder="h", attempt=wish.id, lease_seconds=LEASE_SECONDS) for wish in wishes]
            *_, first, second = await asyncio.gather(*ending, *opening)
            assert not (first.won and second.won)
    deadlocks = await sql(server, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == [(0,)]
