"""Come back to an operation by its reference: to capture, refund or void days after it was paid."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from cxguard.core.money import MoneyState
from cxguard.core.operation import State, changed, money_of
from cxguard.engine.charging import Work
from cxguard.engine.end_record import pending_due
from cxguard.engine.engine import Engine
from cxguard.engine.handle import CURRENT
from cxguard.engine.late import note_late_answers
from cxguard.engine.library import LibraryOperation, Owned
from cxguard.errors import ConfigurationError, LeaseLost, NoSuchOrder, OperationHeld, OperationInFlight, StoreError
from cxguard.stores.base import Query

if TYPE_CHECKING:
    from contextvars import Token

RUN_SECONDS_MAX = 300.0
_RESUMABLE = (State.FINISHED, State.HELD, State.CANCELLED)


class ResumedScope:
    """`async with guard.resume(reference=...) as op`: the same record, under the same one lease; its state stays as it is."""

    def __init__(self, guard: Owned, *, reference: str, deadline_seconds: float, lease_seconds: float) -> None:
        self._guard = guard
        self._reference = reference
        self._deadline_seconds = deadline_seconds
        self._lease_seconds = lease_seconds
        self._op: LibraryOperation | None = None
        self._token: Token[Any] | None = None

    async def __aenter__(self) -> LibraryOperation:
        await self._guard.start()
        engine = self._guard.engine
        work = await self._work(engine)
        if work.operation.state not in _RESUMABLE:  # its holder died: what it had begun is resolved first
            await engine.operations.end(changed(work.operation, due_at=engine.clock.now()), work.lease)
            raise OperationHeld(self._reference, work.operation.why or work.operation.state)
        self._op = LibraryOperation(engine, work, finished=True)
        self._token = CURRENT.set(self._op)
        return self._op

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        op, token = self._op, self._token
        if op is None or token is None:
            return
        CURRENT.reset(token)
        engine, operation = self._guard.engine, op.work.operation
        due_at = operation.due_at if operation.due_at is not None else pending_due(engine, operation)
        if operation.state is State.HELD and money_of(operation).state is MoneyState.REFUNDED:
            due_at = engine.clock.now()  # nothing is left to complete: the queue ends it
        try:
            await engine.operations.end(changed(operation, due_at=due_at), op.work.lease)
        except (LeaseLost, StoreError):
            await note_late_answers(engine, operation)
            raise

    async def _work(self, engine: Engine) -> Work:
        if not isinstance(self._reference, str):  # None would find the newest order, whoever's it is
            given = type(self._reference).__name__
            raise ConfigurationError(f"reference= is a {given}: write guard.resume(reference=op.reference), of the order; nothing was done")
        query = Query(namespace=engine.operations.namespace, reference=self._reference, limit=1)
        found = next(iter((await engine.operations.store.search(query)).operations), None)
        if found is None:
            raise NoSuchOrder(self._reference)
        if found.state is State.QUEUED:
            raise OperationHeld(self._reference, found.why or "queued")
        taken = await engine.operations.seize(found, lease_seconds=self._lease_seconds, run_seconds_max=RUN_SECONDS_MAX)
        if taken is None:
            raise OperationInFlight(self._reference)
        operation, lease = taken
        return Work(operation, lease, deadline=engine.clock.monotonic() + self._deadline_seconds)
