"""Which events are purchases of a visit."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.session import Bought
from cxguard.engine.purchases import PurchaseListener
from cxguard.engine.recorder import Recorder
from cxguard.events import Bus, Event
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock

PAID = {"money": "charged", "amount_minor": 4999, "currency": "EUR"}


@pytest.mark.parametrize(
    ("name", "session", "detail", "bought"),
    [
        ("order.placed", "v.1", {"amount_minor": 4999, "currency": "EUR"}, 4999),
        ("operation.finished", "v.1", PAID, 4999),
        ("operation.finished", "v.1", {"money": "charged"}, None),
        ("operation.finished", "v.1", {"money": "declined"}, "none"),
        ("operation.finished", "v.1", {}, "none"),
        ("operation.finished", "", PAID, "none"),
        ("order.held", "v.1", {"money": "charged"}, "none"),
    ],
)
def test_a_paid_end_is_a_purchase_of_its_visit(name: str, session: str, detail: dict[str, Any], bought: Any) -> None:
    """Only an end with a charge, of an order that was given in a visit; an amount that is not told is not made up."""

    facts: list[Any] = []

    class Heard(Recorder):
        def put(self, fact: Any) -> None:
            facts.append(fact)

    clock = ManualClock()
    recorder = Heard(MemoryStore(clock=clock), clock, namespace="shop")
    PurchaseListener(recorder)(Event(name, 5.0, reference="R", session=session, detail=detail))
    currency = detail.get("currency", "")
    assert facts == ([] if bought == "none" else [Bought("v.1", 5.0, bought, currency, reference="R")])


def test_listening_twice_is_listening_once() -> None:
    """Middleware and worker of one process may both ask for it."""
    clock = ManualClock()
    recorder, bus = Recorder(MemoryStore(clock=clock), clock, namespace="shop"), Bus()
    for _ in range(2):
        bus.listen(PurchaseListener(recorder))
    bus.emit(Event("operation.finished", 5.0, session="v.1", detail=PAID))
    assert recorder.waiting == 1
