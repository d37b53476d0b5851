"""One thread that owns one connection: opens it, runs batches in it one after the other, and closes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

Item_contra = TypeVar("Item_contra", contravariant=True)
Item = TypeVar("Item")


class Work(Protocol[Item_contra]):
    """What the thread does; every method is called in the thread."""

    def open(self) -> Any: ...

    def run(self, items: Sequence[Item_contra]) -> Sequence[Any]: ...

    def close(self) -> None: ...


class WorkerThread(Generic[Item]):
    """Runs *work* in a thread of its own. Answers come back to the event loop that asked, one wake-up a batch."""

    def __init__(self, work: Work[Item], *, name: str) -> None:
        self._work = work
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def open(self) -> asyncio.Future[Any]:
        return self._call(self._work.open)

    def send(self, items: Sequence[Item]) -> asyncio.Future[Sequence[Any]]:
        return self._call(lambda: self._work.run(items))

    def close(self) -> asyncio.Future[None]:
        """Close the connection after everything that was sent before, and end the thread."""
        future = self._call(self._work.close)
        self._jobs.put(None)
        return future

    def _call(self, job: Callable[[], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((job, loop, future))
        return future

    def _live(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, loop, future = entry
            answer: Any = None
            error: BaseException | None = None
            try:
                answer = job()
            except BaseException as failure:  # noqa: BLE001 - it belongs to the caller, in the other thread
                error = failure
            with suppress(RuntimeError):  # the loop has ended: nobody waits for the answer
                loop.call_soon_threadsafe(_tell, future, answer, error)


def _tell(future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
