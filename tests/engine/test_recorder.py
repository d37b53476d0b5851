"""The recorder: facts into sessions and counters, whatever the store does."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace

import pytest

from cxguard.core.message import Message
from cxguard.core.session import Basket, Bought, By, Cause, Exposed, Reached, Stage
from cxguard.engine import recorder as module
from cxguard.engine.recorder import BATCH_FACTS_MAX, CONFLICTS_MAX, FAULTS_MAX, OTHER_TEXT, TEXTS_MAX, Recorder, load_session
from cxguard.errors import StoreUnavailable
from cxguard.events import Bus, Event
from cxguard.stores.base import SessionBatch, SessionRow
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import Fault, FaultyStore


class House:
    """A recorder on a memory store that fails on demand, and everything that the bus told."""

    def __init__(self, *, buffer_max: int = 10_000, flush_seconds: float = 0.5) -> None:
        self.clock = ManualClock()
        self.memory = MemoryStore(clock=self.clock)
        self.store = FaultyStore(self.memory)
        self.heard: list[Event] = []
        self.bus = Bus()
        self.bus.listen(self.heard.append)
        self.recorder = self.another(buffer_max=buffer_max, flush_seconds=flush_seconds)

    def another(self, *, buffer_max: int = 10_000, flush_seconds: float = 0.5) -> Recorder:
        return Recorder(self.store, self.clock, namespace="shop", bus=self.bus, buffer_max=buffer_max, flush_seconds=flush_seconds)

    async def counters(self, prefix: str = "") -> Mapping[str, float]:
        found = await self.memory.counters(f"shop:{prefix}")
        return {name.removeprefix("shop:"): value for name, value in found.items() if value}

    def told(self, name: str) -> list[Event]:
        return [event for event in self.heard if event.name == name]


def visit(session: str = "s", stage: Stage = Stage.PAY) -> Reached:
    return Reached(session, stage, 1.0, basket=Basket(4999, "EUR", 2))


def error(id: str = "x", *, session: str = "s", stage: Stage = Stage.PAY, text: str = "") -> Exposed:
    message = Message(text=text) if text else Message(key="declined", version=1)
    return Exposed(id=id, session=session, stage=stage, at=2.0, message=message, cause=Cause.ISSUER, by=By.SHOP, status=402, reference="K7")


@pytest.mark.asyncio
async def test_facts_become_a_session_and_counters_in_one_flush() -> None:
    """What was put is folded, written in one commit, and can be loaded again."""
    house = House()
    for fact in (visit(), error(), Bought("s", 3.0)):
        house.recorder.put(fact)
    flushed = await house.recorder.flush_once()
    session = await load_session(house.store, "s", namespace="shop")
    assert (flushed.facts, flushed.sessions, flushed.exposures, flushed.waiting, flushed.why) == (3, 1, 1, 0, "")
    assert session is not None
    assert session.recovered
    assert (await house.counters())["sessions/exposed/pay/bought"] == 1
    assert house.store.calls["record"] == 1


@pytest.mark.asyncio
async def test_exposure_is_told_once_it_is_written() -> None:
    """Each exposure gives one event with what was shown, to whom and what was in the basket, and none before it is safe."""
    house = House()
    house.recorder.put(error())
    house.recorder.put(error())
    assert house.told("exposure.recorded") == []
    await house.recorder.flush_once()
    (event,) = house.told("exposure.recorded")
    assert (event.session, event.reference, event.at) == ("s", "K7", 2.0)
    assert (event.detail["message"], event.detail["stage"], event.detail["status"]) == ("declined", "pay", 402)
    assert (event.detail["basket_minor"], event.detail["currency"], event.detail["items"]) == (None, "", None)
    assert house.bus.undeclared == set()


@pytest.mark.asyncio
async def test_nothing_to_write_asks_the_store_nothing() -> None:
    """A flush without facts or counts makes no call."""
    house = House()
    assert await house.recorder.flush_once() == module.Flushed()
    assert not house.store.calls


@pytest.mark.asyncio
@pytest.mark.parametrize("verb", ["sessions", "record"])
@pytest.mark.parametrize("fault", list(Fault))
async def test_store_fault_loses_and_doubles_nothing(verb: str, fault: Fault) -> None:
    """Whether a write did not happen or only its answer was lost: after the next flush each fact is counted once and told once."""
    house = House()
    house.store.plan(verb, fault)
    house.recorder.put(visit())
    house.recorder.put(error())
    house.recorder.count("would.duplicates", 2)
    failed = await house.recorder.flush_once()
    flushed = await house.recorder.flush_once()
    counters = await house.counters()
    assert (failed.waiting, failed.why, flushed.facts, flushed.waiting) == (2, "StoreUnavailable", 2, 0)
    assert (counters["would.duplicates"], counters["sessions/exposed/pay/sessions"], counters["sessions/reached/pay/sessions"]) == (2, 1, 1)
    assert len(house.told("exposure.recorded")) == 1


@pytest.mark.asyncio
async def test_lost_answer_is_settled_even_when_the_session_moved_on() -> None:
    """After a lost answer another process folds more into the session; the repeated batch still counts once."""
    house = House()
    house.store.plan("record", Fault.ANSWER_LOST)
    house.recorder.put(visit())
    await house.recorder.flush_once()
    other = house.another()
    other.put(error())
    await other.flush_once()
    await house.recorder.flush_once()
    assert (await house.counters("sessions/reached")) == {"sessions/reached/pay/sessions": 1}


@pytest.mark.asyncio
async def test_two_processes_on_one_session_lose_no_fact() -> None:
    """Two recorders that write the same session at once: the later one folds again, and both facts are in."""
    house = House()
    first, second = house.another(), house.another()
    first.put(visit())
    second.put(error())
    await asyncio.gather(first.flush_once(), second.flush_once())
    session = await load_session(house.store, "s", namespace="shop")
    assert session is not None
    assert len(session.exposures) == 1
    assert (await house.counters("sessions/unexposed")) == {}


class _Contested(MemoryStore):
    """Somebody else always writes first."""

    async def record(self, batch: SessionBatch) -> bool:
        theirs = tuple(replace(row, body=b"?") for row in batch.rows)
        await super().record(SessionBatch(id=uuid.uuid4().hex, rows=theirs))
        return await super().record(batch)


@pytest.mark.asyncio
async def test_endless_conflict_gives_way_to_the_next_round() -> None:
    """A batch that loses every race stops after a few tries and stays for the next round; an unreadable row is begun anew."""
    clock = ManualClock()
    store = FaultyStore(_Contested(clock=clock))
    recorder = Recorder(store, clock, namespace="shop")
    recorder.put(visit())
    flushed = await recorder.flush_once()
    assert (flushed.why, flushed.waiting, store.calls["record"]) == ("conflict", 1, CONFLICTS_MAX)


@pytest.mark.asyncio
async def test_full_buffer_drops_the_oldest_visits_and_counts_them() -> None:
    """While the store is away the buffer keeps its limit; what was lost is counted, told and written."""
    house = House(buffer_max=3)
    for number in range(5):
        house.recorder.put(visit(f"s{number}"))
    assert (house.recorder.waiting, house.recorder.dropped) == (3, 2)
    await house.recorder.flush_once()
    assert (await house.counters("session.dropped")) == {"session.dropped": 2}
    assert [event.detail for event in house.told("session.dropped")] == [{"count": 2, "why": "buffer full"}]
    assert await load_session(house.store, "s0", namespace="shop") is None
    assert await load_session(house.store, "s4", namespace="shop") is not None


@pytest.mark.asyncio
async def test_money_step_errors_and_purchases_are_never_dropped() -> None:
    """They displace visits from a full buffer, exceed its limit when nothing else is left, and all of them are written."""
    house = House(buffer_max=3)
    for number in range(3):
        house.recorder.put(visit(f"v{number}"))
    for number in range(4):
        house.recorder.put(error(f"x{number}", session=f"e{number}"))
    house.recorder.put(Bought("b", 3.0))
    house.recorder.put(visit("late"))
    house.recorder.put(error("cart", session="late", stage=Stage.CART))
    assert (house.recorder.waiting, house.recorder.dropped) == (5, 5)
    await house.recorder.flush_once()
    assert (await house.counters("sessions/exposed/pay/sessions")) == {"sessions/exposed/pay/sessions": 4}
    assert await load_session(house.store, "b", namespace="shop") is not None


@pytest.mark.asyncio
async def test_beyond_the_far_limit_a_money_step_error_is_told_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the second limit an error is not folded into its session, but told at once and counted by stage."""
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    house = House(buffer_max=2)
    for number in range(3):
        house.recorder.put(error(f"x{number}", session=f"e{number}"))
    assert [event.session for event in house.told("exposure.recorded")] == ["e2"]
    await house.recorder.flush_once()
    assert (await house.counters("sessions/unfolded")) == {"sessions/unfolded/pay": 1}


