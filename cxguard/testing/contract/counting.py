"""`tally` and `prune`: what is counted, and what is forgotten."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest

from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import RECORD_VERSION, Entry, Operation, State, Step
from cxguard.stores.base import Query, Store, Tally
from cxguard.testing.clock import START, ManualClock
from cxguard.testing.contract.base import (
    LEASE_SECONDS,
    SHOP,
    ContractBase,
    charge_send,
    charged_note,
    got,
    open_leased,
    pages,
    put,
    queued,
    sample,
    seize,
    take,
    token_of,
)

DAY = 86_400.0
STEPS = 150  # of a random sequence


async def recount(store: Store) -> Tally:
    """The tally, found the slow way."""
    records = await pages(store, Query(SHOP, limit=100))
    unpaid: Counter[str] = Counter()
    for each in records:
        if each.state is State.QUEUED and each.money is MoneyState.NONE and each.currency and each.amount_minor:
            unpaid[each.currency] += each.amount_minor
    due = [each.due_at for each in records if each.lease is None and each.due_at is not None]
    return Tally(Counter((str(each.state), str(each.money)) for each in records), unpaid, min(due, default=None))


@pytest.mark.asyncio
class TallyContract(ContractBase):
    async def test_nothing_counts_nothing(self, store: Store) -> None:
        """An empty store has an empty tally."""
        assert await store.tally(SHOP) == Tally()

    async def test_what_begins_and_what_ends_at_once_is_counted(self, store: Store) -> None:
        """Many orders are opened while a few others end, in as few commits as the store makes of it: the counters are right."""
        ending = [await open_leased(store, sample(f"e{n}")) for n in range(4)]
        opening = [open_leased(store, sample(f"o{n}")) for n in range(12)]
        ends = [replace(each, state=State.HELD) for each in ending]
        await asyncio.gather(*opening, *(store.save(each, token=token_of(each), keep_lease=False) for each in ends))
        assert dict((await store.tally(SHOP)).operations) == {("running", "none"): 12, ("held", "none"): 4}

    async def test_records_are_counted_by_state_and_money(self, store: Store) -> None:
        """Each record counts under its state and money, in its own namespace."""
        await put(store, sample("a"))
        await put(store, sample("b"))
        await put(store, sample("c", state=State.HELD, money=MoneyState.UNKNOWN))
        await put(store, sample("d", namespace="other"))
        assert dict((await store.tally(SHOP)).operations) == {("running", "none"): 2, ("held", "unknown"): 1}

    async def test_unpaid_orders_are_summed_by_currency(self, store: Store) -> None:
        """Only queued orders whose money is none are owed to us; each currency is a sum of its own."""
        await put(store, queued("a", amount_minor=100, currency="EUR"))
        await put(store, queued("b", amount_minor=250, currency="EUR"))
        await put(store, queued("c", amount_minor=70, currency="JPY"))
        await put(store, queued("d", amount_minor=999, currency="EUR", money=MoneyState.CHARGED))
        await put(store, sample("e", amount_minor=999, currency="EUR"))
        assert dict((await store.tally(SHOP)).unpaid_minor) == {"EUR": 350, "JPY": 70}

    async def test_sum_falls_when_an_order_is_paid(self, store: Store) -> None:
        """An order that was worked on leaves the sum."""
        await put(store, queued("a", amount_minor=100, currency="EUR"))
        (taken,) = await take(store)
        await store.save(replace(taken, state=State.FINISHED, due_at=None), token=token_of(taken), keep_lease=False)
        assert dict((await store.tally(SHOP)).unpaid_minor) == {}

    async def test_oldest_due_time_is_of_records_that_nobody_holds(self, store: Store) -> None:
        """How late the queue is shows in the oldest due record that is not being worked on."""
        await put(store, queued("a", due_at=START - 20))
        await put(store, queued("b", due_at=START - 10))
        assert (await store.tally(SHOP)).oldest_due_at == START - 20
        await take(store, limit=1)
        assert (await store.tally(SHOP)).oldest_due_at == START - 10
        await take(store, limit=1)
        assert (await store.tally(SHOP)).oldest_due_at is None

    @pytest.mark.parametrize("seed", [1, 2, 3])
    async def test_tally_equals_a_recount_after_anything(self, store: Store, clock: ManualClock, seed: int) -> None:
        """After any sequence of verbs the counters are what a scan would have found."""
        dice = random.Random(seed)
        for step in range(STEPS):
            await random_step(store, clock, dice)
            if step % 10 == 0:
                assert await store.tally(SHOP) == await recount(store)
        assert await store.tally(SHOP) == await recount(store)


async def random_step(store: Store, clock: ManualClock, dice: random.Random) -> None:
    operation = random_record(dice)
    match dice.randrange(6):
        case 0 | 1:
            await store.open(operation, holder="h", attempt=str(dice.random()), lease_seconds=dice.choice([None, LEASE_SECONDS]))
        case 2:
            for each in await take(store, limit=3):
                changed = replace(random_record(dice), id=each.id, reference=each.reference)
                await store.save(changed, token=token_of(each), keep_lease=dice.random() < 0.3, gone=dice.random() < 0.2)
        case 3:
            await store.note(operation.id, charged_note(str(dice.randrange(4))), namespace=SHOP)
        case 4:
            known = await store.get(operation.id)
            if known is not None:
                await seize(store, known, attempt=str(dice.random()))
        case _:
            clock.advance(dice.choice([1, LEASE_SECONDS, 100 * DAY]))
            await store.prune(namespace=SHOP, limit=2)


def random_record(dice: random.Random) -> Operation:
    return sample(
        f"n{dice.randrange(12)}",
        state=dice.choice(list(State)),
        money=dice.choice(list(MoneyState)),
        amount_minor=dice.choice([None, 100, 250]),
        currency=dice.choice([None, "EUR", "JPY"]),
        due_at=dice.choice([None, START - dice.random(), START + dice.random() * 90]),
        keep_until=dice.choice([None, START + DAY]),
        created_at=START + dice.randrange(3),
    )


@pytest.mark.asyncio
class PruningContract(ContractBase):
    def ended(self, name: str = "a", **changes: object) -> Operation:
        whole = {
            "state": State.FINISHED,
            "money": MoneyState.CHARGED,
            "generation": 2,
            "sends": (charge_send(),),
            "captured_minor": 4999,
            "currency": "EUR",
            "amount_minor": 4999,
            "keep_until": START + DAY,
            "claims": (f"basket {name}",),
            "request": b"request",
            "answer": b"answer",
            "contact": b"contact",
            "contact_hash": "contact hash",
            "session": "session",
            "steps": (Step("invoice", 1, "hash", START),),
            "history": (Entry(START, "operation.opened"),),
        }
        return sample(name, **{**whole, **changes})

    async def prune(self, store: Store, limit: int = 100) -> int:
        return await store.prune(namespace=SHOP, limit=limit)

    async def test_record_is_kept_whole_until_its_time(self, store: Store, clock: ManualClock) -> None:
        """Before `keep_until` nothing of a record is forgotten."""
        stored = await put(store, self.ended())
        clock.advance(DAY - 1)
        assert await self.prune(store) == 0
        assert await store.get(stored.id) == stored

    async def test_names_and_money_outlive_the_content(self, store: Store, clock: ManualClock) -> None:
        """Past `keep_until` only names and money stay: enough to know the order, nothing about the person."""
        stored = await put(store, self.ended())
        clock.advance(DAY)
        assert await self.prune(store) == 1
        left = await got(store, stored.id)
        assert (left.generation, left.money, left.reference, left.sends) == (2, MoneyState.CHARGED, stored.reference, stored.sends)
        assert (left.request, left.answer, left.contact, left.contact_hash, left.session) == (None, None, None, None, None)
        assert (left.steps, left.history, left.claims, left.keep_until) == ((), (), (), stored.keep_until)
        assert (await store.search(Query(SHOP, contact_hash="contact hash"))).operations == ()
        assert (await store.search(Query(SHOP, gateway_key="key-1"))).operations == (left,)

    async def test_pruning_ends(self, store: Store, clock: ManualClock) -> None:
        """A second call finds nothing to do: 0 means done."""
        await put(store, self.ended())
        clock.advance(DAY)
        await self.prune(store)
        assert await self.prune(store) == 0

    async def test_record_goes_after_400_days(self, store: Store, clock: ManualClock) -> None:
        """400 days after `keep_until` the record is gone, and counted no more."""
        stored = await put(store, self.ended())
        clock.advance(DAY)
        await self.prune(store)
        clock.advance(400 * DAY - 1)
        assert await self.prune(store) == 0
        clock.advance(1)
        assert await self.prune(store) == 1
        assert await store.get(stored.id) is None
        assert (await store.tally(SHOP)).operations == {}

    async def test_claims_are_free_after_pruning(self, store: Store, clock: ManualClock) -> None:
        """A forgotten record no longer stands in anybody's way."""
        await put(store, self.ended())
        clock.advance(DAY)
        await self.prune(store)
        await open_leased(store, sample("b", claims=("basket a",)))

    async def test_money_facts_survive_and_words_do_not(self, store: Store, clock: ManualClock) -> None:
        """Notes that prove money are kept with it; what people wrote is forgotten."""
        opened = await open_leased(store, self.ended())
        await store.note(opened.id, charged_note(), namespace=SHOP)
        await store.note(opened.id, Note("remark", NoteKind.REMARK, START, text="my name is"), namespace=SHOP)
        await store.save(replace(opened, notes_seen=2), token=token_of(opened), keep_lease=False)
        clock.advance(DAY)
        assert await self.prune(store) == 1
        left = await got(store, opened.id)
        assert (left.notes, left.notes_seen, left.due_at) == ((charged_note(),), 1, None)

    @pytest.mark.parametrize("state", [State.RUNNING, State.QUEUED, State.HELD])
    async def test_work_that_has_not_ended_is_kept(self, store: Store, clock: ManualClock, state: State) -> None:
        """A record whose work has not ended is never pruned, whatever its time says."""
        stored = await put(store, self.ended(state=state))
        clock.advance(1000 * DAY)
        assert await self.prune(store) == 0
        assert await store.get(stored.id) == stored

    async def test_record_in_use_is_kept(self, store: Store, clock: ManualClock) -> None:
        """A record that is due, held by somebody, or has unseen notes is not pruned."""
        await put(store, self.ended("due", due_at=START))
        await open_leased(store, self.ended("leased"))
        await put(store, self.ended("noted"))
        await store.note(sample("noted").id, charged_note(), namespace=SHOP)
        await put(store, self.ended("newer", version=RECORD_VERSION + 1))
        await put(store, self.ended("other", namespace="other"))
        clock.advance(DAY)
        assert await self.prune(store) == 0

    async def test_pruned_record_that_is_used_again_is_whole_again(self, store: Store, clock: ManualClock) -> None:
        """A pruned record that is seized and saved begins a new life, with its own end."""
        stored = await put(store, self.ended())
        clock.advance(DAY)
        await self.prune(store)
        seized = (await seize(store, await got(store, stored.id))).operation
        again = replace(seized, answer=b"new", keep_until=clock.now() + DAY)
        saved = await store.save(again, token=token_of(seized), keep_lease=False)
        assert await self.prune(store) == 0
        assert await store.get(stored.id) == saved

    async def test_prune_is_limited(self, store: Store, clock: ManualClock) -> None:
        """One call changes at most *limit* records; several calls change them all."""
        for n in range(5):
            await put(store, self.ended(f"n{n}"))
        clock.advance(DAY)
        assert [await self.prune(store, limit=2) for _ in range(4)] == [2, 2, 1, 0]
