"""Batches form by themselves, and every way a batch can end reaches its callers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cxguard.errors import StoreUnavailable
from cxguard.stores.batch import Batcher


class Line:
    """The other end: keeps each batch until the test answers it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.flights: list[asyncio.Future[Sequence[str | BaseException]]] = []
        self.departed = asyncio.Event()

    def send(self, items: list[str]) -> asyncio.Future[Sequence[str | BaseException]]:
        flight: asyncio.Future[Sequence[str | BaseException]] = asyncio.get_running_loop().create_future()
        self.batches.append(items)
        self.flights.append(flight)
        self.departed.set()
        return flight

    async def next_departure(self) -> None:
        await self.departed.wait()
        self.departed.clear()

    def answer(self) -> None:
        self.flights[-1].set_result([item.upper() for item in self.batches[-1]])


def ask(batcher: Batcher[str, str], *items: str) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(batcher.ask(item)) for item in items]


@pytest.mark.asyncio
async def test_alone_an_item_leaves_at_once() -> None:
    """A single caller waits for nobody: its batch has one item."""
    line = Line()
    (asked,) = ask(Batcher(line.send, name="the store"), "a")
    await line.next_departure()
    line.answer()
    assert await asked == "A"
    assert line.batches == [["a"]]


@pytest.mark.asyncio
async def test_while_one_is_on_its_way_the_next_fills() -> None:
    """Whoever asks while a batch is on its way travels with the next one, together."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store")
    first = ask(batcher, "a")
    await line.next_departure()
    rest = ask(batcher, "b", "c", "d")
    await asyncio.sleep(0)
    line.answer()
    await line.next_departure()
    line.answer()
    assert await asyncio.gather(*first, *rest) == ["A", "B", "C", "D"]
    assert line.batches == [["a"], ["b", "c", "d"]]


@pytest.mark.asyncio
async def test_a_batch_has_a_limit() -> None:
    """No more than `batch_max` items travel together."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store", batch_max=2)
    asked = ask(batcher, "a", "b", "c")
    for _ in range(2):
        await line.next_departure()
        line.answer()
    await asyncio.gather(*asked)
    assert line.batches == [["a", "b"], ["c"]]


@pytest.mark.asyncio
async def test_one_item_s_error_is_its_own() -> None:
    """An exception among the answers is raised for its caller; the others have theirs."""
    line = Line()
    bad, good = ask(Batcher(line.send, name="the store"), "a", "b")
    await line.next_departure()
    line.flights[0].set_result([KeyError("a"), "B"])
    assert await good == "B"
    with pytest.raises(KeyError):
        await bad


@pytest.mark.asyncio
async def test_error_of_a_batch_reaches_every_caller() -> None:
    """When the whole batch failed each caller gets an error of its own, and the next batch leaves."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store")
    asked = ask(batcher, "a", "b")
    await line.next_departure()
    line.flights[0].set_exception(StoreUnavailable("the disk is full"))
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(error) for error in errors] == ["the disk is full"] * 2
    assert errors[0] is not errors[1]
    (later,) = ask(batcher, "c")
    await line.next_departure()
    line.answer()
    assert await later == "C"


@pytest.mark.asyncio
async def test_cancelled_before_departure_is_dropped() -> None:
    """An item whose caller is gone before its batch leaves is not sent."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store")
    first = ask(batcher, "a")
    await line.next_departure()
    leaves, stays = ask(batcher, "b", "c")
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.sleep(0)
    line.answer()
    await line.next_departure()
    line.answer()
    await asyncio.gather(*first, stays)
    assert line.batches == [["a"], ["c"]]


@pytest.mark.asyncio
async def test_cancelled_on_the_way_runs_whole() -> None:
    """An item whose caller is gone while it is on its way runs; the other callers do not notice."""
    line = Line()
    leaves, stays = ask(Batcher(line.send, name="the store"), "a", "b")
    await line.next_departure()
    leaves.cancel()
    await asyncio.sleep(0)
    line.answer()
    assert await stays == "B"
    assert leaves.cancelled()


