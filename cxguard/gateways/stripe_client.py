"""The official SDK's way to the network: our own httpx client under it, and what it raises as a plain value."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import stripe

from cxguard.gateways.http import Phase
from cxguard.gateways.stripe_answers import Failure

CONNECT_SECONDS_MAX = 3.0
CONNECTIONS_MAX = 500
ANSWER_BYTES_MAX = 16 * 1024 * 1024  # a page of a hundred payments with their charges is below one
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class ConnectionFailed(stripe.APIConnectionError):
    """The SDK's own error, and how far the request had come."""

    def __init__(self, why: str, phase: Phase) -> None:
        super().__init__(f"no answer from Stripe ({why})", should_retry=False)  # type: ignore[no-untyped-call]
        self.phase = phase


class TracedClient(stripe.HTTPClient):
    """The SDK's requests over our own httpx client: no proxies of the environment, bounded connections, and the knowledge
    of how far a request had come when it failed."""

    name = "httpx"

    def __init__(self) -> None:
        super().__init__()
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=4.0)
        timeout = httpx.Timeout(30.0, connect=CONNECT_SECONDS_MAX)  # the caller's own is shorter, and around the call
        self._http = httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=limits, timeout=timeout)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        phase = Phase.UNSENT

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            nonlocal phase
            if event.endswith("send_request_headers.started"):
                phase = Phase.SENT

        try:
            request = self._http.build_request(method, url, headers=headers, content=post_data or None, extensions={"trace": trace})
            response = await self._http.send(request, stream=True)
            try:
                return await _body(response), response.status_code, response.headers
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            unsent = phase is Phase.UNSENT and isinstance(error, _BEFORE_SENDING)
            raise ConnectionFailed(type(error).__name__, Phase.UNSENT if unsent else Phase.SENT) from error

    async def sleep_async(self, secs: float) -> None:
        await asyncio.sleep(secs)

    async def close_async(self) -> None:
        await self._http.aclose()


async def _body(response: httpx.Response) -> bytes:
    """All of it, unless it is longer than any answer of Stripe's."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            raise httpx.DecodingError(f"an answer longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def failure_of(error: stripe.StripeError) -> Failure:
    """What the SDK raised, as a value. It leaves the code of some errors out, which their bodies have."""
    body = error.json_body if isinstance(error.json_body, dict) else {}
    told = body.get("error") if isinstance(body.get("error"), dict) else {}
    assert isinstance(told, dict)
    intent = told.get("payment_intent")
    return Failure(
        kind="APIConnectionError" if isinstance(error, stripe.APIConnectionError) else type(error).__name__,
        status=error.http_status,
        code=str(error.code or told.get("code") or ""),
        decline_code=str(told.get("decline_code") or ""),
        phase=getattr(error, "phase", Phase.SENT),
        retry_after_seconds=_seconds(dict(error.headers or {})),
        intent=intent if isinstance(intent, dict) else None,
    )


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None
