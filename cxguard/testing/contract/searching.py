"""`get` and `search`: exact look-ups and lists by keyset pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxguard.core.money import MoneyState
from cxguard.core.operation import State
from cxguard.stores.base import PAGE_MAX, Query, Seen, Store
from cxguard.testing.clock import START
from cxguard.testing.contract.base import (
    SHOP,
    ContractBase,
    charge_send,
    charged_note,
    open_leased,
    pages,
    put,
    queued,
    sample,
    token_of,
)


def ids(*names: str) -> list[str]:
    return [sample(name).id for name in names]


@pytest.mark.asyncio
class SearchingContract(ContractBase):
    async def found(self, store: Store, **narrowed: Any) -> list[str]:
        return [each.id for each in await pages(store, Query(**{"namespace": SHOP, **narrowed}))]

    async def test_unknown_id_is_not_there(self, store: Store) -> None:
        """`get` of an id that was never opened gives None."""
        assert await store.get("nobody") is None

    @pytest.mark.parametrize("name", ["reference", "contact_hash", "session"])
    async def test_exact_look_up(self, store: Store, name: str) -> None:
        """A record is found by its reference, contact or session, and only by all of it."""
        stored = await put(store, sample("a", **{name: "WANTED"}))
        await put(store, sample("b", **{name: "WANTED2"}))
        await put(store, sample("c", namespace="other", **{name: "WANTED"}))
        assert await self.found(store, **{name: "WANTED"}) == [stored.id]
        assert await self.found(store, **{name: "WANTE"}) == []

    async def test_look_up_follows_a_save(self, store: Store) -> None:
        """Names that a save sets are found, and those that it dropped are not."""
        opened = await open_leased(store, sample("a", session="old"))
        changed = replace(opened, session="new", contact_hash="c")
        await store.save(changed, token=token_of(opened), keep_lease=True)
        assert await self.found(store, session="old") == []
        assert await self.found(store, session="new", contact_hash="c") == ids("a")

    async def test_gateway_key_look_up(self, store: Store) -> None:
        """A record is found by the key of each of its sends."""
        opened = await open_leased(store, sample("a"))
        sends = (charge_send("key-1"), charge_send("key-1", 2), charge_send("key-2", 3))
        await store.save(replace(opened, sends=sends[:1]), token=token_of(opened), keep_lease=True)
        await store.save(replace(opened, sends=sends), token=token_of(opened), keep_lease=True)
        await put(store, sample("b", sends=(charge_send("key-3"),)))
        assert await self.found(store, gateway_key="key-1") == ids("a")
        assert await self.found(store, gateway_key="key-2") == ids("a")
        assert await self.found(store, gateway_key="key-3") == ids("b")
        assert await self.found(store, gateway_key="key") == []

    async def test_gateway_key_of_a_note_is_found(self, store: Store) -> None:
        """A charge that only a webhook told of is found by its key, too."""
        await put(store, sample("a"))
        await store.note(sample("a").id, charged_note(key="key-9"), namespace=SHOP)
        await store.note(sample("b").id, charged_note(key="key-8"), namespace=SHOP)
        assert await self.found(store, gateway_key="key-9") == ids("a")
        assert await self.found(store, gateway_key="key-8") == ids("b")

    async def test_claim_look_up_names_whoever_holds_it_now(self, store: Store) -> None:
        """A claim that was superseded leads to the record that has it since."""
        first = await put(store, sample("a", claims=("basket",)))
        assert await self.found(store, claim="basket") == ids("a")
        await store.open(
            sample("b", claims=("basket",)), holder="w", attempt="b", lease_seconds=30.0, superseding=[Seen(first.id, first.revision)]
        )
        assert await self.found(store, claim="basket") == ids("b")
        assert await self.found(store, claim="other") == []

    async def test_owner_finds_what_is_queued_and_only_that(self, store: Store) -> None:
        """An owner's orders are found while they wait in the queue, by all of the owner's name."""
        await put(store, queued("a", owner="ann", created_at=START + 1))
        await put(store, queued("b", owner="ann", created_at=START + 2, due_at=START + 9, money=MoneyState.UNKNOWN))
        await put(store, queued("c", owner="ann2"))
        await put(store, queued("d", owner="ann", namespace="other"))
        for name, state in (("e", State.RUNNING), ("f", State.HELD), ("g", State.FINISHED)):
            await put(store, sample(name, owner="ann", state=state))
        assert await self.found(store, kept_by="ann") == ids("b", "a")
        assert await self.found(store, kept_by="ann", money=("none",)) == ids("a")
        assert await self.found(store, kept_by="ann", due=True) == ids("a", "b")
        assert await self.found(store, kept_by="ann", states=(State.HELD,)) == []
        assert await self.found(store, kept_by="an") == []

    async def test_owner_is_found_as_soon_as_it_is_queued_and_no_longer(self, store: Store) -> None:
        """The queue's index follows the saves that put an order in, and take it out."""
        opened = await open_leased(store, sample("a", owner="ann"))
        waiting = replace(opened, state=State.QUEUED, due_at=START)
        saved = await store.save(waiting, token=token_of(opened), keep_lease=True)
        assert await self.found(store, kept_by="ann") == ids("a")
        await store.save(replace(saved, state=State.CANCELLED), token=token_of(opened), keep_lease=False)
        assert await self.found(store, kept_by="ann") == []

    async def test_removed_record_is_found_by_no_name(self, store: Store) -> None:
        """A released record has left every look-up."""
        opened = await open_leased(store, sample("a", session="s", contact_hash="c", sends=(charge_send(),)))
        await store.save(opened, token=token_of(opened), keep_lease=False, gone=True)
        for narrowed in ({"session": "s"}, {"contact_hash": "c"}, {"gateway_key": "key-1"}, {"reference": opened.reference}, {}):
            assert await self.found(store, **narrowed) == []

    async def test_list_is_newest_first(self, store: Store) -> None:
        """Without a due time in question the newest record comes first, across all states."""
        await put(store, queued("a", created_at=START + 1))
        await put(store, sample("b", created_at=START + 3))
        await put(store, sample("c", created_at=START + 2, state=State.FINISHED))
        assert await self.found(store) == ids("b", "c", "a")

    async def test_list_is_narrowed_by_state_money_and_rule(self, store: Store) -> None:
        """States and money narrow to any of those named; rule, state and money narrow together."""
        await put(store, sample("a", state=State.FINISHED, money=MoneyState.CHARGED, created_at=START + 1))
        await put(store, sample("b", state=State.FINISHED, money=MoneyState.DECLINED, created_at=START + 2))
        await put(store, sample("c", state=State.HELD, money=MoneyState.UNKNOWN, created_at=START + 3))
        await put(store, sample("d", state=State.HELD, money=MoneyState.CHARGED, created_at=START + 4, rule="refund"))
        assert await self.found(store, states=(State.FINISHED,)) == ids("b", "a")
        assert await self.found(store, states=(State.HELD, State.FINISHED), money=("charged", "unknown")) == ids("d", "c", "a")
        assert await self.found(store, money=("charged",), rule="pay") == ids("a")
        assert await self.found(store, states=()) == []

    async def test_due_list_is_in_order_of_due_time(self, store: Store) -> None:
        """The list of due records has the most overdue first, and leaves out those without a due time."""
        await put(store, queued("a", due_at=START + 9))
        await put(store, queued("b", due_at=START - 9))
        await put(store, queued("c", due_at=None))
        await put(store, sample("d", state=State.HELD, due_at=START))
        assert await self.found(store, due=True) == ids("b", "d", "a")
        assert await self.found(store, due=True, states=(State.QUEUED,)) == ids("b", "a")

    @pytest.mark.parametrize("due", [False, True])
    @pytest.mark.parametrize("limit", [1, 4, 5, 25, 26])
    async def test_pages_drop_and_repeat_nothing(self, store: Store, due: bool, limit: int) -> None:
        """Page by page every record comes exactly once, also when all have the same time."""
        names = [f"n{n}" for n in range(25)]
        for name in names:
            await put(store, queued(name, state=State.QUEUED if int(name[1:]) % 2 else State.HELD))
        assert sorted(await self.found(store, due=due, limit=limit)) == sorted(ids(*names))

    async def test_pages_are_not_disturbed_by_new_records(self, store: Store) -> None:
        """A record that comes in between two pages shifts none of the others."""
        for n in range(4):
            await put(store, sample(f"n{n}", created_at=START + n))
        first = await store.search(Query(SHOP, limit=2))
        await put(store, sample("new", created_at=START + 9))
        second = await store.search(Query(SHOP, limit=2, after=first.cursor))
        assert [each.id for each in first.operations + second.operations] == ids("n3", "n2", "n1", "n0")

    async def test_exact_look_up_has_pages_too(self, store: Store) -> None:
        """All orders of one shopper come newest first, page by page."""
        for n in range(5):
            await put(store, sample(f"n{n}", created_at=START + n, contact_hash="c"))
        assert await self.found(store, contact_hash="c", limit=2) == ids("n4", "n3", "n2", "n1", "n0")

    @pytest.mark.parametrize("limit", [0, PAGE_MAX + 1])
    async def test_senseless_limit_of_a_page_is_refused(self, store: Store, limit: int) -> None:
        """A page has 1 to `PAGE_MAX` records."""
        with pytest.raises(ValueError, match="limit"):
            await store.search(Query(SHOP, limit=limit))

    @pytest.mark.parametrize("cursor", ["", "x", "1.5", "1.5:x", "'; DROP TABLE operations; --"])
    async def test_made_up_cursor_is_refused(self, store: Store, cursor: str) -> None:
        """A cursor comes from the last page; anything else is refused, not guessed at."""
        with pytest.raises(ValueError, match="cursor"):
            await store.search(Query(SHOP, after=cursor))
