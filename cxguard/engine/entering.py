"""From a submit to either a run in hand, or a record to tell about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cxguard.core.answer import WHY_REPLACED
from cxguard.core.asks import gone_on_with
from cxguard.core.conclude import Say
from cxguard.core.decide import LET_GO, Do, Submit
from cxguard.core.lost import goes_on
from cxguard.core.money import MoneyState, Note, NoteKind
from cxguard.core.operation import Move, Operation, State, Step, changed, money_of, move, remember
from cxguard.core.resolve import SHOP
from cxguard.engine.breakers import Rejected, Ticket
from cxguard.engine.charging import GATEWAY_DOWN, Work
from cxguard.engine.cold import open_member, seal_member
from cxguard.engine.confirming import still_stands
from cxguard.engine.deferral import Deferral
from cxguard.engine.ending import ask_about_shop_sends, end_run, look_at_unknown
from cxguard.engine.engine import Engine
from cxguard.engine.handle import OperationHandle
from cxguard.engine.keeping import Promise, promise_for, tell_not_kept
from cxguard.engine.looking import look
from cxguard.engine.operations import SEIZING, Entered, Terms
from cxguard.engine.shop_lines import shop_line, unsent
from cxguard.engine.stray import bring_stray_facts
from cxguard.engine.tenor import Ask, Tenor
from cxguard.errors import LeaseLost

_UNASKED = frozenset({Do.REOPEN, Do.RESUME, Do.RERUN})  # these run at once; the others have asked about what was sent
LOST_MAX = 3  # times that the record is taken from us while we begin, before we say "in flight"


@dataclass(frozen=True, slots=True)
class Submission:
    """One submit, ready to enter.

    Attributes:
        fresh: the record to open, when there is none.
        submit_of: how this request compares with a record that is there.
        again: the record for a confirmed second purchase.
        rerun_safe: the shop's own handler passes our gateway key on, so running it again charges once.
        deadline: monotonic; until when the caller must have an answer.
        blocked: the shop's own charging fails again and again: its handler is not run now.
    """

    fresh: Operation
    terms: Terms
    submit_of: Callable[[Operation], Submit]
    again: Callable[[Operation], Operation]
    tenor: Tenor
    deadline: float
    gateways: tuple[str, ...] = ()
    rerun_safe: bool = False
    blocked: Rejected | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """What the submit came to: `handle` when it is to be run now; otherwise what to do with `operation`.

    Attributes:
        say: how a run ended that the breaker did not let begin.
        remembered: the store was not asked for this submit: `operation` is what is remembered in this process.
    """

    do: Do
    operation: Operation
    handle: OperationHandle | None = None
    claim: bool = False
    say: Say | None = None
    remembered: bool = False


async def begin(engine: Engine, submission: Submission) -> Begun:
    """Enter *submission*; take over, resolve, reopen or replace what is there, as decided.

    Raises:
        StoreUnavailable: nothing is known; nothing may be run.
    """
    for _ in range(LOST_MAX):
        try:
            return await _begin(engine, submission)
        except LeaseLost:
            continue  # somebody else has it now: look again what they made of it
    return Begun(Do.WAIT, submission.fresh)


async def _begin(engine: Engine, submission: Submission) -> Begun:
    ticket = await _admitted(engine, submission)
    if isinstance(ticket, Rejected):
        submission = replace(submission, fresh=changed(submission.fresh, sends=()), blocked=ticket)
    begun: Begun | None = None
    try:
        begun = await _enter(engine, submission)
    finally:
        if isinstance(ticket, Ticket) and (begun is None or begun.handle is None):
            ticket.abandon()  # nothing runs
    if begun.handle is not None and isinstance(ticket, Ticket):
        begun.handle.shop_ticket = ticket
    return begun


async def _admitted(engine: Engine, submission: Submission) -> Ticket | Rejected | None:
    """The breaker of the shop's own charging, fed by what its answers mean. None: the guard charges, and asks there."""
    fresh = submission.fresh
    if fresh.charged_by != SHOP:
        return None
    return await engine.breakers.enter(f"{SHOP}:{fresh.rule}", "charge", operation_id=fresh.id)


