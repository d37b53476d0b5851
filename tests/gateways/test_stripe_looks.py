"""How a payment is looked for at Stripe: as far back as is needed, and in the time that a look has."""

from __future__ import annotations

import asyncio

import pytest
from stripe_script import INTENTS, NO_MATCH, Answer, intent, page, stripe_saying

from cxguard.core.outcomes import Charged, Unknown

pytestmark = pytest.mark.server



@pytest.mark.asyncio
async def test_what_the_search_shows_is_asked_for_as_it_is_now() -> None:
    """The index lags behind: it may show a payment that waits for the bank when it is long charged."""
    stale = (200, {"object": "search_result", "url": "/s", "has_more": False, "data": [intent("requires_action")]})
    now = (200, intent(amount_received=4999))
    async with stripe_saying({f"GET {INTENTS}/search": [stale], f"GET {INTENTS}/pi_1": [now]}) as (gateway, _):
        assert await gateway.find("k", timeout_seconds=5) == Charged(4999, "EUR", "pi_1")


@pytest.mark.asyncio
@pytest.mark.parametrize("search", [NO_MATCH, (400, {"error": {"type": "invalid_request_error"}})])
async def test_what_the_search_does_not_show_is_looked_for_among_the_newest(search: Answer) -> None:
    """Fresh payments are not in the index yet, and some countries have no search."""
    answers: dict[str, list[Answer]] = {
        f"GET {INTENTS}/search": [search],
        f"GET {INTENTS}": [page(intent(id="pi_0", metadata={}), intent())],
        f"GET {INTENTS}/pi_1": [(200, intent(amount_received=4999))],
    }
    async with stripe_saying(answers) as (gateway, _):
        assert await gateway.find("k", timeout_seconds=5) == Charged(4999, "EUR", "pi_1")


@pytest.mark.asyncio
async def test_the_newest_are_looked_through_up_to_a_limit() -> None:
    """A shop with a million payments is not read from end to end for one that is not there."""
    full = [intent(id=f"pi_{n}", metadata={}) for n in range(100)]
    endless = (200, {"object": "list", "url": INTENTS, "has_more": True, "data": full})
    answers: dict[str, list[Answer]] = {
        f"GET {INTENTS}/search": [NO_MATCH],
        f"GET {INTENTS}": [endless],
        "GET /v1/refunds": [page(url="/v1/refunds")],
    }
    async with stripe_saying(answers) as (gateway, script):
        assert await gateway.find("k", timeout_seconds=20) == Unknown("not_found")
    assert len(script.of(f"GET {INTENTS}")) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(("search", "pages"), [(NO_MATCH, 1), ((400, {"error": {"type": "invalid_request_error"}}), 3)])
async def test_what_the_search_must_know_by_now_is_not_looked_for_among_the_newest(search: Answer, pages: int) -> None:
    """Each page takes the better part of a second, and a look that takes longer than two is none."""
    full = [intent(id=f"pi_{n}", metadata={}, created=1_800_000_000 - 60 * n) for n in range(100)]
    answers: dict[str, list[Answer]] = {
        f"GET {INTENTS}/search": [search],
        f"GET {INTENTS}": [(200, {"object": "list", "url": INTENTS, "has_more": True, "data": full})],
        "GET /v1/refunds": [page(url="/v1/refunds")],
    }
    async with stripe_saying(answers) as (gateway, script):
        assert await gateway.find("k", timeout_seconds=20) == Unknown("not_found")
    assert len(script.of(f"GET {INTENTS}")) == pages


@pytest.mark.asyncio
async def test_a_payment_that_is_found_waits_for_no_list_of_refunds() -> None:
    """A shop with many refunds has a slow list of them, and a look that takes longer than two seconds is none."""
    answers: dict[str, list[Answer]] = {
        f"GET {INTENTS}/search": [NO_MATCH],
        f"GET {INTENTS}": [page(intent())],
        f"GET {INTENTS}/pi_1": [(200, intent())],
    }
    async with stripe_saying(answers) as (gateway, script):
        script.slow["GET /v1/refunds"] = asyncio.Event()
        try:
            assert isinstance(await gateway.find("k", timeout_seconds=5), Charged)
        finally:
            script.slow["GET /v1/refunds"].set()
