"""How a run ends: every cell of money and reading, and what else is known about the run."""

from __future__ import annotations

from itertools import product

import pytest

from cxguard.core.conclude import Conclusion, Ending, Run, Say, conclude
from cxguard.core.money import Money, MoneyState
from cxguard.core.reading import Reading

NONE, UNKNOWN, CHARGED, DECLINED, REFUNDED = MoneyState
YES, NO, REJECTED, FAILED = Reading.SUCCEEDED, Reading.DECLINED, Reading.REJECTED, Reading.FAILED
READINGS = (YES, NO, REJECTED, FAILED, None)
CELLS = list(product(MoneyState, READINGS))

FINISH, RELEASE, DEFER, HOLD = Ending
OWN_WORD = Conclusion(FINISH, Say.HANDLER)
OWN_NO = Conclusion(FINISH, Say.HANDLER, "declined")
OUR_NO = Conclusion(FINISH, Say.DECLINED, "declined")
FREE_OWN_WORD = Conclusion(RELEASE, Say.HANDLER, "rejected")
FREE_OWN_NO = Conclusion(RELEASE, Say.HANDLER, "declined")
FREE = Conclusion(RELEASE, Say.NOT_KEPT, "failed")
UNSURE = Conclusion(HOLD, Say.UNKNOWN, "charge_unknown")
PAID = Conclusion(HOLD, Say.PAID_UNFINISHED, "order_missing")
BACK = Conclusion(FINISH, Say.REFUNDED, "refunded")
FLAGGED = Conclusion(HOLD, Say.HELD, "failed_after_answer")

PLAIN = {
    NONE: {YES: OWN_WORD, NO: FREE_OWN_NO, REJECTED: FREE_OWN_WORD, FAILED: FREE, None: FREE},
    UNKNOWN: dict.fromkeys(READINGS, UNSURE),
    CHARGED: {YES: OWN_WORD, NO: PAID, REJECTED: PAID, FAILED: PAID, None: PAID},
    DECLINED: {YES: OUR_NO, NO: OWN_NO, REJECTED: OWN_NO, FAILED: OUR_NO, None: OUR_NO},
    REFUNDED: dict.fromkeys(READINGS, BACK),
}
PROMISES_NOTHING = {Say.NOT_KEPT, Say.DECLINED, Say.REFUNDED}


def ended(money: MoneyState, reading: Reading | None, **known: object) -> Conclusion:
    return conclude(Run(money=Money(money), reading=reading, **known))  # type: ignore[arg-type]


@pytest.mark.parametrize(("money", "reading"), CELLS)
def test_each_cell_has_its_end(money: MoneyState, reading: Reading | None) -> None:
    """Money and reading alone say how a run without later, steps or anybody to ask ends."""
    assert ended(money, reading) == PLAIN[money][reading]


@pytest.mark.parametrize("reading", READINGS)
def test_an_unknown_that_somebody_can_be_asked_about_is_looked_up_by_the_queue(reading: Reading | None) -> None:
    """Whatever the handler said, an unknown charge is told as unknown and resolved."""
    assert ended(UNKNOWN, reading, can_resolve=True) == Conclusion(DEFER, Say.UNKNOWN, "charge_unknown")


@pytest.mark.parametrize(("reading", "can_resolve"), list(product(READINGS, (False, True))))
def test_a_step_at_the_bank_waits_for_its_shopper(reading: Reading | None, can_resolve: bool) -> None:
    """One more step at the bank: held for the shopper, who is told where to take it."""
    wanted = Conclusion(HOLD, Say.NEEDS_SHOPPER, "needs_shopper", waiting_for_shopper=True)
    assert ended(UNKNOWN, reading, needs_shopper=True, can_resolve=can_resolve) == wanted


@pytest.mark.parametrize("reading", READINGS)
def test_a_paid_order_with_later_is_completed_by_the_queue(reading: Reading | None) -> None:
    """Charged without a good answer: the queue completes the order, and the shopper is told that it is paid."""
    wanted = OWN_WORD if reading is YES else Conclusion(DEFER, Say.PAID_UNFINISHED, "order_missing")
    assert ended(CHARGED, reading, has_later=True) == wanted


AFTER = {
    NONE: FLAGGED,
    UNKNOWN: UNSURE,
    CHARGED: Conclusion(HOLD, Say.PAID_UNFINISHED, "failed_after_answer"),
    DECLINED: OUR_NO,
    REFUNDED: BACK,
}


@pytest.mark.parametrize(("money", "has_later"), list(product(MoneyState, (False, True))))
def test_an_exception_after_a_good_answer_frees_nothing(money: MoneyState, has_later: bool) -> None:
    """What the handler did may stand, and its answer may have gone out: a person looks, nothing is run again."""
    assert ended(money, YES, raised_after=True, has_later=has_later) == AFTER[money]


@pytest.mark.parametrize(("reading", "may_keep", "has_steps"), list(product(READINGS, (False, True), (False, True))))
def test_what_could_not_be_charged_is_kept_or_given_back(reading: Reading | None, may_keep: bool, has_steps: bool) -> None:
    """In an outage the record decides, not the handler: kept where it may be, else not charged and not kept."""
    told = ended(NONE, reading, deferred="gateway_down", may_keep=may_keep, has_steps=has_steps)
    if may_keep:
        assert told == Conclusion(DEFER, Say.KEPT, "gateway_down")
    else:
        assert told == Conclusion(DEFER if has_steps else RELEASE, Say.NOT_KEPT, "gateway_down")


