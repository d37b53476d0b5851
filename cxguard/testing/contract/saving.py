"""`save` and `renew`: what the holder of a lease may do, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cxguard.core.consent import Consent
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import Entry, NoticeLine, Operation, State, Step, WaitingFor
from cxguard.core.outcomes import Charged, Declined, NeedsShopper
from cxguard.errors import LeaseLost
from cxguard.stores.base import Store
from cxguard.testing.clock import START, ManualClock
from cxguard.testing.contract.base import (
    LEASE_SECONDS,
    SHOP,
    ContractBase,
    charge_send,
    charged_note,
    got,
    open_leased,
    put,
    sample,
    seen,
    seize,
    take,
    token_of,
)


def everything(operation: Operation) -> Operation:
    """The record with every member that a save may set, filled."""
    changes: dict[str, Any] = {
        "state": State.HELD,
        "client_key": False,
        "charged_by": "shop",
        "consent": Consent("2026-11", at=START, until=START + 600.5, ceiling_minor=4999, currency="EUR"),
        "quote_until": START + 300.5,
        "asked_until": START + 7_200.5,
        "asked_generation": 2,
        "generation": 3,
        "waiting_for": WaitingFor.SHOPPER,
        "why": "needs_shopper",
        "due_at": START + 60.25,
        "attempts": 2,
        "give_up_at": START + 86_400,
        "keep_until": START + 90_000,
        "amount_minor": 4999,
        "currency": "EUR",
        "sends": (charge_send(), charge_send("key-2", 2, outcome=Charged(4999, "EUR", "pay_1", captured=False), of="key-1")),
        "money": MoneyState.CHARGED,
        "authorised_minor": 4999,
        "captured_minor": 1,
        "refunded_minor": 2,
        "steps": (Step("invoice", 1, "hash", START, START + 1, b"\x00\xff sealed"), Step("mail", 1, "hash", START)),
        "request": b"\x00request",
        "answer": b"\xffanswer",
        "answered_at": START + 2,
        "session": "session",
        "contact": b"contact",
        "contact_hash": "contact hash",
        "locale": "de",
        "history": (Entry(START, "operation.opened", "app", {"n": 1, "text": "é\u2028"}), Entry(START + 1, "payment.sent")),
        "notices": (NoticeLine("accepted", 1, START, 2, done=True), NoticeLine("paid", 2, START)),
        "extra": {"of_tomorrow": {"deep": [1, None, "x"]}},
    }
    return replace(operation, **changes)


@pytest.mark.asyncio
class SavingContract(ContractBase):
    async def test_every_member_survives(self, store: Store) -> None:
        """What was saved comes back member by member, sealed bytes and unknown members included."""
        opened = await open_leased(store, sample(claims=("basket",)))
        saved = await store.save(everything(opened), token=token_of(opened), keep_lease=True)
        expected = replace(everything(opened), revision=saved.revision, updated_at=saved.updated_at)
        assert saved == expected
        assert await store.get(opened.id) == expected

    async def test_every_member_survives_an_open(self, store: Store) -> None:
        """A record that is inserted whole (queued at once, or from the spool) comes back whole."""
        whole = everything(sample(claims=("basket",)))
        inserted = await put(store, whole)
        assert inserted == replace(whole, revision=inserted.revision, updated_at=inserted.updated_at)
        assert await store.get(whole.id) == inserted

    async def test_save_keeps_or_ends_the_lease(self, store: Store) -> None:
        """A save ends the lease unless it is asked to keep it."""
        opened = await open_leased(store, sample())
        kept = await store.save(opened, token=token_of(opened), keep_lease=True)
        assert kept.lease == opened.lease
        ended = await store.save(kept, token=token_of(opened), keep_lease=False)
        assert ended.lease is None
        assert (await got(store, opened.id)).lease is None

    async def test_each_save_has_a_higher_revision(self, store: Store) -> None:
        """The revision grows with each save."""
        opened = await open_leased(store, sample())
        saved = await store.save(opened, token=token_of(opened), keep_lease=True)
        again = await store.save(saved, token=token_of(opened), keep_lease=True)
        assert opened.revision < saved.revision < again.revision

    async def test_late_save_is_refused(self, store: Store, clock: ManualClock) -> None:
        """Who lost the lease to another cannot save, and nothing of the write is kept."""
        opened = await open_leased(store, sample())
        clock.advance(LEASE_SECONDS)
        seized = (await seize(store, opened)).operation
        with pytest.raises(LeaseLost):
            await store.save(replace(opened, state=State.FINISHED), token=token_of(opened), keep_lease=False)
        assert await store.get(opened.id) == seized

    async def test_late_removal_is_refused(self, store: Store, clock: ManualClock) -> None:
        """Who lost the lease to another cannot remove the record either."""
        opened = await open_leased(store, sample())
        clock.advance(LEASE_SECONDS)
        seized = (await seize(store, opened)).operation
        with pytest.raises(LeaseLost):
            await store.save(opened, token=token_of(opened), keep_lease=False, gone=True)
        assert await store.get(opened.id) == seized

    async def test_save_without_a_lease_is_refused(self, store: Store) -> None:
        """Once its lease has ended a holder's token is worth nothing."""
        opened = await open_leased(store, sample())
        await store.save(opened, token=token_of(opened), keep_lease=False)
        with pytest.raises(LeaseLost):
            await store.save(opened, token=token_of(opened), keep_lease=False)

    async def test_save_of_an_unknown_record_is_refused(self, store: Store) -> None:
        """There is no lease on a record that is not there."""
        with pytest.raises(LeaseLost):
            await store.save(sample(), token=1, keep_lease=False)
        assert await store.get(sample().id) is None

    async def test_lapsed_lease_may_still_save(self, store: Store, clock: ManualClock) -> None:
        """A lease that has run out, but was given to nobody else, still lets its holder write down what happened."""
        opened = await open_leased(store, sample())
        clock.advance(LEASE_SECONDS * 10)
        saved = await store.save(replace(opened, state=State.FINISHED), token=token_of(opened), keep_lease=False)
        assert saved.state is State.FINISHED

    async def test_notes_survive_a_save(self, store: Store) -> None:
        """A save that knows nothing of a note does not lose it, and hands it to the holder."""
        opened = await open_leased(store, sample())
        await store.note(opened.id, charged_note(), namespace=SHOP)
        saved = await store.save(replace(opened, why="mine"), token=token_of(opened), keep_lease=True)
        assert saved.notes == (charged_note(),)
        assert await store.get(opened.id) == saved

    async def test_save_does_not_write_notes(self, store: Store) -> None:
        """Notes come in by `note` only."""
        opened = await open_leased(store, sample())
        saved = await store.save(replace(opened, notes=(charged_note(),)), token=token_of(opened), keep_lease=True)
        assert saved.notes == ()
        assert (await got(store, opened.id)).notes == ()

    async def test_unseen_notes_make_the_record_due(self, store: Store, clock: ManualClock) -> None:
        """A holder who ends its lease without having seen a note leaves the record due at once."""
        opened = await open_leased(store, sample())
        await store.note(opened.id, charged_note(), namespace=SHOP)
        saved = await store.save(replace(opened, state=State.FINISHED, due_at=None), token=token_of(opened), keep_lease=False)
        assert saved.due_at == clock.now()
        assert [each.id for each in await take(store)] == [opened.id]

    async def test_seen_notes_do_not_make_it_due(self, store: Store) -> None:
        """A holder who has folded every note may end with nothing due."""
        opened = await open_leased(store, sample())
        await store.note(opened.id, charged_note(), namespace=SHOP)
        saved = await store.save(replace(opened, due_at=None, notes_seen=1), token=token_of(opened), keep_lease=False)
        assert saved.due_at is None
        assert await take(store) == ()

    async def test_kept_lease_leaves_the_due_time_to_the_holder(self, store: Store) -> None:
        """While the holder goes on, its own due time stands: it sees the notes in the answer."""
        opened = await open_leased(store, sample())
        await store.note(opened.id, charged_note(), namespace=SHOP)
        saved = await store.save(replace(opened, due_at=None), token=token_of(opened), keep_lease=True)
        assert saved.due_at is None

    async def test_gone_removes_the_record(self, store: Store) -> None:
        """A released record is no longer there, under any of its names."""
        opened = await open_leased(store, sample(session="s"))
        await store.save(opened, token=token_of(opened), keep_lease=False, gone=True)
        assert await store.get(opened.id) is None
        assert (await store.tally(SHOP)).operations == {}

    async def test_gone_with_unseen_notes_is_saved(self, store: Store, clock: ManualClock) -> None:
        """A record about which an unseen fact came in is not removed but saved, and due."""
        opened = await open_leased(store, sample())
        await store.note(opened.id, charged_note(), namespace=SHOP)
        saved = await store.save(replace(opened, why="released"), token=token_of(opened), keep_lease=False, gone=True)
        assert (saved.why, saved.due_at, saved.lease) == ("released", clock.now(), None)
        assert await store.get(opened.id) == saved

    async def test_claims_may_be_given_up(self, store: Store) -> None:
        """A claim that is missing from a saved record is free for others."""
        opened = await open_leased(store, sample("a", claims=("basket", "owner")))
        saved = await store.save(replace(opened, claims=("owner",)), token=token_of(opened), keep_lease=True)
        assert saved.claims == ("owner",)
        await open_leased(store, sample("b", claims=("basket",)))

    async def test_claims_are_not_taken_by_a_save(self, store: Store) -> None:
        """A save cannot take a claim back that went to another record, nor a new one."""
        old = await open_leased(store, sample("a", claims=("basket",)))
        await store.open(sample("b", claims=("basket",)), holder="h", attempt="b", lease_seconds=None, superseding=[seen(old)])
        saved = await store.save(replace(old, claims=("basket", "fresh")), token=token_of(old), keep_lease=True)
        assert saved.claims == ()
        assert await store.get(old.id) == saved

    async def test_updated_at_is_the_store_s_clock(self, store: Store, clock: ManualClock) -> None:
        """Each save is stamped by the store's clock."""
        opened = await open_leased(store, sample())
        clock.advance(5)
        assert (await store.save(opened, token=token_of(opened), keep_lease=True)).updated_at == clock.now()

    async def test_renew_lengthens_many_leases(self, store: Store, clock: ManualClock) -> None:
        """One call renews every lease of a process, and reports those that are lost or gone."""
        mine = [await open_leased(store, sample(name)) for name in "abc"]
        lost = await open_leased(store, sample("lost"))
        clock.advance(LEASE_SECONDS - 1)
        tokens = {each.id: token_of(each) for each in mine} | {lost.id: token_of(lost) + 1_000_000, sample("none").id: 1}
        assert await store.renew(tokens, lease_seconds=LEASE_SECONDS) == {lost.id, sample("none").id}
        clock.advance(2)
        assert [each.id for each in await take(store)] == [lost.id]

    async def test_renewed_record_is_the_same_record(self, store: Store, clock: ManualClock) -> None:
        """Renewing changes the end of the lease and nothing else: neither token nor revision."""
        opened = await open_leased(store, sample())
        clock.advance(5)
        await store.renew({opened.id: token_of(opened)}, lease_seconds=LEASE_SECONDS)
        renewed = await got(store, opened.id)
        assert opened.lease is not None
        assert renewed == replace(opened, lease=replace(opened.lease, until=clock.now() + LEASE_SECONDS))

    async def test_renew_is_refused_after_the_record_went_to_another(self, store: Store, clock: ManualClock) -> None:
        """A process that slept through its lease learns so at the next heartbeat."""
        opened = await open_leased(store, sample())
        clock.advance(LEASE_SECONDS)
        await seize(store, opened)
        assert await store.renew({opened.id: token_of(opened)}, lease_seconds=LEASE_SECONDS) == {opened.id}

    async def test_renew_of_nothing_is_nothing(self, store: Store) -> None:
        """A heartbeat without leases asks for nothing and loses nothing."""
        assert await store.renew({}, lease_seconds=LEASE_SECONDS) == frozenset()

    @pytest.mark.parametrize("outcome", [Declined(code="51"), NeedsShopper("3ds", "https://bank.example/step"), Charged(1, "JPY")])
    async def test_outcomes_of_every_kind_survive(self, store: Store, outcome: Any) -> None:
        """Sends and notes bring back the very outcome that was written."""
        opened = await open_leased(store, sample())
        await store.save(replace(opened, sends=(charge_send(outcome=outcome),)), token=token_of(opened), keep_lease=True)
        note = Note("e", NoteKind.OUTCOME, START, "look-up", "key-1", outcome, through=3, generation=2, text="by hand")
        await store.note(opened.id, note, namespace=SHOP)
        stored = await got(store, opened.id)
        assert (stored.sends[0].outcome, stored.notes) == (outcome, (note,))
