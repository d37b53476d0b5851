"""The table from an HTTP answer to an outcome, cell by cell."""

from __future__ import annotations

import json

import pytest

from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.gateways.base import Charge
from cxguard.gateways.http_answers import (
    HttpAnswer,
    HttpMapping,
    PaymentStatus,
    charge_members,
    read_capture,
    read_charge,
    read_look_up,
    read_refund,
)

ASKED = Charge(amount_minor=4999, currency="EUR", source="tok_ok", order_id="o-1")
PLAIN = HttpMapping()
THROTTLES = HttpMapping(refuses_before_working=frozenset({429, 503}))
PAID = {"id": "pay_1", "status": "succeeded", "amount_minor": 4999, "currency": "EUR", "key": "k"}


def answer(status: int, members: object = None, *, raw: bytes | None = None, retry_after: str | None = None) -> HttpAnswer:
    return HttpAnswer(status, json.dumps(members).encode() if raw is None else raw, retry_after)


def read(given: HttpAnswer, mapping: HttpMapping = PLAIN) -> Outcome:
    return read_charge(given, asked=ASKED, key="k", mapping=mapping)


def paid(**changed: object) -> dict[str, object]:
    return {**PAID, **changed}


@pytest.mark.parametrize("status", [200, 201, 202, 402, 409, 422])
def test_success_with_the_amount_asked_is_charged(status: int) -> None:
    """A body that names the payment, with amount and currency as asked, proves the charge under any status that may carry one."""
    assert read(answer(status, PAID)) == Charged(4999, "EUR", payment_id="pay_1")


def test_authorised_is_charged_but_not_captured() -> None:
    """A reservation is a charge that is not captured yet."""
    assert read(answer(201, paid(status="authorised"))) == Charged(4999, "EUR", payment_id="pay_1", captured=False)


@pytest.mark.parametrize(
    ("changed", "figures"),
    [
        ({"amount_minor": 5000}, "asked for 4999 EUR, told 5000 EUR"),
        ({"currency": "USD"}, "asked for 4999 EUR, told 4999 USD"),
        ({"amount_minor": 1, "currency": "JPY"}, "asked for 4999 EUR, told 1 JPY"),
    ],
)
def test_another_amount_or_currency_is_unknown_with_both_figures(changed: dict[str, object], figures: str) -> None:
    """A charge for something else than asked is not our charge, and a person must see both figures."""
    assert read(answer(200, paid(**changed))) == Unknown(figures)


@pytest.mark.parametrize(("taken", "captured"), [(4999, True), (2000, False), (0, False), (None, True), ("2000", True), (True, True)])
def test_payment_of_which_a_part_was_taken_is_not_charged_in_full(taken: object, captured: bool) -> None:
    """A gateway calls it succeeded all the same; how much it took, it says beside."""
    outcome = read(answer(200, paid(captured_minor=taken)))
    assert isinstance(outcome, Charged)
    assert outcome.captured is captured


@pytest.mark.parametrize("amount", [None, "4999", 4999.0, True, -1, [], {}])
def test_unreadable_amount_is_unknown(amount: object) -> None:
    """Success without a whole number of minor units proves nothing about how much was taken."""
    assert isinstance(read(answer(200, paid(amount_minor=amount))), Unknown)


@pytest.mark.parametrize("currency", [None, 978, ""])
def test_unreadable_currency_is_unknown(currency: object) -> None:
    """Success without a currency proves nothing about how much was taken."""
    assert isinstance(read(answer(200, paid(currency=currency))), Unknown)


def test_answer_about_another_key_is_unknown() -> None:
    """An answer that was mixed up on the way says nothing about our charge."""
    assert read(answer(200, paid(key="other"))) == Unknown("the answer is about another key")


@pytest.mark.parametrize("key", [None, ""])
def test_answer_without_a_key_is_about_ours(key: object) -> None:
    """A gateway that does not repeat the key is believed to answer what was asked."""
    assert isinstance(read(answer(200, paid(key=key))), Charged)


@pytest.mark.parametrize("status", [200, 402, 422])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("insufficient_funds", DeclineReason.FUNDS),
        ("expired_card", DeclineReason.EXPIRED),
        ("incorrect_cvc", DeclineReason.DETAILS),
        ("limit_exceeded", DeclineReason.LIMIT),
        ("stolen_card", DeclineReason.GENERIC),
        ("", DeclineReason.GENERIC),
    ],
)
def test_declined_needs_the_gateways_word(status: int, code: str, reason: DeclineReason) -> None:
    """The issuer's no, with a reason that a shopper may be told."""
    assert read(answer(status, paid(status="declined", decline_code=code))) == Declined(reason, code)


