"""A watched shop, and what was counted there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.engine.handle import current_operation
from cxguard.engine.report import would_have
from cxguard.rules import Rule


async def paid(request: Request) -> Response:
    body = await request.json()
    return JSONResponse({"cart": body.get("cart"), "key": current_operation().gateway_key()[:0]}, status_code=201)


async def findings(world: World) -> Mapping[str, int]:
    """What has been counted, once nothing is being judged any more."""
    await settled(world)
    return await would_have(world.store, namespace="shop")


async def settled(world: World) -> None:
    await world.guard.finish_runs()
    while (await world.guard.recorder.flush_once()).waiting:
        pass


async def watched(world: Worlds, handler: Any = paid, *rules: Rule, **options: Any) -> World:
    return await world(handler, *(rules or (rule(charged_by="shop"),)), mode="watch", **options)
