"""What somebody had who died, or stood still: worked on one after the other, and counted, since it may be what they died of."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from cxguard.core.operation import State, changed
from cxguard.engine.charging import Work
from cxguard.engine.engine import Engine

APART_SECONDS = 1.0  # between two orders that were left behind, unless the one before has ended: code that hangs holds up no other
DEATHS_MAX = 20  # in a row: each costs a worker and half a minute; a store that fails now and then must not bring orders to a person
WHY_DEATHS = "workers_died"


async def may_be_tried(engine: Engine, work: Work, *, after: Collection[asyncio.Task[Any]]) -> bool:
    """Wait for those *after* which it comes, and put on record that somebody had it who has not given it back.

    False: that happened so often in a row that a person has to look first.

    Raises:
        LeaseLost: somebody else has it now.
        StoreError: it cannot be written down; then it is not touched.
    """
    if after:
        await asyncio.wait(after, timeout=APART_SECONDS)
    operation = work.operation
    if not operation.left_behind or operation.state in (State.FINISHED, State.CANCELLED):
        return True
    work.operation = await engine.operations.write(changed(operation, deaths=operation.deaths + 1), work.lease)
    return work.operation.deaths < DEATHS_MAX
