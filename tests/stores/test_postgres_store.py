"""The PostgreSQL store keeps the contract, on a real server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, running_postgres

from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import StoreFactory
from cxguard.testing.contract.hinting import HintingContract
from cxguard.testing.store_contract import StoreContract


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.mark.server
class TestPostgresStore(StoreContract, HintingContract):
    @pytest.fixture
    def store_factory(self, postgres: PostgresServer) -> StoreFactory:
        schema = f"t{secrets.token_hex(6)}"
        return lambda clock: PostgresStore(postgres.url, schema=schema, clock=clock)
