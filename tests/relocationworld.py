"""Moving orders between stores in one process."""

from __future__ import annotations

from typing import Any

from shopworld import KEYS, SECRET, SHOP

from cxguard.engine.relocating import Moved, Relocator
from cxguard.guard import Guard
from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.contract.base import SHOP as SHOP_NAME


async def move(source: Store, target: Store, *, patience_seconds: float = 0.0, to: str = "sqlite:///new.db") -> Moved:
    names = {"namespace": SHOP_NAME, "origin": "sqlite:///old.db", "to": to}
    return await Relocator(source, target, **names, notice_seconds=0.0, patience_seconds=patience_seconds).run()


def guard_on(store: MemoryStore, clock: ManualClock) -> Guard:
    return Guard(store, shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock)


async def one(op: Any) -> int:
    return 1
