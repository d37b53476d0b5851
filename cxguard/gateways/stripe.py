"""Stripe, through its official SDK: PaymentIntents with our key, our reference, and no retries but our own.

    from cxguard.gateways.stripe import StripeGateway

    stripe = StripeGateway("stripe:shop-eu:live", api_key=os.environ["STRIPE_API_KEY"], webhook_secret=os.environ["STRIPE_WEBHOOK_SECRET"])
    guard = Guard("sqlite:///shop.db", gateways=[stripe], ...)

Needs the extra `stripe`. A charge creates and confirms one PaymentIntent. It carries the gateway key and the operation's id
in its metadata, so that it can be found, and a webhook finds the way back. Stripe's search lags, so the newest payments are
looked through as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import stripe

from cxguard.core.outcomes import NotCharged, Outcome, Refunded, Unknown
from cxguard.errors import ConfigurationError, GatewayUnreadable, WebhookRefused
from cxguard.gateways.base import KEY_MEMBER, OPERATION_MEMBER, Charge, Fact, ListedPayment
from cxguard.gateways.stripe_amounts import UnfitAmount, to_stripe
from cxguard.gateways.stripe_answers import (
    Failure,
    metadata_of,
    read_asked_refund,
    read_capture,
    read_failure,
    read_intent,
    read_look_up_failure,
    read_refund,
    refunded_minor,
)
from cxguard.gateways.stripe_client import TracedClient, failure_of
from cxguard.gateways.stripe_webhook import read_event

NEWEST_PAYMENTS_MAX = 300  # looked through for one that the search does not show yet: what a busy shop takes in a minute
NEWEST_REFUNDS_MAX = 100
SEARCH_LAG_SECONDS = 3600.0  # the search is seldom a minute behind, and in an outage of its own an hour: what is older, it shows
LIST_PAGE = 100
SIGNATURE_SECONDS_MAX = 300  # how old a webhook may be: Stripe's own default
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)  # the SDK, and we, on an answer that is none
_MODES = {"sk_live_": "live", "rk_live_": "live", "sk_test_": "test", "rk_test_": "test"}


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

        async def create() -> Outcome:
            return read_intent(_plain(await self._intents().create_async(self._intent(charge, key), self._options(key))), key=key)

        return await _told(create, read_failure, seconds=timeout_seconds)

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        """What became of *key*: by the search, and among the newest payments and refunds."""

        async def look() -> Outcome:
            found = await self._search(key)
            if not found:
                found, refund = await self._newest_or_refund(key, searched=found is not None)
                if not found:
                    return Unknown("not_found") if refund is None else read_refund(refund)
            return read_intent(await self._retrieve(found), key=key)

        return await _told(look, read_look_up_failure, seconds=timeout_seconds)

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        """Cancel the PaymentIntent, unless it has been charged. One that is not there may still come: `Unknown`."""

        async def cancel() -> Outcome:
            intent = await self._find(key)
            if intent is None:
                return Unknown("not_found")
            if intent.get("status") in ("succeeded", "canceled", "requires_capture"):
                return read_intent(intent, key=key)
            try:  # without a key: a refusal would be replayed for a day, and a cancelled payment stays cancelled anyway
                cancelled = await self._intents().cancel_async(intent["id"], {}, self._options())
            except stripe.InvalidRequestError:  # it went on since it was looked at: how far, it says itself
                return read_intent(await self._retrieve(intent["id"]), key=key)
            return read_intent(_plain(cancelled), key=key)

        return await _told(cancel, read_look_up_failure, seconds=timeout_seconds)

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        """Take (part of) a reservation. Stripe releases what a part leaves."""

        async def capture() -> Outcome:
            params = {"amount_to_capture": to_stripe(amount_minor, currency)}
            intent = await self._intents().capture_async(payment_id, params, self._options(key))
            return read_capture(_plain(intent), amount_minor=amount_minor, currency=currency)

        return await _told(capture, read_failure, seconds=timeout_seconds)

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        """Give money back; what is only reserved is released by cancelling the PaymentIntent."""

        async def refund() -> Outcome:
            intent = await self._retrieve(payment_id)
            if intent.get("status") in ("requires_capture", "canceled"):
                return await self._release(intent, key=key, amount_minor=amount_minor, currency=currency)
            amount = to_stripe(amount_minor, currency)
            params: Any = {"payment_intent": payment_id, "amount": amount, "metadata": {KEY_MEMBER: key}}
            made = _plain(await self._client().v1.refunds.create_async(params, self._options(key)))
            if made.get("status") == "pending":  # perhaps a replay of what was said the first time
                made = await self._refund_now(made)
            return read_asked_refund(made, amount_minor=amount_minor, currency=currency)

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
        except (stripe.StripeError, *_UNREADABLE) as error:
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
            stripe.WebhookSignature.verify_header(body.decode("utf-8", "replace"), signature, self._webhook_secret, SIGNATURE_SECONDS_MAX)
            event = json.loads(body)
        except (stripe.SignatureVerificationError, ValueError, TypeError) as error:  # TypeError: a signature that is not even ASCII
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
            "amount": to_stripe(charge.amount_minor, charge.currency),
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
        """As it is now: what search and list show may be older."""
        found = await self._search(key)
        found = found or await self._among_newest(key, searched=found is not None)
        return await self._retrieve(found) if found else None

    async def _newest_or_refund(self, key: str, *, searched: bool) -> tuple[str, Mapping[str, Any] | None]:
        """Both are asked for at once, since a shopper may wait. A payment that is found waits for no list of refunds."""
        refund = asyncio.ensure_future(self._find_refund(key))
        try:
            found = await self._among_newest(key, searched=searched)
            return (found, None) if found else ("", await refund)
        finally:
            refund.cancel()
            await asyncio.gather(refund, return_exceptions=True)

    async def _among_newest(self, key: str, *, searched: bool) -> str:
        """The name of a PaymentIntent that the search may not show yet; where there is no search, of any that is not too far back."""
        back_seconds = SEARCH_LAG_SECONDS if searched else inf
        return await self._newest(self._intents(), key, most=NEWEST_PAYMENTS_MAX, back_seconds=back_seconds)

    async def _find_refund(self, key: str) -> Mapping[str, Any] | None:
        """Refunds carry a key of their own, and there is no search for them."""
        refunds = self._client().v1.refunds
        try:
            found = await self._newest(refunds, key, most=NEWEST_REFUNDS_MAX, back_seconds=inf)
        except stripe.PermissionError:  # whoever may not see refunds has made none
            return None
        return _plain(await refunds.retrieve_async(found, {}, self._options())) if found else None

    async def _refund_now(self, made: Mapping[str, Any]) -> Mapping[str, Any]:
        """A refund as it is now. It was made: what goes wrong while asking takes nothing of that back."""
        try:
            return _plain(await self._client().v1.refunds.retrieve_async(made["id"], {}, self._options()))
        except stripe.StripeError:
            return made

    async def _search(self, key: str) -> str | None:
        """The name of the PaymentIntent; empty: it is not found. None: accounts in some countries have no search."""
        query: Any = {"query": f"metadata['{KEY_MEMBER}']:'{key}'"}
        try:
            found = await self._intents().search_async(query, self._options())
        except stripe.InvalidRequestError:
            return None
        return str(found.data[0].id) if found.data else ""

    async def _newest(self, books: Any, key: str, *, most: int, back_seconds: float) -> str:
        """The name of the one that carries *key*, among the *most* newest: as far back as that from the newest of all."""
        page = await books.list_async({"limit": LIST_PAGE}, self._options())
        looked_at, from_at = 0, -inf
        async for each in page.auto_paging_iter():
            members = _plain(each)
            if metadata_of(members).get(KEY_MEMBER) == key:
                return str(each.id)
            looked_at, made_at = looked_at + 1, float(members.get("created") or 0)
            from_at = max(from_at, made_at - back_seconds)
            if looked_at >= most or made_at < from_at:
                break
        return ""

    async def _retrieve(self, payment_id: str) -> Mapping[str, Any]:
        return _plain(await self._intents().retrieve_async(payment_id, {"expand": ["latest_charge"]}, self._options()))

    async def _release(self, intent: Mapping[str, Any], *, key: str, amount_minor: int, currency: str) -> Outcome:
        if to_stripe(amount_minor, currency) != intent.get("amount"):
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


async def _told(call: Callable[[], Awaitable[Outcome]], failed: Callable[[Failure], Outcome], *, seconds: float) -> Outcome:
    """The outcome of *call*. What the SDK cannot read, and silence, leave the money unknown."""
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except stripe.StripeError as error:
        return failed(failure_of(error))
    except UnfitAmount as unfit:
        return NotCharged(f"refused: {unfit}")
    except TimeoutError:
        return Unknown("no answer in time")
    except _UNREADABLE as error:
        return Unknown(f"an answer that cannot be read: {type(error).__name__}")


def _plain(value: Any) -> Mapping[str, Any]:
    plain: Mapping[str, Any] = value.to_dict() if hasattr(value, "to_dict") else dict(value)
    return plain


def _listed(intent: Mapping[str, Any]) -> ListedPayment:
    metadata = metadata_of(intent)
    key = str(metadata.get(KEY_MEMBER, ""))
    return ListedPayment(
        payment_id=str(intent.get("id", "")),
        gateway_key=key,
        operation_id=str(metadata.get(OPERATION_MEMBER, "")),
        outcome=read_intent(intent, key=key),
        refunded_minor=refunded_minor(intent),
        created_at=float(intent.get("created") or 0),
    )


def _check_mode(name: str, api_key: str) -> None:
    mode = next((mode for start, mode in _MODES.items() if str(api_key).startswith(start)), None)
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
