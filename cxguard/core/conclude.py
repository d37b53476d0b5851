"""How a run ends: from the folded money, what the handler said, and whether the order may be kept.

The record speaks, not the handler: a handler that says "declined" over money that is charged or unknown is not let
through, and neither is one that says "thank you" over money that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cxguard.core.asks import CARD_DECLINED, TRY_FAILED
from cxguard.core.decide import DECLINED_UNSEEN
from cxguard.core.money import Money, MoneyState
from cxguard.core.reading import Reading


class Ending(StrEnum):
    """What becomes of the work."""

    FINISH = "finish"
    RELEASE = "release"  # nothing was charged: the key is free
    DEFER = "defer"  # queued: a worker resolves it, or places it
    HOLD = "hold"  # a person, the shopper, or proof


class Say(StrEnum):
    """What the shopper is told."""

    HANDLER = "handler"  # the handler's own answer, byte for byte
    DECLINED = "declined"
    NEEDS_SHOPPER = "needs_shopper"
    KEPT = "kept"
    NOT_KEPT = "not_kept"
    UNKNOWN = "unknown"
    REFUNDED = "refunded"
    PAID_UNFINISHED = "paid_unfinished"
    HELD = "held"
    CANCEL_ASKED = "cancel_asked"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How to end the run and what to say. `why` is a short code for the record and the timeline."""

    ending: Ending
    say: Say
    why: str = ""
    waiting_for_shopper: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What is known when a run has ended.

    Attributes:
        reading: what the handler's answer means; None when there is no handler (a script).
        deferred: why `op.charge` could not charge although nothing was sent (`gateway_down`, ...), or "".
        needs_shopper: the last word of the gateway was "one more step at the bank".
        asks: what is to be charged is not covered by what the shopper agreed to, so the shopper is asked.
        may_ask: it was accepted, its shopper is away, and has a page to go on with it.
        falls_back: its shopper went on with it by their link, and may do so again.
        may_keep: the rule has `later`, the shopper can be told, and the request may be kept.
        has_later: the rule has `later`: an order that is paid can be completed without the shopper.
        can_resolve: somebody can be asked what became of an unknown.
        has_steps: steps of the operation have run and must not run again.
        raised_after: the handler failed after it had given a good answer.
        cancel_asked: the shopper wanted out while it ran.
        hold: why only a person can go on (a step without a recorded end, ...), or "".
    """

    money: Money
    reading: Reading | None
    deferred: str = ""
    needs_shopper: bool = False
    asks: bool = False
    may_ask: bool = False
    falls_back: bool = False
    may_keep: bool = False
    has_later: bool = False
    can_resolve: bool = False
    has_steps: bool = False
    raised_after: bool = False
    hold: str = ""
    cancel_asked: bool = False


def conclude(run: Run) -> Conclusion:
    """How *run* ends. Every cell of (money, reading) is a row of the tests."""
    match run.money.state:
        case MoneyState.UNKNOWN:
            return _unknown(run)
        case MoneyState.CHARGED:
            return _charged(run)
        case MoneyState.DECLINED:
            return _declined(run)
        case MoneyState.REFUNDED:
            return _refunded(run)
        case MoneyState.NONE:
            return _nothing_charged(run)


def _unknown(run: Run) -> Conclusion:
    if run.needs_shopper:
        return Conclusion(Ending.HOLD, Say.NEEDS_SHOPPER, "needs_shopper", waiting_for_shopper=True)
    if run.can_resolve:
        return Conclusion(Ending.DEFER, Say.UNKNOWN, "charge_unknown")
    return Conclusion(Ending.HOLD, Say.UNKNOWN, "charge_unknown")


def _charged(run: Run) -> Conclusion:
    if run.hold:
        return Conclusion(Ending.HOLD, Say.PAID_UNFINISHED, run.hold)
    if run.cancel_asked:  # it came too late to stop the charge, and in time to give it back
        return Conclusion(Ending.DEFER, Say.CANCEL_ASKED, "cancel_asked")
    if run.reading is Reading.SUCCEEDED and not run.raised_after:
        return Conclusion(Ending.FINISH, Say.HANDLER)
    if run.raised_after:
        return Conclusion(Ending.HOLD, Say.PAID_UNFINISHED, "failed_after_answer")
    if run.has_later:
        return Conclusion(Ending.DEFER, Say.PAID_UNFINISHED, "order_missing")
    return Conclusion(Ending.HOLD, Say.PAID_UNFINISHED, "order_missing")


def _declined(run: Run) -> Conclusion:
    """A handler that answers a decline with success is corrected: to a front end that would be "paid"."""
    if run.may_ask and not run.cancel_asked:
        return Conclusion(Ending.HOLD, Say.DECLINED, CARD_DECLINED, waiting_for_shopper=True)
    if run.reading in (Reading.DECLINED, Reading.REJECTED) and not run.raised_after:
        return Conclusion(Ending.FINISH, Say.HANDLER, "declined")
    return Conclusion(Ending.FINISH, Say.DECLINED, "declined")


def _refunded(run: Run) -> Conclusion:
    """It was charged and went back while the run was on its way: whatever the handler says, it is over, and stays on record."""
    if run.hold:
        return Conclusion(Ending.HOLD, Say.HELD, run.hold)
    return Conclusion(Ending.FINISH, Say.REFUNDED, "refunded")


def _nothing_charged(run: Run) -> Conclusion:
    if run.hold:
        return Conclusion(Ending.HOLD, Say.HELD, run.hold)
    if run.asks:
        return Conclusion(Ending.HOLD, Say.NEEDS_SHOPPER, run.deferred, waiting_for_shopper=True)
    if run.deferred:
        if run.may_keep:
            return Conclusion(Ending.DEFER, Say.KEPT, run.deferred)
        return _freed(run, Say.NOT_KEPT, run.deferred)
    if run.reading is Reading.SUCCEEDED and run.raised_after:  # what it did may stand, and its answer may have gone out
        return Conclusion(Ending.HOLD, Say.HELD, "failed_after_answer")
    if run.reading is Reading.SUCCEEDED:
        return Conclusion(Ending.FINISH, Say.HANDLER)
    if run.reading is Reading.DECLINED:  # by a gateway that its own code has asked, under our key maybe
        return _freed(run, Say.HANDLER, DECLINED_UNSEEN)
    if run.reading is Reading.REJECTED:
        return _freed(run, Say.HANDLER, "rejected")
    return _freed(run, Say.NOT_KEPT, "failed")


def _freed(run: Run, say: Say, why: str) -> Conclusion:
    """Steps that have run are kept with the record, so that the next submit goes on after them. An order that was accepted
    before is not lost by a try that charged nothing: it waits for its shopper, as it did."""
    if run.falls_back and not run.cancel_asked:
        said = say if say is Say.HANDLER else Say.NEEDS_SHOPPER
        return Conclusion(Ending.HOLD, said, TRY_FAILED, waiting_for_shopper=True)
    return Conclusion(Ending.DEFER if run.has_steps else Ending.RELEASE, say, why)
