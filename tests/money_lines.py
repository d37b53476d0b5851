"""Sends, facts and their answers, for the tests that fold money from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cxguard.core.money import MoneyState, Note, NoteKind, Send, SendKind, fold
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown

CHARGED = Charged(4999, "EUR", "pay_1")
RESERVED = Charged(4999, "EUR", "pay_1", captured=False)
DECLINED = Declined()
NOT_CHARGED = NotCharged("connect refused", retryable=True)
UNKNOWN = Unknown("no answer in time")
NEEDS = NeedsShopper("3ds")
REFUNDED = Refunded(4999, "EUR", "re_1")
OUTCOMES: tuple[Outcome, ...] = (CHARGED, RESERVED, DECLINED, NOT_CHARGED, UNKNOWN, NEEDS, REFUNDED)
OPEN = (Unknown, NeedsShopper)


def send(number: int, outcome: Outcome = UNKNOWN, **changes: object) -> Send:
    line = Send(number, "http:shop:test", "key-1", "charge", 1, SendKind.CHARGE, 4999, "EUR", 1000.0 + number, outcome=outcome)
    return replace(line, **changes)  # type: ignore[arg-type]


def fact(outcome: Outcome, *, key: str = "key-1", through: int | None = None, generation: int = 0) -> Note:
    event_id = f"{key}:{outcome}:{through}"
    return Note(event_id, NoteKind.OUTCOME, 2000.0, "webhook", gateway_key=key, outcome=outcome, through=through, generation=generation)


def state(sends: Sequence[Send], notes: Iterable[Note] = (), generation: int = 1) -> MoneyState:
    return fold(sends, notes, generation=generation).state


def charge(outcome: Outcome = CHARGED) -> Send:
    return send(1, outcome)


def act(number: int, kind: SendKind, outcome: Outcome, *, key: str = "act-1", amount_minor: int = 4999) -> Send:
    return send(number, outcome, key=key, kind=kind, of="key-1", amount_minor=amount_minor)
