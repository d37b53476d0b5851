"""Which row of the table of answers a record is in, and the word for its money: pure, over every cell.

situation_of            (state, money, whom it waits for, ...) -> situation
money_told              (state, money) -> the member `money`, where a row leaves it to the record
situation_of_operation  both, with everything read from the record
money_told_of
"""

from __future__ import annotations

from collections.abc import Mapping

from cxguard.core.answer import WHY_GAVE_UP, WHY_REPLACED, MoneyTold, Situation
from cxguard.core.asks import ASKS
from cxguard.core.figures import may_all_be_back
from cxguard.core.money import Money, MoneyState
from cxguard.core.operation import Operation, State, WaitingFor, money_of
from cxguard.core.wishes import WHY_BY_HAND, WHY_LATE, is_in_time, is_late, was_placed

_S, _M = Situation, MoneyTold

_OF_RECORD: Mapping[tuple[State, MoneyState], Situation] = {
    (State.RUNNING, MoneyState.NONE): _S.IN_FLIGHT,
    (State.RUNNING, MoneyState.UNKNOWN): _S.UNKNOWN,
    (State.RUNNING, MoneyState.CHARGED): _S.PAID_UNFINISHED,
    (State.RUNNING, MoneyState.DECLINED): _S.DECLINED,
    (State.RUNNING, MoneyState.REFUNDED): _S.REFUNDED,
    (State.QUEUED, MoneyState.NONE): _S.KEPT,
    (State.QUEUED, MoneyState.UNKNOWN): _S.UNKNOWN,
    (State.QUEUED, MoneyState.CHARGED): _S.PAID_UNFINISHED,
    (State.QUEUED, MoneyState.DECLINED): _S.DECLINED,
    (State.QUEUED, MoneyState.REFUNDED): _S.REFUNDED,
    (State.HELD, MoneyState.NONE): _S.HELD,
    (State.HELD, MoneyState.UNKNOWN): _S.HELD,
    (State.HELD, MoneyState.CHARGED): _S.PAID_UNFINISHED,
    (State.HELD, MoneyState.DECLINED): _S.HELD,
    (State.HELD, MoneyState.REFUNDED): _S.REFUNDED,
    (State.FINISHED, MoneyState.NONE): _S.ANSWERED,
    (State.FINISHED, MoneyState.UNKNOWN): _S.UNKNOWN,  # a late fact: it is looked into
    (State.FINISHED, MoneyState.CHARGED): _S.PLACED,
    (State.FINISHED, MoneyState.DECLINED): _S.DECLINED,
    (State.FINISHED, MoneyState.REFUNDED): _S.REFUNDED,
    (State.CANCELLED, MoneyState.NONE): _S.CANCELLED,
    (State.CANCELLED, MoneyState.UNKNOWN): _S.CANCEL_ASKED,  # a late fact: it is looked into, and money goes back
    (State.CANCELLED, MoneyState.CHARGED): _S.REFUND_DUE,
    (State.CANCELLED, MoneyState.DECLINED): _S.CANCELLED,
    (State.CANCELLED, MoneyState.REFUNDED): _S.REFUNDED,
}

_MOVES_UNKNOWN = frozenset({"refund_unknown", "capture_unknown"})  # why it is held: a later movement has no answer
_AT_WORK = frozenset({MoneyState.UNKNOWN, MoneyState.DECLINED})  # not the last word while somebody works on it
_RESERVED = {_S.PLACED: _S.PLACED_RESERVED, _S.PAID_UNFINISHED: _S.RESERVED_UNFINISHED}
_TOLD = {
    MoneyState.NONE: _M.NOT_CHARGED,
    MoneyState.DECLINED: _M.NOT_CHARGED,
    MoneyState.REFUNDED: _M.NOT_CHARGED,
    MoneyState.UNKNOWN: _M.UNKNOWN,
    MoneyState.CHARGED: _M.CHARGED,
}


def situation_of(
    state: State,
    money: MoneyState,
    *,
    waiting_for: WaitingFor | None = None,
    why: str = "",
    cancel_asked: bool = False,
    captured: bool = True,
    has_answer: bool = True,
    kept: bool = True,
    at_work: bool = False,
) -> Situation:
    """What to say about a record. Total: every combination has an answer, and none says more than is known.

    Args:
        captured: false when the charge is only a reservation.
        has_answer: the handler's answer is stored.
        kept: the record will be placed later by itself; a queued one that is not will not.
        at_work: somebody else holds a live lease on it.
    """
    if cancel_asked and (asked := _after_cancel(state, money, why=why)):
        return asked
    if state is State.RUNNING and at_work and money in _AT_WORK:
        return _S.IN_FLIGHT
    situation = _OF_RECORD[state, money]
    match situation:
        case Situation.HELD:
            return _held(money, waiting_for, why=why)
        case Situation.KEPT:
            return _queued(why, kept=kept)
        case Situation.CANCELLED if why == WHY_GAVE_UP:
            return _S.GAVE_UP
        case Situation.ANSWERED if not has_answer and why != WHY_BY_HAND:
            return _S.NOT_KEPT
    return situation if captured else _RESERVED.get(situation, situation)


