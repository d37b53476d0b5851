"""Guarded shops for the stories of what went wrong in real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio
from shopworld import Worlds


@pytest_asyncio.fixture
async def world() -> AsyncIterator[Worlds]:
    """`await world(handler, rule(..))` builds a guarded shop and starts it."""
    async with AsyncExitStack() as stack:
        yield Worlds(stack)
