"""Where the money is: folded from sends and notes, never set.

A record keeps one line for each *send* (a call to a gateway that may move money), written with outcome `Unknown`
before the call leaves, and *notes*: facts that arrive from elsewhere, in any order and any number of times. `fold`
reads them all and says where the money is. Folding the same facts in any order gives the same money.

Within one gateway key: any proof of a charge wins; else a send without an answer leaves the key unknown, unless an
answer *about the key* covers it; else declined; else surely not charged. A refund that was told of as made, and then as
failed, was none. Across keys: unknown, then charged, then declined, then refunded, then none. What was declined or given
back in an earlier generation is history: it does not colour the present one; a charge that stands, or may stand, does.

An answer is about the key when it was asked of the key or came unasked (a note), or when a gateway that honours keys
answers a send with a charge or the issuer's no. "Not charged" in answer to a send is about that send alone, and
"processing" or "one more step at the bank" leaves open whatever no later answer about the key covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

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
    SERVED = "served"  # the confirmation page was shown: the purchase is over for its shopper
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
        parcel: what was asked for, sealed, so that the very same can be sent again; gone when the operation ends.
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
    parcel: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """One fact about an operation, appended without a lease, never replaced.

    Attributes:
        event_id: makes it idempotent: a second note with the same id changes nothing.
        gateway_key: which key the outcome is about; None for other kinds.
        through: the outcome covers the sends up to this number; None covers all sends of the key (webhooks).
        generation: the life of the operation that it was meant for (0: any). A wish to cancel must name its own, or it
            would end every later life, too.
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
        capture_pending: a capture was sent and has no answer yet; what it asked for may have been taken.
    """

    state: MoneyState
    authorised_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    currency: str | None = None
    charged_keys: tuple[str, ...] = ()
    unknown_keys: tuple[str, ...] = ()
    refund_pending: bool = False
    capture_pending: bool = False


NO_MONEY = Money(MoneyState.NONE)


def fold(sends: Sequence[Send], notes: Iterable[Note], *, generation: int) -> Money:
    """Say where the money is, from all that is known. Pure; independent of the notes' order and repetition.

    Args:
        generation: the present life: only what it sent can make it declined or refunded.
    """
    if not sends and notes == ():
        return NO_MONEY
    known = by_key(sends, notes)
    if not known:
        return NO_MONEY
    if len(known) == 1 and known[0].refunded is None and known[0].kind is SendKind.CHARGE:
        return _one_charge(known[0], generation=generation)
    charges = [key for key in known if key.kind is SendKind.CHARGE]
    charged = [key for key in charges if key.state is MoneyState.CHARGED]
    unknown = tuple(key.name for key in charges if key.state is MoneyState.UNKNOWN)
    back = given_back(known)
    standing = tuple(key.name for key in charged if not _all_back(key, back))
    currency = charged[0].currency if charged else None
    counted = [key for key in charged if key.currency == currency]  # never a sum over two currencies
    captured = sum(captured_of(key, known) for key in counted)
    return Money(
        state=_across_keys(charges, unknown=bool(unknown), standing=bool(standing), generation=generation),
        authorised_minor=sum(key.amount for key in counted) - captured,
        captured_minor=captured,
        refunded_minor=sum(back.get(key.name, 0) for key in counted),
        currency=currency,
        charged_keys=standing,
        unknown_keys=unknown,
        refund_pending=any(key.kind in GIVING_BACK and key.state is MoneyState.UNKNOWN for key in known),
        capture_pending=bool(_pending_captures(known)),
    )


def next_number(sends: Sequence[Send], notes: Iterable[Note]) -> int:
    """The number of the next line: above all that a note covers, too, since it may cover a line that is not on record any more."""
    return 1 + max((*(send.number for send in sends), *(note.through or 0 for note in notes)), default=0)


def unanswered(sends: Sequence[Send], notes: Iterable[Note], key: str) -> tuple[Send, ...]:
    """The sends of *key* that neither their own answer nor an answer about the key has settled."""
    mine = [send for send in sends if send.key == key]
    settled_to = max((known.settled_to for known in by_key(mine, notes) if known.name == key), default=-1)
    return tuple(send for send in mine if isinstance(send.outcome, _OPEN) and send.number > settled_to)


def _one_charge(key: KnownKey, *, generation: int) -> Money:
    """What `fold` says of almost every operation, without its loops: it runs at each save, while a shopper waits."""
    state = key.state
    if state is MoneyState.CHARGED:
        held_back = key.amount - key.captured
        return Money(state, held_back, key.captured, 0, key.currency, (key.name,))
    if state is MoneyState.UNKNOWN:
        return Money(state, unknown_keys=(key.name,))
    return Money(state) if key.generation in (generation, 0) else NO_MONEY


def pending_refunds(sends: Sequence[Send], notes: Iterable[Note]) -> tuple[str, ...]:
    """The gateway keys of refunds and voids of which we do not know whether they worked, oldest first."""
    return tuple(key.name for key in by_key(sends, notes) if key.kind in GIVING_BACK and key.state is MoneyState.UNKNOWN)


def pending_captures(sends: Sequence[Send], notes: Iterable[Note]) -> tuple[str, ...]:
    """The gateway keys of captures of which we do not know whether they worked, oldest first."""
    return _pending_captures(by_key(sends, notes))


def _pending_captures(known: Sequence[KnownKey]) -> tuple[str, ...]:
    """An open capture is settled, too, when the gateway tells of the charge itself that so much was taken."""
    pending = []
    for key in known:
        if key.kind is SendKind.CAPTURE and key.state is MoneyState.UNKNOWN:
            charge = next((each for each in known if each.name == key.of), None)
            others = sum(each.amount for each in known if each.kind is SendKind.CAPTURE and each.of == key.of and each.charged is not None)
            if charge is None or charge.captured < others + key.asked_minor:
                pending.append(key.name)
    return tuple(pending)


_OPEN = (Unknown, NeedsShopper)  # a payment may exist, or may yet complete
_ABOUT_KEY = (Charged, Declined, Refunded)  # from a gateway that honours keys: said of the key, not of one send
GIVING_BACK = (SendKind.REFUND, SendKind.VOID)


@dataclass(slots=True)
class KnownKey:
    """All that is known about one gateway key, gathered in any order.

    Attributes:
        last: its newest send.
        open_to: the newest send that has no answer of its own; 0 when only notes speak of the key; -1: none is open.
        settled_to: the newest send that an answer about the key covers; -1: there is none.
        processing: word came from elsewhere that a payment is under way: it may be any send's, so the newest one's.
        charged: the largest charge told of, with its currency (two tellings of one charge may differ).
        captured: the largest that was told of as taken at once.
        back: each telling of what was given back under this key: the send that it speaks for (0: of none in particular),
            when it was heard, amount and currency.
        failed_to: a refund or void: the newest send of which it was told that nothing arrived, whatever was said before; -1: none.
        failed_at: when that was heard.
    """

    name: str
    kind: SendKind
    generation: int
    of: str | None = None
    asked_minor: int = 0
    last: int = 0
    open_to: int = -1
    settled_to: float = -1
    processing: bool = False
    declined: bool = False
    charged: tuple[int, str] | None = None
    captured: int = 0
    back: list[_Back] = field(default_factory=list)
    failed_to: float = -1
    failed_at: float = -inf

    @property
    def refunded(self) -> tuple[int, str] | None:
        """The largest that was told of as given back under this key, and has not been told of as failed since."""
        return max(((each.amount_minor, each.currency) for each in self.back if each.number > self.failed_to), default=None)

    @property
    def failed_minor(self) -> int:
        """What was told of as given back, or was under way or without an answer, and then told of as failed: a bank may send a refund
        back days later. A sum that was told of the charge before may have it in it in either case."""
        told = max((each.amount_minor for each in self.back if each.number <= self.failed_to), default=0)
        silent = self.failed_at > -inf and self.open_to >= 0 and self.refunded is None
        return told or (self.asked_minor if silent else 0)

    @property
    def state(self) -> MoneyState:
        if self.charged is not None or self.refunded is not None:  # what was given back had been taken
            return MoneyState.CHARGED
        if max(self.open_to, self.last if self.processing else -1) > self.settled_to:
            return MoneyState.UNKNOWN
        return MoneyState.DECLINED if self.declined else MoneyState.NONE

    @property
    def amount(self) -> int:
        """What was charged; when only a refund tells of the charge, what was asked for."""
        return self.charged[0] if self.charged is not None else self.asked_minor

    @property
    def currency(self) -> str | None:
        taken = self.charged or self.refunded
        return taken[1] if taken is not None else None

    def add_send(self, send: Send) -> None:
        self.last = max(self.last, send.number)
        self.asked_minor = max(self.asked_minor, send.amount_minor or 0)
        if isinstance(send.outcome, _OPEN):
            self.open_to = max(self.open_to, send.number)
        else:
            self._hear(send.outcome, number=send.number, at=send.sent_at)
            if send.keyed and isinstance(send.outcome, _ABOUT_KEY):
                self.settled_to = max(self.settled_to, send.number)

    def add_note(self, outcome: Outcome, *, through: int | None, at: float) -> None:
        if not isinstance(outcome, _OPEN):
            self._hear(outcome, number=through or 0, at=at)
            self.settled_to = max(self.settled_to, inf if through is None else through)
            if isinstance(outcome, NotCharged) and self.kind in GIVING_BACK:
                self.failed_to = max(self.failed_to, inf if through is None else through)
                self.failed_at = max(self.failed_at, at)
        elif through is None:
            self.processing = True
        else:
            self.open_to = max(self.open_to, through)

    def _hear(self, outcome: Outcome, *, number: int, at: float) -> None:
        if isinstance(outcome, Charged):
            self.charged = max(self.charged or (0, ""), (outcome.amount_minor, outcome.currency))
            self.captured = max(self.captured, outcome.amount_minor if outcome.captured else 0)
        elif isinstance(outcome, Refunded):
            self.back.append(_Back(number, at, outcome.amount_minor, outcome.currency))
        elif isinstance(outcome, Declined):
            self.declined = True


@dataclass(frozen=True, slots=True)
class _Back:
    """One telling of money that was given back."""

    number: int
    at: float
    amount_minor: int
    currency: str


def by_key(sends: Sequence[Send], notes: Iterable[Note]) -> list[KnownKey]:
    """Gateway keys in the order of their first send; those known only from notes come last, sorted: they are charges."""
    sent: dict[str, KnownKey] = {}
    told: dict[str, KnownKey] = {}
    for send in sends:
        if send.key not in sent:
            sent[send.key] = KnownKey(send.key, send.kind, send.generation, send.of)
        sent[send.key].add_send(send)
    for note in notes:
        if note.kind is NoteKind.OUTCOME and note.gateway_key and note.outcome is not None:
            key = sent.get(note.gateway_key) or told.setdefault(note.gateway_key, KnownKey(note.gateway_key, SendKind.CHARGE, 0))
            key.add_note(note.outcome, through=note.through, at=note.at)
            if not key.last:
                key.generation = max(key.generation, note.generation)
    return [*sent.values(), *(told[name] for name in sorted(told))]


def given_back(known: Sequence[KnownKey]) -> dict[str, int]:
    """What was given back, by the gateway key of the charge.

    A refund of ours may also be told as a fact about the charge, there as the sum of all: the larger one counts, so that
    too little rather than too much is taken for given back (a gateway refuses to refund more than it holds).
    """
    back: dict[str, int] = {}
    for key in known:
        if key.kind in GIVING_BACK and key.of is not None and key.refunded is not None:
            back[key.of] = back.get(key.of, 0) + key.refunded[0]
    for key in known:
        if key.kind is SendKind.CHARGE and key.back:
            back[key.name] = max(back.get(key.name, 0), told_back(key, known))
    return back


def told_back(key: KnownKey, known: Sequence[KnownKey]) -> int:
    """The sum that was told of the charge itself as given back. One that was heard before a refund failed, or in the same
    moment, had that in it."""
    failed = [each for each in known if each.of == key.name and each.failed_minor]
    sums = (each.amount_minor - sum(one.failed_minor for one in failed if one.failed_at >= each.at) for each in key.back)
    return max(0, *sums)


def _all_back(key: KnownKey, back: Mapping[str, int]) -> bool:
    """A charge whose amount nobody told stands until a refund is told."""
    return key.name in back and back[key.name] >= key.amount


def captured_of(key: KnownKey, known: Sequence[KnownKey]) -> int:
    """Taken at once, or by captures of their own; never more than the charge (a capture may be told of under both)."""
    later = sum(each.amount for each in known if each.kind is SendKind.CAPTURE and each.of == key.name and each.charged is not None)
    return min(max(key.captured, later), key.amount)


def _across_keys(charges: Sequence[KnownKey], *, unknown: bool, standing: bool, generation: int) -> MoneyState:
    if unknown:
        return MoneyState.UNKNOWN
    if standing:
        return MoneyState.CHARGED
    present = {key.state for key in charges if key.generation in (generation, 0)}
    if MoneyState.DECLINED in present:
        return MoneyState.DECLINED
    return MoneyState.REFUNDED if MoneyState.CHARGED in present else MoneyState.NONE
