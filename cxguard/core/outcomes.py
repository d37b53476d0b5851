"""What a gateway's answer means for the money.

An outcome is a value, never an exception: the shell asks a gateway, `classify` turns whatever came back into one of
these, and the core decides from there. The distinction that everything rests on is *surely not charged* against
*perhaps charged*: a time-out after the request was written is `Unknown`, whatever the library's exception was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    """

    why: str
    retryable: bool = False
    retry_after_seconds: float | None = None


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


def outcome_kind(outcome: Outcome) -> str:
    """The outcome's name in records, events and logs: `charged`, `declined`, `not_charged`, ..."""
    return _NAMES[type(outcome)]


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """A plain mapping that `outcome_from_json` reads back."""
    return {"kind": outcome_kind(outcome), **asdict(outcome)}


def outcome_from_json(value: Mapping[str, Any]) -> Outcome:
    """Read what `outcome_to_json` wrote; a kind of a newer version reads as unknown, so that nothing is charged on it."""
    kind = _KINDS.get(str(value.get("kind")))
    if kind is None:
        return Unknown(why=f"unreadable outcome {str(value.get('kind'))[:40]!r}")
    fields = {name: value[name] for name in kind.__dataclass_fields__ if name in value}
    if kind is Declined and "reason" in fields:
        fields["reason"] = _reason(fields["reason"])
    outcome: Outcome = kind(**fields)
    return outcome


def _reason(text: str) -> DeclineReason:
    try:
        return DeclineReason(text)
    except ValueError:
        return DeclineReason.GENERIC
