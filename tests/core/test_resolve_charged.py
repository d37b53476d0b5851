"""What to do next with a paid order and with refunds under way: every row of the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from resolve_orders import (
    AGENT,
    ALL,
    CHARGED,
    ENDED,
    NEEDS,
    NO_FIND,
    NO_LATER,
    NO_RESEND,
    NOT_CHARGED,
    NOW,
    OVER,
    REFUND_CANCELLED,
    SECOND,
    SHOPPER,
    TWO,
    UNKNOWN,
    C,
    F,
    H,
    Q,
    R,
    back,
    duty,
    fact,
    looked,
    order,
    send,
    wish,
)

from cxguard.core.money import SendKind
from cxguard.core.operation import Entry, Operation
from cxguard.core.outcomes import Charged, Declined, NotCharged, Refunded, Unknown
from cxguard.core.resolve import SHOP, Cancel, Duty, Find, Finish, Hold, Place, Refund, Resend, Wait, Ways

RESERVED = Charged(4999, "EUR", "pay_1", captured=False)
PAY_2 = Charged(4999, "EUR", "pay_2")
PART = back(Charged(3000, "EUR"), kind=SendKind.CAPTURE)
BACK = Refunded(4999, "EUR")
BACK_TOO = send(UNKNOWN, 3, key="back-2", kind=SendKind.REFUND, of="key-1")
SEEN = {"notes": (fact(NOT_CHARGED, key="back-1"),), "notes_seen": 1}
FAILED = fact(NOT_CHARGED, key="back-1")
FIRST = Refund("key-1", 4999, "EUR", "pay_1", "second_charge")
THIRD_CHARGE = send(Charged(4999, "EUR", "pay_3"), 3, key="key-3")
THIRD = Refund("key-3", 4999, "EUR", "pay_3", "second_charge")
PLACED = (Entry(NOW - 50, "operation.finished", detail={"money": "charged"}),)
GRANTED = Entry(NOW - 1, "order.requeued", detail={"before": "cancel_asked"})
CHARGED_ROWS: list[tuple[str, Operation, Ways, tuple[str, ...], Duty]] = [
    ("complete the order", order(Q, send(CHARGED)), ALL, (), Place()),
    ("of a dead process, too", order(R, send(CHARGED)), ALL, (), Place()),
    ("even when its time is over: it is paid", order(Q, send(CHARGED), **OVER), ALL, (), Place()),
    (
        "another amount was charged: no",
        order(Q, send(UNKNOWN), notes=(fact(Charged(700, "EUR", "pay_1")),)),
        ALL,
        (),
        Hold("amount_differs", AGENT),
    ),
    ("a person completes what nobody else can", order(Q, send(CHARGED)), NO_LATER, (), Hold("order_missing", AGENT)),
    ("answered, and the process died", order(R, send(CHARGED), answer=b"sealed"), ALL, (), Hold("answered_not_confirmed", AGENT)),
    ("proof leads out of doubt", order(H, send(UNKNOWN), why="unknown_unresolved", notes=(fact(CHARGED),)), ALL, (), Place()),
    ("and from the shopper's step", order(H, send(NEEDS), why="needs_shopper", notes=(fact(CHARGED),)), ALL, (), Place()),
    (
        "out of doubt to a person",
        order(H, send(UNKNOWN), why="charge_unknown", notes=(fact(CHARGED),)),
        NO_LATER,
        (),
        Hold("order_missing", AGENT),
    ),
    (
        "a webhook runs nothing that a person looks at",
        order(H, send(CHARGED), why="answered_not_confirmed", notes=(fact(CHARGED),)),
        ALL,
        (),
        Hold("answered_not_confirmed", AGENT),
    ),
    ("a stub stays on the desk", order(H, why="unknown_operation", notes=(fact(CHARGED),)), ALL, (), Hold("unknown_operation", AGENT)),
    ("finished and paid", order(F, send(CHARGED), **ENDED), ALL, (), Finish("paid")),
    ("a webhook that says so again", order(F, send(CHARGED), notes=(fact(CHARGED),), **ENDED), ALL, (), Finish("paid")),
    (
        "a charge after the shopper was told of none",
        order(F, send(Declined()), notes=(fact(CHARGED),), **ENDED),
        ALL,
        (),
        Hold("charged_after_end", AGENT),
    ),
    (
        "which a person has seen",
        order(F, send(Declined()), notes=(fact(CHARGED),), notes_seen=1, **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    ("cancel asked: give it back", order(Q, send(CHARGED), notes=(wish(),)), ALL, (), REFUND_CANCELLED),
    ("cancel asked in flight", order(R, send(CHARGED), notes=(wish(),)), ALL, (), REFUND_CANCELLED),
    ("cancel asked while held", order(H, send(CHARGED), why="order_missing", notes=(wish(),)), ALL, (), REFUND_CANCELLED),
    (
        "held, since it was asked after it finished: no webhook gives it back",
        order(H, send(CHARGED), why="cancel_asked", notes=(wish(), fact(CHARGED)), notes_seen=1, answered_at=NOW),
        ALL,
        (),
        Hold("cancel_asked", AGENT),
    ),
    (
        "held for a part that had no answer, and asked to be cancelled since it was placed: that is a person's",
        order(H, send(CHARGED), why="refund_unknown", notes=(wish(),), answered_at=NOW - 50, history=PLACED),
        ALL,
        (),
        Hold("cancel_asked", AGENT),
    ),
    (
        "the same, asked before it was placed",
        order(H, send(CHARGED), why="refund_unknown", notes=(wish(at=NOW - 60),), answered_at=NOW - 50, history=PLACED),
        ALL,
        (),
        REFUND_CANCELLED,
    ),
    (
        "the same, granted by a person",
        order(H, send(CHARGED), why="refund_unknown", notes=(wish(),), answered_at=NOW - 50, history=(*PLACED, GRANTED)),
        ALL,
        (),
        REFUND_CANCELLED,
    ),
    ("put back by a person, who says so", order(Q, send(CHARGED), notes=(wish(),), answered_at=NOW), ALL, (), REFUND_CANCELLED),
    ("surfaced on a cancelled order", order(C, send(NOT_CHARGED), notes=(fact(CHARGED),)), ALL, (), REFUND_CANCELLED),
    (
        "paid in a life after the cancelled one: it may be with the shopper",
        order(C, send(NOT_CHARGED), notes=(replace(fact(CHARGED, key="key-2"), generation=2),)),
        ALL,
        (),
        Hold("charged_after_end", AGENT),
    ),
    (
        "paid, and charged once more in a life that was lost: that one goes back",
        order(F, send(CHARGED), send(Charged(4999, "EUR", "pay_2"), 2, key="key-2", generation=2), **ENDED),
        ALL,
        (),
        SECOND,
    ),
    (
        "let go when the gateway was too busy, and paid in a later try that was lost",
        order(C, send(NOT_CHARGED), notes=(fact(CHARGED),), why="released"),
        replace(ALL, lost=True),
        (),
        Hold("charged_after_end", AGENT),
    ),
    (
        "let go when the gateway was too busy, and charged all the same: its shopper was told of none",
        order(C, send(NOT_CHARGED), notes=(fact(CHARGED),), why="released"),
        ALL,
        (),
        REFUND_CANCELLED,
    ),
    (
        "let go, and its own charge came late: its shopper was told of none",
        order(C, send(NotCharged("refused")), notes=(fact(CHARGED),), why="released"),
        ALL,
        (),
        REFUND_CANCELLED,
    ),
    (
        "let go, and the charge is known from elsewhere: nobody wished it to be cancelled",
        order(C, notes=(fact(CHARGED),), why="released"),
        ALL,
        (),
        Hold("charged_after_end", AGENT),
    ),
    ("cancel asked before it finished", order(F, send(CHARGED), notes=(wish(at=NOW - 60),), **ENDED), ALL, (), REFUND_CANCELLED),
    ("cancel asked after it finished", order(F, send(CHARGED), notes=(wish(),), **ENDED), ALL, (), Hold("cancel_asked", AGENT)),
    (
        "which a person has seen, too",
        order(F, send(CHARGED), notes=(wish(),), notes_seen=1, **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    ("a second charge goes back", order(Q, *TWO), ALL, (), SECOND),
    ("a second charge on a finished order", order(F, *TWO, **ENDED), ALL, (), SECOND),
    ("a second charge on a held order", order(H, *TWO, why="order_missing"), ALL, (), SECOND),
    (
        "a second charge that only a webhook told of",
        order(F, send(CHARGED), notes=(fact(CHARGED, key="elsewhere"),), **ENDED),
        ALL,
        (),
        Hold("refund_due", AGENT),
    ),
    (
        "the second went back by a person's hand: as before",
        order(H, *TWO, why="refund_due", notes=(fact(Refunded(4999, "EUR"), key="key-2"),), **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    (
        "only the rest goes back",
        order(C, send(CHARGED), notes=(fact(Refunded(999, "EUR")),)),
        ALL,
        (),
        Refund("key-1", 4000, "EUR", "pay_1", "cancelled"),
    ),
    ("the shop's own charge is given back by the shop", order(C, send(CHARGED, gateway=SHOP)), ALL, (), Hold("refund_due", AGENT)),
    ("without the gateway's own name of it: a person", order(C, send(Charged(4999, "EUR"))), ALL, (), Hold("refund_due", AGENT)),
    (
        "the name may come from a webhook",
        order(C, send(Charged(4999, "EUR")), notes=(fact(CHARGED),)),
        ALL,
        (),
        REFUND_CANCELLED,
    ),
    ("of an unknown amount: a person", order(C, send(Charged(0, "", "pay_1"))), ALL, (), Hold("refund_due", AGENT)),
    ("refused just now: again later", order(C, send(CHARGED)), ALL, ("refund:key-1",), Wait(NOW, "refund_due")),
    (
        "refused often enough: a person",
        order(C, send(CHARGED), history=looked(3)),
        ALL,
        ("refund:key-1",),
        Hold("refund_due", AGENT),
    ),
    ("what nobody was told of goes back", order(Q, send(UNKNOWN), TWO[1], notes=(fact(CHARGED),)), ALL, (), FIRST),
    (
        "of two that nobody was told of, the last",
        order(Q, send(UNKNOWN), send(UNKNOWN, 2, key="key-2"), notes=(fact(CHARGED), fact(PAY_2, key="key-2"))),
        ALL,
        (),
        SECOND,
    ),
    ("of three that were told, the last", order(Q, *TWO, THIRD_CHARGE), ALL, (), THIRD),
    ("a charge that is only reserved goes back whole", order(C, send(RESERVED)), ALL, (), REFUND_CANCELLED),
    ("of a part that was taken, the part", order(C, send(RESERVED), PART), ALL, (), replace(REFUND_CANCELLED, amount_minor=3000)),
    ("the bank sent it back: a person", order(C, send(CHARGED), back(BACK), notes=(FAILED,)), ALL, (), Hold("refund_failed", AGENT)),
    ("that holds up no other one", order(Q, *TWO, back(BACK, 3), notes=(FAILED,)), ALL, (), SECOND),
    ("after its end, too", order(F, send(CHARGED), back(BACK), notes=(FAILED,), **ENDED), ALL, (), Hold("refund_failed", AGENT)),
    (
        "which a person has seen, as well",
        order(F, send(CHARGED), back(BACK), **SEEN, **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    ("an order that nobody gave a reason", order(H, send(CHARGED)), ALL, (), Hold("held", AGENT)),
    ("whoever it waits for", order(H, send(CHARGED), why="price_up", waiting_for=SHOPPER), ALL, (), Hold("price_up", SHOPPER)),
    ("a person's own cancel of another life", order(Q, send(CHARGED), notes=(wish(),), generation=2), ALL, (), Place()),
    ("answered while it waited: complete it", order(Q, send(CHARGED), answer=b"sealed"), ALL, (), Place()),
    ("in doubt, but answered well before", order(H, send(CHARGED), why="refund_due", **ENDED), NO_LATER, (), Finish("paid")),
    ("cancel asked at the very end", order(F, send(CHARGED), notes=(wish(at=NOW - 50),), **ENDED), ALL, (), REFUND_CANCELLED),
    (
        "cancel asked of another life before its end",
        order(F, send(CHARGED), notes=(wish(at=NOW - 60),), notes_seen=1, generation=2, **ENDED),
        ALL,
        (),
        Finish("paid"),
    ),
    ("finished by hand: a wish is a wish", order(F, send(CHARGED), notes=(wish(),)), ALL, (), REFUND_CANCELLED),
]


@pytest.mark.parametrize(("name", "operation", "ways", "done", "expected"), CHARGED_ROWS, ids=[row[0] for row in CHARGED_ROWS])
def test_charged(name: str, operation: Operation, ways: Ways, done: tuple[str, ...], expected: Duty) -> None:
    """A paid order is completed once; what should not stand goes back; a person's case stays a person's."""
    assert duty(operation, ways, *done) == expected


# Refunds under way.

VOID = back(UNKNOWN, kind=SendKind.VOID)
CAPTURE = back(UNKNOWN, kind=SendKind.CAPTURE)
UNKEYED_CAPTURE = back(UNKNOWN, kind=SendKind.CAPTURE, keyed=False)
OLD = {"sent_at": NOW - 86_400.0}
REFUND_ROWS: list[tuple[str, Operation, Ways, tuple[str, ...], Duty]] = [
    ("the very same again", order(C, send(CHARGED), back(UNKNOWN)), ALL, (), Resend(back(UNKNOWN))),
    ("then a look", order(C, send(CHARGED), back(UNKNOWN)), ALL, ("resend:back-1",), Find("back-1")),
    ("then later", order(C, send(CHARGED), back(UNKNOWN)), ALL, ("resend:back-1", "back-1"), Wait(NOW, "refund_unknown")),
    ("before the charge is looked at", order(Q, send(UNKNOWN), back(UNKNOWN)), ALL, (), Resend(back(UNKNOWN))),
    ("never blindly: forgotten key", order(C, send(CHARGED), back(UNKNOWN, **OLD)), ALL, (), Find("back-1")),
    ("never blindly: no keys", order(C, send(CHARGED), back(UNKNOWN, keyed=False)), ALL, (), Find("back-1")),
    ("a void goes the same way", order(C, send(CHARGED), VOID), ALL, (), Resend(VOID)),
    ("so does a capture", order(C, send(RESERVED), CAPTURE), ALL, (), Resend(CAPTURE)),
    ("the charge itself knows of it", order(C, send(RESERVED), CAPTURE), ALL, ("resend:back-1",), Find("key-1")),
    ("a capture without keys", order(C, send(RESERVED), UNKEYED_CAPTURE), ALL, (), Find("key-1")),
    ("nobody knows of the capture", order(C, send(RESERVED), UNKEYED_CAPTURE), NO_FIND, (), Hold("capture_unknown", AGENT)),
    ("no way: a person", order(C, send(CHARGED), back(UNKNOWN, keyed=False)), NO_FIND, (), Hold("refund_unknown", AGENT)),
    (
        "often enough: a person",
        order(C, send(CHARGED), back(UNKNOWN), history=looked(3)),
        ALL,
        ("resend:back-1", "back-1"),
        Hold("refund_unknown", AGENT),
    ),
    (
        "a webhook says that it is under way",
        order(C, send(CHARGED), back(NOT_CHARGED), notes=(fact(Unknown("processing"), key="back-1"),)),
        ALL,
        (),
        Resend(back(NOT_CHARGED)),
    ),
    ("refused: another try", order(C, send(CHARGED), back(NOT_CHARGED)), ALL, (), REFUND_CANCELLED),
    ("done: the order ends", order(Q, send(CHARGED), back(Refunded(4999, "EUR"))), ALL, (), Cancel("refunded")),
    ("done on a cancelled one", order(C, send(CHARGED), back(Refunded(4999, "EUR"))), ALL, (), Cancel("refunded")),
    ("its own key's age counts", order(C, send(CHARGED, **OLD), back(UNKNOWN)), ALL, (), Resend(back(UNKNOWN))),
    ("the first send of the key counts", order(C, send(CHARGED), back(UNKNOWN, **OLD), back(UNKNOWN, 3)), ALL, (), Find("back-1")),
    ("the newest is sent again", order(C, send(CHARGED), back(UNKNOWN), back(UNKNOWN, 3)), ALL, (), Resend(back(UNKNOWN, 3))),
    ("the first of two", order(C, send(CHARGED), back(UNKNOWN), BACK_TOO), ALL, (), Resend(back(UNKNOWN))),
    ("a capture that was asked about", order(C, send(RESERVED), CAPTURE), ALL, ("resend:back-1", "key-1"), Wait(NOW, "capture_unknown")),
    ("by looking alone", order(C, send(CHARGED), back(UNKNOWN)), NO_RESEND, (), Find("back-1")),
    ("by sending alone", order(C, send(CHARGED), back(UNKNOWN)), NO_FIND, ("resend:back-1",), Wait(NOW, "refund_unknown")),
    ("done on a finished one", order(F, send(CHARGED), back(Refunded(4999, "EUR")), **ENDED), ALL, (), Finish("refunded")),
]


@pytest.mark.parametrize(("name", "operation", "ways", "done", "expected"), REFUND_ROWS, ids=[row[0] for row in REFUND_ROWS])
def test_refunds(name: str, operation: Operation, ways: Ways, done: tuple[str, ...], expected: Duty) -> None:
    """A refund without an answer is found out before anything else, and never sent blindly."""
    assert duty(operation, ways, *done) == expected
