"""Operations of scripts, jobs and webhooks: the same record, lease and ending as a guarded request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from uuid import UUID

from cxguard.clock import Clock
from cxguard.core import names
from cxguard.core.decide import Do, Policy, Submit
from cxguard.core.limits import check_limits, limit
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State, money_of
from cxguard.core.reading import Reading
from cxguard.engine.cold import KeptResult, result_bytes
from cxguard.engine.deferral import Deferral
from cxguard.engine.ending import end_run
from cxguard.engine.engine import Engine
from cxguard.engine.entering import Begun, Submission
from cxguard.engine.handle import CURRENT, OperationHandle
from cxguard.engine.joining import begin_or_wait
from cxguard.engine.late import note_late_answers
from cxguard.engine.operations import Terms
from cxguard.engine.tenor import Tenor
from cxguard.errors import (
    ConfigurationError,
    KeyMismatch,
    LeaseLost,
    OperationHeld,
    OperationInFlight,
    PaymentDeclined,
    StoreError,
    TransactionRolledBack,
)
from cxguard.stores.joining import InThread

if TYPE_CHECKING:
    from contextvars import Token

_DAY = 86_400.0
Name: TypeAlias = str | int | UUID
_EXAMPLES = {"key": "key=order.id for instance", "owner": "owner=customer.id for instance"}


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a script does under a name, when a worker should go on with it after a crash or an outage.

    Attributes:
        name: what `guard.run(purpose=...)` says.
        later: gets the operation and completes it; None: a person does.
        gateways: what `op.charge` charges with, by name and in order; see `Rule.gateway`.

    Raises:
        ConfigurationError: no name, a value out of its range, or a `later` that cannot be called.
    """

    name: str
    later: Callable[[Any], Awaitable[Any]] | None = None
    lease_seconds: float = limit(30.0, 0.1, 3_600.0, why="how long the work of a process that died waits for another")
    run_seconds_max: float = limit(300.0, 0.1, 86_400.0, why="a function that hangs longer loses its lease")
    wait_seconds: float = limit(
        0.0, 0.0, 3_600.0, why='how long `guard.run` waits for the same operation elsewhere before it says "in flight"'
    )
    queue_seconds: float = limit(_DAY, 60.0, 400 * _DAY, why="the order's own end, when it is kept")
    keep_seconds: float = limit(30 * _DAY, 60.0, 400 * _DAY, why="how long a result can be given again")
    gateways: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ConfigurationError(f'name={self.name!r} is no name: write Purpose("refund order", ...), as in guard.run(purpose=...)')
        check_limits(self, named=f'"{self.name}", ')
        if self.later is not None and not callable(self.later):
            raise ConfigurationError(f'later={self.later!r} cannot be called: write Purpose("{self.name}", later=place_order)')


class Owned(Protocol):
    """What a scope needs of the guard."""

    namespace: str
    clock: Clock

    @property
    def engine(self) -> Engine: ...

    async def start(self) -> None: ...


class LibraryOperation(OperationHandle):
    """`op` in a script: a handle that also keeps the function's result."""

    result: Any = None
    _unkept: tuple[Deferral, Deferral] | None = None  # since `keep` was given what it cannot keep: why before that, and since

    @property
    def finished(self) -> bool:
        """Whether it had ended before: then nothing is run, and `answer` is the kept result."""
        return self._finished

    def keep(self, result: Any) -> None:
        """Keep *result* as the answer, when the operation finishes.

        Raises:
            TypeError: it cannot be kept as JSON. The work is done all the same, so a person looks, unless another one is kept.
        """
        if self.finishing.last is not None:  # what `finish` was given is the result
            return
        if self._unkept is not None and self.deferral is self._unkept[1]:
            self.deferral = self._unkept[0]
        try:
            result_bytes(result)
        except TypeError:
            held = Deferral(why="result_not_kept", hold=True)
            self._unkept = (self.deferral, held)
            self.deferral = held
            raise
        self.result = result

    async def finish_from(self, in_thread: InThread | None, answer: Any, *, connection: object, status: int) -> None:
        await super().finish_from(in_thread, answer, connection=connection, status=status)
        self.result = answer

    @property
    def answer(self) -> Any:
        """The kept result: of an earlier run, or what `keep` was given.

        Raises:
            PaymentDeclined: it ended with the issuer's no.
        """
        if self._finished and self.money.state is MoneyState.DECLINED:
            raise PaymentDeclined(reference=self.reference)
        return super().answer if self._finished else self.result


