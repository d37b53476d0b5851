"""Place a kept order, or complete a paid one, without the shopper: by the rule's `later`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from cxguard.core.desk import WHY_UNPAID
from cxguard.core.lost import (
    BELIEVED,
    DOUBT_OR_PAID,
    LOST_EVENT,
    NOTHING_STANDS,
    is_believed,
    is_declined_by_hearsay,
    is_taken_for_new,
    may_come_back,
)
from cxguard.core.money import MoneyState
from cxguard.core.operation import ENDED, Move, Operation, State, changed, money_of, move, remember
from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.core.resolve import SHOP
from cxguard.core.snapshot import Snapshot
from cxguard.engine.bounds import is_cancelled
from cxguard.engine.charging import Work
from cxguard.engine.cold import KeptResult, StoredAnswer, Tombstone, replayable, result_bytes
from cxguard.engine.deferral import Deferral
from cxguard.engine.ending import ask_about_shop_sends, end_run
from cxguard.engine.engine import Engine
from cxguard.engine.handle import CURRENT, OperationHandle
from cxguard.engine.losing import carry_wish
from cxguard.engine.rulings import Rulings
from cxguard.engine.shop_lines import shop_line, unsent
from cxguard.engine.stray import bring_stray_facts
from cxguard.errors import ConfigurationError, LeaseLost, PaymentDeclined, PaymentDeferred, StepMismatch, StoreError
from cxguard.logs import get_logger, where_raised
from cxguard.rules import Rule, replay
from cxguard.rules.reads import reading_of

_log = get_logger("placing")

LOGIN_STATUSES = frozenset({401, 403})
CREATED = 201
TOO_MANY = 429  # of the shop's own limit: after an outage all kept orders come from this process at once


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a kept request that ran again.

    Attributes:
        answer: None: the app gave no whole one.
        streamed: it was too long to be kept, or an event stream: only its status is known.
        raised: the app raised, perhaps after its answer.
    """

    answer: HandlerAnswer | None
    streamed: bool = False
    raised: bool = False


Rerun: TypeAlias = Callable[[OperationHandle, Snapshot, Rule], Awaitable[Ran]]
"""Runs a kept request of a rule again through the outermost app, for as long as any run may take."""


