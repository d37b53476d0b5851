"""The breaker around the store: at once away, soon back, and never in the way of a renewal."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, cast

import pytest

from cxguard.core.operation import Operation
from cxguard.engine.leases import Leases
from cxguard.engine.store_breaker import LATE_SECONDS, POLICY, SLOW_SECONDS, StoreBreaker, breaker_around
from cxguard.errors import ConfigurationError, LeaseLost, StoreUnavailable
from cxguard.events import Bus, Event
from cxguard.stores.base import Hinting, Store
from cxguard.stores.memory import MemoryStore
from cxguard.testing import Fault, FaultyStore, ManualClock
from cxguard.testing.contract.base import LEASE_SECONDS, open_leased, sample, token_of

pytestmark = pytest.mark.asyncio


class Slow(FaultyStore):
    """Whose `get` can be under way for long."""

    slow: asyncio.Event | None = None
    fault: Exception | None = None

    async def get(self, id: str) -> Operation | None:
        if self.slow is not None:
            await self.slow.wait()
        if self.fault is not None:
            raise self.fault
        return await super().get(id)


class Away:
    """A store that can be away, a breaker around it, and what listeners heard."""

    def __init__(self, *, confirm: Any = None) -> None:
        self.clock = ManualClock()
        self.faulty = Slow(MemoryStore(clock=self.clock))
        self.heard: list[Event] = []
        bus = Bus()
        bus.listen(self.heard.append)
        self.breaker = StoreBreaker(self.faulty, self.clock, bus=bus, confirm=confirm or _right)
        self.store = cast(Store, self.breaker)

    def go_away(self) -> None:
        self.faulty.decide = lambda verb: Fault.NOT_DONE

    async def open_breaker(self) -> None:
        """Let it hear of enough failures."""
        self.go_away()
        for _ in range(POLICY.consecutive_failures):
            with pytest.raises(StoreUnavailable):
                await self.store.clock()

    async def reached(self) -> int:
        """How many of five calls got through to the store itself."""
        before = sum(self.faulty.calls.values())
        for _ in range(5):
            try:
                await self.store.get("x")
            except StoreUnavailable:
                continue
        return sum(self.faulty.calls.values()) - before

    def names(self) -> list[str]:
        return [event.name for event in self.heard]


async def _right(store: Store) -> None:
    """It is the right store."""


async def away(**options: Any) -> Away:
    made = Away(**options)
    await made.store.start()
    return made


async def test_after_the_first_few_failures_nothing_is_asked_any_more() -> None:
    """Three failures in a row open it; listeners hear of it once."""
    world = await away()
    await world.open_breaker()
    assert await world.reached() == 0
    assert world.names() == ["store.unavailable"]


async def test_one_time_out_is_enough() -> None:
    """Each time-out costs a shopper seconds, so there is no second one."""
    world = await away()

    def hang(verb: str) -> Fault:
        world.clock.advance(LATE_SECONDS)
        return Fault.NOT_DONE

    world.faulty.decide = hang
    with pytest.raises(StoreUnavailable):
        await world.store.clock()
    assert await world.reached() == 0


async def test_a_store_that_answers_too_slowly_is_as_good_as_away() -> None:
    """Three answers of two seconds each: a request would need several."""
    world = await away()

    def crawl(verb: str) -> None:
        world.clock.advance(SLOW_SECONDS)

    world.faulty.decide = crawl
    for _ in range(POLICY.consecutive_failures):
        assert not world.breaker.away
        await world.store.clock()
    assert world.breaker.away
    assert [event.detail["why"] for event in world.heard] == ["an answer took 2.0 s"]


async def test_a_refusal_is_an_answer() -> None:
    """Lost leases and unknown records say that the store works."""
    world = await away()
    for _ in range(POLICY.consecutive_failures + 1):
        with pytest.raises(LeaseLost):
            await world.store.save(sample("a"), token=7, keep_lease=False)
    assert not world.breaker.away


async def test_a_failure_now_and_then_opens_nothing() -> None:
    """A good answer in between: the store is there."""
    world = await away()
    for _ in range(10):
        world.faulty.plan("get", Fault.NOT_DONE, times=2)
        assert await world.reached() == 5
    assert not world.breaker.away


async def test_it_is_probed_in_the_background_and_no_caller_waits() -> None:
    """Who meets the open breaker is refused, and leaves a probe behind; the next one gets through."""
    world = await away()
    world.clock.advance(60.0)
    await world.open_breaker()
    world.faulty.heal()
    world.clock.advance(POLICY.open_seconds)
    with pytest.raises(StoreUnavailable):
        await world.store.get("x")
    for _ in range(10):
        await asyncio.sleep(0)
    assert await world.reached() == 5
    assert world.names() == ["store.unavailable", "store.recovered"]
    assert world.heard[1].detail["away_seconds"] == POLICY.open_seconds


async def test_many_callers_leave_one_probe() -> None:
    """A hundred callers at once, the store still away: it is asked once."""
    world = await away()
    await world.open_breaker()
    world.clock.advance(POLICY.open_seconds)
    before = world.faulty.calls["clock"]
    await asyncio.gather(*(world.store.get("x") for _ in range(100)), return_exceptions=True)
    for _ in range(10):
        await asyncio.sleep(0)
    assert world.faulty.calls["clock"] - before == 1
    assert world.breaker.away


async def test_it_comes_back_within_seconds_however_long_it_was_away() -> None:
    """Pauses grow, and not beyond a few seconds."""
    world = await away()
    await world.open_breaker()
    for _ in range(50):
        world.clock.advance(POLICY.open_seconds_max)
        assert not await world.breaker.probe_once()
    world.faulty.heal()
    world.clock.advance(POLICY.open_seconds_max)
    assert await world.breaker.probe_once()


async def test_renewals_always_pass() -> None:
    """A process goes on trying to keep its leases, also while everything else is refused; and what works for it works for all."""
    world = await away()
    token = token_of(await open_leased(world.store, sample("a")))
    await world.open_breaker()
    world.faulty.decide = lambda verb: None if verb == "renew" else Fault.NOT_DONE
    assert await world.store.renew({sample("a").id: token}, lease_seconds=LEASE_SECONDS) == frozenset()
    world.clock.advance(POLICY.open_seconds)
    await world.store.renew({sample("a").id: token}, lease_seconds=LEASE_SECONDS)
    assert not world.breaker.away


async def test_a_process_that_cannot_renew_stops_acting_before_its_lease_lapses() -> None:
    """The breaker does not make a lease look longer than it is."""
    world = await away()
    leases = Leases(world.store, world.clock, beat_seconds=1.0, on_lost=lambda id: None)
    won = await open_leased(world.store, sample("a"))
    lease = leases.add(won.id, token_of(won), lease_seconds=LEASE_SECONDS, run_seconds_max=600.0, asked_at=world.clock.monotonic())
    world.go_away()
    while lease.alive():
        with pytest.raises(StoreUnavailable):
            await leases.renew_once()
        world.clock.advance(1.0)
    assert world.clock.monotonic() < LEASE_SECONDS


async def test_until_it_was_reached_and_confirmed_nothing_passes() -> None:
    """A guard may begin without its store; what the store holds may be somebody else's."""
    wrong = [True]

    async def confirm(store: Store) -> None:
        if wrong:
            raise ConfigurationError("another naming secret")

    world = Away(confirm=confirm)
    world.faulty.plan("start", Fault.NOT_DONE)
    with pytest.raises(StoreUnavailable):
        await world.store.start()
    assert world.names() == ["store.unavailable"]
    for _ in range(3):
        world.clock.advance(POLICY.open_seconds_max)
        assert not await world.breaker.probe_once()
        assert await world.reached() == 0
    wrong.clear()
    world.clock.advance(POLICY.open_seconds_max)
    assert await world.breaker.probe_once()
    assert await world.reached() == 5


