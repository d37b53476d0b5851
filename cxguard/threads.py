"""Threads for the shop's own plain functions, which may block, and may hang for ever.

Not the event loop's pool: that has a handful of threads, and looks up host names with them. A few functions that hang would keep
them all, and then no gateway and no store can be connected to any more; nor would the process end, which waits for that pool.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Job = Callable[[], None]


class Threads:
    """At most so many threads, made when they are needed and then kept, since a shop's database connections belong to them.

    A call that finds all of them at work waits in line. They do not keep the process alive, and are not those of a parent.
    """

    def __init__(self, name: str, *, most: int) -> None:
        self._name = name
        self._most = most
        self._begin_anew()

    async def __call__(self, call: Callable[..., Any], /, *arguments: Any) -> Any:
        """What *call* gives, in the context of the caller. Whoever is cancelled while in line is not called."""
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()
        done: asyncio.Future[Any] = loop.create_future()

        def job() -> None:
            settle, told = _called(done, lambda: context.run(call, *arguments))
            with suppress(RuntimeError):  # the loop has ended: nobody waits for the answer
                loop.call_soon_threadsafe(_settle, done, settle, told)

        try:
            self._take_in(job)
            return await done
        finally:
            self._leave(job)

    def _take_in(self, job: Job) -> None:
        if self._pid != os.getpid():
            self._begin_anew()
        with self._changed:
            self._line.append(job)
            if self._idle >= len(self._line):
                self._changed.notify()
            elif self._made < self._most:
                threading.Thread(target=self._live, name=self._name, daemon=True).start()
                self._made += 1

    def _leave(self, job: Job) -> None:
        with self._changed, suppress(ValueError):  # it is in hand, or done
            self._line.remove(job)

    def _live(self) -> None:
        while True:
            self._next()()

    def _next(self) -> Job:
        with self._changed:
            while not self._line:
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return self._line.popleft()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._line: deque[Job] = deque()
        self._made = self._idle = 0


def _called(done: asyncio.Future[Any], call: Callable[[], Any]) -> tuple[Callable[[Any], None], Any]:
    try:
        return done.set_result, call()
    except BaseException as error:  # noqa: BLE001 - it belongs to the caller, in another thread
        return done.set_exception, _bearable(error)


def _bearable(error: BaseException) -> Exception:
    """What may be raised in a loop that works for others, too: not the end of the program, nor that of an iteration."""
    bearable = isinstance(error, Exception) and not isinstance(error, StopIteration)
    return error if bearable and isinstance(error, Exception) else RuntimeError(type(error).__name__)


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], None], told: Any) -> None:
    if not done.done():
        settle(told)
