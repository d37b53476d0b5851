"""`op.finish(connection=...)`: the last write of an operation, inside a transaction of the shop's own.

We write it and cannot end it: until the shop commits or rolls back, nobody knows. So from then on this process writes nothing
more of the record (it would wait for the shop's own lock), and renews its lease no more. Before it does anything else with the
operation, and when the run ends, it looks what became of the transaction:

    committed     the record has our line in its timeline: the run has ended, with the answer that was given
    rolled back   nothing was written: the operation runs on under its lease
    open          nobody may act: once the run ends that is a mistake of the shop's code, and is named so

A transaction that has ended and has left no line of ours was rolled back, as a whole or to a savepoint.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import StrEnum

from cxguard.core.conclude import Conclusion, Ending, Run, Say, conclude
from cxguard.core.money import MoneyState
from cxguard.core.operation import Entry, Operation, changed, money_of
from cxguard.core.reading import Reading
from cxguard.engine.charging import Work
from cxguard.engine.cold import StoredAnswer
from cxguard.engine.deferral import Deferral
from cxguard.engine.end_record import record_at_end
from cxguard.engine.engine import Engine
from cxguard.engine.operations import twice
from cxguard.engine.shop_reading import as_read
from cxguard.engine.tenor import Tenor
from cxguard.errors import ConfigurationError, FinishRefused, LeaseLost, TransactionOpen
from cxguard.stores.joining import InThread, Joining, joining

OPEN_SECONDS = 3.0  # a commit that was sent has arrived by then; longer, and whoever waits for the order waits for nothing
LOOK_SECONDS = 0.05


class Fate(StrEnum):
    """What became of the transaction."""

    NONE = "none"  # `op.finish` was not called
    OPEN = "open"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class LastWrite:
    """What was written, and will hold if the shop commits."""

    transaction: str
    line: Entry
    answer: StoredAnswer
    money: MoneyState


class Finishing:
    """The last write of one operation in hand.

    Attributes:
        tenor: how the rule wants its runs to end; None: this operation ends by itself, and takes no last write.
        there: the record, once the last write was seen in it.
    """

    def __init__(self, engine: Engine, work: Work) -> None:
        self._engine = engine
        self._work = work
        self._last: LastWrite | None = None
        self._rolled_back = False
        self.tenor: Tenor | None = None
        self.there: Operation | None = None

    @property
    def last(self) -> LastWrite | None:
        """The last write that may hold."""
        return self._last

    @property
    def rolled_back(self) -> bool:
        """Whether the last write did not hold, as far as we have looked."""
        return self._rolled_back

    async def write(self, answer: StoredAnswer, connection: object, *, deferral: Deferral, in_thread: InThread | None) -> None:
        """Write the end of the operation. See `OperationHandle.finish`."""
        store, tenor = self._store(), self.tenor
        if self._work.operation.answer is not None:  # it went out, and what repeats get is no longer open
            raise FinishRefused(self._work.operation.reference, "answered")
        conclusion = self._concluded(deferral)
        if tenor is None or conclusion.ending is not Ending.FINISH or conclusion.say is not Say.HANDLER:
            raise FinishRefused(self._work.operation.reference, conclusion.why or str(conclusion.say))
        self._work.lease.check()
        async with self._work.turn:
            joined = await store.join(connection, in_thread=in_thread)
            # before our row is locked: who dies right after the commit could not bring them any more
            await self._engine.operations.facts_first(self._work.operation, self._work.lease)
            record = _with_transaction(record_at_end(self._engine, self._in_hand(), tenor, conclusion, answer=answer), joined.name)
            record = self._engine.operations.ready(record, ends=True)
            # known before it is sent: it may come to hold even if this call never hears so
            self._last = LastWrite(joined.name, record.history[-1], answer, money_of(record).state)
            self._rolled_back = False
            self._engine.operations.leases.drop(self._work.lease)
            try:
                await joined.save(record, token=self._work.lease.token)
            except LeaseLost:
                self._work.lease.lost()
                self._engine.operations.emit("lease.lost", self._work.operation)
                raise

    async def look(self) -> Fate:
        """What became of it. Once it is rolled back, the operation is in hand as before.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        last = self._last
        if last is None:
            return Fate.ROLLED_BACK if self._rolled_back else Fate.NONE
        if self.there is not None:
            return Fate.COMMITTED
        if await self._is_there(last):
            return Fate.COMMITTED
        if await twice(lambda: self._store().is_open(last.transaction)):
            return Fate.OPEN
        if await self._is_there(last):  # it was committed between the two looks
            return Fate.COMMITTED
        self._last, self._rolled_back = None, True
        self._engine.operations.leases.keep(self._work.lease)
        return Fate.ROLLED_BACK

    async def _is_there(self, last: LastWrite) -> bool:
        there = await twice(lambda: self._engine.operations.store.get(self._work.operation.id))
        if there is None or not any(_is_same(line, last.line) for line in there.history):
            return False
        self._work.operation = self.there = await self._engine.operations.noted_again(there, self._work.operation.notes)
        return True

    async def settled(self) -> Fate:
        """As `look`; one that is still open has a moment to end.

        Raises:
            TransactionOpen: it has not ended.
        """
        for _ in range(round(OPEN_SECONDS / LOOK_SECONDS)):
            fate = await self.look()
            if fate is not Fate.OPEN:
                return fate
            await asyncio.sleep(LOOK_SECONDS)
        raise TransactionOpen(self._work.operation.reference)

    def _store(self) -> Joining:
        """
        Raises:
            ConfigurationError: it cannot join.
        """
        store = joining(self._engine.operations.store)
        if store is None:
            raise ConfigurationError(
                'op.finish(connection=...) needs the orders in the shop\'s own PostgreSQL: Guard("postgresql://shop@db/shop", ...); '
                "on another store return the answer, and the guard finishes"
            )
        return store

    def _in_hand(self) -> Operation:
        return as_read(self._work.operation, Reading.SUCCEEDED)

    def _concluded(self, deferral: Deferral) -> Conclusion:
        operation = self._in_hand()
        return conclude(
            Run(
                money=money_of(operation),
                reading=Reading.SUCCEEDED,
                deferred=deferral.why,
                hold=deferral.why if deferral.hold else "",
                needs_shopper=deferral.needs_shopper,
                asks=deferral.asks,
                cancel_asked=operation.cancel_asked,
            )
        )


def _with_transaction(record: Operation, name: str) -> Operation:
    """Our line in the timeline says in which transaction it was written: no other one has the same."""
    *before, line = record.history
    return changed(record, history=(*before, replace(line, detail={**line.detail, "transaction": name})))


def _is_same(line: Entry, ours: Entry) -> bool:
    return (line.event, line.by, line.detail.get("transaction")) == (ours.event, ours.by, ours.detail["transaction"])
