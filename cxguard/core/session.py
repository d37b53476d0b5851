"""One shopper's visit to the funnel: which stages were reached, which errors were shown, and whether it still bought.

The middleware and the worker emit *facts*; `fold` puts them into a *session*. Facts may come late, out of order or
twice: what is kept is chosen by smallest or largest (time, name), never by arrival, so the same facts give the same
session. Everything that is counted derives from sessions alone (`core/census.py`).

A visit is a visitor's day (UTC): `visit_id` names it without looking anything up. An order that is placed tomorrow is
folded into the visit in which it was given, because the operation carries that visit's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from cxguard.core.message import Message, clean_label

EXPOSURES_MAX = 16  # kept with all their members; the oldest go first, so that the newest are there to be looked at
SHOWN_MAX = 16  # different messages of one session; more than that is no shopper. Those of the money step stay longest
VISIT_SECONDS = 86_400


class Stage(StrEnum):
    """A step of the shop's funnel."""

    CART = "cart"
    CHECKOUT = "checkout"
    PAY = "pay"
    DONE = "done"


class Cause(StrEnum):
    """Why the error was shown."""

    ISSUER = "issuer"  # the shopper's bank said no
    OUR_OUTAGE = "our_outage"  # something behind the shop was down
    UNKNOWN = "unknown"  # we do not know whether a charge happened
    VALIDATION = "validation"
    STOCK_PRICE = "stock_price"
    DEAD_LINK = "dead_link"
    SLOW = "slow"
    OTHER = "other"


class By(StrEnum):
    """Whose words they were."""

    OURS = "ours"
    SHOP = "shop"


@dataclass(frozen=True, slots=True)
class Basket:
    """What was at stake. An unknown amount is None, not 0."""

    amount_minor: int | None = None
    currency: str = ""
    items: int | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """The session came to a stage."""

    session: str
    stage: Stage
    at: float
    basket: Basket | None = None
    market: str = ""
    language: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Exposed:
    """The shopper was shown an error, or waited past the stage's limit. Also says that the stage was reached.

    Attributes:
        id: makes it count once: the request's own id, or operation id and answer.
        status: of the HTTP answer; 0 when there was none.
        field_name: for validation: the name (never the value) of the field that was refused, and its rule if known.
        reference: of the operation that the answer was about.
    """

    id: str
    session: str
    stage: Stage
    at: float
    message: Message
    cause: Cause
    by: By
    status: int = 0
    basket: Basket | None = None
    market: str = ""
    language: str = ""
    device: str = ""
    field_name: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Bought:
    """The session bought: the shop's answer, or the order that the worker placed later."""

    session: str
    at: float
    amount_minor: int | None = None
    currency: str = ""
    reference: str = ""


Fact: TypeAlias = Reached | Exposed | Bought


@dataclass(frozen=True, slots=True)
class Shown:
    """One message at one stage, as often as it was shown to this session.

    Attributes:
        times: how many different exposures; an id that comes again counts once while its exposure is still kept.
    """

    stage: Stage
    message: Message
    cause: Cause
    by: By
    first_at: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Session:
    """A visit, as far as it is known. See the module's text for what is kept and why.

    Attributes:
        reached: the first time at each stage.
        shown: every different message, the money step first, then the earliest.
        exposures: the newest `EXPOSURES_MAX` in order of time.
        bought: the first purchase.
        basket: the newest that was seen, and when.
    """

    id: str
    reached: Mapping[Stage, float] = field(default_factory=dict)
    shown: tuple[Shown, ...] = ()
    exposures: tuple[Exposed, ...] = ()
    bought: Bought | None = None
    basket: Basket | None = None
    basket_at: float = 0.0
    market: str = ""
    language: str = ""
    device: str = ""
    last_at: float = 0.0

    @property
    def in_the_way(self) -> tuple[Shown, ...]:
        """The messages that came before the purchase, or without one: only these can have cost it."""
        return tuple(shown for shown in self.shown if self.bought is None or shown.first_at <= self.bought.at)

    @property
    def recovered(self) -> bool:
        """It met an error and still bought."""
        return self.bought is not None and bool(self.in_the_way)

    @property
    def left(self) -> bool:
        """It met an error and has not bought."""
        return self.bought is None and bool(self.shown)


