"""The gateway tells the shop what it did: signed as Stripe signs, at once, twice, later, in any order, or never."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from cxguard.clock import Clock, SystemClock

TRIES_MAX = 3
SECONDS_MAX = 5.0
HELD_MAX = 10_000


class Delivery(StrEnum):
    """When an event is sent."""

    OFF = "off"
    ON = "on"
    TWICE = "twice"
    HELD = "held"  # until somebody asks for it


@dataclass(slots=True)
class Webhooks:
    """Where events go, and which wait."""

    url: str = ""
    secret: str = ""
    delivery: Delivery = Delivery.OFF
    clock: Clock = field(default_factory=SystemClock)
    held: list[bytes] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def set(self, members: Mapping[str, Any]) -> None:
        """Take over what a control request says.

        Raises:
            ValueError: no such way to deliver, or an address that is not on this machine.
        """
        url = str(members.get("webhook_url", self.url))
        if url and httpx.URL(url).host not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("webhook_url must be on this machine")
        self.delivery = Delivery(members.get("webhooks", self.delivery))
        self.url, self.secret = url, str(members.get("webhook_secret", self.secret))

    def state(self) -> dict[str, Any]:
        return {"delivery": self.delivery, "url": self.url, "held": len(self.held)}

    def tell(self, kind: str, about: Mapping[str, Any]) -> None:
        """Something happened to a payment."""
        if self.delivery is Delivery.OFF or not self.url:
            return
        event = {"id": f"evt_{secrets.token_hex(8)}", "object": "event", "type": kind, "created": int(self.clock.now())}
        body = json.dumps({**event, "data": {"object": about}}).encode()
        if self.delivery is Delivery.HELD:
            self.held = [*self.held, body][-HELD_MAX:]
            return
        for _ in range(2 if self.delivery is Delivery.TWICE else 1):
            task = asyncio.create_task(self._send(body), name="webhook")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def release(self, *, order: str, times: int) -> int:
        """Send what was held, one after the other."""
        waiting, self.held = self.held, []
        for body in reversed(waiting) if order == "newest" else waiting:
            for _ in range(times):
                await self._send(body)
        return len(waiting) * times

    async def _send(self, body: bytes) -> None:
        """As long as the shop does not say 2xx, again, a few times."""
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS_MAX) as client:
            for _ in range(TRIES_MAX):
                try:
                    answer = await client.post(self.url, content=body, headers=self._headers(body))
                except httpx.HTTPError:
                    continue
                if answer.is_success:
                    return

    def _headers(self, body: bytes) -> dict[str, str]:
        at = int(self.clock.now())
        signature = hmac.new(self.secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return {"Content-Type": "application/json", "Stripe-Signature": f"t={at},v1={signature}"}
