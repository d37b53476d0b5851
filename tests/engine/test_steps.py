"""`op.step`: an irreversible call once, its result as a codec keeps it, and what becomes of a result that cannot be kept."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter
from servers import ROOT
from shopworld import KEYS, SECRET, SHOP

from cxguard import Charge, Codec, Guard, codec_of
from cxguard.core.decide import RELEASED
from cxguard.core.operation import Operation, State
from cxguard.engine.cold import RESULT_BYTES_MAX
from cxguard.engine.unguarded import UnguardedOperation
from cxguard.errors import ConfigurationError, OperationHeld, StepMismatch, StepResultLost, StepUnfinished
from cxguard.events import Event
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import FakeGateway

CHARGE = Charge(4999, "EUR", source="tok_ok")


class Kind(Enum):
    GOODS = 1
    GIFT = 2


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal


@dataclass(frozen=True)
class Invoice:
    """What an accounting call gives."""

    number: int
    total: Decimal
    due: date | None
    made: datetime
    id: UUID
    kind: Kind = Kind.GOODS
    lines: tuple[Line, ...] = ()
    tags: dict[str, list[str]] = field(default_factory=dict)


INVOICE = Invoice(
    number=7,
    total=Decimal("49.90"),
    due=None,
    made=datetime(2026, 11, 27, 12, 30, tzinfo=UTC),
    id=UUID(int=5),
    kind=Kind.GIFT,
    lines=(Line("fern", Decimal("49.90")),),
    tags={"a": ["b"]},
)


class Receipt(BaseModel):
    number: int
    total: Decimal


@dataclass
class Shop:
    """A guard, a count of calls, and the events that were heard."""

    guard: Guard
    gateway: FakeGateway
    calls: list[Any] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)

    def give(self, value: Any) -> Any:
        self.calls.append(value)
        return value

    async def order(self) -> Operation:
        page = await self.guard.store.search(Query(namespace="shop"))
        return page.operations[0]

    def not_kept(self) -> list[Any]:
        return [event.detail["why"] for event in self.heard if event.name == "step.not_kept"]


@asynccontextmanager
async def shop() -> AsyncIterator[Shop]:
    clock, gateway = ManualClock(), FakeGateway()
    guard = Guard(MemoryStore(clock=clock), shop=SHOP, gateways=[gateway], secret=SECRET, keys=KEYS, duties=False, clock=clock)
    made = Shop(guard, gateway)
    guard.bus.listen(made.heard.append)
    async with guard:
        yield made


class Crash(BaseException):
    """The run ends here, as when its process does."""


async def twice(shop: Shop, value: Any, *, codec: Any = None, **options: Any) -> list[Any]:
    """One run that breaks off after the step, and the next one of the same order: what each had of the step."""
    had: list[Any] = []

    async def work(op: Any) -> None:
        had.append(await op.step("invoice", lambda: shop.give(value), codec=codec, **options))
        if len(had) == 1:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await shop.guard.run(work, purpose="order", key="1", owner="ann")
    await shop.guard.run(work, purpose="order", key="1", owner="ann")
    return had


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("value", "codec"),
    [
        (INVOICE, codec_of(Invoice)),
        (replace(INVOICE, due=date(2026, 12, 1)), codec_of(Invoice)),
        (Receipt(number=7, total=Decimal("49.90")), codec_of(Receipt)),
        ([(1, Decimal("2.50"))], codec_of(TypeAdapter(list[tuple[int, Decimal]]))),
        ({1, 2}, pickle),  # any object, or module, with dumps and loads
    ],
)
async def test_a_kept_result_comes_back_as_what_it_was(value: Any, codec: Any) -> None:
    """A dataclass, a pydantic model, whatever a TypeAdapter knows, or a codec of the shop's own."""
    async with shop() as there:
        first, second = await twice(there, value, codec=codec)
        assert (first, second, len(there.calls)) == (value, value, 1)
        assert type(second) is type(value)


@pytest.mark.asyncio
async def test_without_a_codec_a_result_comes_back_as_json_has_it() -> None:
    """A tuple is a list then: what the next step gets from a kept result is plain JSON."""
    async with shop() as there:
        assert await twice(there, {"number": (1, 2)}) == [{"number": (1, 2)}, {"number": [1, 2]}]


