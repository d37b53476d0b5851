"""What becomes of an answer after the charge was made, by the fault of the moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from cxguard.demo.gateway.faults import FaultMode

HANG_SECONDS_MAX = 120.0  # nobody waits longer; then the connection is let go
_PAGE = "<!doctype html><title>502</title><h1>Bad gateway</h1><p>The proxy could not reach the upstream.</p>"


async def spoilt(mode: FaultMode, request: Request) -> Response | None:
    """The answer that goes out in the place of the true one; None: the true one."""
    match mode:
        case FaultMode.TIME_OUT_AFTER:
            return await never_answer(request)
        case FaultMode.ERROR_AFTER:
            return JSONResponse({"error": {"code": "internal_error"}}, 500)
        case FaultMode.GARBAGE:
            return Response(b"\x00\xff\xfe{]", media_type="application/json")
        case FaultMode.HTML:
            return HTMLResponse(_PAGE)
        case FaultMode.HALF:
            return StreamingResponse(_half(), media_type="application/json", headers={"Content-Length": "400"})
        case _:
            return None


async def never_answer(request: Request) -> Response:
    """Hang until the caller has gone."""
    try:
        async with asyncio.timeout(HANG_SECONDS_MAX):
            while (await request.receive())["type"] != "http.disconnect":
                continue
    except TimeoutError:
        pass
    return JSONResponse({"error": {"code": "nobody_is_waiting"}}, 504)


async def _half() -> AsyncIterator[bytes]:
    yield b'{"id": "pay_0", "status": "succ'
    raise ConnectionResetError("the answer breaks off, as was ordered")
