"""Records and submits, a cell of state and money each, for the tests of what is done with a submit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from cxguard.core.decide import Do, Policy, Submit, decide
from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged, Declined, Outcome, Refunded, Unknown

NOW = 1_800_000_000.0
R, Q, H, F, C = State.RUNNING, State.QUEUED, State.HELD, State.FINISHED, State.CANCELLED
NONE, UNKNOWN, CHARGED, DECLINED, REFUNDED = MoneyState
CELLS = list(product(State, MoneyState))
ENDED = [(F, money) for money in MoneyState] + [(C, money) for money in MoneyState]

RULE = Policy(double_click_seconds=10.0, duplicate_window_seconds=900.0, can_resolve=True)
SCRIPT = replace(RULE, double_click_seconds=0.0, duplicate_window_seconds=float("inf"), resumable=True)
CURRENT = replace(RULE, current_seconds=1_800.0)


def send(number: int, outcome: Outcome, *, kind: SendKind = SendKind.CHARGE) -> Send:
    key, of = ("gk", None) if kind is SendKind.CHARGE else ("gk-back", "gk")
    return Send(number, "http:shop:live", key, "charge", 1, kind, 1_000, "EUR", NOW - 30.0, outcome=outcome, of=of)


SENDS = {
    NONE: (),
    UNKNOWN: (send(1, Unknown("no answer")),),
    CHARGED: (send(1, Charged(1_000, "EUR")),),
    DECLINED: (send(1, Declined()),),
    REFUNDED: (send(1, Charged(1_000, "EUR")), send(2, Refunded(1_000, "EUR"), kind=SendKind.REFUND)),
}
WISH = Note("cancel:1", NoteKind.CANCEL, NOW - 5.0, generation=1)


def record(state: State, money: MoneyState, *, age_seconds: float = 5.0, **changes: Any) -> Operation:
    """A record that came to rest *age_seconds* ago, its figures as at its last save."""
    plain = Operation(
        id="a" * 64,
        namespace="shop",
        rule="pay",
        owner="ann",
        reference="R1",
        fingerprint="f1",
        state=state,
        created_at=NOW - age_seconds - 60.0,
        updated_at=NOW - age_seconds,
        sends=SENDS[money],
        money=money,
        answer=b"sealed" if state is F else None,
        answered_at=NOW - age_seconds if state is F else None,
        amount_minor=1_000,
        currency="EUR",
        kept=True,
    )
    return replace(plain, **changes)


def submit(*, client_key: bool = True, same_request: bool = True, **others: Any) -> Submit:
    return Submit("ann", client_key, same_request, **{"amount_minor": 1_000, "currency": "EUR", **others})


def done(operation: Operation, what: Submit, policy: Policy = RULE, *, leased: bool = False, claim: bool = False) -> Do:
    return decide(operation, what, policy, leased=leased, claim=claim, now=NOW)


# The same key, soon after.
CLIENTS_KEY = {
    R: dict.fromkeys(MoneyState, Do.RESCUE),
    Q: {NONE: Do.TELL, UNKNOWN: Do.RESOLVE, CHARGED: Do.TELL, DECLINED: Do.TELL, REFUNDED: Do.TELL},
    H: dict.fromkeys(MoneyState, Do.TELL),
    F: {NONE: Do.REPLAY, UNKNOWN: Do.TELL, CHARGED: Do.REPLAY, DECLINED: Do.REPLAY, REFUNDED: Do.TELL},
    C: dict.fromkeys(MoneyState, Do.TELL),
}


def may_begin_anew(state: State, money: MoneyState) -> bool:
    """Whether the next life of such an end may begin at any moment, once somebody has its lease."""
    return state in (F, C) and money not in (UNKNOWN, CHARGED)
