"""Several processes of a shop, a worker and one store, through an outage of the gateway. `benchmarks/fleet.py` is the long run."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet_shoppers import wishes
from fleet_world import fleet_running
from store_machines import STORES

ORDERS, RATE = 200, 40.0


@pytest.mark.long
@pytest.mark.server
@pytest.mark.asyncio
@pytest.mark.timeout(180)
@pytest.mark.parametrize("store", ["redis-cluster"])  # PostgreSQL: the soak of test_campaign.py
async def test_no_order_of_a_fleet_is_charged_twice_lost_stuck_or_told_wrong(store: str, tmp_path: Path) -> None:
    """The same keys at several processes at once, and an outage in the middle: the gateway's ledger finds each order once."""
    with STORES[store](tmp_path) as url:
        async with fleet_running(tmp_path, store_url=url, apps=3, workers=1) as fleet:
            script = "healthy 1s, time_out_after 1s, refuse 2s, healthy"
            told = await fleet.through(wishes(ORDERS, rate=RATE, seed=3), script=script, seconds_max=140)
    assert told.failures() == []
    assert told.verdict.paid_once == ORDERS - told.verdict.declined
    assert told.submits > ORDERS, "many pressed more than once"
