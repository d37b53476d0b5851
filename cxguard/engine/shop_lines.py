"""The lines of an order whose shop charges by itself: each stands for what one run of its own code may charge, unseen by us."""

from __future__ import annotations

from dataclasses import replace

from cxguard.core import names
from cxguard.core.money import Send, SendKind, next_number
from cxguard.core.operation import Operation, changed
from cxguard.core.outcomes import NotCharged
from cxguard.core.resolve import SHOP
from cxguard.engine.engine import Engine


def shop_line(engine: Engine, operation: Operation, fresh: Operation) -> tuple[Send, ...]:
    """The line of the run that begins, unknown from the start. None where the guard charges."""
    if operation.charged_by != SHOP:
        return ()
    kept = next((send.key for send in operation.sends if send.generation == operation.generation), None)
    line = Send(
        number=next_number(operation.sends, operation.notes),
        gateway=SHOP,
        key=kept or names.gateway_key(operation.id, step="charge", generation=operation.generation),
        step="charge",
        generation=operation.generation,
        kind=SendKind.CHARGE,
        amount_minor=fresh.amount_minor,
        currency=fresh.currency,
        sent_at=engine.clock.now(),
        keyed=False,  # we do not see whether the handler passes the key on
    )
    return (line,)


def unsent(operation: Operation) -> Operation:
    """The newest line never left: nothing was run under it."""
    *before, last = operation.sends
    return changed(operation, sends=(*before, replace(last, outcome=NotCharged(why="cancel_asked"))))
