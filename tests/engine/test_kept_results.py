"""What a function of the shop's returned is given again, as it was, for as long as the order is kept."""

from __future__ import annotations

from typing import Any

import pytest
from tillworld import till

from cxguard.engine.cold import RESULT_BYTES_MAX

pytestmark = pytest.mark.asyncio

NAMED: dict[str, Any] = {"purpose": "order", "key": "o1", "owner": "ann"}
LONGEST = "x" * (RESULT_BYTES_MAX - len('""'))


@pytest.mark.parametrize("result", [{"invoice": 7, "lines": [1, 2], "note": "ein Grüßchen"}, LONGEST], ids=["several", "longest"])
async def test_result_comes_back_as_it_was(result: Any) -> None:
    """All of its members, and up to the most that is kept."""

    async def work(op: Any) -> Any:
        return result

    async with till() as shop:
        first = await shop.guard.run(work, **NAMED)
        assert await shop.guard.run(work, **NAMED) == first == result


async def test_result_that_is_too_large_is_refused() -> None:
    """By one byte: the function hears how much may be kept."""

    async def work(op: Any) -> Any:
        return LONGEST + "x"

    async with till() as shop:
        with pytest.raises(TypeError, match=f"{RESULT_BYTES_MAX + 1} bytes, {RESULT_BYTES_MAX} at most"):
            await shop.guard.run(work, **NAMED)
