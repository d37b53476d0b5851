"""What a person may do with an order: which buttons the desk offers, and why not the others.

One pure table over (state, money, who has it in hand, what can be done about it). It refuses what the lease, the moves
or the money forbid, and each refusal says what to do instead.

    take        held and queued ones that nobody works on: a lease of one's own, for as long as a phone call
    requeue     held ones for which the queue has something to do: ask again, place it, or finish a paid one
    resolve     a person brings proof of what became of a payment: it becomes a fact, as a webhook's word would
    finish      paid, and the order was placed by hand
    cancel      at once where surely nothing is charged; otherwise it is asked for, and whoever acts next sees to it
    remark      always: facts need no lease
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cxguard.core.money import Money, MoneyState, SendKind, unanswered
from cxguard.core.operation import RECORD_VERSION, Operation, State, money_of
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Refunded
from cxguard.core.wishes import is_late

WHY_UNPAID = "replay_not_charged"  # why it is held: the shop answered the kept request well, and charged nothing


class Action(StrEnum):
    """What a person can ask for."""

    TAKE = "take"
    GIVE_BACK = "give_back"
    REQUEUE = "requeue"
    RESOLVE = "resolve"
    FINISH = "finish"
    CANCEL = "cancel"
    REMARK = "remark"


class Said(StrEnum):
    """What a person may say became of a payment, with proof from the gateway."""

    CHARGED = "charged"
    DECLINED = "declined"
    NOT_CHARGED = "not_charged"
    REFUNDED = "refunded"


class Hands(StrEnum):
    """Who holds a live lease on the order."""

    NOBODY = "nobody"
    MINE = "mine"
    ANOTHER = "another"


@dataclass(frozen=True, slots=True)
class Case:
    """What the table looks at.

    Attributes:
        refund_due: money has to go back: a second charge, or one that stands on an order that was cancelled.
        refund_pending: a refund was sent and has no answer yet.
        over: the order's own time has passed.
        can_ask: the queue can ask the gateway, or the rule's hook, again.
        can_place: the queue can place it, or complete it when it is paid.
        has_key: there is a payment to speak about.
        readable: it was not written by a newer cxguard.
        is_order: else it is facts alone, about an order that no record knows: no worker ever takes them up.
        late_wish: it was paid and placed before cancelling was asked for.
        unpaid_answer: the shop has placed it without a charge (on invoice, say), or has answered with a sign-in page.
    """

    state: State
    money: MoneyState
    hands: Hands = Hands.NOBODY
    cancel_asked: bool = False
    refund_due: bool = False
    refund_pending: bool = False
    over: bool = False
    can_ask: bool = False
    can_place: bool = False
    has_key: bool = True
    readable: bool = True
    is_order: bool = True
    late_wish: bool = False
    unpaid_answer: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """Whether an action is offered; `says` is what it will do, or why it is not offered and what to do instead."""

    allowed: bool
    says: str


_LIVE = frozenset({State.RUNNING, State.QUEUED, State.HELD})
_NOT_WITH_US = frozenset({MoneyState.NONE, MoneyState.DECLINED, MoneyState.REFUNDED})
_BUSY = "Somebody is working on it: wait until they are done, or ask for it to be cancelled."


def case_of(operation: Operation, *, hands: Hands, can_ask: bool, can_place: bool, now: float) -> Case:
    """Read the record, its money folded anew.

    Args:
        can_ask: the queue takes up orders of its rule, and has somebody to ask.
        can_place: the rule says how an order is placed (or completed) without the shopper.
        now: wall clock, seconds since the epoch.
    """
    money = money_of(operation)
    stands = bool(money.charged_keys)
    cancelled = (operation.cancel_asked and not is_late(operation)) or operation.state is State.CANCELLED
    return Case(
        state=operation.state,
        money=money.state,
        hands=hands,
        cancel_asked=operation.cancel_asked,
        refund_due=len(money.charged_keys) > 1 or (stands and cancelled),
        refund_pending=money.refund_pending,
        over=operation.give_up_at is not None and now >= operation.give_up_at,
        can_ask=can_ask,
        can_place=can_place and (operation.kept or stands),
        has_key=bool(_charge_keys(operation)),
        readable=operation.version <= RECORD_VERSION,
        is_order=bool(operation.rule),
        late_wish=is_late(operation),
        unpaid_answer=operation.state is State.HELD and operation.why == WHY_UNPAID,
    )


def offers(case: Case) -> Mapping[Action, Offer]:
    """Every action, offered or refused with its reason."""
    if not case.readable:
        newer = Offer(False, "A newer cxguard wrote this order: update this one before you act on it.")
        return dict.fromkeys(Action, newer) | {Action.REMARK: _remark()}
    return {
        Action.TAKE: _take(case),
        Action.GIVE_BACK: _give_back(case),
        Action.REQUEUE: _requeue(case),
        Action.RESOLVE: _resolve(case),
        Action.FINISH: _finish(case),
        Action.CANCEL: _cancel(case),
        Action.REMARK: _remark(),
    }


def cancels_at_once(case: Case) -> bool:
    """Whether cancelling is done by the one who asks. Otherwise it is only asked for."""
    return case.state in _LIVE and case.hands is not Hands.ANOTHER and case.money in _NOT_WITH_US and not case.refund_pending


def sayable(case: Case) -> tuple[Said, ...]:
    """What may be said about its payment."""
    if case.refund_pending and case.money is not MoneyState.UNKNOWN:
        return (Said.REFUNDED,)
    match case.money:
        case MoneyState.UNKNOWN:
            return tuple(Said)
        case MoneyState.CHARGED:
            return (Said.REFUNDED,)
        case MoneyState.NONE | MoneyState.DECLINED:
            return (Said.CHARGED,) if case.has_key else ()
        case MoneyState.REFUNDED:
            return ()


def keys_for(operation: Operation, said: Said) -> tuple[str, ...]:
    """The gateway keys that *said* can be about; the first one is meant when a person names none."""
    money = money_of(operation)
    if money.state is MoneyState.UNKNOWN:
        return money.unknown_keys
    if said is Said.REFUNDED:
        return _pending_refunds(operation, money) or money.charged_keys
    return _charge_keys(operation)


def outcome_of(said: Said, *, amount_minor: int, currency: str, payment_id: str, captured: bool = True) -> Outcome:
    """A person's word as an outcome. It speaks about the gateway key, as an answer of the gateway would."""
    match said:
        case Said.CHARGED:
            return Charged(amount_minor, currency, payment_id=payment_id, captured=captured)
        case Said.DECLINED:
            return Declined()
        case Said.NOT_CHARGED:
            return NotCharged(why="a person looked it up")
        case Said.REFUNDED:
            return Refunded(amount_minor, currency, refund_id=payment_id)


