"""A clock in hand, and a small shop's guard with its desk, for each test that acts at it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from deskworld import DeskWorld, desk_world

from cxguard.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def world() -> AsyncIterator[DeskWorld]:
    async with desk_world() as made:
        yield made
