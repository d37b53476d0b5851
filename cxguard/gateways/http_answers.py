"""What an HTTP gateway's answer means: a declarative mapping, and the pure table that reads an answer by it.

The rule behind every cell: *charged*, *declined* and *surely not charged* need the gateway's own clear word. Whatever is
garbled, contradicts itself, or is about another amount, currency or key is `Unknown`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, assert_never

from cxguard.core.outcomes import (
    CANCELLED,
    OTHER_FIGURES,
    Charged,
    Declined,
    DeclineReason,
    NeedsShopper,
    NotCharged,
    Outcome,
    Refunded,
    Unknown,
)
from cxguard.gateways.base import OPERATION_MEMBER, Charge, ListedPayment

WHY_CHARACTERS_MAX = 200
RETRY_AFTER_SECONDS_MAX = 86_400.0
_TIME_MAX = 1e12  # seconds since the epoch: beyond it, or no number, is no time
_ANOTHER_KEY = "the answer is about another key"


class PaymentStatus(StrEnum):
    """What a gateway's word for a payment's status may stand for."""

    CHARGED = "charged"
    AUTHORISED = "authorised"  # reserved, to be captured
    DECLINED = "declined"
    CANCELLED = "cancelled"  # nothing is charged under this key, and nothing can be any more
    REFUNDED = "refunded"  # all of it
    NEEDS_SHOPPER = "needs_shopper"
    PROCESSING = "processing"


_STATUSES = {
    "succeeded": PaymentStatus.CHARGED,
    "authorised": PaymentStatus.AUTHORISED,
    "declined": PaymentStatus.DECLINED,
    "cancelled": PaymentStatus.CANCELLED,
    "refunded": PaymentStatus.REFUNDED,
    "requires_action": PaymentStatus.NEEDS_SHOPPER,
    "processing": PaymentStatus.PROCESSING,
}
_REASONS = {
    "insufficient_funds": DeclineReason.FUNDS,
    "expired_card": DeclineReason.EXPIRED,
    "incorrect_cvc": DeclineReason.DETAILS,
    "incorrect_number": DeclineReason.DETAILS,
    "limit_exceeded": DeclineReason.LIMIT,
}


def charge_members(charge: Charge) -> Mapping[str, Any]:
    """The body of a charge as the default mapping sends it."""
    members = {
        "amount_minor": charge.amount_minor,
        "currency": charge.currency,
        "source": charge.source,
        "reference": charge.order_id,
        "capture": charge.capture,
    }
    return {**members, "metadata": dict(charge.metadata)} if charge.metadata else members


@dataclass(frozen=True, slots=True)
class HttpMapping:
    """Where a gateway's API puts things, and what its words mean. Members are named by dotted paths.

    Attributes:
        find_path: `{key}` and `{payment_id}` in paths are replaced, percent-encoded.
        key_member: where an answer names the key it is about; an answer about another key is `Unknown`.
        captured_member: how much was taken, where the gateway says it: a reservation of which a part was taken is not charged in full.
        statuses: the gateway's words for a payment's status; a word that is not listed is `Unknown`.
        not_charged_codes: error codes by which the gateway says that a key stands for nothing and never will.
        not_found_codes: error codes of a look-up that found nothing (with status 404).
        refused_statuses: HTTP statuses of a request that was not worked on at all: wrong call, login, route.
        list_path: `{since}` and `{until}` are seconds since the epoch, `{after}` is where the last page ended. Empty: the
            gateway does not show its books.
        list_member, next_member, created_member, metadata_member: where a page has its payments and the beginning of the
            next page; where a payment has its time (seconds since the epoch) and what we gave it to carry.
        refuses_before_working: set 429, 503 or both only if the gateway promises that it throttles before any work. A
            503 then counts only with `Retry-After`. Without that promise both are `Unknown`.
    """

    charge_path: str = "/payments"
    find_path: str = "/payments?key={key}"
    cancel_path: str = "/payments/cancel"
    capture_path: str = "/payments/{payment_id}/captures"
    refund_path: str = "/payments/{payment_id}/refunds"
    list_path: str = "/payments/list?since={since}&until={until}&after={after}"
    key_header: str = "Idempotency-Key"
    charge_body: Callable[[Charge], Mapping[str, Any]] = charge_members
    status_member: str = "status"
    id_member: str = "id"
    amount_member: str = "amount_minor"
    captured_member: str = "captured_minor"
    refunded_member: str = "refunded_minor"
    currency_member: str = "currency"
    key_member: str = "key"
    decline_member: str = "decline_code"
    error_member: str = "error.code"
    resume_member: str = "resume_url"
    list_member: str = "payments"
    next_member: str = "next"
    created_member: str = "created_at"
    metadata_member: str = "metadata"
    statuses: Mapping[str, PaymentStatus] = field(default_factory=lambda: _STATUSES)
    decline_reasons: Mapping[str, DeclineReason] = field(default_factory=lambda: _REASONS)
    not_charged_codes: frozenset[str] = frozenset({"key_cancelled"})
    not_found_codes: frozenset[str] = frozenset({"not_found"})
    refused_statuses: frozenset[int] = frozenset({400, 401, 403, 404, 405, 406, 410, 411, 413, 414, 415, 431})
    refuses_before_working: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer. *retry_after* is the header as it came."""

    status: int
    body: bytes
    retry_after: str | None = None


