"""`take` and `seize`: how a record gets its next holder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cxguard.core.operation import RECORD_VERSION, Operation, State
from cxguard.stores.base import TAKE_MAX, Match, Seen, Store
from cxguard.testing.clock import START, ManualClock
from cxguard.testing.contract.base import (
    LEASE_SECONDS,
    PAY,
    SHOP,
    ContractBase,
    got,
    open_leased,
    put,
    queued,
    race,
    sample,
    seen,
    seize,
    take,
    token_of,
)


@pytest.mark.asyncio
class TakingContract(ContractBase):
    async def test_most_overdue_comes_first(self, store: Store) -> None:
        """`take` gives the records in the order in which they became due."""
        for name, ago in (("b", 20), ("c", 10), ("a", 30)):
            await put(store, queued(name, due_at=START - ago))
        assert [each.id for each in await take(store)] == [sample(name).id for name in "abc"]

    async def test_take_is_limited_and_goes_on(self, store: Store) -> None:
        """No more than *limit* records are leased by one call; the next call gets the next ones."""
        for n in range(5):
            await put(store, queued(f"n{n}", due_at=START - 10 + n))
        first, second, third = await take(store, limit=2), await take(store, limit=2), await take(store, limit=2)
        assert [each.id for each in first + second + third] == [sample(f"n{n}").id for n in range(5)]

    async def test_taken_record_has_a_lease_of_its_own(self, store: Store, clock: ManualClock) -> None:
        """A taken record carries the worker's lease, and is stored so."""
        await put(store, queued("a"))
        (taken,) = await take(store)
        assert taken.lease is not None
        assert (taken.lease.holder, taken.lease.until) == ("worker", clock.now() + LEASE_SECONDS)
        assert await store.get(taken.id) == taken

    async def test_record_that_is_not_due_waits(self, store: Store, clock: ManualClock) -> None:
        """A record is left alone until its due time, and then taken."""
        await put(store, queued("a", due_at=START + 5))
        assert await take(store) == ()
        clock.advance(5)
        assert len(await take(store)) == 1

    async def test_record_without_a_due_time_is_never_taken(self, store: Store, clock: ManualClock) -> None:
        """Nothing is due about a record without a due time."""
        await put(store, queued("a", due_at=None))
        clock.advance(10 * 365 * 86_400)
        assert await take(store) == ()

    async def test_live_lease_is_left_alone(self, store: Store, clock: ManualClock) -> None:
        """A due record that somebody holds is not taken."""
        opened = await open_leased(store, sample())
        await store.save(replace(opened, due_at=START - 100), token=token_of(opened), keep_lease=True)
        clock.advance(LEASE_SECONDS - 1)
        assert await take(store) == ()

    async def test_lapsed_lease_is_taken_in_any_state(self, store: Store, clock: ManualClock) -> None:
        """What a dead process held is taken over, with a higher token."""
        opened = await open_leased(store, sample())
        clock.advance(LEASE_SECONDS)
        (taken,) = await take(store)
        assert taken.id == opened.id
        assert token_of(taken) > token_of(opened)

    async def test_what_was_left_behind_is_marked(self, store: Store, clock: ManualClock) -> None:
        """A lease that follows a lapsed one says so, as often as it happens; one that follows an end, or none, does not."""
        await put(store, queued("a"))
        marks = []
        for _ in range(3):
            (taken,) = await take(store)
            marks.append(taken.left_behind)
            assert await store.get(taken.id) == taken
            clock.advance(LEASE_SECONDS)
        (taken,) = await take(store)
        await store.save(replace(taken, due_at=clock.now()), token=token_of(taken), keep_lease=False)
        (taken,) = await take(store)
        assert [*marks, taken.left_behind] == [False, True, True, False]

    async def test_other_namespaces_and_rules_are_left_alone(self, store: Store) -> None:
        """Only records of my namespace and rules are given to me."""
        await put(store, queued("a", namespace="other"))
        await put(store, queued("b", rule="refund"))
        await put(store, queued("c"))
        assert [each.id for each in await take(store)] == [sample("c").id]
        assert [each.id for each in await take(store, rules=("refund", "none"))] == [sample("b").id]
        assert await take(store, rules=()) == ()

    async def test_several_rules_share_one_order(self, store: Store) -> None:
        """Across rules, too, the most overdue comes first, and the limit is for all together."""
        for n, rule in enumerate(("pay", "refund", "pay", "refund")):
            await put(store, queued(f"n{n}", rule=rule, due_at=START - 10 + n))
        taken = await take(store, rules=("refund", "pay"), limit=3)
        assert [each.id for each in taken] == [sample(f"n{n}").id for n in range(3)]

    async def test_record_of_a_newer_version_is_never_leased(self, store: Store, clock: ManualClock) -> None:
        """A record written by a newer cxguard is neither taken nor seized, and does not block those behind it."""
        newer = await put(store, queued("a", due_at=START - 10, version=RECORD_VERSION + 1))
        await put(store, queued("b"))
        assert [each.id for each in await take(store, limit=1)] == [sample("b").id]
        assert await take(store, limit=1) == ()
        assert not (await seize(store, newer)).won

    async def test_race_of_workers_shares_the_records(self, store: Store) -> None:
        """Many workers at once: each record goes to exactly one of them."""
        for n in range(40):
            await put(store, queued(f"n{n}"))
        answers = await race(lambda n: take(store, limit=3), callers=20)
        taken = [each for answer in answers for each in answer]
        assert sorted(each.id for each in taken) == sorted(sample(f"n{n}").id for n in range(40))
        assert len({token_of(each) for each in taken}) == 40

    async def test_takes_at_once_lease_each_record_to_whoever_gets_it(self, store: Store) -> None:
        """A store may serve many takes together: each worker gets no more than it asked for, under its own name."""
        for n in range(30):
            await put(store, queued(f"n{n}"))

        async def work(n: int) -> tuple[Operation, ...]:
            return await store.take(namespace=SHOP, rules=[PAY], holder=f"w{n}", lease_seconds=LEASE_SECONDS, limit=n % 3 + 1)

        answers = await race(work, callers=10)
        assert any(answers)
        for n, taken in enumerate(answers):
            assert len(taken) <= n % 3 + 1
            assert all(each.lease is not None and each.lease.holder == f"w{n}" for each in taken)
            assert [await got(store, each.id) for each in taken] == list(taken)

    @pytest.mark.parametrize("limit", [0, -1, TAKE_MAX + 1])
    async def test_senseless_limit_of_a_take_is_refused(self, store: Store, limit: int) -> None:
        """A take asks for 1 to `TAKE_MAX` records."""
        with pytest.raises(ValueError, match="limit"):
            await take(store, limit=limit)

    async def test_rules_given_as_one_string_are_refused(self, store: Store) -> None:
        """A string is a sequence of letters, never meant as rules."""
        with pytest.raises(ValueError, match="rules"):
            await store.take(namespace=SHOP, rules=PAY, holder="w", lease_seconds=LEASE_SECONDS, limit=1)


