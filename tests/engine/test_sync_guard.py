"""The library for code that is not async: one bridge, in scripts, threads, beside a server's loop, and after a fork."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis_servers import have_redis, running_redis
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.operation import money_of
from cxguard.core.outcomes import Charged, Unknown
from cxguard.engine.handle import current_operation
from cxguard.engine.library import Purpose
from cxguard.errors import ConfigurationError, KeyMismatch, OperationInFlight, PaymentDeclined, PaymentDeferred, StepMismatch
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

BUY = Charge(4999, "EUR", source="tok_ok")
NAMED: dict[str, Any] = {"purpose": "order", "key": "o1", "owner": "ann"}


def make(gateway: FakeGateway, **options: Any) -> Guard:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    return Guard(store, shop=SHOP, gateways=[gateway], secret=SECRET, keys=KEYS, duties=False, clock=clock, **options)


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def guard(gateway: FakeGateway) -> Iterator[Guard]:
    with make(gateway, purposes=[Purpose("order", wait_seconds=10.0)]) as guard:
        yield guard


def pay(op: Any, charge: Charge = BUY) -> dict[str, str]:
    return {"payment": op.charge(charge).payment_id}


def test_a_script_pays_once(guard: Guard, gateway: FakeGateway) -> None:
    """Run twice, charged once, the same result."""
    first = guard.sync.run(pay, **NAMED)
    assert guard.sync.run(pay, **NAMED) == first == {"payment": "pay_1"}
    assert len(gateway.standing) == 1


def test_the_body_runs_in_the_callers_own_thread(guard: Guard) -> None:
    """Its database connections and its context are there."""
    threads = []

    def call(op: Any) -> int:
        threads.append(threading.current_thread())
        assert current_operation().id == op.id
        return 1

    guard.sync.run(call, **NAMED)
    assert threads == [threading.current_thread()]


def test_twenty_threads_pay_one_order_once(guard: Guard, gateway: FakeGateway) -> None:
    """As many workers as one likes: each gets the one result."""
    barrier = threading.Barrier(20)

    def work(_: int) -> Any:
        barrier.wait()
        return guard.sync.run(pay, **NAMED)

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(work, range(20)))
    assert results == [{"payment": "pay_1"}] * 20
    assert len(gateway.standing) == 1


def test_the_longer_form(guard: Guard, gateway: FakeGateway) -> None:
    """`with guard.sync.operation(...)`: steps, charge, capture, refund, and what was kept."""
    with guard.sync.operation(**NAMED) as op:
        assert not op.finished
        assert op.step("number", lambda: 7) == 7
        op.charge(Charge(4999, "EUR", source="tok_ok", capture=False))
        op.capture()
        op.keep({"number": 7})
        reference = op.reference
    with guard.sync.operation(**NAMED) as op:
        assert (op.finished, op.answer) == (True, {"number": 7})
    with guard.sync.resume(reference=reference) as op:
        assert op.refund(1000).amount_minor == 1000
    assert gateway.payments[0].refunded_minor == 1000


def test_what_is_named_in_a_thread_is_what_happens(guard: Guard, gateway: FakeGateway) -> None:
    """A step's arguments, and which capture it is."""
    with guard.sync.operation(**NAMED) as op:
        assert op.step("number", lambda *, start: start + 1, start=6) == 7
        op.charge(Charge(4999, "EUR", source="tok_ok", capture=False))
        op.capture(2000, step="the first parcel")
        with pytest.raises(StepMismatch, match="the first parcel"):
            op.capture(1000, step="the first parcel")


def test_what_the_body_raises_comes_out_and_frees_the_key(guard: Guard) -> None:
    """Nothing was sent: the next run begins anew."""

    class Mine(Exception):
        pass

    with pytest.raises(Mine), guard.sync.operation(**NAMED):
        raise Mine
    assert guard.sync.run(lambda op: 2, **NAMED) == 2


def test_a_decline_comes_out_as_such(guard: Guard, gateway: FakeGateway) -> None:
    """Also when asked again."""
    gateway.will(Does.DECLINE)
    for _ in range(2):
        with pytest.raises(PaymentDeclined):
            guard.sync.run(pay, **NAMED)


