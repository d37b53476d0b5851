"""What Stripe's answers mean: tables from its errors and from the states of a PaymentIntent to outcomes, as data.

Nothing here knows the SDK: `cxguard.gateways.stripe` turns what it raised into a `Failure`, and what it returned into a
plain mapping. Sources: Stripe's API reference (errors, the PaymentIntent object, idempotent requests) and its list of
decline codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cxguard.core.outcomes import (
    CANCELLED,
    OTHER_FIGURES,
    Charged,
    Declined,
    DeclineReason,
    NeedsShopper,
    NotCharged,
    Outcome,
    Refunded,
    Unknown,
)
from cxguard.gateways.base import KEY_MEMBER
from cxguard.gateways.http import Phase
from cxguard.gateways.stripe_amounts import from_stripe

GENERIC_CODE = "generic_decline"

_REASONS: Mapping[str, DeclineReason] = {
    "insufficient_funds": DeclineReason.FUNDS,
    "expired_card": DeclineReason.EXPIRED,
    "incorrect_cvc": DeclineReason.DETAILS,
    "invalid_cvc": DeclineReason.DETAILS,
    "incorrect_number": DeclineReason.DETAILS,
    "invalid_number": DeclineReason.DETAILS,
    "incorrect_zip": DeclineReason.DETAILS,
    "incorrect_address": DeclineReason.DETAILS,
    "invalid_expiry_month": DeclineReason.DETAILS,
    "invalid_expiry_year": DeclineReason.DETAILS,
    "card_velocity_exceeded": DeclineReason.LIMIT,
    "withdrawal_count_limit_exceeded": DeclineReason.LIMIT,
    "invalid_amount": DeclineReason.LIMIT,
}
# Whoever holds such a card is never told which of these it was, and neither is a log.
_NEVER_NAMED = frozenset({
    "fraudulent", "lost_card", "stolen_card", "pickup_card", "restricted_card", "merchant_blacklist", "security_violation",
    "stop_payment_order", "highest_risk_level", "elevated_risk_level",
})  # fmt: skip
_NEEDS_SHOPPER = frozenset({"authentication_required", "authentication_not_handled"})


@dataclass(frozen=True, slots=True)
class Failure:
    """What the SDK raised.

    Attributes:
        kind: the name of its class.
        phase: how far the request had come, for one without an answer.
        code: `error.code`, also where the SDK leaves it out.
        intent: the PaymentIntent that came with the error.
    """

    kind: str
    status: int | None = None
    code: str = ""
    decline_code: str = ""
    phase: Phase = Phase.SENT
    retry_after_seconds: float | None = None
    intent: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One row of the table: a failure that fits all that is given here has this meaning."""

    kind: str
    means: Callable[[Failure], Outcome]
    code: str | None = None
    phase: Phase | None = None
    status: int | None = None

    def fits(self, failure: Failure) -> bool:
        return (
            self.kind == failure.kind
            and self.status in (None, failure.status)
            and (self.code is None or self.code in (failure.code, failure.decline_code))
            and (self.phase is None or self.phase is failure.phase)
        )


def _not_sent(_: Failure) -> Outcome:
    return NotCharged("not sent", retryable=True, reroutable=True)


def _no_answer(_: Failure) -> Outcome:
    return Unknown("no answer")


def _needs_shopper(failure: Failure) -> Outcome:
    return NeedsShopper("authentication_required", resume_url=_resume_url(failure.intent or {}))


def _declined(failure: Failure) -> Outcome:
    return decline(failure.decline_code or failure.code)


def _throttled(failure: Failure) -> Outcome:
    return NotCharged("throttled", retryable=True, retry_after_seconds=failure.retry_after_seconds, reroutable=True)


def _another_request(_: Failure) -> Outcome:
    return Unknown("the key was used for another request")


def _in_progress(_: Failure) -> Outcome:
    return Unknown("processing")


def _refused(failure: Failure) -> Outcome:
    return NotCharged(f"refused: {failure.code or failure.kind}"[:200])


def _locked_out(failure: Failure) -> Outcome:
    return NotCharged(f"refused: {failure.kind}", reroutable=True)


def _server_error(failure: Failure) -> Outcome:
    return Unknown(f"HTTP {failure.status}" if failure.status else "no readable answer")


FAILURES: tuple[FailureRow, ...] = (
    FailureRow("APIConnectionError", _not_sent, phase=Phase.UNSENT),
    FailureRow("APIConnectionError", _no_answer, phase=Phase.SENT),
    FailureRow("CardError", _needs_shopper, code="authentication_required"),
    FailureRow("CardError", _needs_shopper, code="authentication_not_handled"),
    FailureRow("CardError", _declined),
    FailureRow("RateLimitError", _throttled),
    FailureRow("IdempotencyError", _another_request),
    FailureRow("APIError", _in_progress, code="idempotency_key_in_use"),
    FailureRow("InvalidRequestError", _in_progress, code="idempotency_key_in_use"),
    FailureRow("InvalidRequestError", _refused),
    FailureRow("AuthenticationError", _locked_out),
    FailureRow("PermissionError", _locked_out),
    FailureRow("APIError", _throttled, status=429),  # turned away in front of Stripe, so not in Stripe's own words
    FailureRow("APIError", _server_error),
)


def read_failure(failure: Failure) -> Outcome:
    """What a failed charge means for the money. What no row fits is unknown."""
    row = next((row for row in FAILURES if row.fits(failure)), None)
    return row.means(failure) if row is not None else Unknown(f"unmapped {failure.kind}"[:200])


