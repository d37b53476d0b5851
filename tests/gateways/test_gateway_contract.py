"""Every gateway that comes along keeps the contract: the generic one, Stripe, the one in memory, and the example's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from example_ground import load

from cxguard.gateways.base import Charge, Closes
from cxguard.gateways.http import HttpGateway
from cxguard.gateways.stripe import StripeGateway
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.gateway_contract import GatewayContract, Trouble

MODES = {
    Trouble.NONE: "healthy",
    Trouble.REFUSE: "refuse",
    Trouble.ERROR: "error",
    Trouble.SILENCE_BEFORE: "time_out_before",
    Trouble.SILENCE_AFTER: "time_out_after",
    Trouble.GARBAGE: "garbage",
}


class ProcessSandbox:
    """The gateway process, spoken to through one adapter."""

    def __init__(self, process: Any, gateway: Any, *, good: str, declined: str) -> None:
        self.gateway = gateway
        self.good = Charge(4999, "EUR", source=good)
        self.declined = Charge(4999, "EUR", source=declined)
        self._process = process

    async def make(self, trouble: Trouble) -> None:
        self._process.put(mode=MODES[trouble])


async def closing(sandbox: ProcessSandbox) -> AsyncIterator[ProcessSandbox]:
    yield sandbox
    if isinstance(sandbox.gateway, Closes):
        await sandbox.gateway.aclose()


class TestHttpGateway(GatewayContract):
    @pytest_asyncio.fixture
    async def sandbox(self, gateway_process: Any) -> AsyncIterator[ProcessSandbox]:
        async for made in closing(
            ProcessSandbox(gateway_process, HttpGateway("http:shop:test", gateway_process.url), good="tok_ok", declined="tok_declined")
        ):
            yield made


class TestHttpGatewayWithoutKeys(GatewayContract):
    @pytest_asyncio.fixture
    async def sandbox(self, keyless_process: Any) -> AsyncIterator[ProcessSandbox]:
        gateway = HttpGateway("http:shop:test", keyless_process.url, keyed=False)
        async for made in closing(ProcessSandbox(keyless_process, gateway, good="tok_ok", declined="tok_declined")):
            yield made


class TestStripeGateway(GatewayContract):
    @pytest_asyncio.fixture
    async def sandbox(self, gateway_process: Any) -> AsyncIterator[ProcessSandbox]:
        gateway = StripeGateway("stripe:shop:test", api_key="sk_test_" + "x" * 24, base_url=gateway_process.url)
        made = ProcessSandbox(gateway_process, gateway, good="pm_card_visa", declined="pm_card_chargeDeclined")
        async for each in closing(made):
            yield each


class TestOwnGateway(GatewayContract):
    @pytest_asyncio.fixture
    async def sandbox(self, gateway_process: Any) -> AsyncIterator[ProcessSandbox]:
        own = load("own_gateway/gateway.py").FernPay("fernpay:shop:test", gateway_process.url)
        async for made in closing(ProcessSandbox(gateway_process, own, good="tok_ok", declined="tok_declined")):
            yield made


class FakeSandbox:
    """The gateway in memory, told what to do."""

    def __init__(self) -> None:
        self.gateway = FakeGateway()
        self.good = Charge(4999, "EUR", source="tok_ok")
        self.declined = Charge(4999, "EUR", source="tok_declined")

    async def make(self, trouble: Trouble) -> None:
        does = {
            Trouble.NONE: Does.CHARGE,
            Trouble.REFUSE: Does.NOT_CHARGED,
            Trouble.SILENCE_BEFORE: Does.UNKNOWN,
            Trouble.SILENCE_AFTER: Does.CHARGE_THEN_UNKNOWN,
        }
        self.gateway.otherwise = does[trouble]


class TestFakeGateway(GatewayContract):
    cannot = frozenset({Trouble.ERROR, Trouble.GARBAGE})

    @pytest.fixture
    def sandbox(self) -> FakeSandbox:
        return FakeSandbox()

    @pytest.mark.skip(reason="its look-ups always work: they are scripted with will_say")
    async def test_a_question_that_cannot_be_asked_says_nothing(self, sandbox: Any, key: str, trouble: Trouble) -> None:  # type: ignore[override]
        """Said by other sandboxes."""
