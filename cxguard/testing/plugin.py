"""The pytest plugin for a shop's own tests. One line in the topmost conftest.py takes it in:

    pytest_plugins = ["cxguard.testing.plugin"]

    @pytest.fixture
    def payments(guard_faults):                                  # your fake gateway
        fake = FakePayments()
        fake.charge = guard_faults.after(fake.charge)            # trouble comes right after it has charged
        return fake

    async def test_checkout(guard_faults, payments, client):
        def pay(name):
            return client.build_request("POST", "/pay", json={"cart": name}, headers={"Idempotency-Key": name})

        await guard_faults(client, pay, charges=lambda: len(payments.books))

It is no entry point: those are imported at the start of every pytest run where the package is installed, and cxguard is
installed to guard a shop. It needs `httpx` and `pytest`, and a plugin that runs async tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import httpx
import pytest

from cxguard.testing.shop_faults.cases import Case, Told
from cxguard.testing.shop_faults.driving import Charges, GuardFaults, PromiseBroken, Request


class GuardFaultsFixture(GuardFaults):
    """`GuardFaults` as pytest shows it best: the report alone, without our own lines above it."""

    async def __call__(
        self, client: httpx.AsyncClient, request: Request, *, charges: Charges, cases: Collection[Case] = tuple(Case), **options: Any
    ) -> list[Told]:
        """See `cxguard.testing.shop_faults.driving.GuardFaults`."""
        try:
            return await super().__call__(client, request, charges=charges, cases=cases, **options)
        except PromiseBroken as broken:
            said = str(broken)
        pytest.fail(f"guard_faults: {said}", pytrace=False)


@pytest.fixture
def guard_faults() -> Iterator[GuardFaults]:
    """Drives an endpoint through double submits, lost answers and kills, and judges by the fake gateway's books."""
    faults = GuardFaultsFixture()
    try:
        yield faults
    finally:
        faults.trouble.close()
