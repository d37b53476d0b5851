"""Call a function of the shop's: bounded in time, in a thread if it is not async, and never with its words in a record."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections import defaultdict
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from cxguard.engine.bounds import is_cancelled
from cxguard.errors import HookFailed
from cxguard.threads import Threads

# One that hangs keeps its thread: then others of its kind wait in line, and fail by their time.
_in_threads: defaultdict[str, Threads] = defaultdict(lambda: Threads("cxguard-hook", most=16))


async def call_hook(hook: Callable[..., Any], *arguments: Any, name: str, seconds: float) -> Any:
    """What *hook* gives.

    Args:
        name: of its kind, one of a handful.

    Raises:
        HookFailed: it raised, or took longer than *seconds*. A plain function that hangs keeps its thread until it ends.
    """
    try:
        async with asyncio.timeout(seconds):
            return await said_by(hook, *arguments, name=name)
    except TimeoutError as error:
        raise HookFailed(f"{name} hook gave no answer in {seconds:g} s") from error
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        raise HookFailed(f"{name} hook waited for something that was cancelled, at {raised_at(error)}") from error
    except Exception as error:
        raise HookFailed(f"{name} hook raised: {type(error).__name__} at {raised_at(error)}") from error


async def said_by(hook: Callable[..., Any], *arguments: Any, name: str) -> Any:
    """What *hook* gives, however long it takes and whatever it raises: a plain function may block, so it gets a thread."""
    if _is_async(hook):
        return await hook(*arguments)
    given = await _in_threads[name](hook, *arguments)
    return await given if inspect.isawaitable(given) else given


def raised_at(error: BaseException) -> str:
    """`prices.py:12`: where it came from, without the folders of this machine."""
    calls = traceback.extract_tb(error.__traceback__)
    return f"{PurePath(calls[-1].filename).name}:{calls[-1].lineno}" if calls else "an unknown place"


def _is_async(hook: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004
