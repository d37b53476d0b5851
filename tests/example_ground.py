"""How the examples are run by tests: loaded as their own process would, and spoken to as a browser does."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import httpx
from servers import ROOT

EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    """An example's module, as its own process would have it."""
    path = EXAMPLES / name
    spec = spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module  # Django and pydantic look their caller up there
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def client_of(app: Any) -> Any:
    """A browser's session on *app*, whose lifespan runs."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        yield client


@asynccontextmanager
async def lifespan(app: Any) -> Any:
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, inbox.get, outbox.put))
    for phase in ("startup", "shutdown"):
        await inbox.put({"type": f"lifespan.{phase}"})
        assert (await outbox.get())["type"] == f"lifespan.{phase}.complete"
        if phase == "startup":
            yield
    await running
