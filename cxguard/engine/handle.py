"""What a shop's code holds while an operation runs: `op`."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Self, TypeVar, cast

from cxguard.core import names
from cxguard.core.money import Money, MoneyState, SendKind
from cxguard.core.operation import Operation, money_of
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.snapshot import Snapshot
from cxguard.engine.answers import answer_of
from cxguard.engine.breakers import Ticket
from cxguard.engine.charges import Charges, ShopperMustAgree
from cxguard.engine.charging import NOT_SENT, Work
from cxguard.engine.codecs import Codec, check_codec
from cxguard.engine.cold import KeptResult, StoredAnswer, open_answer, open_member, result_bytes
from cxguard.engine.deferral import Deferral
from cxguard.engine.engine import Engine
from cxguard.engine.finishing import Fate, Finishing
from cxguard.engine.leases import HeldLease
from cxguard.engine.moving import Movement, move_money
from cxguard.engine.steps import Called, Kept, Steps, check_call, function_name
from cxguard.engine.sync_handle import SyncOperation, running_loop
from cxguard.engine.unguarded import UnguardedOperation
from cxguard.errors import (
    AlreadyFinished,
    FinishRefused,
    PaymentDeclined,
    PaymentDeferred,
    StepMismatch,
    StepResultLost,
    StepUnfinished,
    StoreUnavailable,
    TransactionOpen,
)
from cxguard.gateways.base import Charge
from cxguard.stores.joining import InThread

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

TURN_SECONDS = 0.05  # how soon a queued order asks for its turn in the ramp again: a tenth of what a shopper waits


def _awaited(method: F) -> F:
    """A method that gives a coroutine, known as `async def` is: frameworks ask that of what they run in the background."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(method)
    method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # what `asyncio` itself looks for
    return method


