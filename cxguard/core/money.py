"""Where the money is: folded from sends and notes, never set.

A record keeps one line for each *send* (a call to a gateway that may move money), written with outcome `Unknown`
before the call leaves, and *notes*: facts that arrive from elsewhere, in any order and any number of times. `fold`
reads them all and says where the money is. Folding the same facts in any order gives the same money.

Within one gateway key: any proof of a charge wins; else a send without an answer leaves the key unknown, unless an
answer *about the key* covers it; else declined; else surely not charged. Across keys: unknown, then charged, then
declined, then none. A decline of an earlier generation is history: it does not colour the present one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown


NO_ANSWER = Unknown(why="no answer yet")


class MoneyState(StrEnum):
    """Where the money is, in one word."""

    NONE = "none"  # surely not charged
    UNKNOWN = "unknown"  # a charge may have happened
    CHARGED = "charged"  # authorised or captured: the amounts say which
    DECLINED = "declined"  # by the issuer
    REFUNDED = "refunded"  # all of it


class SendKind(StrEnum):
    """What a send asked the gateway to do."""

    CHARGE = "charge"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


class NoteKind(StrEnum):
    """What a note tells."""

    OUTCOME = "outcome"  # what became of a gateway key: webhook, look-up, late answer
    CANCEL = "cancel"  # the shopper wants out
    REMARK = "remark"  # free words from a person: feedback on the status page, an agent's line


@dataclass(frozen=True, slots=True)
class Send:
    """One call to a gateway.

    Attributes:
        number: 1, 2, ... within the operation; never reused.
        gateway: adapter, account and mode, for instance `http:shop-eu:live`. `shop` when the shop's own code charges.
        key: the gateway key, derived once and re-read ever after.
        step: the step of the operation that this send belongs to, for instance `charge`.
        keyed: whether the gateway honours keys: an answer to one send is then an answer about the key.
        sent_at: wall clock, seconds since the epoch.
        outcome: what was answered to this very send; `Unknown` until then.
        of: for capture, void and refund: the gateway key of the charge that they are about.
    """

    number: int
    gateway: str
    key: str
    step: str
    generation: int
    kind: SendKind
    amount_minor: int | None
    currency: str | None
    sent_at: float
    keyed: bool = True
    outcome: Outcome = NO_ANSWER
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """One fact about an operation, appended without a lease, never replaced.

    Attributes:
        event_id: makes it idempotent: a second note with the same id changes nothing.
        gateway_key: which key the outcome is about; None for other kinds.
        through: the outcome covers the sends up to this number; None covers all sends of the key (webhooks).
        generation: the life of the operation that it was meant for (0: any).
    """

    event_id: str
    kind: NoteKind
    at: float
    source: str = ""
    gateway_key: str | None = None
    outcome: Outcome | None = None
    through: int | None = None
    generation: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Money:
    """The folded money of one operation. Amounts are in minor units of *currency*.

    Attributes:
        charged_keys: gateway keys with a charge on them that has not been given back, oldest first.
        unknown_keys: gateway keys of which we do not know whether they charged.
        refund_pending: a refund or void was sent and has no answer yet.
    """

    state: MoneyState
    authorised_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    currency: str | None = None
    charged_keys: tuple[str, ...] = ()
    unknown_keys: tuple[str, ...] = ()
    refund_pending: bool = False


NO_MONEY = Money(MoneyState.NONE)


def fold(sends: Sequence[Send], notes: Iterable[Note], *, generation: int) -> Money:
    """Say where the money is, from all that is known. Pure; independent of the notes' order and repetition."""
    if not sends and not notes:
        return NO_MONEY
    facts = _facts_by_key(notes)
    charges = _charge_keys(sends, facts)
    states = {key: _key_state(key, sends, facts.get(key, ())) for key in charges}
    refunds = _refunds(sends, facts)
    charged = [key for key in charges if states[key] is MoneyState.CHARGED]
    standing = tuple(key for key in charged if refunds.get(key, 0) < _amount_of(key, sends, facts))
    unknown = tuple(key for key in charges if states[key] is MoneyState.UNKNOWN)
    present = {states[key] for key in charges if _generation_of(key, sends) in (generation, 0)}
    captured = sum(_captured_of(key, sends, facts) for key in charged)
    held_back = sum(_amount_of(key, sends, facts) for key in charged) - captured
    return Money(
        state=_across_keys(unknown=bool(unknown), charged=bool(charged), standing=bool(standing), present=present),
        authorised_minor=held_back,
        captured_minor=captured,
        refunded_minor=sum(refunds.values()),
        currency=_currency_of(charged, sends, facts),
        charged_keys=standing,
        unknown_keys=unknown,
        refund_pending=_refund_pending(sends, facts),
    )


def unanswered(sends: Sequence[Send], notes: Iterable[Note], key: str) -> tuple[Send, ...]:
    """The sends of *key* that neither their own answer nor an answer about the key has settled."""
    facts = _facts_by_key(notes).get(key, ())
    return tuple(send for send in sends if send.key == key and not _settled(send, sends, facts))