@pytest.mark.asyncio
class SeizingContract(ContractBase):
    async def test_free_record_is_seized(self, store: Store, clock: ManualClock) -> None:
        """A record that nobody holds, and that is as it was seen, goes to who asks."""
        stored = await put(store, sample())
        answer = await seize(store, stored)
        assert (answer.won, answer.leased, answer.match, answer.now) == (True, True, Match.ID, clock.now())
        assert await store.get(stored.id) == answer.operation
        assert answer.operation.revision > stored.revision

    async def test_live_lease_is_never_seized(self, store: Store, clock: ManualClock) -> None:
        """A live lease can only be asked to stop."""
        opened = await open_leased(store, sample())
        clock.advance(LEASE_SECONDS - 0.5)
        answer = await seize(store, opened)
        assert (answer.won, answer.leased, answer.operation) == (False, True, opened)

    async def test_lapsed_lease_is_seized(self, store: Store, clock: ManualClock) -> None:
        """A lease that has run out gives way, and the new token is higher."""
        opened = await open_leased(store, sample())
        clock.advance(LEASE_SECONDS)
        answer = await seize(store, opened)
        assert answer.won
        assert token_of(answer.operation) > token_of(opened)

    async def test_changed_record_is_not_seized(self, store: Store) -> None:
        """A record that is not as it was seen is shown as it is now, and not leased."""
        opened = await open_leased(store, sample())
        saved = await store.save(replace(opened, state=State.FINISHED), token=token_of(opened), keep_lease=False)
        answer = await seize(store, opened)
        assert (answer.won, answer.leased, answer.operation) == (False, False, saved)

    async def test_repeated_seize_is_the_same_win(self, store: Store) -> None:
        """Repeating a seize with its attempt gives the same lease token."""
        stored = await put(store, sample())
        first = await seize(store, stored, attempt="one")
        again = await seize(store, stored, attempt="one")
        other = await seize(store, stored, attempt="two")
        assert (again.won, token_of(again.operation)) == (True, token_of(first.operation))
        assert not other.won

    async def test_race_to_seize_has_one_winner(self, store: Store) -> None:
        """Of a hundred who seize the same record exactly one wins."""
        stored = await put(store, sample())
        answers = await race(lambda n: seize(store, stored, attempt=f"a{n}"))
        assert len([answer for answer in answers if answer.won]) == 1

    async def test_unknown_record_cannot_be_seized(self, store: Store) -> None:
        """There is nothing to lease: a KeyError, not a guess."""
        with pytest.raises(KeyError):
            await store.seize(Seen(sample().id, 1), holder="h", attempt="a", lease_seconds=LEASE_SECONDS)

    async def test_record_of_before_its_deletion_is_not_seized(self, store: Store) -> None:
        """A record that was removed and opened anew is another one, however alike."""
        first = await open_leased(store, sample())
        await store.save(first, token=token_of(first), keep_lease=False, gone=True)
        await put(store, sample())
        assert not (await seize(store, first)).won

    async def test_seize_takes_free_claims(self, store: Store) -> None:
        """A record that is opened again takes its names back when they are free."""
        stored = await put(store, sample("a", claims=("one",)))
        answer = await seize(store, stored, claims=("basket", "one"))
        assert answer.won
        assert sorted(answer.operation.claims) == ["basket", "one"]
        assert not (await store.open(sample("b", claims=("basket",)), holder="h", attempt="b", lease_seconds=None)).won

    async def test_seize_stops_at_a_claim_of_another(self, store: Store) -> None:
        """A claim that another record holds comes back as such, and nothing is leased."""
        stored = await put(store, sample("a"))
        other = await put(store, sample("b", claims=("basket",)))
        answer = await seize(store, stored, claims=("free", "basket"))
        assert (answer.won, answer.match, answer.claim, answer.operation) == (False, Match.CLAIM, "basket", other)
        assert await store.get(stored.id) == stored

    async def test_seize_supersedes_what_it_has_seen(self, store: Store) -> None:
        """A claim goes from a record that is still as it was seen."""
        stored = await put(store, sample("a"))
        other = await put(store, sample("b", claims=("basket",)))
        answer = await seize(store, stored, claims=("basket",), superseding=[seen(other)])
        assert (answer.won, answer.operation.claims) == (True, ("basket",))
        assert (await got(store, other.id)).claims == ()
