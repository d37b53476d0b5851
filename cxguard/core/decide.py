"""What to do with a submit, given the record that the store has for it.

One pure function over (what is there, what is asked, the rule's policy, the time). It never guesses about money: a
record whose money is unknown is resolved or told about, and nothing else.

    same key, other request           client's key: mismatch.  derived key: the next generation, when nothing is charged
    live lease                        wait for the first one's answer
    lapsed while running              take it over: resolve first, run again only if nothing was ever sent
    queued                            tell (or replace what is kept, while surely unpaid)
    finished, charged                 replay; under a derived key after the window: "this looks like order R"
    finished, not charged; cancelled  replay within the double click; later the next generation (derived key)
    another record has the purchase   tell about that one, unless it surely charged nothing or the shopper confirmed; an older copy
                                      of it, after a failover, is not sure before the gateway was asked
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cxguard.core import names
from cxguard.core.asks import link_generation, may_resume
from cxguard.core.figures import may_all_be_back
from cxguard.core.money import Money, MoneyState, NoteKind
from cxguard.core.operation import ENDED, Operation, State, WaitingFor, ended_at, money_of


@dataclass(frozen=True, slots=True)
class Policy:
    """What the rule says about repeated submits. Seconds are wall-clock.

    Attributes:
        double_click_seconds: within this time the same submit is the same press of the button.
        duplicate_window_seconds: within this time the same purchase is taken for a repeat.
        can_resolve: somebody can be asked what became of an unknown charge.
        can_ask: and what a store that lost its tail does not know any more.
        current_seconds: the claim is the owner's current operation: a record found by it is this very operation, until it
            has ended, and its confirmation was served, the basket changed, or so many seconds passed. None: no such claim.
        resumable: the same call goes on after its last finished step (a script's function, run again).
    """

    double_click_seconds: float
    duplicate_window_seconds: float
    can_resolve: bool
    current_seconds: float | None = None
    resumable: bool = False
    can_ask: bool = True


@dataclass(frozen=True, slots=True)
class Submit:
    """What this request asks for, as far as deciding needs it.

    Attributes:
        same_request: its fingerprint is that of the record found.
        basket: keyed hash of what is bought, when the rule names it.
        claims: what its record would claim.
        confirmed: the reference that the shopper confirmed to buy again, if any.
        resumes: the generation that the shopper's link to go on was made for; None: the request carries no such link.
        may_keep: this request may be kept for later: its client can be told, and it holds no card.
    """

    owner: str
    client_key: bool
    same_request: bool
    amount_minor: int | None = None
    currency: str | None = None
    confirmed: str | None = None
    basket: str = ""
    claims: tuple[str, ...] = ()
    may_keep: bool = True
    resumes: int | None = None


class Do(StrEnum):
    """Decisions that need no more than their name."""

    RUN = "run"  # we hold a fresh record
    REPLAY = "replay"  # the stored answer
    WAIT = "wait"  # somebody is working on it
    TELL = "tell"  # say what state and money are
    MISMATCH = "mismatch"
    FOREIGN = "foreign"  # another owner's basket: a neutral word
    DUPLICATE = "duplicate"  # looks like that order
    RESCUE = "rescue"  # seize: its holder is gone
    RESOLVE = "resolve"  # seize, ask the gateway once, then tell
    RERUN = "rerun"  # seize a queued one that is not kept and try again
    REOPEN = "reopen"  # seize: the next generation
    RESUME = "resume"  # seize: its shopper goes on with it; the old payment can never complete before a new one begins
    REPLACE = "replace"  # seize: the kept request gives way to this one
    SUPERSEDE = "supersede"  # open again, over the record that holds the claim
    AGAIN = "again"  # a confirmed second purchase: open under the id that names what it repeats


ORDER_MISSING = "order_missing"  # paid, and what should follow the payment did not happen yet
NOT_KEPT = "not_kept"  # an unknown turned out as surely not charged, and nothing says how to go on without the shopper
RELEASED = "released"  # a life that ended because nothing was charged: its key is free, its record stays for who was shown it
DECLINED_UNSEEN = "declined"  # why it was released: its own code says that the issuer said no, and no send of ours knows of that
UNSURE_SECONDS = 60.0  # an end that is further ahead than this is of before a clock was set back
LET_GO = frozenset({RELEASED, NOT_KEPT})  # nobody wished such an order to be cancelled

_LIVE = frozenset({State.RUNNING, State.QUEUED, State.HELD})


def decide(operation: Operation, submit: Submit, policy: Policy, *, leased: bool, claim: bool, now: float, doubted: bool = False) -> Do:
    """What to do with *submit*, when the store has *operation* for it and this call did not create it.

    Args:
        leased: a live lease is on it.
        claim: it was found by a claim (same purchase under another key), not by its id.
        now: wall clock, seconds since the epoch.
        doubted: it may be an older copy of a record that knew of a charge (`lost.is_doubted`).
    """
    money = money_of(operation)
    if not operation.owner:
        return Do.TELL  # a fact came before its record, or after it was lost: the name alone says that it is this one's
    if operation.owner != submit.owner:
        return Do.FOREIGN
    if submit.resumes is not None:
        return _resumed(operation, submit.resumes, money=money, leased=leased, now=now)
    if claim and leased and operation.state in ENDED and _may_begin_anew(operation, money):
        return Do.WAIT
    if claim and policy.current_seconds is not None and _is_over(operation, submit, money=money, seconds=policy.current_seconds, now=now):
        return Do.SUPERSEDE
    if claim and policy.current_seconds is None:
        doubted = doubted and policy.can_ask and operation.state is not State.QUEUED  # one that waits is asked about much later
        return _same_purchase(operation, submit, policy, money=money, leased=leased, doubted=doubted, now=now)
    if submit.client_key and not submit.same_request and not _is_let_go(operation, money):
        return Do.MISMATCH
    if leased:
        doing = _at_work(operation, money)
        return Do.WAIT if doing is Do.REPLAY and _other_amount(operation, submit) else doing
    return _free(operation, submit, policy, money=money, now=now)


def _is_let_go(operation: Operation, money: Money) -> bool:
    """It charged nothing and holds nothing: its key is free, for another request, too."""
    over = operation.state is State.CANCELLED and operation.why == RELEASED and not operation.cancel_asked
    return over and money.state is MoneyState.NONE


def _may_begin_anew(operation: Operation, money: Money) -> bool:
    """Whether who holds its lease may be about to run it again, or for the first time since it waits: the record says so with its
    first write only. Until then "not charged" is no word to tell, and nobody else may take the purchase."""
    if money.state in (MoneyState.UNKNOWN, MoneyState.CHARGED) or operation.state is State.RUNNING:
        return False
    if operation.state is State.HELD and operation.waiting_for is not WaitingFor.SHOPPER:
        return False  # nobody goes on with it but the person who may have it in hand
    return operation.state in ENDED or not (operation.kept or operation.cancel_asked)


def _at_work(operation: Operation, money: Money) -> Do:
    """Somebody holds it. An answer that has gone out already (while background work goes on) is given again at once; not of an
    order that is being cancelled: at any moment it may be paid back."""
    if _may_begin_anew(operation, money):
        return Do.WAIT
    if operation.state is not State.RUNNING or (operation.answer is not None and operation.cancel_asked):
        return Do.TELL
    return Do.REPLAY if operation.answer is not None and money.state is MoneyState.CHARGED else Do.WAIT


def _resumed(operation: Operation, generation: int, *, money: Money, leased: bool, now: float) -> Do:
    """A link is for one try that may charge: whoever sends it again hears what has become of the order."""
    if leased:
        return _at_work(operation, money)
    good = link_generation(operation) <= generation <= operation.generation
    return Do.RESUME if good and may_resume(operation, now=now) else Do.TELL


def _is_over(operation: Operation, submit: Submit, *, money: Money, seconds: float, now: float) -> bool:
    """Whether the owner's current purchase has ended for the shopper, too: then the next submit is another one."""
    if operation.state not in (State.FINISHED, State.CANCELLED) or money.state is MoneyState.UNKNOWN:
        return False
    served = any(note.kind is NoteKind.SERVED and note.at >= ended_at(operation) for note in operation.notes)
    return served or operation.basket != submit.basket or now - ended_at(operation) > seconds


def _free(operation: Operation, submit: Submit, policy: Policy, *, money: Money, now: float) -> Do:
    """The record is ours by id and nobody works on it."""
    match operation.state:
        case State.RUNNING:
            return Do.RESCUE
        case State.QUEUED:
            return _queued(operation, submit, policy, money=money)
        case State.HELD:
            resumable = policy.resumable and operation.why == ORDER_MISSING and not operation.cancel_asked
            return Do.RERUN if resumable and money.state is not MoneyState.REFUNDED else Do.TELL
        case State.FINISHED:
            return _finished(operation, submit, policy, money=money, now=now)
        case State.CANCELLED:
            return _ended_uncharged(operation, submit, policy, money=money, now=now)


def _queued(operation: Operation, submit: Submit, policy: Policy, *, money: Money) -> Do:
    if money.state is MoneyState.UNKNOWN:
        return Do.RESOLVE if policy.can_resolve else Do.TELL
    if policy.resumable and not operation.cancel_asked and money.state is not MoneyState.REFUNDED:
        return Do.RERUN
    if money.state is not MoneyState.NONE or operation.cancel_asked:
        return Do.TELL
    if not operation.kept:
        return Do.RERUN
    return Do.REPLACE if submit.may_keep and not submit.same_request else Do.TELL


def _finished(operation: Operation, submit: Submit, policy: Policy, *, money: Money, now: float) -> Do:
    if money.state is not MoneyState.CHARGED or operation.money is not MoneyState.CHARGED:
        return _ended_uncharged(operation, submit, policy, money=money, now=now)
    if money.refund_pending and (operation.cancel_asked or may_all_be_back(operation.sends, operation.notes, money.charged_keys)):
        return Do.TELL  # whether it is still paid, nobody knows
    if submit.client_key or (now - ended_at(operation) <= policy.duplicate_window_seconds and not _other_amount(operation, submit)):
        return Do.REPLAY
    return Do.AGAIN if submit.confirmed == operation.reference else Do.DUPLICATE


def _other_amount(operation: Operation, submit: Submit) -> bool:
    """Whether the basket costs something else by now: the answer of before would pass for one about what was added since. One that
    was emptied, as many shops do once it is paid, costs nothing: that is a second press."""
    known = operation.amount_minor is not None and submit.amount_minor
    return bool(known) and (operation.amount_minor, operation.currency) != (submit.amount_minor, submit.currency)


def _ended_uncharged(operation: Operation, submit: Submit, policy: Policy, *, money: Money, now: float) -> Do:
    """Finished without a standing charge, or cancelled. Under a derived key the shopper may try again."""
    if money.state in (MoneyState.UNKNOWN, MoneyState.CHARGED):
        return Do.TELL  # a late fact: the worker or a person mends it, a submit never does
    free = (RELEASED, NOT_KEPT) if policy.resumable else (RELEASED,)
    if operation.state is State.CANCELLED and operation.why in free and not operation.cancel_asked:
        return Do.REOPEN  # its client was told that the same key may be sent again; a script is meant to be run again
    replayable = operation.answer is not None and money.state is operation.money and operation.state is State.FINISHED
    if submit.client_key:
        return Do.REPLAY if replayable and money.state is not MoneyState.REFUNDED else Do.TELL
    if submit.same_request and -UNSURE_SECONDS <= now - ended_at(operation) <= policy.double_click_seconds:
        return Do.REPLAY if replayable and money.state is not MoneyState.REFUNDED else Do.TELL
    return Do.REOPEN


def _same_purchase(operation: Operation, submit: Submit, policy: Policy, *, money: Money, leased: bool, doubted: bool, now: float) -> Do:
    """Another record of the same owner has the same basket."""
    if operation.state in _LIVE or money.state is MoneyState.UNKNOWN:
        return Do.DUPLICATE if leased or doubted or not _lapsed_unsent(operation, money) else Do.SUPERSEDE
    if money.state is not MoneyState.CHARGED:
        return Do.DUPLICATE if doubted else Do.SUPERSEDE
    if not _same_amount(operation, submit) or now - ended_at(operation) > policy.duplicate_window_seconds:
        return Do.SUPERSEDE
    return Do.SUPERSEDE if submit.confirmed == operation.reference else Do.DUPLICATE


def _same_amount(operation: Operation, submit: Submit) -> bool:
    """It costs what was charged; or what its shopper agreed to, where less was charged later."""
    agreed = any(names.is_amount_claim(claim) and claim in operation.claims for claim in submit.claims)
    return agreed or (operation.amount_minor, operation.currency) == (submit.amount_minor, submit.currency)


def _lapsed_unsent(operation: Operation, money: Money) -> bool:
    """Its process died before anything was sent, or it waits unkept: it will never charge by itself."""
    return money.state is MoneyState.NONE and not operation.kept and not operation.sends and operation.state is not State.HELD