@pytest.mark.parametrize(
    "given", [answer(402, {}), answer(402, raw=b"<html>Payment Required</html>"), answer(402, {"error": {"code": "card"}})]
)
def test_402_without_that_word_is_unknown(given: HttpAnswer) -> None:
    """A status code alone declines nobody."""
    assert isinstance(read(given), Unknown)


@pytest.mark.parametrize(
    ("word", "outcome"),
    [
        ("cancelled", NotCharged("cancelled")),
        ("processing", Unknown("processing")),
        ("requires_action", NeedsShopper("one more step at the bank", resume_url="https://bank.example/1")),
        ("refunded", Refunded(4999, "EUR")),
    ],
)
def test_other_words_of_a_payment(word: str, outcome: Outcome) -> None:
    """Each status word of the mapping has its outcome."""
    assert read(answer(200, paid(status=word, resume_url="https://bank.example/1", refunded_minor=4999))) == outcome


@pytest.mark.parametrize("word", ["paid", "", None, 1, {"a": 1}, "SUCCEEDED"])
def test_status_word_that_is_not_mapped_is_unknown(word: object) -> None:
    """A word that nobody explained to us is not guessed at."""
    assert isinstance(read(answer(200, paid(status=word))), Unknown)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html><body>It works!</body></html>",
        b'{"status": "succeeded", "amount_minor": 4999, "curr',
        b'["succeeded", 4999]',
        b'"succeeded"',
        b"null",
        b"\xff\xfe\x00",
        b'{"status": "declined", "status": "succeeded", "amount_minor": 4999, "currency": "EUR"}',
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("status", [200, 201, 402, 409, 422])
def test_garbage_is_unknown(status: int, raw: bytes) -> None:
    """HTML, half a JSON text, an array, wrong bytes, or a member named twice prove nothing."""
    assert isinstance(read(answer(status, raw=raw)), Unknown)


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 599])
@pytest.mark.parametrize(
    "members", [{}, {"error": {"code": "internal_error"}}, PAID, {"status": "declined"}, {"error": {"code": "key_cancelled"}}]
)
def test_server_errors_are_unknown(status: int, members: dict[str, object]) -> None:
    """A gateway that failed may have charged before, whatever its body says."""
    assert isinstance(read(answer(status, members)), Unknown)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_unknown(status: int) -> None:
    """A charge is not sent on to another address."""
    assert isinstance(read(answer(status, PAID)), Unknown)


@pytest.mark.parametrize("status", sorted(PLAIN.refused_statuses))
@pytest.mark.parametrize("members", [{}, {"error": {"code": "invalid_amount"}}, {"status": "error"}])
def test_refused_call_is_not_charged_and_not_repeated(status: int, members: dict[str, object]) -> None:
    """A wrong call, login or route was not worked on; sending the same again cannot help."""
    outcome = read(answer(status, members))
    assert isinstance(outcome, NotCharged) and not outcome.retryable


@pytest.mark.parametrize("members", [PAID, paid(status="declined"), paid(status="processing")])
def test_refusal_that_describes_a_payment_is_unknown(members: dict[str, object]) -> None:
    """A 400 that says "succeeded" contradicts itself."""
    assert isinstance(read(answer(400, members)), Unknown)


@pytest.mark.parametrize("status", [409, 422])
@pytest.mark.parametrize("code", ["key_mismatch", "in_progress", "anything"])
def test_conflicts_are_unknown(status: int, code: str) -> None:
    """A conflict is about another send under the key, which may have charged."""
    assert isinstance(read(answer(status, {"error": {"code": code}})), Unknown)


def test_cancelled_key_is_not_charged() -> None:
    """The gateway's promise that nothing can happen under the key any more."""
    assert read(answer(409, {"error": {"code": "key_cancelled"}})) == NotCharged("key_cancelled")


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (answer(429, retry_after="7"), NotCharged("throttled", retryable=True, retry_after_seconds=7.0, reroutable=True)),
        (answer(429), NotCharged("throttled", retryable=True, reroutable=True)),
        (answer(503, retry_after="2"), NotCharged("throttled", retryable=True, retry_after_seconds=2.0, reroutable=True)),
        (answer(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), NotCharged("throttled", retryable=True, reroutable=True)),
        (
            answer(503, retry_after="99999999999999999999"),
            NotCharged("throttled", retryable=True, retry_after_seconds=86_400.0, reroutable=True),
        ),
        (answer(503), Unknown("HTTP 503")),
    ],
)
def test_throttling_by_a_gateway_that_promised_to_refuse_first(given: HttpAnswer, outcome: Outcome) -> None:
    """With the promise, 429 is surely not charged, and 503 is when it says when to come back."""
    assert read(given, THROTTLES) == outcome


