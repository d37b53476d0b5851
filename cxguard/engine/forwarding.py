"""The duty that brings to the store what waits in the spool. Idempotent: it may die at any point, and be done twice.

Facts go first, so that a wish to cancel, or a webhook, is in the store before the order that it is about. An order is then
opened there, or merged with what is there (`core.spooling.merge`), in one write that carries the order's mark: whoever comes
again after a crash sees that it is done. Last, it is erased from the spool.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from cxguard.clock import boot_id
from cxguard.core.answer import WHY_REPLACED
from cxguard.core.decide import Policy, Submit
from cxguard.core.fingerprint import same_request
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State, changed, ended_at, refolded
from cxguard.core.outcomes import Charged, Refunded
from cxguard.core.snapshot import Snapshot
from cxguard.core.spooling import (
    CHANGES,
    CLOCK_STEP_SECONDS,
    CONFIRMED,
    WHY_STORE_AWAY,
    Merge,
    age_of,
    arriving,
    is_order,
    is_second_name,
    mark_of,
    merge,
    merged,
    merged_before,
    second_name,
)
from cxguard.engine.cold import open_member, seal_member
from cxguard.engine.engine import Engine
from cxguard.engine.looking import expected
from cxguard.engine.operations import twice
from cxguard.engine.pausing import pause
from cxguard.engine.rulings import policy_of
from cxguard.engine.spool import Spool
from cxguard.errors import BadRequest, LeaseLost, SealError, StoreError
from cxguard.logs import get_logger, where_raised
from cxguard.rules import Rule
from cxguard.stores.base import Match, Opened, Query, Seen

_log = get_logger("forwarding")

LOOK_SECONDS = 1.0  # between two looks at the spool
AT_ONCE = 16  # items brought to the store at the same time
WAIT_SECONDS = 2.0  # before a record that somebody acts on is looked at again
FAILED_SECONDS = 60.0  # before one that failed in a way nobody foresaw is tried again
TURNS_MAX = 6  # looks at one record: each turn means that somebody else moved it
LEASE_SECONDS = 30.0  # of a record in the store while it is merged
KEEP_SECONDS = 2_592_000.0  # of a record whose rule is gone: what rules say by default
SENT_BEFORE_SECONDS = 5.0  # a "no" is believed only about sends so much older than it: clocks differ
_STRICT = Policy(double_click_seconds=0.0, duplicate_window_seconds=float("inf"), can_resolve=False)  # of a rule that is gone


class End(StrEnum):
    """What became of one item."""

    QUEUED = "queued"  # a new order in the store
    MERGED = "merged"  # with the order that was there
    NOTED = "noted"  # facts alone
    WAITING = "waiting"
    AWAY = "away"
    FAILED = "failed"
    TAKEN = "taken"  # another process has it


LookAtEnd = Callable[[Operation], Awaitable[Operation]]
FORWARDED = frozenset({End.QUEUED, End.MERGED, End.NOTED})


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What one round did."""

    forwarded: int = 0
    waiting: int = 0
    failed: int = 0
    away: int = 0


