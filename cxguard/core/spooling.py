"""What the spool may say about an order, and what becomes of it when the store is back. Pure.

While the store is away an order lies in a journal of this machine, where nobody can see what the store knows of it: an
earlier press of the button may have charged. So whoever asks is told "saved; this submission charged nothing", and never
"you have not been charged". When the store is back, each order is *merged*: what is there wins, the right to charge stays
one, and a merge that was cut short is done again without another effect (`merged_before`).

    the store knows nothing of it           it is opened there, queued
    facts alone came first (a stub)         FILL: they get their order
    somebody acts on it                     WAIT until they have done
    it will never go on by itself           KEEP: it is queued, and resolved before anything is charged
    it waits, surely unpaid                 REPLACE, if this is another and a later basket
    it ended uncharged, before this came    REOPEN: its next life, queued
    anything else                           DROP; REMARK where something else was asked for
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from cxguard.core.answer import WHY_REPLACED, MoneyTold, Situation
from cxguard.core.consent import Consent
from cxguard.core.decide import LET_GO, Do, Policy, Submit, decide
from cxguard.core.money import MoneyState
from cxguard.core.operation import RECORD_VERSION, Entry, Move, Operation, State, WaitingFor, appended, changed, ended_at, money_of, move

WHY_STORE_AWAY = "store_away"  # why such an order is queued
WHY_SAME_AS = "same_as"  # why the record of a second name for one purchase ended: `extra` has the id of the first
SPOOLED_AS = "spool"  # in `extra`: the marks of the spooled orders that were merged into the record
SAME_AS = "same_as"  # in `extra`: the record that speaks for this one
CONFIRMED = "confirmed"  # in `extra`, while spooled: the reference that the shopper confirmed to buy again
LAID_AT = "laid_at"  # in `extra`, while spooled: the machine's life and how long it had lasted: a clock that nobody can set
CLOCK_STEP_SECONDS = 2.0  # by so much a time service sets a good clock back at most: such an order came a moment ago
MARKS_MAX = 8  # of one record: more outages than that within an order's life are one long one

_ENDED = frozenset({State.FINISHED, State.CANCELLED})
_WITH_US = frozenset({MoneyState.UNKNOWN, MoneyState.CHARGED})


class Lay(StrEnum):
    """What another submit comes to, when the spool has a record for it already."""

    NEW = "new"  # it is spooled now
    TELL = "tell"  # the order that is there
    REPLACE = "replace"  # the shopper changed the basket: this one is spooled in its place
    FILL = "fill"  # only facts are there: they get their order
    WAIT = "wait"  # it is being forwarded at this moment
    MISMATCH = "mismatch"
    DUPLICATE = "duplicate"


class Merge(StrEnum):
    """What becomes of a spooled order, when the store has a record for it."""

    WAIT = "wait"
    DROP = "drop"
    REMARK = "remark"
    KEEP = "keep"
    REPLACE = "replace"
    REOPEN = "reopen"
    FILL = "fill"
    OVER = "over"  # open again, over the record that holds the purchase


CHANGES = frozenset({Merge.KEEP, Merge.REPLACE, Merge.REOPEN, Merge.FILL})


# --- while the store is away


def is_order(operation: Operation) -> bool:
    """Whether a spooled record is an order; else it only carries facts about one."""
    return bool(operation.owner)


def spooled(
    fresh: Operation, *, mark: str, now: float, give_up_seconds: float, boot: str = "", steady: float = 0.0, confirmed: str | None = None
) -> Operation:
    """The record of a new submit as the spool keeps it: queued, nothing sent, told as saved.

    Args:
        mark: random; by it a merge that was cut short is recognised.
        boot, steady: names the machine's life since it was switched on, and seconds within it; empty: not known.
    """
    extra = {SPOOLED_AS: mark, LAID_AT: [boot, steady], **({CONFIRMED: confirmed} if confirmed else {})}
    return changed(
        fresh, state=State.QUEUED, sends=(), kept=True, why=WHY_STORE_AWAY, due_at=now, give_up_at=now + give_up_seconds, extra=extra
    )


def lay_over(there: Operation, submit: Submit, policy: Policy, *, leased: bool, claim: bool, now: float) -> Lay:
    """What to do with one more submit for the spooled record *there*.

    Args:
        leased: it is being forwarded.
        claim: it was found by its purchase, under another key.
    """
    if not is_order(there):
        if money_of(there).state is MoneyState.CHARGED:
            return Lay.TELL
        return Lay.WAIT if leased else Lay.FILL
    match decide(there, submit, policy, leased=False, claim=claim, now=now):
        case Do.MISMATCH | Do.FOREIGN:
            return Lay.MISMATCH
        case Do.DUPLICATE:
            return Lay.DUPLICATE
        case Do.REPLACE:
            return Lay.WAIT if leased else Lay.REPLACE
        case _:
            return Lay.TELL


def spooled_situation(operation: Operation) -> Situation | None:
    """What is told about a spooled record; None: it is no order, and says nothing that a shopper could be told."""
    if money_of(operation).state is MoneyState.CHARGED:
        return Situation.PAID_UNFINISHED
    if not is_order(operation):
        return None
    return Situation.CANCEL_ASKED if operation.cancel_asked else Situation.SPOOLED


def spooled_money(operation: Operation) -> MoneyTold:
    """All that is known of the money while the store is away: an earlier submit may have charged."""
    return MoneyTold.CHARGED if money_of(operation).state is MoneyState.CHARGED else MoneyTold.UNKNOWN


# --- when it is back


def age_of(item: Operation, *, now: float, boot: str, steady: float) -> float | None:
    """How long a spooled order has lain here, in seconds. None: nobody knows, for the clock was set back since.

    Never less than it is, as far as can be known: a charge of long ago must not be taken for one since, nor the other way round.

    Args:
        now: this machine's wall clock.
        boot, steady: as for `spooled`, now: within one life of the machine they tell what a clock that was set does not.
    """
    by_wall = now - item.created_at
    life, since = item.extra.get(LAID_AT) or ("", 0.0)
    if boot and life == boot and steady >= since:
        return float(max(by_wall, steady - since))
    return max(by_wall, 0.0) if by_wall >= -CLOCK_STEP_SECONDS else None


def arriving(item: Operation, *, age_seconds: float | None, there: float) -> Operation:
    """A spooled order as the store gets it. Its times travel as ages, because the clocks of two machines differ.

    Args:
        age_seconds: how long it has lain here; None: nobody knows, and it lives no longer than its rule says from now on.
        there: the store's clock now.
    """
    age = age_seconds or 0.0
    here = item.created_at + age  # what this machine's clock would say, had nobody set it
    arrived_at = there - age
    return changed(
        item,
        lease=None,
        revision=0,
        notes=(),
        notes_seen=0,
        created_at=arrived_at,
        updated_at=arrived_at,
        due_at=there,
        give_up_at=there + (item.give_up_at - here) if item.give_up_at is not None else None,
        history=(),
        consent=_aged(item.consent, here=here, there=there),
        quote_until=there + (item.quote_until - here) if item.quote_until is not None else None,
        extra={SPOOLED_AS: mark_of(item)},
    )


def _aged(consent: Consent | None, *, here: float, there: float) -> Consent | None:
    """The shopper's word is as old there as it is here, and holds no longer."""
    if consent is None:
        return None
    left_seconds = min(consent.until - here, consent.until - consent.at)
    return replace(consent, at=there - max(0.0, here - consent.at), until=there + left_seconds)


