"""`guard.sync`: the library for code that is not async. See `cxguard.engine.bridge` for how it gets into the event loop."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Token
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from cxguard.core.operation import Operation
from cxguard.core.outcomes import Outcome
from cxguard.engine.bridge import Bridge, refuse_in_a_child, refuse_in_a_loop, result_of, submitted
from cxguard.engine.handle import CURRENT
from cxguard.engine.library import LibraryOperation, Name
from cxguard.engine.sync_handle import SyncOperation
from cxguard.errors import LoopEnded
from cxguard.gateways.base import Fact

P = ParamSpec("P")
T = TypeVar("T")


class Scope(Protocol):
    """What opens an operation: `guard.operation(...)` or `guard.resume(...)`."""

    async def __aenter__(self) -> LibraryOperation: ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Any: ...


class AsyncGuard(Protocol):
    """What the sync side needs of a guard."""

    @property
    def operation(self) -> Callable[..., Scope]: ...

    @property
    def resume(self) -> Callable[..., Scope]: ...

    @property
    def note(self) -> Callable[..., Coroutine[Any, Any, Operation]]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class SyncLibraryOperation(SyncOperation):
    """`op` in a script or thread."""

    def __init__(self, op: LibraryOperation, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(op, loop)
        self._op = op

    @property
    def id(self) -> str:
        """As `OperationHandle.id`."""
        return self._op.id

    @property
    def reference(self) -> str:
        """As `OperationHandle.reference`."""
        return self._op.reference

    @property
    def finished(self) -> bool:
        """Whether it had ended before: then `answer` is the kept result."""
        return self._op.finished

    @property
    def answer(self) -> Any:
        """The kept result."""
        return self._op.answer

    def keep(self, result: Any) -> None:
        """Keep *result* as the answer. Raises TypeError when it cannot be kept as JSON."""
        self._op.keep(result)

    def gateway_key(self, step: str = "charge") -> str:
        """As `OperationHandle.gateway_key`."""
        return self._op.gateway_key(step)


class SyncScope:
    """`with guard.sync.operation(...) as op:`. The body runs in the caller's thread."""

    def __init__(self, bridge: Bridge, scope: Callable[[], Scope]) -> None:
        self._bridge = bridge
        self._scope = scope
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: Future[None] | None = None
        self._leave: Callable[[BaseException | None], None] | None = None
        self._token: Token[Any] | None = None
        self._pid = os.getpid()

    def __enter__(self) -> SyncLibraryOperation:
        refuse_in_a_loop()
        self._pid = os.getpid()
        loop = self._loop = self._bridge.loop
        entered: Future[LibraryOperation] = Future()
        self._task = submitted(self._hold(entered), loop)
        self._task.add_done_callback(lambda task: _pass_on(task, entered))
        try:
            op = result_of(entered, loop)
        except BaseException:
            self._task.cancel()
            raise
        self._token = CURRENT.set(op)
        return SyncLibraryOperation(op, loop)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._loop is not None and self._task is not None and self._leave is not None and self._token is not None, "entered before"
        CURRENT.reset(self._token)
        if error is not None and self._pid != os.getpid():
            return  # a child leaves what is its parent's, as it is
        refuse_in_a_child(self._pid)
        self._leave(error)
        result_of(self._task, self._loop)

    async def _hold(self, entered: Future[LibraryOperation]) -> None:
        """One task from entering to leaving: what was opened in it is closed in it. What the body raised is only shown to the
        scope: raised here, the end of a program would end the loop, and whoever else waits for it would wait for ever."""
        loop = asyncio.get_running_loop()
        left: asyncio.Future[BaseException | None] = loop.create_future()
        self._leave = functools.partial(_tell, loop, left)
        scope = self._scope()
        op = await scope.__aenter__()
        try:
            if entered.set_running_or_notify_cancel():
                entered.set_result(op)
            error = await left
        except GeneratorExit:  # thrown away, in a child after a fork: no loop runs in which anything could be written
            raise
        except BaseException as gone:
            await scope.__aexit__(type(gone), gone, gone.__traceback__)
            raise
        await scope.__aexit__(type(error) if error is not None else None, error, error.__traceback__ if error is not None else None)


class SyncGuard:
    """The guard's library for threads, scripts, sync views and prefork workers."""

    def __init__(self, guard: AsyncGuard, bridge: Bridge) -> None:
        self._guard = guard
        self._bridge = bridge

    def operation(self, *, purpose: str, key: Name, owner: Name, **options: Any) -> SyncScope:
        """As `Guard.operation`: `with guard.sync.operation(...) as op:`."""
        return self._scope(lambda: self._guard.operation(purpose=purpose, key=key, owner=owner, **options))

    def resume(self, *, reference: str) -> SyncScope:
        """As `Guard.resume`."""
        return self._scope(lambda: self._guard.resume(reference=reference))

    def run(
        self,
        call: Callable[Concatenate[SyncLibraryOperation, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run `call(op, *args)` once in the operation's life, in this thread, and give its kept result ever after.

        Of the keyword arguments `purpose`, `key`, `owner`, `amount_minor`, `currency` and `deadline_seconds` are for the
        operation, as in `Guard.run`; the others are for *call*.
        """
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        with self.operation(**options) as op:  # type: ignore[arg-type]  # missing ones are named by the TypeError
            if not op.finished:
                op.keep(call(op, *args, **kwargs))
            kept: T = op.answer
            return kept

    def note(self, outcome: Outcome | Fact, **options: Any) -> Operation:
        """As `Guard.note`."""

        async def note() -> Operation:
            await self._guard.start()
            return await self._guard.note(outcome, **options)

        return self._wait(note)

    def start(self) -> None:
        """Start the guard in the bridge's loop."""
        self._wait(self._guard.start)

    def stop(self) -> None:
        """Stop the guard, and the bridge."""
        self._wait(self._guard.stop)
        self._bridge.close()

    def _scope(self, scope: Callable[[], Scope]) -> SyncScope:
        self._bridge.at_exit(self._guard.stop)
        return SyncScope(self._bridge, scope)

    def _wait(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._bridge.at_exit(self._guard.stop)
        return self._bridge.wait(make)


_OPTIONS = ("purpose", "key", "owner", "amount_minor", "currency", "deadline_seconds")


def _tell(loop: asyncio.AbstractEventLoop, left: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    """Say how the body ended.

    Raises:
        LoopEnded: to nobody: whoever takes the order over goes on with it.
    """

    def tell() -> None:
        if not left.done():
            left.set_result(error)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        raise LoopEnded() from error


def _pass_on(task: Future[None], entered: Future[LibraryOperation]) -> None:
    """Entering failed: whoever waits to get in hears why."""
    if entered.done():
        return
    if task.cancelled():
        entered.cancel()
    else:
        entered.set_exception(task.exception() or RuntimeError("the operation ended before it was entered"))
