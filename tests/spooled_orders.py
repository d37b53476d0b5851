"""Spooled orders, what the store has for them, and how their submits compare."""

from __future__ import annotations

from typing import Any

from cxguard.core.decide import Policy, Submit
from cxguard.core.money import MoneyState, Send
from cxguard.core.operation import Entry, Operation, State, refolded
from cxguard.core.outcomes import Charged, Declined, Outcome, Unknown
from cxguard.core.spooling import Merge, arriving, merge, spooled
from cxguard.testing.contract.base import charge_send, sample

CAME = 1_800_000_000.0
SOONER, LATER = CAME - 500.0, CAME + 500.0
DERIVED = Policy(double_click_seconds=10.0, duplicate_window_seconds=900.0, can_resolve=True)
ENTRY = Entry(at=CAME, event="order.queued")
OUTCOMES: dict[MoneyState, Outcome | None] = {
    MoneyState.NONE: None,
    MoneyState.UNKNOWN: Unknown("silence"),
    MoneyState.CHARGED: Charged(4999, "EUR", "pay_1"),
    MoneyState.DECLINED: Declined(),
}


def order(name: str = "a", **changes: Any) -> Operation:
    """A spooled order, as it arrives at the store."""
    fresh = sample(name, amount_minor=4999, currency="EUR", request=b"sealed", created_at=CAME, **changes)
    return arriving(spooled(fresh, mark="m1", now=CAME, give_up_seconds=3600.0), age_seconds=0.0, there=CAME)


def there(state: State, money: MoneyState = MoneyState.NONE, *, at: float = SOONER, **changes: Any) -> Operation:
    """What the store has."""
    outcome = OUTCOMES[money]
    sends: tuple[Send, ...] = (charge_send(outcome=outcome),) if outcome is not None else ()
    ended = {"answered_at": at} if state is State.FINISHED else {}
    record = sample("a", state=state, sends=sends, created_at=SOONER, amount_minor=4999, currency="EUR", **ended, **changes)
    return refolded(record, updated_at=at)


def submit(*, same: bool = True, client_key: bool = True, **changes: Any) -> Submit:
    return Submit(owner="owner", client_key=client_key, same_request=same, amount_minor=4999, currency="EUR", **changes)


def plan(record: Operation, *, leased: bool = False, claim: bool = False, cancelled: bool = False, **compared: Any) -> Merge:
    return merge(record, order().created_at, submit(**compared), DERIVED, leased=leased, claim=claim, cancelled=cancelled)