@pytest.mark.parametrize("status", [429, 503])
def test_throttling_without_the_promise_is_unknown(status: int) -> None:
    """Without it, nobody knows what happened behind the status."""
    assert isinstance(read(answer(status, retry_after="1")), Unknown)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (answer(200, PAID), Charged(4999, "EUR", payment_id="pay_1")),
        (answer(200, paid(amount_minor=7)), Charged(7, "EUR", payment_id="pay_1")),
        (answer(200, paid(status="authorised")), Charged(4999, "EUR", payment_id="pay_1", captured=False)),
        (answer(200, paid(status="declined", decline_code="expired_card")), Declined(DeclineReason.EXPIRED, "expired_card")),
        (answer(200, {"status": "cancelled"}), NotCharged("cancelled")),
        (answer(409, {"error": {"code": "key_cancelled"}}), NotCharged("key_cancelled")),
        (answer(200, paid(status="processing")), Unknown("processing")),
        (answer(404, {"error": {"code": "not_found"}}), Unknown("not_found")),
        (answer(404, raw=b"<html>no such page</html>"), Unknown("could not ask: HTTP 404")),
        (answer(401, {"error": {"code": "login"}}), Unknown("could not ask: HTTP 401")),
        (answer(500, {}), Unknown("HTTP 500")),
        (answer(503, retry_after="1"), Unknown("HTTP 503")),
        (answer(200, raw=b"{"), Unknown("unreadable answer, HTTP 200")),
        (answer(200, paid(key="other")), Unknown("the answer is about another key")),
    ],
)
@pytest.mark.parametrize("mapping", [PLAIN, THROTTLES])
def test_look_up(given: HttpAnswer, outcome: Outcome, mapping: HttpMapping) -> None:
    """Only an answer about the key speaks: not found, refused and broken answers leave it unknown."""
    assert read_look_up(given, key="k", mapping=mapping) == outcome


REFUND = {"id": "re_1", "status": "refunded", "amount_minor": 4999, "currency": "EUR", "key": "r"}


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (answer(201, REFUND), Refunded(4999, "EUR", refund_id="re_1")),
        (answer(201, {**REFUND, "currency": "eur"}), Refunded(4999, "EUR", refund_id="re_1")),
        (answer(201, {**REFUND, "amount_minor": 10}), Unknown("asked for 4999 EUR, told 10 EUR")),
        (answer(201, {**REFUND, "key": "other"}), Unknown("the answer is about another key")),
        (answer(201, {**REFUND, "status": "pending"}), Unknown("HTTP 201")),
        (answer(422, {"error": {"code": "amount_not_available"}}), NotCharged("refused: HTTP 422 amount_not_available")),
        (answer(404, {"error": {"code": "not_found"}}), NotCharged("refused: HTTP 404 not_found")),
        (answer(500, {}), Unknown("HTTP 500")),
        (answer(200, raw=b"ok"), Unknown("HTTP 200")),
        (answer(429, retry_after="1"), Unknown("HTTP 429")),
    ],
)
def test_refund(given: HttpAnswer, outcome: Outcome) -> None:
    """Money is back only when the gateway says so for exactly that amount."""
    assert read_refund(given, amount_minor=4999, currency="EUR", key="r", mapping=PLAIN) == outcome


def test_throttled_refund_may_be_repeated() -> None:
    """A refund that was turned away before any work moved nothing."""
    given = answer(429, retry_after="3")
    outcome = read_refund(given, amount_minor=1, currency="EUR", key="r", mapping=THROTTLES)
    assert outcome == NotCharged("throttled", retryable=True, retry_after_seconds=3.0, reroutable=True)


def test_capture_is_read_like_a_charge() -> None:
    """A capture of another amount than asked is unknown, the right one is charged."""
    assert read_capture(answer(201, PAID), amount_minor=4999, currency="EUR", key="k", mapping=PLAIN) == Charged(4999, "EUR", "pay_1")
    assert isinstance(read_capture(answer(201, PAID), amount_minor=1, currency="EUR", key="k", mapping=PLAIN), Unknown)


def test_mapping_speaks_another_gateways_language() -> None:
    """Nested members and foreign words are declared, not programmed."""
    mapping = HttpMapping(
        status_member="payment.state",
        amount_member="payment.amount.value",
        currency_member="payment.amount.unit",
        id_member="payment.ref",
        statuses={"OK": PaymentStatus.CHARGED},
    )
    members = {"payment": {"state": "OK", "ref": "x", "amount": {"value": 4999, "unit": "eur"}}}
    assert read(answer(200, members), mapping) == Charged(4999, "EUR", payment_id="x")


def test_metadata_is_sent_only_when_there_is_any() -> None:
    """The default body carries what was asked, and metadata if given."""
    assert "metadata" not in charge_members(ASKED)
    with_metadata = Charge(amount_minor=1, currency="EUR", source="tok_ok", metadata={"a": "b"})
    assert charge_members(with_metadata)["metadata"] == {"a": "b"}