def mark_of(item: Operation) -> str:
    """The mark of a spooled order."""
    return str(item.extra.get(SPOOLED_AS, ""))


def merged_before(there: Operation, fresh: Operation) -> bool:
    """Whether this very spooled order was merged into the record already, and only its leaving the spool was cut short."""
    return bool(mark_of(fresh)) and mark_of(fresh) in mark_of(there).split()


def merge(there: Operation, came_at: float | None, submit: Submit, policy: Policy, *, leased: bool, claim: bool, cancelled: bool) -> Merge:
    """What becomes of a spooled order, when the store has *there* for it.

    Args:
        came_at: when its submit came, on the store's clock; None: nobody knows, so whatever ended has ended that submit, too.
        claim: *there* was found by the purchase, and has another id.
        cancelled: the shopper cancelled it while it was spooled.
    """
    if leased or there.version > RECORD_VERSION:
        return Merge.WAIT
    if not is_order(there):
        return Merge.FILL
    came_at = float("-inf") if came_at is None else came_at
    do = decide(there, submit, policy, leased=False, claim=claim, now=came_at)
    if do is Do.SUPERSEDE:
        return Merge.OVER if not _bought_since(there, submit, policy, arrived_at=came_at) else Merge.DROP
    if there.state in _ENDED and money_of(there).state not in _WITH_US:
        return _ended_uncharged(there, submit, do, arrived_at=came_at, cancelled=cancelled)
    match do:
        case Do.RESCUE | Do.RERUN | Do.RESOLVE if not there.kept and there.answer is None:
            return Merge.KEEP
        case Do.REPLACE if asked_at(there) <= came_at:
            return Merge.REPLACE
        case _:
            return Merge.DROP if submit.same_request else Merge.REMARK


def _bought_since(there: Operation, submit: Submit, policy: Policy, *, arrived_at: float) -> bool:
    """Under `per_purchase`: whether the owner's current purchase is the very one that was spooled, sent again and paid since."""
    paid = money_of(there).state is MoneyState.CHARGED
    return policy.current_seconds is not None and paid and there.basket == submit.basket and ended_at(there) > arrived_at


def _ended_uncharged(there: Operation, submit: Submit, do: Do, *, arrived_at: float, cancelled: bool) -> Merge:
    """Surely uncharged and over. What ended after the submit had come has ended that submit, too, unless nobody meant it:
    a record that was let go because its process died, or its store went away, before anybody was told anything."""
    if cancelled or do is Do.MISMATCH:
        return Merge.DROP if submit.same_request else Merge.REMARK
    let_go = there.state is State.CANCELLED and there.why in LET_GO and not there.cancel_asked
    return Merge.REOPEN if let_go or (do is Do.REOPEN and ended_at(there) <= arrived_at) else Merge.DROP