@pytest.mark.asyncio
async def test_beyond_the_far_limit_a_purchase_is_counted_as_bought(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was lost of purchases is not what was lost of errors: a report could not be mended otherwise."""
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    house = House(buffer_max=2)
    for number in range(3):
        house.recorder.put(Bought(f"b{number}", 3.0))
    await house.recorder.flush_once()
    assert (await house.counters("sessions/unfolded")) == {"sessions/unfolded/bought": 1}


@pytest.mark.asyncio
async def test_exposure_is_told_with_the_basket_that_was_at_stake() -> None:
    """Its worth, and how many things were in it."""
    house = House()
    house.recorder.put(replace(error(), basket=Basket(4999, "EUR", 2)))
    await house.recorder.flush_once()
    (event,) = house.told("exposure.recorded")
    assert (event.detail["basket_minor"], event.detail["currency"], event.detail["items"]) == (4999, "EUR", 2)


@pytest.mark.asyncio
async def test_too_many_texts_become_one_message() -> None:
    """A shop whose every error text is different cannot fill the store with counters."""
    house = House()
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(TEXTS_MAX + 3):
        text = f"No {letters[number % 26]}{letters[number // 26 % 26]} today"
        house.recorder.put(error(f"x{number}", session=f"e{number}", text=text))
    while (await house.recorder.flush_once()).waiting:
        pass
    shown = [name for name in await house.counters("sessions/message") if name.endswith("/shown")]
    assert len(shown) == TEXTS_MAX + 1
    assert (await house.counters(f'sessions/message/pay/issuer/shop/"{OTHER_TEXT}"/shown')).popitem()[1] == 3


@pytest.mark.asyncio
async def test_batch_is_bounded() -> None:
    """One flush writes at most `BATCH_FACTS_MAX` facts; the rest waits for the next one."""
    house = House()
    for number in range(BATCH_FACTS_MAX + 1):
        house.recorder.put(visit(f"s{number}"))
    assert [(await house.recorder.flush_once()).waiting for _ in range(2)] == [1, 0]


@pytest.mark.asyncio
async def test_put_takes_anything_without_raising() -> None:
    """Something that is no fact is counted as dropped and nothing else happens."""
    house = House()
    house.recorder.put(None)  # type: ignore[arg-type]
    assert (house.recorder.dropped, house.recorder.waiting) == (1, 0)


@pytest.mark.asyncio
async def test_facts_from_threads_are_all_kept() -> None:
    """Handlers in threads may put facts at the same time."""
    house = House()
    barrier = threading.Barrier(4)

    def put(name: int) -> None:
        barrier.wait()
        for number in range(100):
            house.recorder.put(visit(f"{name}-{number}"))

    await asyncio.gather(*(asyncio.to_thread(put, name) for name in range(4)))
    assert (await house.recorder.flush_once()).facts == 400


class _Poisoned(MemoryStore):
    """Breaks in a way that no store may."""

    async def sessions(self, ids: object) -> Mapping[str, SessionRow]:
        raise RuntimeError("boom")


@pytest.mark.asyncio
async def test_batch_that_always_fails_does_not_wedge_the_recorder() -> None:
    """A failure that is not the store's being away gives the batch up after a few tries; its errors still get their line."""
    clock, heard, bus = ManualClock(), [], Bus()
    bus.listen(heard.append)
    recorder = Recorder(_Poisoned(clock=clock), clock, namespace="shop", bus=bus)
    recorder.put(error())
    whys = [(await recorder.flush_once()).why for _ in range(FAULTS_MAX)]
    names = [event.name for event in heard]
    assert whys == ["RuntimeError"] * FAULTS_MAX
    assert names == ["duty.failed"] * FAULTS_MAX + ["session.dropped", "exposure.recorded"]
    assert (recorder.waiting, recorder.dropped) == (0, 1)


@pytest.mark.asyncio
async def test_started_recorder_writes_by_itself_and_stop_writes_the_rest() -> None:
    """The loop flushes without being asked; `stop` ends it and nothing waits afterwards; it can be started again."""
    house = House(flush_seconds=0.01)
    for round in range(2):
        written = asyncio.Event()
        house.bus.listen(lambda event, written=written: written.set())
        house.recorder.start()
        house.recorder.start()
        house.recorder.put(error(f"x{round}"))
        async with asyncio.timeout(5):
            await written.wait()
            house.recorder.put(visit(f"late{round}"))
            house.recorder.count("would.mismatches")
            flushed = await house.recorder.stop()
        assert (flushed.waiting, flushed.why) == (0, "")
        assert await load_session(house.store, f"late{round}", namespace="shop") is not None
    assert (await house.counters("would.")) == {"would.mismatches": 2}


@pytest.mark.asyncio
async def test_store_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store never answers, `stop` ends after its limit, and the errors that wait are told."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.02)

    class Hanging(MemoryStore):
        async def record(self, batch: SessionBatch) -> bool:
            await asyncio.Event().wait()
            return True

    clock, heard, bus = ManualClock(), [], Bus()
    bus.listen(heard.append)
    recorder = Recorder(Hanging(clock=clock), clock, namespace="shop", bus=bus)
    recorder.put(error())
    recorder.start()
    flushed = await recorder.stop()
    assert flushed.why == "timeout"
    assert [event.name for event in heard] == ["session.dropped", "exposure.recorded"]


@pytest.mark.asyncio
async def test_stop_while_the_store_is_away_leaves_the_errors_in_the_log() -> None:
    """When the process ends without its store, what could not be written is counted and each exposure is told."""
    house = House()
    house.store.decide = lambda verb: Fault.NOT_DONE
    house.recorder.put(visit())
    house.recorder.put(error())
    flushed = await house.recorder.stop()
    assert flushed.why == StoreUnavailable.__name__
    assert [event.detail["count"] for event in house.told("session.dropped")] == [2]
    assert len(house.told("exposure.recorded")) == 1


@pytest.mark.asyncio
async def test_cancelled_flush_keeps_its_batch() -> None:
    """A flush that is cancelled in the middle of a write keeps its facts, and the next one counts them once."""
    house = House()
    began, never = asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        async def record(self, batch: SessionBatch) -> bool:
            await super().record(batch)
            began.set()
            await never.wait()
            return True

    slow = Slow(clock=house.clock)
    recorder = Recorder(slow, house.clock, namespace="shop")
    recorder.put(visit())
    task = asyncio.create_task(recorder.flush_once())
    async with asyncio.timeout(5):
        await began.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert recorder.waiting == 1
        never.set()
        assert (await recorder.flush_once()).facts == 1
    assert (await slow.counters("shop:sessions/reached/pay/sessions")) == {"shop:sessions/reached/pay/sessions": 1}
