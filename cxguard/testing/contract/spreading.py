"""Records of many owners, which a store may keep apart: lists, the queue and the counts see them as one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.operation import Operation, State
from cxguard.stores.base import Query, Store
from cxguard.testing.clock import START, ManualClock
from cxguard.testing.contract.base import LEASE_SECONDS, SHOP, ContractBase, apart, pages, put, race, take, token_of

DAY = 86_400.0


async def put_apart(store: Store, count: int, **changes: object) -> list[Operation]:
    """Records of as many owners, one due and made after the other."""
    return [await put(store, apart(f"s{n}", **{"due_at": START - 100 + n, "created_at": START + n, **changes})) for n in range(count)]


@pytest.mark.asyncio
class SpreadingContract(ContractBase):
    async def test_most_overdue_of_all_owners_comes_first(self, store: Store) -> None:
        """`take` knows one order for all owners, and goes on where it stopped."""
        stored = await put_apart(store, 30)
        taken = [await take(store, limit=7) for _ in range(6)]
        assert [each.id for page in taken for each in page] == [each.id for each in stored]
        assert [len(page) for page in taken] == [7, 7, 7, 7, 2, 0]

    async def test_workers_share_the_records_of_many_owners(self, store: Store) -> None:
        """Workers at once: each record goes to one of them, under a token of its own; what one left, the next look finds."""
        stored = await put_apart(store, 60)
        answers = await race(lambda n: take(store, limit=3), callers=10)
        taken = [each for answer in answers for each in answer]
        while more := await take(store, limit=20):
            taken += more
        assert sorted(each.id for each in taken) == sorted(each.id for each in stored)
        assert len({token_of(each) for each in taken}) == 60

    @pytest.mark.parametrize("limit", [1, 6, 40])
    async def test_lists_go_across_all_owners(self, store: Store, limit: int) -> None:
        """Page by page each record comes once, newest first, or most overdue first."""
        stored = [each.id for each in await put_apart(store, 25)]
        assert [each.id for each in await pages(store, Query(SHOP, limit=limit))] == stored[::-1]
        assert [each.id for each in await pages(store, Query(SHOP, due=True, limit=limit))] == stored

    async def test_exact_names_are_found_wherever_they_are(self, store: Store) -> None:
        """A session and a contact have records of several owners; a reference has one."""
        stored = await put_apart(store, 12, session="s", contact_hash="c")
        assert [each.id for each in await pages(store, Query(SHOP, session="s", limit=5))] == [each.id for each in stored][::-1]
        assert [each.id for each in await pages(store, Query(SHOP, contact_hash="c", due=True, limit=5))] == [each.id for each in stored]
        assert (await store.search(Query(SHOP, reference=stored[3].reference))).operations == (stored[3],)

    async def test_tally_is_of_all_owners(self, store: Store) -> None:
        """Counts, sums and the oldest due time are of all owners together."""
        await put_apart(store, 20, amount_minor=100, currency="EUR")
        await take(store, limit=3)
        tally = await store.tally(SHOP)
        assert (dict(tally.operations), dict(tally.unpaid_minor)) == ({("queued", "none"): 20}, {"EUR": 2000})
        assert tally.oldest_due_at == START - 97

    async def test_leases_of_many_owners_are_renewed_at_once(self, store: Store, clock: ManualClock) -> None:
        """One call renews them all, and names those that are lost, whoever's they are."""
        await put_apart(store, 20)
        taken = await take(store, limit=20)
        clock.advance(LEASE_SECONDS - 1)
        tokens = {each.id: token_of(each) for each in taken} | {apart("gone").id: 1}
        assert await store.renew(tokens, lease_seconds=LEASE_SECONDS) == {apart("gone").id}
        clock.advance(2)
        assert await take(store) == ()

    async def test_prune_is_of_all_owners(self, store: Store, clock: ManualClock) -> None:
        """What has ended is forgotten wherever it is, within the limit of each call."""
        for each in await put_apart(store, 10):
            (taken,) = await take(store, limit=1)
            ended = replace(each, state=State.FINISHED, due_at=None, keep_until=START + DAY)
            await store.save(ended, token=token_of(taken), keep_lease=False)
        clock.advance(DAY)
        assert [await store.prune(namespace=SHOP, limit=4) for _ in range(4)] == [4, 4, 2, 0]
