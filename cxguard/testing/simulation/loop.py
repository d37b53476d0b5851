"""An event loop for several simulated processes at once: the dice say who goes on, and time passes only when all wait.

What runs belongs to a *party*: a process of the shop, or the world around it. Within a party the order is asyncio's own;
between parties it is the dice's, or that of priorities which change now and then (Burckhardt et al., "A randomized scheduler
with probabilistic guarantees of finding bugs", 2010). A party that is frozen does not go on; of one that has died nothing
ever runs again, not even a `finally`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from cxguard.testing.clock import START

T = TypeVar("T")

STEPS_MAX = 5_000  # of one story; the longest of 400 real ones took 2,227
LAST_WORDS_MAX = 20  # times that what is closed may wait for something once more
PRIORITY_CHANGES_MEAN = 40  # turns between two changes of the priorities


class Livelock(AssertionError):
    """The story goes on and on, or everybody waits for what will never come."""


class Party:
    """Who shares one fate: a process, or the world around the processes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.turns = 0
        self.dies_at_turn: int | None = None
        self.on_death: Callable[[], None] = lambda: None
        self.priority = 0.0
        self.ready: deque[_Turn] = deque()
        self.remains: list[_Turn] = []  # kept, since what is freed would still run its `finally`

    def kill(self) -> None:
        """Now, and without a last word."""
        if not self.dead:
            self.dead = True
            self.remains.extend(self.ready)
            self.ready.clear()
            self.on_death()


WORLD = Party("world")
PARTY: ContextVar[Party] = ContextVar("cxguard_simulated_party", default=WORLD)


def over(future: asyncio.Future[Any]) -> None:
    """The time of *future* is over: whoever waits for it goes on."""
    if not future.done():
        future.set_result(None)


AT_ONCE = frozenset({over, asyncio.futures._set_result_unless_cancelled})  # type: ignore[attr-defined]  # whoever waits gets a turn


class _Turn:
    """One call that is to be made: what asyncio calls a handle."""

    __slots__ = ("args", "at", "call", "context", "party", "put_off")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...], context: Context | None, at: float) -> None:
        self.call = call
        self.args = args
        self.at = at
        self.put_off = False
        self.context = context if context is not None else copy_context()
        self.party = self.context.get(PARTY, WORLD)

    def cancel(self) -> None:
        self.put_off = True

    def cancelled(self) -> bool:
        return self.put_off

    def when(self) -> float:
        return self.at


class _Waking:
    """A time that is over: whoever waits for it gets a turn, so this is none, and nobody's."""

    __slots__ = ("args", "at", "call", "put_off")
    party = None

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...], at: float) -> None:
        self.call = call
        self.args = args
        self.at = at
        self.put_off = False

    cancel, cancelled, when = _Turn.cancel, _Turn.cancelled, _Turn.when