@pytest.mark.parametrize(("does", "takes"), [("capture", False), ("refund", True), ("void", False)])
@pytest.mark.asyncio
async def test_what_a_thread_has_done_is_not_done_again_by_a_job(gateway: FakeGateway, does: str, takes: bool) -> None:
    """What is left out means the same in both: the same step, and no reason."""
    heard: list[Event] = []
    async with make(gateway, listeners=[heard.append]) as guard:

        def view() -> str:
            with guard.sync.operation(**NAMED) as op:
                op.charge(Charge(4999, "EUR", source="tok_ok", capture=takes))
                getattr(op, does)()
            return op.reference

        async with guard.resume(reference=await asyncio.to_thread(view)) as op:
            await getattr(op, does)()
    assert gateway.count("capture") + gateway.count("refund") == 1
    assert [event.detail["why"] for event in heard if event.name in ("payment.captured", "payment.refunded")] == [""]


def test_reason_of_a_thread_is_told(guard: Guard) -> None:
    """Whoever listens to money that goes back hears why it did."""
    heard: list[Event] = []
    guard.bus.listen(heard.append)
    with guard.sync.operation(**NAMED) as op:
        op.charge(Charge(4999, "EUR", source="tok_ok", capture=False))
        op.void(reason="out of stock")
    assert [event.detail["why"] for event in heard if event.name == "payment.refunded"] == ["out of stock"]


def test_webhook_of_a_view_brings_its_fact(guard: Guard, gateway: FakeGateway) -> None:
    """With all that it says of itself."""
    gateway.will(Does.UNKNOWN)
    gateway.will_say("find", [Unknown("no answer in time")])
    with pytest.raises(PaymentDeferred), guard.sync.operation(**NAMED) as op:
        key = op.gateway_key()
        op.charge(BUY)
    noted = guard.sync.note(Charged(4999, "EUR", payment_id="pay_1"), gateway_key=key, event_id="evt_1", source="webhook of the shop")
    assert (money_of(noted).state, noted.notes[-1].source) == ("charged", "webhook of the shop")


def test_other_figures_than_were_accepted_are_not_charged(guard: Guard, gateway: FakeGateway) -> None:
    """Who opens an order says what it costs; nothing else is sent."""
    with pytest.raises(StepMismatch):
        guard.sync.run(pay, amount_minor=5000, currency="EUR", **NAMED)
    assert gateway.calls == []


def test_thread_hears_why_it_does_not_get_in(guard: Guard) -> None:
    """The order was begun with another amount; and a key that is none."""
    guard.sync.run(lambda op: 1, amount_minor=1, currency="EUR", **NAMED)
    with pytest.raises(KeyMismatch, match="another amount"):
        guard.sync.run(lambda op: 1, amount_minor=2, currency="EUR", **NAMED)
    with pytest.raises(ConfigurationError, match="key is a NoneType: give"):
        guard.sync.run(lambda op: 1, purpose="order", key=None, owner="ann")


def test_block_of_an_order_that_is_not_entered_does_not_run(guard: Guard) -> None:
    """Its code would believe that the order is in its hands."""
    guard.sync.run(lambda op: 1, amount_minor=1, currency="EUR", **NAMED)
    ran = []
    with pytest.raises(KeyMismatch), guard.sync.operation(amount_minor=2, currency="EUR", **NAMED):
        ran.append("its block")
    assert ran == []


def test_misuse_is_named(guard: Guard) -> None:
    """Other figures under one step, and missing names."""
    with guard.sync.operation(**NAMED) as op:
        op.charge(BUY)
        with pytest.raises(StepMismatch):
            op.charge(Charge(1, "EUR", source="tok_ok"))
    with pytest.raises(TypeError, match="purpose"):
        guard.sync.run(pay)


@pytest.mark.asyncio
async def test_async_code_is_told_what_to_write(gateway: FakeGateway) -> None:
    """Waiting for the loop in the loop would be waiting for ever."""
    guard = make(gateway)
    with pytest.raises(RuntimeError, match=r"await guard\.run"):
        guard.sync.run(pay, **NAMED)
    with pytest.raises(RuntimeError, match=r"await guard\.run"):
        guard.sync.note(None)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_sync_view_beside_a_server_uses_the_servers_loop(gateway: FakeGateway) -> None:
    """The guard lives in the server's loop; a view in a worker thread makes no second one."""
    async with make(gateway) as guard:
        before = threading.active_count()
        assert await asyncio.to_thread(guard.sync.run, pay, **NAMED) == {"payment": "pay_1"}
        assert threading.active_count() <= before + 1, "the worker thread, and no bridge"
        with pytest.raises(OperationInFlight):
            async with guard.operation(**NAMED | {"key": "o2"}):
                await asyncio.to_thread(guard.sync.run, pay, **NAMED | {"key": "o2"})


