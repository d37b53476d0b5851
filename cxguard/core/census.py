"""What one session adds to the counters. A report reads counters and never looks at sessions.

`census` says what a session counts for as it stands; a change of the session changes the counters by the difference
(`counter_deltas`). So a session that meets its first error leaves the unexposed ones and joins the exposed ones in one
step, and it does not matter in how many steps it came to be as it is.

Per stage there are three groups of sessions. *Unexposed* reached the stage and met no error anywhere: the control.
*Exposed* met an error at this stage before they bought (or without buying). The rest met one elsewhere: in neither.
Messages that came after the purchase are counted apart: they cannot have cost it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cxguard.core.message import Message, message_of
from cxguard.core.session import By, Cause, Session, Shown, Stage

CENSUS_PREFIX = "sessions/"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many sessions a group has, and how many of them bought."""

    sessions: int = 0
    bought: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One row: a message at a stage. `stage` and the enums are as they were counted; unknown ones are left out."""

    stage: Stage
    cause: Cause
    by: By
    message: Message


@dataclass(frozen=True, slots=True)
class Group:
    """The counters of one group of sessions.

    Attributes:
        left_minor: what was in the baskets of those that did not buy, by currency.
        shown: how often the message was shown in all.
        after_purchase: sessions that were shown it only after they had bought; they are in none of the other figures.
    """

    counts: Counts = Counts()
    left_minor: Mapping[str, int] = field(default_factory=dict)
    shown: int = 0
    after_purchase: int = 0


@dataclass(frozen=True, slots=True)
class Census:
    """All counters of the sessions, read."""

    reached: Mapping[Stage, Counts] = field(default_factory=dict)
    unexposed: Mapping[Stage, Counts] = field(default_factory=dict)
    exposed: Mapping[Stage, Group] = field(default_factory=dict)
    messages: Mapping[Told, Group] = field(default_factory=dict)


def counter_deltas(before: Session | None, after: Session) -> dict[str, int]:
    """What to add to each counter when *before* (None: no session yet) becomes *after*. Zeros are left out."""
    was = census(before) if before is not None else {}
    is_now = census(after)
    changes = {name: is_now.get(name, 0) - was.get(name, 0) for name in {**was, **is_now}}
    return {name: change for name, change in changes.items() if change}


def census(session: Session) -> dict[str, int]:
    """The counters that this session stands for."""
    counted: dict[str, int] = {}
    for stage in session.reached:
        _count(counted, f"reached/{stage}", session)
        if not session.in_the_way:
            _count(counted, f"unexposed/{stage}", session)
    for stage in {shown.stage for shown in session.in_the_way}:
        _count(counted, f"exposed/{stage}", session)
        _count_left(counted, f"exposed/{stage}", session)
    for shown in session.shown:
        _count_message(counted, session, shown)
    return counted


def read_census(counters: Mapping[str, float]) -> Census:
    """Put counters (by name from `CENSUS_PREFIX` on) into groups. Names of a newer version are left out."""
    figures: dict[tuple[str, ...], dict[str, int]] = {}
    for name, value in counters.items():
        parts = name.removeprefix(CENSUS_PREFIX).split("/")
        group, figure = _split(parts)
        figures.setdefault(group, {})[figure] = round(value)
    return Census(
        reached={stage: _group(figures[("reached", stage)]).counts for stage in Stage if ("reached", stage) in figures},
        unexposed={stage: _group(figures[("unexposed", stage)]).counts for stage in Stage if ("unexposed", stage) in figures},
        exposed={stage: _group(figures[("exposed", stage)]) for stage in Stage if ("exposed", stage) in figures},
        messages={told: _group(found) for group, found in figures.items() if (told := _told(group)) is not None},
    )


def _count(counted: dict[str, int], group: str, session: Session) -> None:
    counted[f"{CENSUS_PREFIX}{group}/sessions"] = 1
    if session.bought is not None:
        counted[f"{CENSUS_PREFIX}{group}/bought"] = 1


def _count_left(counted: dict[str, int], group: str, session: Session) -> None:
    basket = session.basket
    if session.bought is None and basket is not None and basket.amount_minor and basket.currency:
        counted[f"{CENSUS_PREFIX}{group}/left/{_escaped(basket.currency)}"] = basket.amount_minor


def _count_message(counted: dict[str, int], session: Session, shown: Shown) -> None:
    group = f"message/{shown.stage}/{shown.cause}/{shown.by}/{_escaped(shown.message.label)}"
    counted[f"{CENSUS_PREFIX}{group}/shown"] = shown.times
    if shown in session.in_the_way:
        _count(counted, group, session)
        _count_left(counted, group, session)
    else:
        counted[f"{CENSUS_PREFIX}{group}/after_purchase"] = 1


def _split(parts: list[str]) -> tuple[tuple[str, ...], str]:
    """The group's name, and the figure's: `sessions`, `bought`, `left/EUR`, ..."""
    if len(parts) > 2 and parts[-2] == "left":
        return tuple(parts[:-2]), f"left/{parts[-1]}"
    return tuple(parts[:-1]), parts[-1]


def _group(figures: Mapping[str, int]) -> Group:
    left = {_read(figure.removeprefix("left/")): value for figure, value in figures.items() if figure.startswith("left/") and value}
    return Group(
        counts=Counts(sessions=figures.get("sessions", 0), bought=figures.get("bought", 0)),
        left_minor=left,
        shown=figures.get("shown", 0),
        after_purchase=figures.get("after_purchase", 0),
    )


def _told(group: tuple[str, ...]) -> Told | None:
    if len(group) != 5 or group[0] != "message":
        return None
    try:
        return Told(Stage(group[1]), Cause(group[2]), By(group[3]), message_of(_read(group[4])))
    except ValueError:
        return None


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")


def _read(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")
