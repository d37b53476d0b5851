"""From code that is not async into the event loop: one way for scripts, threads, sync views and prefork workers.

The guard's work is done in one event loop, and whoever is not in it waits for it. Which loop that is: the one in which the
guard was started, if it runs (an ASGI server's, for a sync view in a worker thread); else a loop of the bridge's own, in a
thread of its own, made at the first call. The caller's own code (`call` of `guard.sync.run`, the body of a `with`) always
runs in the caller's thread, with its database connections and its context.

After a fork nothing of the parent's is used: no thread, loop, lock or connection. The child begins anew.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

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
            if self._own is None or self._own.is_closed():
                self._own = self._make()
            return self._own

    def wait(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have the loop run a coroutine, and wait for its end.

        Raises:
            RuntimeError: called from async code, which would wait for itself.
        """
        refuse_in_a_loop()
        return result_of(asyncio.run_coroutine_threadsafe(make(), self.loop))

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


def result_of(future: Future[T]) -> T:
    """Wait for *future*. Whoever is interrupted meanwhile (Ctrl-C) takes back what was asked."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


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
