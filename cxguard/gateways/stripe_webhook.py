"""Stripe's webhooks: from signed bytes to a fact about one payment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cxguard.core.outcomes import Outcome, Refunded, Unknown
from cxguard.gateways.base import KEY_MEMBER, OPERATION_MEMBER, Fact
from cxguard.gateways.stripe_answers import metadata_of, read_intent, read_refund, went_back_minor

INTENT_EVENTS = frozenset({
    "payment_intent.succeeded", "payment_intent.amount_capturable_updated", "payment_intent.payment_failed",
    "payment_intent.canceled", "payment_intent.processing", "payment_intent.requires_action",
})  # fmt: skip
CHARGE_EVENTS = frozenset({"charge.refunded"})
REFUND_EVENTS = frozenset({"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"})


def read_event(event: Mapping[str, Any]) -> Fact | None:
    """What an event says about a payment of ours; None for every other event."""
    kind, data = str(event.get("type")), event.get("data")
    about = data.get("object") if isinstance(data, Mapping) else None
    if not isinstance(about, Mapping):
        return None
    metadata = metadata_of(about)
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
    if kind in CHARGE_EVENTS:
        return _given_back(about)
    if kind in REFUND_EVENTS:  # about the refund's own key: one that is still under way says nothing
        outcome = read_refund(about)
        return None if isinstance(outcome, Unknown) else outcome
    return None


def _given_back(charge: Mapping[str, Any]) -> Outcome | None:
    """The sum of all that went back, about the key of the charge."""
    currency = str(charge.get("currency", "")).upper()
    returned = went_back_minor(charge, currency)
    return Refunded(returned, currency) if returned and currency else None
