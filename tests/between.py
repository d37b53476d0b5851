"""A store in which something happens just before a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from shopworld import World

Hook = Callable[..., Awaitable[None]]


class Between:
    """Wraps a store; hooks run once each, with the call's own arguments."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.before: dict[str, Hook] = {}

    def __getattr__(self, verb: str) -> Any:
        there = getattr(self._store, verb)
        if not callable(there):
            return there

        async def through(*args: Any, **named: Any) -> Any:
            hook = self.before.pop(verb, None)
            if hook is not None:
                await hook(*args, **named)
            return await there(*args, **named)

        return through


def between(shop: World) -> Between:
    """Put one between the engine of *shop* and its store."""
    made = Between(shop.store)
    shop.guard.engine.operations.store = made  # type: ignore[assignment]
    return made
