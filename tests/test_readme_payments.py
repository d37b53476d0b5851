"""The README's blocks about payments are run."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stripe_stand_in import StripeStandIn
from test_readme import FASTAPI, LOOK_AGAIN, NOTIFY, ONCE, RESUME, STRIPE, SYNC, client_of, library_guard, run, source_of

from cxguard import AskShopper, GoOn, GoOnLower, Guard, NoticeKind, Shop, Stop
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import FakeGateway


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


ORDER = {"id": "1001", "customer": "ann", "amount": 4999, "currency": "EUR", "token": "tok_ok"}


@pytest.mark.asyncio
async def test_a_paid_order_is_captured_and_partly_refunded() -> None:
    """What was reserved is taken in part, and some of that goes back."""
    gateway = FakeGateway()
    async with AsyncExitStack() as stack:
        guard = await library_guard(stack, gateway)
        async with guard.operation(purpose="p", key="k", owner="o") as op:
            await op.charge(Charge(4999, "EUR", source="tok_ok", capture=False))
            mine = op.reference

        class Resumes:
            def resume(self, *, reference: str) -> Any:
                return guard.resume(reference=mine)

        await run(RESUME, guard=Resumes())
    assert (gateway.payments[0].captured_minor, gateway.payments[0].refunded_minor) == (3000, 500)


@pytest.mark.asyncio
async def test_fastapi_and_stripe_sell_nothing_over_a_payment_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe raises nothing over a debit that takes days: it is told as unknown."""
    stripe = StripeStandIn()
    stripe.status = "processing"
    monkeypatch.setitem(sys.modules, "stripe", stripe)
    space = await run(FASTAPI)
    order = {"cart_id": "c1", "amount": 4999, "currency": "EUR", "payment_method": "pm_1"}
    async with AsyncExitStack() as stack:
        client = await client_of(stack, space["app"], space["guard"])
        answer = await client.post("/checkout/pay", json=order, headers={"idempotency-key": "k1"})
    assert answer.json()["money"] == "unknown"


def test_a_script_pays_once() -> None:
    """Twice the same lines, one charge."""
    gateway = FakeGateway()
    for _ in range(2):
        guard = Guard("sqlite:///orders.db", shop=Shop("Fern & Co", phone="+44 20 7946 0000"), gateways=[gateway], duties=False)
        space = {"guard": guard, "order": ORDER, "Charge": Charge}
        exec(compile(source_of(SYNC), "README.md", "exec"), space)
        assert space["result"] == {"payment": "pay_1"}
    assert len(gateway.standing) == 1


@pytest.mark.asyncio
async def test_a_function_runs_once_for_each_event() -> None:
    """The mail goes out once."""
    mails: list[str] = []

    async def mail_customer(order: str) -> str:
        mails.append(order)
        return "sent"

    async with AsyncExitStack() as stack:
        guard = await library_guard(stack, FakeGateway())
        space = await run(ONCE, guard=guard, mail_customer=mail_customer)
        assert [await space["on_shipped"]({"id": "evt_1", "order": "1001"}) for _ in range(2)] == ["sent", "sent"]
    assert mails == ["1001"]


@pytest.mark.asyncio
async def test_a_stripe_webhook_is_checked() -> None:
    """Unsigned: 400."""
    space = await run(STRIPE, STRIPE_API_KEY="sk_test_" + "x" * 24, STRIPE_WEBHOOK_SECRET="whsec_test")
    assert await space["stripe_webhook"](b"{}", {}) == 400


@pytest.mark.asyncio
async def test_price_and_stock_are_looked_at_again() -> None:
    """The hook says what it found, and each finding has its answer."""
    prices = {"same": 4999, "lower": 4500, "higher": 5200, "gone": None}

    async def price_now(cart_id: str) -> int | None:
        return prices[cart_id]

    space = await run(LOOK_AGAIN, price_now=price_now)

    def order(cart_id: str) -> Any:
        return SimpleNamespace(amount_minor=4999, request=SimpleNamespace(json=lambda: {"cart_id": cart_id}))

    said = [await space["look_again"](order(cart_id)) for cart_id in prices]
    assert said == [GoOn(), GoOnLower(4500), AskShopper(5200), Stop("out_of_stock")]


@pytest.mark.asyncio
async def test_a_notice_becomes_a_mail() -> None:
    """With the way to the order's page, and the kind as its template's name."""
    mails: list[dict[str, Any]] = []

    class MailQueue:
        async def put(self, id: str, **mail: Any) -> None:
            mails.append({"id": id, **mail})

    space = await run(NOTIFY, mail_queue=MailQueue())
    names = {"id": "R:1:paid", "kind": NoticeKind.PAID, "contact": "ann@example.org"}
    notice = SimpleNamespace(**names, status_path="/_cxguard/orders/t", resume_url=None)
    await space["guard"].notify(notice)
    assert [(mail["to"], mail["template"], mail["page"]) for mail in mails] == [
        ("ann@example.org", "order_paid", "https://shop.example/_cxguard/orders/t")
    ]
