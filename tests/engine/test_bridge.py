"""The bridge under bad callers: what ends one of them ends neither the loop nor the others, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.operation import State
from cxguard.errors import LoopEnded
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

BUY = Charge(4999, "EUR", source="tok_ok")
WAIT_SECONDS = 20.0  # longer than anything here takes: who waits so long waits for ever
ENDS = [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit(), ValueError("no")]


def make(gateway: FakeGateway) -> Guard:
    clock = ManualClock()
    return Guard(MemoryStore(clock=clock), shop=SHOP, gateways=[gateway], secret=SECRET, keys=KEYS, duties=False, clock=clock)


@pytest.fixture
def guard() -> Iterator[Guard]:
    with make(FakeGateway()) as guard:
        yield guard


def elsewhere(call: Callable[[], Any]) -> Future[Any]:
    """*call* in a thread that does not keep the tests from ending."""
    told: Future[Any] = Future()

    def run() -> None:
        try:
            told.set_result(call())
        except BaseException as error:
            told.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return told


def pay(guard: Guard, key: str) -> str:
    payment: str = guard.sync.run(lambda op: op.charge(BUY).payment_id, purpose="order", key=key, owner="ann")
    return payment


def body(op: Any, error: BaseException) -> None:
    raise error


def step(op: Any, error: BaseException) -> None:
    def call() -> None:
        raise error

    op.step("create invoice", call)


@pytest.mark.parametrize("where", [body, step], ids=["body", "step"])
@pytest.mark.parametrize("error", ENDS, ids=lambda error: type(error).__name__)
def test_what_ends_one_caller_comes_out_of_it_and_leaves_the_others_alone(
    guard: Guard, where: Callable[[Any, BaseException], None], error: BaseException
) -> None:
    """Ctrl-C, `sys.exit` in a view, a forgotten `next()`: raised again where it belongs, and the loop goes on for others."""

    def shop() -> None:
        with guard.sync.operation(purpose="order", key="o1", owner="ann") as op:
            where(op, error)

    assert elsewhere(shop).exception(WAIT_SECONDS) is error
    assert elsewhere(lambda: pay(guard, "o2")).result(WAIT_SECONDS) == "pay_1"


def test_error_of_a_step_says_what_it_came_from(guard: Guard) -> None:
    """Whoever reads the log finds the shop's own first fault, as without us."""
    first = KeyError("tax rate")

    def fail() -> None:
        raise ValueError("no invoice") from first

    with pytest.raises(ValueError, match="no invoice") as raised, guard.sync.operation(purpose="order", key="o1", owner="ann") as op:
        op.step("create invoice", fail)
    assert raised.value.__cause__ is first


def test_thread_ends_with_its_guard() -> None:
    """A program that opens one guard after the other gathers none."""
    before = threading.active_count()
    with make(FakeGateway()) as guard:
        pay(guard, "o1")
        assert "cxguard-bridge" in {thread.name for thread in threading.enumerate()}, "whoever looks at a program that is stuck finds it"
    assert threading.active_count() == before


def test_a_step_runs_in_the_callers_own_thread(guard: Guard) -> None:
    """Its database connection is there, with the transaction that is open on it."""
    with guard.sync.operation(purpose="order", key="o1", owner="ann") as op:
        assert op.step("create invoice", threading.get_ident) == threading.get_ident()


def test_steps_in_steps_of_many_threads_do_not_wait_for_one_another(guard: Guard) -> None:
    """Twenty at once, each with a step and a charge inside its step: there is no pool that they could use up."""
    together = threading.Barrier(20)

    def order(number: int) -> str:
        with guard.sync.operation(purpose="order", key=f"o{number}", owner="ann") as op:

            def inner() -> str:
                together.wait(WAIT_SECONDS)
                op.step("reserve", lambda: number)
                return str(op.charge(BUY).payment_id)

            paid: str = op.step("place", inner)
            return paid

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(order, range(20), timeout=WAIT_SECONDS))) == 20


def test_whoever_waits_for_a_loop_that_ends_is_told() -> None:
    """A server that stops in the middle: the thread does not keep the program from ending."""
    loop, gateway = asyncio.new_event_loop(), FakeGateway(Does.HANG)
    guard = make(gateway)
    loop.run_until_complete(guard.start())
    server = threading.Thread(target=loop.run_forever, daemon=True)
    server.start()
    waiting = elsewhere(lambda: pay(guard, "o1"))
    asyncio.run_coroutine_threadsafe(gateway.until_hanging(), loop).result(WAIT_SECONDS)
    loop.call_soon_threadsafe(loop.stop)
    assert isinstance(waiting.exception(WAIT_SECONDS), LoopEnded)
    server.join(WAIT_SECONDS)
    loop.run_until_complete(guard.stop())
    loop.close()


def test_operation_whose_loop_ends_is_not_ended_as_done() -> None:
    """A server that ends, in the middle of a body, stops what runs in its loop: the order is let go, and whoever comes again is
    not told that it was placed."""
    guard, entered, left = make(FakeGateway()), threading.Event(), threading.Event()

    def shop() -> None:
        with guard.sync.operation(purpose="order", key="o1", owner="ann"):
            entered.set()
            left.wait(WAIT_SECONDS)

    async def server() -> Future[Any]:
        await guard.start()
        waiting = elsewhere(shop)
        await asyncio.to_thread(entered.wait, WAIT_SECONDS)
        return waiting

    waiting = asyncio.run(server())
    left.set()
    assert isinstance(waiting.exception(WAIT_SECONDS), (LoopEnded, CancelledError))
    (order,) = asyncio.run(guard.store.search(Query("shop"))).operations
    assert order.state is State.CANCELLED


LEAVING = """
import asyncio, sys
from cxguard.engine import bridge

if sys.argv[1:] == ["hangs"]:
    bridge.STOP_SECONDS = 0.2
bridged = bridge.Bridge(lambda: None)

async def stop():
    await asyncio.sleep(3600.0 if sys.argv[1:] == ["hangs"] else 0.0)
    print("stopped", flush=True)

async def work():
    print("worked", flush=True)

bridged.at_exit(stop)
bridged.wait(work)
"""


@pytest.mark.parametrize(("stop", "told"), [("ends", ["worked", "stopped"]), ("hangs", ["worked"])])
def test_script_that_ends_stops_its_guard_and_waits_for_that_a_moment_only(stop: str, told: list[str]) -> None:
    """Nobody has closed it. What hangs in the stop does not keep the program from ending."""
    ended = subprocess.run([sys.executable, "-c", LEAVING, stop], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.splitlines()) == (0, told), ended.stderr