@pytest.mark.parametrize("reading", [NO, REJECTED, FAILED, None])
def test_steps_that_have_run_stay_with_the_record(reading: Reading | None) -> None:
    """A run that charged nothing but has taken steps is not forgotten: the next submit goes on after them."""
    without = PLAIN[NONE][reading]
    assert ended(NONE, reading, has_steps=True) == Conclusion(DEFER, without.say, without.why)


HELD_FOR_A_PERSON = {
    NONE: Conclusion(HOLD, Say.HELD, "step_unfinished"),
    CHARGED: Conclusion(HOLD, Say.PAID_UNFINISHED, "step_unfinished"),
    REFUNDED: Conclusion(HOLD, Say.HELD, "step_unfinished"),
}


@pytest.mark.parametrize(("money", "reading"), CELLS)
def test_a_step_without_a_recorded_end_goes_to_a_person(money: MoneyState, reading: Reading | None) -> None:
    """It may have happened: nobody runs it again by itself. Unknown money is resolved first, and a decline is an end."""
    assert ended(money, reading, hold="step_unfinished") == HELD_FOR_A_PERSON.get(money, PLAIN[money][reading])


KNOWN = ("deferred", "needs_shopper", "may_keep", "has_later", "can_resolve", "has_steps", "hold")
EVERY_RUN = [
    (money, reading, dict(zip(KNOWN, rest, strict=True)))
    for money, reading in CELLS
    for rest in product(("", "gateway_down"), *[(False, True)] * 5, ("", "step_unfinished"))
]


def test_no_run_loses_or_denies_money() -> None:
    """Over every combination: unknown and charged money is never released, called not charged, or called declined."""
    for money, reading, known in EVERY_RUN:
        told = ended(money, reading, **known)
        if money in (UNKNOWN, CHARGED):
            assert told.ending is not RELEASE
            assert told.say not in PROMISES_NOTHING
        if money is UNKNOWN:
            assert told.ending is not FINISH
            assert told.say in (Say.UNKNOWN, Say.NEEDS_SHOPPER)


def test_no_run_says_more_than_is_known() -> None:
    """Over every combination: "declined" only over a decline, "paid" only over a charge, and nothing charged is forgotten."""
    for money, reading, known in EVERY_RUN:
        told = ended(money, reading, **known)
        assert told.say is not Say.DECLINED or money is DECLINED
        assert told.say is not Say.PAID_UNFINISHED or money is CHARGED
        assert told.say is not Say.KEPT or money is NONE
        assert told.ending is not RELEASE or money is NONE
        if reading is YES and told.say is Say.HANDLER:
            assert money in (NONE, CHARGED)


@pytest.mark.parametrize("has_steps", [False, True])
@pytest.mark.parametrize("deferred", ["", "gateway_down"])
@pytest.mark.parametrize("reading", [NO, REJECTED, FAILED, None])
def test_an_order_that_its_shopper_went_on_with_waits_for_them_again(reading: Reading | None, deferred: str, has_steps: bool) -> None:
    """A try that charged nothing lets go of nothing; the shop's own word about the form goes through."""
    said = Say.HANDLER if reading in (NO, REJECTED) and not deferred else Say.NEEDS_SHOPPER
    told = ended(NONE, reading, deferred=deferred, has_steps=has_steps, falls_back=True)
    assert told == Conclusion(HOLD, said, "try_failed", waiting_for_shopper=True)


def test_an_order_that_was_gone_on_with_and_cancelled_is_let_go() -> None:
    """Its shopper wanted out."""
    assert ended(NONE, FAILED, falls_back=True, cancel_asked=True) == FREE


@pytest.mark.parametrize("reading", READINGS)
def test_a_wish_to_cancel_that_came_too_late_to_stop_the_charge_gives_it_back(reading: Reading | None) -> None:
    """Whatever the handler says; only a person's case stays one."""
    assert ended(CHARGED, reading, cancel_asked=True, has_later=True) == Conclusion(DEFER, Say.CANCEL_ASKED, "cancel_asked")
    assert ended(CHARGED, reading, cancel_asked=True, hold="step_unfinished") == HELD_FOR_A_PERSON[CHARGED]


@pytest.mark.parametrize("reading", [NO, REJECTED])
def test_a_handler_that_failed_after_its_answer_has_no_last_word(reading: Reading) -> None:
    """A decline is told in our words, and a charge is looked at by a person, where an order could be completed, too."""
    assert ended(DECLINED, reading, raised_after=True) == OUR_NO
    assert ended(CHARGED, reading, raised_after=True, has_later=True) == AFTER[CHARGED]


@pytest.mark.parametrize("reading", READINGS)
def test_a_decline_of_an_accepted_order_waits_for_another_card(reading: Reading | None) -> None:
    """Its shopper is away, and has a page to go on with it; whoever cancelled is asked nothing."""
    asked = Conclusion(HOLD, Say.DECLINED, "card_declined", waiting_for_shopper=True)
    assert ended(DECLINED, reading, may_ask=True) == asked
    assert ended(DECLINED, reading, may_ask=True, cancel_asked=True) == PLAIN[DECLINED][reading]


@pytest.mark.parametrize("may_keep", [False, True])
@pytest.mark.parametrize("reading", READINGS)
def test_what_the_shopper_has_not_agreed_to_is_asked(reading: Reading | None, may_keep: bool) -> None:
    """Nothing was charged, and it is neither let go nor queued; a person's case stays one."""
    asked = Conclusion(HOLD, Say.NEEDS_SHOPPER, "price_up", waiting_for_shopper=True)
    assert ended(NONE, reading, asks=True, deferred="price_up", may_keep=may_keep) == asked
    assert ended(NONE, reading, asks=True, deferred="price_up", hold="step_unfinished") == HELD_FOR_A_PERSON[NONE]