async def test_a_store_that_refuses_us_once_it_was_reached_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Its password was changed while the shop runs: that is told, and is no error of each request's; set back, it is there again."""
    world = await away()

    def refuse(verb: str) -> None:
        raise ConfigurationError("PostgreSQL refuses us: password authentication failed")

    world.faulty.decide = refuse
    with caplog.at_level(logging.ERROR):
        for _ in range(POLICY.consecutive_failures):
            assert not world.breaker.away, "one server of several may have said so"
            with pytest.raises(StoreUnavailable, match="password authentication failed"):
                await world.store.get("x")
    assert world.names() == ["store.unavailable"]
    assert caplog.text.count("store.not_usable") == 1
    world.faulty.heal()
    world.clock.advance(POLICY.open_seconds_max)
    assert await world.breaker.probe_once()
    assert world.names() == ["store.unavailable", "store.recovered"]


async def test_what_a_lost_answer_did_is_found_afterwards() -> None:
    """`open` happened, and nobody heard: the same attempt, once the store is back, is the same win."""
    world = await away()
    world.faulty.plan("open", Fault.ANSWER_LOST)
    once = {"holder": "a", "attempt": "one", "lease_seconds": LEASE_SECONDS}
    with pytest.raises(StoreUnavailable):
        await world.store.open(sample("a"), **once)
    assert (await world.store.open(sample("a"), **once)).won