async def _enter(engine: Engine, submission: Submission) -> Begun:
    entered = await engine.operations.enter(submission.fresh, submission.terms, submission.submit_of, submission.again)
    if entered.lease is None:
        return Begun(entered.do, entered.operation, claim=entered.claim)
    work = Work(operation=entered.operation, lease=entered.lease, deadline=submission.deadline, claimed=submission.fresh.claims)
    handle = OperationHandle(engine, work, gateways=submission.gateways)
    handle.finishing.tenor = submission.tenor
    try:
        if entered.do is not Do.RUN:
            begun = await _take_up(engine, submission, entered, handle)
            if begun.handle is None or entered.do not in _UNASKED or not await _may_be_lost(engine, submission, work):
                return begun
            return await _resolve_first(engine, submission, replace(entered, do=Do.RUN), handle)
        if submission.blocked is not None:
            return await _keep_or_refuse(engine, submission, handle)
        if await _may_be_lost(engine, submission, work):
            return await _resolve_first(engine, submission, entered, handle)
    except BaseException:
        engine.operations.leases.drop(entered.lease)  # nothing runs, so it may lapse
        raise
    return Begun(Do.RUN, work.operation, handle)


async def _may_be_lost(engine: Engine, submission: Submission, work: Work) -> bool:
    """Whether an order, or a life of it, that looks new may be one that the store has lost, and the shop's own code would
    charge it again unasked. (Where the guard charges, `op.charge` asks.) Where nobody can be asked, a webhook may have told."""
    if submission.fresh.charged_by != SHOP or await engine.epochs.lost_since() is None:
        return False
    if submission.tenor.ask is None:
        await bring_stray_facts(engine, work)
    return submission.tenor.ask is not None or money_of(work.operation).state is MoneyState.CHARGED


async def _keep_or_refuse(engine: Engine, submission: Submission, handle: OperationHandle) -> Begun:
    """The breaker is open: nothing runs. The order is kept for later, or let go, and the shopper is told which."""
    seconds = submission.blocked.retry_after_seconds if submission.blocked else None
    handle.deferral = Deferral(why=GATEWAY_DOWN, outage=True, untried_seconds=seconds)
    told = await end_run(engine, handle, submission.tenor, reading=None, answer=None)
    return Begun(Do.TELL, told.operation, say=told.conclusion.say)


async def _take_up(engine: Engine, submission: Submission, entered: Entered, handle: OperationHandle) -> Begun:
    assert entered.do in SEIZING
    work = handle.work
    match entered.do:
        case Do.REOPEN:
            return await _run_again(engine, submission, handle, Move.REOPEN)
        case Do.REPLACE:
            return await _replace_kept(engine, submission, entered, work)
        case Do.RESUME:
            return await _resume(engine, submission, handle)
        case Do.RERUN:
            return await _go_on(engine, submission, entered, handle)
        case _:
            return await _resolve_first(engine, submission, entered, handle)


def _as_claimed_before(entered: Entered, operation: Operation) -> Operation:
    """The record that stays what it was: what this submit would have bought is not its own."""
    return operation if entered.do is Do.RUN else changed(operation, claims=entered.claims_before)


async def _go_on(engine: Engine, submission: Submission, entered: Entered, handle: OperationHandle) -> Begun:
    """A script's function is run again, and skips what it has done. Not over a charge that went back, in writes that the store has
    lost; and where nobody confirms one, the queue asks on."""
    work = handle.work
    if await still_stands(engine, work, submission.gateways):
        return await _run_again(engine, submission, handle, Move.START)
    work.operation = _as_claimed_before(entered, work.operation)
    if money_of(work.operation).state is MoneyState.CHARGED:
        due_now = changed(work.operation, due_at=engine.clock.now())
        return Begun(Do.TELL, await engine.operations.end(due_now, work.lease))
    told = await end_run(engine, handle, submission.tenor, reading=None, answer=None)
    return Begun(Do.TELL, told.operation)


