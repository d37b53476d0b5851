"""What to do next with a charge that nobody answered for: every row of the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from resolve_orders import (
    AGENT,
    ALL,
    CHARGED,
    NEEDS,
    NO_FIND,
    NO_RESEND,
    NO_WAY,
    NOW,
    OVER,
    SENT,
    SHOPPER,
    UNKNOWN,
    C,
    F,
    H,
    Q,
    R,
    duty,
    fact,
    looked,
    order,
    send,
    wish,
)

from cxguard.core.again import SHOP_KEY_SECONDS
from cxguard.core.consent import Consent
from cxguard.core.operation import Entry, Operation
from cxguard.core.outcomes import OTHER_FIGURES, Declined, Unknown
from cxguard.core.resolve import (
    LOOK_EVENT,
    SHOP,
    SILENCE_EVENT,
    SILENCE_SECONDS_MAX,
    Cancel,
    Duty,
    Find,
    Finish,
    Hold,
    Place,
    Resend,
    Wait,
    Ways,
    ends_uncharged,
    looks_at,
    tells_paid,
)

RERUN = replace(NO_RESEND, rerun=True)
PATIENT = replace(RERUN, looks_max=9)
PATIENT_LOOK = replace(NO_RESEND, looks_max=9)
BY_SHOP = send(UNKNOWN, gateway=SHOP, keyed=False)
LONG_AGO = replace(BY_SHOP, sent_at=NOW - SHOP_KEY_SECONDS)
WAIT = Wait(NOW, "charge_unknown")
SILENT = (*looked(1), Entry(at=NOW, event=SILENCE_EVENT))
WAITED = (Entry(at=NOW, event="order.held"),)
OTHER = (*looked(1), Entry(at=NOW, event=LOOK_EVENT, detail={"why": f"{OTHER_FIGURES}: 5000 EUR"}))
LAST = NOW - SILENCE_SECONDS_MAX
CONSENT = Consent("1", NOW - 90.0, NOW, 4999, "EUR")

UNKNOWN_ROWS: list[tuple[str, Operation, Ways, tuple[str, ...], Duty]] = [
    ("asked first", order(Q, send(UNKNOWN)), ALL, (), Find("key-1")),
    ("a dead process's charge is asked about first", order(R, send(UNKNOWN)), ALL, (), Find("key-1")),
    ("held ones, too, when a fact came", order(H, send(UNKNOWN), why="charge_unknown"), ALL, (), Find("key-1")),
    ("cancel asked: and make sure it cannot complete", order(Q, send(UNKNOWN), notes=(wish(),)), ALL, (), Find("key-1", cancel=True)),
    ("its time is over: likewise", order(Q, send(UNKNOWN), **OVER), ALL, (), Find("key-1", cancel=True)),
    ("ended: likewise", order(F, send(UNKNOWN)), ALL, (), Find("key-1", cancel=True)),
    ("cancelled: likewise", order(C, send(UNKNOWN)), ALL, (), Find("key-1", cancel=True)),
    (
        "another charge stands: likewise",
        order(Q, send(CHARGED), send(UNKNOWN, 2, key="key-2")),
        ALL,
        (),
        Find("key-2", cancel=True),
    ),
    ("each key is asked about", order(Q, send(UNKNOWN), send(UNKNOWN, 2, key="key-2")), ALL, ("key-1",), Find("key-2")),
    ("then the same again", order(Q, send(UNKNOWN)), ALL, ("key-1",), Resend(send(UNKNOWN))),
    ("the newest of its sends", order(Q, send(UNKNOWN), send(UNKNOWN, 2)), ALL, ("key-1",), Resend(send(UNKNOWN, 2))),
    ("without a look-up at once", order(Q, send(UNKNOWN)), NO_FIND, (), Resend(send(UNKNOWN))),
    ("once a run", order(Q, send(UNKNOWN)), ALL, ("key-1", "resend:key-1"), Wait(NOW, "charge_unknown")),
    ("not when cancel was asked", order(Q, send(UNKNOWN), notes=(wish(),)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not when its time is over", order(Q, send(UNKNOWN), **OVER), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not when it has ended", order(F, send(UNKNOWN)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not when it was cancelled", order(C, send(UNKNOWN)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not where keys are not honoured", order(Q, send(UNKNOWN, keyed=False)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not what was not kept", order(Q, send(UNKNOWN, parcel=None)), ALL, ("key-1",), Wait(NOW, "charge_unknown")),
    ("not by a gateway that cannot", order(Q, send(UNKNOWN)), NO_RESEND, ("key-1",), Wait(NOW, "charge_unknown")),
    (
        "not beside another unknown",
        order(Q, send(UNKNOWN), send(UNKNOWN, 2, key="key-2")),
        ALL,
        ("key-1", "key-2"),
        Wait(NOW, "charge_unknown"),
    ),
    (
        "not beside a charge",
        order(Q, send(UNKNOWN), send(CHARGED, 2, key="key-2")),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    (
        "not when the gateway has forgotten the key since its first send",
        order(Q, send(UNKNOWN, sent_at=NOW - 86_400.0), send(UNKNOWN, 2)),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    (
        "nor when the clock was set back since by as much: it may have",
        order(Q, send(UNKNOWN, sent_at=NOW + 86_400.0)),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    (
        "but when it was set back by less",
        order(Q, send(UNKNOWN, sent_at=NOW + 3_600.0)),
        ALL,
        ("key-1",),
        Resend(send(UNKNOWN, sent_at=NOW + 3_600.0)),
    ),
    (
        "not for a payment that only a webhook told of",
        order(Q, notes=(fact(Unknown("processing")),)),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    ("nor at the very end of the price", order(Q, send(UNKNOWN), quote_until=NOW), NO_FIND, (), Hold("charge_unknown", AGENT)),
    ("but before it", order(Q, send(UNKNOWN), quote_until=NOW + 1), NO_FIND, (), Resend(send(UNKNOWN))),
    ("no way at all: a person", order(Q, send(UNKNOWN)), NO_WAY, (), Hold("charge_unknown", AGENT)),
    (
        "no look-up, and the same again is not right any more: a person",
        order(Q, send(UNKNOWN), notes=(wish(),)),
        NO_FIND,
        (),
        Hold("charge_unknown", AGENT),
    ),
    (
        "asked often enough: a person",
        order(Q, send(UNKNOWN), history=looked(2)),
        NO_RESEND,
        ("key-1",),
        Hold("unknown_unresolved", AGENT),
    ),
    (
        "sent often enough: a person",
        order(Q, send(UNKNOWN), send(UNKNOWN, 2), send(UNKNOWN, 3)),
        NO_FIND,
        ("resend:key-1",),
        Hold("unknown_unresolved", AGENT),
    ),
    (
        "but not before a late send must have shown up",
        order(Q, send(UNKNOWN), history=looked(9)),
        replace(NO_RESEND, settle_seconds=90.0),
        ("key-1",),
        Wait(SENT + 90.0, "charge_unknown"),
    ),
    ("the shopper's step", order(R, send(NEEDS)), ALL, ("key-1",), Hold("needs_shopper", SHOPPER)),
    (
        "the shopper's step, told by a look-up",
        order(Q, send(UNKNOWN), notes=(fact(NEEDS, through=1),)),
        ALL,
        ("key-1",),
        Hold("needs_shopper", SHOPPER),
    ),
    ("the shopper's step is looked at, too", order(H, send(NEEDS), why="needs_shopper"), ALL, (), Find("key-1")),
    (
        "the shopper did not come in time: close it",
        order(H, send(NEEDS), why="needs_shopper", **OVER),
        ALL,
        (),
        Find("key-1", cancel=True),
    ),
    (
        "and never send it again",
        order(H, send(NEEDS), why="needs_shopper", **OVER),
        ALL,
        ("key-1",),
        Wait(NOW, "charge_unknown"),
    ),
    ("shop's own charge: ask its hook", order(Q, send(UNKNOWN, gateway=SHOP, keyed=False)), NO_RESEND, (), Find("key-1")),
    (
        "shop's own charge without a hook: a person",
        order(Q, send(UNKNOWN, gateway=SHOP, keyed=False)),
        NO_WAY,
        (),
        Hold("charge_unknown", AGENT),
    ),
    ("shop's own code that passes our key on: asked about first", order(Q, BY_SHOP), RERUN, (), Find("key-1")),
    ("then it charges, or hears that it has", order(Q, BY_SHOP, history=looked(1)), RERUN, ("key-1",), Place()),
    ("and once more, as often as somebody answers", order(Q, BY_SHOP, history=looked(2)), RERUN, ("key-1",), Place()),
    ("also when its process died", order(R, BY_SHOP, history=looked(1)), RERUN, ("key-1",), Place()),
    ("without a hook at once", order(Q, BY_SHOP), replace(RERUN, find=False), (), Place()),
    ("not where it may not", order(Q, BY_SHOP, history=looked(1)), NO_RESEND, ("key-1",), WAIT),
    ("not an order that nobody accepted", order(Q, BY_SHOP, history=looked(1), kept=False), RERUN, ("key-1",), WAIT),
    ("not while nobody answers", order(Q, BY_SHOP, history=SILENT), RERUN, ("key-1",), WAIT),
    ("not when cancel was asked by now", order(Q, BY_SHOP, history=looked(1), notes=(wish(),)), RERUN, ("key-1",), WAIT),
    ("not when its time is over by now", order(Q, BY_SHOP, history=looked(1), **OVER), RERUN, ("key-1",), WAIT),
    ("not past the shopper's word", order(Q, BY_SHOP, history=looked(1), consent=CONSENT), RERUN, ("key-1",), WAIT),
    ("not what a person has", order(H, BY_SHOP, history=looked(1), why="charge_unknown"), RERUN, ("key-1",), WAIT),
    ("not over an answer that went out", order(R, BY_SHOP, history=looked(1), answer=b"sealed"), RERUN, ("key-1",), WAIT),
    ("not over two of them", order(Q, BY_SHOP, send(UNKNOWN, 2, key="key-2"), history=looked(1)), PATIENT, ("key-1", "key-2"), WAIT),
    ("nor when its gateway may have forgotten the key", order(Q, LONG_AGO, history=looked(1)), RERUN, ("key-1",), WAIT),
    ("nor what only a fact speaks of", order(Q, notes=(fact(UNKNOWN),), history=looked(1)), RERUN, ("key-1",), WAIT),
    ("asked often enough: a person", order(Q, BY_SHOP, history=looked(3)), RERUN, ("key-1",), Hold("unknown_unresolved", AGENT)),
    ("within the shopper's word", order(Q, send(UNKNOWN), consent=replace(CONSENT, until=NOW + 1)), NO_FIND, (), Resend(send(UNKNOWN))),
    ("nor at its end", order(Q, send(UNKNOWN), consent=CONSENT), NO_FIND, (), Hold("charge_unknown", AGENT)),
    ("told of another amount: asked once more", order(Q, send(UNKNOWN), history=OTHER), ALL, (), Find("key-1")),
    ("then a person", order(Q, send(UNKNOWN), history=OTHER), ALL, ("key-1",), Hold("amount_differs", AGENT)),
    ("unless nobody can be asked", order(Q, send(UNKNOWN), history=OTHER), NO_FIND, (), Resend(send(UNKNOWN))),
    ("or a later look told otherwise", order(Q, send(UNKNOWN), history=OTHER + looked(1)), PATIENT_LOOK, ("key-1",), WAIT),
    ("and whatever else came since", order(Q, send(UNKNOWN), history=OTHER + WAITED), ALL, ("key-1",), Hold("amount_differs", AGENT)),
    ("silent, an hour past its end", order(Q, send(UNKNOWN), give_up_at=LAST), ALL, ("key-1",), Hold("unknown_unresolved", AGENT)),
    ("silent, not quite so long", order(Q, send(UNKNOWN), give_up_at=LAST + 1), ALL, ("key-1",), WAIT),
    ("silent, without an end", order(Q, send(UNKNOWN), give_up_at=None), NO_RESEND, ("key-1",), WAIT),
    (
        "a late send must have shown up by now",
        order(Q, send(UNKNOWN), history=looked(9)),
        replace(NO_RESEND, settle_seconds=60.0),
        ("key-1",),
        Hold("unknown_unresolved", AGENT),
    ),
    (
        "the newest send must have shown up",
        order(Q, send(UNKNOWN), send(UNKNOWN, 2, sent_at=SENT + 30), send(UNKNOWN, 3, key="key-2")),
        replace(NO_RESEND, settle_seconds=90.0),
        ("key-1", "key-2"),
        Wait(SENT + 120.0, "charge_unknown"),
    ),
    (
        "any of the payments may wait for the shopper's step",
        order(Q, send(UNKNOWN), send(NEEDS, 2, key="key-2")),
        ALL,
        ("key-1", "key-2"),
        Hold("needs_shopper", SHOPPER),
    ),
]


@pytest.mark.parametrize(("name", "operation", "ways", "done", "expected"), UNKNOWN_ROWS, ids=[row[0] for row in UNKNOWN_ROWS])
def test_unknown(name: str, operation: Operation, ways: Ways, done: tuple[str, ...], expected: Duty) -> None:
    """An unknown charge is asked about, sent again where that is right, and at last given to a person."""
    assert duty(operation, ways, *done) == expected


def test_a_look_counts_whether_or_not_it_was_answered() -> None:
    """For the pause until the next one; nothing else does."""
    assert [looks_at(order(Q, history=history)) for history in ((), WAITED, looked(2), SILENT)] == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("operation", "found", "ends"),
    [
        (order(Q), Cancel("gave_up"), True),
        (order(H, send(Declined())), Finish("declined"), True),
        (order(Q, send(Declined())), Hold("card_declined", SHOPPER), True),
        (order(Q), Hold("order_missing", AGENT), False),
        (order(Q), Place(), False),
        (order(F), Finish("ended"), False),
        (order(C), Finish("ended"), False),
        (order(Q, send(CHARGED)), Finish("paid"), False),
        (order(Q, send(UNKNOWN)), Hold("card_declined", SHOPPER), False),
    ],
)
def test_which_duty_tells_that_nothing_was_charged(operation: Operation, found: Duty, ends: bool) -> None:
    """The end of an order that has none yet, or the question for another card; never over money that may stand."""
    assert ends_uncharged(operation, found) is ends


PAID_DUTIES = [Place(), Finish("paid"), *(Hold(why, AGENT) for why in ("order_missing", "amount_differs", "refund_due"))]
OTHER_DUTIES = [WAIT, Find("key-1"), Cancel("gave_up"), Hold("charge_unknown", AGENT), Hold("needs_shopper", SHOPPER)]


def test_which_duty_goes_by_the_word_that_the_order_is_paid() -> None:
    """Before these, a copy that was given back is looked for; a person may be the one who is told."""
    assert all(map(tells_paid, PAID_DUTIES))
    assert not any(map(tells_paid, OTHER_DUTIES))
