"""Refunds in a cron job: each one once, however often the job runs, and however it ended the last time.

    python examples/refund_cron/refund.py refunds.json

`refunds.json`: [{"order": "FC-1001", "customer": "ann", "payment_id": "pay_1", "amount_minor": 4999, "currency": "EUR"}, ...]
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxguard import Gateway, Guard, OperationHandle, Refunded, Shop
from cxguard.errors import CxguardError
from cxguard.gateways.http import HttpGateway

TIMEOUT_SECONDS = 10.0


class NotRefunded(Exception):
    """The gateway did not say that the money went back. The next run of the job asks again, under the same key."""


class Refunds:
    """The job."""

    def __init__(self, guard: Guard, gateway: Gateway) -> None:
        self.guard = guard
        self.gateway = gateway

    async def run(self, due: Sequence[dict[str, Any]]) -> list[str]:
        """Refund each; one that fails keeps none of the others from its turn. Returns a line for each."""
        lines = []
        async with self.guard:
            for each in due:
                try:
                    done = await self.guard.run(self.refund, each, purpose="refund order", key=each["order"], owner=each["customer"])
                    lines.append(f"{each['order']}: refunded, {done['refund_id']}")
                except (NotRefunded, CxguardError) as error:
                    lines.append(f"{each['order']}: not yet, {error}")
        return lines

    async def refund(self, op: OperationHandle, each: dict[str, Any]) -> dict[str, str]:
        """Repeatable: the gateway honours the key, so the very same call twice gives back once."""
        refund_id = await op.step("refund", self.send, op.gateway_key("refund"), each, repeatable=True)
        return {"refund_id": refund_id}

    async def send(self, key: str, each: dict[str, Any]) -> str:
        outcome = await self.gateway.refund(
            each["payment_id"],
            key=key,
            amount_minor=each["amount_minor"],
            currency=each["currency"],
            timeout_seconds=TIMEOUT_SECONDS,
        )
        if not isinstance(outcome, Refunded):
            raise NotRefunded(f"the gateway said {outcome}")
        return outcome.refund_id


def main() -> None:
    gateway = HttpGateway("http:example:test", os.environ.get("SHOP_GATEWAY", "http://127.0.0.1:8801"))
    store = os.environ.get("SHOP_STORE", "sqlite:///shop.db")
    guard = Guard(store, shop=Shop("Fern & Co", phone="+44 20 7946 0000"), gateways=[gateway], duties=False)
    due = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for line in asyncio.run(Refunds(guard, gateway).run(due)):
        print(line)


if __name__ == "__main__":
    main()
