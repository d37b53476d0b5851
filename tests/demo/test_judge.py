"""The judge, on small ledgers made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.demo.crowd.words import Told, Transcript, Word
from cxguard.demo.judge import Case, End, cases, judge

Ledger = dict[str, list[dict[str, Any]]]


def ledger(*payments: dict[str, Any], refunds: dict[str, float] | None = None) -> Ledger:
    """Payments as `pay(...)` makes them; *refunds*: payment id to time."""
    sends = [
        {
            "payment_id": payment["id"],
            "received_at": payment["received_at"],
            "result": "declined" if payment["status"] == "declined" else "charged",
        }
        for payment in payments
    ]
    movements = [{"payment_id": id, "kind": "refund", "created_at": at} for id, at in (refunds or {}).items()]
    return {"payments": list(payments), "sends": sends, "movements": movements}


def pay(id: str, *, at: float = 10.0, received: float | None = None, status: str = "succeeded", card: str = "card") -> dict[str, Any]:
    return {"id": id, "source": card, "status": status, "created_at": at, "received_at": at if received is None else received}


def heard(*words: tuple[Word, float] | tuple[Word, float, float]) -> Transcript:
    """Words with the time they were heard; with a third figure, when they were asked for (else a second before)."""
    told = [Told(asked_at=rest[1] if len(rest) > 1 else rest[0] - 1, at=rest[0], word=word) for word, *rest in words]
    return Transcript(shopper=1, source="card", told=told)


def case_of(books: Ledger, transcript: Transcript, *orders: str) -> Case:
    return cases(books, [transcript], order_payments=orders)[0]


TWO = ledger(pay("a"), pay("b", at=12))
ONE = ledger(pay("a"))
NONE = ledger()
REFUSED = ledger(pay("a", status="declined"))
BACK = ledger(pay("a", status="refunded"), refunds={"a": 20.0})
W = Word


@pytest.mark.parametrize(
    ("books", "orders", "last", "end"),
    [
        # two charges stand: whatever was said or written
        (TWO, ("a", "b"), W.PAID, End.CHARGED_TWICE),
        (TWO, ("a",), W.DECLINED, End.CHARGED_TWICE),
        (TWO, (), W.CHECKING, End.CHARGED_TWICE),
        # one charge and its order: whatever was said
        *[(ONE, ("a",), word, End.PAID_ONCE) for word in (*Word, None)],
        # one charge without an order
        *[(ONE, (), word, End.LOST) for word in (W.PAID, W.DECLINED, W.NOT_CHARGED, W.CANCELLED, W.NOTHING, None)],
        *[(ONE, (), word, End.OPEN) for word in (W.KEPT, W.CHECKING)],
        # another payment's order is not hers
        (ONE, ("z",), W.PAID, End.LOST),
        # nothing charged, nothing refused
        *[(NONE, (), word, End.LOST) for word in (W.PAID, W.DECLINED, W.NOTHING, None)],
        *[(NONE, (), word, End.CANCELLED_TOLD) for word in (W.CANCELLED, W.NOT_CHARGED)],
        *[(NONE, (), word, End.OPEN) for word in (W.KEPT, W.CHECKING)],
        # the bank refused
        *[(REFUSED, (), word, End.DECLINED) for word in (W.DECLINED, W.NOTHING, None)],
        *[(REFUSED, (), word, End.CANCELLED_TOLD) for word in (W.CANCELLED, W.NOT_CHARGED)],
        *[(REFUSED, (), word, End.OPEN) for word in (W.KEPT, W.CHECKING)],
        (REFUSED, (), W.PAID, End.LOST),
        # refused first, then another card of hers went through
        (ledger(pay("a", status="declined"), pay("b")), ("b",), W.PAID, End.PAID_ONCE),
        # all of it went back
        (BACK, ("a",), W.CANCELLED, End.CANCELLED_TOLD),
        (BACK, (), W.PAID, End.LOST),
        (BACK, (), None, End.LOST),
        # one of two went back
        (ledger(pay("a"), pay("b", status="refunded"), refunds={"b": 20.0}), ("a",), W.PAID, End.PAID_ONCE),
        # a reservation is a charge
        (ledger(pay("a", status="authorised")), ("a",), W.PAID, End.PAID_ONCE),
        # somebody else's card
        (ledger(pay("a", card="other")), ("a",), W.PAID, End.LOST),
    ],
)
def test_each_shopper_has_one_end(books: Ledger, orders: tuple[str, ...], last: Word | None, end: End) -> None:
    """Ledger, order book and last word decide, in this order."""
    transcript = heard() if last is None else heard((last, 30.0))
    assert case_of(books, transcript, *orders).end is end


def test_last_word_that_says_something_counts() -> None:
    """A broken connection after "cancelled" does not unsay it."""
    assert case_of(NONE, heard((W.CANCELLED, 5.0), (W.NOTHING, 6.0))).end is End.CANCELLED_TOLD


@pytest.mark.parametrize(
    ("books", "transcript", "lie"),
    [
        # charged at 10, told afterwards that nothing was charged
        (ONE, heard((W.DECLINED, 12.0)), True),
        (ONE, heard((W.NOT_CHARGED, 12.0)), True),
        (ONE, heard((W.CANCELLED, 12.0)), True),
        # told before it was charged: a try that came later
        (ONE, heard((W.DECLINED, 9.0), (W.PAID, 11.0)), False),
        # the gateway had the request when it was told, and charged later
        (ledger(pay("a", at=14.0, received=10.0)), heard((W.DECLINED, 12.0)), True),
        # kept, not charged yet: true when it was said, though the charge came before it was heard
        (ONE, heard((W.KEPT, 10.5, 9.5)), False),
        # kept, not charged yet: asked after the charge
        (ONE, heard((W.KEPT, 12.0, 11.0)), True),
        # not a denial
        (ONE, heard((W.CHECKING, 12.0), (W.PAID, 13.0), (W.NOTHING, 14.0)), False),
        # after the money went back it is true
        (BACK, heard((W.CANCELLED, 21.0)), False),
        (BACK, heard((W.CANCELLED, 19.0)), True),
        (REFUSED, heard((W.DECLINED, 12.0)), False),
        (NONE, heard((W.DECLINED, 12.0)), False),
    ],
)
def test_false_declines(books: Ledger, transcript: Transcript, lie: bool) -> None:
    """Told that nothing was charged, though it was."""
    assert case_of(books, transcript, "a").false_decline is lie


@pytest.mark.parametrize(
    ("books", "transcript", "lie"),
    [
        (ONE, heard((W.PAID, 12.0)), False),
        (ONE, heard((W.PAID, 9.0)), True),
        (NONE, heard((W.PAID, 12.0)), True),
        (REFUSED, heard((W.PAID, 12.0)), True),
        (NONE, heard((W.CHECKING, 12.0), (W.KEPT, 13.0)), False),
    ],
)
def test_false_paid(books: Ledger, transcript: Transcript, lie: bool) -> None:
    """Told that it is paid, though nothing was charged by then."""
    assert case_of(books, transcript, "a").false_paid is lie


def test_verdict_counts_every_shopper_once_and_lies_beside() -> None:
    """The ends add up to what was wanted."""
    people = {
        "paid": [Told(0, 20, W.PAID)],
        "twice": [Told(0, 11, W.DECLINED), Told(11, 20, W.PAID)],
        "refused": [Told(0, 20, W.DECLINED)],
        "cancelled": [Told(0, 20, W.CANCELLED)],
        "lied to": [Told(0, 20, W.DECLINED)],
        "waiting": [Told(0, 20, W.CHECKING)],
        "dreaming": [Told(0, 20, W.PAID)],
    }
    books = ledger(
        pay("1", card="paid"),
        pay("2", card="twice"),
        pay("3", card="twice"),
        pay("4", card="refused", status="declined"),
        pay("5", card="lied to"),
    )
    transcripts = [Transcript(number, card, told) for number, (card, told) in enumerate(people.items())]
    verdict = judge(books, transcripts, order_payments={"1", "3"})
    assert verdict.to_json() == {
        "wanted": 7,
        "paid_once": 1,
        "charged_twice": 1,
        "declined": 1,
        "false_declines": 2,
        "false_paid": 1,
        "lost": 2,
        "cancelled_told": 1,
        "open": 1,
    }
    ends = verdict.paid_once + verdict.charged_twice + verdict.declined + verdict.cancelled_told + verdict.lost + verdict.open
    assert verdict.wanted == ends
