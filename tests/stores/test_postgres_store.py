"""The PostgreSQL store keeps the contract, on a real server."""

from __future__ import annotations

import secrets

import pytest
from postgres_server import PostgresServer

from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import StoreFactory
from cxguard.testing.contract.hinting import HintingContract
from cxguard.testing.contract.keeping import ForgettingContract
from cxguard.testing.store_contract import StoreContract


@pytest.mark.server
class TestPostgresStore(StoreContract, HintingContract, ForgettingContract):
    @pytest.fixture
    def store_factory(self, shared_postgres: PostgresServer) -> StoreFactory:
        schema = f"t{secrets.token_hex(6)}"
        return lambda clock: PostgresStore(shared_postgres.url, schema=schema, clock=clock)
