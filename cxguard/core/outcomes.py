"""What a gateway's answer means for the money.

An outcome is a value, never an exception: the shell asks a gateway, `classify` turns whatever came back into one of
these, and the core decides from there. The distinction that everything rests on is *surely not charged* against
*perhaps charged*: a time-out after the request was written is `Unknown`, whatever the library's exception was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias


class DeclineReason(StrEnum):
    """Why the issuer said no, in classes that a shopper may be told."""

    GENERIC = "generic"  # also for lost, stolen and suspected fraud: the shopper is never told which
    FUNDS = "funds"
    EXPIRED = "expired"
    DETAILS = "details"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Charged:
    """The money was taken, or reserved when *captured* is false."""

    amount_minor: int
    currency: str
    payment_id: str = ""
    captured: bool = True


@dataclass(frozen=True, slots=True)
class Declined:
    """The issuer refused. Final for this gateway key."""

    reason: DeclineReason = DeclineReason.GENERIC
    code: str = ""


@dataclass(frozen=True, slots=True)
class NotCharged:
    """Surely not charged *by this send*: refused before it was written, or turned away unprocessed.

    As an answer about a key (`find`, `cancel`, a webhook) it means that no payment exists under the key and none can
    appear any more. A plain "not found" is not that: it is `Unknown("not_found")`.

    Attributes:
        why: a short code or phrase, without personal data.
        retryable: the same gateway may be asked again, under the same key.
        retry_after_seconds: not before so long, by the gateway's or the breaker's own word.
        reroutable: the reason lies with this gateway, so another one may be asked to charge.
    """

    why: str
    retryable: bool = False
    retry_after_seconds: float | None = None
    reroutable: bool = False


@dataclass(frozen=True, slots=True)
class NeedsShopper:
    """The bank wants one more step from the shopper. Unknown until that payment is cancelled or completes."""

    why: str
    resume_url: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A charge may have happened."""

    why: str


@dataclass(frozen=True, slots=True)
class Refunded:
    """Money went back, or a reservation was released (a void)."""

    amount_minor: int
    currency: str
    refund_id: str = ""


OTHER_FIGURES = "asked for"  # how the reason of an `Unknown` begins, when another amount or currency was told than was asked for
CANCELLED = "cancelled"  # why a `NotCharged` that a gateway gives of a payment which can never be charged any more

Outcome: TypeAlias = Charged | Declined | NotCharged | NeedsShopper | Unknown | Refunded

_KINDS: dict[str, type[Any]] = {
    "charged": Charged,
    "declined": Declined,
    "not_charged": NotCharged,
    "needs_shopper": NeedsShopper,
    "unknown": Unknown,
    "refunded": Refunded,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_MEMBERS = {kind: tuple(kind.__dataclass_fields__) for kind in _NAMES}


def outcome_kind(outcome: Outcome) -> str:
    """The outcome's name in records, events and logs: `charged`, `declined`, `not_charged`, ..."""
    return _NAMES[type(outcome)]


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """A plain mapping that `outcome_from_json` reads back."""
    kind = type(outcome)
    return {"kind": _NAMES[kind], **{name: getattr(outcome, name) for name in _MEMBERS[kind]}}


def outcome_from_json(value: Mapping[str, Any]) -> Outcome:
    """Read what `outcome_to_json` wrote. What cannot be read (a kind of a newer version, a member missing or of another
    type) is unknown, so that nothing is charged, and nothing is told, on the strength of it.
    """
    kind = _KINDS.get(str(value.get("kind")))
    if kind is None:
        return _unreadable(value)
    members = {name: value[name] for name in _MEMBERS[kind] if name in value}
    if not _is_whole(members.get("amount_minor", 0)):
        return _unreadable(value)
    if kind is Declined and "reason" in members:
        members["reason"] = _reason(members["reason"])
    try:
        outcome: Outcome = kind(**members)
    except TypeError:  # a member without a default is missing
        return _unreadable(value)
    return outcome


def _unreadable(value: Mapping[str, Any]) -> Unknown:
    return Unknown(why=f"unreadable outcome {str(value.get('kind'))[:40]!r}")


def _is_whole(amount: object) -> bool:
    return isinstance(amount, int) and not isinstance(amount, bool)


def _reason(text: object) -> DeclineReason:
    """A class that only a newer version knows is told as the general one."""
    try:
        return DeclineReason(str(text))
    except ValueError:
        return DeclineReason.GENERIC
