"""`put`: a whole record from another store, as if it had been opened and saved here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import RECORD_VERSION, Entry, Operation, State, Step, changed, refolded
from cxguard.core.outcomes import Charged
from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Match, Query, Store
from cxguard.testing.clock import START, ManualClock
from cxguard.testing.contract.base import (
    SHOP,
    ContractBase,
    charge_send,
    charged_note,
    got,
    open_leased,
    put,
    queued,
    sample,
    seen,
    seize,
    take,
    token_of,
)
from cxguard.testing.faulty_store import Fault, FaultyStore


def whole(name: str = "a", **changes: Any) -> Operation:
    """A record with everything that one may have."""
    members: dict[str, Any] = {
        "state": State.QUEUED,
        "created_at": START - 500.0,
        "updated_at": START - 400.0,
        "due_at": START + 50.0,
        "give_up_at": START + 900.0,
        "keep_until": START + 9_000.0,
        "claims": (f"basket-{name}", f"current-{name}"),
        "generation": 3,
        "attempts": 2,
        "amount_minor": 4999,
        "currency": "EUR",
        "sends": (replace(charge_send(f"sent-{name}"), outcome=Charged(4999, "EUR", "pay_1")),),
        "steps": (Step("invoice", 3, "hash", START - 450.0, START - 449.0, b"sealed"),),
        "request": b"request",
        "answer": b"answer",
        "contact": b"contact",
        "contact_hash": f"contact-{name}",
        "session": f"visit-{name}",
        "history": (Entry(START - 500.0, "operation.opened", "somebody", {"generation": 1}),),
        "notes": (charged_note("event-1", key=f"told-{name}"), Note("event-2", NoteKind.CANCEL, START, generation=2)),
        "notes_seen": 1,
        "lease": None,
        "extra": {"later": [1, {"b": "c"}]},
    }
    return refolded(sample(name, **{**members, **changes}))


def same(stored: Operation, operation: Operation) -> bool:
    return changed(stored, revision=0, lease=None) == changed(operation, revision=0, lease=None)


@pytest.mark.asyncio
class PuttingContract(ContractBase):
    async def test_a_whole_record_is_put_as_it_is(self, store: Store) -> None:
        """Times, steps, sends, notes and unknown members too; only the revision is this store's own."""
        result = await store.put(whole())
        assert (result.won, result.match, result.leased) == (True, Match.NEW, False)
        stored = await got(store, whole().id)
        assert stored == result.operation
        assert same(stored, whole())
        assert stored.revision > 0

    @pytest.mark.parametrize("members", [{"lease": None}, {"notes": (), "notes_seen": 0}, {"sends": (), "claims": ()}])
    async def test_a_record_that_was_put_lives_on(self, store: Store, clock: ManualClock, members: dict[str, Any]) -> None:
        """It is taken when due, saved, noted and saved again, and loses nothing by it."""
        await store.put(whole(**members))
        clock.advance(51.0)
        (taken,) = await take(store)
        assert same(changed(taken, updated_at=START - 400.0), whole(**members))
        saved = await store.save(changed(taken, attempts=9), token=token_of(taken), keep_lease=False)
        noted = await store.note(saved.id, charged_note("event-9"), namespace=SHOP)
        assert noted.notes == (*whole(**members).notes, charged_note("event-9"))
        assert (noted.attempts, noted.claims) == (9, whole(**members).claims)

    async def test_a_second_note_of_an_event_that_came_along_changes_nothing(self, store: Store) -> None:
        """Event ids count from wherever they were first heard."""
        result = await store.put(whole())
        assert await store.note(result.operation.id, charged_note("event-1"), namespace=SHOP) == result.operation

    @pytest.mark.parametrize(
        "name",
        [
            {"reference": whole().reference},
            {"contact_hash": "contact-a"},
            {"session": "visit-a"},
            {"gateway_key": "sent-a"},
            {"gateway_key": "told-a"},
            {"claim": "basket-a"},
            {"kept_by": "owner"},
            {"due": True},
            {"states": (State.QUEUED,)},
        ],
    )
    async def test_it_is_found_by_every_name(self, store: Store, name: dict[str, Any]) -> None:
        """As a record that was opened here."""
        await store.put(whole())
        assert [each.id for each in (await store.search(Query(SHOP, **name))).operations] == [whole().id]

    async def test_it_is_counted(self, store: Store) -> None:
        """In the same commit, by state and money, with what it has not paid."""
        await store.put(whole(sends=(), notes=(), notes_seen=0))
        await store.put(whole("b"))
        tally = await store.tally(SHOP)
        assert tally.operations == {("queued", "none"): 1, ("queued", "charged"): 1}
        assert (tally.unpaid_minor, tally.oldest_due_at) == ({"EUR": 4999}, START + 50.0)

    async def test_a_record_that_is_there_stays(self, store: Store) -> None:
        """Nothing of it is changed, and it comes back."""
        there = await put(store, queued("a"))
        result = await store.put(whole())
        assert (result.won, result.match, result.operation) == (False, Match.ID, there)
        assert await got(store, there.id) == there

    async def test_it_takes_the_place_of_a_record_that_is_as_seen(self, store: Store) -> None:
        """Of a stub, say: nothing of that one is left, neither its notes nor its names nor its count."""
        stub = await store.note(whole().id, charged_note("stub", key="stub-key"), namespace=SHOP)
        result = await store.put(whole(), replacing=seen(stub))
        assert result.won
        assert same(await got(store, stub.id), whole())
        assert not (await store.search(Query(SHOP, gateway_key="stub-key"))).operations
        assert (await store.tally(SHOP)).operations == {("queued", "charged"): 1}
        assert result.operation.revision > stub.revision

    async def test_it_takes_no_place_of_a_record_that_has_moved(self, store: Store) -> None:
        """Another fact has come in meanwhile: look again."""
        stub = await store.note(whole().id, charged_note("stub"), namespace=SHOP)
        newer = await store.note(whole().id, charged_note("stub-2"), namespace=SHOP)
        result = await store.put(whole(), replacing=seen(stub))
        assert (result.won, result.match, await got(store, stub.id)) == (False, Match.ID, newer)

    async def test_it_takes_no_place_of_a_leased_record(self, store: Store) -> None:
        """Somebody acts on it."""
        held = await open_leased(store, sample("a"))
        result = await store.put(whole(), replacing=seen(held))
        assert (result.won, result.leased, await got(store, held.id)) == (False, True, held)

    async def test_a_claim_of_another_record_is_in_the_way(self, store: Store) -> None:
        """The holder comes back; as seen, it gives the claim up, and keeps its others."""
        other = await put(store, queued("b", claims=("basket-a", "own")))
        result = await store.put(whole())
        assert (result.won, result.match, result.claim, result.operation) == (False, Match.CLAIM, "basket-a", other)
        assert await store.get(whole().id) is None
        assert (await store.put(whole(), superseding=[seen(other)])).won
        assert (await got(store, other.id)).claims == ("own",)
        assert (await got(store, whole().id)).claims == whole().claims

    async def test_a_lost_answer_is_read_from_the_record(self, store: Store) -> None:
        """Repeated, it is not won, and what is there is what was put."""
        faulty = FaultyStore(store)
        faulty.plan("put", Fault.ANSWER_LOST)
        with pytest.raises(StoreUnavailable):
            await faulty.put(whole())
        again = await faulty.put(whole())
        assert (again.won, again.match, same(again.operation, whole())) == (False, Match.ID, True)
        assert (await store.tally(SHOP)).operations == {("queued", "charged"): 1}

    async def test_a_record_of_a_newer_version_is_put_and_never_leased(self, store: Store, clock: ManualClock) -> None:
        """Also not one that has just been frozen: nobody acts on it, whatever its due time."""
        result = await store.put(whole(version=RECORD_VERSION + 5))
        clock.advance(9_999.0)
        assert await take(store) == ()
        assert not (await seize(store, result.operation)).won
        assert same(await got(store, whole().id), whole(version=RECORD_VERSION + 5))

    async def test_an_ended_record_is_forgotten_in_its_time(self, store: Store, clock: ManualClock) -> None:
        """`keep_until` came along: its contents go then, names and money stay."""
        ended = whole(state=State.FINISHED, due_at=None, notes_seen=2)
        await store.put(ended)
        clock.advance(9_001.0)
        assert await store.prune(namespace=SHOP, limit=10) == 1
        left = await got(store, ended.id)
        assert (left.request, left.answer, left.money, left.sends) == (None, None, MoneyState.CHARGED, ended.sends)
