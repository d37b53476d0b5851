"""The nightly look: each kind of break between a gateway's books and ours is found, recorded, and never mended by charging."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.money import MoneyState, NoteKind
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, Unknown
from cxguard.core.reconcile import BreakKind
from cxguard.engine.reconciling import Reconciled, reconcile
from cxguard.errors import GatewayUnreadable, OperationHeld, PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import OPERATION_MEMBER, Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway, FakePayment, PaymentState

pytestmark = pytest.mark.asyncio

BUY = Charge(4999, "EUR", source="tok_ok")


@dataclass
class Shop:
    guard: Guard
    gateway: FakeGateway
    clock: ManualClock

    async def pay(self, key: str = "o1") -> None:
        async def call(op: Any) -> str:
            payment = await op.charge(BUY)
            return str(payment.payment_id)

        try:
            await self.guard.run(call, purpose="order", key=key, owner="ann")
        except (PaymentDeferred, PaymentDeclined, OperationHeld):
            pass

    async def look(self) -> Reconciled:
        self.clock.advance(3_600.0)
        now = self.clock.now()
        return await reconcile(self.guard.engine, self.gateway, since=now - 86_400.0, until=now)

    async def kinds(self) -> list[BreakKind]:
        return [each.kind for each in (await self.look()).breaks]

    async def records(self) -> tuple[Operation, ...]:
        return (await self.guard.store.search(Query(namespace="shop"))).operations

    def change(self, **members: Any) -> None:
        """Somebody at the gateway's own console."""
        self.gateway.payments[0] = replace(self.gateway.payments[0], **members)


@asynccontextmanager
async def shop_with(*script: Does) -> AsyncIterator[Shop]:
    clock, gateway = ManualClock(), FakeGateway(*script)
    store = MemoryStore(clock=clock)
    async with Guard(store, shop=SHOP, gateways=[gateway], secret=SECRET, keys=KEYS, duties=False, clock=clock) as guard:
        yield Shop(guard, gateway, clock)


async def test_books_that_agree_have_no_break() -> None:
    """Paid, declined, partly refunded, and a payment of another system on the same account."""
    async with shop_with(Does.CHARGE, Does.DECLINE) as shop:
        await shop.pay("o1")
        await shop.pay("o2")
        async with shop.guard.resume(reference=(await shop.records())[-1].reference) as op:
            await op.refund(1000)
        shop.gateway.payments.insert(0, FakePayment("pay_other", "", BUY, PaymentState.CHARGED))
        seen = await shop.look()
        assert (seen.breaks, seen.payments, seen.foreign, seen.records) == ([], 3, 1, 2)


async def test_a_charge_that_the_record_does_not_know_is_brought_in() -> None:
    """Its answer was lost, and look-ups failed: the list knows, and the worker goes on from there."""
    async with shop_with(Does.CHARGE_THEN_UNKNOWN) as shop:
        shop.gateway.will_say("find", [Unknown("could not ask")] * 3)
        await shop.pay()
        assert await shop.kinds() == [BreakKind.UNRESOLVED]
        (record,) = await shop.records()
        assert [note.kind for note in record.notes] == [NoteKind.OUTCOME, NoteKind.REMARK]
        await shop.guard.queue().run_once()
        assert ((await shop.records())[0].money, shop.gateway.count("charge")) == (MoneyState.CHARGED, 1)
        assert await shop.kinds() == []


async def test_a_payment_under_a_key_that_no_record_knows_becomes_a_case() -> None:
    """A record that was lost: the desk gets a stub, nothing is charged or refunded by itself."""
    async with shop_with() as shop:
        shop.gateway.payments.append(FakePayment("pay_9", "cxg-lost", BUY, PaymentState.CHARGED))
        assert await shop.kinds() == [BreakKind.NO_RECORD]
        (stub,) = await shop.records()
        assert (stub.money, stub.why) == (MoneyState.CHARGED, "unknown_operation")
        assert {call.verb for call in shop.gateway.calls} == {"list"}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"state": PaymentState.DECLINED}, BreakKind.NOT_AT_GATEWAY),
        ({"charge": Charge(700, "EUR", source="tok_ok")}, BreakKind.AMOUNT),
        ({"charge": Charge(4999, "USD", source="tok_ok")}, BreakKind.AMOUNT),
        ({"refunded_minor": 1500}, BreakKind.REFUND),
        ({"refunded_minor": 4999}, BreakKind.REFUND),
    ],
)
async def test_what_was_changed_behind_our_back_is_found(change: dict[str, Any], kind: BreakKind) -> None:
    """Another state, amount or currency, and money that went back by hand."""
    async with shop_with() as shop:
        await shop.pay()
        shop.change(**change)
        assert await shop.kinds() == [kind]
        remarks = [note for note in (await shop.records())[0].notes if note.kind is NoteKind.REMARK]
        assert [(note.source, note.text.partition(":")[0]) for note in remarks] == [("reconcile:fake:test", kind)]
        await shop.look()
        assert len([note for note in (await shop.records())[0].notes if note.kind is NoteKind.REMARK]) == 1, "told once"


