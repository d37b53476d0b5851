"""A server that stands still, or answers as slowly as it may: nothing that the store was asked waits for it without an end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Collection, Iterator
from typing import cast

import pytest
from cut_wire import cut_wire
from redis_crowd import until_available
from redis_servers import RedisServer, have_redis, running_cluster, running_redis

from cxguard.core.operation import Operation
from cxguard.engine.leases import Leases
from cxguard.engine.store_breaker import POLICY as STORE_POLICY
from cxguard.engine.store_breaker import StoreBreaker, breaker_around
from cxguard.errors import PartAway, PartlyRenewed, StoreUnavailable
from cxguard.events import Bus
from cxguard.stores.base import Query, SessionBatch, Store
from cxguard.stores.redis import RedisStore, line
from cxguard.stores.redis.line import END_FACTOR, PATIENCE_FACTOR
from cxguard.stores.redis.partitions import partition_of, tag
from cxguard.testing import ManualClock
from cxguard.testing.contract.base import LEASE_SECONDS, SHOP, apart, charged_note, open_leased, put, queued, sample, seen, take, token_of

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

SECONDS = 0.2
PART_SECONDS = 0.8  # of a cluster: a busy machine takes its time, and that is not the server's
LINE_SECONDS = 1.5  # of a long line: an answer that comes in good time must do so on a busy machine, too
SLACK_SECONDS = 1.0  # two cores, for all of this


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_redis() as running:
        yield running


def store_at(url: str, **settings: object) -> RedisStore:
    return RedisStore(url, prefix=f"b{secrets.token_hex(6)}", **{"answer_seconds": SECONDS, **settings})


async def test_every_verb_ends_while_the_server_stands_still(server: RedisServer) -> None:
    """SIGSTOP, then every verb, one after another and all at once: each is "nobody knows", in its time; and so is the start."""
    store, late = store_at(server.url), store_at(server.url)
    await store.start()
    opened = await open_leased(store, sample("a"))
    token = token_of(opened)
    server.process.pause()
    try:
        for name, call in [*verbs(store, opened, token), ("start", late.start())]:
            await assert_ends(name, call)
        async with asyncio.timeout(PATIENCE_FACTOR * SECONDS + SLACK_SECONDS):
            answers = await asyncio.gather(*(call for _, call in verbs(store, opened, token)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        async with asyncio.timeout(END_FACTOR * SECONDS + SLACK_SECONDS):
            await store.stop()
    finally:
        server.process.resume()


def verbs(store: RedisStore, opened: Operation, token: int) -> list[tuple[str, Awaitable[object]]]:
    """Every verb that asks the server, by its name."""
    operation = sample("b")
    note = charged_note()
    return [
        ("open", store.open(operation, holder="h", attempt="a", lease_seconds=LEASE_SECONDS)),
        ("save", store.save(opened, token=token, keep_lease=True)),
        ("take", take(store)),
        ("seize", store.seize(seen(opened), holder="h", attempt="b", lease_seconds=LEASE_SECONDS)),
        ("renew", store.renew({sample("a").id: token}, lease_seconds=LEASE_SECONDS)),
        ("note", store.note(operation.id, note, namespace=SHOP)),
        ("put", put(store, queued("c"))),
        ("get", store.get(operation.id)),
        ("search", store.search(Query(SHOP, limit=10))),
        ("search by claim", store.search(Query(SHOP, claim="c"))),
        ("tally", store.tally(SHOP)),
        ("prune", store.prune(namespace=SHOP, limit=10)),
        ("load", store.load("k")),
        ("swap", store.swap("k", revision=0, value=b"")),
        ("sessions", store.sessions(["s"])),
        ("record", store.record(SessionBatch(id="i", rows=(), counters={"n": 1.0}))),
        ("counters", store.counters("n")),
        ("clock", store.clock()),
        ("announce", store.announce(["t"])),
    ]


async def assert_ends(name: str, call: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_FACTOR * SECONDS + SLACK_SECONDS):
            with pytest.raises(StoreUnavailable):
                await call
    except TimeoutError:
        raise AssertionError(f"{name} waits for a server that stands still") from None


async def test_stop_ends_though_the_line_is_long(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer comes in good time, and the line takes longer than a stop: it takes its own time, not theirs, and each caller is
    told."""
    monkeypatch.setattr(line, "BATCH_MAX", 2)
    monkeypatch.setattr(line, "END_FACTOR", 2)
    async with cut_wire(server.port) as wire:
        store = store_at(f"redis://127.0.0.1:{wire.port}", answer_seconds=LINE_SECONDS)
        await store.start()
        await put(store, queued("before"))
        wire.answers_delay_seconds = 0.2 * LINE_SECONDS
        calls = [asyncio.ensure_future(put(store, queued(f"n{n}"))) for n in range(200)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        async with asyncio.timeout(2 * LINE_SECONDS + SLACK_SECONDS):
            with pytest.raises(StoreUnavailable, match="calls on their way"):
                await store.stop()
            answers = await asyncio.gather(*calls, return_exceptions=True)
        told = [answer for answer in answers if isinstance(answer, BaseException)]
        assert {type(answer) for answer in told} == {StoreUnavailable}
        assert any("was stopped: nothing was sent" in str(answer) for answer in told)


async def test_part_that_stands_still_holds_up_no_other() -> None:
    """One primary of a cluster is frozen: its owners hear that nobody knows; those elsewhere are served at once, their queue too."""
    with running_cluster(replicas=0, **{"cluster-node-timeout": "15000"}) as cluster:
        store = store_at(cluster.url, answer_seconds=PART_SECONDS)
        await store.start()
        frozen = cluster.servers[0]
        stuck = {n for n in range(store.partitions) if cluster.primary_of(tag(store.prefix, n)) is frozen}
        lost, well = (names(store, stuck, elsewhere=elsewhere) for elsewhere in (False, True))
        await asyncio.gather(*(put(store, apart(name, due_at=1.0)) for name in well[:20]))
        leases, breaker = await held(store, [lost[-1], well[-1]])
        frozen.process.pause()
        try:
            for _ in range(STORE_POLICY.consecutive_failures + 1):
                await assert_only_what_is_answered_is_renewed(leases, lost=lost[-1], well=well[-1])
            assert not breaker.away, "the other servers answer"
            refused = asyncio.gather(*(put(store, apart(name)) for name in lost[:200]), return_exceptions=True)
            waits = [await seconds_of(put(store, apart(name))) for name in well[20:200]]
            taken = [each.id for _ in range(3) for each in await take(store)]
            assert {type(answer) for answer in await refused} == {PartAway}
        finally:
            frozen.process.resume()
        assert max(waits) < PART_SECONDS
        assert sorted(taken) == sorted(apart(name).id for name in well[:20])
        await until_available(store, "after", spread=50)
        await store.stop()


async def test_part_that_is_away_is_not_the_store() -> None:
    """The primary of the first part is dead for good, and its owners press on: those elsewhere are never told that the store is
    away, and the clock is another server's."""
    with running_cluster(replicas=0, **{"cluster-node-timeout": "15000"}) as cluster:
        store = store_at(cluster.url, answer_seconds=PART_SECONDS)
        breaker = breaker_around(store, ManualClock(), bus=Bus(), confirm=confirmed)
        await breaker.start()
        dead = cluster.primary_of(tag(store.prefix, 0))
        stuck = {n for n in range(store.partitions) if cluster.primary_of(tag(store.prefix, n)) is dead}
        lost, well = (names(store, stuck, elsewhere=elsewhere) for elsewhere in (False, True))
        guarded = cast(Store, breaker)
        await put(guarded, apart(well[0]))
        dead.process.pause()
        try:
            for n in range(1, 3 * STORE_POLICY.consecutive_failures):
                with pytest.raises(PartAway):
                    await put(guarded, apart(lost[n]))
                await put(guarded, apart(well[n]))
            refused = await asyncio.gather(*(put(guarded, apart(name)) for name in lost[100:110]), return_exceptions=True)
            assert {type(answer) for answer in refused} == {PartAway}
            assert await guarded.clock() > 0
            assert not breaker.away
        finally:
            dead.process.resume()
        await store.stop()


async def test_part_that_refuses_us_is_not_the_store() -> None:
    """One primary's users were changed: its owners are told that their part is away, and nobody else notices."""
    with running_cluster(replicas=0) as cluster:
        store = store_at(cluster.url, answer_seconds=PART_SECONDS)
        breaker = breaker_around(store, ManualClock(), bus=Bus(), confirm=confirmed)
        await breaker.start()
        server = cluster.primary_of(tag(store.prefix, 0))
        part = {n for n in range(store.partitions) if cluster.primary_of(tag(store.prefix, n)) is server}
        lost, well = (names(store, part, elsewhere=elsewhere) for elsewhere in (False, True))
        guarded = cast(Store, breaker)
        await put(guarded, apart(well[0]))
        server.run("ACL", "SETUSER", "default", "-@scripting")
        for n in range(1, 3 * STORE_POLICY.consecutive_failures):
            with pytest.raises(PartAway):
                await put(guarded, apart(lost[n]))
        assert not breaker.away
        await put(guarded, apart(well[1]))
        await store.stop()


async def held(store: RedisStore, owners: Collection[str]) -> tuple[Leases, StoreBreaker]:
    """This process holds an order of each owner; its store is behind a breaker, as a guard's is."""
    clock = ManualClock()
    breaker = breaker_around(store, clock, bus=Bus(), confirm=confirmed)
    await breaker.start()
    leases = Leases(cast(Store, breaker), clock, beat_seconds=5.0, on_lost=lambda id: None)
    for name in owners:
        opened = await open_leased(store, apart(name))
        leases.add(opened.id, token_of(opened), lease_seconds=LEASE_SECONDS, run_seconds_max=600.0, asked_at=clock.monotonic())
    clock.advance(LEASE_SECONDS / 2)
    return leases, breaker


async def confirmed(store: Store) -> None:
    """It is the right one."""


async def assert_only_what_is_answered_is_renewed(leases: Leases, *, lost: str, well: str) -> None:
    """A run whose record lies elsewhere goes on; of the other nobody knows."""
    begun = {lease.id: lease.safe_until for lease in leases.held()}
    with pytest.raises(PartlyRenewed) as silence:
        await leases.renew_once()
    assert (silence.value.lost, silence.value.unanswered) == (frozenset(), {apart(lost).id})
    now = {lease.id: lease.safe_until for lease in leases.held()}
    assert now[apart(well).id] > now[apart(lost).id]
    assert now[apart(lost).id] == begun[apart(lost).id]


def names(store: RedisStore, partitions: Collection[int], *, elsewhere: bool) -> list[str]:
    """Owners whose orders lie in these partitions, or in the others."""
    found = (f"o{n}" for n in range(5_000))
    return [name for name in found if (partition_of(apart(name).id, store.partitions) in partitions) is not elsewhere]


async def seconds_of(call: Awaitable[object]) -> float:
    began = asyncio.get_running_loop().time()
    await call
    return asyncio.get_running_loop().time() - began