async def _resolve_first(engine: Engine, submission: Submission, entered: Entered, handle: OperationHandle) -> Begun:
    """Its holder is gone, or it is unknown, or may have been lost: ask before anything else. Run only what surely charged nothing."""
    work = handle.work
    if entered.do is not Do.RUN:
        engine.operations.emit("lease.rescued", work.operation, state=work.operation.state, money=work.operation.money)
    await ask_everyone(engine, handle, submission.tenor.ask)
    if entered.do is Do.RUN and submission.tenor.ask is not None and money_of(work.operation).state is MoneyState.NONE:
        await _ask_about_next_life(engine, handle, submission.tenor.ask)
    money = money_of(work.operation).state
    shop = work.operation.charged_by == SHOP
    rerun = work.operation.answer is None and (money is MoneyState.NONE or (money is MoneyState.UNKNOWN and shop and submission.rerun_safe))
    if rerun and not work.operation.cancel_asked and not (work.operation.kept and work.operation.state is State.QUEUED):
        return await _run_again(engine, submission, handle, None if work.operation.state is State.RUNNING else Move.START)
    work.operation = _as_claimed_before(entered, work.operation)
    if work.operation.answer is not None:  # it went out before its process died: whether the rest happened is for a person to say
        handle.deferral = Deferral(why="answered_not_confirmed", hold=True)
        told = await end_run(engine, handle, submission.tenor, reading=None, answer=None)
        return Begun(Do.TELL, told.operation)
    if entered.do is Do.RESOLVE and work.operation.notes == entered.operation.notes:
        # nothing was learned: pressing again neither puts the queue's own turn off nor uses up its looks
        return Begun(Do.TELL, await engine.operations.end(_as_claimed_before(entered, entered.operation), work.lease))
    if money is MoneyState.NONE:  # kept, or on its way out: the queue goes on with it
        handle.deferral = Deferral(why=work.operation.why or "charge_unknown", outage=True)
    elif money is MoneyState.CHARGED:  # nothing has failed in placing it: its turn is now
        handle.deferral = Deferral(untried_seconds=0.0)
    tenor = replace(submission.tenor, may_keep=submission.tenor.may_keep or money is MoneyState.NONE)
    told = await end_run(engine, handle, tenor, reading=None, answer=None)
    return Begun(Do.TELL, told.operation)


async def _resume(engine: Engine, submission: Submission, handle: OperationHandle) -> Begun:
    """Its shopper goes on with it. Never two payments alive: what may still complete is cancelled at the gateway first.

    If that cannot be made sure, or the old payment has gone through meanwhile, nothing is run, and the record says so.
    """
    work = handle.work
    for key in money_of(work.operation).unknown_keys:
        gateway = engine.gateway(next((send.gateway for send in work.operation.sends if send.key == key), ""))
        if gateway is not None:
            await look(engine, work, gateway=gateway, key=key, cancel=True)
    if work.operation.cancel_asked or money_of(work.operation).state not in (MoneyState.NONE, MoneyState.DECLINED):
        due_now = changed(work.operation, due_at=engine.clock.now())
        return Begun(Do.TELL, await engine.operations.end(due_now, work.lease))
    engine.operations.emit("order.resumed", work.operation, why=work.operation.why, generation=work.operation.generation + 1)
    known = len(work.operation.notes)
    work.operation = gone_on_with(work.operation, now=engine.clock.now())
    begun = await _run_again(engine, submission, handle, Move.REOPEN, resumed=True)
    wish = next((note for note in begun.operation.notes[known:] if note.kind is NoteKind.CANCEL), None)
    return await _cancelled_meanwhile(engine, submission, begun, wish) if wish is not None else begun