@pytest.mark.parametrize(("codec", "name"), [(Receipt, "Receipt"), ("json", "str"), (object(), "object"), (codec_of, "codec_of")])
@pytest.mark.asyncio
async def test_what_is_no_codec_is_refused_before_anything_runs(codec: Any, name: str) -> None:
    """Nothing was called, and nothing charged after it: the order is free."""
    async with shop() as there:

        async def work(op: Any) -> None:
            await op.step("invoice", lambda: there.give(1), codec=codec)
            await op.charge(CHARGE)

        with pytest.raises(ConfigurationError, match=f"^codec={name} is none: write codec=codec_of"):
            await there.guard.run(work, purpose="order", key="1", owner="ann")
        with pytest.raises(ConfigurationError):
            await UnguardedOperation().step("invoice", lambda: there.give(1), codec=codec)
        assert (there.calls, there.gateway.payments) == ([], [])
        (over,) = (await there.guard.store.search(Query(namespace="shop"))).operations
        assert (over.state, over.why, over.sends) == (State.CANCELLED, RELEASED, ())


@pytest.mark.parametrize("kind", [int, list[int], None, "Invoice"])
def test_a_class_without_a_known_form_has_no_ready_codec(kind: Any) -> None:
    """The refusal says what there is."""
    with pytest.raises(ConfigurationError, match="dumps and loads"):
        codec_of(kind)


def test_a_dataclass_that_could_not_be_read_back_is_refused_when_its_codec_is_made() -> None:
    """At the program's start, with the member's name: not days later over a paid order."""

    @dataclass
    class Parcel:
        weights: set[int]

    @dataclass
    class Made:
        number: int = field(init=False)

    Parcel.__annotations__["weights"] = set[int]
    Made.__annotations__["number"] = int
    with pytest.raises(ConfigurationError, match=r"Parcel\.weights"):
        codec_of(Parcel)
    with pytest.raises(ConfigurationError, match=r"Made\.number"):
        codec_of(Made)


@pytest.mark.asyncio
async def test_one_name_for_two_functions_is_refused_before_the_second_runs() -> None:
    """It would have been given the first one's result."""
    async with shop() as there:

        async def work(op: Any) -> None:
            await op.step("reserve", there.give, 1)
            await op.step("reserve", there.not_kept)
            await op.charge(CHARGE)

        with pytest.raises(StepMismatch, match="two functions"):
            await there.guard.run(work, purpose="order", key="1", owner="ann")
        assert (there.calls, there.gateway.payments) == ([1], [])


class Unreadable:
    """Writes what it cannot read."""

    def dumps(self, value: Any) -> bytes:
        return b"?"

    def loads(self, data: bytes) -> Any:
        raise KeyError(data)


class Texts:
    """Writes text where bytes are asked for."""

    def dumps(self, value: Any) -> Any:
        return str(value)

    def loads(self, data: bytes) -> Any:
        return data


NOT_KEPT = [
    ({1, 2}, None, "TypeError"),
    (float("nan"), None, "ValueError"),
    ("x" * RESULT_BYTES_MAX, None, "too_large"),
    (1, Unreadable(), "unreadable:KeyError"),
    (1, Texts(), "not_bytes"),
    (Line("fern", Decimal(1)), codec_of(Invoice), "TypeError"),
    (Line("fern", 7), codec_of(Line), "TypeError"),  # type: ignore[arg-type]  # declared as a Decimal
    (Line(Decimal(7), Decimal(1)), codec_of(Line), "TypeError"),  # type: ignore[arg-type]  # would come back as text
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("value", "codec", "why"), NOT_KEPT)
async def test_a_result_that_cannot_be_kept_lets_the_run_end_well(value: Any, codec: Codec[Any] | None, why: str) -> None:
    """The call has happened, and the run has its result: a paid order is not failed for it, and the event says why."""
    async with shop() as there:

        async def work(op: Any) -> str:
            await op.charge(CHARGE)
            return type(await op.step("invoice", lambda: there.give(value), codec=codec)).__name__

        assert await there.guard.run(work, purpose="order", key="1", owner="ann") == type(value).__name__
        assert (await there.order()).state is State.FINISHED
        assert there.not_kept() == [why]
        lines = [dict(entry.detail) for entry in (await there.order()).history if entry.event == "step.finished"]
        assert lines == [{"name": "invoice", "not_kept": why}]


