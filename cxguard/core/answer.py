"""What a shopper is told: one situation, one row of `SPECS`, whatever the form (JSON, page, GraphQL) it is told in.

    SPECS          situation -> status, where the money is, whether the order is saved, whether paying anew is safe
    answer_for     situation + what is known about the order -> the frozen `Answer` that `render` puts into words
    can_be_told    whether this client can be told "kept, not paid yet": only then may an order be kept
    status_for     the status that this client understands rightly: to one that never heard of us any 2xx means "paid"

Which situation a record is in is said by `situation.py`; what a shop may change in the table, and the lies that are refused
at start, are in `honesty.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

WHY_GAVE_UP = "gave_up"  # the record's `why` when an order ended because its time was over
WHY_REPLACED = "replaced"  # ... when a changed basket took the place of the kept request


class Situation(StrEnum):
    """One row of the table each."""

    # the order has an end
    PLACED = "placed"
    PLACED_RESERVED = "placed_reserved"
    ANSWERED = "answered"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    GAVE_UP = "gave_up"
    REFUNDED = "refunded"
    NOT_KEPT = "not_kept"
    # the order is on its way
    PAID_UNFINISHED = "paid_unfinished"
    RESERVED_UNFINISHED = "reserved_unfinished"
    NEEDS_SHOPPER = "needs_shopper"
    SHOPPER_ASKED = "shopper_asked"
    KEPT = "kept"
    REPLACED = "replaced"
    SPOOLED = "spooled"
    UNKNOWN = "unknown"
    HELD = "held"
    CANCEL_ASKED = "cancel_asked"
    REFUND_DUE = "refund_due"
    IN_FLIGHT = "in_flight"
    # the request met another one
    DUPLICATE = "duplicate"
    DUPLICATE_RUNNING = "duplicate_running"
    MISMATCH = "mismatch"
    BASKET_BEING_PAID = "basket_being_paid"
    # the request was refused
    KEY_MISSING = "key_missing"
    KEY_MALFORMED = "key_malformed"
    BAD_REQUEST = "bad_request"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    OWNER_MISSING = "owner_missing"
    STORE_AWAY = "store_away"
    NO_SUCH_ORDER = "no_such_order"


class MoneyTold(StrEnum):
    """The member `money`. `not_charged` says that no charge stands: nothing was taken, or all of it went back."""

    CHARGED = "charged"  # taken, or reserved
    NOT_CHARGED = "not_charged"
    UNKNOWN = "unknown"


class Medium(StrEnum):
    """How a client reads its answer."""

    JSON = "json"
    HTML = "html"
    GRAPHQL = "graphql"


class Audience(StrEnum):
    """Who reads the answer: a rule's `audience`."""

    SHOPPER = "shopper"
    MACHINE = "machine"  # a webhook's sender: it repeats until it gets a 2xx


@dataclass(frozen=True, slots=True)
class AnswerSpec:
    """One row of the table.

    Attributes:
        status: for a client that can be told (`can_be_told`); others get `status_for`.
        money: the member; None: as the record says.
        order_saved: we have the order and see it through.
        safe_to_retry: paying anew cannot charge twice.
        message: key of the message catalogue; the situation's own name, or a key that the shop added.
        problem: the end of the problem type's URI.
        retry_after_seconds: when asking again makes sense; None: no header.
    """

    status: int
    money: MoneyTold | None
    order_saved: bool
    safe_to_retry: bool
    message: str
    problem: str
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What is known about the order and this request. Times are wall clock, seconds since the epoch.

    Attributes:
        reference: of the operation that the answer is about.
        status_url: its status page, the signed token included.
        resume_url: where the shopper takes the one more step.
        next_update_at: until when the shopper hears from us.
        ends_at: the order's own end: placed by then, or ended uncharged.
        minutes: how long ago the order was made that this one looks like.
        reason: `DeclineReason` of a decline, or another choice of wording that the catalogue knows.
        hint: what an engineer should mend about the request; never what the request carried.
    """

    reference: str | None = None
    status_url: str | None = None
    resume_url: str | None = None
    next_update_at: float | None = None
    ends_at: float | None = None
    amount_minor: int | None = None
    currency: str | None = None
    minutes: int | None = None
    reason: str = ""
    hint: str = ""
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a shopper is told, before it is put into words."""

    situation: Situation
    status: int
    money: MoneyTold | None
    order_saved: bool
    safe_to_retry: bool
    message: str
    problem: str
    about: About
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """How this client can be spoken to.

    Attributes:
        reads_202: it sent `Prefer: respond-async`, or the rule says `client_reads_202=True`.
    """

    medium: Medium
    audience: Audience = Audience.SHOPPER
    reads_202: bool = False


_S, _M = Situation, MoneyTold


def _row(
    situation: Situation, status: int, money: MoneyTold | None, *, saved: bool = False, retry: bool = False, after: int | None = None
) -> tuple[Situation, AnswerSpec]:
    return situation, AnswerSpec(status, money, saved, retry, situation.value, situation.value.replace("_", "-"), after)


