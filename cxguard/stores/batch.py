"""Batches that form by themselves: while one is on its way, the next one fills.

Alone, an operation waits for nothing; under load, one fsync or one round trip carries many. The same mechanism serves
every store: it knows nothing of files or sockets, only of a `send` that takes a list and answers it as a list.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from cxguard.errors import StoreError, StoreUnavailable

BATCH_MAX = 256  # items under one fsync: about 40 ms of work at most, so that nobody behind waits long
WAITING_MAX = 10_000  # callers in line; behind that many an answer would come too late for a shopper
PATIENCE_SECONDS = 5.0  # a batch without an answer for so long: its callers are told that nobody knows

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Seat = tuple[Item, "asyncio.Future[Answer]"]
Send = Callable[[list[Item]], "asyncio.Future[Sequence[Answer | BaseException]]"]


class Batcher(Generic[Item, Answer]):
    """Gathers what callers ask for into batches, one on its way at a time.

    An item whose caller was cancelled is dropped before its batch leaves, or runs whole: never half. When a batch stays
    away too long its callers get `StoreUnavailable`, and nobody else is let in until it has come back.

    Args:
        send: starts one batch and returns the future of its answers, one for each item, in order; an exception among
            them is raised for that caller alone.
        name: what the error texts call the store.
    """

    def __init__(
        self,
        send: Send[Item, Answer],
        *,
        name: str,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._send = send
        self._name = name
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._patience_seconds = patience_seconds
        self._waiting: deque[Seat[Item, Answer]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._busy = False  # a batch is on its way, or about to leave
        self._stuck = False  # the batch on its way has outlasted our patience
        self._idle: asyncio.Event | None = None

    async def ask(self, item: Item) -> Answer:
        """Send *item* with the next batch and return its answer.

        Raises:
            StoreUnavailable: too many wait already (nothing was sent), or no answer came (it may have happened).
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._move_to(loop)
        self._check_room()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._depart)  # not at once: who asks in this turn of the loop still gets a seat
        return await future

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is on its way."""
        while self._busy and self._loop is asyncio.get_running_loop():
            self._idle = self._idle or asyncio.Event()  # one for all who wait for it
            await self._idle.wait()

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._busy and self._loop is not None and not self._loop.is_closed():
            raise RuntimeError(f"{self._name} is in use by another event loop: give each loop a store of its own")
        self._waiting.clear()
        self._loop, self._busy, self._stuck, self._idle = loop, False, False, None

    def _check_room(self) -> None:
        if self._stuck:
            raise StoreUnavailable(
                f"{self._name} has not answered for more than {self._patience_seconds:g} s: nothing was sent; "
                "look at its disk, or at a process that was stopped while writing"
            )
        if len(self._waiting) >= self._waiting_max:
            raise StoreUnavailable(f"{self._name} has {self._waiting_max} callers in line: nothing was sent; try again in a moment")

    def _depart(self) -> None:
        """Send the next batch, or rest."""
        seats: list[Seat[Item, Answer]] = []
        while self._waiting and len(seats) < self._batch_max:
            seat = self._waiting.popleft()
            if not seat[1].done():
                seats.append(seat)
        if not seats:
            self._rest()
            return
        assert self._loop is not None, "set by the first ask"
        flight = self._send([item for item, _ in seats])
        timer = self._loop.call_later(self._patience_seconds, self._lose_patience, seats)
        flight.add_done_callback(lambda done: self._arrive(done, seats, timer))

    def _rest(self) -> None:
        self._busy = False
        if self._idle is not None:
            self._idle.set()
            self._idle = None

    def _arrive(
        self, flight: asyncio.Future[Sequence[Answer | BaseException]], seats: Sequence[Seat[Item, Answer]], timer: asyncio.TimerHandle
    ) -> None:
        timer.cancel()
        self._stuck = False
        for (_, future), answer in zip(seats, self._answers(flight, len(seats)), strict=True):
            if future.done():  # cancelled, or told that no answer came
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._depart()

    def _answers(self, flight: asyncio.Future[Sequence[Answer | BaseException]], count: int) -> Sequence[Answer | BaseException]:
        if flight.cancelled():
            return [StoreUnavailable(f"{self._name} was closed: look before you act again")] * count
        error = flight.exception()
        if isinstance(error, StoreError):
            return [type(error)(*error.args) for _ in range(count)]  # each caller adds a traceback to its own
        return flight.result() if error is None else [error] * count

    def _lose_patience(self, seats: Sequence[Seat[Item, Answer]]) -> None:
        self._stuck = True
        for _, future in seats:
            if not future.done():
                future.set_exception(
                    StoreUnavailable(
                        f"{self._name} gave no answer within {self._patience_seconds:g} s: it may have happened; look before you act again"
                    )
                )
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(StoreUnavailable(f"{self._name} does not answer: nothing was sent; try again in a moment"))


class Lines(Generic[Item, Answer]):
    """A batcher for each event loop that asks: requests have one, and the heartbeat, in its own thread, has another.

    Args:
        make: makes one more batcher over the same `send`, which must bear being called from several loops.
    """

    def __init__(self, make: Callable[[], Batcher[Item, Answer]]) -> None:
        self._make = make
        self._by_loop: dict[asyncio.AbstractEventLoop, Batcher[Item, Answer]] = {}

    async def ask(self, item: Item) -> Answer:
        """As `Batcher.ask`, in the line of the running loop."""
        loop = asyncio.get_running_loop()
        batcher = self._by_loop.get(loop)
        if batcher is None:
            for ended in [known for known in tuple(self._by_loop) if known.is_closed()]:
                self._by_loop.pop(ended, None)
            batcher = self._by_loop.setdefault(loop, self._make())
        return await batcher.ask(item)

    async def drain(self) -> None:
        """As `Batcher.drain`, for the running loop; others end their own."""
        batcher = self._by_loop.get(asyncio.get_running_loop())
        if batcher is not None:
            await batcher.drain()