class SeededLoop(asyncio.AbstractEventLoop):
    """Runs one story.

    Args:
        by_priority: choose the party by changing priorities, not evenly.
    """

    def __init__(self, dice: random.Random, *, by_priority: bool = False, steps_max: int = STEPS_MAX) -> None:
        self._dice = dice
        self._by_priority = by_priority
        self._steps_max = steps_max
        self._time = 0.0
        self._numbers = 0
        self._timers: list[tuple[float, float, int, _Turn | _Waking]] = []
        self._tasks: list[asyncio.Task[Any]] = []  # strong: nothing of a story is freed before its end
        self._world = Party("world")
        self._parties = [self._world]
        self._dead: list[Party] = []
        self.steps = 0
        self.failures: list[str] = []

    def add(self, party: Party) -> None:
        """Let it take part."""
        party.priority = self._dice.random()
        self._parties.append(party)

    # --- what asyncio asks of a loop

    def time(self) -> float:
        return self._time

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        turn = _Turn(callback, args, context, self._time)
        self._put(turn)
        return turn

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # nobody else is here

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        turn = _Waking(callback, args, when) if callback in AT_ONCE else _Turn(callback, args, context, when)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._dice.random(), self._numbers, turn))
        return turn

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What asyncio would log: in a story it is a failure, told with its error."""
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func} would run in a thread: a story with threads cannot be told twice")

    def give_up(self) -> None:
        """Take the story for one without an end."""
        self._steps_max = self.steps

    # --- the story

    def tell(self, story: Coroutine[Any, Any, T]) -> T:
        """Run *story* to its end; then nothing of it goes on.

        Raises:
            Livelock: it has no end.
        """
        asyncio._set_running_loop(self)
        try:
            told = self.create_task(story)
            while not told.done():
                self._go_on(told)
            return told.result()  # type: ignore[no-any-return]
        finally:
            self._end()
            asyncio._set_running_loop(None)

    def _go_on(self, told: asyncio.Task[Any]) -> None:
        """Turn by turn, until all wait for a time to come, or the story is told. Little is called: there are many turns."""
        while (party := self._next()) is not None:
            turn = party.ready.popleft()
            if turn.put_off:
                continue
            self.steps += 1
            party.turns += 1
            if self.steps > self._steps_max:
                raise Livelock(f"no end after {self.steps} steps, at {self._time:.2f} s")
            if party.turns == party.dies_at_turn:
                self._bury(party, turn)
                continue
            turn.context.run(turn.call, *turn.args)
            if told.done():
                return
        self._let_time_pass()

    def _bury(self, party: Party, turn: _Turn) -> None:
        party.remains.append(turn)
        party.kill()
        self._parties.remove(party)
        self._dead.append(party)

    def _next(self) -> Party | None:
        able = [party for party in self._parties if party.ready and not party.frozen]
        if len(able) <= 1:
            return able[0] if able else None
        if not self._by_priority:
            return able[int(self._dice.random() * len(able))]
        first = max(able, key=_priority)
        if self._dice.random() * PRIORITY_CHANGES_MEAN < 1:
            first.priority = self._dice.random() - 1.0  # below all that have not been lowered
        return first

    def _let_time_pass(self) -> None:
        """To the next moment at which somebody has something to do."""
        timers = self._timers
        while timers and timers[0][3].put_off:
            heapq.heappop(timers)
        if not timers:
            raise Livelock("everybody waits, and nothing will ever come")
        now = self._time = max(self._time, timers[0][0])
        while timers and timers[0][0] <= now:
            turn = heapq.heappop(timers)[3]
            if turn.put_off:
                continue
            if isinstance(turn, _Waking):
                turn.call(*turn.args)
            else:
                self._put(turn)

    def _put(self, turn: _Turn) -> None:
        party = turn.party if turn.party is not WORLD else self._world
        (party.remains if party.dead else party.ready).append(turn)

    def _end(self) -> None:
        """Close what is left. Its last words have no effect: the world is over for it."""
        for task in self._tasks:
            if not task.done():
                _close(task)
        self._tasks.clear()
        self._timers.clear()
        for party in (*self._parties, *self._dead):
            party.ready.clear()
            party.remains.clear()


def _priority(party: Party) -> float:
    return party.priority


def _close(task: asyncio.Task[Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine: Any = task.get_coro()
    for _ in range(LAST_WORDS_MAX):
        with contextlib.suppress(BaseException):  # whatever the last words are, nobody listens
            coroutine.close()
        if coroutine.cr_frame is None:
            return


class WorldClock:
    """The time of the running story, for whoever has a clock of its own that may be set.

    Attributes:
        ahead_seconds: how far its wall clock is off.
    """

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> float:
        return START + asyncio.get_running_loop().time() + self.ahead_seconds

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def passed(seconds: float) -> None:
    """Let virtual time pass for this task."""
    loop = asyncio.get_running_loop()
    then = loop.create_future()
    timer = loop.call_later(seconds, over, then)
    try:
        await then
    finally:
        timer.cancel()


@contextlib.contextmanager
def as_party(party: Party) -> Iterator[None]:
    """Whatever is begun in here is the party's."""
    token = PARTY.set(party)
    try:
        yield
    finally:
        PARTY.reset(token)
