"""Moving orders between stores: claims, stubs, clocks, facts and processes that meet on the way."""

from __future__ import annotations

from typing import Any

import pytest
from relocationworld import guard_on, move, one
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.operation import RECORD_VERSION, Operation, State, WaitingFor, changed, money_of
from cxguard.core.relocation import (
    CLAIMED_THERE,
    FROZEN_VERSION,
    Relocation,
    Stage,
    came_from,
    difference,
    frozen,
    is_frozen,
    joined,
    thawed,
)
from cxguard.engine.relocating import Became, Relocator, verify
from cxguard.engine.whereabouts import NOTICE_SECONDS, marker_key, relocation_of
from cxguard.errors import ConfigurationError, OrdersArriving, StoreRelocated, StoreUnavailable
from cxguard.guard import Guard
from cxguard.stores.base import Level
from cxguard.stores.memory import MemoryStore
from cxguard.testing import FaultyStore, ManualClock
from cxguard.testing.clock import START
from cxguard.testing.contract.base import SHOP as SHOP_NAME
from cxguard.testing.contract.base import charged_note, got, open_leased, put, queued, sample, seen
from cxguard.testing.contract.putting import whole
from cxguard.testing.faulty_store import Fault


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def source(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def target(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


class GatheringStore(MemoryStore):
    """One that keeps together what belongs to one owner, as a Redis of many partitions does."""

    ids_led_by_owner = True


@pytest.mark.asyncio
async def test_orders_do_not_move_where_they_would_have_other_names(source: MemoryStore, clock: ManualClock) -> None:
    """An order that is sent again is found by its name: a store that names otherwise is refused before anything has moved."""
    order = await put(source, queued("a"))
    for stores in ((source, GatheringStore(clock=clock)), (GatheringStore(clock=clock), source)):
        with pytest.raises(ConfigurationError, match=r"write \?partitions=1"):
            await move(*stores)
    assert await got(source, order.id) == order
    assert (await move(GatheringStore(clock=clock), GatheringStore(clock=clock))).complete


# --- the core


def test_a_frozen_record_thaws_into_what_it_was() -> None:
    """Whole: version, times and due time too."""
    before = whole(notes_seen=2)
    cold = changed(frozen(before, seen=before, move="m"), updated_at=START)
    assert (is_frozen(cold), cold.version, cold.due_at) == (True, FROZEN_VERSION, None)
    warm = thawed(cold)
    assert changed(warm, extra=before.extra) == before
    assert (came_from(warm), is_frozen(warm)) == ("m", False)


def test_facts_that_nobody_has_folded_make_the_copy_due() -> None:
    """As they would have made the record."""
    before = changed(whole(due_at=None), notes_seen=1)
    cold = changed(frozen(before, seen=before, move="m"), updated_at=START)
    assert thawed(cold).due_at == START
    assert thawed(cold, later_seconds=60.0).due_at == START + 60.0


def test_the_frozen_version_is_newer_than_any() -> None:
    """What keeps every cxguard, of whatever version, from leasing it."""
    assert FROZEN_VERSION > RECORD_VERSION + 1_000_000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"revision": 99, "claims": ()}, ""),  # each store's own; claims may have been taken since
        ({"attempts": 99}, "differs"),
        ({"due_at": None}, "differs"),
        ({"extra": {}}, "is another record"),
        ({"updated_at": START, "attempts": 99}, ""),  # worked on since
        ({"updated_at": START, "sends": ()}, "lacks a send"),
        ({"updated_at": START, "notes": ()}, "lacks a note"),
        ({"notes": ()}, "lacks a note"),
    ],
)
def test_what_is_wrong_with_a_copy_is_said(changes: dict[str, Any], says: str) -> None:
    """Equal while it is untouched; later, nothing of its sends and proofs may be gone."""
    before = whole()
    expected = thawed(frozen(before, seen=before, move="m"))
    assert difference(expected, changed(expected, **changes)) == says
    assert difference(expected, None) == "is missing"


def test_a_mark_that_cannot_be_read_still_stands() -> None:
    """Something was moved: nobody starts there."""
    mark = Relocation(Stage.MOVING, "sqlite:///new.db", "id")
    assert Relocation.from_bytes(mark.to_bytes()) == mark
    assert Relocation.from_bytes(b"") is None
    assert Relocation.from_bytes(b"{}") == Relocation(Stage.MOVED, "another store", "")


def test_a_stub_s_facts_join_the_whole_record() -> None:
    """Each once, and due with them."""
    stub = sample(owner="", notes=(charged_note("event-1"), charged_note("event-9")), updated_at=START - 700.0)
    both = joined(stub, whole())
    assert [note.event_id for note in both.notes] == ["event-1", "event-2", "event-9"]
    assert both.due_at == START - 700.0


# --- two stores


@pytest.mark.asyncio
async def test_a_fact_that_came_to_the_new_store_first_is_kept(source: MemoryStore, target: MemoryStore) -> None:
    """The webhook already went there, and made a stub: it becomes the order."""
    await source.put(whole())
    await target.note(whole().id, charged_note("early"), namespace=SHOP_NAME)
    assert (await move(source, target)).complete
    there = await got(target, whole().id)
    assert (there.owner, [note.event_id for note in there.notes]) == ("owner", ["event-1", "event-2", "early"])
    assert await verify(source, target, namespace=SHOP_NAME) == {}


