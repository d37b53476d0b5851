"""The SQLite store keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.contract.base import StoreFactory
from cxguard.testing.store_contract import StoreContract


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def store_factory(self, tmp_path: Path) -> StoreFactory:
        return lambda clock: SQLiteStore(tmp_path / "shop.db", clock=clock)
