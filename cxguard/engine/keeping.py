"""Whether an order may be kept for later: asked when there is an outage to keep it through, and never before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cxguard.core.caps import Caps, Waiting, cap_reached
from cxguard.core.consent import NO_CONSENT, Consent
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State, changed
from cxguard.engine.engine import Engine
from cxguard.logs import get_logger, where_raised
from cxguard.stores.base import Query

_log = get_logger("keeping")

CANNOT_WAIT = "cannot_wait"  # goods of now: a download, a gift card, something with an age check
CAN_WAIT_FAILED = "can_wait_failed"  # the shop's own look at them failed, so nothing is promised
CONSENT_FAILED = "consent_failed"  # the shopper's word could not be read


@dataclass(frozen=True, slots=True)
class Keeping:
    """What one submit brings with it, in case its order has to be kept.

    Attributes:
        can_wait, agreed: whether these goods can wait, and whether the shopper agreed to it; bounded by whoever made them.
        terms: the version of the text that the shopper agreed to.
        consent_seconds: how long that holds.
    """

    caps: Caps
    can_wait: Callable[[], Awaitable[bool]]
    agreed: Callable[[], Awaitable[bool]]
    terms: str
    consent_seconds: float

    def promised(self, operation: Operation, *, now: float) -> Operation:
        """The record with what its shopper agreed to: the accepted amount and no more."""
        until = now + self.consent_seconds
        consent = Consent(self.terms, at=now, until=until, ceiling_minor=operation.amount_minor, currency=operation.currency)
        return changed(operation, consent=consent)


async def why_not_kept(engine: Engine, operation: Operation, keeping: Keeping) -> str:
    """Why *operation*, as it would be kept, may not be: a short code for the event; empty: it may.

    The figures are read before the order is written, so orders that are kept in the same moment can go over a cap
    together: by as many as there are requests under way, and no more.

    Raises:
        StoreUnavailable: the figures are not known; nothing is kept.
    """
    for says_yes, no, failed in ((keeping.can_wait, CANNOT_WAIT, CAN_WAIT_FAILED), (keeping.agreed, NO_CONSENT, CONSENT_FAILED)):
        why = await _unless_yes(says_yes, operation, no=no, failed=failed)
        if why:
            return why
    waiting = await _waiting_beside(engine, operation, owner_orders_max=keeping.caps.owner_orders_max)
    cap = cap_reached(keeping.caps, waiting, amount_minor=operation.amount_minor, currency=operation.currency)
    return cap.value if cap is not None else ""


def tell_not_kept(engine: Engine, operation: Operation, why: str) -> None:
    """Tell the listeners that an order does not wait, and why not."""
    engine.operations.emit("order.not_kept", operation, why=why, amount_minor=operation.amount_minor, currency=operation.currency)


async def _unless_yes(says_yes: Callable[[], Awaitable[bool]], operation: Operation, *, no: str, failed: str) -> str:
    try:
        return "" if await says_yes() else no
    except Exception as error:  # noqa: BLE001 - the shop's own callable may raise anything; the shopper is told "not kept"
        _log.warning("keeping.not_asked", why=failed, reference=operation.reference, **where_raised(error))
        return failed


async def _waiting_beside(engine: Engine, operation: Operation, *, owner_orders_max: int) -> Waiting:
    """What waits beside *operation* itself: a kept order whose basket changes is in the figures already."""
    store, namespace = engine.operations.store, engine.operations.namespace
    tally = await store.tally(namespace)
    query = Query(namespace=namespace, kept_by=operation.owner, limit=owner_orders_max + 1)
    page = await store.search(query)
    there = next((one for one in page.operations if one.id == operation.id), None)
    unpaid = dict(tally.unpaid_minor)
    orders = sum(count for (state, _), count in tally.operations.items() if state == State.QUEUED)
    if there is not None:
        orders -= 1
        if there.money is MoneyState.NONE and there.currency is not None:
            unpaid[there.currency] = unpaid.get(there.currency, 0) - (there.amount_minor or 0)
    return Waiting(unpaid, orders, len(page.operations) - (there is not None))
