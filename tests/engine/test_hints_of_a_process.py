"""The hints of a process: who is told, and whether they are known to come."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from virtual_time import LoopClock, passed, run_virtually

from cxguard.core.hints import ECHO_LATE_SECONDS, ECHO_SECONDS
from cxguard.engine.hints import UNTOLD_MAX, Hints
from cxguard.errors import StoreUnavailable
from cxguard.stores.base import EVERYTHING
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import FaultyStore

pytestmark = pytest.mark.asyncio


class Pooled(MemoryStore):
    """As behind a pooler: whoever listens is told that it listens, and hears nothing."""

    async def announce(self, topics: Sequence[str]) -> None:
        return


class Deaf(MemoryStore):
    """Cannot be listened to."""

    async def listen(self, hear: Callable[[str], None]) -> None:
        raise StoreUnavailable("the channel is gone")


class Counting(MemoryStore):
    """Counts announcements; `away` refuses them, and `meanwhile` happens."""

    away = False
    meanwhile: Callable[[], None] | None = None

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.announced: list[tuple[str, ...]] = []

    async def announce(self, topics: Sequence[str]) -> None:
        self.announced.append(tuple(topics))
        if self.away:
            if self.meanwhile is not None:
                self.meanwhile()
            raise StoreUnavailable("away")
        await super().announce(topics)


class Heard:
    """What a hearer has heard, to be waited for."""

    def __init__(self, hints: Hints) -> None:
        self.topics: list[str] = []
        self._more = asyncio.Event()
        hints.listen(self._hear)

    async def until(self, topic: str) -> None:
        async with asyncio.timeout(5):
            while topic not in self.topics:
                self._more.clear()
                await self._more.wait()

    def _hear(self, topic: str) -> None:
        self.topics.append(topic)
        self._more.set()


@asynccontextmanager
async def started(hints: Hints) -> AsyncIterator[Heard]:
    heard = Heard(hints)
    hints.start()
    try:
        yield heard
    finally:
        await hints.stop()


async def until(holds: Callable[[], bool]) -> None:
    """Let everything run that is ready, until it holds."""
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to hold")


async def test_a_process_knows_that_hints_come_by_its_own_echo() -> None:
    """At once after it has begun to listen; and no more when nothing was heard for a while."""
    clock = ManualClock()
    hints = Hints(MemoryStore(clock=clock), clock, process="p1")
    assert not hints.come
    async with started(hints):
        await until(lambda: hints.come)
        clock.advance(ECHO_SECONDS + ECHO_LATE_SECONDS + 0.1)
        assert not hints.come
    assert not hints.come


async def test_a_process_in_which_nothing_happens_goes_on_hearing_itself() -> None:
    """A minute in which nobody tells anything: its own echo says all the while that hints come."""

    async def minute() -> list[bool]:
        clock, known = LoopClock(), []
        hints = Hints(MemoryStore(clock=clock), clock, process="p1")
        async with started(hints):
            for _ in range(60):
                await passed(1.0)
                known.append(hints.come)
        return known

    assert await asyncio.to_thread(run_virtually, minute()) == [True] * 60


async def test_a_listener_that_hears_nothing_is_found_out() -> None:
    """Behind a pooler listening begins without an error, and no echo comes."""
    clock = ManualClock()
    hints = Hints(Pooled(clock=clock), clock, process="p1")
    async with started(hints) as heard:
        await heard.until(EVERYTHING)
        hints.tell("queue:shop@0")
        for _ in range(100):
            await asyncio.sleep(0)
        assert not hints.come


async def test_every_process_hears_what_one_tells() -> None:
    """Also the one that tells."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    one, other = Hints(store, clock, process="p1"), Hints(store, clock, process="p2")
    async with started(one) as here, started(other) as there:
        await here.until(EVERYTHING)
        await there.until(EVERYTHING)
        one.tell("queue:shop@0")
        await here.until("queue:shop@0")
        await there.until("queue:shop@0")


