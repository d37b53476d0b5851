"""`@guard.once`: a function that takes effect once for each key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP

from cxguard.engine.handle import current_operation
from cxguard.errors import ConfigurationError, OperationHeld, PaymentDeclined, StepUnfinished
from cxguard.guard import Guard
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock


def make() -> Guard:
    clock = ManualClock()
    return Guard(MemoryStore(clock=clock), shop=SHOP, secret=SECRET, keys=KEYS, duties=False, clock=clock)


@pytest.mark.asyncio
async def test_a_webhook_is_handled_once_and_its_result_is_given_again() -> None:
    """By a function of the arguments, and by the name of one."""
    shipped: list[str] = []
    async with make() as guard:

        @guard.once(key=lambda event: event["id"], purpose="shipped")
        async def on_shipped(event: dict[str, str]) -> dict[str, int]:
            shipped.append(event["id"])
            return {"parcels": len(shipped)}

        @guard.once(key="order", purpose="mail")
        async def send_mail(to: str, order: int) -> str:
            shipped.append(f"mail {order}")
            return to

        assert [await on_shipped({"id": "evt_1"}) for _ in range(3)] == [{"parcels": 1}] * 3
        assert await on_shipped({"id": "evt_2"}) == {"parcels": 2}
        assert [await send_mail("ann", 7), await send_mail(to="ann", order=7)] == ["ann", "ann"]
    assert shipped == ["evt_1", "evt_2", "mail 7"]


async def at_the_top_of_its_module(order: int) -> int:
    return order


@pytest.mark.asyncio
async def test_a_function_with_a_lasting_name_needs_no_other() -> None:
    """Only one that is made anew each time must be given one."""
    async with make() as guard:
        assert await guard.once(key="order")(at_the_top_of_its_module)(7) == 7
        assert any(name.endswith("at_the_top_of_its_module") for name in guard.purposes)


@pytest.mark.asyncio
async def test_a_second_call_waits_for_the_first() -> None:
    """Both get the one result."""
    began, go_on, runs = asyncio.Event(), asyncio.Event(), []
    async with make() as guard:

        @guard.once(key="id", purpose="slow")
        async def slow(id: str) -> int:
            runs.append(id)
            began.set()
            await go_on.wait()
            return len(runs)

        calls = [asyncio.ensure_future(slow("a")) for _ in range(5)]
        await began.wait()
        go_on.set()
        assert await asyncio.gather(*calls) == [1] * 5


@pytest.mark.asyncio
async def test_gateway_key_is_new_after_a_decline_and_no_other_failure() -> None:
    """Of a function that calls its gateway by itself: that may have kept the decline under the old key."""
    keys: list[str] = []
    fails: list[Exception] = [OSError(), PaymentDeclined()]
    async with make() as guard:

        @guard.once(key="id", purpose="own charge")
        async def pay(id: str) -> str:
            keys.append(current_operation().gateway_key())
            if fails:
                raise fails.pop(0)
            return id

        for error in tuple(fails):
            with pytest.raises(type(error)):
                await pay("a")
        assert await pay("a") == "a"
    assert keys == [keys[0], keys[0], keys[2]]
    assert keys[2] != keys[0]


@pytest.mark.asyncio
async def test_a_call_that_raises_frees_its_key() -> None:
    """It has said itself that it failed."""
    tries: list[int] = []
    async with make() as guard:

        @guard.once(key="id", purpose="shaky")
        async def shaky(id: str) -> str:
            tries.append(1)
            if len(tries) == 1:
                raise OSError
            return id

        with pytest.raises(OSError):
            await shaky("a")
        assert await shaky("a") == await shaky("a") == "a"
    assert len(tries) == 2


@pytest.mark.asyncio
async def test_what_may_not_be_repeated_is_held_after_a_half_run() -> None:
    """A person sees first how far it came."""
    tries: list[int] = []
    async with make() as guard:

        @guard.once(key="id", purpose="refund", repeatable=False)
        async def refund(id: str) -> str:
            tries.append(1)
            raise OSError

        with pytest.raises(OSError):
            await refund("a")
        with pytest.raises((StepUnfinished, OperationHeld)):
            await refund("a")
        with pytest.raises(OperationHeld):
            await refund("a")
    assert len(tries) == 1


def test_a_plain_function_works_without_a_loop() -> None:
    """In a script or thread, by the bridge."""
    sent: list[str] = []
    with make() as guard:

        @guard.once(key="to", purpose="plain mail")
        def send(to: str) -> int:
            sent.append(to)
            return len(sent)

        assert [send("ann"), send("ann"), send("bob")] == [1, 1, 2]


@pytest.mark.asyncio
@pytest.mark.parametrize("key", ["", None, True, 1.5, ["a"]])
async def test_a_key_that_names_nothing_is_refused(key: Any) -> None:
    """Before anything is run."""
    runs: list[Any] = []
    async with make() as guard:

        @guard.once(key="id", purpose="keyed")
        async def handle(id: Any) -> None:
            runs.append(id)

        with pytest.raises(TypeError, match="must happen once"):
            await handle(key)
    assert runs == []


def test_mistakes_are_corrected_where_they_are_written() -> None:
    """A parameter that is not there, and a name that does not last."""
    guard = make()
    with pytest.raises(ConfigurationError, match="has no parameter 'event_id'"):

        @guard.once(key="event_id", purpose="p")
        def handle(event: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="purpose="):

        @guard.once(key="event")
        def inner(event: Any) -> None: ...
