"""Operations in hand, and the ways to go on with them, for the tests of the next duty."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cxguard.core.money import Note, NoteKind, Send, SendKind
from cxguard.core.operation import Entry, Operation, State, Step, WaitingFor
from cxguard.core.outcomes import Charged, NeedsShopper, NotCharged, Outcome, Unknown
from cxguard.core.resolve import LOOK_EVENT, Duty, Refund, Ways, next_duty

NOW = 1_800_000_000.0
SENT = NOW - 60.0
ALL = Ways(find=True, resend=True, later=True, key_lifetime_seconds=86_400.0, settle_seconds=0.0, looks_max=3)
NO_LATER = replace(ALL, later=False)
NO_FIND = replace(ALL, find=False)
NO_RESEND = replace(ALL, resend=False)
NO_WAY = replace(ALL, find=False, resend=False)

CHARGED = Charged(4999, "EUR", "pay_1")
UNKNOWN = Unknown("no answer in time")
NOT_CHARGED = NotCharged("not sent", retryable=True)
NEEDS = NeedsShopper("3ds")
AGENT, SHOPPER = WaitingFor.AGENT, WaitingFor.SHOPPER


def send(outcome: Outcome, number: int = 1, *, key: str = "key-1", **changes: Any) -> Send:
    line = Send(number, "http:shop:test", key, "charge", 1, SendKind.CHARGE, 4999, "EUR", SENT, outcome=outcome, parcel="sealed")
    return replace(line, **changes)


def back(outcome: Outcome, number: int = 2, **changes: Any) -> Send:
    return send(outcome, number, key="back-1", **{"kind": SendKind.REFUND, "of": "key-1", "parcel": None, **changes})


def fact(outcome: Outcome, *, key: str = "key-1", through: int | None = None) -> Note:
    return Note(f"{key}:{outcome}", NoteKind.OUTCOME, NOW - 5, gateway_key=key, outcome=outcome, through=through)


def wish(*, at: float = NOW - 5) -> Note:
    return Note(f"cancel-{at}", NoteKind.CANCEL, at, generation=1)


def looked(count: int) -> tuple[Entry, ...]:
    return tuple(Entry(at=NOW, event=LOOK_EVENT) for _ in range(count))


def order(state: State, *sends: Send, **changes: Any) -> Operation:
    record = Operation(
        id="a" * 64,
        namespace="shop",
        rule="pay",
        owner="owner",
        reference="ABC-DEF",
        fingerprint="f",
        state=state,
        created_at=NOW - 100,
        updated_at=NOW - 50,
        kept=True,
        give_up_at=NOW + 3600,
        sends=sends,
    )
    return replace(record, **changes)


def duty(operation: Operation, ways: Ways = ALL, *done: str, now: float = NOW) -> Duty:
    return next_duty(operation, ways, looked=frozenset(done), now=now)


R, Q, H, F, C = State.RUNNING, State.QUEUED, State.HELD, State.FINISHED, State.CANCELLED
OVER = {"give_up_at": NOW - 1}
REFUND_CANCELLED = Refund("key-1", 4999, "EUR", "pay_1", "cancelled")

TWO = (send(CHARGED), send(Charged(4999, "EUR", "pay_2"), 2, key="key-2"))
SECOND = Refund("key-2", 4999, "EUR", "pay_2", "second_charge")
ENDED = {"answer": b"sealed", "answered_at": NOW - 50}
STEP = Step("invoice", 1, "hash", NOW - 50, NOW - 49)
