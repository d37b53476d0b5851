"""End a run: fold, ask about what is unknown, conclude, and write the end in one save."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cxguard.core.asks import falls_back
from cxguard.core.conclude import Conclusion, Ending, Run, Say, conclude
from cxguard.core.decide import RELEASED
from cxguard.core.lost import BELIEVED, LOST_EVENT, is_believed, is_taken_for_new
from cxguard.core.money import MoneyState
from cxguard.core.operation import Move, Operation, State, changed, money_of, move, remember
from cxguard.core.outcomes import Charged, Declined, NotCharged, Unknown
from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.core.resolve import SHOP
from cxguard.engine.breakers import Ticket
from cxguard.engine.charging import Work
from cxguard.engine.cold import StoredAnswer, Tombstone, seal_answer
from cxguard.engine.end_record import record_at_end
from cxguard.engine.engine import Engine
from cxguard.engine.finishing import Fate
from cxguard.engine.handle import OperationHandle
from cxguard.engine.keeping import promise_for, tell_not_kept
from cxguard.engine.looking import ask_shop, look
from cxguard.engine.losing import look_before_end
from cxguard.engine.shop_reading import doubtful, read_shop_charge
from cxguard.engine.tenor import Ask, Tenor
from cxguard.logs import get_logger

_log = get_logger("ending")

RELEASED_SECONDS = 86_400.0  # how long a record is kept of which only its link may have been seen


@dataclass(frozen=True, slots=True)
class Told:
    """How the run ended: the record as stored, and what to say.

    Attributes:
        instead: the answer that was committed with the shop's own transaction, where the handler failed after that.
    """

    operation: Operation
    conclusion: Conclusion
    instead: HandlerAnswer | None = None


async def keep_answer(engine: Engine, work: Work, answer: StoredAnswer) -> None:
    """Store a good answer before it leaves, and go on holding the lease: the run has not ended yet."""
    async with work.turn:
        read_shop_charge(work, Reading.SUCCEEDED)
        record = changed(work.operation, answer=seal_answer(engine.seal, work.operation, answer), answered_at=engine.clock.now())
        work.operation = await engine.operations.write(record, work.lease)


async def end_run(
    engine: Engine,
    handle: OperationHandle,
    tenor: Tenor,
    *,
    reading: Reading | None,
    answer: StoredAnswer | None,
    raised_after: bool = False,
) -> Told:
    """Conclude the run of *handle* and end its lease.

    Args:
        reading: what the handler's answer means; None for a script.
        answer: what to keep for replays, when the handler's own answer stands.

    Raises:
        LeaseLost, StoreUnavailable: the end was not written; the record still says what was written before.
        TransactionOpen: the same; what `op.finish` wrote may still come to hold.
    """
    try:
        return await _end_run(engine, handle, tenor, reading=reading, answer=answer, raised_after=raised_after)
    except BaseException:
        engine.operations.leases.drop(handle.work.lease)  # nothing runs here any more: it lapses, and somebody takes it over
        raise


async def _end_run(
    engine: Engine, handle: OperationHandle, tenor: Tenor, *, reading: Reading | None, answer: StoredAnswer | None, raised_after: bool
) -> Told:
    work = handle.work
    match await handle.finishing.settled():
        case Fate.COMMITTED:
            return _told_of_commit(engine, handle, reading)
        case Fate.ROLLED_BACK if reading is Reading.SUCCEEDED:
            reading = Reading.FAILED  # whatever the handler says, what it wrote for this order is not there
    if handle.forgot_charge:
        _log.error("charge.not_awaited", reference=handle.reference, why="nothing was sent: write `await op.charge(...)`")
        reading = Reading.FAILED if reading is Reading.SUCCEEDED else reading
    if handle.shop_ticket is not None:
        _feed_breaker(engine, handle, handle.shop_ticket, reading)
    await _settle_unknown(engine, handle, tenor, reading=reading, answer=answer)
    await _look_for_lost(engine, handle, reading)
    await _believe_shop(engine, work, tenor, reading)
    money = money_of(work.operation)
    tenor = await _unless_over(engine, handle, tenor)
    conclusion = conclude(
        Run(
            money=money,
            reading=reading,
            deferred=handle.deferral.why,
            hold=handle.deferral.why if handle.deferral.hold else "",
            needs_shopper=handle.deferral.needs_shopper,
            asks=handle.deferral.asks,
            may_ask=tenor.may_ask and work.needs_consent and work.operation.kept,
            falls_back=falls_back(work.operation, now=engine.clock.now()),
            may_keep=tenor.may_keep and handle.deferral.outage,
            has_later=tenor.has_later,
            can_resolve=can_resolve(engine, work.operation, tenor),
            has_steps=bool(work.operation.steps),
            raised_after=raised_after,
            cancel_asked=work.operation.cancel_asked,
        )
    )
    _note_false_decline(engine, work, reading, conclusion)
    good = answer if reading is Reading.SUCCEEDED and money.state is MoneyState.CHARGED else None
    untried_seconds = handle.deferral.untried_seconds
    async with work.turn:
        saved = await _write_end(engine, work, tenor, conclusion, answer=answer, good=good, untried_seconds=untried_seconds)
    if money_of(saved).state is not money.state:  # a fact came in with this very save: what was concluded is no longer true
        conclusion = replace(conclusion, say=Say.UNKNOWN)  # which says what the record says
    return Told(saved, conclusion)


def _told_of_commit(engine: Engine, handle: OperationHandle, reading: Reading | None) -> Told:
    """The shop's own transaction has written the end. A handler that failed after that changes nothing about it."""
    saved, last = handle.finishing.there, handle.finishing.last
    assert saved is not None and last is not None, "it was seen in the record"
    engine.operations.waiting.ended(saved.id)
    if handle.shop_ticket is not None:
        _feed_breaker(engine, handle, handle.shop_ticket, Reading.SUCCEEDED)
    conclusion = Conclusion(Ending.FINISH, Say.HANDLER if money_of(saved).state is last.money else Say.UNKNOWN)
    _tell_listeners(engine, saved, conclusion)
    failed = reading is not Reading.SUCCEEDED and isinstance(last.answer, HandlerAnswer)
    return Told(saved, conclusion, last.answer if failed and isinstance(last.answer, HandlerAnswer) else None)


