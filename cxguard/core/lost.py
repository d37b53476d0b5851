"""After a store has lost its tail: what a gateway says about keys that a lost record may have used, and what follows.

A failover or a restore can take back records that were acknowledged. Whoever presses again then looks new, and may have
paid. Gateway keys are derived, so that the keys of every life of a lost record are known without it. The gateway is asked
about one after the other, before the first charge, and before an order ends as not charged:

    charged                         that is this order's charge: adopt it
    needs the shopper, processing,
      no answer                     doubt: nothing is charged until it is known
    declined, refunded              that life is over: the next one
    not found, surely not charged   nothing under this key; after two of them in a row, the present life and the next one
                                    among those that were asked about, there was no further life

So that lives which charged nothing do not hide one that did, a try of which the gateway knows nothing begins none: the next
one charges under the same key (`goes_on`).

The first one is the present life, or an earlier one of which the record has no send, or only such as left nothing: it may be an
older copy of one that charged.

"Not found" is proof only when all that was under way as the store lost its tail must have shown up. Before that, at a gateway
that honours keys, an order may be charged under the first key that is not found: what is still under way there is the same
charge. But it speaks for no other key: no end, and no other life, may rest on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any

from cxguard.core.decide import DECLINED_UNSEEN, LET_GO, RELEASED
from cxguard.core.money import MoneyState, NoteKind, Send, SendKind
from cxguard.core.operation import ENDED, Entry, Operation, State, changed, money_of
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown

LOST_BACK_SECONDS = 2 * 86_400.0  # a shopper, or a script, whose order is gone may come back so late; what is older waits on record
PRESSED_AGAIN_SECONDS = 3_600.0  # nearly all orders that look new are new: what comes later is taken for that, if nobody can be asked
SAME_KEY_SHARE = 4  # of the time that a gateway remembers a key: for the other three quarters it knows it when the last try has sent it
LIVES_MAX = 8  # of one operation that are looked at; a shopper has given up long before
CHANGES_LOST_MAX = 2  # of a basket, each of which was tried, in the seconds that a failover takes back
SILENT_MAX = 2  # in a row: one life may have ended with a charge that the gateway refused outright
NOT_FOUND = "not_found"
LOST_EVENT = "payment.looked_for_lost"
NOTHING_STANDS = "nothing stands"
TAKEN_OVER = "taken over"
IN_DOUBT = "in doubt"
DOUBT_OR_PAID = "in doubt or paid"  # where the shop's own code charges: whoever could be asked was asked about that life
BELIEVED = "believed"  # nobody can be asked; it was opened long after, or the shop's own code has tried to charge since
_UNCHARGED = frozenset({MoneyState.NONE, MoneyState.DECLINED, MoneyState.REFUNDED})


class Lost(StrEnum):
    """What follows from what was said so far."""

    LOOK = "look"  # about the key of the next life
    ADOPT = "adopt"
    DOUBT = "doubt"
    CLEAR = "clear"  # nothing stands: charge


def goes_on(operation: Operation, *, figures: tuple[int | None, str | None], key_seconds: float, now: float) -> bool:
    """Whether the next try of an order that was let go belongs to the same life: nothing is known under any key of that one.

    Args:
        figures: amount and currency of the next try, if they are known. Other ones would not go under the same key.
        key_seconds: how long the gateways remember a key, from its first send; of no matter where nothing was sent.
    """
    if not _was_let_go_untouched(operation) or operation.give_up_at is not None or operation.asked_until is not None:
        return False  # who was promised it, and told that it is over, is told of the next one anew: that is another life
    sent = _sent_in_this_life(operation)
    others = {send.key for send in operation.sends} - {send.key for send in sent}
    ends = [entry.detail.get("why") for entry in operation.history if entry.event == "operation.released"]
    told = any(note.kind is NoteKind.OUTCOME and note.gateway_key not in others for note in operation.notes)
    told = told or ends[-1:] == [DECLINED_UNSEEN]  # a gateway that its own code asks may keep that answer under our key
    looked = any(entry.event == LOST_EVENT for entry in operation.history)
    asked = {(send.amount_minor, send.currency) for send in sent} | ({figures} if figures[0] is not None else set())
    lately = all(now - send.sent_at < key_seconds / SAME_KEY_SHARE for send in sent)
    return lately and len(asked) <= 1 and not told and not looked


def is_of_later_try(operation: Operation, key: str, *, lost: bool) -> bool:
    """Whether the charge that stands under *key* is by a later try than those on record: one of another life, or of this one,
    where all that it is known to have sent was turned away.

    Args:
        lost: there may be such tries (`may_lack_tries`). Else the gateway has charged what it said that it had turned away.
    """
    same_life = lost and _was_let_go_untouched(operation) and any(send.key == key for send in _sent_in_this_life(operation))
    return same_life or last_life(operation) > operation.generation


def _was_let_go_untouched(operation: Operation) -> bool:
    """Whether nobody wished it to end, and all that this life sent may be sent again under the same key, by the gateway's own word."""
    let_go = operation.state is State.CANCELLED and operation.why == RELEASED and not operation.cancel_asked
    return let_go and all(_left_nothing(send) for send in _sent_in_this_life(operation))


