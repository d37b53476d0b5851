"""What to do next where surely nothing was charged: every row of the rules."""

from __future__ import annotations

import pytest
from resolve_orders import (
    AGENT,
    ALL,
    ENDED,
    NEEDS,
    NO_LATER,
    NOT_CHARGED,
    NOW,
    OVER,
    SHOPPER,
    STEP,
    UNKNOWN,
    C,
    F,
    H,
    Q,
    R,
    duty,
    fact,
    order,
    send,
    wish,
)

from cxguard.core.decide import RELEASED
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Declined, Refunded
from cxguard.core.resolve import Cancel, Duty, Finish, Hold, Place, Wait, Ways

NOT_KEPT = {"kept": False}
NONE_ROWS: list[tuple[str, Operation, Ways, Duty]] = [
    *((f"declined while {state}", order(state, send(Declined())), ALL, Finish("declined")) for state in State),
    ("place it", order(Q), ALL, Place()),
    ("place it, although it was tried", order(Q, send(NOT_CHARGED)), ALL, Place()),
    ("place what a dead process had begun", order(R), ALL, Place()),
    ("cancel asked", order(Q, notes=(wish(),)), ALL, Cancel("cancel_asked")),
    ("cancel asked in flight", order(R, send(NOT_CHARGED), notes=(wish(),)), ALL, Cancel("cancel_asked")),
    ("cancel asked while held", order(H, why="attempts_over", notes=(wish(),)), ALL, Cancel("cancel_asked")),
    ("another order has its purchase", order(H, why="same_as", kept=False, notes=(wish(),)), ALL, Cancel("same_as")),
    ("its time is over", order(Q, **OVER), ALL, Cancel("gave_up")),
    ("its time is over while held", order(H, why="attempts_over", **OVER), ALL, Cancel("gave_up")),
    ("its time is over this very moment", order(Q, give_up_at=NOW), ALL, Cancel("gave_up")),
    ("nobody can place it", order(Q), NO_LATER, Cancel("not_kept")),
    ("not kept", order(Q, **NOT_KEPT), ALL, Cancel("not_kept")),
    ("of a dead process, not kept: its key is free", order(R, **NOT_KEPT), ALL, Cancel(RELEASED)),
    ("not kept, but steps are: whoever repeats it goes on", order(Q, steps=(STEP,), **NOT_KEPT), ALL, Wait(NOW + 3600, "steps_kept")),
    (
        "steps of a script without an end",
        order(R, steps=(STEP,), **{**NOT_KEPT, "give_up_at": None}),
        ALL,
        Wait(None, "steps_kept"),
    ),
    ("answered, and the process died", order(R, answer=b"sealed", **NOT_KEPT), ALL, Hold("answered_not_confirmed", AGENT)),
    ("a person's case", order(H, why="replay_not_signed_in", waiting_for=AGENT), ALL, Hold("replay_not_signed_in", AGENT)),
    (
        "proof leads out of doubt",
        order(H, send(UNKNOWN), why="unknown_unresolved", notes=(fact(NOT_CHARGED),)),
        ALL,
        Place(),
    ),
    (
        "out of doubt, not kept",
        order(H, send(UNKNOWN), why="charge_unknown", notes=(fact(NOT_CHARGED),), **NOT_KEPT),
        ALL,
        Cancel("not_kept"),
    ),
    (
        "the payment ended at the bank",
        order(H, send(NEEDS), why="needs_shopper", notes=(fact(NOT_CHARGED),)),
        ALL,
        Cancel("needs_shopper"),
    ),
    ("steps of an order with a reason", order(Q, steps=(STEP,), why="store_away", **NOT_KEPT), ALL, Wait(NOW + 3600, "store_away")),
    ("a person's case for the shopper", order(H, why="price_up", waiting_for=SHOPPER), ALL, Hold("price_up", SHOPPER)),
    ("finished", order(F, **ENDED), ALL, Finish("ended")),
    ("cancelled", order(C), ALL, Finish("ended")),
    ("a wish to cancel what has ended", order(C, notes=(wish(),)), ALL, Finish("ended")),
    ("a life after one that was refunded", order(Q, send(Refunded(4999, "EUR")), generation=2), ALL, Place()),
    ("a life after one that was declined", order(Q, send(Declined()), generation=2), ALL, Place()),
]


@pytest.mark.parametrize(("name", "operation", "ways", "expected"), NONE_ROWS, ids=[row[0] for row in NONE_ROWS])
def test_not_charged(name: str, operation: Operation, ways: Ways, expected: Duty) -> None:
    """What surely charged nothing is placed, ended, or let go; what is over stays over."""
    assert duty(operation, ways) == expected