async def test_what_else_a_store_has_is_still_there() -> None:
    """Level and epoch are the store's own, and a store without hints has none through the breaker."""
    world = await away()
    assert (world.store.level, world.store.epoch) == (world.faulty.level, world.faulty.epoch)
    assert not isinstance(world.store, Hinting)
    memory = MemoryStore(clock=world.clock)
    assert isinstance(breaker_around(memory, world.clock, bus=Bus(), confirm=_right), Hinting)


async def test_a_dead_store_costs_microseconds() -> None:
    """A refusal is at least a thousand times cheaper than the time-out it stands for."""
    world = await away()
    await world.open_breaker()
    began = time.perf_counter()
    for _ in range(1_000):
        with pytest.raises(StoreUnavailable):
            await world.store.get("x")
    assert time.perf_counter() - began < 1.0


async def test_a_probe_of_a_store_that_is_there_changes_nothing() -> None:
    """Asked for by somebody who did not know."""
    world = await away()
    assert await world.breaker.probe_once()
    assert not world.breaker.away
    assert world.names() == []


async def test_a_straggler_of_an_earlier_life_does_not_talk_failures_small() -> None:
    """It was asked before the store went away, and its good answer comes when two calls have failed again: one more opens it."""
    world = await away()
    answer = world.faulty.slow = asyncio.Event()
    straggler = asyncio.create_task(world.store.get("x"))
    await asyncio.sleep(0)
    await world.open_breaker()
    world.faulty.heal()
    world.clock.advance(POLICY.open_seconds)
    assert await world.breaker.probe_once()
    world.faulty.plan("clock", Fault.NOT_DONE, times=POLICY.consecutive_failures)
    for number in range(POLICY.consecutive_failures):
        if number == POLICY.consecutive_failures - 1:
            answer.set()
            await straggler
        with pytest.raises(StoreUnavailable):
            await world.store.clock()
    assert world.breaker.away


@pytest.mark.parametrize("fault", [None, ConfigurationError("the password was changed")])
async def test_stragglers_of_an_earlier_life_do_not_open_it_anew(fault: Exception | None) -> None:
    """They were asked before the store went away, and end badly once it is back: slowly, or with its last refusal."""
    world = await away()
    world.faulty.slow, world.faulty.fault = asyncio.Event(), fault
    stragglers = [asyncio.create_task(world.store.get("x")) for _ in range(POLICY.consecutive_failures)]
    await asyncio.sleep(0)
    await world.open_breaker()
    world.faulty.heal()
    world.clock.advance(SLOW_SECONDS)
    assert await world.breaker.probe_once()
    world.faulty.slow.set()
    await asyncio.gather(*stragglers, return_exceptions=True)
    assert not world.breaker.away


async def test_a_refusal_says_what_the_store_said_last() -> None:
    """Whoever reads "away" in a log wants to know why."""
    world = await away()
    await world.open_breaker()
    with pytest.raises(StoreUnavailable, match="did not take 'clock'"):
        await world.store.get("x")
    assert [event.detail["why"][:32] for event in world.heard] == ["the store did not take 'clock' ("]


async def test_a_probe_that_takes_as_long_as_a_slow_answer_leaves_it_away() -> None:
    """Back, and no use to anybody: a request needs several answers."""
    world = await away()
    await world.open_breaker()
    world.faulty.decide = lambda verb: world.clock.advance(SLOW_SECONDS)
    world.clock.advance(POLICY.open_seconds)
    assert not await world.breaker.probe_once()


async def test_how_long_it_was_away_is_told_to_the_millisecond() -> None:
    """It is back 0.625 s after it went."""
    world = await away()
    await world.open_breaker()
    world.faulty.heal()
    world.clock.advance(POLICY.open_seconds + 0.125)
    await world.breaker.probe_once()
    assert world.heard[-1].detail["away_seconds"] == POLICY.open_seconds + 0.125


async def test_a_store_that_answers_and_may_not_be_used_is_an_error_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    """It stays away until somebody mends it, and that somebody has to know what to mend."""

    async def confirm(store: Store) -> None:
        raise ConfigurationError("another naming secret")

    world = Away(confirm=confirm)
    with caplog.at_level(logging.ERROR, logger="cxguard"):
        for _ in range(3):
            world.clock.advance(POLICY.open_seconds_max)
            assert not await world.breaker.probe_once()
    (line,) = [json.loads(record.getMessage()) for record in caplog.records]
    assert (line["event"], line["why"]) == ("store.not_usable", "another naming secret")
