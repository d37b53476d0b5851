"""One order as a person at the desk sees it: what they may do, what they say of it, and what became of what they did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cxguard.core.cards import redact
from cxguard.core.desk import Action, Case, Hands, Offer, Said, keys_for, outcome_of, sayable
from cxguard.core.figures import figures_of
from cxguard.core.money import MoneyState, Note, NoteKind, SendKind
from cxguard.core.operation import Lease, Operation, money_of
from cxguard.core.outcomes import Outcome, outcome_kind

REASON_CHARS_MAX = 500  # a few sentences; they stay in the record
ACTOR_CHARS_MAX = 80
PAYMENT_ID_CHARS_MAX = 120
DESK = "desk:"  # begins the name of every holder and source that is a person


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and why: both are kept in the record.

    Attributes:
        name: as the dashboard's `auth` gave it.
        why: in the person's own words. Card numbers and e-mail addresses in it are blotted out.
        seen: the revision of the record that the person looked at; None: whatever it is now.
    """

    name: str
    why: str
    seen: int | None = None

    @property
    def holder(self) -> str:
        """The name of the person's leases and facts."""
        return DESK + self.name[:ACTOR_CHARS_MAX]

    @property
    def reason(self) -> str:
        """Why, as it may be kept."""
        return redact(" ".join(self.why.split()))[:REASON_CHARS_MAX]


@dataclass(frozen=True, slots=True)
class Word:
    """What a person says became of a payment, with the proof that they saw.

    Attributes:
        payment_id: the gateway's own number of the payment (or refund).
        amount_minor: None: as it was asked for.
        key: which payment, when the order has several.
    """

    said: Said
    payment_id: str = ""
    amount_minor: int | None = None
    currency: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class CaseFile:
    """An order as one person sees it.

    Attributes:
        now: the store's clock.
        doubted: the record may be an older copy of one that knew of a charge.
    """

    operation: Operation
    case: Case
    offers: Mapping[Action, Offer]
    now: float
    doubted: bool = False

    @property
    def lease(self) -> Lease | None:
        """The live lease on it, whoever has it."""
        return self.operation.lease if self.case.hands is not Hands.NOBODY else None


@dataclass(frozen=True, slots=True)
class Became:
    """What became of an action: `done`, or not, and in words why.

    Attributes:
        until: when whoever has the order now must have let go of it, on the store's clock.
    """

    done: bool
    words: str
    operation: Operation
    until: float | None = None


def refused(file: CaseFile, actor: Actor, action: Action) -> Became | None:
    """Why not, before anything is touched."""
    offer = file.offers[action]
    if not offer.allowed:
        until = file.lease.until if file.lease and file.case.hands is Hands.ANOTHER else None
        return Became(False, offer.says, file.operation, until=until)
    if not actor.name.strip():
        return Became(False, "Nobody is named: sign in first.", file.operation)
    if not actor.reason and action is not Action.GIVE_BACK:
        return Became(False, "Say why, in a few words: it stays with the order.", file.operation)
    if action is not Action.REMARK and actor.seen not in (None, file.operation.revision):
        return moved_on(file.operation)
    return None


def hands_of(operation: Operation, *, name: str, now: float) -> Hands:
    lease = operation.lease
    if lease is None or lease.until <= now:
        return Hands.NOBODY
    return Hands.MINE if lease.holder == Actor(name, "").holder else Hands.ANOTHER


def busy(operation: Operation) -> Became:
    until = operation.lease.until if operation.lease else None
    words = "Somebody else has just begun to work on it: nothing was changed. Wait until they are done."
    return Became(False, words, operation, until=until)


def moved_on(operation: Operation) -> Became:
    return Became(False, "The order has changed since you looked: nothing was done. Look at it again.", operation)


def fact_of(file: CaseFile, actor: Actor, word: Word | None, *, now: float) -> Note | Became:
    """The person's word as a note about one gateway key, or why it cannot be one."""
    operation = file.operation
    if word is None or word.said not in sayable(file.case):
        return Became(False, "That cannot be said of its payment as it stands: look again.", operation)
    keys = keys_for(operation, word.said)
    key = word.key or next(iter(keys), "")
    if key not in keys:
        return Became(False, "This order has no such payment: choose one of those on the page.", operation)
    outcome = _outcome(operation, word, key)
    if outcome is None:
        words = "Nobody wrote down how much was charged: say the amount and the currency that the gateway shows."
        return Became(False, words, operation)
    through = max((send.number for send in operation.sends if send.key == key), default=0)
    payment_id = word.payment_id.strip()[:PAYMENT_ID_CHARS_MAX]
    return Note(
        event_id=f"{DESK}{key}:{through}:{outcome_kind(outcome)}:{payment_id}:{getattr(outcome, 'amount_minor', '')}",
        kind=NoteKind.OUTCOME,
        at=now,
        source=actor.holder,
        gateway_key=key,
        outcome=outcome,
        through=through,
        text=actor.reason,
    )


def _outcome(operation: Operation, word: Word, key: str) -> Outcome | None:
    """None: an amount is needed, and neither the person nor the record knows it."""
    send = next((send for send in reversed(operation.sends) if send.key == key), None)
    asked = send.amount_minor if send and send.amount_minor is not None else operation.amount_minor
    if word.said is Said.REFUNDED and (send is None or send.kind is SendKind.CHARGE):
        figures = figures_of(operation.sends, operation.notes, key)
        asked = figures.authorised_minor if figures is not None else asked  # all of it: such a fact is the sum of what went back
    amount_minor = word.amount_minor if word.amount_minor is not None else asked
    currency = word.currency or (send.currency if send else None) or operation.currency or money_of(operation).currency
    needs_amount = word.said in (Said.CHARGED, Said.REFUNDED)
    if needs_amount and (amount_minor is None or amount_minor < 1 or not currency):
        return None
    payment_id = word.payment_id.strip()[:PAYMENT_ID_CHARS_MAX]
    return outcome_of(word.said, amount_minor=amount_minor or 0, currency=currency or "", payment_id=payment_id)


def what_follows(operation: Operation) -> str:
    match operation.money:
        case MoneyState.CHARGED:
            return "It is on record as charged. The queue goes on from there."
        case MoneyState.DECLINED:
            return "It is on record as declined. The queue ends the order, and the shopper's page says so."
        case MoneyState.REFUNDED:
            return "It is on record that the money went back."
        case MoneyState.NONE:
            return "It is on record that nothing was charged. Put it back into the queue, or cancel it."
        case MoneyState.UNKNOWN:
            return "Your word is on record. Another payment of this order is still unknown."
