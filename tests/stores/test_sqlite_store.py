"""The SQLite store keeps the contract."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from cxguard.clock import SystemClock
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.contract.base import StoreFactory
from cxguard.testing.contract.hinting import HintingContract
from cxguard.testing.contract.keeping import ForgettingContract
from cxguard.testing.store_contract import StoreContract


class TestSQLiteStore(StoreContract, HintingContract, ForgettingContract):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> StoreFactory:
        return lambda clock: SQLiteStore(tmp_path / "shop.db", clock=clock)


def test_another_thread_renews_while_the_event_loop_writes(tmp_path: Path) -> None:
    """The heartbeat has a loop of its own: neither it nor a request is ever refused because of the other."""
    store = SQLiteStore(tmp_path / "shop.db", clock=SystemClock())
    refused: list[BaseException] = []
    rounds = 200

    def heartbeat() -> None:
        async def beat() -> None:
            for _ in range(rounds):
                await store.renew({"nobody": 1}, lease_seconds=30.0)

        try:
            asyncio.run(beat())
        except BaseException as error:
            refused.append(error)

    async def requests() -> None:
        await store.start()
        thread = threading.Thread(target=heartbeat)
        thread.start()
        for _ in range(rounds):
            await asyncio.gather(*(store.swap(f"k{n}", revision=-1, value=b"") for n in range(5)))
        await asyncio.to_thread(thread.join)
        await store.stop()

    asyncio.run(requests())
    assert refused == []
