"""The gateway's HTTP API. What it says is only ever read from its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxguard.demo.gateway.control import control_routes
from cxguard.demo.gateway.faults import FaultMode
from cxguard.demo.gateway.ledger import Entered, Ledger, Movement, Payment, Refusal, Request, decline_code
from cxguard.demo.gateway.spoiling import never_answer, spoilt
from cxguard.demo.gateway.stripe_face import stripe_routes
from cxguard.demo.gateway.world import World

AMOUNT_MINOR_MAX = 100_000_000
KEY_CHARACTERS_MAX = 255
PAGE = 100
METADATA_MAX = 50


class _Bad(Exception):
    """The request cannot be worked on: nothing was done."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def make_gateway(ledger: Ledger, world: World) -> Starlette:
    """The gateway as an ASGI app: payments for shops, the ledger for judges, the control page for whoever breaks it."""
    api = _Api(ledger, world)
    routes = [
        Route("/payments", api.charge, methods=["POST"]),
        Route("/payments", api.find, methods=["GET"]),
        Route("/payments/list", api.listed, methods=["GET"]),
        Route("/payments/cancel", api.cancel, methods=["POST"]),
        Route("/payments/{id}", api.payment, methods=["GET"]),
        Route("/payments/{id}/captures", api.capture, methods=["POST"]),
        Route("/payments/{id}/refunds", api.refund, methods=["POST"]),
        Route("/ledger", api.everything, methods=["GET"]),
        *stripe_routes(ledger, world),
        *control_routes(world),
    ]
    return Starlette(routes=routes, exception_handlers={_Bad: _bad})


class _Api:
    def __init__(self, ledger: Ledger, world: World) -> None:
        self._ledger = ledger
        self._world = world

    async def charge(self, request: HttpRequest) -> Response:
        asked, key = _asked(await _members(request)), _key(request)
        declined = decline_code(asked.source)
        if declined is None:
            raise _Bad("unknown_source")
        mode = self._world.mode
        send = self._ledger.received(asked, key=key, mode=mode)
        stopped = await self._before(mode, request)
        if stopped is not None:
            return stopped
        if self._world.hold.before_charge:
            await self._world.hold.stop_here(f"send {send}")
        if mode is FaultMode.DECLINE:
            declined = "card_declined"
        if mode is FaultMode.LATE:
            self._world.land_late(lambda: self._ledger.charge(asked, key=key, send=send, declined=declined))
            return await never_answer(request)
        result = self._ledger.charge(asked, key=key, send=send, declined=declined)
        if isinstance(result, Entered) and not self._world.hold.before_charge:
            await self._world.hold.stop_here(result.payment.id)
        return await spoilt(mode, request) or _told(result)

    async def find(self, request: HttpRequest) -> Response:
        stopped = await self._before_lookup(request)
        return stopped or _payment_answer(self._ledger.by_key(request.query_params.get("key", "")))

    async def listed(self, request: HttpRequest) -> Response:
        """A page of payments, newest first; `next` is where the following page begins."""
        stopped = await self._before_lookup(request)
        if stopped is not None:
            return stopped
        asked = request.query_params
        since, until = float(asked.get("since", "0")), float(asked.get("until", "1e12"))
        payments = self._ledger.newest(since=since, until=until, after=asked.get("after", ""), limit=PAGE + 1)
        page, more = payments[:PAGE], len(payments) > PAGE
        return JSONResponse({"payments": [asdict(each) for each in page], "next": page[-1].id if more else None})

    async def payment(self, request: HttpRequest) -> Response:
        stopped = await self._before_lookup(request)
        return stopped or _payment_answer(self._ledger.payment(request.path_params["id"]))

    async def cancel(self, request: HttpRequest) -> Response:
        key = (await _members(request)).get("key")
        if not isinstance(key, str) or not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            raise _Bad("invalid_request")
        stopped = await self._before_lookup(request)
        if stopped is not None:
            return stopped
        if not self._ledger.keyed:
            return _error(501, "keys_are_off")
        found = self._ledger.cancel(key)
        return JSONResponse({"status": "cancelled", "key": key}) if found is Refusal.KEY_CANCELLED else _payment_answer(found)

    async def capture(self, request: HttpRequest) -> Response:
        return await self._move(request, self._ledger.capture)

    async def refund(self, request: HttpRequest) -> Response:
        return await self._move(request, self._ledger.refund)

    async def everything(self, request: HttpRequest) -> Response:
        return JSONResponse(self._ledger.everything())

    async def _move(self, request: HttpRequest, move: Any) -> Response:
        members, key, mode = await _members(request), _key(request), self._world.mode
        amount_minor = _amount(members)
        stopped = await self._before(mode, request)
        if stopped is not None:
            return stopped
        payment = self._ledger.payment(request.path_params["id"])
        if isinstance(payment, Refusal):
            return _error(404, payment)
        if members.get("currency") != payment.currency:
            raise _Bad("currency_differs")
        moved = move(payment.id, key=key, amount_minor=amount_minor)
        return await spoilt(mode, request) or _moved(moved, currency=payment.currency)

    async def _before(self, mode: FaultMode, request: HttpRequest) -> Response | None:
        """The faults that strike before any work; None when the work may begin."""
        match mode:
            case FaultMode.ERROR | FaultMode.REFUSE:
                return _error(500, "internal_error")
            case FaultMode.TIME_OUT_BEFORE:
                return await never_answer(request)
            case FaultMode.SLOW:
                await asyncio.sleep(self._world.slow_seconds)
                return None
            case FaultMode.THROTTLE:
                return JSONResponse({"error": {"code": "too_many"}}, 429, headers={"Retry-After": "1"})
            case _:  # the others charge first
                return None

    async def _before_lookup(self, request: HttpRequest) -> Response | None:
        mode = self._world.mode
        if mode in (FaultMode.ERROR, FaultMode.REFUSE):
            return _error(500, "internal_error")
        if not self._world.lookups_too:
            return None
        if mode in (FaultMode.TIME_OUT_BEFORE, FaultMode.TIME_OUT_AFTER):
            return await never_answer(request)
        return await self._before(mode, request)