async def _unless_over(engine: Engine, handle: OperationHandle, tenor: Tenor) -> Tenor:
    """Look at the caps before an order is kept for the first time; an order that is kept already has our word."""
    operation, deferral = handle.work.operation, handle.deferral
    money = money_of(operation).state
    settled = money not in (MoneyState.NONE, MoneyState.UNKNOWN) or operation.kept or operation.cancel_asked
    nothing_to_keep = money is MoneyState.NONE and not (deferral.outage or deferral.hold)
    if settled or nothing_to_keep:
        return tenor
    why = tenor.why_not
    if tenor.may_keep and tenor.keeping is not None:
        promise = await promise_for(engine, operation, tenor.keeping)
        handle.work.operation, why = promise.on(operation), promise.why_not
    if not why:
        return tenor
    tell_not_kept(engine, operation, why)
    return replace(tenor, may_keep=False)


def _feed_breaker(engine: Engine, handle: OperationHandle, ticket: Ticket, reading: Reading | None) -> None:
    """What the shop's own answer says about its charging: a failure that nobody can explain counts against it."""
    seconds = engine.clock.now() - handle.work.operation.updated_at
    match reading:
        case Reading.SUCCEEDED:
            ticket.settle(Charged(0, ""), seconds)
        case Reading.DECLINED:
            ticket.settle(Declined(), seconds)
        case Reading.FAILED:
            ticket.settle(Unknown("the shop's own answer"), seconds)
        case Reading.REJECTED | None:
            ticket.abandon()


async def _settle_unknown(
    engine: Engine, handle: OperationHandle, tenor: Tenor, *, reading: Reading | None, answer: StoredAnswer | None
) -> None:
    """The false-decline guard: before anyone hears "not paid", the shop's hook or the gateway is asked once."""
    work = handle.work
    if work.operation.charged_by == "shop" and reading is not None:
        status = answer.status if isinstance(answer, HandlerAnswer | Tombstone) else 500
        if tenor.ask is None or not (reading is Reading.FAILED or doubtful(reading, status)):
            read_shop_charge(work, reading)
            return
        await ask_about_shop_sends(engine, handle, tenor.ask)
        if money_of(work.operation).state in (MoneyState.NONE, MoneyState.DECLINED) and reading is not Reading.FAILED:
            read_shop_charge(work, reading)  # the hook agrees that nothing was charged: the handler's reason stands
        return
    if handle.deferral.why == "charge_unknown":
        return  # `op.charge` has asked already
    await look_at_unknown(engine, work)


async def _look_for_lost(engine: Engine, handle: OperationHandle, reading: Reading | None) -> None:
    """A handler that turns a submit away before it has charged may do so because that has been paid, in a record that the
    store has lost: the basket is gone. Without an answer its reason stands: nearly all such submits are new. One that failed has
    given none, and ours would be "not charged". The person who gets an order is shown what the gateway knows of it."""
    operation, held = handle.work.operation, handle.deferral.hold
    turned_away = reading in (Reading.REJECTED, Reading.FAILED) and not handle.deferral.why
    if (turned_away or held) and operation.charged_by != SHOP and money_of(operation).state is MoneyState.NONE:
        await look_before_end(engine, handle.work, handle.gateways, doubts=reading is Reading.FAILED and not held)


