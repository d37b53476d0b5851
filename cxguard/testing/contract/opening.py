"""`open`: insert, or learn what is already there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.operation import Operation, State
from cxguard.stores.base import Match, Store
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
    queued,
    race,
    sample,
    seen,
    seize,
    token_of,
)


@pytest.mark.asyncio
class OpeningContract(ContractBase):
    async def test_open_of_a_free_id_wins_with_a_lease(self, store: Store, clock: ManualClock) -> None:
        """Who opens a free id holds its lease, for as long as was asked, on the store's clock."""
        opened = await store.open(sample(), holder="me", attempt="one", lease_seconds=LEASE_SECONDS)
        lease = opened.operation.lease
        assert lease is not None
        assert (opened.won, opened.leased, opened.match, opened.now) == (True, True, Match.NEW, clock.now())
        assert (lease.holder, lease.until, lease.attempt) == ("me", clock.now() + LEASE_SECONDS, "one")

    async def test_opened_record_is_stored_as_it_was_returned(self, store: Store) -> None:
        """What `open` returns is what the store holds."""
        opened = await open_leased(store, sample(claims=("basket",), session="s"))
        assert await store.get(opened.id) == opened

    async def test_race_for_a_free_id_has_one_winner(self, store: Store) -> None:
        """Of a hundred simultaneous opens of one id exactly one wins, and all others see its record."""
        answers = await race(lambda n: store.open(sample(), holder=f"h{n}", attempt=f"a{n}", lease_seconds=LEASE_SECONDS))
        winners = [answer for answer in answers if answer.won]
        assert len(winners) == 1
        assert {answer.operation.lease for answer in answers} == {winners[0].operation.lease}
        assert {answer.match for answer in answers if not answer.won} == {Match.ID}

    async def test_race_for_a_claim_has_one_winner(self, store: Store) -> None:
        """Of a hundred simultaneous opens of different ids with one claim exactly one is inserted."""
        answers = await race(
            lambda n: store.open(sample(f"n{n}", claims=("basket",)), holder="h", attempt=f"a{n}", lease_seconds=LEASE_SECONDS)
        )
        winners = [answer for answer in answers if answer.won]
        assert len(winners) == 1
        assert {answer.operation.id for answer in answers} == {winners[0].operation.id}
        assert len([n for n in range(100) if await store.get(sample(f"n{n}").id) is not None]) == 1

    async def test_second_open_is_told_the_whole_record(self, store: Store) -> None:
        """Whoever comes second learns all that is known, as it is stored: facts, times and sealed parts, byte for byte."""
        parts = {"request": bytes(range(256)), "contact": b"", "sends": (charge_send(),), "claims": ("basket",), "give_up_at": START + 0.1}
        await put(store, queued("a", due_at=START + 1e-6, **parts))
        noted = await store.note(sample().id, charged_note(), namespace=SHOP)
        second = await store.open(sample(), holder="second", attempt="second", lease_seconds=LEASE_SECONDS)
        assert (second.won, second.match, second.operation) == (False, Match.ID, noted)
        assert second.operation == await store.get(noted.id)

    async def test_repeated_attempt_is_the_same_win(self, store: Store, clock: ManualClock) -> None:
        """Repeating an open with its attempt gives the same lease token, lengthened from the repetition on."""
        first = await open_leased(store, sample(), attempt="one")
        clock.advance(10)
        again = await store.open(sample(), holder="holder", attempt="one", lease_seconds=LEASE_SECONDS)
        assert (again.won, again.match, token_of(again.operation)) == (True, Match.NEW, token_of(first))
        assert again.operation.lease is not None
        assert again.operation.lease.until == clock.now() + LEASE_SECONDS

    async def test_another_attempt_finds_the_record_leased(self, store: Store) -> None:
        """A second caller does not win, and is told that somebody is at work."""
        first = await open_leased(store, sample())
        other = await store.open(sample(fingerprint="other"), holder="other", attempt="two", lease_seconds=LEASE_SECONDS)
        assert (other.won, other.leased, other.match, other.operation) == (False, True, Match.ID, first)

    async def test_lapsed_lease_is_not_reported_as_live(self, store: Store, clock: ManualClock) -> None:
        """A lease that has run out is told as such, and `open` does not take it."""
        await open_leased(store, sample())
        clock.advance(LEASE_SECONDS)
        other = await store.open(sample(), holder="other", attempt="two", lease_seconds=LEASE_SECONDS)
        assert (other.won, other.leased) == (False, False)

    async def test_repeated_attempt_loses_after_the_record_went_to_another(self, store: Store, clock: ManualClock) -> None:
        """An attempt whose lease was given to another is no win any more."""
        first = await open_leased(store, sample(), attempt="one")
        clock.advance(LEASE_SECONDS)
        await seize(store, first)
        again = await store.open(sample(), holder="holder", attempt="one", lease_seconds=LEASE_SECONDS)
        assert (again.won, again.match) == (False, Match.ID)

    async def test_repeated_attempt_loses_after_its_lease_was_ended(self, store: Store) -> None:
        """An attempt that has finished its operation gets the finished record, not a new right to act."""
        first = await open_leased(store, sample(), attempt="one")
        await store.save(replace(first, state=State.FINISHED), token=token_of(first), keep_lease=False)
        again = await store.open(sample(), holder="holder", attempt="one", lease_seconds=LEASE_SECONDS)
        assert (again.won, again.operation.state) == (False, State.FINISHED)

    async def test_open_without_a_lease_inserts(self, store: Store) -> None:
        """A record may be inserted without a lease, and then belongs to whoever takes it."""
        opened = await store.open(sample(), holder="me", attempt="one", lease_seconds=None)
        assert (opened.won, opened.leased, opened.operation.lease) == (True, False, None)

    async def test_repeated_attempt_without_a_lease_is_the_same_win(self, store: Store) -> None:
        """A repeated insertion without a lease is still the same insertion; another attempt's is not."""
        await store.open(sample(), holder="me", attempt="one", lease_seconds=None)
        again = await store.open(sample(), holder="me", attempt="one", lease_seconds=None)
        other = await store.open(sample(), holder="me", attempt="two", lease_seconds=None)
        assert (again.won, again.match) == (True, Match.NEW)
        assert (other.won, other.match) == (False, Match.ID)

    async def test_claim_of_another_record_is_named(self, store: Store) -> None:
        """A claim that another record holds keeps the new one out, and the answer says which and whose."""
        first = await open_leased(store, sample("a", claims=("basket",)))
        other = await store.open(sample("b", claims=("owner", "basket")), holder="h", attempt="two", lease_seconds=LEASE_SECONDS)
        assert (other.won, other.match, other.claim, other.operation, other.leased) == (False, Match.CLAIM, "basket", first, True)
        assert await store.get(sample("b").id) is None

    async def test_refused_open_holds_none_of_its_claims(self, store: Store) -> None:
        """An open that failed on one claim has not taken the others."""
        await open_leased(store, sample("a", claims=("basket",)))
        await store.open(sample("b", claims=("owner", "basket")), holder="h", attempt="two", lease_seconds=LEASE_SECONDS)
        assert (await store.open(sample("c", claims=("owner",)), holder="h", attempt="three", lease_seconds=None)).won

    async def test_claim_is_free_after_its_record_went(self, store: Store) -> None:
        """A record that is removed gives its claims back."""
        first = await open_leased(store, sample("a", claims=("basket",)))
        await store.save(first, token=token_of(first), keep_lease=False, gone=True)
        await open_leased(store, sample("b", claims=("basket",)))

    async def test_superseded_record_loses_its_claim(self, store: Store) -> None:
        """A claim goes to the new record when the caller has seen the old one as it still is."""
        old = await put(store, sample("a", claims=("basket", "owner")))
        opened = await store.open(
            sample("b", claims=("basket",)), holder="h", attempt="two", lease_seconds=LEASE_SECONDS, superseding=[seen(old)]
        )
        assert opened.won
        assert (await got(store, old.id)).claims == ("owner",)

    async def test_both_claims_go_from_one_record_to_the_next(self, store: Store) -> None:
        """A purchase has two: an older one of the same basket at the same price gives both up together."""
        old = await put(store, sample("a", claims=("basket", "price")))
        new = sample("b", claims=("basket", "price"))
        opened = await store.open(new, holder="h", attempt="two", lease_seconds=LEASE_SECONDS, superseding=[seen(old)])
        assert (opened.won, opened.operation.claims) == (True, ("basket", "price"))
        assert (await got(store, old.id)).claims == ()
        again = await store.open(sample("c", claims=("price",)), holder="h", attempt="three", lease_seconds=LEASE_SECONDS)
        assert again.operation == opened.operation

    async def test_each_holder_of_a_claim_is_named_in_turn(self, store: Store) -> None:
        """Two records hold one each: with the first superseded the second is told, and with both the new one has both."""
        older = await put(store, sample("a", claims=("price",)))
        newer = await put(store, sample("b", claims=("basket",)))
        fresh, told = sample("c", claims=("basket", "price")), list[str]()
        over: list[Operation] = []
        for attempt in ("one", "two", "three"):
            superseding = [seen(each) for each in over]
            opened = await store.open(fresh, holder="h", attempt=attempt, lease_seconds=LEASE_SECONDS, superseding=superseding)
            told.append(opened.claim)
            over.append(opened.operation)
        assert (told, over[:2], opened.won) == (["basket", "price", ""], [newer, older], True)

    async def test_changed_record_is_not_superseded(self, store: Store) -> None:
        """A record that has changed since it was seen keeps its claim."""
        old = await open_leased(store, sample("a", claims=("basket",)))
        await store.save(replace(old, why="news"), token=token_of(old), keep_lease=True)
        opened = await store.open(
            sample("b", claims=("basket",)), holder="h", attempt="two", lease_seconds=LEASE_SECONDS, superseding=[seen(old)]
        )
        assert (opened.won, opened.match, opened.operation.why) == (False, Match.CLAIM, "news")

    async def test_superseding_is_counted_as_a_change(self, store: Store) -> None:
        """The superseded record has a new revision, so that nobody acts on what it was."""
        old = await put(store, sample("a", claims=("basket",)))
        await store.open(sample("b", claims=("basket",)), holder="h", attempt="two", lease_seconds=None, superseding=[seen(old)])
        assert not (await seize(store, old)).won

    async def test_id_is_looked_at_before_claims(self, store: Store) -> None:
        """A record with the same id is what counts, whoever holds the claims."""
        await put(store, sample("a"))
        await put(store, sample("b", claims=("basket",)))
        again = await store.open(sample("a", claims=("basket",)), holder="h", attempt="two", lease_seconds=LEASE_SECONDS)
        assert (again.match, again.operation.id) == (Match.ID, sample("a").id)

    @pytest.mark.parametrize("lease_seconds", [0, 0.5, -1, 3600.5, float("nan")])
    async def test_lease_of_no_sensible_length_is_refused(self, store: Store, lease_seconds: float) -> None:
        """A lease lasts 1 to 3600 seconds; anything else is a mistake in the caller, and nothing is inserted."""
        with pytest.raises(ValueError, match="lease_seconds"):
            await store.open(sample(), holder="h", attempt="a", lease_seconds=lease_seconds)
        assert await store.get(sample().id) is None

    async def test_tokens_and_revisions_are_not_reused_after_deletion(self, store: Store) -> None:
        """A record that was removed and opened again has a higher token and a higher revision than ever before."""
        first = await open_leased(store, sample())
        saved = await store.save(first, token=token_of(first), keep_lease=True)
        await store.save(saved, token=token_of(first), keep_lease=False, gone=True)
        second = await open_leased(store, sample(), attempt="two")
        assert token_of(second) > token_of(first)
        assert second.revision > saved.revision
