"""The nightly look: the gateway's books against ours. Every difference is a visible break; none is mended by charging.

Source: rule 18 of what is asked of whoever charges later; each side may know of money that the other one does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum

from cxguard.core.figures import ChargeFigures, figures_of
from cxguard.core.money import SendKind
from cxguard.core.operation import Operation, money_of
from cxguard.core.outcomes import Charged, Outcome, Refunded, outcome_kind


class BreakKind(StrEnum):
    """What does not agree."""

    NO_RECORD = "no_record"  # a payment under a key of ours, and nobody knows of its order
    NOT_ON_RECORD = "not_on_record"  # the gateway has a charge that the record does not
    NOT_AT_GATEWAY = "not_at_gateway"  # the record has a charge that the gateway does not
    AMOUNT = "amount"
    REFUND = "refund"  # another sum went back than the record says
    SECOND_CHARGE = "second_charge"  # two charges stand for one order
    UNRESOLVED = "unresolved"  # the record still does not know, and the gateway does


@dataclass(frozen=True, slots=True)
class Break:
    """One difference. *ours* and *theirs* are for people: figures and words, no personal data."""

    kind: BreakKind
    gateway_key: str
    payment_id: str
    reference: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A payment in the gateway's books: its key, what stands there, and what went back."""

    payment_id: str
    gateway_key: str
    outcome: Outcome
    refunded_minor: int = 0
    operation_id: str = ""

    @property
    def stands(self) -> bool:
        return isinstance(self.outcome, Charged)

    def words(self) -> str:
        amount = f" {self.outcome.amount_minor} {self.outcome.currency}" if isinstance(self.outcome, Charged | Refunded) else ""
        back = f", {self.refunded_minor} back" if self.refunded_minor else ""
        return f"{outcome_kind(self.outcome)}{amount}{back}"


def compare(entry: Entry, operation: Operation | None) -> Break | None:
    """What does not agree about one payment of the gateway's; None: all does."""
    if operation is None:
        return _break(BreakKind.NO_RECORD, entry, "", "nothing") if entry.stands or entry.refunded_minor else None
    money = money_of(operation)
    figures = figures_of(operation.sends, operation.notes, entry.gateway_key)
    if entry.gateway_key in money.unknown_keys:
        return _break(BreakKind.UNRESOLVED, entry, operation.reference, "unknown")
    if not entry.stands and not entry.refunded_minor:
        stands = entry.gateway_key in money.charged_keys
        return _break(BreakKind.NOT_AT_GATEWAY, entry, operation.reference, _words(figures)) if stands else None
    if figures is None:
        return _break(BreakKind.NOT_ON_RECORD, entry, operation.reference, _words(figures))
    return _figures_differ(entry, operation, figures)


def _figures_differ(entry: Entry, operation: Operation, figures: ChargeFigures) -> Break | None:
    if isinstance(entry.outcome, Charged) and (entry.outcome.amount_minor, entry.outcome.currency) != (
        figures.authorised_minor,
        figures.currency,
    ):
        return _break(BreakKind.AMOUNT, entry, operation.reference, _words(figures))
    if not money_of(operation).refund_pending and entry.refunded_minor not in (figures.refunded_minor, _back(figures)):
        return _break(BreakKind.REFUND, entry, operation.reference, _words(figures))
    if len(money_of(operation).charged_keys) > 1:
        return _break(BreakKind.SECOND_CHARGE, entry, operation.reference, f"{len(money_of(operation).charged_keys)} charges")
    return None


def _back(figures: ChargeFigures) -> int:
    """What is no longer with us: some gateways count a released reservation as given back."""
    return figures.refunded_minor + figures.released_minor


def more_went_back(entry: Entry, operation: Operation) -> bool:
    """Whether the gateway's books have given back more than the record says: a fact. Less is none: it may not be in yet."""
    figures = figures_of(operation.sends, operation.notes, entry.gateway_key)
    return figures is None or entry.refunded_minor > _back(figures)


def twice_under_one_key(entries: Iterable[Entry]) -> list[tuple[Entry, Break]]:
    """Payments that stand beside an earlier one under the same gateway key: a gateway without keys, or one that forgot them."""
    first: dict[str, Entry] = {}
    found = []
    for entry in entries:
        if entry.stands and first.setdefault(entry.gateway_key, entry) is not entry:
            ours = f"one, which the gateway calls {first[entry.gateway_key].payment_id}"
            found.append((entry, _break(BreakKind.SECOND_CHARGE, entry, "", ours)))
    return found


def missing(operation: Operation, *, gateway: str, listed: Set[str], since: float, until: float) -> list[Break]:
    """Charges of the record, sent to *gateway* in [since, until), that its books do not have."""
    charged = money_of(operation).charged_keys
    sent = {
        send.key for send in operation.sends if send.gateway == gateway and send.kind is SendKind.CHARGE and since <= send.sent_at < until
    }
    return [
        Break(BreakKind.NOT_AT_GATEWAY, key, "", operation.reference, _words(figures_of(operation.sends, operation.notes, key)), "nothing")
        for key in sorted(sent & set(charged))
        if key not in listed
    ]


def _break(kind: BreakKind, entry: Entry, reference: str, ours: str) -> Break:
    return Break(kind, entry.gateway_key, entry.payment_id, reference, ours, entry.words())


def _words(figures: ChargeFigures | None) -> str:
    if figures is None:
        return "no charge"
    back = f", {_back(figures)} back" if _back(figures) else ""
    return f"charged {figures.authorised_minor} {figures.currency}{back}"
