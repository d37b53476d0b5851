"""The little shop of `peers.py`, behind one of the peers, the guard, or nothing: `uvicorn peers_shop:app`.

Handler, gateway and books are those of `tests/conform_shop.py`, the same for all. From the environment, beside what that one
reads: PEERS_REDIS (a URL), PEERS_FOLDER (for a store that is a file). Each peer is set as its own documentation says for
production, with the owner, the required key and the lease where it has a setting for them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the shop is that of the tests

from conform_shop import app_around, lease_seconds, make_shop

from cxguard.asgi.types import App


def idemkit(shop: App) -> App:
    from idemkit import HttpConfig, IdempotencyMiddleware, RedisBackend

    config = HttpConfig(
        scope=lambda request: request.headers.get("x-shopper", "anonymous"),
        require_key_for_mutations=True,
        lease_ttl_seconds=lease_seconds(),
    )
    made: App = IdempotencyMiddleware(shop, backend=RedisBackend.from_url(os.environ["PEERS_REDIS"]), config=config)
    return made


def snok(shop: App) -> App:
    from idempotency_header_middleware import IdempotencyHeaderMiddleware
    from idempotency_header_middleware.backends import RedisBackend
    from redis.asyncio import Redis

    made: App = IdempotencyHeaderMiddleware(shop, backend=RedisBackend(redis=Redis.from_url(os.environ["PEERS_REDIS"])))
    return made


def fik(shop: App) -> App:
    from fastapi_idempotency_key import IdempotencyMiddleware, SQLiteBackend

    backend = SQLiteBackend(database_path=str(Path(os.environ["PEERS_FOLDER"]) / "idempotency.db"))
    made: App = IdempotencyMiddleware(shop, backend=backend, required=True)
    return made


PEERS: dict[str, Callable[[App], App]] = {"idemkit": idemkit, "snok": snok, "fik": fik}


def make_app(around: str) -> Any:
    """The shop behind *around*: one of PEERS, or what the tests' shop knows."""
    return PEERS[around](make_shop()) if around in PEERS else app_around(around)


app: Starlette | App = make_app(os.environ.get("CONFORM_AROUND", "none"))
