"""What shoppers do to a shop: a hundred at once, and a client that leaves at every byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from campaign.playing import Scene
from fleet_shoppers import Habit, Shopper, Street, Wish
from plain_http import NoAnswer, request_bytes

TOGETHER = 100  # presses of one button at the same moment, at all processes
REQUEST_BYTES, ANSWER_BYTES = 420, 420  # more than a press and its answer have: each offset once
LEAVING_RATE = 40.0
STEP = 1


class Hundred(Shopper):
    """Presses a hundred times at once, wherever a balancer would send it."""

    async def pay(self, opened: float) -> None:
        await self.arrived(opened)
        await asyncio.gather(*(self.press() for _ in range(TOGETHER)))


class Leaver(Shopper):
    """Leaves in the middle of a request, or of its answer, at an offset of her own; and presses the button again."""

    async def pay(self, opened: float) -> None:
        await self.arrived(opened)
        client = self.client()
        parts = urlsplit(client.url)
        offset = self.wish.number * STEP
        request = request_bytes("POST", "/pay", host=parts.netloc, headers=self.headers("a"), body=self.order)
        with suppress(OSError, NoAnswer, TimeoutError):
            async with asyncio.timeout(10.0):
                self.street.left += await _left(str(parts.hostname), parts.port or 80, request, offset)
        await self.press()


async def _left(host: str, port: int, request: bytes, offset: int) -> bool:
    """Go away there; whether there was more to come."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request[:offset])
        await writer.drain()
        wanted = offset - REQUEST_BYTES
        return len(request) > offset or (wanted > 0 and len(await reader.read(wanted)) == wanted)
    finally:
        writer.transport.abort()


def _wishes(number: int, *, rate: float) -> Sequence[Wish]:
    return [Wish(n, n / rate, Habit.ONCE, n, f"tok_ok_s{n}") for n in range(number)]


def _pressed(street: Street) -> int:
    return street.submits


def _gone(street: Street) -> int:
    return street.left


SCENES: Mapping[str, Scene] = {
    "a hundred presses at once": Scene(counted=_pressed, apps=4, wanted=lambda: _wishes(6, rate=0.5), shopper=Hundred),
    "clients leave at every byte": Scene(
        counted=_gone,
        wanted=lambda: _wishes((REQUEST_BYTES + ANSWER_BYTES) // STEP, rate=LEAVING_RATE),
        shopper=Leaver,
    ),
}