async def _members(request: HttpRequest) -> Mapping[str, Any]:
    try:
        members = await request.json()
    except ValueError:
        raise _Bad("invalid_json") from None
    if not isinstance(members, dict):
        raise _Bad("invalid_json")
    return members


def _asked(members: Mapping[str, Any]) -> Request:
    currency, source, reference = members.get("currency"), members.get("source"), members.get("reference", "")
    capture, metadata = members.get("capture", True), members.get("metadata", {})
    if not (isinstance(currency, str) and len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise _Bad("invalid_currency")
    if not (isinstance(source, str) and isinstance(reference, str) and isinstance(capture, bool) and _is_text(metadata)):
        raise _Bad("invalid_request")
    return Request(_amount(members), currency, source, reference[:255], capture, metadata)


def _is_text(metadata: Any) -> bool:
    return isinstance(metadata, dict) and len(metadata) <= METADATA_MAX and all(isinstance(each, str) for each in metadata.values())


def _amount(members: Mapping[str, Any]) -> int:
    amount_minor = members.get("amount_minor")
    if not isinstance(amount_minor, int) or isinstance(amount_minor, bool) or not 1 <= amount_minor <= AMOUNT_MINOR_MAX:
        raise _Bad("invalid_amount")
    return amount_minor


def _key(request: HttpRequest) -> str | None:
    keys = request.headers.getlist("Idempotency-Key")
    if not keys:
        return None
    if len(keys) > 1 or not 1 <= len(keys[0]) <= KEY_CHARACTERS_MAX:
        raise _Bad("invalid_key")
    return keys[0]


def _told(result: Entered | Refusal) -> Response:
    if isinstance(result, Refusal):
        return _error(409 if result is Refusal.KEY_CANCELLED else 422, result)
    status = 402 if result.payment.status == "declined" else 201 if result.new else 200
    return JSONResponse(asdict(result.payment), status, headers={} if result.new else {"Idempotency-Replayed": "true"})


def _payment_answer(payment: Payment | Refusal) -> Response:
    match payment:
        case Payment():
            return JSONResponse(asdict(payment))
        case Refusal.KEY_CANCELLED:
            return JSONResponse({"status": "cancelled"})
        case _:
            return _error(404, payment)


def _moved(moved: Movement | Refusal, *, currency: str) -> Response:
    if isinstance(moved, Refusal):
        return _error(404 if moved is Refusal.NOT_FOUND else 422, moved)
    status = {"capture": "succeeded", "refund": "refunded"}[moved.kind]
    return JSONResponse({**asdict(moved), "status": status, "currency": currency}, 201)


def _error(status: int, code: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code}}, status)


async def _bad(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, _Bad)
    return _error(400, error.code)