@pytest.mark.asyncio
async def test_another_order_of_the_name_is_left_to_a_person(source: MemoryStore, target: MemoryStore) -> None:
    """Both shops took it: neither is overwritten, and the move says so and is not complete."""
    await source.put(whole())
    there = await put(target, queued("a"))
    moved = await move(source, target)
    assert moved.left == {whole().reference: Became.CONFLICT}
    assert (await got(target, there.id), is_frozen(await got(source, there.id))) == (there, True)
    assert await verify(source, target, namespace=SHOP_NAME) == {whole().reference: "is another record"}
    mark = await relocation_of(source, namespace=SHOP_NAME)
    assert mark is not None and mark.stage is Stage.MOVING


@pytest.mark.asyncio
async def test_a_claim_that_has_changed_hands_since_is_given_up_there_too(source: MemoryStore, target: MemoryStore) -> None:
    """The old holder had moved when a new order took its claim in the old store."""
    await put(source, queued("a", claims=("basket",)))
    source_mark = Relocation(Stage.MOVING, "sqlite:///new.db", "id")
    await source.swap(marker_key(SHOP_NAME), revision=0, value=source_mark.to_bytes())
    await move(source, target)
    cold = await got(source, queued("a").id)
    await source.open(queued("b", claims=("basket",)), holder="x", attempt="y", lease_seconds=None, superseding=[seen(cold)])
    assert (await move(source, target)).complete
    assert (await got(target, queued("a").id)).claims == ()
    assert (await got(target, queued("b").id)).claims == ("basket",)


@pytest.mark.asyncio
async def test_an_order_that_is_over_leaves_its_claim_to_a_newer_one(source: MemoryStore, target: MemoryStore) -> None:
    """The new store was in use before: the owner's current purchase is the one there, and the old one's answer comes along."""
    old = await source.put(whole(claims=("current",), state=State.FINISHED))
    newer = await put(target, queued("b", claims=("current",)))
    assert (await move(source, target)).complete
    assert await got(target, newer.id) == newer
    moved = await got(target, old.operation.id)
    assert (moved.claims, moved.answer, money_of(moved)) == ((), old.operation.answer, money_of(old.operation))
    assert await verify(source, target, namespace=SHOP_NAME) == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("state", [queued("a"), whole(), whole(state=State.HELD, why="needs_shopper", waiting_for=WaitingFor.SHOPPER)])
async def test_an_order_that_waits_does_not_act_beside_one_that_has_its_claim(
    source: MemoryStore, target: MemoryStore, state: Operation
) -> None:
    """Both could charge: it comes along, and a person says there which one stands. Frozen in the old store it was on no desk,
    and unknown in the new one: sent again, it would have been charged."""
    cold = (await source.put(changed(state, claims=("current",)))).operation
    newer = await put(target, queued("b", claims=("current",)))
    moved = await move(source, target)
    there = await got(target, cold.id)
    assert (moved.complete, moved.beside, await got(target, newer.id)) == (True, [cold.reference], newer)
    assert (there.state, there.waiting_for, there.why, there.claims) == (State.HELD, WaitingFor.AGENT, CLAIMED_THERE, ())
    assert ([send.parcel for send in there.sends], money_of(there)) == ([None] * len(cold.sends), money_of(cold))
    assert await verify(source, target, namespace=SHOP_NAME) == {}
    assert (await move(source, target)).beside == []


@pytest.mark.asyncio
async def test_what_somebody_has_in_hand_is_waited_for_and_then_left(source: MemoryStore, target: MemoryStore) -> None:
    """A live lease is never taken: the order is named, and the next run has it."""
    await open_leased(source, sample("a"))
    moved = await move(source, target)
    assert moved.left == {sample("a").reference: Became.BUSY}
    assert await target.get(sample("a").id) is None


@pytest.mark.asyncio
async def test_a_lapsed_lease_is_no_hindrance(source: MemoryStore, target: MemoryStore, clock: ManualClock) -> None:
    """Its process died: the record moves with what it knew, and is resolved there."""
    await open_leased(source, sample("a"))
    clock.advance(31.0)
    assert (await move(source, target)).complete
    there = await got(target, sample("a").id)
    assert (there.state, there.lease, there.version) == (State.RUNNING, None, RECORD_VERSION)


@pytest.mark.asyncio
async def test_a_record_of_a_newer_cxguard_is_left(source: MemoryStore, target: MemoryStore) -> None:
    """Only that version knows what it means."""
    await put(source, queued("a", version=RECORD_VERSION + 1))
    moved = await move(source, target)
    assert moved.left == {queued("a").reference: Became.NEWER}


