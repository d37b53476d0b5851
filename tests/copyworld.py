"""A guarded shop whose store fails over to a server that has an older copy of its only order."""

from __future__ import annotations

from shopworld import World

from cxguard.core.lost import LOST_BACK_SECONDS
from cxguard.core.operation import Operation
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import FaultyStore


async def record(made: World) -> Operation:
    (only,) = (await made.store.search(Query("shop"))).operations
    return only


async def fail_over(made: World, copy: Operation) -> None:
    """To another server, which has *copy* and the small values."""
    after = MemoryStore(clock=made.clock)
    await after.start()
    for key in ("epoch:shop", SECRET_CHECK):
        kept = await made.store.load(key)
        if kept.revision:
            await after.swap(key, revision=0, value=kept.value)
    await after.put(copy)
    assert isinstance(made.store, FaultyStore)
    made.store.store = after


async def page_of(made: World) -> str:
    operation, seal = await record(made), made.guard.engine.seal
    token = seal.sign_link(operation.id, now=made.clock.now(), seconds=10 * LOST_BACK_SECONDS, purpose="status")
    return f"{made.guard.prefix}/orders/{token}"


async def told_by(made: World, page: str) -> tuple[str, str]:
    body = (await made.client.get(page, headers={"accept": "application/json"})).json()
    return body["situation"], body["money"]
