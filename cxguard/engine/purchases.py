"""Hear of orders that are paid, in a request or by the worker days later, and tell the visit in which they were given."""

from __future__ import annotations

from dataclasses import dataclass

from cxguard.core.money import MoneyState
from cxguard.core.session import Bought
from cxguard.engine.recorder import Recorder
from cxguard.events import Event


@dataclass(frozen=True, slots=True)
class PurchaseListener:
    """`guard.bus.listen(PurchaseListener(guard.recorder))`. Adding it twice is adding it once."""

    recorder: Recorder

    def __call__(self, event: Event) -> None:
        if event.session and _is_paid(event):
            amount_minor, currency = event.detail.get("amount_minor"), event.detail.get("currency")
            self.recorder.put(Bought(event.session, event.at, amount_minor, currency or "", reference=event.reference))


def _is_paid(event: Event) -> bool:
    if event.name == "order.placed":
        return True
    return event.name == "operation.finished" and event.detail.get("money") == MoneyState.CHARGED