def read_charge(answer: HttpAnswer, *, asked: Charge, key: str, mapping: HttpMapping) -> Outcome:
    """What the answer to a charge means for the money. A `NotCharged` speaks for this send only."""
    turned_away = _turned_away(answer, mapping)
    if turned_away is not None:
        return turned_away
    outcome = _payment(answer, key=key, mapping=mapping)
    if isinstance(outcome, Charged) and (outcome.amount_minor, outcome.currency) != (asked.amount_minor, asked.currency):
        return _differs(asked=(asked.amount_minor, asked.currency), told=(outcome.amount_minor, outcome.currency))
    if answer.status in mapping.refused_statuses:
        return _refused(answer, outcome, mapping)
    return outcome


def read_look_up(answer: HttpAnswer, *, key: str, mapping: HttpMapping) -> Outcome:
    """What the gateway says about *key*. A refusal of the question itself says nothing about the money."""
    if answer.status == 404 and _code(_members(answer), mapping) in mapping.not_found_codes:
        return Unknown("not_found")
    if answer.status in mapping.refused_statuses:
        return Unknown(f"could not ask: {_short(answer)}")
    return _payment(answer, key=key, mapping=mapping)


def read_capture(answer: HttpAnswer, *, amount_minor: int, currency: str, key: str, mapping: HttpMapping) -> Outcome:
    """What the answer to a capture means: `Charged` with what was taken, `NotCharged` if it was refused."""
    code = _code(_members(answer), mapping)
    if answer.status == 422 and code:
        return NotCharged(f"refused: {_short(answer, code)}")
    asked = Charge(amount_minor=amount_minor, currency=currency, source="")
    return read_charge(answer, asked=asked, key=key, mapping=mapping)


def read_refund(answer: HttpAnswer, *, amount_minor: int, currency: str, key: str, mapping: HttpMapping) -> Outcome:
    """What the answer to a refund means: `Refunded` for the amount that was asked, else `NotCharged` or `Unknown`."""
    turned_away = _turned_away(answer, mapping)
    if turned_away is not None:
        return turned_away
    members = _members(answer)
    if answer.status in mapping.refused_statuses or (answer.status == 422 and _code(members, mapping)):
        return NotCharged(f"refused: {_short(answer, _code(members, mapping))}")
    if not 200 <= answer.status < 300 or members is None or _status(members, mapping) is not PaymentStatus.REFUNDED:
        return Unknown(_short(answer, _code(members, mapping)))
    if _about_another(members, key, mapping):
        return Unknown(_ANOTHER_KEY)
    told = (_at(members, mapping.amount_member), _text(members, mapping.currency_member).upper())
    if told != (amount_minor, currency):
        return _differs(asked=(amount_minor, currency), told=told)
    return Refunded(amount_minor, currency, refund_id=str(_at(members, mapping.id_member) or ""))


def read_list(answer: HttpAnswer, *, mapping: HttpMapping) -> tuple[list[ListedPayment], str | None] | None:
    """A page of the gateway's books, and where the next one begins. None: it cannot be read, not even in part."""
    members = _members(answer)
    rows = _at(members, mapping.list_member) if members is not None and answer.status == 200 else None
    if members is None or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    following = _at(members, mapping.next_member)
    return [_listed(row, mapping) for row in rows], str(following) if following else None


def _listed(row: Mapping[str, Any], mapping: HttpMapping) -> ListedPayment:
    status, key, metadata = _status(row, mapping), _text(row, mapping.key_member), _at(row, mapping.metadata_member)
    refunded, created_at = _at(row, mapping.refunded_member), _at(row, mapping.created_member)
    named = metadata.get(OPERATION_MEMBER) if isinstance(metadata, dict) else None
    return ListedPayment(
        payment_id=_text(row, mapping.id_member),
        gateway_key=key,
        operation_id=named if isinstance(named, str) else "",
        outcome=_by_status(status, row, mapping) if status is not None else Unknown("unreadable status"),
        refunded_minor=refunded if _is_amount(refunded) else 0,
        created_at=float(created_at) if isinstance(created_at, int | float) and 0 <= created_at < _TIME_MAX else 0.0,
    )


def _turned_away(answer: HttpAnswer, mapping: HttpMapping) -> NotCharged | None:
    if answer.status not in mapping.refuses_before_working:
        return None
    if answer.status != 429 and answer.retry_after is None:
        return None
    return NotCharged("throttled", retryable=True, retry_after_seconds=_seconds(answer.retry_after), reroutable=True)


