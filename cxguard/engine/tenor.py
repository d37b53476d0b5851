"""What a rule says about how its runs end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxguard.core.outcomes import Outcome
from cxguard.engine.keeping import Keeping

if TYPE_CHECKING:
    from cxguard.engine.handle import OperationHandle

Ask = Callable[["OperationHandle"], Awaitable[Outcome] | Outcome]


@dataclass(frozen=True, slots=True)
class Tenor:
    """What the rule says about ending a run.

    Attributes:
        may_keep: the merchant opted in, this shopper can be told, and the request holds nothing that may not be kept.
        why_not: why not, where the merchant opted in: for the event.
        keeping: what is looked at before it is kept; None: it was kept before, or nobody waits for it.
        has_later: an order that is paid can be completed without the shopper.
        ask: the rule's `resolve` hook.
        queue_seconds: the order's own end, counted from now, when it is kept.
        keep_seconds: how long an ended record stays whole.
    """

    may_keep: bool
    has_later: bool
    ask: Ask | None
    queue_seconds: float
    keep_seconds: float
    why_not: str = ""
    keeping: Keeping | None = None
    may_ask: bool = False  # the shopper can be sent back to the checkout, to go on with the order
