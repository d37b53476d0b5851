"""The same gateway and the same books, spoken to as one speaks to Stripe: enough for its official SDK."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxguard.demo.gateway.faults import FaultMode
from cxguard.demo.gateway.ledger import Entered, Ledger, Movement, Payment, Refusal, Request
from cxguard.demo.gateway.spoiling import never_answer, spoilt
from cxguard.demo.gateway.world import World

KEPT_MAX = 100_000  # answers kept for replays
LIST_MAX = 100
_SEARCH = re.compile(r"metadata\['([^']+)'\]:'([^']*)'")
_DECLINES = {
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_chargeDeclinedLostCard": "lost_card",
    "pm_card_chargeDeclinedStolenCard": "stolen_card",
    "pm_card_chargeDeclinedFraudulent": "fraudulent",
    "pm_card_chargeDeclinedExpiredCard": "expired_card",
    "pm_card_chargeDeclinedIncorrectCvc": "incorrect_cvc",
}
_CODES = {"expired_card": "expired_card", "incorrect_cvc": "incorrect_cvc"}  # all others are `card_declined`
_ASKS = "pm_card_authenticationRequired"
_GOOD = ("pm_card_visa", "pm_card_mastercard", "tok_ok")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it can be given again."""

    status: int
    body: Mapping[str, Any]


class _Refused(Exception):
    def __init__(self, status: int, kind: str, *, code: str = "", **members: Any) -> None:
        super().__init__(code)
        self.said = Said(status, {"error": {"type": kind, "message": f"{kind} {code}", **({"code": code} if code else {}), **members}})


def stripe_routes(ledger: Ledger, world: World) -> list[Route]:
    """`/v1/...`, as the SDK calls it."""
    face = _Face(ledger, world)
    intents = "/v1/payment_intents"
    return [
        Route(intents, face.create, methods=["POST"]),
        Route(intents, face.listed, methods=["GET"]),
        Route(f"{intents}/search", face.search, methods=["GET"]),
        Route(intents + "/{id}", face.retrieve, methods=["GET"]),
        Route(intents + "/{id}/confirm", face.confirm, methods=["POST"]),
        Route(intents + "/{id}/capture", face.capture, methods=["POST"]),
        Route(intents + "/{id}/cancel", face.cancel, methods=["POST"]),
        Route("/v1/refunds", face.refund, methods=["POST"]),
        Route("/v1/refunds", face.refunds_listed, methods=["GET"]),
        Route("/v1/refunds/{id}", face.refund_retrieved, methods=["GET"]),
    ]


