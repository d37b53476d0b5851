"""Where the shop's own code charges, unseen by us: what its answer says about the money."""

from __future__ import annotations

from dataclasses import replace

from cxguard.core.operation import Operation, changed
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome
from cxguard.core.reading import Reading
from cxguard.core.resolve import SHOP
from cxguard.engine.charging import Work

# "rejected" by these may hide a charge, so a `resolve` hook is asked first. A good one is no "no" by itself: GraphQL's errors come so.
ASKED_STATUSES = frozenset({*range(200, 300), 400, 409, 422})


def as_read(operation: Operation, reading: Reading) -> Operation:
    """The record with what the shop's answer says about the newest of its own sends, which was written at the start."""
    newest = max((send.number for send in operation.sends if send.gateway == SHOP), default=0)
    sends = tuple(
        replace(send, outcome=_shop_outcome(operation, reading, send.outcome)) if send.number == newest and send.gateway == SHOP else send
        for send in operation.sends
    )
    return changed(operation, sends=sends)


def read_shop_charge(work: Work, reading: Reading) -> None:
    """As `as_read`, of the record in hand."""
    work.operation = as_read(work.operation, reading)


def _shop_outcome(operation: Operation, reading: Reading, before: Outcome) -> Outcome:
    match reading:
        case Reading.SUCCEEDED:
            return Charged(amount_minor=operation.amount_minor or 0, currency=operation.currency or "")
        case Reading.DECLINED:
            return Declined()
        case Reading.REJECTED:
            return NotCharged(why="rejected by the shop")
        case Reading.FAILED:
            return before


def doubtful(reading: Reading, status: int) -> bool:
    """Whether a shop's own "not paid" is asked about before a shopper hears it."""
    return reading is Reading.DECLINED or (reading is Reading.REJECTED and status in ASKED_STATUSES)