def _sent_in_this_life(operation: Operation) -> list[Send]:
    return [send for send in operation.sends if send.generation == operation.generation]


def _left_nothing(send: Send) -> bool:
    return send.kind is SendKind.CHARGE and isinstance(send.outcome, NotCharged) and send.outcome.retryable


def first_life(operation: Operation) -> int:
    """The first life that is asked about. Of one whose calls were all turned away, a later try may have been lost."""
    told = {send.generation for send in operation.sends if send.kind is SendKind.CHARGE and not _left_nothing(send)}
    present = own_life(operation)
    return next((life for life in range(max(1, present - LIVES_MAX), present) if life not in told), present)


def steps_of_life(operation: Operation, step: str, *, generation: int) -> tuple[str, ...]:
    """Under which steps one life of it may have charged. A kept order whose basket was replaced has charged under another key, and
    so has a try of another amount than the one before, where no rule names the amount: after those on record, too."""
    if not (operation.kept or operation.request is not None or operation.amount_minor is None):
        return (step,)
    known = len({send.key for send in operation.sends if send.step == step and send.generation == generation})
    return (step, *(f"{step}~{number}" for number in range(1, max(known, 1) + CHANGES_LOST_MAX)))


def own_life(operation: Operation) -> int:
    """The life that the record itself has come to: a later one that was written down in doubt may never have been."""
    life = operation.generation
    for entry in reversed(operation.history):
        if entry.detail.get("generation") != life:
            continue
        if entry.event == "operation.opened":
            break  # it was begun here
        if entry.event == LOST_EVENT and entry.detail.get("outcome") == IN_DOUBT:
            life = min(life, entry.detail.get("before", life))
    return life


def judge_lost(said: Sequence[Outcome], *, sure: bool, passed: int = 0) -> Lost:
    """What follows from what one gateway *said* about the keys of the lives so far, the first one first.

    Args:
        passed: how many of them are over, by the record: all are asked about.
        sure: "not found" can be believed: the gateway honours keys, so that a late charge would be the same one, or all
            that was under way when the store lost its tail must have shown up by now.
    """
    if not said:
        return Lost.LOOK
    last = said[-1]
    if isinstance(last, Charged):
        return Lost.ADOPT
    if isinstance(last, NeedsShopper) or (isinstance(last, Unknown) and last.why != NOT_FOUND):
        return Lost.DOUBT
    if isinstance(last, Unknown) and not sure:
        return Lost.DOUBT
    left = len(said) - passed  # of the present life, and those after it
    silent = left >= SILENT_MAX and all(isinstance(each, Unknown | NotCharged) for each in said[-SILENT_MAX:])
    return Lost.CLEAR if silent or left >= LIVES_MAX else Lost.LOOK


def is_silent(said: Outcome) -> bool:
    """Whether nothing is known under that key, or surely nothing was charged under it."""
    return isinstance(said, NotCharged) or (isinstance(said, Unknown) and said.why == NOT_FOUND)