@pytest.mark.asyncio
async def test_too_many_in_line_are_turned_away() -> None:
    """Beyond `waiting_max` callers the next one is told so at once, and nothing of it was sent."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store", waiting_max=2)
    first = ask(batcher, "a")
    await line.next_departure()
    rest = ask(batcher, "b", "c")
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="2 callers in line: nothing was sent; try again"):
        await batcher.ask("d")
    line.answer()
    await line.next_departure()
    line.answer()
    await asyncio.gather(*first, *rest)
    assert line.batches == [["a"], ["b", "c"]]


@pytest.mark.asyncio
async def test_batch_that_stays_away_is_given_up() -> None:
    """Past our patience the callers on board hear that nobody knows, those in line and new ones that nothing was sent."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store", patience_seconds=0.01)
    (aboard,) = ask(batcher, "a")
    await line.next_departure()
    (in_line,) = ask(batcher, "b")
    with pytest.raises(StoreUnavailable, match="it may have happened; look before you act again"):
        await aboard
    with pytest.raises(StoreUnavailable, match="nothing was sent; try again"):
        await in_line
    with pytest.raises(StoreUnavailable, match="has not answered for more than"):
        await batcher.ask("c")


@pytest.mark.asyncio
async def test_given_up_batch_that_comes_back_opens_the_line_again() -> None:
    """A batch that comes back late is answered to nobody, and from then on all goes well."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store", patience_seconds=0.01)
    (aboard,) = ask(batcher, "a")
    with pytest.raises(StoreUnavailable):
        await aboard
    line.answer()
    await batcher.drain()
    line.departed.clear()
    (later,) = ask(batcher, "b")
    await line.next_departure()
    line.answer()
    assert await later == "B"


@pytest.mark.asyncio
async def test_drain_waits_for_all() -> None:
    """`drain` returns when nothing waits and nothing is on its way; at rest, at once."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store")
    await batcher.drain()
    asked = ask(batcher, "a")
    await line.next_departure()
    drained = asyncio.create_task(batcher.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    line.answer()
    await drained
    assert await asked[0] == "A"


@pytest.mark.asyncio
async def test_all_who_drain_at_once_are_told() -> None:
    """Two who wait for the end, and one who gave that up: it comes for each of them."""
    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store")
    asked = ask(batcher, "a")
    await line.next_departure()
    drained = [asyncio.create_task(batcher.drain()) for _ in range(3)]
    await asyncio.sleep(0)
    drained[1].cancel()
    line.answer()
    async with asyncio.timeout(5):
        await drained[0]
        await drained[2]
    assert await asked[0] == "A"


@pytest.mark.asyncio
async def test_flight_that_was_cancelled_says_so() -> None:
    """A batch whose connection was closed under it leaves nobody waiting."""
    line = Line()
    (asked,) = ask(Batcher(line.send, name="the store"), "a")
    await line.next_departure()
    line.flights[0].cancel()
    with pytest.raises(StoreUnavailable, match="was closed: look before you act again"):
        await asked


def test_a_second_loop_is_refused_while_the_first_is_busy() -> None:
    """Two event loops cannot share a line; once the first has ended, the second takes it over."""

    async def hang(batcher: Batcher[str, str], line: Line) -> None:
        asked = ask(batcher, "a")
        await line.next_departure()
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(batcher.ask("b")))
        asked[0].cancel()

    async def go_on(batcher: Batcher[str, str], line: Line) -> str:
        line.departed = asyncio.Event()
        (asked,) = ask(batcher, "c")
        await line.next_departure()
        line.answer()
        return await asked

    line = Line()
    batcher: Batcher[str, str] = Batcher(line.send, name="the store")
    asyncio.run(hang(batcher, line))
    assert asyncio.run(go_on(batcher, line)) == "C"
