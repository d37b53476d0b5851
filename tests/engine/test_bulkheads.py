"""Places for calls: in the order of asking, across loops and threads, and none is lost."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from virtual_time import passed, run_virtually

from cxguard.engine import bulkheads
from cxguard.engine.bulkheads import Bulkhead


async def turn() -> None:
    """Let every task that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_full_one_lets_nobody_in_at_once() -> None:
    """Three places, three get in; with no time to wait the fourth is told at once."""
    bulkhead = Bulkhead(3)
    assert [await bulkhead.enter(wait_seconds=0.0) for _ in range(4)] == [True, True, True, False]
    bulkhead.leave()
    assert await bulkhead.enter(wait_seconds=0.0)


@pytest.mark.asyncio
async def test_who_came_first_gets_in_first() -> None:
    """A place is handed over, so that nobody who comes later slips in before."""
    bulkhead, order = Bulkhead(1), []
    await bulkhead.enter(wait_seconds=0.0)

    async def wait(number: int) -> None:
        assert await bulkhead.enter(wait_seconds=60.0)
        order.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(3)]
    await turn()
    for _ in range(3):
        bulkhead.leave()
        assert not await bulkhead.enter(wait_seconds=0.0)
        await turn()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
    bulkhead.leave()
    assert bulkhead.taken == 0


def test_waiting_has_an_end() -> None:
    """Half a second, then no; the place that comes later goes to somebody else."""

    async def main() -> None:
        bulkhead = Bulkhead(1)
        assert await bulkhead.enter(wait_seconds=0.5)
        began = asyncio.get_running_loop().time()
        assert not await bulkhead.enter(wait_seconds=0.5)
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.5)
        bulkhead.leave()
        assert bulkhead.taken == 0

    run_virtually(main())


@pytest.mark.asyncio
async def test_a_cancelled_waiter_gives_back_what_was_just_handed_to_it() -> None:
    """Both in one turn of the loop: the next in line has the place, or nobody."""
    bulkhead = Bulkhead(1)
    await bulkhead.enter(wait_seconds=0.0)
    first = asyncio.create_task(bulkhead.enter(wait_seconds=60.0))
    second = asyncio.create_task(bulkhead.enter(wait_seconds=60.0))
    await turn()
    bulkhead.leave()
    first.cancel()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first
    bulkhead.leave()
    assert bulkhead.taken == 0


@pytest.mark.asyncio
async def test_the_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told at once, however long it would wait."""
    monkeypatch.setattr(bulkheads, "WAITERS_MAX", 2)
    bulkhead = Bulkhead(1)
    await bulkhead.enter(wait_seconds=0.0)
    waiting = [asyncio.create_task(bulkhead.enter(wait_seconds=60.0)) for _ in range(2)]
    await turn()
    assert not await bulkhead.enter(wait_seconds=60.0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def begin(waiting: Coroutine[Any, Any, bool]) -> None:
    """Step into it as a task would, up to its wait."""

    class Begun:
        def __await__(self) -> Generator[None, None, None]:
            waiting.send(None)
            return
            yield

    await Begun()


def test_a_waiter_whose_loop_is_gone_keeps_no_place() -> None:
    """Its thread ended in the middle: the place goes to the next, or is free."""
    bulkhead = Bulkhead(1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(bulkhead.enter(wait_seconds=0.0))
    waiting = bulkhead.enter(wait_seconds=60.0)
    loop.run_until_complete(begin(waiting))
    loop.close()
    bulkhead.leave()
    assert bulkhead.taken == 0
    waiting.close()


def test_loops_in_many_threads_share_the_places() -> None:
    """Never more than three inside at once, everybody gets in, and no place is lost."""
    bulkhead, guard = Bulkhead(3), threading.Lock()
    inside, most, served = 0, 0, 0

    async def call() -> None:
        nonlocal inside, most, served
        assert await bulkhead.enter(wait_seconds=60.0)
        with guard:
            inside += 1
            most = max(most, inside)
        await asyncio.sleep(0)
        with guard:
            inside -= 1
            served += 1
        bulkhead.leave()

    async def calls() -> None:
        await asyncio.gather(*(call() for _ in range(50)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asyncio.run(calls()), range(4)))
    assert (most, served, bulkhead.taken) == (3, 200, 0)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_no_place_is_lost(seed: int) -> None:
    """Calls that end, are cancelled, or wait in vain, by dice: never too many inside, and all free in the end."""

    async def main() -> None:
        dice, bulkhead = random.Random(seed), Bulkhead(4)

        async def call() -> None:
            if await bulkhead.enter(wait_seconds=dice.choice([0.0, 0.1, 1.0])):
                try:
                    assert bulkhead.taken <= 4
                    await passed(dice.random())
                finally:
                    bulkhead.leave()

        tasks = []
        for _ in range(200):
            tasks.append(asyncio.create_task(call()))
            await passed(dice.random() * 0.1)
            if dice.random() < 0.4:
                dice.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert bulkhead.taken == 0

    run_virtually(main())
