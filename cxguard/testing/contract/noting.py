"""`note`: facts that need no lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.names import reference_of
from cxguard.core.operation import State, WaitingFor
from cxguard.stores.base import Query, Store
from cxguard.testing.clock import START, ManualClock
from cxguard.testing.contract.base import (
    SHOP,
    ContractBase,
    charged_note,
    open_leased,
    put,
    queued,
    race,
    sample,
    seize,
    take,
    token_of,
)


@pytest.mark.asyncio
class NotingContract(ContractBase):
    async def test_note_is_appended_and_makes_the_record_due(self, store: Store, clock: ManualClock) -> None:
        """A fact about a record is kept with it, and somebody will look at it at once."""
        finished = await put(store, sample(state=State.FINISHED))
        noted = await store.note(finished.id, charged_note(), namespace=SHOP)
        assert (noted.notes, noted.due_at) == ((charged_note(),), clock.now())
        assert noted.revision > finished.revision
        assert [each.id for each in await take(store)] == [finished.id]

    async def test_note_does_not_delay_a_record(self, store: Store) -> None:
        """A record that was due earlier stays due earlier."""
        await put(store, queued("a", due_at=START - 50))
        assert (await store.note(sample("a").id, charged_note(), namespace=SHOP)).due_at == START - 50

    async def test_second_note_with_the_same_event_id_changes_nothing(self, store: Store, clock: ManualClock) -> None:
        """A webhook that is delivered twice counts once."""
        stored = await put(store, sample())
        first = await store.note(stored.id, charged_note(), namespace=SHOP)
        clock.advance(1)
        again = await store.note(stored.id, replace(charged_note(), text="again"), namespace=SHOP)
        assert again == first
        assert await store.get(stored.id) == first

    async def test_notes_keep_their_order(self, store: Store) -> None:
        """Notes are kept in the order in which they came."""
        stored = await put(store, sample())
        for n in (3, 1, 2):
            await store.note(stored.id, charged_note(f"event-{n}"), namespace=SHOP)
        noted = await store.get(stored.id)
        assert noted is not None
        assert [note.event_id for note in noted.notes] == ["event-3", "event-1", "event-2"]

    async def test_race_of_notes_loses_none(self, store: Store) -> None:
        """A hundred facts at once are all kept, each once."""
        stored = await put(store, sample())
        await race(lambda n: store.note(stored.id, charged_note(f"event-{n // 2}"), namespace=SHOP))
        noted = await store.get(stored.id)
        assert noted is not None
        assert sorted(note.event_id for note in noted.notes) == sorted(f"event-{n}" for n in range(50))

    async def test_note_leaves_the_lease_alone(self, store: Store) -> None:
        """A fact neither needs nor disturbs the holder, who still saves."""
        opened = await open_leased(store, sample())
        noted = await store.note(opened.id, charged_note(), namespace=SHOP)
        assert noted.lease == opened.lease
        assert (await store.save(opened, token=token_of(opened), keep_lease=True)).notes == (charged_note(),)

    async def test_note_is_a_change_that_a_seize_sees(self, store: Store) -> None:
        """Who saw the record before the fact came in must look again."""
        stored = await put(store, sample())
        await store.note(stored.id, charged_note(), namespace=SHOP)
        assert not (await seize(store, stored)).won

    async def test_fact_about_an_unknown_id_makes_a_stub(self, store: Store, clock: ManualClock) -> None:
        """A webhook may come before the submit, or about an order that was lost: it waits for a person, and is due in a while."""
        made = await store.note(sample().id, charged_note(), namespace=SHOP, stub_due_seconds=60)
        assert (made.state, made.waiting_for, made.due_at) == (State.HELD, WaitingFor.AGENT, clock.now() + 60)
        assert (made.notes, made.money, made.namespace, made.rule) == ((charged_note(),), MoneyState.CHARGED, SHOP, "")
        assert made.reference == reference_of(made.id)
        assert await store.get(made.id) == made
        assert await take(store, rules=("",)) == ()
        clock.advance(60)
        assert [each.id for each in await take(store, rules=("",))] == [made.id]

    async def test_open_finds_a_stub(self, store: Store) -> None:
        """The submit that comes after its webhook is told what is known, and may seize it."""
        made = await store.note(sample().id, charged_note(), namespace=SHOP)
        opened = await store.open(sample(), holder="h", attempt="a", lease_seconds=30)
        assert (opened.won, opened.leased, opened.operation) == (False, False, made)
        seized = (await seize(store, made, claims=("basket",))).operation
        whole = replace(sample(), claims=seized.claims)
        saved = await store.save(whole, token=token_of(seized), keep_lease=True)
        assert (saved.rule, saved.claims, saved.notes) == (sample().rule, ("basket",), made.notes)
        assert [each.id for each in (await store.search(Query(SHOP, reference=sample().reference))).operations] == [saved.id]

    async def test_fact_about_a_foreign_id_makes_a_stub_too(self, store: Store) -> None:
        """An id that is not one of ours is still a fact that somebody must see."""
        made = await store.note("order 12 of another system", charged_note(), namespace=SHOP)
        assert (made.reference, made.state) == ("", State.HELD)

    async def test_second_fact_about_an_unknown_id_joins_the_stub(self, store: Store) -> None:
        """Facts about one unknown id meet on one stub; a repeated one counts once."""
        await store.note(sample().id, charged_note("one"), namespace=SHOP)
        await store.note(sample().id, charged_note("one"), namespace=SHOP)
        joined = await store.note(sample().id, charged_note("two"), namespace=SHOP)
        assert [note.event_id for note in joined.notes] == ["one", "two"]

    async def test_wish_to_cancel_is_a_note(self, store: Store) -> None:
        """A shopper's wish to cancel reaches the record while somebody else holds it."""
        opened = await open_leased(store, sample())
        noted = await store.note(opened.id, Note("cancel", NoteKind.CANCEL, START, "shopper", text="é ✓"), namespace=SHOP)
        assert noted.cancel_asked
        assert await store.get(opened.id) == noted