async def _believe_shop(engine: Engine, work: Work, tenor: Tenor, reading: Reading | None) -> None:
    """After a failover an order is doubted, and without `resolve` nobody can be asked. Where the shop's own code has tried to charge
    since, it has said what came of it; one that turned the submit away may have done so because that was paid."""
    operation = work.operation
    since = await engine.epochs.lost_since() if operation.charged_by == SHOP else None
    if since is None or is_believed(operation, since):
        return
    if reading in (Reading.SUCCEEDED, Reading.DECLINED) or (tenor.ask is None and is_taken_for_new(operation, since)):
        async with work.turn:
            work.operation = remember(operation, engine.operations.entry(LOST_EVENT, outcome=BELIEVED, since=since))


async def look_at_unknown(engine: Engine, work: Work) -> None:
    """Ask each gateway about each key of which we do not know, once, while there is time."""
    for key in money_of(work.operation).unknown_keys:
        name = next((send.gateway for send in work.operation.sends if send.key == key), "")
        gateway = engine.gateway(name)
        if gateway is not None and work.remaining(engine) > 0:
            await look(engine, work, gateway=gateway, key=key)


async def ask_about_shop_sends(engine: Engine, handle: OperationHandle, ask: Ask) -> None:
    """Ask the rule's hook about what the shop's own code may have charged."""
    for key in money_of(handle.work.operation).unknown_keys:
        if any(send.key == key and send.gateway == SHOP for send in handle.work.operation.sends):
            await ask_shop(engine, handle, ask, key=key)


def can_resolve(engine: Engine, operation: Operation, tenor: Tenor) -> bool:
    """Whether somebody can be asked what became of its sends."""
    names = {send.gateway for send in operation.sends}
    return (tenor.ask is not None and SHOP in names) or any(engine.gateway(name) for name in names)


def _note_false_decline(engine: Engine, work: Work, reading: Reading | None, conclusion: Conclusion) -> None:
    if conclusion.say in (Say.PAID_UNFINISHED, Say.UNKNOWN) and reading in (Reading.DECLINED, Reading.FAILED, Reading.REJECTED):
        engine.operations.emit("payment.false_decline_stopped", work.operation, reading=reading, money=money_of(work.operation).state)


async def _write_end(
    engine: Engine,
    work: Work,
    tenor: Tenor,
    conclusion: Conclusion,
    *,
    answer: StoredAnswer | None,
    good: StoredAnswer | None,
    untried_seconds: float | None,
) -> Operation:
    """Args: answer: what the handler said; good: the same, if it may be shown to a shopper whose order is held."""
    if conclusion.ending is Ending.RELEASE:
        return await _release(engine, work, tenor, conclusion)
    record = record_at_end(engine, work.operation, tenor, conclusion, answer=answer, good=good, untried_seconds=untried_seconds)
    saved = await engine.operations.end(record, work.lease)
    _tell_listeners(engine, saved, conclusion)
    work.operation = saved
    return saved


async def _release(engine: Engine, work: Work, tenor: Tenor, conclusion: Conclusion) -> Operation:
    """Nothing was charged, and the key is free. The record stays for a while: who waited for it, or met it in a second tab,
    was given its link, and must not read there that there was no such order."""
    operation = work.operation
    seconds = tenor.keep_seconds if _has_a_past(operation) else min(RELEASED_SECONDS, tenor.keep_seconds)
    back = move(operation, Move.CANCEL, why=RELEASED, keep_until=engine.clock.now() + seconds, request=None)
    saved = await engine.operations.end(remember(back, engine.operations.entry("operation.released", why=conclusion.why)), work.lease)
    engine.operations.emit("operation.released", saved, why=conclusion.why)
    if operation.give_up_at is not None:  # it had been accepted
        engine.operations.emit("order.cancelled", saved, why=conclusion.why)
    work.operation = saved
    return saved


def _has_a_past(operation: Operation) -> bool:
    """Whether somebody may ask for it later: it was accepted or answered before, or facts about money hang on it."""
    told = operation.generation > 1 or operation.give_up_at is not None or operation.answer is not None
    return told or bool(operation.notes) or not all(isinstance(send.outcome, NotCharged) for send in operation.sends)


def _tell_listeners(engine: Engine, saved: Operation, conclusion: Conclusion) -> None:
    detail = {"why": conclusion.why}
    match saved.state:
        case State.FINISHED:
            engine.operations.emit("operation.finished", saved, money=saved.money, amount_minor=saved.amount_minor, currency=saved.currency)
        case State.QUEUED:
            engine.operations.emit("order.queued", saved, due_at=saved.due_at, give_up_at=saved.give_up_at, **detail)
        case State.HELD:
            engine.operations.emit("order.held", saved, waiting_for=saved.waiting_for, money=saved.money, **detail)
        case State.RUNNING | State.CANCELLED:
            pass
