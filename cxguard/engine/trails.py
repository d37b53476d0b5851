"""Where lost tries of an order may have charged, and what the gateways there say about each of them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from cxguard.core import names
from cxguard.core.lost import NOT_FOUND, Lost, is_silent, judge_lost, steps_of_life
from cxguard.core.money import NO_ANSWER, SendKind
from cxguard.core.operation import Entry, Operation, appended, changed
from cxguard.core.outcomes import Outcome, Unknown
from cxguard.core.resolve import LOOK_EVENT
from cxguard.engine.charging import Work
from cxguard.engine.engine import Engine
from cxguard.engine.looking import look, was_answered
from cxguard.gateways.base import Charge, Gateway
from cxguard.stores.base import Level

STEP = "charge"  # the step that is asked about where no code says which ones there are: the usual one


@dataclass(frozen=True, slots=True)
class Trail:
    """Where a lost life may have charged.

    Attributes:
        charge: what is about to be charged there; None: the order is about to end.
    """

    gateway: Gateway
    step: str
    charge: Charge | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a gateway said about one life: under which key, and of which generation."""

    key: str
    outcome: Outcome
    generation: int


@dataclass(frozen=True, slots=True)
class Search:
    """Which lives are asked about, and when the answer is proof.

    Attributes:
        since: when the store began its present life.
        first: the first life that is asked about; *passed* of them are over, by the record.
        ends: the order is about to end: then no key of it is charged again, so that only proof counts.
    """

    since: float
    first: int
    passed: int = 0
    ends: bool = False


def trails_of(engine: Engine, operation: Operation, named: Sequence[str]) -> list[Trail]:
    """The usual step at each gateway, and every other one that the copy knows of."""
    first, *others = named or tuple(engine.gateways)[:1] or ("",)
    steps = {(first, STEP): None, **{(name, f"{STEP}@{name}"): None for name in others}}
    steps |= {(send.gateway, send.step): None for send in operation.sends if send.kind is SendKind.CHARGE}
    known = [(engine.gateway(name), step) for name, step in steps]
    return [Trail(gateway, step) for gateway, step in known if gateway is not None]


def elsewhere(engine: Engine, named: Sequence[str], *, step: str, there: Set[str]) -> list[Trail]:
    """The same step at those of the named gateways where it is another one than *there*: a try with another card may have gone there."""
    if engine.operations.store.level is Level.BEST_EFFORT:  # there the first one is the only one that is charged
        return []
    steps = {name: f"{step}@{name}" if number else step for number, name in enumerate(named)}
    known = [(engine.gateway(name), at) for name, at in steps.items() if at not in there]
    return [Trail(gateway, at) for gateway, at in known if gateway is not None]


async def said_about(engine: Engine, work: Work, trail: Trail, search: Search) -> tuple[list[Found], Lost]:
    """What each life's key is said to have come to. Before an end keys are no help: the next life is charged under another one."""
    same_key = trail.gateway.keyed and not search.ends
    sure = same_key or is_settled(engine, trail.gateway, search.since)
    found: list[Found] = []
    before = work.operation.history
    while (verdict := judge_lost([each.outcome for each in found], sure=sure, passed=search.passed)) is Lost.LOOK:
        found.append(await _of_life(engine, work, trail, search.first + len(found)))
    async with work.turn:
        work.operation = changed(work.operation, history=in_one_line(before, work.operation.history))
    return found, verdict


def in_one_line(before: tuple[Entry, ...], history: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The timeline after a gateway was asked about all those keys: what it does not find is one line, and one look. They are many,
    and each look puts the next one off."""
    ends = [at + 1 for at in range(len(history)) if history[at] == before[-1]] if before else [0]
    newer = history[ends[-1] :] if ends else ()  # none: the timeline is full, and began anew meanwhile
    silent = [entry for entry in newer if entry.event == LOOK_EVENT and entry.detail.get("why") == NOT_FOUND]
    if len(silent) < 2:
        return history
    others = [entry for entry in newer if entry not in silent]
    return appended(before, replace(silent[0], detail={**silent[0].detail, "keys": len(silent)}), *others)


async def _of_life(engine: Engine, work: Work, trail: Trail, generation: int) -> Found:
    """What stands under the keys of one life. Silence about a later one is doubt about the first one, which is the one that
    would be charged next."""
    said: list[Found] = []
    for step in steps_of_life(work.operation, trail.step, generation=generation):
        key = names.gateway_key(work.operation.id, step=step, generation=generation)
        found = Found(key, await look(engine, work, gateway=trail.gateway, key=key, generation=generation), generation)
        if not is_silent(found.outcome):
            return found if was_answered(found.outcome) or not said else replace(said[0], outcome=NO_ANSWER)
        said.append(found)
    return said[0]


def is_settled(engine: Engine, gateway: Gateway, since: float) -> bool:
    """Whether all that was under way when the store lost its tail must have shown up by now."""
    return engine.clock.now() >= settles_at(engine, gateway, since)


def settles_at(engine: Engine, gateway: Gateway, since: float) -> float:
    return engine.epochs.began_at(since) + gateway.settle_seconds


def unproven(engine: Engine, trail: Trail, found: Sequence[Found], since: float) -> list[int]:
    """The lives among *found* under whose keys a charge may still be under way."""
    if is_settled(engine, trail.gateway, since):
        return []
    return [each.generation for each in found if isinstance(each.outcome, Unknown)]
