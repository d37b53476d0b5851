"""Whether an order may be kept for later: asked when there is an outage to keep it through, and never before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from cxguard.core.asks import QUOTE_ENDED
from cxguard.core.caps import Cap, Caps, Waiting, cap_reached
from cxguard.core.consent import NO_CONSENT, Consent
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State, changed
from cxguard.engine.bounds import is_cancelled
from cxguard.engine.engine import Engine
from cxguard.engine.operations import twice
from cxguard.errors import HookFailed
from cxguard.logs import get_logger, where_raised
from cxguard.stores.base import Query, Store

T = TypeVar("T")

_log = get_logger("keeping")

CANNOT_WAIT = "cannot_wait"  # goods of now: a download, a gift card, something with an age check
CAN_WAIT_FAILED = "can_wait_failed"  # the shop's own look at them failed, so nothing is promised
QUOTE_UNREADABLE = "quote_unreadable"
CONSENT_FAILED = "consent_failed"  # the shopper's word could not be read


@dataclass(frozen=True, slots=True)
class Keeping:
    """What one submit brings with it, in case its order has to be kept.

    Attributes:
        can_wait, agreed: whether these goods can wait, and whether the shopper agreed to it; bounded by whoever made them.
        quoted: until when the request says that its price holds; None: it says nothing. Raises `ValueError` if it is unreadable.
        quote_seconds: how long the price holds at most.
        terms: the version of the text that the shopper agreed to.
        consent_seconds: how long that holds.
    """

    caps: Caps
    can_wait: Callable[[], Awaitable[bool]]
    agreed: Callable[[], Awaitable[bool]]
    terms: str
    consent_seconds: float
    quoted: Callable[[], Awaitable[float | None]]
    quote_seconds: float


@dataclass(frozen=True, slots=True)
class Promise:
    """What a kept order rests on: the shopper's word, and how long the price holds. Or *why_not*."""

    consent: Consent | None = None
    quote_until: float | None = None
    why_not: str = ""

    def on(self, operation: Operation) -> Operation:
        """The record with it; without it, what it rested on before stands."""
        return operation if self.why_not else changed(operation, consent=self.consent, quote_until=self.quote_until)


async def promise_for(
    engine: Engine, operation: Operation, keeping: Keeping, *, store: Store | None = None, counted: bool = True
) -> Promise:
    """What *operation*, as it would be kept, rests on; or why it may not be kept: a short code for the event.

    The figures are read before the order is written, so orders that are kept in the same moment can go over a cap
    together: by as many as there are requests under way, and no more.

    Args:
        store: whose figures count; by default the engine's own.
        counted: look at the figures; False for an order that has our word already.

    Raises:
        StoreUnavailable: the figures are not known; nothing is kept.
    """
    for says_yes, no, failed in ((keeping.can_wait, CANNOT_WAIT, CAN_WAIT_FAILED), (keeping.agreed, NO_CONSENT, CONSENT_FAILED)):
        why = await _unless_yes(says_yes, operation, no=no, failed=failed)
        if why:
            return Promise(why_not=why)
    now = engine.clock.now()
    quote_until = await _quote_until(operation, keeping, now=now)
    if quote_until is None or quote_until <= now:
        return Promise(why_not=QUOTE_UNREADABLE if quote_until is None else QUOTE_ENDED)
    cap = await _cap_reached(store or engine.operations.store, operation, keeping.caps) if counted else None
    if cap is not None:
        return Promise(why_not=cap.value)
    until, accepted = now + keeping.consent_seconds, (operation.amount_minor, operation.currency)
    return Promise(Consent(keeping.terms, now, until, *accepted), quote_until)


async def _cap_reached(store: Store, operation: Operation, caps: Caps) -> Cap | None:
    waiting = await _waiting_beside(store, operation, owner_orders_max=caps.owner_orders_max)
    return cap_reached(caps, waiting, amount_minor=operation.amount_minor, currency=operation.currency)


async def _quote_until(operation: Operation, keeping: Keeping, *, now: float) -> float | None:
    """Until when the price holds; None: what the request says of it cannot be read."""
    try:
        quoted = await _asked(keeping.quoted)
    except Exception as error:  # noqa: BLE001 - the shop's own callable may raise anything; the shopper is told "not kept"
        _log.warning("keeping.not_asked", why=QUOTE_UNREADABLE, reference=operation.reference, **where_raised(error))
        return None
    longest = now + keeping.quote_seconds
    return longest if quoted is None else min(longest, quoted)


def tell_not_kept(engine: Engine, operation: Operation, why: str) -> None:
    """Tell the listeners that an order does not wait, and why not."""
    engine.operations.emit("order.not_kept", operation, why=why, amount_minor=operation.amount_minor, currency=operation.currency)


async def _unless_yes(says_yes: Callable[[], Awaitable[bool]], operation: Operation, *, no: str, failed: str) -> str:
    try:
        return "" if await _asked(says_yes) else no
    except Exception as error:  # noqa: BLE001 - the shop's own callable may raise anything; the shopper is told "not kept"
        _log.warning("keeping.not_asked", why=failed, reference=operation.reference, **where_raised(error))
        return failed


async def _waiting_beside(store: Store, operation: Operation, *, owner_orders_max: int) -> Waiting:
    """What waits beside *operation* itself: a kept order whose basket changes is in the figures already."""
    namespace = operation.namespace
    tally = await twice(lambda: store.tally(namespace))
    query = Query(namespace=namespace, kept_by=operation.owner, limit=owner_orders_max + 1)
    page = await twice(lambda: store.search(query))
    there = next((one for one in page.operations if one.id == operation.id), None)
    unpaid = dict(tally.unpaid_minor)
    orders = sum(count for (state, _), count in tally.operations.items() if state == State.QUEUED)
    if there is not None:
        orders -= 1
        if there.money is MoneyState.NONE and there.currency is not None:
            unpaid[there.currency] = unpaid.get(there.currency, 0) - (there.amount_minor or 0)
    return Waiting(unpaid, orders, len(page.operations) - (there is not None))


async def _asked(ask: Callable[[], Awaitable[T]]) -> T:
    """What the shop's own callable says. A task of its own that was cancelled is its failure, and no end of ours."""
    try:
        return await ask()
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        raise HookFailed("it waited for something that was cancelled") from error
