"""A shop whose orders lie in the same PostgreSQL as the guard's record, and are written in one transaction with its end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from postgres_server import PostgresServer
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.operation import Operation
from cxguard.engine.library import Purpose
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import Rule
from cxguard.stores.base import Query
from cxguard.stores.postgres import PostgresStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import FakeGateway

WHO = {"purpose": "order", "key": "o1", "owner": "ann"}


class FinishWorld:
    """One schema with the guard's tables and the shop's own; `guard` (whose store *wrap* may go around) and `other` work on it as
    two machines would."""

    def __init__(self, server: PostgresServer, *, rules: tuple[Rule, ...] = (), later: Any = None, wrap: Any = lambda store: store) -> None:
        self.url = server.url
        self.schema = f"f{secrets.token_hex(4)}"
        self.gateway = FakeGateway()
        self.clock = ManualClock()
        self.events: list[str] = []
        self.guard, self.other = self._guard(rules, later, wrap), self._guard(rules, later, lambda store: store)

    def _guard(self, rules: tuple[Rule, ...], later: Any, wrap: Any) -> Guard:
        return Guard(
            wrap(PostgresStore(self.url, schema=self.schema, clock=self.clock)),
            rules=rules,
            shop=SHOP,
            gateways=[self.gateway],
            purposes=[Purpose("order", later=later)],
            secret=SECRET,
            keys=KEYS,
            breakers=BreakerPolicy(consecutive_failures=100),
            duties=False,
            clock=self.clock,
            listeners=[lambda event: self.events.append(event.name)],
        )

    async def connect(self, **options: Any) -> psycopg.AsyncConnection[Any]:
        """The shop's own connection."""
        return await psycopg.AsyncConnection.connect(self.url, **{"prepare_threshold": None, **options})

    async def write(self, connection: psycopg.AsyncConnection[Any], number: str = "o1") -> None:
        """The shop's own order."""
        await connection.execute(f"INSERT INTO {self.schema}.shop_orders VALUES (%s)".encode(), (number,))

    async def orders(self) -> list[str]:
        """What the shop's own table has."""
        async with await self.connect() as connection:
            found = await connection.execute(f"SELECT number FROM {self.schema}.shop_orders ORDER BY number".encode())
            return [row[0] for row in await found.fetchall()]

    async def record(self) -> Operation:
        """The one record that there is."""
        page = await self.guard.store.search(Query(namespace="shop"))
        (operation,) = page.operations
        return operation

    async def counted(self) -> dict[tuple[str, str], int]:
        """How many records there are by state and money, as the counters say."""
        return dict((await self.guard.store.tally("shop")).operations)

    async def rest(self) -> None:
        """Let leases lapse, and the other machine's queue work until nothing more is due."""
        self.clock.advance(3600.0)
        for _ in range(10):
            if (await self.other.queue().run_once()).taken == 0:
                return


async def charged(op: Any) -> str:
    """Charge what every order here costs."""
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
    return str(payment.payment_id)


@asynccontextmanager
async def finish_world(server: PostgresServer, **options: Any) -> AsyncIterator[FinishWorld]:
    """Both guards started, and the shop's own table made."""
    world = FinishWorld(server, **options)
    async with world.guard, world.other, await world.connect(autocommit=True) as connection:
        await connection.execute(f"CREATE TABLE {world.schema}.shop_orders (number text PRIMARY KEY)".encode())
        yield world
