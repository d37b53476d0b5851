"""Any payment gateway that speaks JSON over HTTP, read by a declarative mapping. Needs the extra `http` (httpx)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import httpx

from cxguard.core.outcomes import NotCharged, Outcome, Unknown
from cxguard.errors import ConfigurationError, GatewayUnreadable
from cxguard.gateways.base import Charge, ListedPayment
from cxguard.gateways.http_answers import (
    HttpAnswer,
    HttpMapping,
    PaymentStatus,
    read_capture,
    read_charge,
    read_list,
    read_look_up,
    read_refund,
)

__all__ = ["HttpAnswer", "HttpGateway", "HttpMapping", "PaymentStatus", "Phase", "classify"]

ANSWER_BYTES_MAX = 1_048_576  # an answer about one payment is a few kilobytes
CONNECT_SECONDS_MAX = 3.0  # a connection that takes longer will not carry a charge in time
CONNECTIONS_MAX = 500  # in an outage each waiting shopper holds one
IDLE_SECONDS_MAX = 4.0  # below the usual 5 s of servers, so that we seldom write into a connection that just closed
LIST_SECONDS = 30.0  # one page of a gateway's books
MARGIN_SECONDS = 0.05  # our own word comes a little before the caller stops listening: it says more than silence


class Phase(StrEnum):
    """How far a request had come when it failed."""

    UNSENT = "unsent"  # not one byte of it was written
    SENT = "sent"  # perhaps all of it was


# Raised before a request is written, by httpx's own account. Each is believed only if the trace agrees.
_MAY_BE_REPEATED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, TimeoutError)
_WILL_NEVER_WORK = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, OSError)


def classify(error: Exception, phase: Phase) -> NotCharged | Unknown:
    """What a failed call means for the money.

    Surely not charged needs both: an error that belongs to connecting, and no byte written. All others - a time-out
    while writing or reading, a cut connection, an answer that breaks the protocol - leave the money unknown.
    """
    if phase is Phase.UNSENT and isinstance(error, _MAY_BE_REPEATED):
        return NotCharged(f"not sent: {type(error).__name__}", retryable=True, reroutable=True)
    if phase is Phase.UNSENT and isinstance(error, _WILL_NEVER_WORK):
        return NotCharged(f"not sent: {type(error).__name__}", retryable=False, reroutable=True)
    return Unknown(f"no answer: {type(error).__name__}")


class HttpGateway:
    """A `Gateway` over HTTP and JSON.

    A client belongs to one event loop and is made at the first call in it; close it with `aclose` in the same loop.

    Args:
        name: adapter, account and mode, for instance `http:shop-eu:live`.
        base_url: scheme, host and, if any, a path that all paths of the mapping are appended to.
        keyed: the gateway honours the key header: the same key charges once.
        key_lifetime_seconds: how long it remembers a key.
        settle_seconds: after this time a send without an answer can no longer appear in a look-up.
        headers: sent with every call, for instance `Authorization`.
        client_options: for `httpx.AsyncClient`; by default proxies and credentials of the environment are not used.

    Raises:
        ConfigurationError: no name, no address, or a header without a value: of a variable that is not set, say.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        keyed: bool = True,
        key_lifetime_seconds: float = 86_400.0,
        settle_seconds: float = 60.0,
        mapping: HttpMapping | None = None,
        headers: Mapping[str, str] | None = None,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        _check(name, base_url, headers or {})
        self.name = name
        self.keyed = keyed
        self.key_lifetime_seconds = key_lifetime_seconds
        self.settle_seconds = settle_seconds
        self._base_url = base_url.rstrip("/")
        self._mapping = mapping or HttpMapping()
        self._headers = dict(headers or {})
        self._options = dict(client_options or {})
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        body = self._mapping.charge_body(charge)
        answer = await self._call("POST", self._mapping.charge_path, body=body, key=key, timeout_seconds=timeout_seconds)
        if not isinstance(answer, HttpAnswer):
            return answer
        return read_charge(answer, asked=charge, key=key, mapping=self._mapping)

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        """What became of *key*; a gateway that cannot be asked leaves it `Unknown`."""
        path = _filled(self._mapping.find_path, key=key)
        answer = await self._call("GET", path, body=None, key=None, timeout_seconds=timeout_seconds)
        return self._looked_up(answer, key=key)

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        """Make *key* unable to charge: `NotCharged`, or what had happened already."""
        path = _filled(self._mapping.cancel_path, key=key)
        answer = await self._call("POST", path, body={"key": key}, key=None, timeout_seconds=timeout_seconds)
        return self._looked_up(answer, key=key)

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        path = _filled(self._mapping.capture_path, payment_id=payment_id)
        body = {"amount_minor": amount_minor, "currency": currency}
        answer = await self._call("POST", path, body=body, key=key, timeout_seconds=timeout_seconds)
        if not isinstance(answer, HttpAnswer):
            return answer
        return read_capture(answer, amount_minor=amount_minor, currency=currency, key=key, mapping=self._mapping)

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        path = _filled(self._mapping.refund_path, payment_id=payment_id)
        body = {"amount_minor": amount_minor, "currency": currency}
        answer = await self._call("POST", path, body=body, key=key, timeout_seconds=timeout_seconds)
        if not isinstance(answer, HttpAnswer):
            return answer
        return read_refund(answer, amount_minor=amount_minor, currency=currency, key=key, mapping=self._mapping)

    async def list_payments(self, *, since: float, until: float) -> AsyncIterator[ListedPayment]:
        """Every payment made in [since, until), page by page.

        Raises:
            GatewayUnreadable: the mapping has no `list_path`, or a page could not be read.
        """
        if not self._mapping.list_path:
            raise GatewayUnreadable(f"{self.name} has no list_path in its HttpMapping: its books cannot be looked at")
        after: str | None = ""
        while after is not None:
            path = _filled(self._mapping.list_path, since=f"{since:.3f}", until=f"{until:.3f}", after=after)
            answer = await self._call("GET", path, body=None, key=None, timeout_seconds=LIST_SECONDS)
            page = read_list(answer, mapping=self._mapping) if isinstance(answer, HttpAnswer) else None
            if page is None or (page[1] == after and after):
                raise GatewayUnreadable(f"{self.name}: a page of its books could not be read; ask again later")
            for payment in page[0]:
                yield payment
            after = page[1]

    async def aclose(self) -> None:
        """Close this event loop's connections."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _looked_up(self, answer: HttpAnswer | NotCharged | Unknown, *, key: str) -> Outcome:
        """A question that did not reach the gateway says nothing about the money, not even that there is none."""
        if isinstance(answer, HttpAnswer):
            return read_look_up(answer, key=key, mapping=self._mapping)
        return Unknown(f"could not ask, {answer.why}")

    async def _call(
        self, method: str, path: str, *, body: Mapping[str, Any] | None, key: str | None, timeout_seconds: float
    ) -> HttpAnswer | NotCharged | Unknown:
        seconds = timeout_seconds - min(MARGIN_SECONDS, timeout_seconds / 10)
        phase = Phase.UNSENT

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            nonlocal phase
            if event.endswith("send_request_headers.started"):
                phase = Phase.SENT

        headers = {} if key is None else {self._mapping.key_header: key}
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS_MAX))
        try:
            async with asyncio.timeout(seconds):
                url = self._base_url + path
                request = self._client().build_request(
                    method, url, json=body, headers=headers, timeout=timeout, extensions={"trace": trace}
                )
                return await self._answer(request)
        except _FAILURES as error:
            return classify(error, phase)

    async def _answer(self, request: httpx.Request) -> HttpAnswer | Unknown:
        response = await self._client().send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    return Unknown(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
            return HttpAnswer(response.status_code, bytes(body), response.headers.get("Retry-After"))
        finally:
            await response.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            limits = httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=IDLE_SECONDS_MAX)
            options = {"trust_env": False, "follow_redirects": False, "limits": limits, **self._options}
            headers = {"Accept": "application/json", **self._headers}
            client = self._clients[loop] = httpx.AsyncClient(headers=headers, **options)
        return client


def _filled(path: str, **values: str) -> str:
    for name, value in values.items():
        path = path.replace("{" + name + "}", quote(value, safe=""))
    return path


def _check(name: str, base_url: str, headers: Mapping[str, str]) -> None:
    write = 'write HttpGateway("http:shop:live", "https://gateway.example", headers={"Authorization": ...})'
    if not name:
        raise ConfigurationError(f"the gateway has no name, under which its payments are found again: {write}")
    if not isinstance(base_url, str) or not base_url.startswith(("https://", "http://")):
        raise ConfigurationError(f"base_url={str(base_url)[:60]!r} is no address with a scheme: {write}")
    for header, value in headers.items():
        if not isinstance(value, str | bytes):
            raise ConfigurationError(f"the header {header!r} is a {type(value).__name__}, and no text: {write}")
