"""The last write of an operation inside a transaction of the shop's own, on the shop's own connection.

The same verb and the same statements as in `writing`, without its BEGIN and COMMIT: those are the shop's. Three round trips:
whose transaction it is, the record under a lock, the write. What we set for our own statements is set back, but for
`synchronous_commit`, which stays on until the transaction ends: whoever is told "finished" counts on the disk.

Such a transaction holds its locks for as long as the shop likes. So it adds to counters of its own: two checkouts that add
to the same row would wait for each other's commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from cxguard.clock import Clock
from cxguard.core.operation import Operation
from cxguard.errors import ConfigurationError, LeaseLost, StoreUnavailable
from cxguard.stores.joining import InThread
from cxguard.stores.postgres.rows import Moved
from cxguard.stores.postgres.working_set import WorkingSet
from cxguard.stores.postgres.writing import NUMBERS_PER_ROW, RUNS_MAX, UNWRITABLE, unwritable
from cxguard.stores.verbs import save_operation

Asked = Sequence[tuple[str, Any]]
Rows = list[tuple[Any, ...]]

SLOT_FIRST, SLOT_LAST = 16, 271  # of each counter, behind those of the store's own processes: as many transactions at once


@dataclass(frozen=True, slots=True)
class Home:
    """Where the store is: the database's name, and its server's identifier and timeline."""

    database: str
    system: str
    timeline: str


class _Wire(Protocol):
    async def ask(self, asked: Asked) -> list[Rows]:
        """Send all statements at once; the rows of each."""
        ...


class JoinedTransaction:
    """See `cxguard.stores.joining.Joined`."""

    def __init__(self, wire: _Wire, statements: Mapping[str, str], *, name: str, slot: int, lock_timeout: str, clock: Clock | None) -> None:
        self._wire = wire
        self._sql = statements
        self._name = name
        self._slot = slot
        self._lock_timeout = lock_timeout
        self._clock = clock

    @property
    def name(self) -> str:
        return self._name

    async def save(self, operation: Operation, *, token: int) -> Operation:
        try:
            return await self._save(operation, token=token)
        except errors.InsufficientPrivilege as error:
            raise ConfigurationError(
                f"the role of this connection may not write the orders ({str(error).partition(chr(10))[0]}): give it the rights of the "
                "guard's own role on that schema, as in examples/deploy/roles.sql; roll back"
            ) from error
        except UNWRITABLE as error:
            raise unwritable(error) from None

    async def _save(self, operation: Operation, *, token: int) -> Operation:
        for _ in range(RUNS_MAX):
            try:
                table = await self._locked(operation.id)
            except Moved:
                continue  # a fact came in while we waited for the lock
            saved = save_operation(table, operation, token=token, keep_lease=False, gone=False)
            writes = [(self._sql[name], values) for name, values in table.writes(slot=self._slot)]
            await self._wire.ask([*writes, (self._sql["lock_timeout"], {"lock_timeout": self._lock_timeout})])
            return saved
        raise StoreUnavailable("others changed the same record again and again: roll back, and try again in a moment")

    async def _locked(self, id: str) -> WorkingSet:
        _, [now], numbers, rows = await self._wire.ask(
            [
                (self._sql["set_joined"], None),
                (self._sql["now"], None),
                (self._sql["numbers"], (NUMBERS_PER_ROW,)),
                (self._sql["lock_ids"], {"ids": [id]}),
            ]
        )
        if not rows:
            raise LeaseLost(
                "your transaction does not see this order: it has gone, or the transaction (REPEATABLE READ, SERIALIZABLE) began before "
                "the order did; roll back, and begin it inside of the operation"
            )
        table = WorkingSet(now=self._clock.now() if self._clock is not None else now[0], numbers=[row[0] for row in numbers])
        table.add(rows[0])
        return table


async def join_transaction(
    connection: object, *, in_thread: InThread | None, home: Home, statements: Mapping[str, str], clock: Clock | None
) -> JoinedTransaction:
    """See `cxguard.stores.joining.Joining.join`."""
    wire = _wire_of(connection, in_thread)
    [[there]] = await wire.ask([(statements["join"], {"first": SLOT_FIRST, "last": SLOT_LAST})])
    database, system, timeline, read_only, lock_timeout, name, slot = there
    if (database, system) != (home.database, home.system):
        raise ConfigurationError(
            f"connection= leads to the database {database!r} of server {system}, and the orders are in {home.database!r} of server "
            f"{home.system}: give op.finish a connection to the database of Guard(store), or return the answer without op.finish"
        )
    if read_only == "on" or name is None:
        raise ConfigurationError("connection= takes no writes (a standby, or a READ ONLY transaction): give one of the primary that writes")
    if timeline != home.timeline:
        raise StoreUnavailable("PostgreSQL failed over a moment ago, and the store has not seen it yet: roll back, and try again soon")
    return JoinedTransaction(wire, statements, name=name, slot=slot, lock_timeout=lock_timeout, clock=clock)


def _wire_of(connection: object, in_thread: InThread | None) -> _Wire:
    if not isinstance(connection, psycopg.AsyncConnection | psycopg.Connection):
        raise ConfigurationError(
            f"connection= is a {type(connection).__module__}.{type(connection).__name__}: give psycopg's own connection. Of an SQLAlchemy "
            "session it is (await (await session.connection()).get_raw_connection()).driver_connection, or, without await, "
            "session.connection().connection.driver_connection; of Django, django.db.connection.connection"
        )
    if connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE:
        raise ConfigurationError(
            "connection= is in no transaction: write `async with connection.transaction():` (without async in a thread) around your own "
            "writes and op.finish, so that they commit together"
        )
    if isinstance(connection, psycopg.AsyncConnection):
        if in_thread is not None:
            raise ConfigurationError("this connection is of an event loop: write `await op.finish(...)`; op.sync takes psycopg.Connection")
        return _AsyncWire(connection)
    if in_thread is None:
        raise ConfigurationError("this connection blocks the event loop: take psycopg.AsyncConnection, or op.sync.finish(...) in a thread")
    return _ThreadWire(connection, in_thread)


class _AsyncWire:
    """Cursors of our own: the shop may have set its connection's to give dicts, or to bind values itself."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def ask(self, asked: Asked) -> list[Rows]:
        cursors = []
        async with self._connection.pipeline():
            for text, values in asked:
                cursor = psycopg.AsyncCursor(self._connection, row_factory=tuple_row)
                cursors.append(await cursor.execute(text.encode(), values, prepare=False))
        return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]


class _ThreadWire:
    """The same in the thread that the connection belongs to."""

    def __init__(self, connection: psycopg.Connection[Any], in_thread: InThread) -> None:
        self._connection = connection
        self._in_thread = in_thread

    async def ask(self, asked: Asked) -> list[Rows]:
        rows: list[Rows] = await self._in_thread(lambda: self._ask(asked))
        return rows

    def _ask(self, asked: Asked) -> list[Rows]:
        cursors = []
        with self._connection.pipeline():
            for text, values in asked:
                cursor = psycopg.Cursor(self._connection, row_factory=tuple_row)
                cursors.append(cursor.execute(text.encode(), values, prepare=False))
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
