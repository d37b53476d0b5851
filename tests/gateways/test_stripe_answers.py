"""Every row of the table from Stripe's errors and states to outcomes."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.gateways.http import Phase
from cxguard.gateways.stripe_answers import (
    FAILURES,
    Failure,
    decline,
    read_asked_refund,
    read_capture,
    read_failure,
    read_intent,
    read_look_up_failure,
    refunded_minor,
)
from cxguard.gateways.stripe_webhook import read_event

KEY = "cxg-1"

FAILED: list[tuple[Failure, Outcome]] = [
    (Failure("APIConnectionError", phase=Phase.UNSENT), NotCharged("not sent", retryable=True, reroutable=True)),
    (Failure("APIConnectionError", phase=Phase.SENT), Unknown("no answer")),
    (Failure("CardError", 402, "authentication_required"), NeedsShopper("authentication_required")),
    (Failure("CardError", 402, "card_declined", "authentication_required"), NeedsShopper("authentication_required")),
    (Failure("CardError", 402, "card_declined", "authentication_not_handled"), NeedsShopper("authentication_required")),
    (Failure("CardError", 402, "card_declined", "insufficient_funds"), Declined(DeclineReason.FUNDS, "insufficient_funds")),
    (Failure("CardError", 402, "card_declined", "generic_decline"), Declined(DeclineReason.GENERIC, "generic_decline")),
    (Failure("CardError", 402, "expired_card"), Declined(DeclineReason.EXPIRED, "expired_card")),
    (Failure("CardError", 402, "incorrect_cvc"), Declined(DeclineReason.DETAILS, "incorrect_cvc")),
    (Failure("RateLimitError", 429), NotCharged("throttled", retryable=True, reroutable=True)),
    (
        Failure("RateLimitError", 429, "rate_limit", retry_after_seconds=7.0),
        NotCharged("throttled", retryable=True, retry_after_seconds=7.0, reroutable=True),
    ),
    (Failure("IdempotencyError", 400), Unknown("the key was used for another request")),
    (Failure("APIError", 409, "idempotency_key_in_use"), Unknown("processing")),
    (Failure("InvalidRequestError", 409, "idempotency_key_in_use"), Unknown("processing")),
    (Failure("InvalidRequestError", 400, "resource_missing"), NotCharged("refused: resource_missing")),
    (Failure("InvalidRequestError", 400), NotCharged("refused: InvalidRequestError")),
    (Failure("AuthenticationError", 401), NotCharged("refused: AuthenticationError", reroutable=True)),
    (Failure("PermissionError", 403), NotCharged("refused: PermissionError", reroutable=True)),
    (Failure("APIError", 429), NotCharged("throttled", retryable=True, reroutable=True)),
    (Failure("APIError", 409), Unknown("HTTP 409")),
    (Failure("APIError", 404), Unknown("HTTP 404")),
    (Failure("APIError", 200), Unknown("HTTP 200")),
    (Failure("APIError", 500), Unknown("HTTP 500")),
    (Failure("APIError", 503), Unknown("HTTP 503")),
    (Failure("APIError"), Unknown("no readable answer")),
    (Failure("TemporarySessionExpiredError", 400), Unknown("unmapped TemporarySessionExpiredError")),
    (Failure("StripeError"), Unknown("unmapped StripeError")),
]


@pytest.mark.parametrize(("failure", "outcome"), FAILED)
def test_each_failure_has_its_meaning(failure: Failure, outcome: Outcome) -> None:
    """Surely not charged only by Stripe's own word or before a byte was sent; everything else is unknown."""
    assert read_failure(failure) == outcome


def test_every_row_is_met() -> None:
    """No row of the table is without an example above."""
    met = {next(row for row in FAILURES if row.fits(failure)) for failure, _ in FAILED if any(row.fits(failure) for row in FAILURES)}
    assert met == set(FAILURES)


@pytest.mark.parametrize("code", ["lost_card", "stolen_card", "fraudulent", "pickup_card", "merchant_blacklist", "highest_risk_level"])
def test_suspicion_is_never_named(code: str) -> None:
    """Lost, stolen and suspected cards are told, kept and logged as a plain decline."""
    assert decline(code) == Declined(DeclineReason.GENERIC, "generic_decline")


def test_a_failed_question_says_nothing_about_the_money() -> None:
    """Neither "not charged" nor "declined" can come from not being able to ask."""
    kinds = {failure.kind for failure, _ in FAILED}
    for failure in [Failure(kind, 400, "x") for kind in kinds]:
        assert isinstance(read_look_up_failure(failure), Unknown)
    assert read_look_up_failure(Failure("InvalidRequestError", 404, "resource_missing")) == Unknown("not_found")


