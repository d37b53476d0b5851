"""What code holds where nothing is guarded: it charges and runs its steps as if cxguard were not there."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.names import normalise_reference
from cxguard.engine.handle import OperationHandle
from cxguard.engine.unguarded import UnguardedOperation
from cxguard.errors import ConfigurationError, PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
BUY = Charge(4999, "EUR", source="tok_ok")


async def test_a_charge_is_one_plain_call_to_the_first_gateway() -> None:
    """Under the key that the code may read, or pass on itself; another step has another one."""
    first, second = FakeGateway(name="first:test"), FakeGateway(name="second:test")
    op = UnguardedOperation((first, second))
    assert (await op.charge(BUY)).payment_id == first.payments[0].id
    await op.charge(BUY, step="gift card")
    assert [payment.key for payment in first.payments] == [op.gateway_key(), op.gateway_key("gift card")]
    assert op.gateway_key() == op.gateway_key("charge") != op.gateway_key("gift card")
    assert second.calls == []


async def test_another_request_has_another_key() -> None:
    """As without cxguard: each press charges."""
    assert UnguardedOperation().gateway_key() != UnguardedOperation().gateway_key()


@pytest.mark.parametrize(
    ("does", "raised"), [(Does.DECLINE, PaymentDeclined), (Does.UNKNOWN, PaymentDeferred), (Does.NOT_CHARGED, PaymentDeferred)]
)
async def test_what_is_not_paid_raises_as_it_will_behind_the_guard(does: Does, raised: type[Exception]) -> None:
    """Once, and nothing is tried again."""
    gateway = FakeGateway(does)
    with pytest.raises(raised):
        await UnguardedOperation((gateway,)).charge(BUY)
    assert gateway.count("charge") == 1


async def test_code_may_read_what_it_reads_of_a_guarded_one() -> None:
    """An order's id for the gateway's metadata, say: in watch mode it was an error of ours in each checkout."""
    beyond = {"capture", "refund", "void", "stored_answer", "finished_one", "forgot_charge", "work"}  # of orders on record, and our own
    named = {name for name in vars(OperationHandle) if name.isascii() and not name.startswith("_")}  # mutants have other letters, too
    wanted = named - beyond
    assert [name for name in sorted(wanted) if not hasattr(UnguardedOperation(), name)] == []


async def test_it_has_a_reference_for_the_address_of_a_page() -> None:
    """`/thank-you/` and nothing behind it was found by no router: who had paid met a 404."""
    references = {UnguardedOperation().reference for _ in range(2)}
    assert len(references) == 2 and all(normalise_reference(each) == each for each in references)


async def test_without_a_gateway_it_says_what_to_write() -> None:
    """The same line as behind the guard."""
    with pytest.raises(ConfigurationError, match="gateways="):
        await UnguardedOperation().charge(BUY)


async def test_a_step_is_just_the_call_with_all_that_it_was_given() -> None:
    """A plain function or an async one."""

    async def book(*args: int, **named: int) -> tuple[Any, ...]:
        return args, named

    op = UnguardedOperation()
    assert await op.step("book", book, 1, 2, of=3) == ((1, 2), {"of": 3})
    assert await op.step("book", lambda *args, **named: (args, named), 1, 2, of=3) == ((1, 2), {"of": 3})
