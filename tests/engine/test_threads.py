"""Plain functions of the shop's have threads of their own: those that hang take nothing from anybody else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cxguard.core.snapshot import Snapshot
from cxguard.engine.hooks import call_hook
from cxguard.errors import HookFailed
from cxguard.rules.sources import Arrival, read_raw
from cxguard.threads import Threads

HUNG = 40  # more than the event loop's own pool has threads on any machine
PATIENCE_SECONDS = 20.0

Call = Callable[[Callable[..., Any]], Awaitable[Any]]


@pytest.fixture
def hangs() -> Iterator[Callable[..., None]]:
    """A function that hangs until the test is over."""
    over = threading.Event()

    def hang(*_: object) -> None:
        over.wait()

    yield hang
    over.set()


def of_a_hook(function: Callable[..., Any]) -> Awaitable[Any]:
    return call_hook(function, name="notify", seconds=0.01)


async def of_a_rule(function: Callable[..., Any]) -> Any:
    request = Arrival(Snapshot("POST", "/pay", "", (), b""))
    async with asyncio.timeout(0.01):
        return await read_raw(function, request)


@pytest.mark.asyncio
@pytest.mark.parametrize("call", [of_a_hook, of_a_rule])
async def test_functions_that_hang_leave_the_loops_own_threads_free(call: Call, hangs: Callable[..., None]) -> None:
    """It looks host names up with them: a shop whose mail server hangs can still connect to its gateway and its store."""
    ends = await asyncio.gather(*(call(hangs) for _ in range(HUNG)), return_exceptions=True)
    assert {type(end) for end in ends} <= {HookFailed, TimeoutError}
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await asyncio.to_thread(lambda: "free") == "free"


def test_a_function_that_hangs_does_not_keep_its_process_alive() -> None:
    """A worker that was told to stop ends."""
    program = """
import asyncio, threading
from cxguard.engine.hooks import call_hook
from cxguard.errors import HookFailed
async def main():
    try:
        await call_hook(threading.Event().wait, name="notify", seconds=0.01)
    except HookFailed:
        print("failed")
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert (ended.stdout, ended.returncode) == ("failed\n", 0)


@pytest.mark.asyncio
async def test_threads_are_used_again() -> None:
    """The database connection that a function has opened there is still open."""
    threads = Threads("again", most=4)
    assert len({await threads(threading.current_thread) for _ in range(40)}) <= 4


@pytest.mark.asyncio
async def test_whoever_finds_all_at_work_waits_in_line() -> None:
    """No more of them at once than was said, and all get their turn."""
    threads, now, most = Threads("line", most=2), [0], [0]
    lock, both = threading.Lock(), threading.Barrier(2)

    def work(number: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        both.wait(PATIENCE_SECONDS)
        with lock:
            now[0] -= 1
        return number

    assert await asyncio.gather(*(threads(work, number) for number in range(10))) == list(range(10))
    assert most == [2]


@pytest.mark.asyncio
async def test_whoever_gave_up_in_line_is_not_called() -> None:
    """And leaves nothing behind."""
    threads, over, called = Threads("one", most=1), threading.Event(), []
    first = asyncio.ensure_future(threads(over.wait, PATIENCE_SECONDS))
    second = asyncio.ensure_future(threads(called.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    over.set()
    assert await first is True
    await threads(called.append, "third")
    assert called == ["third"]


@pytest.mark.asyncio
async def test_the_end_of_the_program_is_not_carried_into_the_loop() -> None:
    """A hook that calls `sys.exit` has failed, and the shop goes on."""
    with pytest.raises(RuntimeError, match="SystemExit"):
        await Threads("exit", most=1)(sys.exit)


def test_a_child_has_threads_of_its_own() -> None:
    """Those of its parent are not there any more."""
    threads = Threads("fork", most=1)
    assert asyncio.run(threads(int)) == 0
    child = os.fork()
    if not child:
        signal.alarm(round(PATIENCE_SECONDS))
        os._exit(7 if asyncio.run(threads(int)) == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
