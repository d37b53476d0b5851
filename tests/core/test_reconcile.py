"""One payment in the gateway's books beside one record: each difference is a break of its kind, told in figures and words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from resolve_orders import CHARGED, NOW, SENT, UNKNOWN, back, fact, order, send, wish

from cxguard.core.money import SendKind
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Refunded
from cxguard.core.reconcile import Break, BreakKind, Entry, compare, missing, more_went_back, twice_under_one_key

B = BreakKind
NOT_CHARGED, PART = NotCharged("no such payment"), Refunded(1000, "EUR")
RESERVED = Charged(4999, "EUR", "pay_1", captured=False)
VOIDED = back(PART, kind=SendKind.VOID)
TWO = (send(CHARGED), send(Charged(4999, "EUR", "pay_2"), 2, key="key-2"))


def entry(outcome: Outcome = CHARGED, back_minor: int = 0, *, key: str = "key-1", payment_id: str = "pay_1") -> Entry:
    return Entry(payment_id, key, outcome, back_minor)


def finished(*sends: Any, **changes: Any) -> Operation:
    return order(State.FINISHED, *sends, **changes)


PAID, GIVEN_BACK = finished(send(CHARGED)), finished(send(CHARGED), back(PART))


@pytest.mark.parametrize(
    ("theirs", "record"),
    [
        (entry(Declined()), None),
        (entry(), PAID),
        (entry(Declined()), finished(send(Declined()))),
        (entry(NOT_CHARGED), finished()),
        (entry(back_minor=1000), GIVEN_BACK),
        (entry(Refunded(4999, "EUR"), 4999), finished(send(CHARGED), back(Refunded(4999, "EUR")))),
        (entry(RESERVED, 1000), finished(send(RESERVED), VOIDED)),
        (entry(RESERVED), finished(send(RESERVED), VOIDED)),
        (entry(back_minor=700), finished(send(CHARGED), back(UNKNOWN))),
        (entry(), finished(send(CHARGED), send(Declined(), 2, key="key-2"))),
    ],
)
def test_what_agrees_is_no_break(theirs: Entry, record: Operation | None) -> None:
    """Also a released reservation, which some gateways count as given back, and a refund that is still under way."""
    assert compare(theirs, record) is None


@pytest.mark.parametrize(
    ("theirs", "record", "kind", "ours", "says"),
    [
        (entry(), None, B.NO_RECORD, "nothing", "charged 4999 EUR"),
        (entry(Refunded(4999, "EUR"), 4999), None, B.NO_RECORD, "nothing", "refunded 4999 EUR, 4999 back"),
        (entry(Declined(), 10), None, B.NO_RECORD, "nothing", "declined, 10 back"),
        (entry(), finished(send(UNKNOWN)), B.UNRESOLVED, "unknown", "charged 4999 EUR"),
        (entry(Declined()), PAID, B.NOT_AT_GATEWAY, "charged 4999 EUR", "declined"),
        (entry(NOT_CHARGED), GIVEN_BACK, B.NOT_AT_GATEWAY, "charged 4999 EUR, 1000 back", "not_charged"),
        (entry(), finished(), B.NOT_ON_RECORD, "no charge", "charged 4999 EUR"),
        (entry(Declined(), 10), finished(send(Declined())), B.NOT_ON_RECORD, "no charge", "declined, 10 back"),
        (entry(Charged(5000, "EUR")), PAID, B.AMOUNT, "charged 4999 EUR", "charged 5000 EUR"),
        (entry(Charged(4999, "USD")), PAID, B.AMOUNT, "charged 4999 EUR", "charged 4999 USD"),
        (entry(back_minor=10), PAID, B.REFUND, "charged 4999 EUR", "charged 4999 EUR, 10 back"),
        (entry(), GIVEN_BACK, B.REFUND, "charged 4999 EUR, 1000 back", "charged 4999 EUR"),
        (entry(RESERVED, 300), finished(send(RESERVED), VOIDED), B.REFUND, "charged 4999 EUR, 1000 back", "charged 4999 EUR, 300 back"),
        (entry(), finished(*TWO), B.SECOND_CHARGE, "2 charges", "charged 4999 EUR"),
    ],
)
def test_each_difference_is_a_break_of_its_kind(theirs: Entry, record: Operation | None, kind: BreakKind, ours: str, says: str) -> None:
    """With the key, the payment and the reference by which people find it, and what each side says."""
    reference = record.reference if record is not None else ""
    assert compare(theirs, record) == Break(kind, "key-1", "pay_1", reference, ours, says)


@pytest.mark.parametrize(
    ("theirs", "record", "more"),
    [
        (entry(), PAID, False),
        (entry(back_minor=1), PAID, True),
        (entry(back_minor=1000), GIVEN_BACK, False),
        (entry(back_minor=1001), GIVEN_BACK, True),
        (entry(back_minor=999), GIVEN_BACK, False),
        (entry(RESERVED, 1000), finished(send(RESERVED), VOIDED), False),
        (entry(back_minor=10), finished(), True),
        (entry(back_minor=1000, key="key-2"), GIVEN_BACK, True),
    ],
)
def test_only_more_than_we_know_of_is_a_fact(theirs: Entry, record: Operation, more: bool) -> None:
    """Less may not be in the books yet."""
    assert more_went_back(theirs, record) is more


def test_a_second_payment_under_one_key_is_found() -> None:
    """The first one that stands is the one that counts; what does not stand is beside nothing."""
    gone, first, second, other = entry(Declined(), payment_id="p0"), entry(), entry(payment_id="p2"), entry(key="key-2", payment_id="p3")
    wanted = Break(B.SECOND_CHARGE, "key-1", "p2", "", "one, which the gateway calls pay_1", "charged 4999 EUR")
    assert twice_under_one_key([gone, first, second, other, gone]) == [(second, wanted)]


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        (PAID, ["key-1"]),
        (finished(*TWO), ["key-1", "key-2"]),
        (finished(send(CHARGED, sent_at=SENT - 1)), []),
        (finished(send(CHARGED, sent_at=NOW)), []),
        (finished(send(CHARGED, gateway="fake:test")), []),
        (finished(send(Declined())), []),
        (finished(send(UNKNOWN)), []),
        (finished(notes=(fact(CHARGED, key="elsewhere"), wish())), []),
        (finished(send(CHARGED), back(Refunded(4999, "EUR"))), []),
    ],
)
def test_a_charge_that_the_books_do_not_have_is_missed(record: Operation, keys: list[str]) -> None:
    """If it was sent to this gateway in the time that was looked at, from its first moment on and before its last."""
    found = missing(record, gateway="http:shop:test", listed=set(), since=SENT, until=NOW)
    assert found == [Break(B.NOT_AT_GATEWAY, key, "", record.reference, "charged 4999 EUR", "nothing") for key in keys]
    assert missing(record, gateway="http:shop:test", listed={"key-1", "key-2"}, since=SENT, until=NOW) == []


def test_a_refund_is_not_missed_as_a_charge() -> None:
    """Under its own key the books have no payment."""
    line = replace(back(CHARGED), kind=SendKind.CAPTURE)
    found = missing(finished(send(CHARGED), line), gateway="http:shop:test", listed=set(), since=0.0, until=NOW)
    assert [each.gateway_key for each in found] == ["key-1"]
