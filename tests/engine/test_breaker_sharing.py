"""Breakers of several processes on one store: what they tell one another, and what they know when the store is away."""

from __future__ import annotations

import asyncio

import pytest
from breakerworld import CARDS, CHARGED, QUICK, SILENT, Process, world

from cxguard.core.breaker import Label
from cxguard.core.outcomes import NotCharged
from cxguard.engine.breaker_sharing import BATCH_SECONDS_MAX, TELL_SECONDS, key_of
from cxguard.engine.breakers import Rejected, Ticket
from cxguard.stores.base import Versioned
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import Fault, FaultyStore

pytestmark = pytest.mark.asyncio


async def test_failures_of_all_open_it_for_all() -> None:
    """Two failures in each of four processes: open everywhere, in each told once, with the same revision."""
    async with world() as shop:
        await shop.trip()
        told = [[(event.name, event.detail["revision"]) for event in process.events] for process in shop.all]
        assert told == [[("breaker.opened", 2)]] * 4


async def test_a_process_that_sees_no_call_rejects_too() -> None:
    """What the others found out spares it the failures: it rejects without asking anybody."""
    async with world() as shop:
        await shop.trip()
        late = Process(shop.store, shop.clock, "late", shop.policy)
        await late.look()
        asked = shop.store.calls.total()
        assert await late.call(*[CHARGED] * 100) == 0
        assert shop.store.calls.total() == asked


async def test_an_opening_that_is_heard_of_late_lasts_no_less_than_nothing() -> None:
    """A process that starts when the pause is over tells that it is open, with no seconds left."""
    async with world() as shop:
        await shop.trip()
        shop.clock.advance(shop.policy.open_seconds_max)
        late = Process(shop.store, shop.clock, "late", shop.policy)
        await late.look()
        assert [(event.name, event.detail["open_seconds"]) for event in late.events] == [("breaker.opened", 0.0)]


async def test_one_with_a_broken_network_stops_itself_alone() -> None:
    """Its five failures open its own copy; the others go on, and it comes back by its own probes."""
    async with world() as shop:
        broken, *well = shop.all
        for process in well:
            await process.call(CHARGED)
        shop.clock.advance(TELL_SECONDS)
        await shop.look()
        await broken.call(*[SILENT] * 5)
        await shop.look()
        assert [process.label for process in shop.all] == [Label.OPEN, *[Label.CLOSED] * 3]
        assert [process.apart for process in shop.all] == [True, False, False, False]
        shop.clock.advance(shop.policy.open_seconds_max)
        assert await broken.call(CHARGED, CHARGED) == 2
        await shop.look()
        assert (broken.label, broken.apart) == (Label.CLOSED, False)


async def test_exactly_so_many_probes_of_all_processes_together() -> None:
    """Fifty calls in each of four processes at once, when the pause is over: two go."""
    async with world() as shop:
        await shop.trip()
        shop.clock.advance(shop.policy.open_seconds_max)
        asked = [process.breakers.enter("cards", "charge", operation_id=f"o{n}") for n in range(50) for process in shop.all]
        went = [ticket for ticket in await asyncio.gather(*asked) if isinstance(ticket, Ticket)]
        assert (len(went), all(ticket.is_probe for ticket in went)) == (shop.policy.probes_max, True)


async def test_probes_that_go_well_close_it_for_all() -> None:
    """Two probes in two processes, and everybody goes on, by the ramp."""
    async with world() as shop:
        await shop.trip()
        shop.clock.advance(shop.policy.open_seconds_max)
        assert await shop.all[0].call(CHARGED) == await shop.all[1].call(CHARGED) == 1
        await shop.look()
        assert shop.labels == {Label.CLOSED}
        assert all([event.name for event in process.events][-1] == "breaker.closed" for process in shop.all)


async def test_a_probe_that_is_dropped_frees_its_place() -> None:
    """Abandoned in one process, it may be made by another."""
    async with world() as shop:
        await shop.trip()
        shop.clock.advance(shop.policy.open_seconds_max)
        held = [await shop.all[0].breakers.enter("cards", "charge", operation_id=f"o{n}") for n in range(2)]
        await shop.look()
        assert await shop.all[1].call(CHARGED) == 0
        for ticket in held:
            assert isinstance(ticket, Ticket)
            ticket.abandon()
        await shop.look()
        assert await shop.all[1].call(CHARGED) == 1


async def test_thirty_stragglers_make_one_transition() -> None:
    """Under way in four processes when the gateway dies: one revision, one event in each."""
    async with world() as shop:
        tickets = [await process.breakers.enter("cards", "charge") for _ in range(8) for process in shop.all][:30]
        for number, ticket in enumerate(tickets):
            assert isinstance(ticket, Ticket)
            ticket.settle(SILENT, 5.0)
            if number % 3 == 0:
                await shop.all[number % 4].look()
        await shop.look()
        assert [[event.detail["revision"] for event in process.events] for process in shop.all] == [[2]] * 4


