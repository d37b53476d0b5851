"""`op.sync`: an operation in hand, for code in a worker thread."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from cxguard.core.outcomes import Charged, Refunded
from cxguard.engine.bridge import CallerThread, refuse_in_a_child, refuse_in_a_loop, submitted
from cxguard.engine.codecs import Codec
from cxguard.engine.steps import check_call
from cxguard.errors import OfParentProcess
from cxguard.gateways.base import Charge

if TYPE_CHECKING:
    from cxguard.engine.handle import OperationHandle

T = TypeVar("T")


class SyncOperation:
    """`op` for a thread: every call is done by the event loop that the operation runs on, and waited for."""

    def __init__(self, handle: OperationHandle, loop: asyncio.AbstractEventLoop | None) -> None:
        self._handle = handle
        self._loop = loop
        self._pid = os.getpid()

    def charge(self, charge: Charge, *, step: str = "charge") -> Charged:
        """As `OperationHandle.charge`."""
        return self._wait(self._handle.charge(charge, step=step))

    def capture(self, amount_minor: int | None = None, *, step: str = "capture", of: str = "charge") -> Charged:
        """As `OperationHandle.capture`."""
        return self._wait(self._handle.capture(amount_minor, step=step, of=of))

    def refund(self, amount_minor: int | None = None, *, step: str = "refund", of: str = "charge", reason: str = "") -> Refunded:
        """As `OperationHandle.refund`."""
        return self._wait(self._handle.refund(amount_minor, step=step, of=of, reason=reason))

    def void(self, *, step: str = "void", of: str = "charge", reason: str = "") -> Refunded:
        """As `OperationHandle.void`."""
        return self._wait(self._handle.void(step=step, of=of, reason=reason))

    def step(
        self, name: str, call: Callable[..., T], *args: Any, repeatable: bool = False, codec: Codec[T] | None = None, **kwargs: Any
    ) -> T:
        """As `OperationHandle.step`; *call* runs in this very thread, so it may block, and has its database connections."""
        check_call(name, call)
        here = CallerThread()

        @functools.wraps(call)  # one step name is for one function: told apart by the function's own name
        def in_this_thread(*inner: Any, **named: Any) -> Awaitable[T]:
            return here.run(functools.partial(call, *inner, **named))

        async def step() -> T:
            return await self._handle.step(name, in_this_thread, *args, repeatable=repeatable, codec=codec, **kwargs)

        return self._wait(step(), here)

    def finish(self, answer: Any, *, connection: object, status: int = 200) -> None:
        """As `OperationHandle.finish`, on a `psycopg.Connection`, which is used in this very thread."""
        here = CallerThread()
        self._wait(self._handle.finish_from(here.run, answer, connection=connection, status=status), here)

    def _wait(self, coroutine: Coroutine[Any, Any, T], here: CallerThread | None = None) -> T:
        try:
            refuse_in_a_child(self._pid)
            refuse_in_a_loop()
        except (OfParentProcess, RuntimeError):
            coroutine.close()
            raise
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("this operation was made outside of an event loop: open it with guard.sync.operation(...)")
        return (here or CallerThread()).wait(submitted(coroutine, self._loop), self._loop)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that this code runs in, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
