"""From code that is not async into the event loop: one way for scripts, threads, sync views and prefork workers.

The guard's work is done in one event loop, and whoever is not in it waits for it. Which loop that is: the one in which the
guard was started, if it runs (an ASGI server's, for a sync view in a worker thread); else a loop of the bridge's own, in a
thread of its own, made at the first call. The caller's own code (`call` of `guard.sync.run`, the body of a `with`, the call of
a step) always runs in the caller's thread, with its database connections and its context; what it raises to end the program
(`SystemExit`, Ctrl-C) ends the caller, and never the loop that works for others.

After a fork nothing of the parent's is used: no thread, loop, lock or connection. The child begins anew.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from cxguard.errors import LoopEnded, OfParentProcess

T = TypeVar("T")

LOOK_SECONDS = 1.0  # between two looks whether the loop that somebody waits for still runs
STOP_SECONDS = 5.0  # at the end of the program: whoever is not done by then is taken over by another process


class Bridge:
    """Runs coroutines for threads.

    Args:
        home: the loop in which the guard lives, if it has been started in one.
    """

    def __init__(self, home: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        self._home = home
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._own: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._at_exit: Callable[[], Coroutine[Any, Any, None]] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where the work is done."""
        self._forget_parent()
        home = self._home()
        if home is not None and home.is_running():
            return home
        with self._lock:
            if self._own is None or self._thread is None or not self._thread.is_alive():
                self._own = self._make()
            return self._own

    def wait(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have the loop run a coroutine, and wait for its end.

        Raises:
            RuntimeError: called from async code, which would wait for itself.
            LoopEnded: the loop ended before it was done.
        """
        refuse_in_a_loop()
        loop = self.loop
        return result_of(submitted(make(), loop), loop)

    def at_exit(self, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What to run in the bridge's own loop before the program ends, if nobody has closed the bridge by then."""
        if self._at_exit is None:
            atexit.register(self._leave)
        self._at_exit = stop

    def close(self) -> None:
        """End the bridge's own loop and thread. The next call makes new ones."""
        self._forget_parent()
        with self._lock:
            loop, thread, self._own, self._thread = self._own, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(STOP_SECONDS)
            if not loop.is_running():
                loop.close()

    def _make(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(loop,), name="cxguard-bridge", daemon=True)
        self._thread.start()
        return loop

    def _forget_parent(self) -> None:
        if self._pid != os.getpid():
            self._pid, self._lock, self._own, self._thread = os.getpid(), threading.Lock(), None, None

    def _leave(self) -> None:
        if self._pid != os.getpid() or self._own is None or self._at_exit is None:
            return
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._at_exit(), self._own).result(STOP_SECONDS)
        self.close()


class CallerThread:
    """The thread that waits for a coroutine, and meanwhile runs what the coroutine asks of it: blocking calls of the shop's own.

    No pool of threads: however many callers there are, and however deep their calls are nested, each has its own thread.
    """

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    async def run(self, call: Callable[[], T]) -> T:
        """Have the waiting thread run *call*, in the context of this coroutine.

        Raises:
            Escaped: it raised what no coroutine may raise without ending its loop.
        """
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        done: asyncio.Future[T] = loop.create_future()

        def ask() -> None:
            try:
                settle: Callable[[T], None] | Callable[[BaseException], None] = done.set_result
                told: Any = context.run(call)
            except BaseException as error:  # noqa: BLE001 - carried over, and raised again in the caller's thread
                settle, told = done.set_exception, _carried(error)
            loop.call_soon_threadsafe(_settle, done, settle, told)

        self._asked.put(ask)
        return await done

    def wait(self, future: Future[T], loop: asyncio.AbstractEventLoop) -> T:
        """Do what is asked until *future* is done. Raises as `result_of`; what a call raised comes out as it was."""
        future.add_done_callback(lambda _: self._asked.put(None))
        try:
            while (ask := self._next(future, loop)) is not None:
                ask()
            return result_of(future, loop)
        except Escaped as escaped:
            raise escaped.error from None
        except BaseException:
            future.cancel()
            raise

    def _next(self, future: Future[Any], loop: asyncio.AbstractEventLoop) -> Callable[[], None] | None:
        while True:
            try:
                return self._asked.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                _check_runs(future, loop)


class Escaped(Exception):
    """Carries through a loop what would end it: the end of the program, asked for in another thread."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


def _carried(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) and not isinstance(error, StopIteration) else Escaped(error)


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], None], told: Any) -> None:
    if not done.done():
        settle(told)


def submitted(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> Future[T]:
    """Have *loop* run *coroutine*.

    Raises:
        LoopEnded: it is closed.
    """
    try:
        return asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError as closed:
        coroutine.close()
        raise LoopEnded() from closed


def result_of(future: Future[T], loop: asyncio.AbstractEventLoop) -> T:
    """Wait for *future*, which *loop* works on. Whoever is interrupted meanwhile (Ctrl-C) takes back what was asked.

    Raises:
        LoopEnded: the loop ended before it was done.
    """
    try:
        while True:
            try:
                return future.result(LOOK_SECONDS)
            except TimeoutError:
                if future.done():  # it is the call's own
                    raise
                _check_runs(future, loop)
    except BaseException:
        future.cancel()
        raise


def _check_runs(future: Future[Any], loop: asyncio.AbstractEventLoop) -> None:
    if not future.done() and not loop.is_running():
        raise LoopEnded()


def refuse_in_a_child(pid: int) -> None:
    """Refuse to wait for a loop that only the process *pid* runs: a copy of it in a child never ends anything.

    Raises:
        OfParentProcess: this is another process.
    """
    if pid != os.getpid():
        raise OfParentProcess()


def refuse_in_a_loop() -> None:
    """Refuse to wait for the loop in the loop's own thread.

    Raises:
        RuntimeError: with what to write instead.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("guard.sync and op.sync are for code that is not async: here write `await guard.run(...)`, `await op.charge(...)`")


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    left = asyncio.all_tasks(loop)  # a store closes what it opened in this loop when its own task is cancelled
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