def situation_of_operation(operation: Operation, *, at_work: bool = False, doubted: bool = False) -> Situation:
    """`situation_of` with everything read from the record, its money folded anew.

    Args:
        doubted: the record may be an older copy (`lost.is_doubted`): its money is not known, whatever it says.
    """
    if doubted and operation.state is State.CANCELLED:
        return _S.UNKNOWN  # a life after that end may be paid: nobody asked for that one to be cancelled
    money = money_of(operation)
    unsure = doubted or (_may_be_gone(operation, money) and not (operation.cancel_asked or operation.state is State.CANCELLED))
    if money.state is MoneyState.CHARGED and _came_to_light(operation):
        return _S.PAID_UNFINISHED if money.captured_minor > 0 else _S.RESERVED_UNFINISHED
    waits_for = operation.waiting_for
    return situation_of(
        State.FINISHED if money.state is MoneyState.CHARGED and _is_moved_on(operation) else operation.state,
        MoneyState.UNKNOWN if unsure else money.state,
        waiting_for=WaitingFor.GATEWAY if doubted and waits_for is WaitingFor.SHOPPER else waits_for,  # a question may be answered
        why=operation.why,
        cancel_asked=operation.cancel_asked,
        captured=money.captured_minor > 0,
        has_answer=operation.answer is not None,
        kept=operation.kept,
        at_work=at_work,
    )


def _may_be_gone(operation: Operation, money: Money) -> bool:
    """Whether all of it is on its way back, without an answer: it may be paid still, or no more."""
    return money.refund_pending and may_all_be_back(operation.sends, operation.notes, money.charged_keys)


def _came_to_light(operation: Operation) -> bool:
    """Whether it ended well or declined, and only a fact since then tells of the charge: nobody has placed it yet."""
    over = operation.state is State.FINISHED and not operation.cancel_asked
    return over and operation.money is not MoneyState.CHARGED and operation.notes_seen < len(operation.notes)


def _is_moved_on(operation: Operation) -> bool:
    """Whether it is paid and placed, and held only because nobody knows what became of a part that was given back or taken since."""
    held = operation.state is State.HELD and operation.why in _MOVES_UNKNOWN
    return held and was_placed(operation) and not is_in_time(operation)


def money_told(state: State, money: MoneyState) -> MoneyTold:
    """The word for a record's money. While it runs a charge may leave at any moment: then nothing is surely not charged."""
    told = _TOLD[money]
    return _M.UNKNOWN if state is State.RUNNING and told is _M.NOT_CHARGED else told


def money_told_of(operation: Operation, *, doubted: bool = False) -> MoneyTold:
    """`money_told` with everything read from the record, likewise. While all of it is to be given back, it may be there or not: a
    refund may also be on its way from writes that the store has lost."""
    money = money_of(operation)
    stands = operation.state is State.FINISHED or is_late(operation)
    due_back = money.refund_pending or (money.state is MoneyState.CHARGED and not stands)
    going_back = due_back and (operation.cancel_asked or operation.state is State.CANCELLED)
    return _M.UNKNOWN if doubted or going_back or _may_be_gone(operation, money) else money_told(operation.state, money.state)


def _after_cancel(state: State, money: MoneyState, *, why: str) -> Situation | None:
    """What a wish to cancel changes; None: nothing, because the order has its end."""
    if state is State.FINISHED:
        open_wish = money is MoneyState.UNKNOWN or (money is MoneyState.CHARGED and why != WHY_BY_HAND)
        return _S.CANCEL_ASKED if open_wish else None
    if state is State.CANCELLED:
        return None
    if state is State.HELD and why == WHY_LATE and money is MoneyState.CHARGED:
        return _S.CANCEL_ASKED  # nobody has promised to give it back
    return {MoneyState.CHARGED: _S.REFUND_DUE, MoneyState.REFUNDED: _S.REFUNDED}.get(money, _S.CANCEL_ASKED)


def _held(money: MoneyState, waiting_for: WaitingFor | None, *, why: str) -> Situation:
    if waiting_for is WaitingFor.SHOPPER:
        if why in ASKS and money is not MoneyState.UNKNOWN:
            return _S.SHOPPER_ASKED
        return _S.DECLINED if money is MoneyState.DECLINED else _S.NEEDS_SHOPPER
    if waiting_for is WaitingFor.GATEWAY and money is MoneyState.UNKNOWN:
        return _S.UNKNOWN
    return _S.HELD


def _queued(why: str, *, kept: bool) -> Situation:
    if not kept:
        return _S.NOT_KEPT
    return _S.REPLACED if why == WHY_REPLACED else _S.KEPT