def visit_id(visitor: str, at: float) -> str:
    """The session of a visitor's request at this time: one a day, so that last month's purchase hides no error of today."""
    return f"{visitor}.{int(at // VISIT_SECONDS)}"


def fold(session: Session | None, facts: Iterable[Fact]) -> Session:
    """Put facts into a session (None: a new one). Pure; order and repetition of the facts do not matter.

    Raises:
        ValueError: no session and no facts, or a fact about another session.
    """
    for fact in facts:
        session = _fold_one(session if session is not None else Session(id=fact.session), fact)
    if session is None:
        raise ValueError("a session is made from at least one fact: pass one, or the session as it is")
    return session


def _fold_one(session: Session, fact: Fact) -> Session:
    if fact.session != session.id:
        raise ValueError(f"a fact about session {fact.session!r} was folded into {session.id!r}: group facts by session first")
    if isinstance(fact, Bought):
        return replace(_bought(session, fact), last_at=max(session.last_at, fact.at))
    if isinstance(fact, Exposed):
        session = _exposed(session, fact)
    reached = {**session.reached, fact.stage: min(fact.at, session.reached.get(fact.stage, fact.at))}
    return _about(replace(session, reached=reached), fact)


def _bought(session: Session, fact: Bought) -> Session:
    known = session.bought
    return replace(session, bought=fact if known is None else min(known, fact, key=_purchase_rank))


def _purchase_rank(fact: Bought) -> tuple[float, str, bool, int, str]:
    """The first purchase; of two tellings at one time the one with a reference, and of those the one with an amount."""
    return (fact.at, fact.reference or "\uffff", fact.amount_minor is None, fact.amount_minor or 0, fact.currency)


def _exposed(session: Session, fact: Exposed) -> Session:
    if any(known.id == fact.id for known in session.exposures):
        return session
    kept = sorted((*session.exposures, fact), key=lambda exposure: (exposure.at, exposure.id))[-EXPOSURES_MAX:]
    return replace(session, exposures=tuple(kept), shown=_shown(session.shown, fact))


def _shown(known: tuple[Shown, ...], fact: Exposed) -> tuple[Shown, ...]:
    new = Shown(fact.stage, fact.message, fact.cause, fact.by, fact.at)
    same = next((shown for shown in known if _kind(shown) == _kind(new)), None)
    if same is not None:
        new = replace(same, first_at=min(same.first_at, fact.at), times=same.times + 1)
    others = [shown for shown in known if shown is not same]
    return tuple(sorted((*others, new), key=_shown_rank)[:SHOWN_MAX])


def _kind(shown: Shown) -> tuple[str, ...]:
    return (shown.stage, shown.cause, shown.by, shown.message.label)


def _shown_rank(shown: Shown) -> tuple[bool, float, tuple[str, ...]]:
    return (shown.stage is not Stage.PAY, shown.first_at, _kind(shown))


def _about(session: Session, fact: Reached | Exposed) -> Session:
    """The newest basket, and the visitor's market, language and device."""
    basket, basket_at = session.basket, session.basket_at
    if fact.basket is not None and (basket is None or _basket_rank(fact.basket, fact.at) > _basket_rank(basket, basket_at)):
        basket, basket_at = fact.basket, fact.at
    return replace(
        session,
        basket=basket,
        basket_at=basket_at,
        market=_settled(session.market, fact.market),
        language=_settled(session.language, fact.language),
        device=_settled(session.device, fact.device),
        last_at=max(session.last_at, fact.at),
    )


def _basket_rank(basket: Basket, at: float) -> tuple[bool, float, int, str, int]:
    """A known amount before an unknown one, then the newest."""
    return (basket.amount_minor is not None, at, basket.amount_minor or 0, basket.currency, -1 if basket.items is None else basket.items)


def _settled(known: str, told: str) -> str:
    """One of the names that were told, the same one in whatever order they came."""
    told = clean_label(told)
    return min(known, told) if known and told else known or told