def test_it_starts_by_itself(gateway: FakeGateway) -> None:
    """A script without `with`: the first call opens what it needs."""
    guard = make(gateway)
    assert guard.sync.run(pay, **NAMED) == {"payment": "pay_1"}
    guard.sync.stop()
    assert not guard.started


SCRIPT = """
import os, sys
from cxguard import Charge, Guard, Shop
from cxguard.testing.fake_gateway import FakeGateway

guard = Guard("sqlite:///" + sys.argv[1], shop=Shop("Fern & Co", url="/"), gateways=[FakeGateway()], duties=False)

def pay(op):
    return op.charge(Charge(4999, "EUR", source="tok_ok")).payment_id

print("parent", guard.sync.run(pay, purpose="order", key="before", owner="ann"))
sys.stdout.flush()
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        own = guard.sync.run(pay, purpose="order", key=f"child {n}", owner="ann")
        kept = guard.sync.run(pay, purpose="order", key="before", owner="ann")
        sys.stdout.write(f"child {own} {kept}\\n")  # one write: the children share the pipe
        sys.stdout.flush()
        guard.sync.stop()
        os._exit(0)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
print("after", guard.sync.run(pay, purpose="order", key="after", owner="ann"))
"""


def test_prefork_workers_begin_anew(tmp_path: Path) -> None:
    """The parent used the guard, then forked: each child has a loop, a heartbeat and connections of its own."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path / "shop.db")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith(("parent", "child", "after"))]
    assert lines.count("child pay_2 pay_1") == 3, ended.stdout
    assert (lines[0], lines[-1]) == ("parent pay_1", "after pay_2")


INSIDE = """
import os, signal, sys
from cxguard import Charge, Guard, Shop
from cxguard.engine.library import Purpose
from cxguard.testing.fake_gateway import FakeGateway

gateway = FakeGateway()
secrets = {"secret": bytes(range(32)), "keys": [bytes(range(1, 33))]}
named = {"purpose": "order", "owner": "ann"}
guard = Guard(
    sys.argv[1], shop=Shop("Fern & Co", url="/"), gateways=[gateway], duties=False, purposes=[Purpose("order", wait_seconds=0.1)],
    namespace=sys.argv[2], **(secrets if "sqlite" not in sys.argv[1] else {}),
)

def pay(op):
    return op.charge(Charge(4999, "EUR", source="tok_ok")).payment_id

def attempt(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__

def child(op):
    signal.alarm(20)
    told = [attempt(lambda: pay(op)), attempt(lambda: guard.sync.run(pay, key="inside", **named))]
    told.append(attempt(lambda: guard.sync.run(pay, key="child's own", **named)))
    sys.stdout.write(f"child {' '.join(told)} {len(gateway.standing)}\\n")
    sys.stdout.flush()
    sys.exit(3)

with guard:
    with guard.sync.operation(key="inside", **named) as op:
        pid = os.fork()
        if pid == 0:
            child(op)
        print("left", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        op.keep(pay(op))
    print("parent", guard.sync.run(pay, key="inside", **named), len(gateway.standing))
"""


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        yield request.getfixturevalue("shared_postgres").url
    elif request.param == "redis" and not have_redis():
        pytest.skip("no Redis here")
    elif request.param == "redis":
        with running_redis() as server:
            yield server.url
    else:
        yield f"sqlite:///{tmp_path / 'shop.db'}"


def test_child_of_a_fork_inside_an_operation_leaves_it_to_its_parent(url: str, tmp_path: Path) -> None:
    """It can neither charge under its parent's lease nor end it, nor does it wait for ever for a loop that only the parent
    runs; to itself it is another process."""
    script = tmp_path / "inside.py"
    script.write_text(INSIDE, encoding="utf-8")
    command = [sys.executable, str(script), url, f"fork{os.getpid()}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    lines = [line for line in ended.stdout.splitlines() if line.startswith(("child", "left", "parent"))]
    assert lines == ["child OfParentProcess OperationInFlight pay_1 1", "left 3", "parent pay_1 1"], ended.stdout + ended.stderr
