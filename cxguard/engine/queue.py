"""The fallback queue: takes what is due, resolves what is unknown, places what is kept, gives back what is too much.

One duty after another, each decided by `core.resolve`; every write under the lease; one `run_once` is one look at the store.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from cxguard.config import Settings
from cxguard.core.asks import TRY_FAILED, shopper_ends
from cxguard.core.decide import ORDER_MISSING
from cxguard.core.lost import last_life
from cxguard.core.money import MoneyState
from cxguard.core.operation import Entry, Move, Operation, State, WaitingFor, changed, money_of
from cxguard.core.resolve import (
    CHARGED_AFTER_END,
    LOOK_EVENT,
    SILENCE_EVENT,
    Cancel,
    Duty,
    Find,
    Finish,
    Hold,
    Place,
    Refund,
    Resend,
    Wait,
    ends_uncharged,
    looks_at,
    next_duty,
    tells_paid,
)
from cxguard.core.schedule import ATTEMPTS_MAX, resolve_pause_seconds
from cxguard.engine.charging import Work
from cxguard.engine.copies import AWAITS_WORD, Copies
from cxguard.engine.courier import Courier
from cxguard.engine.end_record import without_parcels
from cxguard.engine.engine import Engine
from cxguard.engine.late import note_late_answers
from cxguard.engine.left_behind import WHY_DEATHS, may_be_tried
from cxguard.engine.library import Purpose
from cxguard.engine.placing import Placing, Rerun
from cxguard.engine.refunding import refund
from cxguard.engine.resending import send_same
from cxguard.engine.revalidating import instead_of_charging
from cxguard.engine.rulings import Rulings
from cxguard.engine.second_charges import look_for_second
from cxguard.errors import CxguardError, LeaseLost, StoreError, TransactionOpen
from cxguard.logs import get_logger, where_raised
from cxguard.rules import Rule, replay

_log = get_logger("queue")

TAKE_AT_ONCE = 16  # records worked on at the same time by one worker
ALWAYS_AT_ONCE = 4  # also while no charge may be made: orders to be resolved, cancelled, given up
LEASE_SECONDS = 30.0  # how long the orders of a worker that died wait for another
STOP_SECONDS = 2.0  # for what is stopped to come to its end
UNASKED_SECONDS = 60.0  # before an order that a person has is asked about again, where our own breaker let nobody be asked
OLD_END = "old end"  # an end of before the store lost its tail is asked about once in a turn
_TOLD = {  # beside why: what listeners hear of each end of a turn
    Move.FINISH: ("money", "amount_minor", "currency"),
    Move.HOLD: ("waiting_for", "money"),
    Move.DEFER: ("due_at", "give_up_at"),
}
DUTIES_MAX = 12  # duties for one record in one look: more means that two of them undo each other


@dataclass(frozen=True, slots=True)
class Counts:
    """What one look did."""

    taken: int = 0
    ended: int = 0
    waiting: int = 0
    held: int = 0
    failed: int = 0
    turned_away: int = 0  # of the waiting ones: by the ramp after an outage, so their turn comes in a moment


class FallbackQueue:
    """What a worker does with the operations of one guard.

    Args:
        rules, purposes: by name; records of other names are left alone.
        rerun: what runs requests again for `later=replay`, once the app is there. Until then, and in a process that only has the
            guard (a script), orders that need it are left to those that have the app.
        courier: gives notices to the shoppers of kept orders; None: the shop wants none.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        rules: Mapping[str, Rule],
        purposes: Mapping[str, Purpose],
        settings: Settings,
        rerun: Callable[[str], Rerun | None] = lambda rule: None,
        courier: Courier | None = None,
    ) -> None:
        self._engine = engine
        self._courier = courier
        self._settings = settings
        self._rulings = Rulings(engine, rules, purposes)
        self._rerun = rerun
        self._placing = Placing(engine, self._rulings, rerun, settings.run_seconds_max)
        self._copies = Copies(engine, self._rulings, self._placing)
        self._slow: set[Task[State | None]] = set()  # in hand, and not waited for any more

    async def run_once(self, *, limit: int = TAKE_AT_ONCE, wait_seconds: float | None = None) -> Counts:
        """Take what is due, at most *limit*, and bring each as far as it can be brought now.

        Args:
            wait_seconds: what takes longer goes on beside the next look, and counts towards its limit: one order whose code
                hangs must not keep the others waiting. None: wait for all. See `drain`.

        Raises:
            StoreUnavailable: the store did not answer; nothing was begun.
        """
        limit = min(limit, self._room()) - len(self._slow)
        return await self._look(limit, wait_seconds) if limit > 0 else Counts()

    async def drain(self, *, seconds: float) -> None:
        """Wait for what goes on beside, at most so long; what is left is stopped, lapses, and is rescued."""
        if self._slow:
            await asyncio.wait(self._slow, timeout=max(seconds, 0.0))
        await _stopped(self._slow)

    async def _look(self, limit: int, wait_seconds: float | None) -> Counts:
        engine = self._engine
        await engine.operations.whereabouts.check()
        await engine.epochs.look()  # soon after the change: what may still be under way is waited for from then on
        asked_at = engine.clock.monotonic()
        taken = await engine.operations.store.take(
            namespace=engine.operations.namespace,
            rules=self._names(),
            holder=engine.operations.holder,
            lease_seconds=LEASE_SECONDS,
            limit=limit,
        )
        works = [self._work(operation, asked_at) for operation in taken]
        ends = await self._ends(works, wait_seconds)
        return Counts(
            taken=len(works),
            ended=sum(end in (State.FINISHED, State.CANCELLED) for end in ends),
            waiting=ends.count(State.QUEUED),
            held=ends.count(State.HELD),
            failed=ends.count(None),
            turned_away=sum(work.turned_away for work in works),
        )

    def _names(self) -> tuple[str, ...]:
        """Whose records are taken here."""
        rules = self._rulings.rules
        return tuple(
            name for name in self._rulings.names if name not in rules or rules[name].later is not replay or self._rerun(name) is not None
        )

    async def _ends(self, works: Sequence[Work], wait_seconds: float | None) -> list[State | None]:
        """How each ended that did within the time."""
        tasks = self._begun(works)
        if not tasks:
            return []
        try:
            done, slow = await asyncio.wait(tasks, timeout=wait_seconds)
        except BaseException:
            await _stopped(tasks)
            raise
        self._slow |= slow
        for task in slow:
            task.add_done_callback(self._slow.discard)
        return [None if task.cancelled() else task.result() for task in tasks if task in done]

    def _begun(self, works: Sequence[Work]) -> list[Task[State | None]]:
        """All at once; but one after the other, in any order, what somebody had who died. If one of them is what they died of, it
        takes us, too, and those that had their turn before are safe: in the end it is alone."""
        tasks = [asyncio.create_task(self._attend_safely(work, courier=self._courier)) for work in works if not work.operation.left_behind]
        before: Collection[Task[State | None]] = tuple(tasks)
        for work in sorted((work for work in works if work.operation.left_behind), key=lambda work: self._engine.jitter()):
            tasks.append(asyncio.create_task(self._attend_safely(work, courier=self._courier, after=before)))
            before = tasks[-1:]
        return tasks

    def _room(self) -> int:
        """How many may be taken: what the gateways have room for, and always a few, since not all of them will charge."""
        return max(ALWAYS_AT_ONCE, *(self._engine.breakers.room(name) for name in self._engine.gateways), 0)

    async def attend_now(self, seen: Operation) -> Operation:
        """Bring one record as far as it can be brought now, if nobody has it in hand. Returns the record as it is then."""
        seconds = self._settings.run_seconds_max
        taken = await self._engine.operations.seize(seen, lease_seconds=LEASE_SECONDS, run_seconds_max=seconds)
        if taken is None:
            return seen
        operation, lease = taken
        work = Work(operation, lease, deadline=self._engine.clock.monotonic() + seconds, queued=True)
        await self._attend_safely(work)
        return work.operation

    async def look_at_end(self, seen: Operation) -> Operation:
        """Find out whether an order that is over was paid in a life that the store has lost; nothing, where it surely was not, or
        is looked at later anyway. Returns the record as it is then.

        Raises:
            StoreUnavailable: nobody knows now.
        """
        asks = await self._copies.may_have_gone_on(seen) and not self._copies.asked_lately(seen)
        return await self.attend_now(seen) if asks else seen

    def _work(self, operation: Operation, asked_at: float) -> Work:
        seconds = self._settings.run_seconds_max
        lease = self._engine.operations.adopt(operation, lease_seconds=LEASE_SECONDS, run_seconds_max=seconds, asked_at=asked_at)
        return Work(operation, lease, deadline=asked_at + seconds, queued=True)

    async def _attend_safely(self, work: Work, *, courier: Courier | None = None, after: Collection[Task[Any]] = ()) -> State | None:
        """One record must not keep the others from their turn. What failed lapses, and comes again."""
        try:
            if not await may_be_tried(self._engine, work, after=after):
                await self._end(work, Move.HOLD, "order.held", why=WHY_DEATHS, waiting_for=WaitingFor.AGENT)
                return work.operation.state
            if courier is not None:  # not where a shopper waits for what they asked for
                await courier.tell(work)
            await self.attend(work)
        except (LeaseLost, StoreError) as error:
            _log.warning("order.not_attended", reference=work.operation.reference, why=str(error)[:200])
            await note_late_answers(self._engine, work.operation)
            return None
        except TransactionOpen as error:  # nothing can be written while it lasts: its lease lapses, and then somebody looks
            _log.error("order.not_attended", reference=work.operation.reference, why=str(error)[:200])
            return None
        except Exception as error:  # noqa: BLE001 - a hook of the shop may raise anything
            _log.error("order.not_attended", reference=work.operation.reference, **where_raised(error))
            self._engine.operations.emit("duty.failed", work.operation, duty="attend", why=type(error).__name__)
            await self._give_up(work)
        finally:
            self._engine.operations.leases.drop(work.lease)
        return work.operation.state

    async def _give_up(self, work: Work) -> None:
        """What nobody foresaw would come again and again: a person looks at it. An ended order stays as it is."""
        if work.operation.state in (State.FINISHED, State.CANCELLED):
            return
        try:
            await self._end(work, Move.HOLD, "order.held", why="attend_failed", waiting_for=WaitingFor.AGENT)
        except CxguardError as error:  # then it lapses, and comes again
            _log.warning("order.not_held", reference=work.operation.reference, why=str(error)[:200])

    async def attend(self, work: Work) -> Operation:
        """Do one duty after another until the lease is given back."""
        looked: set[str] = set()
        began = work.operation.history
        for _ in range(DUTIES_MAX):
            await look_for_second(self._engine, work, self._rulings.gateway_names(work.operation))
            duty = next_duty(work.operation, self._rulings.ways(work.operation), looked=frozenset(looked), now=self._engine.clock.now())
            if ends_uncharged(work.operation, duty) and await self._copies.was_paid(work):
                continue
            if tells_paid(duty) and await self._copies.was_given_back(work, looked):
                continue
            if AWAITS_WORD in looked and isinstance(duty, Place | Finish):
                duty = Wait(None, work.operation.why or "charge_unknown")
            if isinstance(duty, Finish | Cancel) and await self._copies.may_have_gone_on(work.operation):
                if OLD_END not in looked:
                    looked.add(OLD_END)
                    await self._copies.was_paid(work)
                    continue
                duty = Wait(None, work.operation.why) if self._copies.asks_again(work.operation) else duty
            if await self._do(work, duty, looked, began):
                return work.operation
        await self._end(work, Move.HOLD, "order.held", why="duties_circle", waiting_for=WaitingFor.AGENT)
        return work.operation

    async def _do(self, work: Work, duty: Duty, looked: set[str], began: tuple[Entry, ...]) -> bool:
        """Do *duty*; whether the lease has ended with it."""
        match duty:
            case Find():
                looked.add(duty.key)
                await self._copies.find(work, duty)
                return False
            case Resend():
                looked.add(f"resend:{duty.send.key}")
                seconds = await send_same(self._engine, work, duty.send, gateways=self._rulings.gateway_names(work.operation))
                if seconds is None or work.operation.state is State.RUNNING:
                    return False
                await self._wait_for_turn(work, seconds, began)
            case Refund():
                looked.add(f"refund:{duty.key}")
                await refund(self._engine, work, duty)
                return False
            case Place():
                await self._place(work)
            case Finish():
                await self._finish(work, duty)
            case Cancel():
                await self._cancel(work, duty)
            case Hold():
                await self._hold(work, duty, again=SILENCE_EVENT in looked, asked=work.operation.history != began)
            case Wait():
                await self._wait(work, duty)
            case _:
                assert_never(duty)
        return True

    async def _wait_for_turn(self, work: Work, seconds: float, began: tuple[Entry, ...]) -> None:
        """Only our own breaker stood in the way. That was no look in vain: it is not remembered as one, and the turn comes soon."""
        due_at = self._engine.clock.now() + seconds * (1.0 + self._engine.jitter())
        lines = tuple(entry for entry in work.operation.history if entry in began or entry.event not in (LOOK_EVENT, SILENCE_EVENT))
        work.operation = await self._engine.operations.end(changed(work.operation, history=lines, due_at=due_at), work.lease)

    async def _hold(self, work: Work, duty: Hold, *, again: bool = False, asked: bool = True) -> None:
        """Give it to somebody; with *again* it is asked about meanwhile: later, where our own breaker let nobody be *asked* now."""
        pause_seconds = 0.0 if asked else UNASKED_SECONDS
        ends: dict[str, Any] = {"due_at": max(self._next_look_at(work), self._engine.clock.now() + pause_seconds) if again else None}
        if duty.waiting_for is WaitingFor.SHOPPER:
            now, seconds = self._engine.clock.now(), self._rulings.tenor(work.operation).queue_seconds
            ends = shopper_ends(work.operation, duty.why, now=now, queue_seconds=seconds)
        if duty.why == CHARGED_AFTER_END:
            work.operation = changed(work.operation, generation=last_life(work.operation))
        kept = work.operation.kept or duty.why == TRY_FAILED
        await self._end(work, Move.HOLD, "order.held", why=duty.why, waiting_for=duty.waiting_for, kept=kept, **ends)

    async def _place(self, work: Work) -> None:
        unpaid = money_of(work.operation).state is MoneyState.NONE
        if work.operation.attempts >= ATTEMPTS_MAX:
            await self._end(work, Move.HOLD, "order.held", why="attempts_over" if unpaid else ORDER_MISSING, waiting_for=WaitingFor.AGENT)
            return
        work.needs_consent = work.operation.rule in self._rulings.rules
        rule = self._rulings.rules.get(work.operation.rule)
        match await instead_of_charging(self._engine, rule, work) if unpaid and rule is not None else None:
            case None:
                await self._placing.place(work)
            case Hold() as hold:
                await self._hold(work, hold)
            case Cancel() as cancel:
                await self._cancel(work, cancel)

    async def _finish(self, work: Work, duty: Finish) -> None:
        """The end is known. A record that has ended already only gives its lease back, its notes counted as seen."""
        if work.operation.state in (State.FINISHED, State.CANCELLED):
            work.operation = await self._engine.operations.end(changed(work.operation, due_at=None), work.lease)
            return
        keep_until = self._engine.clock.now() + self._rulings.tenor(work.operation).keep_seconds
        await self._end(work, Move.FINISH, "operation.finished", why=duty.why, keep_until=keep_until, **_erased(work.operation))

    async def _cancel(self, work: Work, duty: Cancel) -> None:
        if work.operation.state is State.CANCELLED:
            work.operation = await self._engine.operations.end(changed(work.operation, due_at=None), work.lease)
            return
        keep_until = self._engine.clock.now() + self._rulings.tenor(work.operation).keep_seconds
        await self._end(work, Move.CANCEL, "order.cancelled", why=duty.why, keep_until=keep_until, **_erased(work.operation))

    async def _wait(self, work: Work, duty: Wait) -> None:
        """Back into the queue."""
        operation = work.operation
        due_at = max(duty.until or 0.0, self._next_look_at(work))
        to = Move.HOLD if operation.state is State.HELD else Move.DEFER
        waiting = {"waiting_for": operation.waiting_for} if to is Move.HOLD else {}
        if operation.state in (State.FINISHED, State.CANCELLED):
            work.operation = await self._engine.operations.end(changed(operation, due_at=due_at), work.lease)
            return
        give_up_at = operation.give_up_at or self._engine.clock.now() + self._rulings.tenor(operation).queue_seconds
        event = "order.held" if to is Move.HOLD else "order.queued"
        await self._end(work, to, event, why=duty.why, due_at=due_at, give_up_at=give_up_at, **waiting)

    def _next_look_at(self, work: Work) -> float:
        """Looks come further apart with each."""
        return self._engine.clock.now() + resolve_pause_seconds(looks_at(work.operation), jitter=self._engine.jitter())

    async def _end(self, work: Work, to: Move, event: str, *, why: str, **changes: Any) -> None:
        """One legal move, written together with the end of the lease; then the listeners hear of it."""
        if work.operation.state is State.HELD and to is Move.HOLD and work.operation.why == why:
            work.operation = await self._engine.operations.end(changed(work.operation, due_at=changes.get("due_at")), work.lease)
            return  # it was held for the same reason before: nothing happened
        record = self._engine.operations.moved(work.operation, to, event, detail={"why": why}, why=why, **changes)
        work.operation = await self._engine.operations.end(record, work.lease)
        told = {name: getattr(work.operation, name) for name in _TOLD.get(to, ())}
        self._engine.operations.emit(event, work.operation, why=why, **told)


async def _stopped(tasks: Collection[Task[Any]]) -> None:
    """Stop them. Code of the shop's that will not be stopped is left behind."""
    stopping = tuple(tasks)
    for task in stopping:
        task.cancel()
    if stopping:
        await asyncio.wait(stopping, timeout=STOP_SECONDS)


def _erased(operation: Operation) -> dict[str, Any]:
    """What a re-run or a resend would have needed goes when the operation ends."""
    return {"request": None, "sends": without_parcels(operation.sends)}
