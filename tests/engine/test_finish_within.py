"""`op.finish(connection=...)`: the shop's own order and the end of the operation commit together, or neither does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from finishworld import WHO, FinishWorld, charged, finish_world
from postgres_server import PostgresServer
from psycopg.rows import dict_row

from cxguard.core.money import MoneyState
from cxguard.core.operation import State, money_of
from cxguard.core.outcomes import Charged
from cxguard.engine import finishing
from cxguard.errors import (
    LeaseLost,
    OperationHeld,
    OperationInFlight,
    StoreUnavailable,
    TransactionOpen,
    TransactionRolledBack,
)
from cxguard.testing.fake_gateway import Does
from cxguard.testing.faulty_store import Fault, FaultyStore

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


class Gone(Exception):
    """What the shop's own code raises in the middle."""


@pytest.fixture
def server(shared_postgres: PostgresServer) -> PostgresServer:
    return shared_postgres


@pytest_asyncio.fixture
async def world(server: PostgresServer) -> AsyncIterator[FinishWorld]:
    async with finish_world(server) as made:
        yield made


async def place(op: Any, world: FinishWorld, fail: bool = False) -> None:
    payment = await charged(op)
    async with await world.connect() as connection, connection.transaction():
        await world.write(connection)
        await op.finish({"payment": payment}, connection=connection)
        if fail:
            raise Gone


async def test_order_and_answer_commit_together(world: FinishWorld) -> None:
    """One transaction of the shop's: its order, the end of the operation and its result are there; a repeat runs nothing."""
    assert await world.guard.run(place, world, **WHO) == {"payment": "pay_1"}
    record = await world.record()
    assert (record.state, record.money, record.lease) == (State.FINISHED, MoneyState.CHARGED, None)
    assert await world.other.run(place, world, **WHO) == {"payment": "pay_1"}
    assert await world.orders() == ["o1"]
    assert await world.counted() == {("finished", "charged"): 1}
    assert world.events.count("operation.finished") == 1


async def test_rolled_back_write_leaves_the_order_unfinished_and_charged_once(world: FinishWorld) -> None:
    """The shop's transaction fails after `op.finish`: neither is there, and the charge waits for whoever completes the order."""
    with pytest.raises(Gone):
        await world.guard.run(place, world, True, **WHO)
    record = await world.record()
    assert (record.state, record.money, record.why) == (State.QUEUED, MoneyState.CHARGED, "order_missing")
    assert await world.orders() == []
    assert await world.counted() == {("queued", "charged"): 1}
    assert len(world.gateway.standing) == 1


async def test_facts_that_the_store_has_lost_come_back_with_the_commit(world: FinishWorld) -> None:
    """Charged by the word of a look-up that an older copy has not heard: once it was promoted, the order ends as paid all the same."""

    async def promoted(op: Any) -> None:
        world.gateway.will(Does.CHARGE_THEN_UNKNOWN)
        payment = await charged(op)
        async with await world.connect() as connection, connection.transaction():
            await connection.execute(f"DELETE FROM {world.schema}.notes".encode())
            await connection.execute(f"UPDATE {world.schema}.operations SET notes = 0".encode())
        async with await world.connect() as connection, connection.transaction():
            await op.finish({"payment": payment}, connection=connection)

    assert await world.guard.run(promoted, **WHO) == {"payment": "pay_1"}
    await world.rest()
    record = await world.record()
    assert (record.state, money_of(record).state) == (State.FINISHED, MoneyState.CHARGED)


class Promoted(FaultyStore):
    """A store that joins. Once it has failed over it is reached for looks, and takes no facts."""

    life = ""

    @property
    def epoch(self) -> str:
        return f"{self.store.epoch}{self.life}"

    def fail_over(self) -> None:
        self.life = "again"
        self.plan("note", Fault.NOT_DONE, times=9)

    async def join(self, connection: Any, **options: Any) -> Any:
        return await self.store.join(connection, **options)  # type: ignore[attr-defined]

    async def is_open(self, name: str) -> Any:
        return await self.store.is_open(name)  # type: ignore[attr-defined]


async def test_end_is_not_committed_before_the_facts_that_were_lost_are_there_again(server: PostgresServer) -> None:
    """It would be finished, and nobody would look into what it was charged by."""

    async def promoted(op: Any, world: FinishWorld) -> None:
        world.gateway.will(Does.CHARGE_THEN_UNKNOWN)
        payment = await charged(op)
        async with await world.connect() as connection, connection.transaction():
            await connection.execute(f"DELETE FROM {world.schema}.notes".encode())
            await connection.execute(f"UPDATE {world.schema}.operations SET notes = 0".encode())
        world.guard.store.fail_over()  # type: ignore[attr-defined]
        async with await world.connect() as connection, connection.transaction():
            await world.write(connection)
            await op.finish({"payment": payment}, connection=connection)

    async with finish_world(server, wrap=Promoted) as world:
        with pytest.raises(StoreUnavailable):
            await world.guard.run(promoted, world, **WHO)
        assert (await world.orders(), (await world.record()).state) == ([], State.RUNNING)
        await world.rest()
        assert ((await world.record()).why, money_of(await world.record()).state) == ("order_missing", MoneyState.CHARGED)


