"""What payment code gives as key and owner: whatever its database has, and never nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from shopworld import KEYS, SECRET, SHOP

from cxguard import Guard
from cxguard.errors import ConfigurationError

pytestmark = pytest.mark.asyncio
ID = "0d2f4c3e-7a61-4a35-9a0e-1f2d3c4b5a69"


@pytest_asyncio.fixture
async def guard() -> AsyncIterator[Guard]:
    async with Guard("memory://", shop=SHOP, secret=SECRET, keys=KEYS, duties=False) as guard:
        yield guard


async def done(guard: Guard, mark: int, *, key: Any, owner: Any) -> int:
    async def work(op: Any) -> int:
        return mark

    return await guard.run(work, purpose="order", key=key, owner=owner)


@pytest.mark.parametrize(("key", "as_text"), [(42, "42"), (UUID(ID), ID), ("ключ", "ключ")])
async def test_a_number_and_a_uuid_are_names_as_their_text_is(guard: Guard, key: Any, as_text: str) -> None:
    """An order's primary key, given as it comes: read from JSON it is the same order."""
    assert await done(guard, 1, key=key, owner=7) == 1
    assert await done(guard, 2, key=as_text, owner="7") == 1


@pytest.mark.parametrize("nothing", ["", " ", None, True, b"k", 4.2, object()])
@pytest.mark.parametrize("member", ["key", "owner"])
async def test_no_name_is_refused_before_anything_is_opened(guard: Guard, nothing: Any, member: str) -> None:
    """With an empty key, the second order of a customer was answered with the first one's result, and never paid."""
    names = {"key": "k", "owner": "ann", member: nothing}
    with pytest.raises(ConfigurationError, match=rf"^{member} is .*{member}=\w+\.id for instance; nothing was opened"):
        await done(guard, 1, **names)
