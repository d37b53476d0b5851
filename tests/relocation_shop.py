"""A store with an order of every kind, for tests that move it; and a move that is killed at a point of choice."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from shopworld import SHOP

from cxguard import Charge, Guard
from cxguard.core.operation import Operation, State
from cxguard.core.outcomes import Unknown
from cxguard.engine.library import Purpose
from cxguard.errors import OperationHeld, PaymentDeclined, PaymentDeferred
from cxguard.stores.base import Query, Store
from cxguard.testing.fake_gateway import Does, FakeGateway

KINDS = ("paid", "declined", "unknown", "kept", "stepped")
WANTED = Charge(4999, "EUR", source="tok_ok")


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(WANTED)
    return {"payment": payment.payment_id}


async def stepped(op: Any) -> dict[str, str]:
    await op.step("reserve", lambda: {"reserved": 1})
    payment = await op.charge(WANTED)
    await op.step("invoice", lambda: {"number": 7})
    return {"payment": payment.payment_id}


def guard_at(store: str | Store, gateway: FakeGateway, **options: Any) -> Guard:
    return Guard(store, shop=SHOP, gateways=[gateway], purposes=[Purpose("order", later=place)], duties=False, **options)


async def fill(guard: Guard, gateway: FakeGateway, *, copies: int = 1) -> None:
    """Orders of every kind, each as often as said."""
    does = {"declined": [Does.DECLINE], "unknown": [Does.UNKNOWN], "kept": [Does.NOT_CHARGED] * 3}
    for number in range(copies):
        for kind in KINDS:
            gateway.will(*does.get(kind, []))
            if kind == "unknown":
                gateway.will_say("find", [Unknown("silence")])
            try:
                work = stepped if kind == "stepped" else place
                options = {"amount_minor": 4999, "currency": "EUR", "deadline_seconds": 0.5}
                await guard.run(work, purpose="order", key=f"{kind}-{number}", owner="ann", **options)
            except (PaymentDeferred, PaymentDeclined, OperationHeld):
                pass
    (kept, *_) = (await guard.store.search(Query("shop", states=(State.QUEUED,)))).operations
    await guard.note(Unknown("processing"), reference=kept.reference, event_id="evt_1")


async def everything(store: Store, *, namespace: str = "shop") -> dict[str, Operation]:
    """Every record, by its id."""
    found: dict[str, Operation] = {}
    after: str | None = None
    while True:
        page = await store.search(Query(namespace, after=after, limit=200))
        found |= {each.id: each for each in page.operations}
        if page.cursor is None:
            return found
        after = page.cursor


class Deadly:
    """A store whose process is killed at one of its verbs' calls: before the call, or when it has happened."""

    def __init__(self, store: Store, verb: str, *, call: int, after: bool) -> None:
        self._store = store
        self._verb = verb
        self._calls_left = call
        self._after = after

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._store, name)
        return self._killing(there) if name == self._verb else there

    def _killing(self, call: Any) -> Any:
        async def through(*args: Any, **named: Any) -> Any:
            self._calls_left -= 1
            last = self._calls_left == 0  # others may be under way
            if last and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await call(*args, **named)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return through


def main() -> None:
    """`python relocation_shop.py FROM TO source|target VERB CALL before|after`: the command, killed there."""
    from cxguard.cli import main as cxguard
    from cxguard.cli import migrate_store
    from cxguard.engine import relocating

    old, new, which, verb, call, when = sys.argv[1:]
    real = migrate_store.open_store

    def deadly(url: str, **options: Any) -> Any:
        store = real(url, **options)
        mine = url == (old if which == "source" else new)
        return Deadly(store, verb, call=int(call), after=when == "after") if mine else store

    migrate_store.open_store = deadly
    relocating.AT_ONCE = int(os.environ.get("RELOCATE_AT_ONCE", relocating.AT_ONCE))
    cxguard(["migrate-store", old, new, "--stopped"])


if __name__ == "__main__":
    main()
