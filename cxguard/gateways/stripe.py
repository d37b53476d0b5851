"""Stripe, through its official SDK: PaymentIntents with our key, our reference, and no retries but our own.

    from cxguard.gateways.stripe import StripeGateway

    stripe = StripeGateway("stripe:shop-eu:live", api_key=os.environ["STRIPE_API_KEY"], webhook_secret=os.environ["STRIPE_WEBHOOK_SECRET"])
    guard = Guard("sqlite:///shop.db", gateways=[stripe], ...)

Needs the extra `stripe`. A charge creates and confirms one PaymentIntent. It carries the gateway key and the operation's id
in its metadata, so that it can be found, and a webhook finds the way back. Stripe's search lags by up to a minute, so the
newest payments are looked through as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import httpx
import stripe

from cxguard.core.outcomes import Charged, NotCharged, Outcome, Refunded, Unknown
from cxguard.errors import ConfigurationError, GatewayUnreadable, WebhookRefused
from cxguard.gateways.base import KEY_MEMBER, OPERATION_MEMBER, Charge, Fact, ListedPayment
from cxguard.gateways.http import Phase
from cxguard.gateways.stripe_answers import (
    Failure,
    cannot_be_charged,
    read_failure,
    read_intent,
    read_look_up_failure,
    read_refund,
)
from cxguard.gateways.stripe_webhook import read_event

CONNECT_SECONDS_MAX = 3.0
CONNECTIONS_MAX = 500
NEWEST_PAYMENTS_MAX = 300  # looked through for one that the search does not show yet: what a busy shop takes in a minute
LIST_PAGE = 100
SIGNATURE_SECONDS_MAX = 300  # how old a webhook may be: Stripe's own default
_MODES = {"sk_live_": "live", "rk_live_": "live", "sk_test_": "test", "rk_test_": "test"}
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class StripeGateway:
    """A `Gateway` over Stripe's API.

    Args:
        name: `stripe:account:live` or `stripe:account:test`; its mode must be the key's own.
        api_key: a secret or restricted key.
        webhook_secret: `whsec_...`, for `read_webhook`.
        account: charge on behalf of a connected account.
        return_url: where the shopper comes back to after a step at the bank.
        base_url: for tests; Stripe's own by default.

    Raises:
        ConfigurationError: a key that cannot charge, or of the other mode.
    """

    keyed = True
    key_lifetime_seconds = 24 * 3600.0  # API v1; failures after the work began are replayed
    replays_failures = True
    settle_seconds = 120.0  # a request that Stripe took in is in its list by then

    def __init__(
        self,
        name: str,
        *,
        api_key: str,
        webhook_secret: str = "",
        account: str | None = None,
        return_url: str = "",
        base_url: str | None = None,
    ) -> None:
        _check_mode(name, api_key)
        self.name = name
        self._api_key = api_key
        self._webhook_secret = webhook_secret
        self._account = account
        self._return_url = return_url
        self._base_url = base_url
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[stripe.StripeClient, TracedClient]] = WeakKeyDictionary()

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        """Create and confirm a PaymentIntent under *key*."""
        unfit = cannot_be_charged(charge.amount_minor, charge.currency)
        if unfit:
            return NotCharged(f"refused: {unfit}")

        async def create() -> Outcome:
            return read_intent(_plain(await self._intents().create_async(self._intent(charge, key), self._options(key))), key=key)

        return await _told(create, read_failure, seconds=timeout_seconds)

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        """What became of *key*: by the search, and among the newest payments."""

        async def look() -> Outcome:
            intent = await self._find(key)
            return Unknown("not_found") if intent is None else read_intent(intent, key=key)

        return await _told(look, read_look_up_failure, seconds=timeout_seconds)

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        """Cancel the PaymentIntent, unless it has been charged. One that is not there may still come: `Unknown`."""

        async def cancel() -> Outcome:
            intent = await self._find(key)
            if intent is None:
                return Unknown("not_found")
            if intent.get("status") in ("succeeded", "canceled", "requires_capture"):
                return read_intent(intent, key=key)
            cancelled = await self._intents().cancel_async(intent["id"], {}, self._options(f"{key}-cancel"))
            return read_intent(_plain(cancelled), key=key)

        return await _told(cancel, read_look_up_failure, seconds=timeout_seconds)

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        """Take (part of) a reservation. Stripe releases what a part leaves."""

        async def capture() -> Outcome:
            intent = await self._intents().capture_async(payment_id, {"amount_to_capture": amount_minor}, self._options(key))
            return _captured(_plain(intent), amount_minor=amount_minor, currency=currency)

        return await _told(capture, read_failure, seconds=timeout_seconds)

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        """Give money back; what is only reserved is released by cancelling the PaymentIntent."""

        async def refund() -> Outcome:
            intent = _plain(await self._intents().retrieve_async(payment_id, {}, self._options()))
            if intent.get("status") in ("requires_capture", "canceled"):
                return await self._release(intent, key=key, amount_minor=amount_minor, currency=currency)
            params: Any = {"payment_intent": payment_id, "amount": amount_minor, "metadata": {KEY_MEMBER: key}}
            made = await self._client().v1.refunds.create_async(params, self._options(key))
            return read_refund(_plain(made), amount_minor=amount_minor, currency=currency)

        return await _told(refund, read_failure, seconds=timeout_seconds)

    async def list_payments(self, *, since: float, until: float) -> AsyncIterator[ListedPayment]:
        """Every PaymentIntent made in [since, until).

        Raises:
            GatewayUnreadable: Stripe did not answer, or refused.
        """
        params: Any = {"created": {"gte": int(since), "lt": int(until)}, "limit": LIST_PAGE, "expand": ["data.latest_charge"]}
        try:
            page = await self._intents().list_async(params, self._options())
            async for intent in page.auto_paging_iter():
                yield _listed(_plain(intent))
        except stripe.StripeError as error:
            raise GatewayUnreadable(f"{self.name}: {type(error).__name__} while listing: ask again later") from error

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Fact | None:
        """What a webhook says about a payment of ours; None for every other event, which is answered 200 all the same.

        Args:
            body: as it came, byte for byte: the signature is over these.

        Raises:
            WebhookRefused: no valid signature, or too old.
            ConfigurationError: no webhook secret was given.
        """
        if not self._webhook_secret:
            raise ConfigurationError('no webhook secret: write StripeGateway(..., webhook_secret=os.environ["STRIPE_WEBHOOK_SECRET"])')
        signature = next((value for name, value in headers.items() if name.lower() == "stripe-signature"), "")
        try:
            stripe.WebhookSignature.verify_header(
                body.decode("utf-8", "replace"), signature, self._webhook_secret, SIGNATURE_SECONDS_MAX
            )
            event = json.loads(body)
        except (stripe.SignatureVerificationError, ValueError) as error:
            raise WebhookRefused(f"not from Stripe, too old or unreadable ({type(error).__name__}): answer 400") from None
        return read_event(event) if isinstance(event, dict) else None

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        known = self._clients.pop(asyncio.get_running_loop(), None)
        if known is not None:
            await known[1].close_async()

    # --- the calls

    def _intent(self, charge: Charge, key: str) -> Any:
        metadata = {**charge.metadata, KEY_MEMBER: key, **({"order_id": charge.order_id} if charge.order_id else {})}
        params: dict[str, Any] = {
            "amount": charge.amount_minor,
            "currency": charge.currency.lower(),
            "payment_method": charge.source,
            "confirm": True,
            "capture_method": "automatic" if charge.capture else "manual",
            "metadata": metadata,
        }
        if charge.off_session:
            params["off_session"] = True
        if charge.method:
            params["payment_method_types"] = [charge.method]
        elif self._return_url:
            params["automatic_payment_methods"] = {"enabled": True}
        else:  # a method that needs a redirect could not come back
            params["automatic_payment_methods"] = {"enabled": True, "allow_redirects": "never"}
        return {**params, "return_url": self._return_url} if self._return_url and not charge.off_session else params

    async def _find(self, key: str) -> Mapping[str, Any] | None:
        found = await self._search(key)
        if found is not None:
            return found
        page = await self._intents().list_async({"limit": LIST_PAGE, "expand": ["data.latest_charge"]}, self._options())
        looked_at = 0
        async for intent in page.auto_paging_iter():
            plain = _plain(intent)
            if (plain.get("metadata") or {}).get(KEY_MEMBER) == key:
                return plain
            looked_at += 1
            if looked_at >= NEWEST_PAYMENTS_MAX:
                break
        return None

    async def _search(self, key: str) -> Mapping[str, Any] | None:
        """Stripe has no search for accounts in some countries: then the list alone is looked through."""
        query: Any = {"query": f"metadata['{KEY_MEMBER}']:'{key}'", "expand": ["data.latest_charge"]}
        try:
            found = await self._intents().search_async(query, self._options())
        except stripe.InvalidRequestError:
            return None
        return _plain(found.data[0]) if found.data else None

    async def _release(self, intent: Mapping[str, Any], *, key: str, amount_minor: int, currency: str) -> Outcome:
        if amount_minor != intent.get("amount"):
            return NotCharged("refused: a reservation is released as a whole")
        if intent.get("status") != "canceled":
            intent = _plain(await self._intents().cancel_async(intent["id"], {}, self._options(key)))
        if intent.get("status") != "canceled":
            return Unknown(f"not released: {intent.get('status')}")
        return Refunded(amount_minor, currency, refund_id=str(intent.get("id", "")))

    def _options(self, key: str | None = None) -> Any:
        options: dict[str, Any] = {"max_network_retries": 0}
        if key is not None:
            options["idempotency_key"] = key
        return {**options, "stripe_account": self._account} if self._account else options

    def _intents(self) -> Any:
        return self._client().v1.payment_intents

    def _client(self) -> stripe.StripeClient:
        loop = asyncio.get_running_loop()
        known = self._clients.get(loop)
        if known is None:
            addresses: Any = {"api": self._base_url} if self._base_url else {}
            http = TracedClient()
            client = stripe.StripeClient(self._api_key, http_client=http, max_network_retries=0, base_addresses=addresses)
            known = self._clients[loop] = (client, http)
        return known[0]


class _ConnectionFailed(stripe.APIConnectionError):
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
            response = await self._http.send(request)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            unsent = phase is Phase.UNSENT and isinstance(error, _BEFORE_SENDING)
            raise _ConnectionFailed(type(error).__name__, Phase.UNSENT if unsent else Phase.SENT) from error
        return response.content, response.status_code, response.headers

    async def sleep_async(self, secs: float) -> None:
        await asyncio.sleep(secs)

    async def close_async(self) -> None:
        await self._http.aclose()


async def _told(call: Callable[[], Awaitable[Outcome]], failed: Callable[[Failure], Outcome], *, seconds: float) -> Outcome:
    """The outcome of *call*. What the SDK cannot read, and silence, leave the money unknown."""
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except stripe.StripeError as error:
        return failed(failure_of(error))
    except TimeoutError:
        return Unknown("no answer in time")
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # the SDK on an answer that is none
        return Unknown(f"an answer that cannot be read: {type(error).__name__}")


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


def _plain(value: Any) -> Mapping[str, Any]:
    plain: Mapping[str, Any] = value.to_dict() if hasattr(value, "to_dict") else dict(value)
    return plain


def _captured(intent: Mapping[str, Any], *, amount_minor: int, currency: str) -> Outcome:
    told = (intent.get("amount_received", intent.get("amount")), str(intent.get("currency", "")).upper())
    if intent.get("status") != "succeeded":
        return Unknown(f"unreadable status {str(intent.get('status'))[:40]!r}")
    if told != (amount_minor, currency):
        return Unknown(f"asked for {amount_minor} {currency}, told {told[0]} {told[1]}"[:200])
    return Charged(amount_minor, currency, payment_id=str(intent.get("id", "")))


def _listed(intent: Mapping[str, Any]) -> ListedPayment:
    metadata = intent.get("metadata") or {}
    key = str(metadata.get(KEY_MEMBER, ""))
    charge = intent.get("latest_charge")
    refunded = charge.get("amount_refunded", 0) if isinstance(charge, Mapping) else 0
    return ListedPayment(
        payment_id=str(intent.get("id", "")),
        gateway_key=key,
        operation_id=str(metadata.get(OPERATION_MEMBER, "")),
        outcome=read_intent(intent, key=key),
        refunded_minor=int(refunded or 0),
        created_at=float(intent.get("created") or 0),
    )


def _check_mode(name: str, api_key: str) -> None:
    mode = next((mode for start, mode in _MODES.items() if api_key.startswith(start)), None)
    if mode is None:
        raise ConfigurationError(
            'api_key is no secret key of Stripe (sk_live_..., sk_test_... or rk_...): write api_key=os.environ["STRIPE_API_KEY"]'
        )
    account, _, named = name.rpartition(":")
    if named != mode:
        raise ConfigurationError(
            f"the key is for {mode} payments and the name says {named!r}: a {mode} answer must never be taken for the other; "
            f'write StripeGateway("{account or "stripe:shop"}:{mode}", ...)'
        )