def _across_keys(*, unknown: bool, charged: bool, standing: bool, present: set[MoneyState]) -> MoneyState:
    if unknown:
        return MoneyState.UNKNOWN
    if standing:
        return MoneyState.CHARGED
    if MoneyState.DECLINED in present:
        return MoneyState.DECLINED
    if charged:
        return MoneyState.REFUNDED
    return MoneyState.NONE


def _facts_by_key(notes: Iterable[Note]) -> dict[str, tuple[Note, ...]]:
    facts: dict[str, tuple[Note, ...]] = {}
    for note in notes:
        if note.kind is NoteKind.OUTCOME and note.gateway_key and note.outcome is not None:
            facts[note.gateway_key] = (*facts.get(note.gateway_key, ()), note)
    return facts


def _charge_keys(sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> list[str]:
    """Gateway keys of charges in the order of their first send; keys known only from notes come last, sorted."""
    of_sends = list(dict.fromkeys(send.key for send in sends if send.kind is SendKind.CHARGE))
    others = {send.key for send in sends}
    return of_sends + sorted(key for key in facts if key not in others)


def _key_state(key: str, sends: Sequence[Send], facts: Sequence[Note]) -> MoneyState:
    mine = [send for send in sends if send.key == key]
    outcomes = [send.outcome for send in mine] + [note.outcome for note in facts if note.outcome is not None]
    if any(isinstance(outcome, Charged | Refunded) for outcome in outcomes):
        return MoneyState.CHARGED
    if any(not _settled(send, sends, facts) for send in mine):
        return MoneyState.UNKNOWN
    if any(isinstance(outcome, Declined) for outcome in outcomes):
        return MoneyState.DECLINED
    if any(isinstance(outcome, NotCharged) for outcome in outcomes):
        return MoneyState.NONE
    return MoneyState.UNKNOWN


def _settled(send: Send, sends: Sequence[Send], facts: Iterable[Note]) -> bool:
    """Whether we know what this send did: by its own answer, a later keyed answer, or a fact about its key."""
    if isinstance(send.outcome, Charged | Declined | NotCharged | Refunded):
        return True
    if send.keyed and any(later.key == send.key and later.number > send.number and _about_key(later) for later in sends):
        return True
    return any(
        isinstance(note.outcome, Charged | Declined | NotCharged | Refunded) and (note.through is None or note.through >= send.number)
        for note in facts
    )


def _about_key(send: Send) -> bool:
    """A gateway that honours keys answers a repeated send for the key: with the payment, or with the issuer's no."""
    return isinstance(send.outcome, Charged | Declined | Refunded)


def _generation_of(key: str, sends: Sequence[Send]) -> int:
    return next((send.generation for send in sends if send.key == key), 0)


def _proofs(key: str, sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> list[Charged]:
    own = [send.outcome for send in sends if send.key == key]
    noted = [note.outcome for note in facts.get(key, ())]
    return [outcome for outcome in own + noted if isinstance(outcome, Charged)]


def _amount_of(key: str, sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> int:
    return max((proof.amount_minor for proof in _proofs(key, sends, facts)), default=0)


def _captured_of(key: str, sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> int:
    """Captured at once, or by captures of their own; never more than the amount (a repeated fact counts once)."""
    at_once = max((proof.amount_minor for proof in _proofs(key, sends, facts) if proof.captured), default=0)
    capture_keys = {send.key for send in sends if send.kind is SendKind.CAPTURE and send.of == key}
    later = sum(_amount_of(capture, sends, facts) for capture in capture_keys)
    return min(max(at_once, later), _amount_of(key, sends, facts))


def _refunds(sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> dict[str, int]:
    """What was given back, by the gateway key of the charge. One refund key counts once, however often it is told."""
    back: dict[str, int] = {}
    for key, of in {send.key: send.of for send in sends if send.kind in (SendKind.REFUND, SendKind.VOID)}.items():
        amounts = _refund_amounts(key, sends, facts)
        if of is not None and amounts:
            back[of] = back.get(of, 0) + max(amounts)
    for key, told in facts.items():
        direct = [note.outcome.amount_minor for note in told if isinstance(note.outcome, Refunded)]
        if direct and all(send.kind is SendKind.CHARGE for send in sends if send.key == key):
            back[key] = max(back.get(key, 0), *direct)
    return back


def _refund_amounts(key: str, sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> list[int]:
    own = [send.outcome for send in sends if send.key == key]
    noted = [note.outcome for note in facts.get(key, ())]
    return [outcome.amount_minor for outcome in own + noted if isinstance(outcome, Refunded)]


def _refund_pending(sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> bool:
    back = [send for send in sends if send.kind in (SendKind.REFUND, SendKind.VOID)]
    return any(isinstance(send.outcome, Unknown | NeedsShopper) and not _settled(send, sends, facts.get(send.key, ())) for send in back)


def _currency_of(charged: Sequence[str], sends: Sequence[Send], facts: dict[str, tuple[Note, ...]]) -> str | None:
    return next((proof.currency for key in charged for proof in _proofs(key, sends, facts)), None)
