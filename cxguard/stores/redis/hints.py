"""Hints over publish and subscribe: lost whenever nobody listens, and worth no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cxguard.errors import StoreUnavailable
from cxguard.stores.base import EVERYTHING
from cxguard.stores.redis.routes import Route
from cxguard.stores.redis.wire import Wire

QUIET_SECONDS = 30.0  # without a word for so long: a server that is gone says nothing either


async def hear_hints(route: Route, channel: str, hear: Callable[[str], None]) -> None:
    """Call *hear* with each topic that is published, until cancelled.

    Raises:
        StoreUnavailable: the subscription has ended.
    """
    wire = await route.open_wire(await route.find_home(0))
    try:
        await wire.ask([("SUBSCRIBE", channel)])
        hear(EVERYTHING)
        while True:
            topic = await _next_topic(wire)
            if topic is not None:
                hear(topic)
    finally:
        await wire.close()


async def _next_topic(wire: Wire) -> str | None:
    """The next topic; None when it was quiet, and the server is still there."""
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            return _topic(await wire.next_message())
    except TimeoutError:
        raise StoreUnavailable("Redis has said nothing for a while: subscribe anew, and look at everything meanwhile") from None


def _topic(message: object) -> str | None:
    if isinstance(message, list) and message[0] == b"message":
        return bytes(message[2]).decode("utf-8", "replace")
    return None