@pytest.mark.asyncio
async def test_a_step_whose_result_was_not_kept_is_never_run_again() -> None:
    """The next run cannot go on after it: the order is a person's, who reads why."""
    async with shop() as there:
        with pytest.raises(StepResultLost, match="is done, and its result could not be kept"):
            await twice(there, {1, 2})
        held = await there.order()
        assert (len(there.calls), held.state, held.why) == (1, State.HELD, "result_not_kept")
        with pytest.raises(OperationHeld):
            await there.guard.run(lambda op: op.step("invoice", there.give, 1), purpose="order", key="1", owner="ann")


@pytest.mark.asyncio
async def test_a_repeatable_step_is_run_again_for_its_result() -> None:
    """Twice is harmless there: that is what the word says."""
    async with shop() as there:
        assert await twice(there, {1, 2}, repeatable=True) == [{1, 2}, {1, 2}]
        assert len(there.calls) == 2


@pytest.mark.asyncio
async def test_a_result_that_another_codec_kept_is_not_guessed() -> None:
    """A deployment has changed the codec while the order was on its way: nothing is run, and a person looks."""
    async with shop() as there:
        codecs = iter([None, codec_of(Invoice)])

        async def work(op: Any) -> None:
            await op.step("invoice", there.give, {"number": 1}, codec=next(codecs))
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await there.guard.run(work, purpose="order", key="1", owner="ann")
        with pytest.raises(StepResultLost, match="codec, that wrote it"):
            await there.guard.run(work, purpose="order", key="1", owner="ann")
        assert (len(there.calls), (await there.order()).why) == (1, "result_not_kept")


def test_the_thread_s_side_keeps_by_the_same_codec() -> None:
    """`op.sync.step` and `guard.sync`: a blocking call, its result a dataclass."""
    clock = ManualClock()
    with Guard(MemoryStore(clock=clock), shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock) as guard:
        had: list[Any] = []

        def work(op: Any) -> None:
            had.append(op.step("invoice", lambda: INVOICE, codec=codec_of(Invoice)))
            with pytest.raises(StepMismatch):
                op.step("invoice", work)
            if len(had) == 1:
                raise RuntimeError

        with pytest.raises(RuntimeError):
            guard.sync.run(work, purpose="order", key="1", owner="ann")
        guard.sync.run(work, purpose="order", key="1", owner="ann")
        assert had == [INVOICE, INVOICE]


# --- a process that is killed


KILLED_PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from cxguard import Guard, Shop

folder, when = Path(sys.argv[1]), sys.argv[2]
log = folder / "calls"

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Codec:
    def dumps(self, value):
        if when == "before the save":
            die()
        return value.encode() if value != "unkeepable" else None

    def loads(self, data):
        return data.decode()

def call():
    with log.open("a") as file:
        file.write("called\\n")
    return "unkeepable" if when == "after a save without a result" else "result"

async def work(op):
    result = await op.step("call", call, codec=Codec())
    if when.startswith("after"):
        die()
    return {"result": result}

async def main():
    guard = Guard(f"sqlite:///{folder}/guard.db", shop=Shop("Fern", phone="1"), duties=False)
    async with guard:
        print(await guard.run(work, purpose="order", key="1", owner="ann"))

asyncio.run(main())
"""


def killed_then_again(folder: Path, when: str) -> subprocess.CompletedProcess[str]:
    """Kill a run at *when*; let its lease lapse in the file; run once more."""
    command = [sys.executable, "-c", KILLED_PROGRAM, str(folder)]
    killed = subprocess.run([*command, when], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    import apsw

    with apsw.Connection(str(folder / "guard.db")) as file:
        file.execute("UPDATE operations SET lease_until = 0, ripe_at = 0")
    return subprocess.run([*command, "never"], cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})


@pytest.mark.server
@pytest.mark.parametrize(
    ("when", "ends"),
    [
        ("after the save", "{'result': 'result'}"),
        ("before the save", StepUnfinished.__name__),
        ("after a save without a result", StepResultLost.__name__),
    ],
)
def test_a_process_killed_around_the_save_of_a_step_never_repeats_its_call(tmp_path: Path, when: str, ends: str) -> None:
    """Kept: it goes on with the result. Not saved, or saved without one: it is held, and never called twice."""
    again = killed_then_again(tmp_path, when)
    assert ends in again.stdout + again.stderr
    assert (tmp_path / "calls").read_text().splitlines() == ["called"]