class OperationHandle:
    """One operation in hand. Lives as long as the request, script or worker run that holds its lease."""

    def __init__(self, engine: Engine, work: Work, *, gateways: Sequence[str] = (), finished: bool = False) -> None:
        self._engine = engine
        self._work = work
        self.gateways = tuple(gateways)  # where it charges, by name, in order; none: the guard's first
        self._charges = Charges(engine, work, gateways=gateways)
        self._finished = finished
        self._loop = running_loop()
        self._turn = asyncio.Lock()
        self._steps = Steps(engine, work)
        self.deferral = Deferral()
        self.finishing = Finishing(engine, work)
        self.in_request = False  # what finishes it is the answer to a request; else a function's result
        self._unbegun = 0  # charges that were asked for, and that nobody awaits yet
        self.mismatch: StepMismatch | None = None  # what a charge was refused with
        self.store_failed = False  # a charge could not be written down, so it was not sent
        self.shop_ticket: Ticket | None = None  # for the breaker of the shop's own charging

    @classmethod
    def finished_one(cls, engine: Engine, operation: Operation) -> Self:
        """A handle on an operation that has ended: gives what was kept, and runs nothing."""
        lease = HeldLease(operation.id, 0, lease_seconds=0.0, safe_until=float("-inf"), run_until=0.0, clock=engine.clock)
        return cls(engine, Work(operation, lease, deadline=engine.clock.monotonic()), finished=True)

    @property
    def id(self) -> str:
        """The operation's id: for a gateway's metadata, so that its webhook finds the way back."""
        return self._work.operation.id

    @property
    def reference(self) -> str:
        """The order's short name, as the shopper sees it."""
        return self._work.operation.reference

    @property
    def generation(self) -> int:
        """Which life of the operation this is: 1, and one more after each end without a charge of which somebody, the gateway or
        the shopper, was told. Tries of which nobody knows share one."""
        return self._work.operation.generation

    @property
    def amount_minor(self) -> int | None:
        """The accepted amount in minor units of `currency`, when the rule names it."""
        return self._work.operation.amount_minor

    @property
    def currency(self) -> str | None:
        """The accepted currency."""
        return self._work.operation.currency

    @property
    def money(self) -> Money:
        """Where the money is, as far as this holder knows."""
        return money_of(self._work.operation)

    @property
    def request(self) -> Snapshot | None:
        """The request as it was kept, for an order that is placed later; None when none was kept."""
        operation = self._work.operation
        if operation.request is None:
            return None
        return Snapshot.from_bytes(open_member(self._engine.seal, operation, "request", operation.request))

    @property
    def answer(self) -> Any:
        """The kept result of a finished operation; None while it runs."""
        stored = self.stored_answer()
        return stored.value if isinstance(stored, KeptResult) else None

    @property
    def remaining_seconds(self) -> float:
        """How long the caller still waits: for the shop's own calls to others. Never below zero."""
        return max(0.0, self._work.remaining(self._engine))

    @property
    def sync(self) -> SyncOperation:
        """The same calls for code in a worker thread (a sync view): each waits for the event loop to do it."""
        return SyncOperation(self, self._loop)

    def stored_answer(self) -> StoredAnswer | None:
        """The answer on record, whatever its kind."""
        return open_answer(self._engine.seal, self._work.operation)

    def gateway_key(self, step: str = "charge") -> str:
        """The key for the gateway: equal for every run of this step, new only after a definite decline.

        Returns:
            At most 64 printable ASCII characters.
        """
        return self._charges.key(step)

    @_awaited
    def charge(self, charge: Charge, *, step: str = "charge") -> Coroutine[Any, Any, Charged]:
        """Take the money once, however often this is called for the operation: `await op.charge(...)`.

        Args:
            charge: amount and currency must be the accepted ones, where the rule names them.
            step: a name of its own for each charge, when the rule declares parts.

        Returns:
            The charge: of now, or of an earlier run.

        Raises:
            PaymentDeclined: the issuer said no. Nothing was charged.
            PaymentDeferred: kept for later, one more step for the shopper, or unknown: the guard answers.
            StepMismatch: another amount or currency than before, or than accepted; another `order_id` in one run. Nothing was sent.
            LeaseLost: somebody else works on the operation now. Nothing was sent.
            StoreUnavailable: nothing could be written, so nothing was sent.
        """
        self._unbegun += 1
        return self._charge(charge, step)

    @property
    def forgot_charge(self) -> bool:
        """Whether a charge was asked for without `await`, and nothing is charged: the code that goes on takes it for paid."""
        return self._unbegun > 0 and self.money.state is MoneyState.NONE

    async def _charge(self, charge: Charge, step: str) -> Charged:
        self._unbegun -= 1
        async with self._my_turn():
            try:
                self._charges.check(charge, step)
                outcome = await self._charges.outcome_of(charge, step, finished=self._finished)
            except StoreUnavailable:
                self.store_failed = True
                raise
            except StepMismatch as error:
                self.mismatch = error
                raise
            except ShopperMustAgree as asked:
                self.deferral = Deferral(why=asked.why, asks=True)
                raise
            return self._told(outcome)

    async def capture(self, amount_minor: int | None = None, *, step: str = "capture", of: str = "charge") -> Charged:
        """Take what was reserved, or part of it, once for each *step*.

        Args:
            amount_minor: None: all that is still reserved. What a part leaves stays reserved until it is voided or lapses.
            of: the step of the charge.

        Raises:
            StepMismatch: no such charge, more than is reserved, or other figures than before. Nothing was sent.
            PaymentRefused: the gateway said no; nothing moved.
            PaymentDeferred: it is not known whether it worked; the worker finds out. Or the order was cancelled, so that its money
                goes back: nothing was sent.
            LeaseLost, StoreUnavailable: nothing was sent.
        """
        taken = await self._move(Movement(SendKind.CAPTURE, step, of, amount_minor))
        return cast(Charged, taken)

    async def refund(self, amount_minor: int | None = None, *, step: str = "refund", of: str = "charge", reason: str = "") -> Refunded:
        """Give back what was taken, or part of it, once for each *step*. Raises as `capture`.

        Args:
            amount_minor: None: all that has not been given back.
            reason: for the timeline; never personal data.
        """
        back = await self._move(Movement(SendKind.REFUND, step, of, amount_minor, reason))
        return cast(Refunded, back)

    async def void(self, *, step: str = "void", of: str = "charge", reason: str = "") -> Refunded:
        """Release all that is reserved and not taken, once. Raises as `capture`."""
        back = await self._move(Movement(SendKind.VOID, step, of, None, reason))
        return cast(Refunded, back)

    async def _move(self, asked: Movement) -> Charged | Refunded:
        async with self._my_turn():
            if self.finishing.there is not None:
                raise AlreadyFinished(f"order {self.reference} has ended: come back with guard.resume(reference=...); nothing was sent")
            return await move_money(self._engine, self._work, asked, key=self.gateway_key(asked.step))

    async def finish(self, answer: Any, *, connection: object, status: int = 200) -> None:
        """Finish inside a database transaction of your own: your writes and the answer commit together, or neither does.

        The last thing before you commit: afterwards nothing is charged and no step is run. If you roll back, the operation
        goes on as if this had not been called.

        Args:
            answer: what repeats get. In a guarded request the response that you return (Starlette's or Django's), or what its
                JSON body says; elsewhere the function's result.
            connection: psycopg's own, in a transaction in the database of the guard's store. Its `synchronous_commit` is on
                from here to the transaction's end.
            status: of the response, for a JSON body.

        Raises:
            ConfigurationError: another database, no transaction, a store that is not PostgreSQL. Nothing was written.
            FinishRefused: this order cannot end well now. Nothing was written.
            AlreadyFinished: it has ended. Nothing was written.
            LeaseLost: somebody else works on the operation now: let it out of your transaction, so that it rolls back.
            StoreUnavailable: the guard's own connection gets no answer. Nothing was written.
            TypeError: the answer cannot be kept. Nothing was written.
            psycopg.Error: what the database said (a lock after 3 s, say): roll back, as for any other error.
        """
        await self.finish_from(None, answer, connection=connection, status=status)

    async def finish_from(self, in_thread: InThread | None, answer: Any, *, connection: object, status: int) -> None:
        """As `finish`; with *in_thread*, on a connection that blocks."""
        if self._is_inside():
            raise FinishRefused(self.reference, "inside_a_step")
        async with self._my_turn():
            if self._finished:
                raise AlreadyFinished(f"order {self.reference} has ended: nothing was written; ask op.finished first")
            if self.forgot_charge:
                raise FinishRefused(self.reference, "charge_not_awaited")
            await self.finishing.write(self._as_kept(answer, status), connection, deferral=self.deferral, in_thread=in_thread)

    def _as_kept(self, answer: Any, status: int) -> StoredAnswer:
        if self.in_request:
            return answer_of(answer, status=status)
        result_bytes(answer)
        return KeptResult(answer)

    @asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        """One charge or step after another; those that a step itself makes have a turn of their own inside it."""
        inside = _INSIDE.get(None)
        async with inside[1] if inside is not None and inside[0] is self else self._turn:
            match await self.finishing.look():
                case Fate.OPEN:
                    raise TransactionOpen(self.reference)
                case Fate.COMMITTED:
                    self._finished = True
            yield

    def _is_inside(self) -> bool:
        inside = _INSIDE.get(None)
        return inside is not None and inside[0] is self

    def _told(self, outcome: Outcome) -> Charged:
        match outcome:
            case Charged():
                return outcome
            case Declined():
                raise PaymentDeclined(outcome.reason, outcome.code, reference=self.reference)
            case NeedsShopper():
                self.deferral = Deferral(why="needs_shopper", needs_shopper=True)
            case NotCharged():
                outage = outcome.retryable or outcome.retry_after_seconds is not None
                untried = outcome.retry_after_seconds if outcome.why in NOT_SENT else None
                if self._work.queued and self._work.turned_away:
                    untried = TURN_SECONDS
                self.deferral = Deferral(why=outcome.why, outage=outage, untried_seconds=untried)
            case Refunded():
                self.deferral = Deferral(why="refunded")
            case Unknown():
                self.deferral = Deferral(why="charge_unknown")
        raise PaymentDeferred(self.deferral.why, reference=self.reference)

    async def step(
        self,
        name: str,
        call: Callable[..., Awaitable[T] | T],
        *args: Any,
        repeatable: bool = False,
        codec: Codec[T] | None = None,
        **kwargs: Any,
    ) -> T:
        """Run an irreversible call once in the operation's life, and keep its result.

        A result that cannot be kept (not the codec's kind, or over `RESULT_BYTES_MAX` bytes) does not fail the run: the call
        has happened. The step is on record as done, the event `step.not_kept` says why, and it is never run again.

        Args:
            name: one name for one call; used again, it gives the kept result.
            repeatable: running it twice is harmless, so a run without a recorded end, or without a result, is run again.
            codec: how the result is kept, for instance `codec_of(Invoice)`. Default: as JSON, so that a kept result comes
                back as JSON carries it.

        Returns:
            The call's result.

        Raises:
            ConfigurationError: *name*, *call* or *codec* is none. Nothing was run.
            StepMismatch: the name was used for another function or with other arguments. Nothing was run.
            StepUnfinished: it began before and has no recorded end. The operation is held for a person.
            StepResultLost: it is done, and its result was not kept or cannot be read. The operation is held for a person.
        """
        checked = check_codec(codec)
        check_call(name, call)
        async with self._my_turn():
            arguments = names.arguments_hash(self._engine.naming, step=name, arguments=_shown((args, kwargs)))
            called = Called(name, arguments, function_name(call), repeatable=repeatable, codec=checked)
            kept = self._kept_step(called)
            if kept is not None:
                return cast(T, kept.value)
            await self._steps.begin(called)
            self._work.lease.check()
            token = _INSIDE.set((self, asyncio.Lock()))
            try:
                result = call(*args, **kwargs)
                value = await result if inspect.isawaitable(result) else result
            finally:
                _INSIDE.reset(token)
            await self._steps.finish(called, value)
            return value

    def _kept_step(self, called: Called) -> Kept | None:
        try:
            return self._steps.kept(called, finished=self._finished)
        except (StepUnfinished, StepResultLost) as error:
            self.deferral = Deferral(why=error.why, hold=True)
            raise

    @property
    def work(self) -> Work:
        """The record and lease in hand: for the engine and the edges, not for a shop's code."""
        return self._work


_INSIDE: ContextVar[tuple[OperationHandle, asyncio.Lock]] = ContextVar("cxguard_inside_step")
CURRENT: ContextVar[OperationHandle | UnguardedOperation] = ContextVar("cxguard_current_operation")


def current_operation() -> OperationHandle:
    """The operation of the guarded request (or worker run) that this code runs in.

    Raises:
        LookupError: no guard is around this code. Wrap the app in `GuardMiddleware`, with a rule for this path.
    """
    try:
        return cast(OperationHandle, CURRENT.get())
    except LookupError:
        raise LookupError("no guarded operation here: is GuardMiddleware around the app, and is there a rule for this path?") from None


def _shown(arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> bytes:
    """Arguments as bytes that are the same in every run: objects, whose `repr` has addresses, count by their type."""
    return json.dumps(arguments, sort_keys=True, default=lambda other: type(other).__qualname__).encode()
