"""The request path while the store is away: the order goes to this machine's spool, if its shopper can be told so."""

from __future__ import annotations

import secrets

from cxguard.asgi.identify import Identity
from cxguard.asgi.telling import Teller
from cxguard.clock import boot_id
from cxguard.core.answer import Situation
from cxguard.core.operation import Operation
from cxguard.core.reading import HandlerAnswer
from cxguard.core.spooling import WHY_STORE_AWAY, Lay, is_order, spooled
from cxguard.engine.entering import Submission
from cxguard.engine.keeping import Promise, promise_for, tell_not_kept
from cxguard.engine.spool import Laid, Spool
from cxguard.errors import StoreError, StoreUnavailable
from cxguard.guard import Guard
from cxguard.stores.base import Query


async def spool_order(guard: Guard, identity: Identity, submission: Submission, error: Exception) -> Laid | None:
    """Keep the order in the spool, or find it there. None: it is not kept, and nothing may be promised.

    Args:
        error: why the store was not asked. One that answers, and is unfit, is nothing to fall over from.
    """
    spool = guard.spool
    if spool is None or not spool.open or not isinstance(error, StoreUnavailable):
        return None
    try:
        order = _order(guard, identity, submission)
        promise = await _promise(guard, submission, order, spool)
        if promise is None:
            return None
        order = promise.on(order)
        laid = await spool.lay(order, submission.submit_of, submission.terms.policy)
    except StoreError as refused:
        guard.emit("spool.refused", why=str(refused)[:200])
        return None
    if laid.lay in (Lay.NEW, Lay.FILL, Lay.REPLACE):
        guard.emit("order.spooled", laid.operation, why=WHY_STORE_AWAY, amount_minor=order.amount_minor, currency=order.currency)
    return laid


async def _promise(guard: Guard, submission: Submission, order: Operation, spool: Spool) -> Promise | None:
    """As in any outage: the rule keeps orders, the client can be told, no card, the shopper agreed, no cap. None: not kept."""
    tenor = submission.tenor
    why = tenor.why_not
    if tenor.may_keep and tenor.keeping is not None:
        counted = not await _lies_here(spool, order)
        promise = await promise_for(guard.engine, order, tenor.keeping, store=spool.store, counted=counted)
        if not promise.why_not:
            return promise
        why = promise.why_not
    if why:
        tell_not_kept(guard.engine, order, why)
    return None


def tell_spooled(teller: Teller, laid: Laid, identity: Identity) -> HandlerAnswer:
    """What the shopper hears: of an order that is saved, never that nothing was charged."""
    match laid.lay:
        case Lay.MISMATCH:
            situation: Situation | None = Situation.MISMATCH
        case Lay.DUPLICATE:
            situation = Situation.DUPLICATE_RUNNING
        case Lay.WAIT:
            situation = Situation.IN_FLIGHT
        case _:
            situation = None
    return teller.spooled(laid.operation, identity.telling, identity.snapshot, situation=situation)


def _order(guard: Guard, identity: Identity, submission: Submission) -> Operation:
    """The record for the spool. One that the shopper confirmed to buy again is named as the store would have named it."""
    fresh = submission.fresh
    if identity.confirmed == fresh.reference and not fresh.client_key:
        fresh = submission.again(fresh)
    mark, clock, seconds = secrets.token_hex(8), guard.clock, identity.rule.give_up_seconds
    times = {"now": clock.now(), "steady": clock.monotonic(), "give_up_seconds": seconds}
    return spooled(fresh, mark=mark, boot=boot_id(), confirmed=identity.confirmed, **times)


async def _lies_here(spool: Spool, order: Operation) -> bool:
    """Whether this order is spooled already, under its own name or another one of its purchase."""
    there = await spool.get(order.id)
    if there is None and order.claims:
        page = await spool.store.search(Query(spool.namespace, claim=order.claims[0], limit=1))
        there = next(iter(page.operations), None)
    return there is not None and is_order(there)
