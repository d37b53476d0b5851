"""What a rule says about an order whose charge is unknown: whether there is a way to find out, or it is a person's."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import rule

from cxguard.core.outcomes import Outcome
from cxguard.engine.rulings import policy_of


async def ask(op: Any) -> Outcome | None:
    """The shop's own way to ask its gateway."""


@pytest.mark.parametrize(
    ("options", "can_resolve"),
    [
        ({}, True),
        ({"charged_by": "shop"}, False),
        ({"charged_by": "shop", "resolve": ask}, True),
        ({"charged_by": "shop", "rerun_safe": True}, True),
    ],
)
def test_an_unknown_charge_can_be_resolved_in_any_of_three_ways(options: dict[str, Any], can_resolve: bool) -> None:
    """The guard asks the gateway, the shop's hook does, or the handler may run again."""
    assert policy_of(rule(**options)).can_resolve is can_resolve
