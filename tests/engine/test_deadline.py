"""The deadline is passed on to the shop's own calls."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP

from cxguard.guard import Guard
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock


@pytest.mark.asyncio
async def test_what_is_left_is_told_inside_an_operation() -> None:
    """It shrinks as time passes, and never goes below zero; outside of any there is none."""
    clock = ManualClock()
    async with Guard(MemoryStore(clock=clock), shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock) as guard:

        async def call(op: Any) -> list[float]:
            seen = []
            for _ in range(3):
                seen.append(guard.deadline())
                clock.advance(4.0)
            return seen

        assert await guard.run(call, purpose="p", key="k", owner="o", deadline_seconds=6.0) == [6.0, 2.0, 0.0]
        with pytest.raises(LookupError):
            guard.deadline()