def asked_at(there: Operation) -> float:
    """When the request that the record keeps was sent."""
    replaced = (entry.at for entry in there.history if entry.event == "order.queued" and entry.detail.get("why") == WHY_REPLACED)
    return max((there.created_at, *replaced))


def merged(plan: Merge, there: Operation, fresh: Operation, *, same: bool, request: bytes | None, entry: Entry) -> Operation:
    """The record *there*, whose lease we hold, after the merge.

    Args:
        same: both are the same request.
        request: what *fresh* kept of it, sealed for *there*.
        entry: its line in the timeline.
    """
    now = fresh.due_at
    marks = (*mark_of(there).split(), mark_of(fresh))[-MARKS_MAX:]
    known = changed(there, extra={**there.extra, SPOOLED_AS: " ".join(marks)}, history=appended(there.history, entry))
    content = _content(fresh, known, request=request, same=same)
    match plan:
        case Merge.KEEP:
            give_up_at = there.give_up_at or fresh.give_up_at
            if money_of(there).state is not MoneyState.NONE:  # what may have been charged keeps its own request
                content = {"request": there.request or (request if same else None)}
            if same:
                content |= {"consent": there.consent or fresh.consent, "quote_until": there.quote_until or fresh.quote_until}
            return move(known, Move.DEFER, why=WHY_STORE_AWAY, kept=True, due_at=now, give_up_at=give_up_at, **content)
        case Merge.REPLACE:
            return move(known, Move.DEFER, why=WHY_REPLACED, due_at=there.due_at or now, **content)
        case Merge.REOPEN:
            return _reopened(known, fresh, content)
        case _:
            return _filled(known, fresh, content)


def _reopened(known: Operation, fresh: Operation, content: Mapping[str, Any]) -> Operation:
    ends = {"due_at": fresh.due_at, "give_up_at": fresh.give_up_at, "answer": None, "answered_at": None, "attempts": 0}
    return move(known, Move.REOPEN_QUEUED, why=WHY_STORE_AWAY, kept=True, **ends, **content)


def _filled(stub: Operation, fresh: Operation, content: Mapping[str, Any]) -> Operation:
    """Facts came first: what they are about is known now. A stub that a person has ended stays as that person left it."""
    names = ("rule", "owner", "reference", "client_key", "charged_by", "session", "contact", "contact_hash", "locale", "created_at")
    record = changed(stub, **{name: getattr(fresh, name) for name in names}, **content)
    ends = {"kept": True, "due_at": fresh.due_at, "give_up_at": fresh.give_up_at}
    if stub.state is State.HELD:
        return move(record, Move.REQUEUE, why=WHY_STORE_AWAY, **ends)
    return record


def _content(fresh: Operation, there: Operation, *, request: bytes | None, same: bool) -> dict[str, Any]:
    """What is bought. Finished steps belong to the request that they were made for."""
    steps = there.steps if same else tuple(step for step in there.steps if step.ended_at is None)
    names = ("fingerprint", "basket", "claims", "amount_minor", "currency", "consent", "quote_until")
    own = {name: getattr(fresh, name) for name in names}
    return {**own, "request": request, "steps": steps}


def second_name(fresh: Operation, first: Operation, *, keep_seconds: float, doubted: bool = False) -> Operation:
    """The record of a spooled order whose purchase is in other hands already: it ends, and says which order speaks for it.

    Args:
        doubted: the store may have lost a charge of it, so that the gateway is asked before it ends: it is held until then,
            since a queued one would be run again by the next press.
    """
    record = changed(fresh, claims=(), extra={**fresh.extra, SAME_AS: first.id}, why=WHY_SAME_AS, give_up_at=None, kept=False, request=None)
    if doubted:
        return changed(record, state=State.HELD, waiting_for=WaitingFor.GATEWAY)
    return changed(record, state=State.CANCELLED, due_at=None, keep_until=(fresh.due_at or fresh.created_at) + keep_seconds)


def is_second_name(operation: Operation) -> bool:
    """Whether nothing is known of it but that another order speaks for it."""
    over = operation.state in (State.CANCELLED, State.HELD) and operation.why == WHY_SAME_AS
    return over and money_of(operation).state not in (MoneyState.UNKNOWN, MoneyState.CHARGED)


def relaid(held: Operation, order: Operation, lay: Lay) -> Operation:
    """The spooled record *held* with a new submit's order in its place, under the new one's mark."""
    content = _content(order, held, request=order.request, same=False)
    if lay is Lay.FILL:
        return changed(_filled(held, order, content), extra=order.extra)
    record = move(held, Move.DEFER, why=WHY_STORE_AWAY, due_at=held.due_at, **content)
    return changed(record, extra=order.extra, created_at=order.created_at)
