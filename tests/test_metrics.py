"""`metrics(guard, token=...)`: what a Prometheus server scrapes, read back by its own parser."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from deskworld import desk_world
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read
from shopworld import Worlds
from spoolworld import spool_world

from cxguard.core.breaker import Label
from cxguard.core.operation import State
from cxguard.errors import ConfigurationError
from cxguard.guard import Guard
from cxguard.metrics import metrics

TOKEN = "a-token-of-the-scraper"
BEARER = {"authorization": f"Bearer {TOKEN}"}


async def asked(guard: Guard, *, token: str | None = TOKEN, method: str = "GET", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(metrics(guard, token=token))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        return await client.request(method, "/metrics", headers=headers or BEARER)


async def scraped(guard: Guard) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels, in the order of their names."""
    answer = await asked(guard)
    assert answer.status_code == 200
    samples = [sample for family in read(answer.text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


@pytest.mark.asyncio
async def test_orders_and_money_that_wait_are_told() -> None:
    """Counts by state and money, what is not paid yet, and since when nobody has worked on what is due."""
    async with desk_world() as world:
        await world.put("queued", State.QUEUED, due_at=world.clock.now())
        await world.unknown("unknown")
        world.clock.advance(90.0)
        seen = await scraped(world.guard)
    assert seen["cxguard_operations", "none", "queued"] == 1
    assert seen["cxguard_operations", "unknown", "held"] == 1
    assert seen["cxguard_queued_unpaid_minor", "EUR"] == 4999
    assert seen[("cxguard_queue_overdue_seconds",)] == pytest.approx(90.0, abs=1.0)
    assert seen[("cxguard_store_away",)] == 0


@pytest.mark.asyncio
async def test_how_each_breaker_stands_is_told() -> None:
    """As the process that was asked knows it."""
    async with desk_world() as world:
        world.guard.engine.breakers.force("fake:test", "charge", Label.OPEN, reason="their status page", seconds=60.0)
        seen = await scraped(world.guard)
    assert seen["cxguard_breaker", "fake:test", "charge", "", "open"] == 1


@pytest.mark.asyncio
async def test_nothing_about_a_shopper_is_told() -> None:
    """Neither names nor contacts nor references: figures."""
    async with desk_world() as world:
        order = await world.put("queued", State.QUEUED, contact="ann@example.org")
        text = (await asked(world.guard)).text
    assert not [word for word in (order.reference, order.id, "ann@", order.contact_hash) if word and word in text]


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_a_figure_and_so_is_what_the_spool_has(tmp_path: Path) -> None:
    """The page is there when it is needed most."""
    async with AsyncExitStack() as stack:
        town = await spool_world(Worlds(stack), tmp_path)
        assert (await scraped(town.guard))[("cxguard_spool_orders",)] == 0
        town.go_away()
        await town.press()
        town.clock.advance(30.0)
        seen = await scraped(town.guard)
        assert (seen[("cxguard_store_away",)], seen[("cxguard_spool_orders",)]) == (1, 1)
        assert seen[("cxguard_spool_oldest_seconds",)] == pytest.approx(30.0, abs=1.0)
        assert not [name for name in seen if name[0] == "cxguard_operations"], "what nobody knows now is not told as nought"
        await town.come_back()
        await town.rest()
        seen = await scraped(town.guard)
        assert (seen[("cxguard_store_away",)], seen[("cxguard_spool_orders",)]) == (0, 0)
        assert seen["cxguard_operations", "charged", "finished"] == 1


@pytest.mark.asyncio
async def test_whoever_has_no_token_hears_nothing() -> None:
    """Sales are nobody's business: closed without a token, and to another one."""
    async with desk_world() as world:
        closed = await asked(world.guard, token=None)
        wrong = await asked(world.guard, authorization="Bearer another-token-altogether")
        without = await asked(world.guard, accept="text/plain")
        posted = await asked(world.guard, method="POST")
    assert [each.status_code for each in (closed, wrong, without, posted)] == [403, 401, 401, 405]
    assert "metrics(guard, token=" in closed.text, "says what to write"
    assert not any("cxguard_operations" in each.text for each in (closed, wrong, without, posted))


@pytest.mark.asyncio
async def test_openmetrics_is_spoken_to_whoever_asks_for_it() -> None:
    """A newer Prometheus asks for it by `Accept`."""
    async with desk_world() as world:
        await world.put("queued", State.QUEUED)
        answer = await asked(world.guard, accept="application/openmetrics-text;version=1.0.0", **BEARER)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "cxguard_operations" in {family.name for family in read_openmetrics(answer.text)}


def test_a_short_token_is_refused() -> None:
    """It could be guessed; the text has the way out."""
    with pytest.raises(ConfigurationError, match="token_hex"):
        metrics(None, token="secret")  # type: ignore[arg-type]