def may_come_back(operation: Operation, since: float | None, now: float, *, charging: bool = False) -> bool:
    """Whether a lost life of *operation* may still have to be looked for.

    Args:
        since: when the store began its present life; None: it never began another. By some process's clock, so it only
            names that life: what one process stamps cannot be compared with it.
        charging: before a charge of this life; else before it ends, or is told of.
    """
    if since is None or _was_looked_for(operation, since, charging=charging):
        return False
    return may_lack_tries(operation, since, now)


def may_lack_tries(operation: Operation, since: float | None, now: float) -> bool:
    """Whether the store may have lost tries of *operation*. An older record is a copy, however long it waited."""
    return since is not None and (now - since < LOST_BACK_SECONDS or operation.created_at < since)


def is_doubted(operation: Operation, since: float | None, now: float) -> bool:
    """Whether what *operation* says of its money may be wrong, for it may be an older copy: of a record that knew of a charge, or
    of one that knew that it was given back."""
    if since is None:
        return False
    money = money_of(operation)
    if money.state is MoneyState.CHARGED:
        return _may_be_given_back(operation, money.charged_keys, since=since, now=now)
    if money.state not in _UNCHARGED:
        return False
    return may_have_gone_on(operation, since, now) if operation.state in ENDED else may_come_back(operation, since, now)


def _may_be_given_back(operation: Operation, charged_keys: Sequence[str], *, since: float, now: float) -> bool:
    """Whether only webhooks tell of its charge, to a copy that still waits to be asked about: they may come late, and be older than
    what was lost. What has its end, or waits for nobody but a person, is told as it stands: nobody would ask."""
    is_copy = bool(operation.owner) and operation.created_at < since and now - since < LOST_BACK_SECONDS
    comes = operation.state not in ENDED and (operation.due_at is not None or operation.lease is not None)
    return is_copy and comes and not any(_was_answered_here(operation, key) for key in charged_keys)


def _was_answered_here(operation: Operation, key: str) -> bool:
    """Whether a call of ours was told of the charge: by its own answer, or asked about the key."""
    answers = [send.outcome for send in operation.sends if send.key == key]
    answers += [note.outcome for note in operation.notes if note.gateway_key == key and note.through is not None and note.outcome]
    return any(isinstance(each, Charged) for each in answers)


def may_have_gone_on(operation: Operation, since: float | None, now: float) -> bool:
    """Whether an order that has its end here may have had another life, in writes that the store has lost.

    Only one whose key was free for another press. Whoever pressed has heard from it by `LOST_BACK_SECONDS`: from then on it is
    told as it stands, also where nobody could be asked.
    """
    if since is None or now - since >= LOST_BACK_SECONDS:
        return False
    free = not operation.client_key or (operation.state is State.CANCELLED and operation.why in LET_GO)
    return free and not _was_looked_for(operation, since, charging=False) and not is_believed(operation, since)


def is_declined_by_hearsay(operation: Operation) -> bool:
    """Whether a call of this life has no answer, and only word from elsewhere says that it was declined: at a gateway without keys
    that may be a lost try's decline."""
    calls = [send for send in operation.sends if send.kind is SendKind.CHARGE and send.generation == operation.generation]
    return bool(calls) and isinstance(calls[-1].outcome, Unknown | NeedsShopper)


def is_believed(operation: Operation, since: float) -> bool:
    """Whether it was taken for what it says in this life of the store, since nobody can be asked."""
    return any(entry.detail.get("outcome") == BELIEVED for entry in _looks(operation, since))


def is_taken_for_new(operation: Operation, since: float) -> bool:
    """Whether it came so long after the failover that it is no lost one's second press, where nobody can be asked."""
    return operation.created_at > since + PRESSED_AGAIN_SECONDS


def _was_looked_for(operation: Operation, since: float, *, charging: bool) -> bool:
    """Whether its timeline says so. A charge that was found speaks for the lives up to its own; a doubt for none."""
    return any(_speaks(entry.detail, operation.generation, charging=charging) for entry in _looks(operation, since))