async def test_a_batch_whose_answer_was_lost_counts_once() -> None:
    """It is told again, and the value knows it: four failures stay four."""
    async with world(2) as shop:
        first, second = shop.all
        await first.call(SILENT, SILENT)
        shop.store.plan("swap", Fault.ANSWER_LOST)
        await first.look()
        await second.call(SILENT, SILENT)
        await shop.look()
        assert shop.labels == {Label.CLOSED}
        await second.call(SILENT)
        await shop.look()
        assert shop.labels == {Label.OPEN}


async def test_a_batch_that_did_not_arrive_is_told_again() -> None:
    """Refused by the store twice, then told: nothing is missing."""
    async with world(2) as shop:
        first, second = shop.all
        await first.call(SILENT, SILENT)
        shop.store.plan("swap", Fault.NOT_DONE, times=2)
        await first.look()
        await first.look()
        await second.call(SILENT, SILENT, SILENT)
        await shop.look()
        assert shop.labels == {Label.OPEN}


async def test_while_the_store_is_away_each_goes_by_itself() -> None:
    """Opens by its own failures, probes by its own rule, and nobody waits for the store; afterwards they agree again."""
    async with world(2) as shop:
        first, second = shop.all
        shop.store.decide = lambda verb: Fault.NOT_DONE
        await shop.look()
        await first.call(*[SILENT] * 5)
        assert (first.label, second.label) == (Label.OPEN, Label.CLOSED)
        shop.clock.advance(shop.policy.open_seconds_max)
        assert await first.call(CHARGED, CHARGED) == 2
        assert first.label is Label.CLOSED
        shop.store.heal()
        await shop.look()
        assert shop.labels == {Label.CLOSED}
        assert not first.apart


async def test_a_lease_that_the_store_does_not_answer_is_the_own_rules() -> None:
    """The store goes away between the outage and the probe: this process probes by its own copy."""
    async with world(2) as shop:
        await shop.trip()
        shop.clock.advance(shop.policy.open_seconds_max)
        shop.store.plan("load", Fault.NOT_DONE)
        ticket = await shop.all[0].breakers.enter("cards", "charge")
        assert isinstance(ticket, Ticket)
        assert ticket.is_probe


async def test_a_lease_whose_answer_was_lost_is_given_back() -> None:
    """It may have been given: it is told to be nobody's, and another process finds both places free."""
    async with world(2) as shop:
        await shop.trip()
        shop.clock.advance(shop.policy.open_seconds_max)
        shop.store.plan("swap", Fault.ANSWER_LOST)
        own = await shop.all[0].breakers.enter("cards", "charge", operation_id="a")
        assert isinstance(own, Ticket)
        await shop.look()
        asked = [await shop.all[1].breakers.enter("cards", "charge", operation_id=f"o{n}") for n in range(5)]
        assert sum(isinstance(ticket, Ticket) for ticket in asked) == 2


async def test_what_was_heard_long_ago_is_not_told() -> None:
    """After a store that was away for long, old failures do not open it for all."""
    async with world(2) as shop:
        first, second = shop.all
        shop.store.decide = lambda verb: Fault.NOT_DONE
        await first.call(SILENT, SILENT, SILENT)
        await first.look()
        shop.clock.advance(BATCH_SECONDS_MAX + 1.0)
        await first.look()
        shop.store.heal()
        await second.call(SILENT, SILENT)
        await shop.look()
        assert shop.labels == {Label.CLOSED}


async def test_a_store_that_lost_everything_is_told_again() -> None:
    """Emptied under the processes: what they last knew to be shared goes back, and nobody closes by mistake."""
    async with world(2) as shop:
        await shop.trip()
        shop.store.store = MemoryStore(clock=shop.clock)
        await shop.look()
        assert shop.labels == {Label.OPEN}
        late = Process(shop.store, shop.clock, "late", shop.policy)
        await late.look()
        assert late.label is Label.OPEN


POISONED = [
    '"revision":Infinity',
    '"revision":9,"label":"open","opened_until":NaN',
    '"now_counts":{"since":"soon"}',
    '"label":"half-open","probes":[{"id":1,"until":null}]',
]


