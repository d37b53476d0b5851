"""The desk's words: states, reasons, money and the timeline, as a person reads them. Pure; plain text, never markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cxguard.core.money import Money, MoneyState, Note, NoteKind, Send, SendKind
from cxguard.core.operation import Entry, Operation, State, WaitingFor
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.engine.casefile import DESK
from cxguard.render.figures import format_amount

LOCALE = "en"  # of the desk itself; shoppers are told in their own
STATE_WORDS: Mapping[State, str] = {
    State.RUNNING: "Running",
    State.QUEUED: "Queued",
    State.HELD: "Held",
    State.FINISHED: "Finished",
    State.CANCELLED: "Cancelled",
}
MONEY_WORDS: Mapping[MoneyState, str] = {
    MoneyState.UNKNOWN: "Unknown",
    MoneyState.NONE: "Not charged",
    MoneyState.CHARGED: "Charged",
    MoneyState.DECLINED: "Declined",
    MoneyState.REFUNDED: "Refunded",
}
MAY_BE_OLDER = "Nobody knows whether it was charged: the store has lost its last writes, and this may be an older copy. Ask the gateway."
_WAITING: Mapping[WaitingFor, str] = {
    WaitingFor.AGENT: "a person",
    WaitingFor.SHOPPER: "the shopper",
    WaitingFor.GATEWAY: "the gateway",
}
_WHY: Mapping[str, str] = {
    "amount_differs": "another amount was charged than asked for",
    "answered_not_confirmed": "the shop answered, and did not confirm it",
    "attempts_over": "tried too often",
    "cancel_asked": "cancelling was asked for",
    "cancelled_by_hand": "cancelled at the desk",
    "card_declined": "declined while the shopper was away: another card is asked for",
    "cannot_replay": "the kept request cannot be run again here",
    "consent_ended": "what the shopper agreed to has ended",
    "claimed_there": "moved to a store that had another order of the same purchase: which one stands?",
    "charge_unknown": "the charge has no answer",
    "charged_after_end": "a charge came to light after the order had ended",
    "declined": "declined by the issuer",
    "duties_circle": "the queue went in circles",
    "failed_after_answer": "the shop failed after it had answered",
    "gateway_busy": "too many calls to the gateway at once",
    "gateway_down": "the gateway was down",
    "gave_up": "its time was over",
    "charge_not_awaited": "the shop's code did not await its charge",
    "later_failed": "the shop's code could not place it",
    "needs_shopper": "one more step at the bank",
    "no_consent": "the shopper has not agreed to be charged later",
    "order_changed": "the order is not the same any more: the shopper is asked",
    "try_failed": "its shopper went on with it, and nothing was charged: they may try again",
    "price_up": "it costs more now: the shopper is asked",
    "quote_ended": "the price held no longer: the shopper is asked",
    "lower_price_cannot_replay": "it costs less now, and the kept request names the old price",
    "step_mismatch": "the shop's code asked for other figures than were accepted",
    "stopped": "the shop stopped it",
    "out_of_stock": "out of stock",
    "not_charged": "surely not charged: what now?",
    "not_kept": "nothing was kept to place it with",
    "order_missing": "paid, and the order is not placed",
    "over_consent": "more than the shopper agreed to",
    "placed_by_hand": "placed by hand",
    "refund_due": "money has to go back",
    "refund_failed": "money went back, and the bank returned it",
    "refund_unknown": "the refund has no answer",
    "replaced": "the shopper changed the basket",
    "replay_not_charged": "the shop answered the kept request, and charged nothing: is it placed?",
    "replay_not_signed_in": "the shop asked to sign in",
    "requeued": "put back at the desk",
    "result_not_kept": "done, and its result was not kept",
    "same_as": "another order has its purchase",
    "step_unfinished": "a step began and has no end",
    "unknown_operation": "a payment of an order that is not known here",
    "unknown_unresolved": "the gateway could not say, many times",
    "workers_died": "each process that had it died with it: look at what its code does before you put it back",
}


def amount_words(amount_minor: int | None, currency: str | None) -> str:
    """`€49.99`; nothing when the amount is not known."""
    return format_amount(amount_minor, currency, locale=LOCALE) if amount_minor is not None and currency else ""


def why_words(why: str) -> str:
    """A reason's code in words; a code that is not in the table is read as it is."""
    return _WHY.get(why, why if " " in why else why.replace("_", " "))