class _Face:
    def __init__(self, ledger: Ledger, world: World) -> None:
        self._ledger = ledger
        self._world = world
        self._kept: dict[str, tuple[str, Said | None]] = {}  # by key: what was asked, and what was said; None: in progress
        self._refunds: dict[str, dict[str, Any]] = {}  # by their names, oldest first

    async def create(self, request: HttpRequest) -> Response:
        async def work(form: Mapping[str, str], key: str | None) -> Said:
            asked = _asked(form)
            mode = self._world.mode
            send = self._ledger.received(asked, key=key, mode=mode)
            source = form.get("payment_method", "")
            declined = _DECLINES.get(source, "") if mode is not FaultMode.DECLINE else "generic_decline"
            if not declined and source != _ASKS and not source.startswith(_GOOD):
                raise _Refused(400, "invalid_request_error", code="resource_missing", param="payment_method")
            if source == _ASKS and form.get("off_session") == "true":
                declined = "authentication_required"

            def charge() -> Entered | Refusal:
                return self._ledger.charge(asked, key=key, send=send, declined=declined, asks=source == _ASKS)

            if self._world.hold.before_charge:
                await self._world.hold.stop_here(f"send {send}")
            if mode is FaultMode.LATE:
                self._world.land_late(charge)
                await never_answer(request)
                raise _Refused(400, "api_error")  # nobody hears it, and it is not kept
            result = charge()
            if isinstance(result, Refusal):
                raise _Refused(400, "idempotency_error")
            if not self._world.hold.before_charge:
                await self._world.hold.stop_here(result.payment.id)
            return self._told(result.payment)

        return await self._guarded(request, work)

    async def retrieve(self, request: HttpRequest) -> Response:
        return await self._look(request, lambda: _intent(self._payment(request)))

    async def search(self, request: HttpRequest) -> Response:
        def found() -> dict[str, Any]:
            match = _SEARCH.fullmatch(request.query_params.get("query", ""))
            if match is None:
                raise _Refused(400, "invalid_request_error", code="parameter_invalid", param="query")
            name, value = match.groups()
            payments = self._ledger.newest(limit=10_000)
            data = [_intent(each) for each in payments if each.metadata.get(name) == value]
            return {"object": "search_result", "url": "/v1/payment_intents/search", "has_more": False, "data": data, "next_page": None}

        return await self._look(request, found)

    async def listed(self, request: HttpRequest) -> Response:
        def page() -> dict[str, Any]:
            asked = request.query_params
            limit = min(int(asked.get("limit", "10")), LIST_MAX)
            since, until = float(asked.get("created[gte]", "0")), float(asked.get("created[lt]", "1e12"))
            payments = self._ledger.newest(since=since, until=until, after=asked.get("starting_after", ""), limit=limit + 1)
            data = [_intent(each) for each in payments[:limit]]
            return {"object": "list", "url": "/v1/payment_intents", "has_more": len(payments) > limit, "data": data}

        return await self._look(request, page)

    async def confirm(self, request: HttpRequest) -> Response:
        """The shopper did the step at the bank."""

        async def work(form: Mapping[str, str], key: str | None) -> Said:
            payment = self._ledger.confirm(self._payment(request).id)
            assert isinstance(payment, Payment)
            return self._told(payment)

        return await self._guarded(request, work)

    async def capture(self, request: HttpRequest) -> Response:
        async def work(form: Mapping[str, str], key: str | None) -> Said:
            payment = self._payment(request)
            amount_minor = int(form.get("amount_to_capture", payment.amount_minor))
            moved = self._ledger.capture(payment.id, key=key, amount_minor=amount_minor)
            if isinstance(moved, Refusal):
                raise _Refused(400, "invalid_request_error", code="payment_intent_unexpected_state")
            return self._told(self._payment(request))

        return await self._guarded(request, work)

    async def cancel(self, request: HttpRequest) -> Response:
        async def work(form: Mapping[str, str], key: str | None) -> Said:
            payment = self._payment(request)
            if payment.status == "authorised":
                self._ledger.refund(payment.id, key=key, amount_minor=payment.amount_minor)
            elif payment.status == "requires_action":
                self._ledger.abandon(payment.id)
            elif _status(payment) != "canceled":
                raise _Refused(400, "invalid_request_error", code="payment_intent_unexpected_state")
            return self._told(self._payment(request))

        return await self._guarded(request, work)

    async def refund(self, request: HttpRequest) -> Response:
        async def work(form: Mapping[str, str], key: str | None) -> Said:
            payment = self._ledger.payment(form.get("payment_intent", ""))
            if isinstance(payment, Refusal):
                raise _Refused(404, "invalid_request_error", code="resource_missing")
            amount_minor = int(form.get("amount", payment.captured_minor - payment.refunded_minor))
            moved = self._ledger.refund(payment.id, key=key, amount_minor=amount_minor) if payment.captured_minor else Refusal.AMOUNT
            if isinstance(moved, Refusal):
                raise _Refused(400, "invalid_request_error", code="charge_already_refunded")
            after = self._ledger.payment(payment.id)
            assert isinstance(after, Payment)
            refund = self._refunds.setdefault(moved.id, {**_refund(moved, payment), "metadata": _metadata(form)})
            self._world.webhooks.tell("charge.refunded", _charge(after))
            self._world.webhooks.tell("refund.created", refund)
            if len(self._refunds) > KEPT_MAX:
                self._refunds.pop(next(iter(self._refunds)))
            return Said(200, refund)

        return await self._guarded(request, work)

    async def refunds_listed(self, request: HttpRequest) -> Response:
        def page() -> dict[str, Any]:
            newest = list(reversed(self._refunds.values()))
            after = request.query_params.get("starting_after", "")
            start = next((at + 1 for at, refund in enumerate(newest) if refund["id"] == after), 0)
            data = newest[start:][: min(int(request.query_params.get("limit", "10")), LIST_MAX)]
            return {"object": "list", "url": "/v1/refunds", "has_more": start + len(data) < len(newest), "data": data}

        return await self._look(request, page)

    async def refund_retrieved(self, request: HttpRequest) -> Response:
        def refund() -> dict[str, Any]:
            found = self._refunds.get(request.path_params["id"])
            if found is None:
                raise _Refused(404, "invalid_request_error", code="resource_missing")
            return found

        return await self._look(request, refund)

    # --- what all of them share

    async def _guarded(self, request: HttpRequest, work: Callable[[Mapping[str, str], str | None], Awaitable[Said]]) -> Response:
        """Login, faults before the work, replays by key, the work, and faults after it."""
        mode = self._world.mode
        try:
            _check_login(request)
            stopped = await self._before(mode, request)
            if stopped is not None:
                return stopped
            form = {name: str(value) for name, value in (await request.form()).items()}
            key = request.headers.get("Idempotency-Key") if self._ledger.keyed else None
            said, replayed = await self._once(key, f"{request.url.path} {json.dumps(form, sort_keys=True)}", work, form)
        except _Refused as refused:
            said, replayed = refused.said, False
        if mode is FaultMode.ERROR_AFTER and not replayed:
            said = Said(500, {"error": {"type": "api_error", "message": "An unknown error occurred"}})
            self._keep(request, said)
        elif not replayed:
            bad = await spoilt(mode, request)
            if bad is not None:
                return bad
        return JSONResponse(said.body, said.status, headers={"Idempotent-Replayed": "true"} if replayed else {})

    async def _once(
        self, key: str | None, asked: str, work: Callable[[Mapping[str, str], str | None], Awaitable[Said]], form: Mapping[str, str]
    ) -> tuple[Said, bool]:
        if key is None:
            return await work(form, None), False
        fingerprint = hashlib.sha256(asked.encode()).hexdigest()
        known = self._kept.get(key)
        if known is not None and known[0] != fingerprint:
            raise _Refused(400, "idempotency_error")
        if known is not None and known[1] is None:
            raise _Refused(409, "invalid_request_error", code="idempotency_key_in_use")
        if known is not None and known[1] is not None:
            return known[1], True
        self._kept[key] = (fingerprint, None)
        try:
            said = await work(form, key)
        except _Refused as refused:
            said = refused.said
            if said.status == 400:  # nothing was worked on: such an answer is not kept
                del self._kept[key]
                raise
        except asyncio.CancelledError:
            del self._kept[key]
            raise
        self._kept[key] = (fingerprint, said)
        if len(self._kept) > KEPT_MAX:
            self._kept.pop(next(iter(self._kept)))
        return said, False

    def _keep(self, request: HttpRequest, said: Said) -> None:
        """A failure after the work began is what this key says from now on."""
        key = request.headers.get("Idempotency-Key")
        if key in self._kept:
            self._kept[key] = (self._kept[key][0], said)

    async def _before(self, mode: FaultMode, request: HttpRequest) -> Response | None:
        match mode:
            case FaultMode.ERROR | FaultMode.REFUSE:
                return JSONResponse({"error": {"type": "api_error", "message": "An unknown error occurred"}}, 500)
            case FaultMode.TIME_OUT_BEFORE:
                return await never_answer(request)
            case FaultMode.THROTTLE:
                body = {"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "Too many requests"}}
                return JSONResponse(body, 429, headers={"Retry-After": "1"})
            case FaultMode.SLOW:
                await asyncio.sleep(self._world.slow_seconds)
                return None
            case _:
                return None

    async def _look(self, request: HttpRequest, read: Callable[[], Mapping[str, Any]]) -> Response:
        mode = self._world.mode
        try:
            _check_login(request)
            if mode in (FaultMode.ERROR, FaultMode.REFUSE):
                return JSONResponse({"error": {"type": "api_error", "message": "An unknown error occurred"}}, 500)
            if self._world.lookups_too and mode in (FaultMode.TIME_OUT_BEFORE, FaultMode.TIME_OUT_AFTER):
                return await never_answer(request)
            return JSONResponse(dict(read()))
        except _Refused as refused:
            return JSONResponse(dict(refused.said.body), refused.said.status)

    def _payment(self, request: HttpRequest) -> Payment:
        payment = self._ledger.payment(request.path_params["id"])
        if isinstance(payment, Refusal):
            raise _Refused(404, "invalid_request_error", code="resource_missing")
        return payment

    def _told(self, payment: Payment) -> Said:
        intent = _intent(payment)
        kinds = {"succeeded": "succeeded", "requires_capture": "amount_capturable_updated", "canceled": "canceled"}
        kind = kinds.get(intent["status"], "payment_failed" if payment.decline_code else "requires_action")
        self._world.webhooks.tell(f"payment_intent.{kind}", intent)
        if payment.decline_code:
            code = _code(payment.decline_code)
            return Said(402, {"error": {**intent["last_payment_error"], "type": "card_error", "code": code, "payment_intent": intent}})
        return Said(200, intent)


def _check_login(request: HttpRequest) -> None:
    if not request.headers.get("Authorization", "").startswith(("Bearer sk_", "Bearer rk_")):
        raise _Refused(401, "invalid_request_error")


def _asked(form: Mapping[str, str]) -> Request:
    amount, currency = form.get("amount", ""), form.get("currency", "")
    if not (amount.isascii() and amount.isdigit() and 1 <= int(amount) <= 99_999_999):
        raise _Refused(400, "invalid_request_error", code="parameter_invalid_integer", param="amount")
    if not (len(currency) == 3 and currency.isascii() and currency.islower()):
        raise _Refused(400, "invalid_request_error", code="parameter_invalid", param="currency")
    metadata = _metadata(form)
    capture = form.get("capture_method", "automatic") != "manual"
    return Request(int(amount), currency.upper(), form.get("payment_method", ""), metadata.get("order_id", ""), capture, metadata)


def _metadata(form: Mapping[str, str]) -> dict[str, str]:
    return {name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")}


def _status(payment: Payment) -> str:
    if payment.status == "refunded":
        return "succeeded" if payment.captured_minor else "canceled"
    return {
        "succeeded": "succeeded",
        "authorised": "requires_capture",
        "declined": "requires_payment_method",
        "requires_action": "requires_action",
        "cancelled": "canceled",
    }[payment.status]


def _intent(payment: Payment) -> dict[str, Any]:
    status, currency = _status(payment), payment.currency.lower()
    failed = payment.decline_code or None
    url = f"https://bank.example/{payment.id}"
    return {
        "id": payment.id,
        "object": "payment_intent",
        "amount": payment.amount_minor,
        "amount_received": payment.captured_minor,
        "amount_capturable": payment.amount_minor if status == "requires_capture" else 0,
        "currency": currency,
        "status": status,
        "created": int(payment.created_at),
        "metadata": dict(payment.metadata),
        "latest_charge": _charge(payment),
        "last_payment_error": {"code": _code(failed), "decline_code": failed, "message": "declined"} if failed else None,
        "next_action": {"type": "redirect_to_url", "redirect_to_url": {"url": url}} if status == "requires_action" else None,
    }


def _charge(payment: Payment) -> dict[str, Any]:
    """What a capture of a part lets go counts as refunded there, as at Stripe."""
    let_go = payment.amount_minor - payment.captured_minor
    return {
        "id": f"ch_{payment.id}",
        "object": "charge",
        "amount": payment.amount_minor,
        "amount_captured": payment.captured_minor,
        "amount_refunded": payment.refunded_minor + let_go if payment.captured_minor else 0,
        "currency": payment.currency.lower(),
        "payment_intent": payment.id,
        "metadata": dict(payment.metadata),
    }


def _refund(moved: Movement, payment: Payment) -> dict[str, Any]:
    about = {"object": "refund", "amount": moved.amount_minor, "currency": payment.currency.lower(), "payment_intent": payment.id}
    return {"id": moved.id, **about, "status": "succeeded"}


def _code(decline_code: str) -> str:
    return decline_code if decline_code in (*_CODES, "authentication_required") else "card_declined"