@pytest.mark.asyncio
@pytest.mark.parametrize("ahead", [-90.0, 0.0, 1.0, 90.0])
async def test_due_times_follow_the_clock_of_the_new_store(source: MemoryStore, clock: ManualClock, ahead: float) -> None:
    """An order that is due in a minute is due in a minute there."""
    other = ManualClock(START + ahead)
    target = MemoryStore(clock=other)
    await source.put(whole(notes_seen=2))
    assert (await move(source, target)).complete
    due_at = (await got(target, whole().id)).due_at
    assert due_at == START + 50.0 + (ahead if abs(ahead) > 2.0 else 0.0)
    assert await verify(source, target, namespace=SHOP_NAME) == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize(("which", "verb"), [("source", "seize"), ("source", "save"), ("source", "swap"), ("target", "put")])
async def test_a_store_that_does_not_answer_costs_a_run_and_no_order(
    source: MemoryStore, target: MemoryStore, clock: ManualClock, which: str, verb: str, fault: Fault
) -> None:
    """Whether it happened or not: the next run ends it, each order once."""
    for name in ("a", "b", "c"):
        await source.put(whole(name))
    broken = FaultyStore(source if which == "source" else target)
    broken.plan(verb, fault, times=3)
    try:
        await move(broken if which == "source" else source, broken if which == "target" else target)
    except StoreUnavailable:
        pass
    clock.advance(31.0)
    assert (await move(source, target)).complete
    assert await verify(source, target, namespace=SHOP_NAME) == {}
    assert (await target.tally(SHOP_NAME)).operations == {("queued", "charged"): 3}


@pytest.mark.asyncio
async def test_a_move_cannot_go_on_to_another_place(source: MemoryStore, target: MemoryStore, clock: ManualClock) -> None:
    """Half of the orders here and half there would be worse than none."""
    await put(source, queued("a"))
    await move(source, target)
    with pytest.raises(ConfigurationError, match=r"go to sqlite:///new\.db: run it with that address"):
        await move(source, MemoryStore(clock=clock), to="sqlite:///other.db")


class Forgetful(MemoryStore):
    """One whose acknowledgement a failover may forget."""

    level = Level.BEST_EFFORT


@pytest.mark.asyncio
async def test_a_store_that_may_forget_is_moved_only_from_a_stopped_shop(target: MemoryStore, clock: ManualClock) -> None:
    """It could forget that an order was given up, while a process still works on it."""
    source = Forgetful(clock=clock)
    names = {"namespace": SHOP_NAME, "origin": "sqlite:///old.db", "to": "sqlite:///new.db"}
    running = Relocator(source, target, **names, notice_seconds=5.0, patience_seconds=0.0)
    with pytest.raises(ConfigurationError, match="say --stopped"):
        await running.run()
    assert (await move(source, target)).complete


# --- a shop that still runs


async def mark(store: MemoryStore, stage: Stage) -> None:
    key = marker_key(SHOP_NAME)
    there = await store.load(key)
    assert await store.swap(key, revision=there.revision, value=Relocation(stage, "sqlite:///new.db", "id").to_bytes())


@pytest.mark.asyncio
async def test_a_running_shop_notices_and_begins_nothing_any_more(source: MemoryStore, clock: ManualClock) -> None:
    """Within seconds: no order is opened, taken or seized, and it is told as a store that is away."""
    async with guard_on(source, clock) as guard:
        assert await guard.run(one, purpose="order", key="1", owner="ann") == 1
        await mark(source, Stage.MOVING)
        clock.advance(NOTICE_SECONDS)
        with pytest.raises(StoreRelocated, match=r"go to sqlite:///new\.db"):
            await guard.run(one, purpose="order", key="2", owner="ann")
        with pytest.raises(StoreRelocated):
            await guard.queue().run_once()


@pytest.mark.asyncio
async def test_a_fact_is_taken_in_until_the_move_has_ended(source: MemoryStore, clock: ManualClock) -> None:
    """While it goes on it is carried; afterwards its sender is told to come again, and finds the new store."""
    stub = await source.note("unknown", charged_note("first"), namespace=SHOP_NAME)
    async with guard_on(source, clock) as guard:
        await mark(source, Stage.MOVING)
        await guard.engine.operations.note(stub.id, charged_note("second"))
        await mark(source, Stage.MOVED)
        with pytest.raises(StoreRelocated):
            await guard.engine.operations.note(stub.id, charged_note("third"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("stage", "error"), [(Stage.MOVING, StoreRelocated), (Stage.MOVED, ConfigurationError), (Stage.ARRIVING, OrdersArriving)]
)
async def test_no_guard_starts_on_a_store_that_is_moved(
    source: MemoryStore, clock: ManualClock, stage: Stage, error: type[Exception]
) -> None:
    """In the middle of it: later. Afterwards: never, and the text has the line to write."""
    await mark(source, stage)
    with pytest.raises(error, match=r"new\.db"):
        await guard_on(source, clock).start()


@pytest.mark.asyncio
async def test_the_store_is_asked_about_it_once_in_a_while(source: MemoryStore, clock: ManualClock) -> None:
    """Not for every order."""
    counting = FaultyStore(source)
    async with Guard(counting, shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock) as guard:
        before = counting.calls["load"]
        for number in range(20):
            await guard.run(one, purpose="order", key=str(number), owner="ann")
        assert counting.calls["load"] == before + 1
