"""A function of the shop's is called where it belongs, for a bounded time, and its failure says where it came from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cxguard.engine.hooks import call_hook, raised_at
from cxguard.errors import HookFailed

pytestmark = pytest.mark.asyncio


class AsyncObject:
    """A hook that is an object, and whose call is async."""

    async def __call__(self, number: int) -> tuple[int, int]:
        return number + 1, threading.get_ident()


async def async_function(number: int) -> tuple[int, int]:
    return number + 1, threading.get_ident()


def plain_function(number: int) -> tuple[int, int]:
    return number + 1, threading.get_ident()


@pytest.mark.parametrize(("hook", "in_loop"), [(AsyncObject(), True), (async_function, True), (plain_function, False)])
async def test_only_a_plain_function_leaves_the_loop(hook: Callable[..., Any], in_loop: bool) -> None:
    """It may block: the event loop goes on meanwhile."""
    given, thread = await call_hook(hook, 1, name="a", seconds=10.0)
    assert (given, thread == threading.get_ident()) == (2, in_loop)


@pytest.mark.parametrize(("hook", "name"), [(AsyncObject(), "notify"), (async_function, "notify"), (plain_function, "revalidate")])
async def test_functions_that_hang_hold_up_plain_ones_of_their_kind_only(hook: Callable[..., Any], name: str) -> None:
    """They hold all threads of it: a mail server that hangs keeps no price from being asked for."""
    release = threading.Event()
    hang = [asyncio.create_task(call_hook(release.wait, name="notify", seconds=10.0)) for _ in range(16)]
    await asyncio.sleep(0)
    try:
        assert (await call_hook(hook, 1, name=name, seconds=1.0))[0] == 2
    finally:
        release.set()
        await asyncio.gather(*hang)


async def test_a_plain_function_that_gives_an_awaitable_is_awaited() -> None:
    """A lambda around an async function, say."""
    assert (await call_hook(lambda number: async_function(number), 1, name="a", seconds=10.0))[0] == 2


async def test_a_failure_says_which_line_of_which_file_raised() -> None:
    """The innermost one, without the folders of the machine and without the words."""

    def fails() -> None:
        raise OSError("a path of this machine")

    def calls() -> None:
        fails()

    line = fails.__code__.co_firstlineno + 1
    with pytest.raises(HookFailed, match=rf"^a hook raised: OSError at test_functions_of_the_shop\.py:{line}$"):
        await call_hook(calls, name="a", seconds=10.0)


async def test_an_error_that_was_never_raised_came_from_nowhere() -> None:
    """Whoever hands one over, as an outcome of its own, has no line to name."""
    assert raised_at(OSError("made by hand")) == "an unknown place"