def _charge_keys(operation: Operation) -> tuple[str, ...]:
    sent = [send.key for send in operation.sends if send.kind is SendKind.CHARGE]
    told = [note.gateway_key for note in operation.notes if note.gateway_key]
    others = {send.key for send in operation.sends if send.kind is not SendKind.CHARGE}
    return tuple(key for key in dict.fromkeys(reversed(sent + told)) if key not in others)


def _pending_refunds(operation: Operation, money: Money) -> tuple[str, ...]:
    if not money.refund_pending:
        return ()
    back = [send.key for send in operation.sends if send.kind in (SendKind.REFUND, SendKind.VOID)]
    return tuple(key for key in dict.fromkeys(back) if unanswered(operation.sends, operation.notes, key))


# --- one function for each button


def _take(case: Case) -> Offer:
    match case.state:
        case State.RUNNING if case.hands is Hands.NOBODY:
            return Offer(False, "Whoever worked on it has gone: the queue takes it over, and asks about its payment first.")
        case State.RUNNING:
            return Offer(False, _BUSY)
        case State.FINISHED | State.CANCELLED:
            return Offer(False, "It has ended: there is nothing to take in hand.")
        case State.QUEUED | State.HELD:
            pass
    match case.hands:
        case Hands.ANOTHER:
            return Offer(False, _BUSY)
        case Hands.MINE:
            return Offer(True, "You have it in hand. Take it again to keep it longer.")
        case Hands.NOBODY:
            return Offer(True, "Nobody else acts on it while you have it: not the queue, not another person.")


def _give_back(case: Case) -> Offer:
    if case.hands is Hands.MINE:
        return Offer(True, "The queue, or another person, can go on with it.")
    return Offer(False, "You do not have it in hand.")