async def _cancelled_meanwhile(engine: Engine, submission: Submission, begun: Begun, wish: Note) -> Begun:
    """The wish to cancel came with the save that began the next life: it was told as heard, so it holds for this one, too."""
    generation = begun.operation.generation
    noted = await engine.operations.note(begun.operation.id, replace(wish, generation=generation, event_id=f"cancel:{generation}"))
    handle = begun.handle
    if handle is None:  # it waits already: the queue ends it
        return replace(begun, operation=changed(begun.operation, notes=noted.notes))
    shop = begun.operation.charged_by == SHOP
    handle.work.operation = changed(unsent(begun.operation) if shop else begun.operation, notes=noted.notes)
    return await _ended_by_wish(engine, submission, handle)


async def ask_everyone(engine: Engine, handle: OperationHandle, ask: Ask | None) -> None:
    """Ask the gateways, and the rule's hook, about everything that is unknown, once."""
    await look_at_unknown(engine, handle.work)
    if ask is not None:
        await ask_about_shop_sends(engine, handle, ask)


async def _ask_about_next_life(engine: Engine, handle: OperationHandle, ask: Ask) -> None:
    """The shop says that this life charged nothing. One after it may have, where the store has lost both: then it is that one."""
    work, before = handle.work, handle.work.operation
    following = changed(before, generation=before.generation + 1)
    work.operation = changed(following, sends=following.sends + shop_line(engine, following, following))
    await ask_about_shop_sends(engine, handle, ask)
    if money_of(work.operation).state not in (MoneyState.CHARGED, MoneyState.DECLINED):
        work.operation = changed(work.operation, generation=before.generation, sends=before.sends)


async def _run_again(engine: Engine, submission: Submission, handle: OperationHandle, to: Move | None, *, resumed: bool = False) -> Begun:
    """The next life (or the next try of this one) takes over what this request carries."""
    work, fresh = handle.work, submission.fresh
    operation = move(work.operation, _within_its_life(engine, submission, work, to)) if to else work.operation
    accepted = to is not Move.REOPEN and operation.kept and operation.give_up_at is not None
    asked_until = operation.asked_until if resumed or to is not Move.REOPEN else None
    promised = accepted or asked_until is not None
    operation = changed(
        operation,
        fingerprint=fresh.fingerprint,
        basket=fresh.basket,
        claims=operation.claims if resumed else _claims_now(engine, work.operation, fresh),
        request=_sealed_for(engine, operation, fresh, "request") or operation.request,
        amount_minor=fresh.amount_minor,
        currency=fresh.currency,
        contact=operation.contact if promised else _sealed_for(engine, operation, fresh, "contact"),
        contact_hash=operation.contact_hash if promised else fresh.contact_hash,
        kept=accepted or fresh.kept,
        consent=operation.consent if promised else None,
        quote_until=operation.quote_until if promised else None,
        asked_until=asked_until,
        give_up_at=operation.give_up_at if accepted else None,
        answer=None,
        answered_at=None,
        attempts=operation.attempts + 1,
        sends=operation.sends + (() if submission.blocked else shop_line(engine, operation, fresh)),
        steps=_steps_for(submission, work.operation, reopened=to is Move.REOPEN),
    )
    if submission.blocked:
        work.operation = operation
        return await _keep_or_refuse(engine, submission, handle)
    record = remember(operation, engine.operations.entry("operation.opened", generation=operation.generation))
    work.operation = await engine.operations.write(record, work.lease)
    if work.operation.charged_by == SHOP and work.operation.cancel_asked:  # it came with the save that wrote the line
        work.operation = unsent(work.operation)
        return await _ended_by_wish(engine, submission, handle)
    engine.operations.emit("operation.opened", work.operation, generation=operation.generation)
    return Begun(Do.RUN, work.operation, handle)