def state_words(operation: Operation) -> str:
    """`Held for a person`, `Queued`."""
    if operation.state is State.HELD and operation.waiting_for is not None:
        return f"Held for {_WAITING[operation.waiting_for]}"
    return STATE_WORDS[operation.state]


def person_of(holder: str) -> str:
    """The name behind a holder or a source, when it is a person at the desk; else nothing."""
    return holder.removeprefix(DESK) if holder.startswith(DESK) else ""


def holder_words(holder: str) -> str:
    """Who holds a lease: a person, or a process of the shop."""
    return person_of(holder) or f"process {holder}"


# --- the money


def money_sentence(operation: Operation, money: Money) -> str:
    """Where the money is, in one or two sentences with exact figures."""
    asked = amount_words(operation.amount_minor, operation.currency)
    pending = " A refund is on its way and has no answer yet." if money.refund_pending else ""
    match money.state:
        case MoneyState.NONE:
            return _nothing_charged(operation, asked) + pending
        case MoneyState.UNKNOWN:
            of = f" of {asked}" if asked else ""
            return f"A charge{of} may have happened. Nothing is charged by another way until that is known.{pending}"
        case MoneyState.CHARGED:
            return _charged(money) + pending
        case MoneyState.DECLINED:
            return f"The issuer declined. Nothing was charged.{pending}"
        case MoneyState.REFUNDED:
            return f"{amount_words(money.refunded_minor, money.currency) or 'All of it'} went back. No charge stands.{pending}"


def _nothing_charged(operation: Operation, asked: str) -> str:
    if operation.state is State.QUEUED and operation.kept and asked:
        return f"Surely not charged. {asked} is to be charged when the order is placed."
    return "Surely not charged."


def _charged(money: Money) -> str:
    parts = []
    if money.captured_minor:
        parts.append(f"{amount_words(money.captured_minor, money.currency)} was charged.")
    if money.authorised_minor:
        parts.append(f"{amount_words(money.authorised_minor, money.currency)} is reserved, and not taken yet.")
    if money.refunded_minor:
        parts.append(f"{amount_words(money.refunded_minor, money.currency)} of it went back.")
    if len(money.charged_keys) > 1:
        parts.append(f"{len(money.charged_keys)} charges stand: all but one have to go back.")
    return " ".join(parts) or "Charged; nobody wrote down how much."


def outcome_words(outcome: Outcome | None) -> str:
    """An answer in words: `declined (funds)`."""
    match outcome:
        case Charged():
            amount = amount_words(outcome.amount_minor, outcome.currency)
            taken = "charged" if outcome.captured else "reserved"
            return " ".join(part for part in (taken, amount, f"(payment {outcome.payment_id})" if outcome.payment_id else "") if part)
        case Declined():
            return f"declined ({outcome.reason.value})"
        case NotCharged():
            return f"not charged ({why_words(outcome.why)})"
        case NeedsShopper():
            return "waits for the shopper at the bank"
        case Unknown():
            return f"no word yet ({outcome.why})" if outcome.why else "no word yet"
        case Refunded():
            number = f" (refund {outcome.refund_id})" if outcome.refund_id else ""
            return f"gave back {amount_words(outcome.amount_minor, outcome.currency)}{number}"
        case None:
            return ""


# --- the timeline


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline. `who` is a person, or nobody; `quote` is in somebody's own words."""

    at: float
    text: str
    who: str = ""
    quote: str = ""
    tone: str = "plain"


def timeline(operation: Operation) -> tuple[Moment, ...]:
    """Everything that happened, newest first: the record's history, and the facts that came without a lease."""
    began = Moment(operation.created_at, "Order opened" if operation.rule else "A fact about an order that is not known here")
    lines = [_entry(entry) for entry in operation.history if not _told_by_note(entry)]
    facts = [_note(note) for note in operation.notes]
    opened = [] if any(entry.event == "operation.opened" and entry.at <= operation.created_at for entry in operation.history) else [began]
    return tuple(sorted((*opened, *lines, *facts), key=lambda moment: moment.at, reverse=True))


def _told_by_note(entry: Entry) -> bool:
    """A person's word about a payment stands there as a fact already, with its proof."""
    return entry.event == "payment.resolved" and bool(person_of(entry.by))