def intent(status: str, **members: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": "pi_1", "object": "payment_intent", "amount": 4999, "currency": "eur", "status": status}
    plain["metadata"] = {"cxguard_key": KEY}
    return {**plain, **members}


ACTION = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/1"}}
STATES: list[tuple[dict[str, Any], Outcome]] = [
    (intent("succeeded", amount_received=4999), Charged(4999, "EUR", "pi_1")),
    (intent("succeeded", amount_received=4999, latest_charge="ch_1"), Charged(4999, "EUR", "pi_1")),
    (intent("succeeded", amount_received=4999, latest_charge={"amount_refunded": 1000}), Charged(4999, "EUR", "pi_1")),
    (intent("succeeded", amount_received=4999, latest_charge={"amount_refunded": 4999}), Refunded(4999, "EUR")),
    (intent("succeeded", amount_received=2000), Charged(4999, "EUR", "pi_1", captured=False)),
    (intent("requires_capture"), Charged(4999, "EUR", "pi_1", captured=False)),
    (intent("processing"), Unknown("processing")),
    (intent("requires_action", next_action=ACTION), NeedsShopper("one more step at the bank", "https://bank.example/1")),
    (intent("requires_action", next_action={"type": "use_stripe_sdk"}), NeedsShopper("one more step at the bank")),
    (intent("canceled"), NotCharged("cancelled")),
    (
        intent("requires_payment_method", last_payment_error={"code": "card_declined", "decline_code": "insufficient_funds"}),
        Declined(DeclineReason.FUNDS, "insufficient_funds"),
    ),
    (
        intent("requires_payment_method", last_payment_error={"code": "authentication_required"}),
        NeedsShopper("authentication_required"),
    ),
    (intent("requires_payment_method"), Unknown("unreadable status 'requires_payment_method'")),
    (intent("requires_confirmation"), Unknown("unreadable status 'requires_confirmation'")),
    (intent("brand_new"), Unknown("unreadable status 'brand_new'")),
    (intent("succeeded", amount="4999"), Unknown("an answer without a readable amount and currency")),
    (intent("succeeded", amount=True), Unknown("an answer without a readable amount and currency")),
    (intent("succeeded", amount=-1), Unknown("an answer without a readable amount and currency")),
    (intent("succeeded", currency=None), Unknown("an answer without a readable amount and currency")),
    (intent("succeeded", amount_received="all"), Unknown("an answer without a readable amount and currency")),
    (intent("succeeded", metadata=[]), Charged(4999, "EUR", "pi_1")),
    (intent("succeeded", amount=500, amount_received=500, currency="isk"), Charged(5, "ISK", "pi_1")),
    (intent("succeeded", amount=501, amount_received=501, currency="isk"), Unknown("an answer without a readable amount and currency")),
    (
        intent("succeeded", amount=5, amount_received=5, currency="mga", latest_charge={"amount_refunded": 5}),
        Refunded(500, "MGA"),
    ),
    (intent("requires_capture", amount=500, currency="ugx"), Charged(5, "UGX", "pi_1", captured=False)),
    (intent("succeeded", metadata={"cxguard_key": "another"}), Unknown("the answer is about another key")),
]


@pytest.mark.parametrize(("plain", "outcome"), STATES)
def test_each_state_of_a_payment_intent_has_its_meaning(plain: dict[str, Any], outcome: Outcome) -> None:
    """Charged only when Stripe says so in full; whatever cannot be read is unknown."""
    assert read_intent(plain, key=KEY) == outcome


@pytest.mark.parametrize(
    ("members", "outcome"),
    [
        ({"status": "succeeded"}, Refunded(1000, "EUR", "re_1")),
        ({"status": "pending"}, Unknown("processing")),
        ({"status": "requires_action"}, Unknown("processing")),
        ({"status": "failed"}, NotCharged("refund failed")),
        ({"status": "canceled"}, NotCharged("refund canceled")),
        ({"status": "brand_new"}, Unknown("unreadable status 'brand_new'")),
        ({}, Unknown("unreadable status 'None'")),
        ({"status": "succeeded", "amount": None}, Unknown("an answer without a readable amount and currency")),
        ({"status": "succeeded", "currency": None}, Unknown("an answer without a readable amount and currency")),
        ({"status": "succeeded", "amount": 999}, Unknown("asked for 1000 EUR, told 999 EUR")),
        ({"status": "succeeded", "currency": "usd"}, Unknown("asked for 1000 EUR, told 1000 USD")),
        ({"status": "succeeded", "currency": "isk"}, Unknown("asked for 1000 EUR, told 10 ISK")),
    ],
)
def test_each_state_of_a_refund_has_its_meaning(members: dict[str, Any], outcome: Outcome) -> None:
    """Given back only when it has arrived, in the amount that was asked for."""
    refund = {"id": "re_1", "amount": 1000, "currency": "eur", **members}
    assert read_asked_refund(refund, amount_minor=1000, currency="EUR") == outcome


@pytest.mark.parametrize(
    ("plain", "outcome"),
    [
        (intent("succeeded", amount_received=2000), Charged(2000, "EUR", "pi_1")),
        (intent("succeeded", amount_received=1999), Unknown("asked for 2000 EUR, told 1999 EUR")),
        (intent("succeeded", amount_received=2000, currency="usd"), Unknown("asked for 2000 EUR, told 2000 USD")),
        (intent("succeeded", amount_received=None), Unknown("asked for 2000 EUR, told None EUR")),
        (intent("requires_capture", amount_received=0), Unknown("unreadable status 'requires_capture'")),
        (intent("processing"), Unknown("unreadable status 'processing'")),
    ],
)
def test_each_answer_to_a_capture_has_its_meaning(plain: dict[str, Any], outcome: Outcome) -> None:
    """Taken only when Stripe says so, in the amount that was asked for."""
    assert read_capture(plain, amount_minor=2000, currency="EUR") == outcome


@pytest.mark.parametrize(
    ("charge", "back"), [({"amount_refunded": 300}, 300), ({}, 0), ("ch_1", 0), (None, 0), ({"amount_refunded": "3"}, 0)]
)
def test_what_went_back_is_read_from_the_charge(charge: Any, back: int) -> None:
    """Where the charge did not come along, or says nothing readable, nothing is known to have gone back."""
    assert refunded_minor(intent("succeeded", latest_charge=charge)) == back


@pytest.mark.parametrize(("told", "back"), [(3000, 0), (3500, 500), (4998, 1998), (4999, 4999)])
def test_what_a_capture_of_a_part_lets_go_has_not_gone_back(told: int, back: int) -> None:
    """Stripe counts it as refunded, too; only when all that was taken is back is the whole charge given back."""
    charge = {"amount": 4999, "amount_captured": 1999, "amount_refunded": told, "currency": "eur", "metadata": {"cxguard_key": KEY}}
    plain = intent("succeeded", amount_received=1999, latest_charge=charge)
    assert refunded_minor(plain) == back
    whole = Refunded(4999, "EUR") if back == 4999 else Charged(4999, "EUR", "pi_1", captured=False)
    assert read_intent(plain, key=KEY) == whole
    fact = read_event(event("charge.refunded", charge))
    assert (fact.outcome if fact else None) == (Refunded(back, "EUR") if back else None)


def event(kind: str, about: Any) -> dict[str, Any]:
    return {"id": "evt_1", "type": kind, "data": {"object": about}}


REFUND = {"object": "refund", "id": "re_1", "amount": 1500, "currency": "eur", "status": "succeeded", "metadata": {"cxguard_key": KEY}}
REFUNDED_CHARGE = {"object": "charge", "amount_refunded": 1500, "currency": "eur", "metadata": {"cxguard_key": KEY}}


@pytest.mark.parametrize(
    ("kind", "about", "outcome"),
    [
        ("payment_intent.succeeded", intent("succeeded"), Charged(4999, "EUR", "pi_1")),
        ("payment_intent.amount_capturable_updated", intent("requires_capture"), Charged(4999, "EUR", "pi_1", captured=False)),
        ("payment_intent.canceled", intent("canceled"), NotCharged("cancelled")),
        ("payment_intent.processing", intent("processing"), Unknown("processing")),
        ("payment_intent.requires_action", intent("requires_action"), NeedsShopper("one more step at the bank")),
        (
            "payment_intent.payment_failed",
            intent("requires_payment_method", last_payment_error={"code": "card_declined", "decline_code": "lost_card"}),
            Declined(DeclineReason.GENERIC, "generic_decline"),
        ),
        ("charge.refunded", REFUNDED_CHARGE, Refunded(1500, "EUR")),
        ("charge.refunded", {**REFUNDED_CHARGE, "amount_refunded": 0}, None),
        ("charge.refunded", {**REFUNDED_CHARGE, "currency": "isk"}, Refunded(15, "ISK")),
        ("charge.refunded", {**REFUNDED_CHARGE, "metadata": []}, None),
        ("refund.created", REFUND, Refunded(1500, "EUR", "re_1")),
        ("refund.created", {**REFUND, "status": "pending"}, None),
        ("refund.updated", REFUND, Refunded(1500, "EUR", "re_1")),
        ("charge.refund.updated", REFUND, Refunded(1500, "EUR", "re_1")),
        ("charge.refund.updated", {**REFUND, "status": "canceled"}, NotCharged("refund canceled")),
        ("refund.failed", {**REFUND, "status": "failed"}, NotCharged("refund failed")),
        ("refund.failed", {**REFUND, "metadata": {}}, None),
        ("charge.dispute.created", REFUNDED_CHARGE, None),
        ("payment_intent.created", intent("requires_confirmation"), None),
        ("payment_intent.succeeded", intent("succeeded", metadata={}), None),
        ("payment_intent.succeeded", "pi_1", None),
        ("customer.created", {"metadata": {"cxguard_key": KEY}}, None),
    ],
)
def test_each_event_is_a_fact_or_none(kind: str, about: Any, outcome: Outcome | None) -> None:
    """Events about payments of ours say what became of them; all others say nothing."""
    fact = read_event(event(kind, about))
    assert (fact.outcome if fact is not None else None) == outcome
    if fact is not None:
        assert (fact.event_id, fact.gateway_key) == ("stripe:evt_1", KEY)