def _claims_now(engine: Engine, there: Operation, fresh: Operation) -> tuple[str, ...]:
    """Those of the purchase that it is from now on; with those of before, where that may have been paid."""
    sure = money_of(there).state not in (MoneyState.UNKNOWN, MoneyState.CHARGED) and not engine.operations.doubts(there)
    return fresh.claims if sure else there.claims


def _within_its_life(engine: Engine, submission: Submission, work: Work, to: Move) -> Move:
    """A try of which the gateway knows nothing begins no new life: a key that is never found may hide the next one, that paid."""
    operation, fresh, now = work.operation, submission.fresh, engine.clock.now()
    if to is not Move.REOPEN or operation.charged_by == SHOP:  # of a shop's order, the present life and the next are asked about
        return to
    gateways = [engine.gateway(send.gateway) for send in operation.sends]
    key_seconds = min((gateway.key_lifetime_seconds if gateway is not None else 0.0 for gateway in gateways), default=0.0)
    figures = (fresh.amount_minor, fresh.currency)
    return Move.RERUN if goes_on(operation, figures=figures, key_seconds=key_seconds, now=now) else to


async def _ended_by_wish(engine: Engine, submission: Submission, handle: OperationHandle) -> Begun:
    """Nothing runs: the queue carries the wish out."""
    handle.deferral = Deferral(why="cancel_asked", outage=True)
    told = await end_run(engine, handle, replace(submission.tenor, may_keep=True), reading=None, answer=None)
    return Begun(Do.TELL, told.operation)


def _sealed_for(engine: Engine, operation: Operation, fresh: Operation, member: str) -> bytes | None:
    """What *fresh* has sealed of the request, sealed for *operation*: found by a claim, it has another id."""
    sealed: bytes | None = getattr(fresh, member)
    if sealed is None or fresh.id == operation.id:
        return sealed
    return seal_member(engine.seal, operation, member, open_member(engine.seal, fresh, member, sealed))


def _steps_for(submission: Submission, there: Operation, *, reopened: bool) -> tuple[Step, ...]:
    """Finished steps belong to the request that they were made for, and to a life that was not undone: whoever buys again
    what was given back or cancelled gets an order of its own. One without an end stays, so that a person looks."""
    undone = reopened and (money_of(there).state is MoneyState.REFUNDED or (there.state is State.CANCELLED and there.why not in LET_GO))
    if submission.submit_of(there).same_request and not undone:
        return there.steps
    return tuple(step for step in there.steps if step.ended_at is None)


async def _replace_kept(engine: Engine, submission: Submission, entered: Entered, work: Work) -> Begun:
    """The basket changed while the order waits, surely unpaid: what is kept is now this request."""
    fresh, kept = submission.fresh, work.operation
    wanted = changed(kept, amount_minor=fresh.amount_minor, currency=fresh.currency)
    keeping = submission.tenor.keeping
    promise = await promise_for(engine, wanted, keeping) if keeping is not None else Promise(kept.consent, kept.quote_until)
    if promise.why_not:  # what was kept before stays as it is, and is told
        tell_not_kept(engine, wanted, promise.why_not)
        return Begun(Do.TELL, await engine.operations.end(_as_claimed_before(entered, kept), work.lease))
    kept = promise.on(kept)
    record = engine.operations.moved(
        kept,
        Move.DEFER,
        "order.queued",
        detail={"why": WHY_REPLACED},
        why=WHY_REPLACED,
        due_at=kept.due_at or engine.clock.now(),
        fingerprint=fresh.fingerprint,
        basket=fresh.basket,
        claims=_claims_now(engine, work.operation, fresh),
        request=_sealed_for(engine, kept, fresh, "request"),
        amount_minor=fresh.amount_minor,
        currency=fresh.currency,
    )
    return Begun(Do.TELL, await engine.operations.end(record, work.lease))
