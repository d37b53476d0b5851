"""The arguments of a step: which calls are the same one."""

from __future__ import annotations

from typing import Any

import pytest
from tillworld import till


def book(*, count: int, sku: str) -> int:
    return count


@pytest.mark.asyncio
async def test_arguments_by_name_are_the_same_in_any_order() -> None:
    """Another version of the shop's code writes them the other way round: it gets the kept result."""

    async def call(op: Any) -> list[int]:
        return [await op.step("book", book, sku="cup", count=2), await op.step("book", book, count=2, sku="cup")]

    async with till() as shop:
        assert await shop.run(call) == [2, 2]