def _entry(entry: Entry) -> Moment:
    detail = entry.detail
    words = _EVENT_WORDS.get(entry.event)
    text = words(detail) if words else entry.event.replace(".", " ").replace("_", " ").capitalize()
    return Moment(entry.at, text, person_of(entry.by), str(detail.get("reason", "")), _TONES.get(entry.event, "plain"))


def _note(note: Note) -> Moment:
    who = person_of(note.source)
    match note.kind:
        case NoteKind.OUTCOME:
            began = "Said at the desk" if who else f"Told by {note.source or 'somebody'}"
            tone = "good" if isinstance(note.outcome, Charged) else "plain"
            return Moment(note.at, f"{began}: {outcome_words(note.outcome)}", who, note.text, tone)
        case NoteKind.CANCEL:
            return Moment(note.at, "Cancelling was asked for", who or note.source, note.text, "care")
        case NoteKind.SERVED:
            return Moment(note.at, "The shopper saw the confirmation page", tone="good")
        case NoteKind.REMARK:
            return Moment(note.at, "Remark", who or note.source, note.text)


def _because(detail: Mapping[str, Any]) -> str:
    why = str(detail.get("why", ""))
    return f": {why_words(why)}" if why else ""


def _sent(detail: Mapping[str, Any]) -> str:
    verb = _SEND_VERBS.get(str(detail.get("kind", "")), "Asked")
    return f"{verb} {detail.get('gateway', 'the gateway')} (send {detail.get('number', '?')})"


def _answered(detail: Mapping[str, Any]) -> str:
    why = str(detail.get("why", ""))
    told = str(detail.get("outcome", "")).replace("_", " ")
    return f"{detail.get('gateway', 'The gateway')} answered: {told}{f' ({why_words(why)})' if why else ''}"


def _looked(detail: Mapping[str, Any]) -> str:
    told = str(detail.get("outcome", "")).replace("_", " ")
    return f"Asked what became of it ({detail.get('source', 'gateway')}): {told}{_because(detail)}"


_SEND_VERBS = {"charge": "Charge sent to", "capture": "Capture sent to", "void": "Void sent to", "refund": "Refund sent to"}
_EVENT_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "operation.opened": lambda detail: f"Opened again (life {detail.get('generation', '?')})",
    "operation.finished": lambda detail: f"Finished{_because(detail)}",
    "operation.released": lambda detail: f"Let go{_because(detail)}",
    "operation.flagged": lambda detail: f"Flagged for a look{_because(detail)}",
    "order.queued": lambda detail: f"Kept in the queue{_because(detail)}",
    "order.placed": lambda detail: "Placed and paid",
    "order.cancelled": lambda detail: f"Cancelled{_because(detail)}",
    "order.held": lambda detail: f"Held{_because(detail)}",
    "order.requeued": lambda detail: "Put back into the queue",
    "order.taken": lambda detail: "Taken in hand",
    "order.given_back": lambda detail: "Given back",
    "payment.sent": _sent,
    "payment.answered": _answered,
    "payment.looked_up": _looked,
    "payment.looked_for_lost": lambda detail: f"The store had lost writes: asked whether this was paid ({detail.get('outcome', '')})",
    "payment.refunded": lambda detail: "Money went back",
    "step.finished": lambda detail: f"Step done: {detail.get('name', '')}",
}
_TONES = {
    "operation.finished": "good",
    "order.placed": "good",
    "order.held": "bad",
    "order.queued": "wait",
    "order.cancelled": "plain",
    "payment.sent": "wait",
    "operation.flagged": "bad",
}


# --- sends


@dataclass(frozen=True, slots=True)
class SendLine:
    """One line of the table of sends."""

    number: str
    what: str
    gateway: str
    key: str
    amount: str
    at: float
    answer: str
    open: bool


def send_lines(sends: Iterable[Send]) -> tuple[SendLine, ...]:
    """Every call to a gateway that may have moved money, in their order."""
    return tuple(
        SendLine(
            number=str(send.number),
            what={SendKind.CHARGE: "Charge", SendKind.CAPTURE: "Capture", SendKind.VOID: "Void", SendKind.REFUND: "Refund"}[send.kind],
            gateway="the shop's own code" if send.gateway == "shop" else send.gateway,
            key=send.key,
            amount=amount_words(send.amount_minor, send.currency),
            at=send.sent_at,
            answer=outcome_words(send.outcome),
            open=isinstance(send.outcome, Unknown | NeedsShopper),
        )
        for send in sends
    )