async def test_second_transaction_may_do_what_the_first_could_not(world: FinishWorld) -> None:
    """Rolled back, written again, committed: one charge, one order, finished."""

    async def place_twice(op: Any) -> None:
        with pytest.raises(Gone):
            await place(op, world, True)
        await place(op, world)

    assert await world.guard.run(place_twice, **WHO) == {"payment": "pay_1"}
    assert (await world.record()).state is State.FINISHED
    assert await world.orders() == ["o1"]
    assert len(world.gateway.standing) == 1


async def test_swallowed_rollback_is_not_told_as_finished(world: FinishWorld) -> None:
    """A function that goes on as if its transaction had held is told that it did not."""

    async def swallow(op: Any) -> dict[str, str]:
        with pytest.raises(Gone):
            await place(op, world, True)
        return {"all": "well"}

    with pytest.raises(TransactionRolledBack):
        await world.guard.run(swallow, **WHO)
    assert (await world.record()).why == "order_missing"


async def test_savepoint_that_was_rolled_back_counts_as_rolled_back(world: FinishWorld) -> None:
    """The transaction commits, but not the part of it in which `op.finish` wrote."""

    async def within_savepoint(op: Any) -> None:
        payment = await charged(op)
        async with await world.connect() as connection, connection.transaction():
            await world.write(connection)
            with pytest.raises(Gone):
                async with connection.transaction():
                    await op.finish({"payment": payment}, connection=connection)
                    raise Gone

    with pytest.raises(TransactionRolledBack):
        await world.guard.run(within_savepoint, **WHO)
    assert (await world.record()).state is State.QUEUED


async def test_lost_lease_rolls_the_shops_transaction_back(world: FinishWorld) -> None:
    """Somebody else took the order over meanwhile: `LeaseLost`, and the shop's own order is not there either."""

    async def too_late(op: Any) -> None:
        await charged(op)
        world.clock.advance(10.0)  # still ours by our own clock
        await world.guard.store.renew({op.id: op.work.lease.token}, lease_seconds=1.0)
        world.clock.advance(2.0)
        with pytest.raises(OperationHeld):
            await world.other.run(place, world, **WHO)
        async with await world.connect() as connection, connection.transaction():
            await world.write(connection)
            await op.finish(None, connection=connection)

    with pytest.raises(LeaseLost):
        await world.guard.run(too_late, **WHO)
    assert await world.orders() == []
    assert len(world.gateway.standing) == 1
    assert "lease.lost" in world.events