@pytest.mark.parametrize("members", POISONED)
async def test_a_poisoned_value_stops_no_call(members: str) -> None:
    """Whatever somebody has written there: each process goes by its own rule, its duty goes on, and nobody's checkout breaks."""
    async with world(2) as shop:
        key = key_of("shop")
        cards = f'{{"gateway":"cards","kind":"charge","method":"","voices":{{}},{members}}}'
        poison = f'{{"v":1,"batches":{{}},"breakers":[{cards}]}}'.encode()
        assert await shop.store.swap(key, revision=(await shop.store.load(key)).revision, value=poison)
        await shop.look()
        assert [await process.call(CHARGED) for process in shop.all] == [1, 1]
        assert [process.sharing.away for process in shop.all] == [True, True]


async def test_a_value_of_a_newer_version_is_left_alone() -> None:
    """It is not written over, and this process goes by itself."""
    async with world(1) as shop:
        newer = b'{"v":99}'
        assert await shop.store.swap(key_of("shop"), revision=(await shop.store.load(key_of("shop"))).revision, value=newer)
        await shop.all[0].call(*[SILENT] * 5)
        await shop.look()
        assert shop.labels == {Label.OPEN}
        assert (await shop.store.load(key_of("shop"))).value == newer


async def test_a_silence_that_one_was_asked_for_holds_for_all() -> None:
    """`Retry-After: 7` in one process: the others wait, too."""
    async with world(2) as shop:
        await shop.all[0].call(NotCharged("throttled", retryable=True, retry_after_seconds=7.0))
        await shop.look()
        assert await shop.all[1].breakers.enter("cards", "charge") == Rejected(pytest.approx(7.0))
        shop.clock.advance(7.1)
        assert await shop.all[1].call(CHARGED) == 1


async def test_a_persons_word_reaches_everybody() -> None:
    """Forced open by one process for all, with who and why; taken back by another."""
    async with world() as shop:
        await shop.all[0].sharing.say(CARDS, Label.OPEN, reason="bank holiday", seconds=600.0, by="ada")
        await shop.look()
        assert [await process.call(CHARGED) for process in shop.all] == [0] * 4
        view = shop.all[3].breakers.states()[0]
        assert (view.label, view.forced_reason, view.forced_by, view.until) == (
            Label.OPEN,
            "bank holiday",
            "ada",
            shop.clock.now() + 600.0,
        )
        await shop.all[1].sharing.say(CARDS, None)
        await shop.look()
        assert [await process.call(CHARGED) for process in shop.all] == [1] * 4


async def test_a_persons_word_without_an_end_is_refused() -> None:
    """Nobody would take it back."""
    async with world(1) as shop:
        with pytest.raises(ValueError, match="how long"):
            await shop.all[0].sharing.say(CARDS, Label.OPEN, reason="bank holiday")
        await shop.look()
        assert shop.labels == {Label.CLOSED}


async def test_well_running_shops_write_seldom() -> None:
    """A thousand good calls are told in one batch, after a while, and an idle process tells nothing."""
    async with world(2) as shop:
        await shop.all[0].call(*[CHARGED] * 1000)
        swaps = shop.store.calls["swap"]
        for _ in range(10):
            await shop.look()
        assert shop.store.calls["swap"] == swaps
        shop.clock.advance(TELL_SECONDS)
        for _ in range(10):
            await shop.look()
        assert shop.store.calls["swap"] == swaps + 1


async def test_failures_are_counted_on_from_those_of_all() -> None:
    """Four elsewhere that all know of, and the fifth is heard here: here it is open at once, before the store is asked."""
    async with world(2) as shop:
        first, second = shop.all
        await first.call(*[SILENT] * 4)
        await shop.look()
        asked = shop.store.calls.total()
        assert await second.call(SILENT, SILENT, SILENT) == 1
        assert (second.label, shop.store.calls.total()) == (Label.OPEN, asked)
        await shop.look()
        assert (shop.labels, second.apart) == ({Label.OPEN}, False)


async def test_a_good_answer_that_was_not_told_yet_ends_the_row() -> None:
    """Four failures elsewhere, then one good call here: another failure is the first again, here and for all."""
    async with world(2) as shop:
        first, second = shop.all
        await first.call(*[SILENT] * 4)
        await shop.look()
        await second.call(CHARGED)
        await second.look()
        await second.call(SILENT)
        assert second.label is Label.CLOSED


class Broken(FaultyStore):
    """A store with a bug of its own."""

    async def load(self, key: str) -> Versioned:
        raise RuntimeError("nobody thought of this")


async def test_a_bug_in_the_store_breaks_no_call() -> None:
    """Whatever it raises, the breaker goes by its own rule, and probes by it."""
    clock = ManualClock()
    process = Process(Broken(MemoryStore(clock=clock)), clock, "p", QUICK)
    await process.look()
    await process.call(*[SILENT] * 5)
    assert process.label is Label.OPEN
    clock.advance(QUICK.open_seconds_max)
    assert await process.call(CHARGED, CHARGED) == 2
    assert process.label is Label.CLOSED
