"""A gateway without keys at which a payment may show up days later: until then nobody is told that it is not there."""

from __future__ import annotations

import pytest
from lostworld import world

from cxguard.core.operation import State
from cxguard.core.resolve import LOOKS_MAX
from cxguard.errors import PaymentDeferred
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def test_order_is_no_persons_before_its_charge_must_have_shown_up() -> None:
    """It is asked for as often as ever, and then waits for that time instead of for a person."""
    async with world(keyed=False, settle_seconds=86_000.0) as shop:
        shop.gateway.will(Does.UNKNOWN)
        with pytest.raises(PaymentDeferred):
            await shop.press()
        sent_at = (await shop.record()).sends[0].sent_at
        for _ in range(3 * LOOKS_MAX):
            shop.clock.advance(1_800.0)
            await shop.rest()
        order = await shop.record()
        assert (order.state, order.why, order.due_at) == (State.QUEUED, "charge_unknown", sent_at + 86_000.0)