async def test_transaction_that_is_left_open_is_named_and_blocks_nothing(world: FinishWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function ends while its transaction is open: an error, nothing else written; a later commit still holds."""
    monkeypatch.setattr(finishing, "OPEN_SECONDS", 0.1)
    connection = await world.connect()

    async def leave_open(op: Any) -> None:
        await world.write(connection)
        await op.finish({"payment": await charged(op)}, connection=connection)

    with pytest.raises(TransactionOpen, match="still open"):
        await world.guard.run(leave_open, **WHO)
    with pytest.raises(OperationInFlight):
        await world.other.run(place, world, **WHO)
    await connection.commit()
    await connection.close()
    assert await world.other.run(place, world, **WHO) == {"payment": "pay_1"}
    assert await world.orders() == ["o1"]


async def test_transaction_that_is_left_open_and_dropped_is_recovered(world: FinishWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, rolled back at last: the order lapses, and is seen to as charged without an order."""
    monkeypatch.setattr(finishing, "OPEN_SECONDS", 0.1)
    connection = await world.connect()

    async def leave_open(op: Any) -> None:
        await op.finish({"payment": await charged(op)}, connection=connection)

    with pytest.raises(TransactionOpen):
        await world.guard.run(leave_open, **WHO)
    await connection.close()
    await world.rest()
    record = await world.record()
    assert (record.state, record.money, record.why) == (State.HELD, MoneyState.CHARGED, "order_missing")


async def test_nothing_is_charged_or_run_after_the_last_write(world: FinishWorld) -> None:
    """A charge or a step behind `op.finish` is refused at once, without waiting for our own lock."""

    async def goes_on(op: Any) -> None:
        async with await world.connect() as connection, connection.transaction():
            await op.finish({"paid": False}, connection=connection)
            async with asyncio.timeout(2.0):
                with pytest.raises(TransactionOpen):
                    await charged(op)
                with pytest.raises(TransactionOpen):
                    await op.step("mail", dict)

    assert await world.guard.run(goes_on, **WHO) == {"paid": False}
    assert world.gateway.standing == []


async def test_webhook_that_comes_meanwhile_is_kept(world: FinishWorld) -> None:
    """A fact that is noted while the shop's transaction holds the record waits for it, and is there afterwards."""
    noting: list[asyncio.Task[Any]] = []

    async def with_webhook(op: Any) -> None:
        payment = await charged(op)
        async with await world.connect() as connection, connection.transaction():
            await op.finish({"payment": payment}, connection=connection)
            proof = next(send.outcome for send in op.work.operation.sends)
            noting.append(asyncio.create_task(world.other.note(proof, event_id="evt_1", gateway_key=op.gateway_key())))
            await asyncio.sleep(0.1)  # it may well wait by now; the test holds either way

    await world.guard.run(with_webhook, **WHO)
    await noting[0]
    record = await world.record()
    assert (record.state, record.money, len(record.notes)) == (State.FINISHED, MoneyState.CHARGED, 1)


async def test_transaction_that_takes_long_disturbs_nobody_else(world: FinishWorld) -> None:
    """A webhook waits for an order whose transaction hangs; other orders of the same process are paid, and no breaker opens."""

    async def paid(op: Any) -> dict[str, str]:
        return {"payment": await charged(op)}

    async def slowly(op: Any) -> None:
        payment = await charged(op)
        async with await world.connect() as connection, connection.transaction():
            await op.finish({"payment": payment}, connection=connection)
            proof = next(send.outcome for send in op.work.operation.sends)
            noting = asyncio.create_task(world.guard.note(proof, event_id="evt_1", gateway_key=op.gateway_key()))
            for n in range(3):
                await world.guard.run(paid, **{**WHO, "key": f"other{n}"})
                await world.guard.note(Charged(4999, "EUR"), event_id=f"evt_other{n}", gateway_key=f"unheard-of-{n}")
            assert not noting.done()
        await noting

    await world.guard.run(slowly, **WHO)
    counted = await world.counted()
    assert counted["finished", "charged"] == 4
    assert "store.unavailable" not in world.events


async def test_checkouts_do_not_wait_for_one_anothers_commit(world: FinishWorld) -> None:
    """Eight orders finish in eight transactions that are all open at once; the counters come out right."""
    everybody = asyncio.Barrier(8)

    async def together(op: Any) -> None:
        async with await world.connect() as connection, connection.transaction():
            await op.finish({}, connection=connection)
            async with asyncio.timeout(5.0):
                await everybody.wait()

    await asyncio.gather(*(world.guard.run(together, **{**WHO, "key": f"o{n}"}) for n in range(8)))
    assert await world.counted() == {("finished", "none"): 8}


async def test_serialization_failure_is_the_shops_own_to_repeat(world: FinishWorld) -> None:
    """Under REPEATABLE READ the driver's own error comes out, so that the shop's own loop tries again, and then it holds."""
    tries = []

    async def with_retries(op: Any) -> None:
        payment = await charged(op)
        async with await world.connect() as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            for _ in range(3):
                tries.append(payment)
                try:
                    async with connection.transaction():
                        await world.write(connection)
                        if len(tries) == 1:
                            await world.guard.store.renew({op.id: op.work.lease.token}, lease_seconds=30.0)
                        await op.finish({"payment": payment}, connection=connection)
                    return
                except psycopg.errors.SerializationFailure:
                    continue

    assert await world.guard.run(with_retries, **WHO) == {"payment": "pay_1"}
    assert tries == ["pay_1", "pay_1"]
    assert await world.orders() == ["o1"]


async def test_shops_own_settings_are_as_before(world: FinishWorld) -> None:
    """Its lock time-out and its rows as dicts stay; what it told the disk to skip is not skipped in this transaction."""

    async def look(op: Any) -> dict[str, str]:
        async with await world.connect(row_factory=dict_row) as connection, connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '7s'")
            await connection.execute("SET LOCAL synchronous_commit = off")
            await op.finish({}, connection=connection)
            for name, value in (("lock_timeout", "7s"), ("synchronous_commit", "on")):
                found = await connection.execute("SELECT current_setting(%s) AS value", (name,))
                assert await found.fetchone() == {"value": value}
        return {}

    await world.guard.run(look, **WHO)
    assert (await world.record()).state is State.FINISHED
