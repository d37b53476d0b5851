"""Run a kept request again through the app, with its operation in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cxguard.asgi.bodies import Replayed
from cxguard.asgi.capture import Capture, Phase, uncompressed
from cxguard.asgi.types import App, Message, Receive, Scope, Send
from cxguard.core.reading import HandlerAnswer
from cxguard.core.snapshot import Snapshot
from cxguard.engine.bounds import is_cancelled
from cxguard.engine.handle import CURRENT, OperationHandle
from cxguard.engine.placing import Ran
from cxguard.logs import get_logger, where_raised

OPERATION_IN_SCOPE = "cxguard.operation"  # only this process can put it there: a client sends headers, not scope members

_log = get_logger("rerun")


async def run_inside(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """The inner half of a re-run: whoever started it holds the lease and reads the answer."""
    token = CURRENT.set(scope[OPERATION_IN_SCOPE])
    try:
        await app(scope, receive, send)
    finally:
        CURRENT.reset(token)


async def run_kept(
    app: App, handle: OperationHandle, kept: Snapshot, *, state: Mapping[str, Any] | None, answer_bytes_max: int, seconds: float
) -> Ran:
    """Send *kept* through *app* as a request of its own.

    Args:
        state: what the app's lifespan left for its requests (clients, pools); each gets a copy, as from a server.
        answer_bytes_max: of a longer answer only the status is kept.
        seconds: what takes longer has raised, perhaps after its answer.
    """
    capture = Capture(_nowhere, bytes_max=answer_bytes_max)
    receive = Replayed(kept.body)
    raised = False
    try:
        scope = _scope_of(kept, handle)
        async with asyncio.timeout(seconds):
            await app(scope if state is None else {**scope, "state": dict(state)}, receive, capture)
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            raise  # we end, and not a task of the app's own
        _log.warning("handler.raised", reference=handle.reference, **where_raised(error))
        raised = True
    finally:
        receive.end()
    if capture.live and capture.phase is Phase.COMPLETE:
        return Ran(HandlerAnswer(capture.status), streamed=True, raised=raised)
    return Ran(capture.answer(), raised=raised)


def _scope_of(kept: Snapshot, handle: OperationHandle) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": kept.method,
        "scheme": kept.scheme,
        "path": kept.path,
        "raw_path": quote(kept.path).encode("ascii"),
        "root_path": kept.root_path,
        "query_string": kept.query.encode("latin-1"),
        "headers": uncompressed((name.encode("latin-1"), value.encode("latin-1")) for name, value in kept.headers),
        "client": ("127.0.0.1", 0),
        "server": _server(kept),
        OPERATION_IN_SCOPE: handle,
    }


def _server(kept: Snapshot) -> tuple[str, int]:
    host = next(iter(kept.header_all("host")), "localhost")
    name, _, port = host.rpartition(":")
    return (name, int(port[:5])) if name and port.isdecimal() else (host, 80 if kept.scheme == "http" else 443)


async def _nowhere(message: Message) -> None:
    """Nobody waits at the other end."""
