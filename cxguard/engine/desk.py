"""What a person at the desk may do with an order: through the one lease, never around it.

An action takes the lease of a record that is free and still as the person saw it, or uses the lease that this person
has taken before. A live lease of somebody else is never broken: its holder can only be asked to stop. What the core
forbids is refused with the reason. Everything leaves a line: who, when, what, and why.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from cxguard.core.desk import Action, Hands, cancels_at_once, case_of, offers
from cxguard.core.lost import may_come_back
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.names import normalise_reference
from cxguard.core.operation import Entry, Move, Operation, State, changed, money_of, move, refolded, remember
from cxguard.core.outcomes import outcome_kind
from cxguard.core.wishes import WHY_BY_HAND, is_late
from cxguard.engine.casefile import Actor, Became, CaseFile, Word, busy, fact_of, hands_of, moved_on, refused, what_follows
from cxguard.engine.end_record import without_parcels
from cxguard.engine.engine import Engine
from cxguard.engine.leases import MARGIN, HeldLease
from cxguard.engine.library import Purpose
from cxguard.engine.operations import twice
from cxguard.engine.rulings import Rulings
from cxguard.errors import IllegalMove, LeaseLost, NoSuchOrder
from cxguard.rules import Rule
from cxguard.stores.base import Query, Seen

HANDS_SECONDS = 900.0  # how long an order stays in a person's hands: a phone call; taking it again begins anew
ACT_SECONDS = 30.0  # the lease of one action: two writes to the store


class Desk:
    """What a person may do with the orders of one guard.

    Every action raises `NoSuchOrder` for a reference that no order has, and `StoreUnavailable`; nothing was done then.
    """

    def __init__(self, engine: Engine, *, rules: Mapping[str, Rule], purposes: Mapping[str, Purpose]) -> None:
        self._engine = engine
        self._rulings = Rulings(engine, rules, purposes)

    async def find(self, reference: str) -> Operation | None:
        """The order of a reference, as somebody typed or said it. A stub without a reference is found by its id."""
        store, namespace = self._engine.operations.store, self._engine.operations.namespace
        name = normalise_reference(reference)
        if name is None:
            operation = await store.get(reference)
            return operation if operation is not None and operation.namespace == namespace else None
        query = Query(namespace=namespace, reference=name, limit=1)
        return next(iter((await store.search(query)).operations), None)

    async def look(self, reference: str, *, name: str) -> CaseFile:
        """The order, and what the person called *name* may do with it now.

        Raises:
            NoSuchOrder: there is none.
        """
        operation = await self.find(reference)
        if operation is None:
            raise NoSuchOrder(reference)
        await self._engine.epochs.look()
        return self._file(operation, name=name, now=await self._engine.operations.store.clock())

    async def take_over(self, reference: str, actor: Actor) -> Became:
        """Take a held or queued order in hand, for `HANDS_SECONDS`; again: for as long anew."""
        return await self._act(reference, actor, Action.TAKE)

    async def give_back(self, reference: str, actor: Actor) -> Became:
        """Let go of an order, unchanged."""
        return await self._act(reference, actor, Action.GIVE_BACK)

    async def requeue(self, reference: str, actor: Actor) -> Became:
        """Put a held order back into the queue: ask again, place it, or complete it."""
        return await self._act(reference, actor, Action.REQUEUE)

    async def finish(self, reference: str, actor: Actor) -> Became:
        """Close a paid order that was placed by hand."""
        return await self._act(reference, actor, Action.FINISH)

    async def cancel(self, reference: str, actor: Actor) -> Became:
        """End an order without a charge; where that is not safe yet, ask for it."""
        return await self._act(reference, actor, Action.CANCEL)

    async def resolve(self, reference: str, actor: Actor, word: Word) -> Became:
        """Say what became of a payment. It is kept as a fact, and the queue goes on from there."""
        return await self._act(reference, actor, Action.RESOLVE, word)

    async def remark(self, reference: str, actor: Actor) -> Became:
        """Write a line on the record. Needs no lease."""
        return await self._act(reference, actor, Action.REMARK)

    # --- how an action goes

    async def _act(self, reference: str, actor: Actor, action: Action, word: Word | None = None) -> Became:
        file = await self.look(reference, name=actor.name)
        if refusal := refused(file, actor, action):
            return refusal
        if action is Action.REMARK:
            return await self._remark(file, actor)
        if action is Action.CANCEL and (not cancels_at_once(file.case) or await self._may_be_lost(file.operation)):
            return await self._ask_to_cancel(file, actor)
        note = fact_of(file, actor, word, now=self._engine.clock.now()) if action is Action.RESOLVE else None
        if isinstance(note, Became):
            return note
        held = await self._lease(file, actor, seconds=HANDS_SECONDS if action is Action.TAKE else ACT_SECONDS)
        if isinstance(held, Became):
            return held
        try:
            return await self._under_lease(*held, actor, action, note)
        except (LeaseLost, IllegalMove):
            return moved_on(await self._again(file.operation))

    async def _may_be_lost(self, operation: Operation) -> bool:
        """Whether the store may have lost that it is paid, and the queue can find out."""
        asks = operation.rule in self._rulings.names and self._rulings.ways(operation).find
        return asks and may_come_back(operation, await self._engine.epochs.changed_at(), self._engine.clock.now())

    async def _under_lease(self, operation: Operation, lease: HeldLease, actor: Actor, action: Action, note: Note | None) -> Became:
        match action:
            case Action.TAKE:
                return await self._taken(operation, lease, actor)
            case Action.GIVE_BACK:
                return await self._ended(remember(operation, self._entry("order.given_back", actor)), lease, "order.given_back", actor)
            case Action.REQUEUE:
                return await self._requeued(operation, lease, actor)
            case Action.FINISH:
                return await self._finished(operation, lease, actor)
            case Action.CANCEL:
                return await self._cancelled(operation, lease, actor)
            case _:
                assert note is not None, "resolve brings a fact; a remark needs no lease"
                return await self._resolved(operation, lease, actor, note)

    async def _lease(self, file: CaseFile, actor: Actor, *, seconds: float) -> tuple[Operation, HeldLease] | Became:
        """The lease that the person has, or one for this action: only if the record is free and as it was seen."""
        operations, clock = self._engine.operations, self._engine.clock
        asked_at = clock.monotonic()
        if file.case.hands is Hands.MINE and file.lease is not None:
            return file.operation, _held(file.operation, file.lease.until - file.now, asked_at, self._engine)
        attempt = secrets.token_hex(8)
        seen = Seen(file.operation.id, file.operation.revision)
        opened = await twice(lambda: operations.store.seize(seen, holder=actor.holder, attempt=attempt, lease_seconds=seconds))
        if opened.won:
            return opened.operation, _held(opened.operation, seconds, asked_at, self._engine)
        return busy(opened.operation) if opened.leased else moved_on(opened.operation)

    # --- the actions

    async def _taken(self, operation: Operation, lease: HeldLease, actor: Actor) -> Became:
        operations = self._engine.operations
        if await operations.store.renew({operation.id: lease.token}, lease_seconds=HANDS_SECONDS):
            raise LeaseLost("another one has it")
        saved = await operations.write(remember(operation, self._entry("order.taken", actor)), lease)
        until = saved.lease.until if saved.lease else None
        operations.emit("order.taken", saved, by=actor.name, until=until)
        minutes = round(HANDS_SECONDS / 60)
        return Became(True, f"The order is in your hands for {minutes} minutes.", saved, until=until)

    async def _requeued(self, operation: Operation, lease: HeldLease, actor: Actor) -> Became:
        now = self._engine.clock.now()
        entry = self._entry("order.requeued", actor, before=operation.why)
        record = remember(move(operation, Move.REQUEUE, due_at=now, attempts=0, why="requeued"), entry)
        return await self._ended(record, lease, "order.requeued", actor, words="It is back in the queue, next in turn.", due_at=now)

    async def _finished(self, operation: Operation, lease: HeldLease, actor: Actor) -> Became:
        paid = money_of(operation).state is MoneyState.CHARGED
        entry = self._entry("operation.finished", actor, before=operation.why, money="" if paid else str(operation.money))
        record = remember(self._closed(operation, Move.FINISH, WHY_BY_HAND), entry)
        ended_at = operation.answered_at if is_late(operation) else None  # a wish that came after it has come too late
        record = changed(record, answered_at=ended_at or self._engine.clock.now())
        figures = {"amount_minor": record.amount_minor, "currency": record.currency, "money": record.money}
        words = "It is closed: placed and paid." if paid else "It is closed: placed, and not charged here."
        return await self._ended(record, lease, "operation.finished", None, words=words, **figures)

    async def _cancelled(self, operation: Operation, lease: HeldLease, actor: Actor) -> Became:
        entry = self._entry("order.cancelled", actor, before=operation.why)
        record = remember(self._closed(operation, Move.CANCEL, "cancelled_by_hand"), entry)
        words = "It is cancelled. No charge stands, and the shopper's page says so."
        return await self._ended(record, lease, "order.cancelled", actor, words=words, why=record.why)

    def _closed(self, operation: Operation, to: Move, why: str) -> Operation:
        """What a re-run or a resend would have needed goes when the operation ends."""
        keep_until = self._engine.clock.now() + self._rulings.tenor(operation).keep_seconds
        return move(operation, to, why=why, keep_until=keep_until, request=None, sends=without_parcels(operation.sends))

    async def _resolved(self, operation: Operation, lease: HeldLease, actor: Actor, note: Note) -> Became:
        """The fact first: it stays even if the lease was lost meanwhile. Then the record is due for the queue."""
        operations = self._engine.operations
        noted = await operations.note(operation.id, note)
        told = outcome_kind(note.outcome) if note.outcome else ""
        record = remember(changed(operation, notes=noted.notes), self._entry("payment.resolved", actor, outcome=told))
        record = self._after_word(refolded(record))
        operations.emit("payment.resolved", noted, outcome=told, how="desk")
        try:
            saved = await operations.end(record, lease)
        except LeaseLost:
            return Became(True, "Your word is on record. Somebody else has the order now, and goes on from it.", noted)
        return Became(True, what_follows(saved), saved)

    def _after_word(self, operation: Operation) -> Operation:
        """Held, and surely not charged: a person decides what now. Everything else is the queue's to go on with."""
        if operation.state is State.HELD and operation.money is MoneyState.NONE and not operation.cancel_asked:
            return move(operation, Move.HOLD, why="not_charged")
        known = operation.rule in self._rulings.names
        return changed(operation, due_at=self._engine.clock.now() if known else None)

    async def _ask_to_cancel(self, file: CaseFile, actor: Actor) -> Became:
        operations, seen = self._engine.operations, file.operation
        note = Note(
            event_id=f"cancel:{seen.generation}:{actor.holder}",
            kind=NoteKind.CANCEL,
            at=self._engine.clock.now(),
            source=actor.holder,
            generation=seen.generation,
            text=actor.reason,
        )
        noted = await operations.note(seen.id, note)
        operations.emit("order.cancel_asked", noted, by=actor.name)
        if file.case.hands is Hands.MINE:
            await self._let_go(noted, file, actor)
        words = "Cancelling is asked for."
        if file.case.hands is Hands.ANOTHER:
            return Became(True, f"{words} Whoever works on it sees to it.", noted, until=file.lease.until if file.lease else None)
        return Became(True, f"{words} The queue sees to the payment first, then it ends.", noted)

    async def _let_go(self, noted: Operation, file: CaseFile, actor: Actor) -> None:
        """What is asked for must not wait for the asker's own lease."""
        held = await self._lease(file, actor, seconds=ACT_SECONDS)
        if not isinstance(held, Became):
            record = changed(held[0], notes=noted.notes, due_at=self._engine.clock.now())
            await self._engine.operations.end(remember(record, self._entry("order.given_back", actor)), held[1])

    async def _remark(self, file: CaseFile, actor: Actor) -> Became:
        at = self._engine.clock.now()
        note = Note(f"remark:{secrets.token_hex(8)}", NoteKind.REMARK, at, source=actor.holder, text=actor.reason)
        noted = await self._engine.operations.note(file.operation.id, note)
        self._engine.operations.emit("order.remarked", noted, by=actor.name)
        return Became(True, "Your remark is on the record.", noted)

    # --- parts of them

    async def _ended(
        self,
        record: Operation,
        lease: HeldLease,
        event: str,
        actor: Actor | None,
        *,
        words: str = "It is out of your hands.",
        **detail: Any,
    ) -> Became:
        """Write the record and end the lease with it; then the listeners hear of it. The reason stays in the record."""
        saved = await self._engine.operations.end(record, lease)
        by = {"by": actor.name} if actor else {}
        self._engine.operations.emit(event, saved, **by, **detail)
        return Became(True, words, saved)

    def _file(self, operation: Operation, *, name: str, now: float) -> CaseFile:
        ways, known = self._rulings.ways(operation), operation.rule in self._rulings.names
        case = case_of(
            operation,
            hands=hands_of(operation, name=name, now=now),
            can_ask=known and (ways.find or ways.resend),  # put back, it would lie in a queue that leaves it alone
            can_place=ways.later,
            now=self._engine.clock.now(),
        )
        return CaseFile(operation, case, offers(case), now, doubted=self._engine.epochs.doubts(operation))

    def _entry(self, event: str, actor: Actor, **detail: Any) -> Entry:
        known = {name: value for name, value in detail.items() if value}
        return Entry(at=self._engine.clock.now(), event=event, by=actor.holder, detail={"reason": actor.reason, **known})

    async def _again(self, seen: Operation) -> Operation:
        return await self._engine.operations.store.get(seen.id) or seen


def _held(operation: Operation, seconds: float, asked_at: float, engine: Engine) -> HeldLease:
    """The lease in hand, without a heartbeat: a person who walks away must not hold an order for ever."""
    token = operation.lease.token if operation.lease else 0
    until = asked_at + seconds * (1 - MARGIN)
    return HeldLease(operation.id, token, lease_seconds=seconds, safe_until=until, run_until=until, clock=engine.clock)
