"""Whether the next try of an order that was let go belongs to the same life, and so goes under the same gateway key."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.decide import NOT_KEPT, RELEASED
from cxguard.core.lost import LOST_EVENT, SAME_KEY_SHARE, goes_on
from cxguard.core.money import Note, NoteKind, SendKind
from cxguard.core.operation import Entry, Operation, State
from cxguard.core.outcomes import Charged, Declined, NotCharged, Unknown
from cxguard.testing.contract.base import START, charge_send, sample

KEY_SECONDS = 86_400.0
THROTTLED, REFUSED = NotCharged("throttled", retryable=True), NotCharged("refused")
FACT = Note("e1", NoteKind.OUTCOME, START, gateway_key="key-1", outcome=NotCharged("cancelled"))
CANCEL = Note("cancel:2", NoteKind.CANCEL, START, generation=2)
DECLINED_BY_OTHERS = Entry(START, "operation.released", "", {"why": "declined"})
REJECTED = Entry(START, "operation.released", "", {"why": "rejected"})
LOOKED = Entry(START, LOST_EVENT, "", {"generation": 1})


def let_go(**members: Any) -> Operation:
    """In its second life, after a first one that was declined."""
    there = {"state": State.CANCELLED, "why": RELEASED, "generation": 2, "give_up_at": None, "lease": None, "notes": (), "history": ()}
    return sample(**(there | members))


def sent(outcome: Any = THROTTLED, **members: Any) -> Any:
    return charge_send("key-2", **({"number": 2, "generation": 2, "outcome": outcome} | members))


DECLINED = charge_send("key-1", 1, outcome=Declined())


@pytest.mark.parametrize(
    "members",
    [
        {"sends": ()},
        {"sends": (), "history": (REJECTED,)},
        {"sends": (), "history": (DECLINED_BY_OTHERS, REJECTED)},
        {"sends": (DECLINED,)},
        {"sends": (sent(),)},
        {"sends": (DECLINED, sent(), sent(number=3))},
        {"sends": (DECLINED, sent()), "notes": (FACT,)},
    ],
)
def test_try_of_which_the_gateway_knows_nothing_begins_no_life(members: dict[str, Any]) -> None:
    """Nothing was sent, or all of it was turned away such that the same may be sent again."""
    assert goes_on(let_go(**members), figures=(4999, "EUR"), key_seconds=KEY_SECONDS, now=START + 1.0)


@pytest.mark.parametrize(
    "members",
    [
        {"state": State.FINISHED},
        {"why": NOT_KEPT},
        {"notes": (CANCEL,)},
        {"give_up_at": START},
        {"asked_until": START},
        {"history": (LOOKED,)},
        {"sends": (), "history": (DECLINED_BY_OTHERS,)},
        {"sends": (), "history": (REJECTED, DECLINED_BY_OTHERS)},
        {"sends": (sent(REFUSED),)},
        {"sends": (sent(), sent(REFUSED, number=3))},
        {"sends": (sent(Declined()),)},
        {"sends": (sent(Charged(4999, "EUR")),)},
        {"sends": (sent(Unknown("no answer")),)},
        {"sends": (sent(kind=SendKind.REFUND),)},
        {"sends": (sent(amount_minor=700),)},
        {"sends": (sent(currency="USD"),)},
        {"sends": (sent(sent_at=START + 1.0 - KEY_SECONDS / SAME_KEY_SHARE),)},
        {"sends": (sent(),), "notes": (FACT,)},
        {"notes": (FACT,)},
    ],
)
def test_any_other_try_has_a_life_and_a_key_of_its_own(members: dict[str, Any]) -> None:
    """Where something may be known under the old key, or its shopper was told that the order is over."""
    assert not goes_on(let_go(**members), figures=(4999, "EUR"), key_seconds=KEY_SECONDS, now=START + 1.0)


@pytest.mark.parametrize(("figures", "on"), [((700,), True), ((700, 700), True), ((700, 4999), False)])
def test_order_of_no_known_amount_goes_by_what_was_sent(figures: tuple[int, ...], on: bool) -> None:
    """All of it was for the same."""
    sends = tuple(sent(amount_minor=each, number=number) for number, each in enumerate(figures))
    for currency in (None, "EUR"):
        assert goes_on(let_go(sends=sends), figures=(None, currency), key_seconds=KEY_SECONDS, now=START) is on
