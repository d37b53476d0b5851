"""The gateway in memory: each scripted behaviour, and a ledger that does not lie."""

from __future__ import annotations

import asyncio

import pytest

from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.gateways.base import Charge, Gateway
from cxguard.testing.fake_gateway import Does, FakeGateway

BUY = Charge(amount_minor=100, currency="EUR", source="tok")


async def pay(gateway: FakeGateway, key: str = "k", charge: Charge = BUY) -> Outcome:
    return await gateway.charge(charge, key=key, timeout_seconds=1)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("does", "told", "found", "standing"),
    [
        (Does.CHARGE, Charged(100, "EUR", "pay_1"), Charged(100, "EUR", "pay_1"), 1),
        (Does.CHARGE_THEN_UNKNOWN, Unknown("no answer: scripted"), Charged(100, "EUR", "pay_1"), 1),
        (Does.UNKNOWN, Unknown("no answer: scripted"), Unknown("not_found"), 0),
        (Does.NOT_CHARGED, NotCharged("not sent: scripted", retryable=True, reroutable=True), Unknown("not_found"), 0),
        (Does.REFUSE, NotCharged("refused: scripted"), Unknown("not_found"), 0),
        (Does.THROTTLE, NotCharged("throttled", retryable=True, retry_after_seconds=1.0, reroutable=True), Unknown("not_found"), 0),
        (Does.DECLINE, Declined(DeclineReason.FUNDS, "insufficient_funds"), Declined(DeclineReason.FUNDS, "insufficient_funds"), 0),
    ],
)
async def test_each_behaviour(does: Does, told: Outcome, found: Outcome, standing: int) -> None:
    """A call does what the script says; the look-up tells what is in the ledger, and charges stand as many as were made."""
    gateway = FakeGateway(does)
    assert await pay(gateway) == told
    assert await gateway.find("k", timeout_seconds=1) == found
    assert len(gateway.standing) == standing


@pytest.mark.asyncio
async def test_script_is_used_up_in_order_then_otherwise() -> None:
    """One line of the script for each new charge, and then the standing behaviour."""
    gateway = FakeGateway(Does.UNKNOWN, Does.DECLINE, otherwise=Does.THROTTLE)
    told = [await pay(gateway, key) for key in "abc"]
    assert [type(outcome) for outcome in told] == [Unknown, Declined, NotCharged]


@pytest.mark.asyncio
async def test_repeated_key_is_replayed() -> None:
    """With keys on, the same key charges once and a decline stays a decline."""
    gateway = FakeGateway(Does.DECLINE)
    assert await pay(gateway) == await pay(gateway)
    assert await pay(gateway, "other") == await pay(gateway, "other")
    assert len(gateway.standing) == 1 and gateway.count("charge") == 4


@pytest.mark.asyncio
async def test_without_keys_each_call_charges() -> None:
    """With keys off, a repeated call is a second charge."""
    gateway = FakeGateway(keyed=False)
    await pay(gateway)
    await pay(gateway)
    assert len(gateway.standing) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(("does", "while_hanging"), [(Does.HANG, 0), (Does.CHARGE_THEN_HANG, 1)])
async def test_hang_until_released(does: Does, while_hanging: int) -> None:
    """A hanging call waits for `release`; whether it has charged by then is part of the script."""
    gateway = FakeGateway(does)
    running = asyncio.create_task(pay(gateway))
    await gateway.until_hanging()
    assert len(gateway.standing) == while_hanging
    await gateway.release()
    assert await running == Charged(100, "EUR", "pay_1")


@pytest.mark.asyncio
async def test_cancelled_hang_leaves_what_was_done() -> None:
    """A caller that goes away in the middle leaves the charge in the ledger."""
    gateway = FakeGateway(Does.CHARGE_THEN_HANG)
    running = asyncio.create_task(pay(gateway))
    await gateway.until_hanging()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(gateway.standing) == 1


@pytest.mark.asyncio
async def test_needs_the_shopper_until_confirmed() -> None:
    """A payment that waits for the shopper is charged when it is confirmed."""
    gateway = FakeGateway(Does.NEEDS_SHOPPER)
    assert isinstance(await pay(gateway), NeedsShopper)
    gateway.confirm("k")
    assert isinstance(await gateway.find("k", timeout_seconds=1), Charged)


@pytest.mark.asyncio
async def test_the_waiting_payment_of_a_key_is_the_one_that_is_confirmed() -> None:
    """Without keys another one may have been declined under it before: that stays so, and is not what became of the key."""
    gateway = FakeGateway(Does.DECLINE, Does.NEEDS_SHOPPER, keyed=False)
    for _ in range(2):
        await pay(gateway)
    assert isinstance(await gateway.find("k", timeout_seconds=1), NeedsShopper)
    gateway.confirm("k")
    assert [str(payment.state) for payment in gateway.payments] == ["declined", "charged"]
    assert isinstance(await gateway.find("k", timeout_seconds=1), Charged)


@pytest.mark.asyncio
async def test_cancel_ends_a_waiting_payment_and_blocks_an_unused_key() -> None:
    """After a cancel nothing can be charged under the key."""
    gateway = FakeGateway(Does.NEEDS_SHOPPER)
    await pay(gateway)
    for key in ("k", "unused"):
        assert await gateway.cancel(key, timeout_seconds=1) == NotCharged("cancelled")
        assert await pay(gateway, key) == NotCharged("cancelled")
    assert gateway.standing == []


@pytest.mark.asyncio
async def test_capture_and_refund_move_money_once() -> None:
    """A reservation is captured once; a refund key gives back once, and never more than there is."""
    gateway = FakeGateway()
    reserved = await pay(gateway, charge=Charge(amount_minor=100, currency="EUR", source="tok", capture=False))
    assert reserved == Charged(100, "EUR", "pay_1", captured=False)
    taken = await gateway.capture("pay_1", key="c", amount_minor=100, currency="EUR", timeout_seconds=1)
    assert taken == await gateway.capture("pay_1", key="c", amount_minor=100, currency="EUR", timeout_seconds=1)
    back = await gateway.refund("pay_1", key="r", amount_minor=100, currency="EUR", timeout_seconds=1)
    assert back == await gateway.refund("pay_1", key="r", amount_minor=100, currency="EUR", timeout_seconds=1)
    assert isinstance(await gateway.refund("pay_1", key="s", amount_minor=1, currency="EUR", timeout_seconds=1), NotCharged)
    assert await gateway.find("k", timeout_seconds=1) == Refunded(100, "EUR")


@pytest.mark.asyncio
async def test_scripted_answers_of_the_other_verbs() -> None:
    """A look-up may be told to know nothing; then it tells the truth again."""
    gateway = FakeGateway()
    await pay(gateway)
    gateway.will_say("find", [Unknown("HTTP 500")])
    assert await gateway.find("k", timeout_seconds=1) == Unknown("HTTP 500")
    assert isinstance(await gateway.find("k", timeout_seconds=1), Charged)


def test_it_is_a_gateway() -> None:
    """The fake has every member that the protocol asks for."""
    assert isinstance(FakeGateway(), Gateway)