class OperationScope:
    """`async with guard.operation(...) as op`."""

    def __init__(
        self,
        guard: Owned,
        purpose: Purpose,
        *,
        key: str,
        owner: str,
        amount_minor: int | None,
        currency: str | None,
        deadline_seconds: float,
    ) -> None:
        self._guard = guard
        self._purpose = purpose
        self._key = key
        self._owner = owner
        self._amount = (amount_minor, currency)
        self._deadline_seconds = deadline_seconds
        self._op: LibraryOperation | None = None
        self._token: Token[Any] | None = None

    async def __aenter__(self) -> LibraryOperation:
        await self._guard.start()
        engine = self._guard.engine
        submission = self._submission(engine)
        begun = await begin_or_wait(engine, submission, wait_seconds=self._purpose.wait_seconds)
        self._op = _in_hand(engine, begun, gateways=self._purpose.gateways)
        self._op.finishing.tenor = submission.tenor
        self._token = CURRENT.set(self._op)
        return self._op

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        op, token = self._op, self._token
        if token is not None:
            CURRENT.reset(token)
        if op is None or op.finished:
            return
        forgot = error is None and op.forgot_charge
        answer = KeptResult(op.result) if (error is None and not forgot) or isinstance(error, PaymentDeclined) else None
        declined = isinstance(error, PaymentDeclined) or (error is None and op.money.state is MoneyState.DECLINED)
        reading = Reading.DECLINED if declined else Reading.SUCCEEDED if error is None and not forgot else None
        try:
            await end_run(self._guard.engine, op, _tenor(self._purpose), reading=reading, answer=answer)
        except (LeaseLost, StoreError):
            await note_late_answers(self._guard.engine, op.work.operation)
            raise
        if error is None and op.finishing.rolled_back:
            raise TransactionRolledBack(op.reference)
        if forgot:
            raise TypeError("op.charge(...) was not awaited, so nothing was sent and nothing is kept: write `await op.charge(...)`")

    def _submission(self, engine: Engine) -> Submission:
        fresh = self._fresh(engine)
        purpose = self._purpose
        policy = Policy(double_click_seconds=0.0, duplicate_window_seconds=float("inf"), can_resolve=True, resumable=True)

        def submit_of(there: Operation) -> Submit:
            same = there.fingerprint == fresh.fingerprint
            return Submit(owner=fresh.owner, client_key=True, same_request=same, amount_minor=fresh.amount_minor, currency=fresh.currency)

        return Submission(
            fresh=fresh,
            terms=Terms(policy, lease_seconds=purpose.lease_seconds, run_seconds_max=purpose.run_seconds_max),
            submit_of=submit_of,
            again=lambda there: fresh,
            tenor=_tenor(purpose),
            deadline=engine.clock.monotonic() + self._deadline_seconds,
            gateways=purpose.gateways,
        )

    def _fresh(self, engine: Engine) -> Operation:
        owner = owner_pseudonym(engine, self._owner)
        namespace = self._guard.namespace
        id = engine.operation_id(purpose=self._purpose.name, owner=owner, key=self._key)
        now = engine.clock.now()
        amount_minor, currency = self._amount
        return Operation(
            id=id,
            namespace=namespace,
            rule=self._purpose.name,
            owner=owner,
            reference=names.reference_of(id),
            fingerprint=f"{amount_minor}:{currency}",
            state=State.RUNNING,
            created_at=now,
            updated_at=now,
            kept=self._purpose.later is not None,
            amount_minor=amount_minor,
            currency=currency,
        )


def as_name(value: Name, what: str) -> str:
    """A key or an owner as text: databases number their orders, or give them UUIDs.

    Raises:
        ConfigurationError: it is none; with an empty one all orders would be one, and the second shopper would get the first one's.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | UUID) or not str(value).strip():
        given = "empty" if isinstance(value, str) else f"a {type(value).__name__}"
        raise ConfigurationError(f"{what} is {given}: give the text, number or UUID that names it, {_EXAMPLES[what]}; nothing was opened")
    return str(value)


def owner_pseudonym(engine: Engine, owner: str) -> str:
    """The pseudonym under which an owner's operations are kept."""
    return names.owner_name(engine.naming, namespace=engine.operations.namespace, owner=owner)


def _tenor(purpose: Purpose) -> Tenor:
    kept = purpose.later is not None
    return Tenor(may_keep=kept, has_later=True, ask=None, queue_seconds=purpose.queue_seconds, keep_seconds=purpose.keep_seconds)


def _in_hand(engine: Engine, begun: Begun, *, gateways: tuple[str, ...]) -> LibraryOperation:
    """The operation for the script: to run, or finished.

    Raises:
        OperationInFlight, OperationHeld, KeyMismatch: nothing may be run.
    """
    if begun.handle is not None:
        return LibraryOperation(engine, begun.handle.work, gateways=gateways)
    operation = begun.operation
    if begun.do is Do.MISMATCH:
        raise KeyMismatch(f"order {operation.reference} was begun with another amount or currency: use a new key for another payment")
    if begun.do is Do.REPLAY:
        return LibraryOperation.finished_one(engine, operation)
    if operation.state is State.RUNNING or begun.do is Do.WAIT:
        raise OperationInFlight(operation.reference)
    why = operation.why or ("refund_unknown" if money_of(operation).refund_pending else operation.state)
    raise OperationHeld(operation.reference, why, state=operation.state)
