"""`op.finish(connection=...)` in a guarded handler: what the client is told always agrees with what was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from finishworld import FinishWorld, charged, finish_world
from postgres_server import PostgresServer
from shopworld import rule
from starlette.background import BackgroundTask
from tcp_proxy import Mode, proxied

from cxguard.asgi import GuardMiddleware
from cxguard.core.money import MoneyState
from cxguard.core.operation import State
from cxguard.engine import finishing
from cxguard.engine.handle import current_operation
from cxguard.errors import FinishRefused, StoreUnavailable
from cxguard.gateways.base import Charge
from cxguard.testing.faulty_store import Fault, FaultyStore

pytestmark = pytest.mark.server


@pytest.fixture
def server(shared_postgres: PostgresServer) -> PostgresServer:
    return shared_postgres


class Crash(Exception):
    """A bug of the shop's own."""


class Shop:
    """A FastAPI shop on the world's database; *routes* registers `POST /pay`."""

    def __init__(self, world: FinishWorld, client: httpx.AsyncClient) -> None:
        self.world = world
        self.client = client

    async def pay(self, key: str = "k1") -> httpx.Response:
        headers = {"x-user": "ann", "idempotency-key": key}
        return await self.client.post("/pay", json={"amount": 4999, "currency": "EUR", "cart": "c1"}, headers=headers)