def _seconds(retry_after: str | None) -> float | None:
    """Whole seconds; the date form needs a clock and is left to the caller's own backoff."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return min(float(retry_after[:9]), RETRY_AFTER_SECONDS_MAX)


def _payment(answer: HttpAnswer, *, key: str, mapping: HttpMapping) -> Outcome:
    """The payment that the body describes, whatever it was the answer to."""
    if answer.status >= 500 or 300 <= answer.status < 400:
        return Unknown(_short(answer))
    members = _members(answer)
    if members is None:
        return Unknown(f"unreadable answer, {_short(answer)}")
    code = _code(members, mapping)
    if code in mapping.not_charged_codes:
        return NotCharged(code)
    status = _status(members, mapping)
    if status is None:
        return Unknown(f"unreadable status, {_short(answer, code)}")
    if _about_another(members, key, mapping):
        return Unknown(_ANOTHER_KEY)
    return _by_status(status, members, mapping)


def _by_status(status: PaymentStatus, members: Mapping[str, Any], mapping: HttpMapping) -> Outcome:
    match status:
        case PaymentStatus.CHARGED | PaymentStatus.AUTHORISED:
            return _charged(members, mapping, captured=status is PaymentStatus.CHARGED)
        case PaymentStatus.DECLINED:
            code = _text(members, mapping.decline_member)
            return Declined(mapping.decline_reasons.get(code, DeclineReason.GENERIC), code)
        case PaymentStatus.CANCELLED:
            return NotCharged(CANCELLED)
        case PaymentStatus.REFUNDED:
            return _refunded(members, mapping)
        case PaymentStatus.NEEDS_SHOPPER:
            return NeedsShopper("one more step at the bank", resume_url=_text(members, mapping.resume_member))
        case PaymentStatus.PROCESSING:
            return Unknown("processing")
        case _:
            assert_never(status)


def _charged(members: Mapping[str, Any], mapping: HttpMapping, *, captured: bool) -> Outcome:
    amount_minor, currency = _at(members, mapping.amount_member), _at(members, mapping.currency_member)
    if not _is_amount(amount_minor) or not isinstance(currency, str):
        return Unknown("charged, but without a readable amount and currency")
    taken = _at(members, mapping.captured_member)
    in_part = _is_amount(taken) and taken < amount_minor
    return Charged(amount_minor, currency.upper(), payment_id=_text(members, mapping.id_member), captured=captured and not in_part)


def _refunded(members: Mapping[str, Any], mapping: HttpMapping) -> Outcome:
    amount_minor, currency = _at(members, mapping.refunded_member), _at(members, mapping.currency_member)
    if not _is_amount(amount_minor) or not isinstance(currency, str):
        return Unknown("refunded, but without a readable amount and currency")
    return Refunded(amount_minor, currency.upper())


def _refused(answer: HttpAnswer, outcome: Outcome, mapping: HttpMapping) -> Outcome:
    """A refusal whose body nevertheless describes a payment contradicts itself."""
    if isinstance(outcome, NotCharged):
        return outcome
    if isinstance(outcome, Unknown) and _status(_members(answer) or {}, mapping) is None:
        return NotCharged(f"refused: {_short(answer, _code(_members(answer), mapping))}")
    return Unknown(f"contradicts itself, {_short(answer)}")


def _differs(*, asked: tuple[int, str], told: tuple[Any, Any]) -> Unknown:
    return Unknown(f"{OTHER_FIGURES} {asked[0]} {asked[1]}, told {told[0]} {told[1]}"[:WHY_CHARACTERS_MAX])


def _members(answer: HttpAnswer) -> Mapping[str, Any] | None:
    """The JSON object in the body; None for anything else, also for one that names a member twice."""
    try:
        value = json.loads(answer.body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is named twice")
    return members


def _at(members: Mapping[str, Any], path: str) -> Any:
    value: Any = members
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(members: Mapping[str, Any], path: str) -> str:
    value = _at(members, path)
    return value if isinstance(value, str) else ""


def _status(members: Mapping[str, Any], mapping: HttpMapping) -> PaymentStatus | None:
    return mapping.statuses.get(_text(members, mapping.status_member))


def _code(members: Mapping[str, Any] | None, mapping: HttpMapping) -> str:
    return "" if members is None else _text(members, mapping.error_member)


def _about_another(members: Mapping[str, Any], key: str, mapping: HttpMapping) -> bool:
    """A key that is no text is none of ours, either."""
    return _at(members, mapping.key_member) not in (None, "", key)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _short(answer: HttpAnswer, code: str = "") -> str:
    return f"HTTP {answer.status} {code}".rstrip()[:WHY_CHARACTERS_MAX]
