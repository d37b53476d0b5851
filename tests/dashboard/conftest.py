"""A desk in this process, and somebody signed in at it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from deskclient import DeskClient, who
from deskworld import desk_world
from starlette.applications import Starlette
from starlette.routing import Mount

from cxguard.dashboard import dashboard


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[DeskClient]:
    """The desk of a small shop, mounted under /ops; anna is signed in."""
    async with desk_world() as world:
        app = Starlette(routes=[Mount("/ops", dashboard(world.guard, auth=who))])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example", headers={"x-staff": "anna"}) as client:
            yield DeskClient(world, client)