def _requeue(case: Case) -> Offer:
    if case.state is not State.HELD:
        return Offer(False, "It is not held: only an order that waits for a person is put back.")
    if case.hands is Hands.ANOTHER:
        return Offer(False, _BUSY)
    if case.refund_pending or case.refund_due or case.money is MoneyState.UNKNOWN:
        if case.can_ask:
            return Offer(True, "The queue asks the gateway again, and goes on from what it says. Nothing is charged under another key.")
        return Offer(False, "Nobody can be asked by the queue: look the payment up at the gateway, then say what became of it.")
    match case.money:
        case MoneyState.CHARGED if case.late_wish and case.can_ask:
            return Offer(True, "The money goes back, and the order ends as cancelled: see first that the shop has not sent the goods.")
        case MoneyState.CHARGED if case.late_wish:
            return Offer(False, "Give the money back at the gateway, then say so here; or mark it as placed.")
        case MoneyState.CHARGED:
            if case.can_place:
                return Offer(True, "The queue completes the order. It is paid, and is not charged again.")
            return Offer(False, "It is paid, and nothing here can place it: place it in the shop, then mark it as placed.")
        case MoneyState.NONE:
            return _requeue_unpaid(case)
        case _:
            return Offer(False, "Its payment has its end, so there is nothing to try again: cancel it, and the shopper can order anew.")


def _requeue_unpaid(case: Case) -> Offer:
    if case.cancel_asked:
        return Offer(False, "It was asked to be cancelled: cancel it.")
    if case.over:
        return Offer(False, "Its time is over, so it would not be placed any more: cancel it, and the shopper can order anew.")
    if not case.can_place:
        return Offer(False, "Nothing was kept that it could be placed with: cancel it, and the shopper can order anew.")
    if case.unpaid_answer:
        return Offer(True, "The queue sends the kept request to the shop once more: see first that the shop has not placed it.")
    return Offer(True, "The queue charges and places it, next in turn.")


def _resolve(case: Case) -> Offer:
    if case.hands is Hands.ANOTHER:
        return Offer(False, _BUSY)
    if not sayable(case):
        known = case.money is MoneyState.REFUNDED
        return Offer(False, "The money went back: there is nothing to say any more." if known else "There is no payment to speak about.")
    match case.money:
        case MoneyState.UNKNOWN:
            return Offer(True, "Look the payment up at the gateway, then say what became of it. Your word is kept as proof.")
        case MoneyState.CHARGED | MoneyState.REFUNDED:
            return Offer(True, "Give the money back at the gateway, then say so here.")
        case _:
            return Offer(True, "Only if the gateway shows a charge after all: it becomes a fact, and is given back where it is not wanted.")


def _finish(case: Case) -> Offer:
    if case.state not in (State.QUEUED, State.HELD):
        return Offer(False, "Only an order that is held or queued is closed by hand.")
    if case.hands is Hands.ANOTHER:
        return Offer(False, _BUSY)
    if case.refund_due or case.refund_pending:
        return Offer(False, "Money has to go back first: give it back, then say so.")
    if case.unpaid_answer and case.money is MoneyState.NONE and not case.cancel_asked:
        return Offer(True, "For an order that the shop has placed without a charge here: on invoice, say. The shopper is told so.")
    if case.money is not MoneyState.CHARGED:
        return Offer(False, "It is not known to be paid: only a paid order is marked as placed.")
    return Offer(True, "For an order that you have placed in the shop by hand. The shopper is told that it is placed and paid.")


def _cancel(case: Case) -> Offer:
    if case.state is State.CANCELLED:
        return Offer(False, "It is cancelled.")
    if case.state is State.FINISHED:
        if case.money is MoneyState.CHARGED:
            return Offer(False, "It is placed and paid: give the money back at the gateway, then say so.")
        return Offer(False, "It has ended.")
    if cancels_at_once(case):
        return Offer(True, "It ends here, and the shopper is told. No charge stands.")
    if not case.is_order:
        return Offer(False, "Only facts about a payment are here, and the queue leaves them to you: say first what became of it.")
    if case.late_wish:
        return Offer(False, "It was paid and placed before that was asked: put it back and the money goes back, or mark it as placed.")
    if case.cancel_asked:
        return Offer(False, "It was asked already, and is seen to as soon as that is safe.")
    if case.hands is Hands.ANOTHER:
        return Offer(True, "Whoever works on it is asked to stop. If it is charged by then, the money goes back.")
    if case.money is MoneyState.CHARGED:
        return Offer(True, "The money goes back first, then the order ends.")
    return Offer(True, "It is found out first what became of the payment. Then the order ends, and money that was taken goes back.")


def _remark() -> Offer:
    return Offer(True, "A line for whoever looks at it next.")