@dataclass(frozen=True, slots=True)
class Placing:
    """Runs `later`.

    Attributes:
        rerun: what runs requests again for `later=replay`, once the app is there; None: such orders are held.
        seconds: how long one run may take.
    """

    engine: Engine
    rulings: Rulings
    rerun: Callable[[str], Rerun | None]
    seconds: float

    async def place(self, work: Work) -> None:
        """Place a kept (or complete a paid) order, as the rule's `later` says; conclude like any run."""
        new = await self._start(work)
        handle = OperationHandle(self.engine, work, gateways=self.rulings.gateway_names(work.operation))
        handle.finishing.tenor = tenor = self.rulings.tenor(work.operation)
        runs = not new or await self._is_not_lost(handle)
        reading, answer = await self._unless_cancelled(handle) if runs else (None, None)
        told = await end_run(self.engine, handle, tenor, reading=reading, answer=answer)
        if told.operation.state is State.FINISHED and told.operation.money is MoneyState.CHARGED:
            detail = {"amount_minor": told.operation.amount_minor, "currency": told.operation.currency}
            self.engine.operations.emit("order.placed", told.operation, attempts=told.operation.attempts, **detail)

    async def _unless_cancelled(self, handle: OperationHandle) -> tuple[Reading | None, StoredAnswer | None]:
        """Run it. Where the shop's own code charges, a wish to cancel that came with the line's save stops it here."""
        work = handle.work
        if work.operation.charged_by == SHOP and work.operation.cancel_asked:
            work.operation = unsent(work.operation)
            handle.deferral = Deferral(why="cancel_asked", outage=True)
            return None, None
        token = CURRENT.set(handle)
        try:
            return await self._run_later(handle)
        finally:
            CURRENT.reset(token)

    async def _is_not_lost(self, handle: OperationHandle) -> bool:
        """Whether the shop's own code may charge now. A store that lost its tail may have an older copy of a paid order: then
        the shop is asked first; where it cannot be, a webhook may have told."""
        work, ask = handle.work, self.rulings.ask_of(handle.work.operation)
        if await self.engine.epochs.lost_since() is None:
            return True
        if ask is None:
            await bring_stray_facts(self.engine, work)
            return money_of(work.operation).state is not MoneyState.CHARGED
        await ask_about_shop_sends(self.engine, handle, ask)
        match money_of(work.operation).state:
            case MoneyState.NONE:  # that settled the line, and the run needs one
                await self._write_line(work, work.operation)
                return True
            case MoneyState.UNKNOWN:
                return self.rulings.rules[work.operation.rule].rerun_safe
            case _:
                return False

    async def ask_before_end(self, work: Work) -> None:
        """The same before an order ends as one that was not charged, or after that, about a life that was lost: this one, or the
        next one after a decline or an end. The line that was lost is put back if the shop does not say that nothing stands; also
        where nobody can be asked, and the order may have been pressed before the failover: then a person finds out."""
        ask, since, before = self.rulings.ask_of(work.operation), await self.engine.epochs.changed_at(), work.operation
        if since is None or not may_come_back(before, since, self.engine.clock.now()):
            return
        declined = money_of(before).state is MoneyState.DECLINED and not (ask is None and is_declined_by_hearsay(before))
        if ask is None and (before.state in ENDED or declined or is_believed(before, since) or is_taken_for_new(before, since)):
            if before.state not in ENDED:
                work.operation = remember(before, self.engine.operations.entry(LOST_EVENT, outcome=BELIEVED, since=since))
            return
        this, following = before.generation, before.generation + 1
        for generation in (this, following) if before.state in ENDED else (following if declined else this,):
            life = changed(work.operation, generation=generation, sends=before.sends)
            work.operation = changed(life, sends=life.sends + shop_line(self.engine, life, life))
            if ask is not None:
                await ask_about_shop_sends(self.engine, OperationHandle(self.engine, work), ask)
            if money_of(work.operation).state in (MoneyState.CHARGED, MoneyState.UNKNOWN):
                break
        self._note_lost(work, before, since=since)
        await carry_wish(self.engine, work, before.generation)

    def _note_lost(self, work: Work, before: Operation, *, since: float) -> None:
        """An order that is over keeps its own life, and the line only where it is paid; without an answer it is asked about again."""
        money, over = money_of(work.operation).state, before.state in ENDED
        stands = money is MoneyState.CHARGED or (not over and money not in (MoneyState.NONE, MoneyState.DECLINED))
        if over or not stands:
            work.operation = changed(work.operation, generation=before.generation)
        if not stands:
            work.operation = changed(work.operation, sends=before.sends)
        if over and money is MoneyState.UNKNOWN:
            return
        detail = {"outcome": DOUBT_OR_PAID if stands else NOTHING_STANDS, "generation": work.operation.generation, "since": since}
        work.operation = remember(work.operation, self.engine.operations.entry(LOST_EVENT, **detail))

    async def _start(self, work: Work) -> bool:
        """Whether the shop's own code is about to charge in this run, unseen."""
        operation = work.operation
        if operation.state is not State.RUNNING:
            operation = move(operation, Move.START, give_up_at=operation.give_up_at, why=operation.why)
        operation = changed(operation, attempts=operation.attempts + 1)
        work.operation = operation
        new = operation.charged_by == SHOP and money_of(operation).state in (MoneyState.NONE, MoneyState.UNKNOWN)
        if new:
            await self._write_line(work, operation)
        return new

    async def _write_line(self, work: Work, operation: Operation) -> None:
        """What the shop's own code may charge: durable before it runs."""
        record = changed(operation, sends=operation.sends + shop_line(self.engine, operation, operation))
        work.operation = await self.engine.operations.write(record, work.lease)

    async def _run_later(self, handle: OperationHandle) -> tuple[Reading | None, StoredAnswer | None]:
        operation = handle.work.operation
        rule, later = self.rulings.rules.get(operation.rule), self.rulings.later(operation)
        try:
            if later is replay:
                return await self._replay(handle, rule)
            async with asyncio.timeout(self.seconds):
                return self._kept(handle, await _under_way(later, handle))
        except PaymentDeclined as error:
            if operation.charged_by == SHOP and error.reference not in ("", handle.reference):
                return self._failed(handle, error)  # of another payment: whether its own code has charged, that does not say
            return Reading.DECLINED, None
        except PaymentDeferred as error:
            if not handle.deferral.why:  # of another payment, that its code began
                return self._failed(handle, error)
            self._hold_unless_outage(handle)
            return None, None
        except (LeaseLost, StoreError):
            raise
        except StepMismatch as error:  # another amount than was accepted, say: trying again would not mend it
            _log.error("order.later_raised", reference=operation.reference, **where_raised(error))
            handle.deferral = Deferral(why="step_mismatch", hold=True)
            return Reading.FAILED, None
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            return self._failed(handle, error)  # of a task of the shop's own that it waited for
        except Exception as error:  # noqa: BLE001 - the shop's own function may raise anything; it is tried again
            return self._failed(handle, error)

    def _failed(self, handle: OperationHandle, error: BaseException) -> tuple[Reading, None]:
        _log.warning("order.later_raised", reference=handle.reference, **where_raised(error))
        handle.deferral = handle.deferral if handle.deferral.hold else Deferral(why="later_failed", outage=True)
        return Reading.FAILED, None

    def _kept(self, handle: OperationHandle, result: Any) -> tuple[Reading, StoredAnswer | None]:
        """What `later` returned. Placed is placed: one whose result cannot be kept is looked at, and not run again."""
        try:
            result_bytes(result)
        except TypeError as error:
            _log.error("order.result_not_kept", reference=handle.reference, why=str(error)[:200])
            handle.deferral = Deferral(why="result_not_kept", hold=True)
            return Reading.FAILED, None
        if handle.forgot_charge:
            handle.deferral = Deferral(why="charge_not_awaited", hold=True)
            return Reading.FAILED, None
        return Reading.SUCCEEDED, KeptResult(result)

    def _hold_unless_outage(self, handle: OperationHandle) -> None:
        """A kept order whose charge the gateway refuses as such waits for a person: trying again would not help."""
        deferral = handle.deferral
        if deferral.why and not (deferral.outage or deferral.needs_shopper or deferral.asks) and handle.money.state is MoneyState.NONE:
            handle.deferral = replace(deferral, hold=deferral.why != "cancel_asked", outage=deferral.why == "cancel_asked")

    async def _replay(self, handle: OperationHandle, rule: Rule | None) -> tuple[Reading | None, StoredAnswer | None]:
        """The kept request once more, through the outermost app. A login page is nobody's order."""
        kept = handle.request
        rerun = self.rerun(handle.work.operation.rule)
        if rerun is None or kept is None or rule is None:
            handle.deferral = Deferral(why="cannot_replay", hold=True)
            return Reading.FAILED, None
        handle.in_request = True
        ran = await rerun(handle, kept, rule)
        answer = ran.answer
        reading = reading_of(answer, cases=rule.cases, charged_by=rule.charged_by, path=kept.path, money=handle.money.state)
        if ran.raised and reading is not Reading.SUCCEEDED:
            reading = Reading.FAILED
        if handle.mismatch is not None and reading is not Reading.SUCCEEDED:
            raise handle.mismatch  # the app made an answer of it
        if answer is not None and answer.status in LOGIN_STATUSES:
            handle.deferral = Deferral(why="replay_not_signed_in", hold=True)
        elif reading is Reading.SUCCEEDED and ran.raised:  # in the background: the order is placed, and must not be once more
            handle.deferral = handle.deferral if handle.deferral.why else Deferral(why="failed_after_answer", hold=True)
        elif reading is Reading.SUCCEEDED and not handle.deferral.why and _is_no_order(handle, rule, answer):
            handle.deferral = Deferral(why=WHY_UNPAID, hold=True)
        elif reading is not Reading.SUCCEEDED and not handle.deferral.why:
            passes = reading is Reading.FAILED or (answer is not None and answer.status == TOO_MANY)
            handle.deferral = Deferral(why="replay_failed", outage=passes, hold=not passes)
        return reading, _kept_of(ran)


def _kept_of(ran: Ran) -> StoredAnswer | None:
    if ran.answer is None:
        return None
    return Tombstone(ran.answer.status) if ran.streamed else replayable(ran.answer)


def _is_no_order(handle: OperationHandle, rule: Rule, answer: HandlerAnswer | None) -> bool:
    """Whether a good status stands over nothing, of a sign-in page, say: what was to be charged was not, and neither a status that
    only an order comes with nor the `reads` of the rule say that this is what success looks like."""
    unpaid = handle.money.state is MoneyState.NONE and handle.amount_minor != 0
    created = answer is not None and answer.status == CREATED
    return handle.forgot_charge or (unpaid and not created and rule.charged_by != SHOP and not rule.reads)


def _under_way(later: Callable[[OperationHandle], Any], handle: OperationHandle) -> Awaitable[Any]:
    given: object = later(handle)
    if not inspect.isawaitable(given):
        raise ConfigurationError(f"later={getattr(later, '__name__', later)} is not async: write `async def`, and `await op.charge(...)`")
    return given