SPECS: Mapping[Situation, AnswerSpec] = dict(
    (
        _row(_S.PLACED, 200, _M.CHARGED, saved=True),
        _row(_S.PLACED_RESERVED, 200, _M.CHARGED, saved=True),
        _row(_S.ANSWERED, 200, _M.NOT_CHARGED, retry=True),
        _row(_S.DECLINED, 402, _M.NOT_CHARGED, retry=True),
        _row(_S.CANCELLED, 200, _M.NOT_CHARGED, retry=True),
        _row(_S.GAVE_UP, 200, _M.NOT_CHARGED, retry=True),
        _row(_S.REFUNDED, 200, _M.NOT_CHARGED, retry=True),
        _row(_S.NOT_KEPT, 503, _M.NOT_CHARGED, retry=True, after=30),
        _row(_S.PAID_UNFINISHED, 202, _M.CHARGED, saved=True),
        _row(_S.RESERVED_UNFINISHED, 202, _M.CHARGED, saved=True),
        _row(_S.NEEDS_SHOPPER, 202, None, saved=True),
        _row(_S.SHOPPER_ASKED, 202, _M.NOT_CHARGED, saved=True),
        _row(_S.KEPT, 202, _M.NOT_CHARGED, saved=True),
        _row(_S.REPLACED, 202, _M.NOT_CHARGED, saved=True),
        _row(_S.SPOOLED, 202, _M.UNKNOWN, saved=True),  # this submission charged nothing; an earlier one may have
        _row(_S.UNKNOWN, 202, _M.UNKNOWN, saved=True),
        _row(_S.HELD, 202, None, saved=True),
        _row(_S.CANCEL_ASKED, 202, None, saved=True),
        _row(_S.REFUND_DUE, 202, _M.CHARGED, saved=True),
        _row(_S.IN_FLIGHT, 409, _M.UNKNOWN, saved=True, after=2),  # a charge may leave at any moment
        _row(_S.DUPLICATE, 200, _M.CHARGED, saved=True),
        _row(_S.DUPLICATE_RUNNING, 202, None, saved=True),
        _row(_S.MISMATCH, 422, None),
        _row(_S.BASKET_BEING_PAID, 409, _M.UNKNOWN, after=10),
        # Of these and the next, this submission charged nothing; an earlier one may have, so its key must not be given up.
        _row(_S.KEY_MISSING, 400, _M.UNKNOWN),
        _row(_S.KEY_MALFORMED, 400, _M.UNKNOWN),
        _row(_S.BAD_REQUEST, 400, _M.UNKNOWN),
        _row(_S.BODY_TOO_LARGE, 413, _M.UNKNOWN),
        _row(_S.BODY_TOO_SLOW, 408, _M.UNKNOWN),
        _row(_S.OWNER_MISSING, 401, _M.UNKNOWN),
        _row(_S.STORE_AWAY, 503, _M.UNKNOWN, after=30),
        _row(_S.NO_SUCH_ORDER, 404, None),
    )
)

PAID = frozenset({_S.PLACED, _S.PLACED_RESERVED, _S.PAID_UNFINISHED, _S.RESERVED_UNFINISHED, _S.DUPLICATE})
"""Paid, and the order goes ahead: the only ones of ours that a client may take for success."""

FINAL = frozenset({_S.PLACED, _S.PLACED_RESERVED, _S.ANSWERED, _S.DECLINED, _S.CANCELLED, _S.GAVE_UP, _S.REFUNDED, _S.NOT_KEPT})
"""Nothing more will change by itself: a status page stops looking."""

CANCELLABLE = frozenset({_S.KEPT, _S.REPLACED, _S.SPOOLED, _S.UNKNOWN, _S.NEEDS_SHOPPER, _S.SHOPPER_ASKED, _S.HELD, _S.IN_FLIGHT})
"""A wish to cancel still finds something to stop, or is resolved first."""


def answer_for(
    situation: Situation, about: About | None = None, *, recorded: MoneyTold | None = None, specs: Mapping[Situation, AnswerSpec] = SPECS
) -> Answer:
    """The answer to one situation.

    Args:
        recorded: what the record says of the money (`money_told`), for the rows that leave it to the record.
        specs: the table, with the shop's own rows.
    """
    spec = specs[situation]
    known = about or About()
    money = spec.money or (None if situation is _S.NO_SUCH_ORDER else recorded or _M.UNKNOWN)
    return Answer(
        situation=situation,
        status=spec.status,
        money=money,
        order_saved=spec.order_saved,
        safe_to_retry=spec.safe_to_retry,
        message=spec.message,
        problem=spec.problem,
        about=known,
        retry_after_seconds=known.retry_after_seconds or spec.retry_after_seconds,
    )


def can_be_told(telling: Telling) -> bool:
    """Whether this client understands "kept, and not paid yet". An order of one that does not is never kept."""
    if telling.audience is Audience.MACHINE:
        return False
    return telling.medium is Medium.HTML or telling.reads_202


def status_for(answer: Answer, telling: Telling) -> int:
    """The status that *telling*'s client takes for what it is.

    A client that was not made for us reads any 2xx as "paid", so it gets 409 for all that is not. A machine gets no 202:
    it would stop repeating before the work is done.
    """
    if answer.status >= 300 or answer.situation is _S.ANSWERED or can_be_told(telling):
        return answer.status
    done = PAID & FINAL | {_S.DUPLICATE} if telling.audience is Audience.MACHINE else PAID
    return answer.status if answer.situation in done else 409


def goes_to_status_page(answer: Answer) -> bool:
    """Whether a browser is sent to the status page (303), so that a reload sends nothing again."""
    if answer.about.status_url is None or answer.situation is _S.DUPLICATE:
        return False
    return answer.status in (200, 202) or answer.situation is _S.IN_FLIGHT
