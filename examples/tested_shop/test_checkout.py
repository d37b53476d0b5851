"""The shop's own test: its checkout, its gateway's books, and everything that goes wrong between them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard.testing.shop_process import ShopProcess, free_port

HERE = Path(__file__).parent


class FakeGateway:
    """What the shop pays with in tests: it charges once for each key, and its books do not lie."""

    def __init__(self, guard_faults: Any) -> None:
        self.books: list[dict[str, Any]] = []
        # Trouble comes right after it has charged. A lost answer hangs (lost=None), as a gateway's does over a connection.
        charge = guard_faults.after(self.charge, lost=None)
        self.app = Starlette(routes=[Route("/charges", charge, methods=["POST"]), Route("/charges", self.find)])

    async def charge(self, request: Request) -> JSONResponse:
        asked = await request.json()
        known = next((each for each in self.books if asked["key"] and each["key"] == asked["key"]), None)
        if known is None:
            known = {**asked, "id": f"pay-{len(self.books) + 1}"}
            self.books.append(known)
        return JSONResponse(known, 201)

    async def find(self, request: Request) -> JSONResponse:
        known = [each for each in self.books if each["key"] == request.query_params["key"]]
        return JSONResponse(known[0]) if known else JSONResponse({}, 404)


@pytest.mark.asyncio
async def test_checkout_keeps_its_promises_through_kills(guard_faults: Any, tmp_path: Path) -> None:
    """Charged once, told the truth, same answer again: through double clicks, lost answers, clients that leave, and kills."""
    gateway = FakeGateway(guard_faults)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--factory", "app:from_environment", "--port", str(port)]
    async with served(gateway.app) as gateway_url:
        environment = {"SHOP_GATEWAY": gateway_url, "SHOP_STORE": f"sqlite:///{tmp_path}/shop.db", "SHOP_LEASE_SECONDS": "2"}
        url = f"http://127.0.0.1:{port}"
        async with ShopProcess(command, url=url, environment=environment) as shop, httpx.AsyncClient(base_url=url, timeout=20) as client:

            def pay(name: str) -> httpx.Request:
                headers = {"Idempotency-Key": name, "x-shopper": "ann"}
                return client.build_request("POST", "/pay", json={"cart": name, "amount": 4_999}, headers=headers)

            await guard_faults(client, pay, charges=lambda: len(gateway.books), server=shop)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """*app* at an address of this machine."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_level="critical", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running
