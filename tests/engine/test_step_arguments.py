"""The arguments of a step: which calls are the same one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tillworld import till

from cxguard.errors import ConfigurationError, StepMismatch

pytestmark = pytest.mark.asyncio


class Basket:
    """What no JSON carries."""


class Parcel(Basket):
    """Another kind."""


async def booked(*calls: Callable[[Any, Callable[..., str]], Awaitable[str]]) -> list[str]:
    """What each call of the step gave, in one run, and what really ran."""
    ran: list[str] = []

    def book(*args: Any, **named: Any) -> str:
        ran.append(f"booking {len(ran) + 1}")
        return ran[-1]

    async def run(op: Any) -> list[str]:
        return [await call(op, book) for call in calls]

    try:
        async with till() as shop:
            given: list[str] = await shop.run(run)
            return given
    finally:
        assert ran == ["booking 1"]


async def test_call_is_made_with_its_arguments() -> None:
    """By place and by name."""

    def book(sku: str, *, count: int) -> str:
        return f"{count} of {sku}"

    async with till() as shop:
        assert await shop.run(lambda op: op.step("book", book, "cup", count=2)) == "2 of cup"
        history = (await shop.record()).history
        assert [entry.detail for entry in history if entry.event == "step.finished"] == [{"name": "book"}]


async def test_arguments_by_name_are_the_same_in_any_order() -> None:
    """Another version of the shop's code writes them the other way round: it gets the kept result."""
    given = await booked(
        lambda op, book: op.step("book", book, sku="cup", count=2),
        lambda op, book: op.step("book", book, count=2, sku="cup"),
    )
    assert given == ["booking 1"] * 2


async def test_objects_of_one_kind_are_the_same() -> None:
    """Where an object lies in memory says nothing."""
    given = await booked(lambda op, book: op.step("book", book, Basket()), lambda op, book: op.step("book", book, Basket()))
    assert given == ["booking 1"] * 2


@pytest.mark.parametrize(("first", "second"), [("cup", "pot"), (1, 2), (Basket(), Parcel()), (Basket(), None)])
async def test_other_arguments_under_the_same_name_are_refused(first: Any, second: Any) -> None:
    """It is another call: the kept result is not its own, and nothing is run."""
    with pytest.raises(StepMismatch):
        await booked(lambda op, book: op.step("book", book, first), lambda op, book: op.step("book", book, second))


@pytest.mark.parametrize(("given", "says"), [(("book", "booked"), "a str instead of a function"), ((print, 1), "instead of a name")])
@pytest.mark.parametrize("sync", [True, False])
async def test_what_is_no_step_is_not_on_record(given: Any, says: str, sync: bool) -> None:
    """`op.step("book", book(sku))` has called it already: the step began, did not end, and the order was a person's."""
    async with till() as shop:
        with pytest.raises(ConfigurationError, match=rf"{says}: write op.step\("):
            await shop.run(lambda op: asyncio.to_thread(op.sync.step, *given) if sync else op.step(*given))
        assert await shop.run(lambda op: op.step("book", lambda: "booked")) == "booked"


async def test_two_objects_that_can_be_called_are_told_apart_under_one_name() -> None:
    """They have no name of their own, and their classes have: the second one is not taken for done."""

    class Mails:
        async def __call__(self) -> int:
            return 1

    class Ships(Mails):
        pass

    async def both(op: Any) -> None:
        assert await op.step("send", Mails()) == 1
        await op.step("send", Ships())

    async with till() as shop:
        with pytest.raises(StepMismatch, match="two functions"):
            await shop.run(both)
