"""The benchmark of orders beside the peers: each of them is there and set up, so that no figure of the table is of something else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from servers import ROOT

PROGRAM = """
import asyncio, json
import httpx
import peers, peers_shop

async def pings():
    found = {}
    for peer in peers.PEERS:
        app = peers_shop.make_app(peer.around)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            answer = await client.get("/ping")
        found[peer.name] = [answer.status_code, type(app).__module__.split(".")[0]]
    return found

print(json.dumps(asyncio.run(pings())))
"""


def test_each_peer_stands_around_the_shop(tmp_path: Path) -> None:
    """A page without money is served behind each, and the outermost app is the peer's own."""
    environment = {"PEERS_REDIS": "redis://127.0.0.1:9", "PEERS_FOLDER": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {status for status, _ in found.values()} == {200}
    assert {name: module for name, (_, module) in found.items()} == {
        "no guard": "starlette",
        "idemkit": "idemkit",
        "asgi-idempotency-header": "idempotency_header_middleware",
        "fastapi-idempotency-key": "fastapi_idempotency_key",
        "cxguard-shop": "starlette",
        "cxguard-charge": "starlette",
    }
