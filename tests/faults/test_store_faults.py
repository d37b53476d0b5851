"""A few of the faults that a store server may go through under load. `benchmarks/store_faults.py` runs them all."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis_faults
import server_faults
from server_faults import judged

FAULTS = {**server_faults.FAULTS, **redis_faults.FAULTS}
SOME = ["postgresql: killed and restarted", "postgresql: frozen for 10 s"]  # redis and lost answers: test_campaign.py


@pytest.mark.long
@pytest.mark.server
@pytest.mark.asyncio
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", SOME)
async def test_orders_survive_what_happens_to_the_store(fault: str, tmp_path: Path) -> None:
    """Charged once, told the truth, none lost or stuck, and pages without money do not notice."""
    told = await judged(FAULTS[fault], tmp_path, orders=80, rate=16.0)
    assert told.failures() == []
