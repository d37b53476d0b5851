"""What a guard is given: another kind of thing than it works with is refused at once, with the line to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cxguard import Charge, Guard, Purpose, Rule, Shop, cookie
from cxguard.asgi import GuardMiddleware
from cxguard.dashboard import dashboard
from cxguard.errors import ConfigurationError, StepMismatch
from cxguard.gateways.http import HttpGateway
from cxguard.gateways.stripe import StripeGateway
from cxguard.testing.fake_gateway import FakeGateway

SHOP = Shop("Fern & Co", phone="+44 20 7946 0000")
RULE = Rule("POST /pay", owner=cookie("visitor"))

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"store": None}, 'store=None is neither an address nor a store: write Guard("sqlite:///shop.db", ...)'),
    ({"shop": None}, 'shop=None is no Shop: write Guard(..., shop=Shop("Fern & Co", phone="+44 20 7946 0000"))'),
    ({"shop": "Fern & Co"}, "shop='Fern & Co' is no Shop: write Guard(..., shop=Shop("),
    ({"rules": RULE}, "rules=Rule is no list: write Guard(..., rules=[Rule("),
    ({"rules": "POST /pay"}, "rules='POST /pay' is no list: write Guard(..., rules=[Rule("),
    ({"rules": (rule for rule in [RULE])}, "rules=generator is no list: write Guard(..., rules=[Rule("),
    ({"rules": ["POST /pay"]}, "rules='POST /pay' is no Rule: write Guard(..., rules=[Rule("),
    ({"purposes": ["refund"]}, "purposes='refund' is no Purpose: write Guard(..., purposes=[Purpose("),
    ({"purposes": Purpose("refund")}, "purposes=Purpose is no list: write Guard(..., purposes=[Purpose("),
    (
        {"purposes": [Purpose("refund"), Purpose("refund")]},
        "two purposes have the name 'refund', and one of them would be lost: write Purpose(",
    ),
    ({"answers": {"kept": 1}}, "answers=dict is no table of AnswerSpec: write Guard(..., answers={Situation.KEPT: "),
    ({"gateways": FakeGateway()}, "gateways=FakeGateway is no list: write Guard(..., gateways=[HttpGateway("),
    ({"gateways": ["stripe"]}, "gateways='stripe' is no gateway, for it has no 'name': write Guard(..., gateways=[HttpGateway("),
    ({"listeners": print}, "listeners=builtin_function_or_method is no list: write Guard(..., listeners=[count])"),
    ({"listeners": ["count"]}, "listeners='count' is no function: write Guard(..., listeners=[count])"),
    ({"visitor": "visitor_id"}, "visitor='visitor_id' is no source: write Guard(..., visitor=cookie(\"visitor_id\"))"),
    ({"funnel": ["GET /cart"]}, "funnel=list is no Funnel: write Guard(..., funnel=Funnel("),
    ({"caps": 50_000}, "caps=50000 is no Caps: write Guard(..., caps=Caps("),
    ({"settings": {"heartbeat_seconds": 3}}, "settings=dict is no Settings: write Guard(..., settings=Settings("),
    ({"timeouts": 5}, "timeouts=5 is no Timeouts: write Guard(..., timeouts=Timeouts("),
    ({"breakers": {"consecutive_failures": 3}}, "breakers=dict is no BreakerPolicy: write Guard(..., breakers=BreakerPolicy("),
    ({"namespace": ""}, "namespace='' is no name: write Guard(..., namespace=\"shop\")"),
    ({"duties": "no"}, "duties='no' is no bool: write Guard(..., duties=False)"),
]


@pytest.mark.parametrize(("given", "says"), WRONG, ids=[f"{name}-{index}" for index, (given, _) in enumerate(WRONG) for name in given])
def test_another_kind_of_thing_is_refused(given: dict[str, Any], says: str) -> None:
    """Before the store is opened, and before a shopper finds out."""
    with pytest.raises(ConfigurationError) as refused:
        Guard(**{"store": "memory://", "shop": SHOP, **given})
    assert str(refused.value).startswith(says)


AROUND: list[tuple[Callable[[Guard], object], str]] = [
    (lambda guard: GuardMiddleware(guard, guard=None), "guard= is a NoneType: write app.add_middleware(GuardMiddleware, guard=Guard(...))"),  # type: ignore[arg-type]
    (lambda guard: dashboard(guard, auth="anna"), "auth= cannot be asked: write dashboard(guard, auth=lambda request: "),  # type: ignore[arg-type]
    (lambda guard: HttpGateway("", "https://gateway.example"), "the gateway has no name, under which its payments are found again: write"),
    (lambda guard: HttpGateway("http:shop:live", "gateway.example"), "base_url='gateway.example' is no address with a scheme: write"),
    (lambda guard: HttpGateway("http:shop:live", None), "base_url='None' is no address with a scheme: write"),  # type: ignore[arg-type]
    (
        lambda guard: HttpGateway("http:shop:live", "https://gateway.example", headers={"Authorization": None}),  # type: ignore[dict-item]
        "the header 'Authorization' is a NoneType, and no text: write",
    ),
    (lambda guard: StripeGateway("stripe:shop:live", api_key=None), "api_key is no secret key of Stripe"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "says"), AROUND, ids=[str(number) for number in range(len(AROUND))])
def test_what_stands_around_a_guard_is_refused_likewise(make: Callable[[Guard], object], says: str) -> None:
    """A variable of the environment that is not set is None: that is said at the start, and not at the first charge."""
    with pytest.raises(ConfigurationError) as refused:
        make(Guard("memory://", shop=SHOP))
    assert str(refused.value).startswith(says)


@pytest.mark.asyncio
async def test_a_plain_function_is_told_to_be_async() -> None:
    """Its result could not be awaited, which says nothing to whoever forgot the word."""
    async with Guard("memory://", shop=SHOP, duties=False) as guard:
        with pytest.raises(TypeError, match=r"refund is not async: write `async def`, or guard.sync.run"):
            await guard.run(refund, purpose="refund", key="1", owner="ann")  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_charge_that_a_script_does_not_await_is_no_success() -> None:
    """Its result would be kept as that of a paid order."""
    asked: list[Any] = []

    async def pay(op: Any) -> str:
        asked.append(op.charge(Charge(1000, "EUR", source="tok_ok")))
        return "paid"

    async with Guard("memory://", shop=SHOP, gateways=[FakeGateway()], duties=False) as guard:
        with pytest.raises(TypeError, match=r"write `await op.charge\(...\)`"):
            await guard.run(pay, purpose="pay", key="1", owner="ann")
        asked.pop().close()


@pytest.mark.asyncio
async def test_a_charge_that_was_refused_is_not_one_that_was_forgotten() -> None:
    """It was awaited, and its error caught: what the script makes of that is its own affair."""

    async def pay(op: Any) -> str:
        with pytest.raises(StepMismatch):
            await op.charge(Charge(-1, "EUR", source="tok_ok"))
        return "on account"

    async with Guard("memory://", shop=SHOP, gateways=[FakeGateway()], duties=False) as guard:
        assert await guard.run(pay, purpose="pay", key="1", owner="ann") == "on account"


def refund(op: object) -> str:
    return "refunded"


def test_a_gateway_that_lacks_a_method_is_refused() -> None:
    """It would be found out by the first refund."""

    class Half(FakeGateway):
        refund = property()  # type: ignore[assignment]

    with pytest.raises(ConfigurationError, match="no gateway, for it has no 'refund'"):
        Guard("memory://", shop=SHOP, gateways=[Half()])