def _speaks(detail: Mapping[str, Any], generation: int, *, charging: bool) -> bool:
    if detail.get("outcome") == NOTHING_STANDS:  # without "proven" it is by an older cxguard, or by the shop's word
        return bool(detail.get("proven", True)) or (charging and detail.get("generation") == generation)
    return detail.get("outcome") in (TAKEN_OVER, DOUBT_OR_PAID) and detail.get("generation", 0) >= generation


def _looks(operation: Operation, since: float) -> list[Entry]:
    return [entry for entry in operation.history if entry.event == LOST_EVENT and entry.detail.get("since") == since]


def key_life(operation: Operation) -> int:
    """The life whose keys this one charges under: an earlier one, where what it has sent may still be under way."""
    looks = [entry.detail for entry in operation.history if entry.event == LOST_EVENT]
    mine = [detail.get("key_of") for detail in looks if detail.get("generation") == operation.generation]
    return next((life for life in reversed(mine) if isinstance(life, int)), operation.generation)


def second_look_at(operation: Operation) -> float | None:
    """When the gateways are to be asked whether a lost life has charged, too, beside what this one came to: once all that was
    under way must have shown up. None: the look before was proof, or the money is not known yet, or asked about at the end."""
    last = last_clear(operation)
    if last.get("proven", True) or "settles_at" not in last or money_of(operation).state in (MoneyState.NONE, MoneyState.UNKNOWN):
        return None
    return float(last["settles_at"])


def last_clear(operation: Operation) -> Mapping[str, Any]:
    """What the last look noted that found nothing."""
    looks = (entry.detail for entry in reversed(operation.history) if entry.event == LOST_EVENT)
    return next((detail for detail in looks if detail.get("outcome") == NOTHING_STANDS), {})


def due_for_second_look(operation: Operation) -> Operation:
    """The record as it is saved when its lease ends: due in time for that."""
    at = second_look_at(operation)
    if at is None or (operation.due_at is not None and operation.due_at <= at):
        return operation
    return changed(operation, due_at=at)


def put_off(operation: Operation, *, until: float) -> Operation:
    """The record with that look put off: nobody has answered. Its timeline does not grow."""
    last = max(number for number, entry in enumerate(operation.history) if entry.event == LOST_EVENT and "settles_at" in entry.detail)
    entry = operation.history[last]
    later = replace(entry, detail={**entry.detail, "settles_at": until})
    return changed(operation, history=(*operation.history[:last], later, *operation.history[last + 1 :]))


def was_taken_over(operation: Operation, send: Send) -> bool:
    """Whether *send* is no call of ours, but a line that was written in doubt."""
    looks = (entry.detail for entry in operation.history if entry.event == LOST_EVENT and entry.detail.get("outcome") == IN_DOUBT)
    return any(detail.get("number") == send.number for detail in looks)


def with_figures_told(operation: Operation, key: str, outcome: Outcome) -> Operation:
    """The record, when the gateway was asked and says that all went back. A line that was written in doubt has the figures of the
    basket as it is now: what it was in the lost life only that word tells."""
    if not isinstance(outcome, Refunded):
        return operation
    sends = tuple(
        replace(send, amount_minor=outcome.amount_minor, currency=outcome.currency)
        if send.key == key and was_taken_over(operation, send)
        else send
        for send in operation.sends
    )
    return changed(operation, sends=sends)


def life_after(said: Sequence[Outcome], *, generation: int) -> int:
    """The first life that has not ended with a decline or a refund, if the first one asked about was *generation*."""
    over = [number for number, each in enumerate(said) if isinstance(each, Declined | Refunded)]
    return generation + over[-1] + 1 if over else generation


def last_life(operation: Operation) -> int:
    """The last life of which a charge stands, where that is a later one than the record knows of; else the record's."""
    stands = money_of(operation).charged_keys
    sent = (send.generation for send in operation.sends if send.key in stands)
    told = (note.generation for note in operation.notes if note.gateway_key in stands)
    return max((operation.generation, *sent, *told))