@asynccontextmanager
async def shop_on(server: PostgresServer, handler: Any, wrap: Any = None, **changes: Any) -> AsyncIterator[Shop]:
    """*handler* gets the world, and gives a FastAPI endpoint."""
    around = {"wrap": wrap} if wrap is not None else {}
    async with finish_world(server, rules=(rule(**changes),), **around) as world:
        app = FastAPI()
        app.post("/pay", status_code=201)(handler(world))
        guarded = GuardMiddleware(app, guard=world.guard)
        transport = httpx.ASGITransport(guarded, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            yield Shop(world, client)


def in_one_block(world: FinishWorld, *, crash: bool = False, roll_back: bool = False) -> Any:
    """The transaction begins and ends inside the handler."""

    async def pay() -> Any:
        op = current_operation()
        answer = JSONResponse({"paid": await charged(op)}, status_code=201, headers={"x-order": "o1"})
        try:
            async with await world.connect() as connection, connection.transaction():
                await world.write(connection)
                await op.finish(answer, connection=connection)
                if roll_back:
                    raise Crash
        except Crash:
            pass  # and the handler goes on as if all were well
        if crash:
            raise Crash
        return answer

    return pay


@pytest.mark.asyncio
async def test_repeat_gets_the_answer_that_was_committed(server: PostgresServer) -> None:
    """Order, end and answer in one transaction: a repeat gets the same bytes, and nothing runs again."""
    async with shop_on(server, in_one_block) as shop:
        first, again = await shop.pay(), await shop.pay()
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.headers["idempotency-replayed"] == "true"
        assert (again.content, again.headers["x-order"]) == (first.content, "o1")
        assert await shop.world.orders() == ["o1"]
        assert (await shop.world.record()).state is State.FINISHED


@pytest.mark.asyncio
async def test_handler_that_fails_after_the_commit_has_sold_all_the_same(server: PostgresServer) -> None:
    """The order is there and paid; an exception after the commit is not the shopper's: they get the committed answer."""
    async with shop_on(server, lambda world: in_one_block(world, crash=True)) as shop:
        first, again = await shop.pay(), await shop.pay()
        assert (first.status_code, first.json()) == (201, {"paid": "pay_1"})
        assert again.content == first.content
        assert len(shop.world.gateway.standing) == 1


@pytest.mark.asyncio
async def test_handler_that_says_thank_you_over_a_rollback_is_corrected(server: PostgresServer) -> None:
    """Charged, and the shop's own order rolled back: "you have paid, we are finishing it", never the handler's thanks."""
    async with shop_on(server, lambda world: in_one_block(world, roll_back=True)) as shop:
        answer = await shop.pay()
        assert answer.status_code != 201
        assert (answer.json()["money"], answer.json()["situation"]) == ("charged", "paid_unfinished")
        record = await shop.world.record()
        assert (record.state, record.money) == (State.HELD, MoneyState.CHARGED)


class Away(FaultyStore):
    """A store that joins, and whose guard cannot reach it when it wants to know how that went."""

    async def join(self, connection: Any, **options: Any) -> Any:
        self.decide = lambda verb: Fault.NOT_DONE if verb in ("get", "save", "note") else None
        return await self.store.join(connection, **options)  # type: ignore[attr-defined]

    async def is_open(self, name: str) -> bool:
        raise StoreUnavailable("away")


@pytest.mark.parametrize("roll_back", [False, True])
@pytest.mark.asyncio
async def test_what_the_store_cannot_confirm_is_not_told_as_sold(server: PostgresServer, roll_back: bool) -> None:
    """The guard cannot look how the transaction ended: "you have paid, we are finishing it", whether it held or not."""

    def handler(world: FinishWorld) -> Any:
        return in_one_block(world, roll_back=roll_back)

    async with shop_on(server, handler, wrap=Away) as shop:
        assert (await shop.pay()).json()["situation"] == "paid_unfinished"
        shop.world.guard.store.heal()  # type: ignore[attr-defined]
        shop.world.clock.advance(60.0)
        breaker = shop.world.guard.store_breaker
        assert breaker is not None
        assert not breaker.away or await breaker.probe_once()
        assert (await shop.world.orders() == ["o1"]) is not roll_back
        again = await shop.pay()
        assert again.status_code == 201 if not roll_back else again.json()["situation"] != "placed"
        assert len(shop.world.gateway.standing) == 1


def as_a_dependency(world: FinishWorld, *, fails: bool = False) -> Any:
    """As FastAPI shops often have it: the transaction commits once the response is made."""

    async def transaction() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await world.connect() as connection, connection.transaction():
            yield connection
            if fails:
                raise Crash

    given = Depends(transaction)

    async def pay(connection: Any = given) -> dict[str, str]:
        op = current_operation()
        answer = {"paid": await charged(op)}
        await world.write(connection)
        await op.finish(answer, connection=connection, status=201)
        return answer

    return pay


@pytest.mark.asyncio
async def test_commit_after_the_response_was_made(server: PostgresServer) -> None:
    """A dependency that commits behind the handler's back: the client is told after the commit, a repeat the same bytes."""
    async with shop_on(server, as_a_dependency) as shop:
        first, again = await shop.pay(), await shop.pay()
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.content == first.content
        assert (await shop.world.record()).state is State.FINISHED


@pytest.mark.asyncio
async def test_commit_that_fails_after_the_response_was_made(server: PostgresServer) -> None:
    """The response was made, the commit failed: it is held back, and the shopper hears what is true."""
    async with shop_on(server, lambda world: as_a_dependency(world, fails=True)) as shop:
        answer = await shop.pay()
        assert answer.json()["situation"] == "paid_unfinished"
        assert await shop.world.orders() == []


@pytest.mark.asyncio
async def test_transaction_that_outlives_the_handler_is_not_told_as_sold(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left open: nobody can know. The client hears that they have paid and that it is being finished; a late commit then holds."""
    monkeypatch.setattr(finishing, "OPEN_SECONDS", 0.1)
    left: list[psycopg.AsyncConnection[Any]] = []

    def leaving(world: FinishWorld) -> Any:
        async def pay() -> dict[str, str]:
            op = current_operation()
            left.append(await world.connect())
            answer = {"paid": await charged(op)}
            await op.finish(answer, connection=left[0], status=201)
            return answer

        return pay

    async with shop_on(server, leaving) as shop:
        assert (await shop.pay()).json()["situation"] == "paid_unfinished"
        assert "operation.flagged" in shop.world.events
        await left[0].commit()
        await left[0].close()
        assert (await shop.pay()).json() == {"paid": "pay_1"}


@pytest.mark.parametrize("mode", [Mode.CUT_BEFORE_ANSWER, Mode.CUT_BEFORE_REQUEST])
@pytest.mark.asyncio
async def test_commit_without_an_answer_is_looked_up(server: PostgresServer, mode: Mode) -> None:
    """The connection breaks at the commit, and the handler fails: what is told is what the database has done."""
    async with proxied("127.0.0.1", server.port) as proxy:

        def handler(world: FinishWorld) -> Any:
            async def pay() -> dict[str, str]:
                op, answer = current_operation(), {"paid": await charged(current_operation())}
                url = world.url.replace(f":{server.port}", f":{proxy.port}")
                async with await psycopg.AsyncConnection.connect(url, prepare_threshold=None) as connection:
                    await world.write(connection)
                    await op.finish(answer, connection=connection, status=201)
                    proxy.mode = mode
                return answer

            return pay

        async with shop_on(server, handler) as shop:
            first, again = await shop.pay(), await shop.pay()
            sold = await shop.world.orders() == ["o1"]
            assert sold is (mode is Mode.CUT_BEFORE_ANSWER)
            if sold:
                assert (first.status_code, first.json(), again.content) == (201, {"paid": "pay_1"}, first.content)
            else:
                assert (first.json()["situation"], first.json()["money"]) == ("paid_unfinished", "charged")
            assert len(shop.world.gateway.standing) == 1


@pytest.mark.asyncio
async def test_answer_that_has_gone_out_is_not_changed_by_a_late_finish(server: PostgresServer) -> None:
    """A background task that finishes after the answer went out is refused: what repeats get would be another one."""
    refused: list[str] = []

    def handler(world: FinishWorld) -> Any:
        async def late(op: Any) -> None:
            for _ in range(500):
                if op.work.operation.answer is not None:
                    break
                await asyncio.sleep(0.01)
            async with await world.connect() as connection:
                with pytest.raises(FinishRefused) as caught:
                    await op.finish({"other": 1}, connection=connection)
            refused.append(caught.value.why)

        async def pay() -> JSONResponse:
            op = current_operation()
            return JSONResponse({"paid": await charged(op)}, status_code=201, background=BackgroundTask(late, op))

        return pay

    async with shop_on(server, handler, settle_seconds=0.0) as shop:
        first, again = await shop.pay(), await shop.pay()
        assert (first.json(), again.content) == ({"paid": "pay_1"}, first.content)
    assert refused == ["answered"]


@pytest.mark.asyncio
async def test_shop_that_charges_by_itself_finishes_as_charged(server: PostgresServer) -> None:
    """`charged_by="shop"`: the last write says that the shop's own code has charged."""

    def by_itself(world: FinishWorld) -> Any:
        async def pay() -> dict[str, str]:
            async with await world.connect() as connection, connection.transaction():
                await world.write(connection)
                await current_operation().finish({"order": "o1"}, connection=connection, status=201)
            return {"order": "o1"}

        return pay

    async with shop_on(server, by_itself, charged_by="shop") as shop:
        assert (await shop.pay()).status_code == 201
        record = await shop.world.record()
        assert (record.state, record.money, record.captured_minor) == (State.FINISHED, MoneyState.CHARGED, 4999)


@pytest.mark.parametrize(("named", "status"), [({}, 200), ({"status": 201}, 201)])
@pytest.mark.asyncio
async def test_view_that_is_not_async_says_what_a_repeat_gets(server: PostgresServer, named: dict[str, int], status: int) -> None:
    """On its own blocking connection: the JSON that it gave, with its status."""

    def in_a_thread(world: FinishWorld) -> Any:
        def pay() -> Any:
            op = current_operation().sync
            op.charge(Charge(4999, "EUR", source="tok_ok"))
            with psycopg.connect(world.url) as connection:
                op.finish({"sold": True}, connection=connection, **named)
            return JSONResponse({"sold": True}, status_code=status)

        return pay

    async with shop_on(server, in_a_thread) as shop:
        first, again = await shop.pay(), await shop.pay()
        assert (first.status_code, again.status_code, again.json()) == (status, status, {"sold": True})
        assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.asyncio
async def test_repeat_gets_200_where_no_status_was_named(server: PostgresServer) -> None:
    """As of any JSON body."""

    def sells(world: FinishWorld) -> Any:
        async def pay() -> Any:
            await charged(op := current_operation())
            async with await world.connect() as connection, connection.transaction():
                await op.finish({"sold": True}, connection=connection)
            return JSONResponse({"sold": True})

        return pay

    async with shop_on(server, sells) as shop:
        first, again = await shop.pay(), await shop.pay()
        assert (first.json(), again.status_code, again.json()) == ({"sold": True}, 200, {"sold": True})
