"""A third party's idea of Stripe: the adapter against `localstripe`, where that can serve.

It knows no idempotency keys, no search and no `automatic_payment_methods`: so the look-up goes through the list alone, and
the charge names its method. Its declined cards mostly succeed, so declines are left to the other tests.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from servers import Spawn

from cxguard.core.outcomes import Charged, NotCharged, Refunded, Unknown
from cxguard.gateways.base import KEY_MEMBER, Charge
from cxguard.gateways.stripe import StripeGateway

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def gateway(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StripeGateway]:
    pytest.importorskip("localstripe")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("localstripe")
    spawn([str(program), "--port", str(port), "--from-scratch"], ready="Running on", env={"PYTHONUNBUFFERED": "1"})
    gateway = StripeGateway("stripe:local:test", api_key="sk_test_12345", base_url=f"http://127.0.0.1:{port}")
    yield gateway
    await gateway.aclose()


def card(**changes: object) -> Charge:
    members: dict[str, object] = {"amount_minor": 4999, "currency": "EUR", "source": "pm_card_visa", "method": "card"}
    return Charge(**{**members, **changes})  # type: ignore[arg-type]


async def test_charge_look_up_and_refund(gateway: StripeGateway) -> None:
    """A payment is made, found by our key through the list, and given back in part."""
    charged = await gateway.charge(card(), key="k1", timeout_seconds=10)
    assert isinstance(charged, Charged)
    assert (charged.amount_minor, charged.currency, charged.captured) == (4999, "EUR", True)
    assert await gateway.find("k1", timeout_seconds=10) == charged
    back = await gateway.refund(charged.payment_id, key="r1", amount_minor=1000, currency="EUR", timeout_seconds=10)
    assert isinstance(back, Refunded)
    assert await gateway.find("nobody", timeout_seconds=10) == Unknown("not_found")


async def test_reservation_and_capture(gateway: StripeGateway) -> None:
    """Reserved first, taken later."""
    reserved = await gateway.charge(card(capture=False), key="k2", timeout_seconds=10)
    assert isinstance(reserved, Charged)
    assert not reserved.captured
    taken = await gateway.capture(reserved.payment_id, key="c2", amount_minor=4999, currency="EUR", timeout_seconds=10)
    assert isinstance(taken, Charged)


async def test_what_it_refuses_is_not_charged(gateway: StripeGateway) -> None:
    """A payment method that nobody has."""
    assert isinstance(await gateway.charge(card(source="pm_nobody"), key="k3", timeout_seconds=10), NotCharged)


async def test_our_names_are_in_its_books(gateway: StripeGateway) -> None:
    """The key comes back with the payment, as a webhook would bring it."""
    await gateway.charge(card(metadata={"cxguard_operation": "op1"}), key="k4", timeout_seconds=10)
    found = await gateway._find("k4")
    assert found is not None
    assert found["metadata"] == {KEY_MEMBER: "k4", "cxguard_operation": "op1"}