class Forwarding:
    """Forwards one spool. Any number of processes may do so.

    Args:
        rules: by name: their policy decides as it would have, had the store been there.
        look_at_end: finds out whether an order that is over, by an older copy of it, was paid (`FallbackQueue.look_at_end`).
    """

    def __init__(self, engine: Engine, spool: Spool, *, rules: Mapping[str, Rule], look_at_end: LookAtEnd) -> None:
        self._engine = engine
        self._spool = spool
        self._rules = rules
        self._look_at_end = look_at_end
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to forward in the running loop."""
        self._task = asyncio.create_task(self._live(), name="cxguard-forwarding")

    async def stop(self) -> None:
        """Finish the round in hand."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def run_once(self, *, limit: int = AT_ONCE) -> Forwarded:
        """Forward what is due, the oldest first, at most *limit*."""
        due = await self._spool.due(limit=limit)
        if not due:
            return Forwarded()
        try:
            await self._engine.operations.whereabouts.check()  # what waits is for the store that the orders go to
            ahead_seconds = await self._engine.operations.store.clock() - self._engine.clock.now()
        except StoreError:
            return Forwarded(away=len(due))
        facts, orders = [item for item in due if not is_order(item)], [item for item in due if is_order(item)]
        ends = [end for items in (facts, orders) for end in await asyncio.gather(*(self._attend(item, ahead_seconds) for item in items))]
        return Forwarded(
            forwarded=sum(end in FORWARDED for end in ends),
            waiting=ends.count(End.WAITING),
            failed=ends.count(End.FAILED),
            away=ends.count(End.AWAY),
        )

    async def _live(self) -> None:
        while not self._stopping.is_set():
            try:
                done = await self.run_once()
            except StoreError as error:  # the spool's own disk
                _log.warning("forwarding.spool_unreadable", why=str(error)[:200])
                done = Forwarded()
            except Exception as error:  # noqa: BLE001 - it must outlive one bad round
                _log.error("forwarding.failed", **where_raised(error))
                done = Forwarded()
            await pause(self._stopping, seconds=0.0 if done.forwarded else LOOK_SECONDS)

    async def _attend(self, seen: Operation, ahead_seconds: float) -> End:
        """One item must not keep the others back."""
        item = await self._spool.seize(seen)
        if item is None:
            return End.TAKEN
        try:
            end = await self._forward(item, ahead_seconds)
        except StoreError:
            await self._spool.give_back(item, seconds=0.0)
            return End.AWAY
        except Exception as error:  # noqa: BLE001 - whatever it is about this one
            _log.error("forwarding.item_failed", reference=item.reference, **where_raised(error))
            await self._spool.give_back(item, seconds=FAILED_SECONDS)
            return End.FAILED
        if end is End.WAITING:
            await self._spool.give_back(item, seconds=WAIT_SECONDS)
            return end
        await self._spool.erase(item)
        age_seconds = max(0.0, self._engine.clock.now() - item.created_at)
        self._engine.operations.emit("spool.forwarded", item, became=end, age_seconds=round(age_seconds, 3))
        return end

    async def _forward(self, item: Operation, ahead_seconds: float) -> End:
        clock = self._engine.clock
        for note in item.notes:
            await self._note(item, note, now=clock.now(), ahead_seconds=ahead_seconds)
        if not is_order(item):
            return End.NOTED
        age_seconds = age_of(item, now=clock.now(), boot=boot_id(), steady=clock.monotonic())
        fresh = arriving(item, age_seconds=age_seconds, there=clock.now() + ahead_seconds)
        return await self._merge(item, fresh, came_at=None if age_seconds is None else fresh.created_at)

    # --- facts

    async def _note(self, item: Operation, note: Note, *, now: float, ahead_seconds: float) -> None:
        """A fact goes to the record that it is about: by its id, or else by the gateway key that it names."""
        operations = self._engine.operations
        there = await operations.store.get(item.id)
        if there is None and note.gateway_key is not None:
            page = await operations.store.search(Query(operations.namespace, gateway_key=note.gateway_key, limit=1))
            there = next(iter(page.operations), None)
        set_back = note.at > now + CLOCK_STEP_SECONDS
        note = replace(note, at=min(note.at, now) + ahead_seconds)
        note = _for_record(note, there, believed_until=float("-inf") if set_back else note.at - SENT_BEFORE_SECONDS)
        noted = await operations.note(there.id if there is not None else item.id, note)
        if note.kind is NoteKind.OUTCOME:
            operations.emit("payment.noted", noted, source=note.source, kind=note.kind, stub=there is None)

    # --- orders

    async def _merge(self, item: Operation, fresh: Operation, *, came_at: float | None) -> End:
        over: tuple[Seen, ...] = ()
        for _ in range(TURNS_MAX):
            opened = await self._open(fresh, over)
            there = opened.operation
            if opened.won and not is_second_name(there):
                self._engine.operations.emit("order.queued", there, why=WHY_STORE_AWAY, due_at=there.due_at, give_up_at=there.give_up_at)
                return End.QUEUED
            if opened.won or merged_before(there, fresh):  # it was written before, and what follows was cut short
                return await self._merged(fresh, there)
            found, plan = there, self._plan(item, opened, came_at)
            if plan in CHANGES:
                seized = await self._seize(there, fresh, over)
                if seized is not None and seized.won and await self._change(plan, there, item, fresh, held=seized.operation):
                    return await self._merged(fresh, there)
                if seized is None or seized.match is not Match.CLAIM:
                    continue  # it has moved
                found, plan = seized.operation, self._plan(item, seized, came_at)  # a third record has this purchase
                plan = plan if plan in (Merge.WAIT, Merge.OVER) else Merge.REMARK
            passed = await self._passed_over(found) if plan is Merge.OVER else ()
            if plan is Merge.WAIT or passed is None:
                return End.WAITING
            if plan is not Merge.OVER:  # ours stays as it is
                for each in {there.id: there, found.id: found}.values():
                    await self._remark(each, fresh, plan)
                return await self._merged(fresh, there)
            over = (*over, *passed)
        return End.WAITING

    def _plan(self, item: Operation, opened: Opened, came_at: float | None) -> Merge:
        there, claim = opened.operation, opened.match is Match.CLAIM
        submit, policy = self._submit(item, there), self._policy(item)
        if came_at is not None:  # what the clock was set ahead after it came is in its age already
            came_at -= self._engine.operations.leaps.seconds_since(ended_at(there), until=came_at)
        return merge(there, came_at, submit, policy, leased=opened.leased, claim=claim, cancelled=item.cancel_asked)

    async def _passed_over(self, holder: Operation) -> tuple[Seen, ...] | None:
        """The record that holds the purchase, to open over it; nothing, if it has moved. None: nobody has answered whether it was
        paid, or somebody is at it: the spool keeps the order until then."""
        if not await self._may_be_paid(holder):
            return (Seen(holder.id, holder.revision),)
        return None if await self._may_be_paid(await self._look_at_end(holder)) else ()

    async def _may_be_paid(self, there: Operation) -> bool:
        """Whether the record that holds the purchase may be an older copy of a paid one, and somebody can be asked: as a press
        under another key is decided."""
        rule = self._rules.get(there.rule)
        policy = policy_of(rule) if rule is not None else None
        asks = policy is not None and policy.can_ask and policy.current_seconds is None
        await self._engine.epochs.look()
        return asks and there.state is not State.QUEUED and self._engine.epochs.doubts(there)

    async def _open(self, fresh: Operation, over: tuple[Seen, ...]) -> Opened:
        operations = self._engine.operations
        call = partial(operations.store.open, fresh, holder=operations.holder, attempt=mark_of(fresh), lease_seconds=None, superseding=over)
        return await twice(call)

    async def _seize(self, there: Operation, fresh: Operation, over: tuple[Seen, ...]) -> Opened | None:
        operations = self._engine.operations
        seize = partial(
            operations.store.seize,
            Seen(there.id, there.revision),
            holder=operations.holder,
            attempt=secrets.token_hex(8),
            lease_seconds=LEASE_SECONDS,
            claims=fresh.claims,
            superseding=over,
        )
        try:
            return await twice(seize)
        except KeyError:
            return None

    async def _change(self, plan: Merge, there: Operation, item: Operation, fresh: Operation, *, held: Operation) -> bool:
        """Write the merge into the record *there*, under its lease. False: it has moved, so look again."""
        operations = self._engine.operations
        entry = operations.entry("order.queued", why=WHY_REPLACED if plan is Merge.REPLACE else WHY_STORE_AWAY, merge=plan)
        entry = replace(entry, at=fresh.created_at)
        same, request = self._submit(item, there).same_request, self._request_for(held, fresh)
        record = merged(plan, changed(held, claims=there.claims), fresh, same=same, request=request, entry=entry)
        await self._engine.epochs.look()
        if self._engine.epochs.doubts(held):  # what it was before may be paid, in writes that the store has lost
            record = changed(record, claims=held.claims)
        try:
            saved = await operations.store.save(
                refolded(record, updated_at=operations.clock.now()), token=held.lease.token if held.lease else 0, keep_lease=False
            )
        except LeaseLost:
            return False
        operations.emit("order.queued", saved, why=saved.why, due_at=saved.due_at, give_up_at=saved.give_up_at)
        return True

    async def _merged(self, fresh: Operation, there: Operation) -> End:
        """The record speaks for this order; where it has another name, ours says which."""
        ours = there
        if there.id != fresh.id:
            rule = self._rules.get(fresh.rule)
            keep_seconds = rule.keep_seconds if rule is not None else KEEP_SECONDS
            doubted = await self._engine.epochs.lost_since() is not None
            ours = (await self._open(second_name(fresh, there, keep_seconds=keep_seconds, doubted=doubted), ())).operation
        if is_second_name(ours) and ours.state is State.HELD:  # a charge that is found goes back: the purchase is another order's
            wish = Note(f"cancel:{ours.generation}", NoteKind.CANCEL, self._engine.clock.now(), source="spool", generation=ours.generation)
            await self._engine.operations.note(ours.id, wish)
        return End.MERGED

    async def _remark(self, there: Operation, fresh: Operation, plan: Merge) -> None:
        if plan is Merge.REMARK:
            text = f"another request for this order came while the store was away, as {fresh.reference}: it was neither kept nor charged"
            note = Note(f"spool:{mark_of(fresh)}", NoteKind.REMARK, fresh.created_at, source="spool", text=text)
            await self._engine.operations.note(there.id, note)

    def _policy(self, item: Operation) -> Policy:
        rule = self._rules.get(item.rule)
        return policy_of(rule) if rule is not None else _STRICT

    def _submit(self, item: Operation, there: Operation) -> Submit:
        return Submit(
            owner=item.owner,
            client_key=item.client_key,
            same_request=self._same(item, there),
            amount_minor=item.amount_minor,
            currency=item.currency,
            confirmed=item.extra.get(CONFIRMED),
            basket=item.basket,
            claims=item.claims,
        )

    def _same(self, item: Operation, there: Operation) -> bool:
        rule = self._rules.get(item.rule)
        if there.fingerprint == item.fingerprint or item.request is None or rule is None:
            return there.fingerprint == item.fingerprint
        try:
            sent = Snapshot.from_bytes(open_member(self._engine.seal, item, "request", item.request))
            return same_request(self._engine.naming, there.fingerprint, sent, ignore=rule.ignore_fields)
        except (SealError, BadRequest):
            return False

    def _request_for(self, held: Operation, fresh: Operation) -> bytes | None:
        """What the order kept of its request, sealed for the record that it is merged into."""
        if fresh.request is None or fresh.id == held.id:
            return fresh.request
        return seal_member(self._engine.seal, held, "request", open_member(self._engine.seal, fresh, "request", fresh.request))


def _for_record(note: Note, there: Operation | None, *, believed_until: float) -> Note:
    """The fact as it is meant for the record that is there now; a "no" is about what was sent until then, and no later."""
    if note.kind is NoteKind.CANCEL:
        generation = there.generation if there is not None else note.generation
        return replace(note, generation=generation, event_id=f"cancel:{generation}")
    if note.outcome is None or there is None:
        return note
    outcome = expected(there, note.outcome, note.gateway_key)
    if isinstance(outcome, Charged | Refunded) or note.through is not None:
        return replace(note, outcome=outcome)
    sent = (send.number for send in there.sends if send.key == note.gateway_key and send.sent_at <= believed_until)
    return replace(note, outcome=outcome, through=max(sent, default=0))
