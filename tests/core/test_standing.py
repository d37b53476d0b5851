"""What a second call with a gateway key would be told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from resolve_orders import CHARGED, NEEDS, NOT_CHARGED, UNKNOWN, back, fact, order, send

from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Charged, Declined, DeclineReason, Outcome, Refunded, Unknown
from cxguard.core.standing import differs_from_asked, proof_of_charge, standing_outcome

R = State.RUNNING
LESS, DOLLARS = Charged(700, "EUR", "pay_1"), Charged(4999, "USD", "pay_1")
LATER, REFUNDED = Charged(4999, "EUR", "pay_2"), Refunded(4999, "EUR", "re_1")
FIRST_NO, LAST_NO = Declined(DeclineReason.FUNDS), Declined(DeclineReason.LIMIT)


@pytest.mark.parametrize(
    ("record", "stands"),
    [
        (order(R), None),
        (order(R, send(CHARGED, key="key-2"), notes=(fact(CHARGED, key="key-3"),)), None),
        (order(R, send(NOT_CHARGED)), None),
        (order(R, send(CHARGED)), CHARGED),
        (order(R, send(UNKNOWN), notes=(fact(CHARGED),)), CHARGED),
        (order(R, send(CHARGED), notes=(fact(LATER),)), LATER),
        (order(R, send(CHARGED), notes=(fact(Declined()),)), CHARGED),
        (order(R, send(UNKNOWN), notes=(fact(Refunded(1000, "EUR")),)), Unknown("only a refund tells of the charge")),
        (order(R, send(CHARGED), notes=(fact(REFUNDED),)), REFUNDED),
        (order(R, send(FIRST_NO), send(LAST_NO, 2)), LAST_NO),
        (order(R, send(UNKNOWN)), UNKNOWN),
        (order(R, send(NEEDS), send(UNKNOWN, 2)), NEEDS),
        (order(R, send(NOT_CHARGED), notes=(fact(UNKNOWN),)), UNKNOWN),
        (order(R, send(CHARGED), back(REFUNDED)), CHARGED),
        (order(R, send(LAST_NO, generation=3), generation=3), LAST_NO),
    ],
)
def test_the_last_word_that_agrees_with_the_money_stands(record: Operation, stands: Outcome | None) -> None:
    """Of this key and of no other; nothing, where it may be sent."""
    assert standing_outcome(record, "key-1") == stands


@pytest.mark.parametrize(
    ("record", "proof"),
    [
        (order(R), None),
        (order(R, send(UNKNOWN)), None),
        (order(R, send(Charged(4999, "EUR"))), None),
        (order(R, send(Charged(4999, "EUR")), notes=(fact(LATER),)), LATER),
        (order(R, send(CHARGED), notes=(fact(LATER),)), CHARGED),
        (order(R, send(CHARGED, key="key-2")), None),
    ],
)
def test_the_proof_of_a_charge_is_the_first_word_with_the_gateways_name_for_it(record: Operation, proof: Charged | None) -> None:
    """Of this key and of no other; without the name nothing can be given back."""
    assert proof_of_charge(record, "key-1") == proof


@pytest.mark.parametrize(
    ("record", "differs"),
    [
        (order(R), False),
        (order(R, send(CHARGED)), False),
        (order(R, send(UNKNOWN), notes=(fact(CHARGED),)), False),
        (order(R, send(UNKNOWN), notes=(fact(LESS),)), True),
        (order(R, send(UNKNOWN), notes=(fact(DOLLARS),)), True),
        (order(R, replace(send(UNKNOWN), amount_minor=700), notes=(fact(LESS),)), False),
        (order(R, replace(send(UNKNOWN), amount_minor=700), send(UNKNOWN, 2), notes=(fact(LESS),)), True),
        (order(R, replace(send(UNKNOWN), amount_minor=None), notes=(fact(LESS),)), False),
        (order(R, replace(send(UNKNOWN), currency=None), notes=(fact(DOLLARS),)), False),
        (order(R, send(UNKNOWN, key="key-2"), notes=(fact(LESS),), amount_minor=4999, currency="EUR"), True),
        (order(R, send(UNKNOWN, key="key-2"), notes=(fact(LESS),), amount_minor=700, currency="EUR"), False),
        (order(R, send(UNKNOWN), notes=(fact(REFUNDED),)), False),
        (order(R, send(CHARGED), back(Refunded(700, "EUR"))), False),
    ],
)
def test_a_charge_is_held_against_what_was_asked_for_last(record: Operation, differs: bool) -> None:
    """Under its own key, or else for the order; what nobody named differs from nothing."""
    assert differs_from_asked(record, "key-1") is differs