async def test_nobody_is_told_of_an_echo() -> None:
    """It is between a process and itself."""
    clock = ManualClock()
    hints = Hints(MemoryStore(clock=clock), clock, process="p1")
    async with started(hints) as heard:
        await until(lambda: hints.come)
        assert heard.topics == [EVERYTHING]


async def test_a_store_without_hints_has_this_process_hear_itself() -> None:
    """What is put into the queue here is taken at once here; and hints are not known to come."""
    clock = ManualClock()
    hints = Hints(FaultyStore(MemoryStore(clock=clock)), clock, process="p1")
    async with started(hints) as heard:
        hints.tell("queue:shop@0")
        await heard.until("queue:shop@0")
        assert not hints.come


async def test_what_is_told_at_once_goes_in_one_word() -> None:
    """A hundred orders in one moment are a few words to the store, each topic once, and no more than a limit wait."""
    clock = ManualClock()
    store = Counting(clock)
    hints = Hints(store, clock, process="p1")
    for number in range(UNTOLD_MAX + 500):
        hints.tell(f"news:{number}")
        hints.tell(f"news:{number}")
    await hints.stop()
    assert [len(topics) for topics in store.announced] == [UNTOLD_MAX]


async def test_a_word_that_the_store_does_not_take_is_lost_and_nothing_else() -> None:
    """Whoever told it does not hear of that; the next word is told."""
    clock = ManualClock()
    store = Counting(clock)
    hints = Hints(store, clock, process="p1")
    store.away = True
    hints.tell("news:1")
    await until(lambda: len(store.announced) == 1)
    store.away = False
    hints.tell("news:2")
    await hints.stop()
    assert store.announced == [("news:1",), ("news:2",)]


async def test_what_is_left_to_tell_is_told_before_the_end() -> None:
    """A process that ends with its last word unsaid would leave others to find out by themselves."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    async with started(Hints(store, clock, process="p2")) as there:
        await there.until(EVERYTHING)
        ending = Hints(store, clock, process="p1")
        ending.tell("news:1")
        await ending.stop()
        await there.until("news:1")


async def test_its_tasks_say_whose_they_are() -> None:
    """Whoever looks at what runs in a process that is stuck finds them by name."""
    clock = ManualClock()
    hints = Hints(MemoryStore(clock=clock), clock, process="p1")
    async with started(hints):
        hints.tell("news:1")
        assert {"cxguard-tell", "cxguard-hints", "cxguard-echo"} <= {task.get_name() for task in asyncio.all_tasks()}


async def test_a_store_that_gives_no_hints_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing fails for it, and looks come oftener: somebody may want to know why."""
    clock = ManualClock()
    store = Deaf(clock=clock)
    with caplog.at_level(logging.DEBUG, logger="cxguard.hints"):
        async with started(Hints(store, clock, process="p1")):
            await until(lambda: bool(caplog.records))
    line = json.loads(caplog.records[0].getMessage())
    assert (line["event"], line["why"]) == ("hints.none", "the channel is gone")


async def test_what_is_told_while_the_store_takes_nothing_is_told_next() -> None:
    """One word that was lost takes no other with it: nobody has to say that one again."""
    clock = ManualClock()
    store = Counting(clock)
    hints = Hints(store, clock, process="p1")
    store.away = True
    store.meanwhile = lambda: hints.tell("news:2")
    hints.tell("news:1")
    await until(lambda: len(store.announced) == 1)
    store.away = False
    await hints.stop()
    assert store.announced == [("news:1",), ("news:2",)]


async def test_what_was_told_in_a_loop_that_runs_no_more_is_told_in_the_next() -> None:
    """A program that has one loop after the other, and left the first in the middle of a word."""
    clock = ManualClock()
    store = Counting(clock)
    hints = Hints(store, clock, process="p1")

    def before() -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            loop.call_soon(hints.tell, "news:1")
            loop.call_soon(loop.stop)
            loop.run_forever()
            asyncio.run(after())

    async def after() -> None:
        hints.tell("news:2")
        await hints.stop()

    await asyncio.to_thread(before)
    assert [topic for topics in store.announced for topic in topics] == ["news:1", "news:2"]
