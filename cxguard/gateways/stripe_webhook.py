"""Stripe's webhooks: from signed bytes to a fact about one payment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cxguard.core.outcomes import Outcome, Refunded
from cxguard.gateways.base import KEY_MEMBER, OPERATION_MEMBER, Fact
from cxguard.gateways.stripe_answers import read_intent

INTENT_EVENTS = frozenset({
    "payment_intent.succeeded", "payment_intent.amount_capturable_updated", "payment_intent.payment_failed",
    "payment_intent.canceled", "payment_intent.processing", "payment_intent.requires_action",
})  # fmt: skip
CHARGE_EVENTS = frozenset({"charge.refunded", "charge.refund.updated"})


def read_event(event: Mapping[str, Any]) -> Fact | None:
    """What an event says about a payment of ours; None for every other event."""
    kind, about = str(event.get("type")), (event.get("data") or {}).get("object")
    if not isinstance(about, Mapping):
        return None
    metadata = about.get("metadata") or {}
    key = metadata.get(KEY_MEMBER)
    if not isinstance(key, str) or not key:
        return None
    outcome = _outcome(kind, about, key)
    if outcome is None:
        return None
    operation_id = metadata.get(OPERATION_MEMBER)
    return Fact(
        outcome=outcome,
        event_id=f"stripe:{event.get('id')}",
        gateway_key=key,
        operation_id=operation_id if isinstance(operation_id, str) else "",
        source=f"stripe webhook {kind}",
    )


def _outcome(kind: str, about: Mapping[str, Any], key: str) -> Outcome | None:
    if kind in INTENT_EVENTS:
        return read_intent(about, key=key)
    if kind in CHARGE_EVENTS and about.get("object") == "charge":
        returned, currency = about.get("amount_refunded"), about.get("currency")
        if type(returned) is int and returned > 0 and isinstance(currency, str):
            return Refunded(returned, currency.upper())
    return None