def read_look_up_failure(failure: Failure) -> Outcome:
    """What a failed question says about the money: nothing."""
    if failure.kind == "InvalidRequestError" and failure.code == "resource_missing":
        return Unknown("not_found")
    return Unknown(f"could not ask: {failure.kind} {failure.code}".rstrip()[:200])


def decline(code: str) -> Declined:
    """A decline by its code, in a class that the shopper may be told."""
    named = GENERIC_CODE if code in _NEVER_NAMED else code
    return Declined(_REASONS.get(code, DeclineReason.GENERIC), named)


def read_intent(intent: Mapping[str, Any], *, key: str) -> Outcome:
    """The payment that a PaymentIntent describes."""
    if metadata_of(intent).get(KEY_MEMBER, key) != key:
        return Unknown("the answer is about another key")
    currency = _text(intent, "currency").upper()
    amount_minor = from_stripe(intent.get("amount"), currency)
    if amount_minor is None or not currency:
        return Unknown("an answer without a readable amount and currency")
    match intent.get("status"):
        case "succeeded":
            return _taken(intent, amount_minor, currency)
        case "requires_capture":
            return Charged(amount_minor, currency, payment_id=_text(intent, "id"), captured=False)
        case "processing":
            return Unknown("processing")
        case "requires_action":
            return NeedsShopper("one more step at the bank", resume_url=_resume_url(intent))
        case "canceled":
            return NotCharged(CANCELLED)
        case "requires_payment_method" if intent.get("last_payment_error"):
            return _last_error(intent)
        case status:
            return Unknown(f"unreadable status {str(status)[:40]!r}")


def _taken(intent: Mapping[str, Any], amount_minor: int, currency: str) -> Outcome:
    returned = refunded_minor(intent)
    received = from_stripe(intent.get("amount_received", intent["amount"]), currency)
    if received is None:
        return Unknown("an answer without a readable amount and currency")
    if returned and returned >= received:
        return Refunded(returned, currency)
    # of a part that was captured the capture's own line tells: here the whole reservation is what this key stands for
    return Charged(amount_minor, currency, payment_id=_text(intent, "id"), captured=received >= amount_minor)


def refunded_minor(intent: Mapping[str, Any]) -> int:
    """How much of a PaymentIntent went back; 0 also where its charge did not come along."""
    return went_back_minor(intent.get("latest_charge"), _text(intent, "currency").upper())


def went_back_minor(charge: Any, currency: str) -> int:
    """How much of a charge went back. Of a reservation that was taken in part, Stripe counts what it let go as refunded, too: that
    was never taken. Once all that was taken is back, nothing of the charge stands, so its whole sum is told."""
    if not isinstance(charge, Mapping):
        return 0
    told, whole, taken = (from_stripe(charge.get(name), currency) or 0 for name in ("amount_refunded", "amount", "amount_captured"))
    let_go = max(0, whole - taken) if taken else 0
    returned = max(0, told - let_go)
    return told if returned >= taken else returned


def _last_error(intent: Mapping[str, Any]) -> Outcome:
    error = intent["last_payment_error"]
    code = _text(error, "decline_code") or _text(error, "code")
    if code in _NEEDS_SHOPPER or _text(error, "code") in _NEEDS_SHOPPER:
        return NeedsShopper("authentication_required")
    return decline(code)


def read_capture(intent: Mapping[str, Any], *, amount_minor: int, currency: str) -> Outcome:
    """What a capture took: of the amount that was asked for, or else unknown."""
    told_currency = _text(intent, "currency").upper()
    told = from_stripe(intent.get("amount_received", intent.get("amount")), told_currency)
    if intent.get("status") != "succeeded":
        return Unknown(f"unreadable status {str(intent.get('status'))[:40]!r}")
    if (told, told_currency) != (amount_minor, currency):
        return Unknown(f"{OTHER_FIGURES} {amount_minor} {currency}, told {told} {told_currency}"[:200])
    return Charged(amount_minor, currency, payment_id=_text(intent, "id"))


def read_refund(refund: Mapping[str, Any]) -> Outcome:
    """What became of a refund. A pending one has left the balance and may still come back: it counts when it has arrived."""
    currency = _text(refund, "currency").upper()
    amount_minor = from_stripe(refund.get("amount"), currency)
    match refund.get("status"):
        case "succeeded" if amount_minor and currency:
            return Refunded(amount_minor, currency, refund_id=_text(refund, "id"))
        case "succeeded":
            return Unknown("an answer without a readable amount and currency")
        case "pending" | "requires_action":
            return Unknown("processing")
        case "failed" | "canceled":
            return NotCharged(f"refund {refund['status']}")
        case status:
            return Unknown(f"unreadable status {str(status)[:40]!r}")


def read_asked_refund(refund: Mapping[str, Any], *, amount_minor: int, currency: str) -> Outcome:
    """What became of the refund that was asked for: one of another amount is none of it."""
    outcome = read_refund(refund)
    if isinstance(outcome, Refunded) and (outcome.amount_minor, outcome.currency) != (amount_minor, currency):
        return Unknown(f"{OTHER_FIGURES} {amount_minor} {currency}, told {outcome.amount_minor} {outcome.currency}"[:200])
    return outcome


def metadata_of(members: Mapping[str, Any]) -> Mapping[str, Any]:
    """The names that we gave a payment or refund; empty when it is none of ours."""
    metadata = members.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _resume_url(intent: Mapping[str, Any]) -> str:
    action = intent.get("next_action")
    redirect = action.get("redirect_to_url") if isinstance(action, Mapping) else None
    return _text(redirect, "url") if isinstance(redirect, Mapping) else ""


def _text(members: Any, name: str) -> str:
    value = members.get(name) if isinstance(members, Mapping) else None
    return value if isinstance(value, str) else ""