async def test_a_charge_that_is_missing_from_the_books_is_found() -> None:
    """The record says charged, and the gateway has never heard of it."""
    async with shop_with() as shop:
        await shop.pay()
        shop.gateway.payments.clear()
        assert await shop.kinds() == [BreakKind.NOT_AT_GATEWAY]


async def test_what_is_too_young_is_left_to_the_next_look() -> None:
    """A payment may not be in the gateway's books yet."""
    async with shop_with() as shop:
        await shop.pay()
        shop.gateway.payments.clear()
        now = shop.clock.now()
        assert (await reconcile(shop.guard.engine, shop.gateway, since=now - 86_400.0, until=now)).breaks == []


async def test_a_list_that_breaks_off_is_judged_by_nobody() -> None:
    """From what is missing in half a list nothing follows."""

    class Torn(FakeGateway):
        async def list_payments(self, *, since: float, until: float) -> AsyncIterator[Any]:
            raise GatewayUnreadable("torn")
            yield

    async with shop_with() as shop:
        torn = Torn()
        with pytest.raises(GatewayUnreadable):
            await reconcile(shop.guard.engine, torn, since=0.0, until=shop.clock.now())


async def test_two_payments_under_one_key_are_a_break() -> None:
    """A gateway without keys that was asked twice: both look like the one charge of the record."""
    async with shop_with() as shop:
        await shop.pay()
        shop.gateway.payments.append(replace(shop.gateway.payments[0], id="pay_2"))
        seen = await shop.look()
        assert [(each.kind, each.payment_id) for each in seen.breaks] == [(BreakKind.SECOND_CHARGE, "pay_2")]
        (record,) = await shop.records()
        assert seen.breaks[0].reference == record.reference
        assert [note.kind for note in record.notes] == [NoteKind.REMARK], "whoever opens the order reads of it"


async def test_a_record_that_lost_its_line_is_found_by_the_name_in_the_payment() -> None:
    """After a failover: the payment's own metadata says whose it is, and no second record is made."""
    async with shop_with(Does.DECLINE) as shop:
        await shop.pay()
        (record,) = await shop.records()
        charge = replace(BUY, metadata={OPERATION_MEMBER: record.id})
        shop.gateway.payments.append(FakePayment("pay_9", "a key of a lost line", charge, PaymentState.CHARGED))
        assert await shop.kinds() == [BreakKind.NOT_ON_RECORD]
        await shop.guard.queue().run_once()
        assert [each.money for each in await shop.records()] == [MoneyState.CHARGED]


async def test_what_was_given_back_in_full_is_no_break() -> None:
    """Ours says refunded, and so does theirs."""
    async with shop_with() as shop:
        await shop.pay()
        async with shop.guard.resume(reference=(await shop.records())[0].reference) as op:
            await op.refund()
        assert await shop.kinds() == []


async def test_a_payment_at_the_edge_of_the_window_is_asked_for_before_it_is_missed() -> None:
    """Sent a moment before midnight, and made a moment after it."""
    async with shop_with() as shop:
        await shop.pay()
        listed, shop.gateway.payments = shop.gateway.payments, []
        shop.gateway.will_say("find", [Charged(4999, "EUR", payment_id=listed[0].id)])
        assert await shop.kinds() == []
        assert await shop.kinds() == [BreakKind.NOT_AT_GATEWAY]


async def test_payments_of_another_system_hide_no_break_behind_them() -> None:
    """They are passed over, and what comes after them in the list is compared."""
    async with shop_with() as shop:
        shop.gateway.payments.append(FakePayment("pay_other", "", BUY, PaymentState.CHARGED))
        shop.gateway.payments.append(FakePayment("pay_9", "cxg-lost", BUY, PaymentState.CHARGED))
        assert await shop.kinds() == [BreakKind.NO_RECORD]
