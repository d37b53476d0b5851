"""After the store has lost its tail, before the first charge of an order and before it ends as not charged: has a lost
record, or a lost life of this one, paid already?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cxguard.core import names
from cxguard.core.lost import LOST_EVENT, NOTHING_STANDS, Lost, first_life, is_silent, judge_lost, life_after, may_come_back
from cxguard.core.money import NO_ANSWER, Send, SendKind
from cxguard.core.operation import Operation, changed, remember
from cxguard.core.outcomes import Charged, Outcome, Unknown
from cxguard.engine.charging import Work
from cxguard.engine.cold import seal_charge
from cxguard.engine.engine import Engine
from cxguard.engine.looking import look, was_answered
from cxguard.engine.routing import Route
from cxguard.gateways.base import Charge, Gateway

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
    """What a gateway said about one life: under which key, and of which generation.

    Attributes:
        asked: False: it met with silence about the lives after it, which are to be asked about again.
    """

    key: str
    outcome: Outcome
    generation: int
    asked: bool = True


async def look_for_lost(
    engine: Engine, work: Work, routes: Sequence[Route], *, key_of: Callable[[Charge, str], str]
) -> Outcome | None:
    """Ask every gateway about the keys of every life that a lost record may have had. None: nothing stands, charge.

    A charge that is found is written as the order's own. In doubt the record says that it is unknown, as if the send had
    been ours (it was), and is resolved like any other. What was sent before the failover may still be on its way under the
    very key that is charged now: it has a line of its own then, which "not charged" in answer to a later send leaves open.

    Args:
        key_of: under which key a charge is sent for a step.

    Raises:
        LeaseLost, StoreUnavailable: nothing was sent.
    """
    since = await _since(engine, work.operation)
    if since is None:
        return None
    trails = [Trail(route.gateway, route.step, route.charge) for route in routes]
    lost = await _follow(engine, work, trails, since)
    if lost is None and engine.clock.now() - since < trails[0].gateway.settle_seconds:
        late = Found(key_of(routes[0].charge, routes[0].step), NO_ANSWER, work.operation.generation)
        async with work.turn:  # written with the line of the charge itself
            work.operation = _with_lost_line(engine, work.operation, trails[0], late, since=since)
    return lost


async def look_before_end(engine: Engine, work: Work, gateways: Sequence[str], *, doubts: bool = True) -> None:
    """The same before an order ends as one that was not charged: the record then says what stands, or that it is unknown.

    Args:
        gateways: those of its rule or purpose, by name, in order; none: the guard's first.
        doubts: without an answer it is unknown; else it is what it seemed to be.
    """
    since = await _since(engine, work.operation)
    if since is not None:
        await _follow(engine, work, _trails(engine, work.operation, gateways), since, ends=True, doubts=doubts)


async def may_be_copy(engine: Engine, operation: Operation) -> bool:
    """Whether the store may have lost a later word about *operation*, that nobody has asked about since.

    Raises:
        StoreUnavailable: nobody knows now.
    """
    return await _since(engine, operation) is not None


def _trails(engine: Engine, operation: Operation, named: Sequence[str]) -> list[Trail]:
    """The usual step at each gateway, and every other one that the copy knows of."""
    first, *others = named or tuple(engine.gateways)[:1] or ("",)
    steps = {(first, STEP): None, **{(name, f"{STEP}@{name}"): None for name in others}}
    steps |= {(send.gateway, send.step): None for send in operation.sends if send.kind is SendKind.CHARGE}
    known = [(engine.gateway(name), step) for name, step in steps]
    return [Trail(gateway, step) for gateway, step in known if gateway is not None]


async def _since(engine: Engine, operation: Operation) -> float | None:
    changed_at = await engine.epochs.changed_at()
    return changed_at if may_come_back(operation, changed_at, engine.clock.now()) else None


async def _follow(
    engine: Engine, work: Work, trails: Sequence[Trail], since: float, *, ends: bool = False, doubts: bool = True
) -> Outcome | None:
    first, present = first_life(work.operation), work.operation.generation
    life = present
    for trail in trails:
        found, verdict = await _said_about(engine, work, trail, first=first, since=since, ends=ends, passed=present - first)
        if verdict is Lost.DOUBT and not doubts:
            return None
        if verdict is not Lost.CLEAR:
            return await _take_over(engine, work, trail, _doubtful(found, verdict), since=since)
        life = max(life, life_after([each.outcome for each in found], generation=first))
    life = max(present, life - 1) if ends else life  # what ends, ends with what its last life came to
    await _note_clear(engine, work, generation=life, since=since)
    return None


async def look_again(engine: Engine, work: Work, send: Send, *, gateway: Gateway) -> bool:
    """Whether the very same may be sent again: no other lost life of the order has paid, as far as the gateway says now.

    Raises:
        LeaseLost, StoreUnavailable: nothing was sent.
    """
    since = await _since(engine, work.operation)
    if since is None:
        return True
    trail = Trail(gateway, send.step)
    found, verdict = await _said_about(engine, work, trail, first=send.generation, since=since)
    clear = verdict is Lost.CLEAR and is_silent(found[0].outcome)
    if clear:
        await _note_clear(engine, work, generation=send.generation, since=since)
    elif found[-1].key != send.key and was_answered(found[-1].outcome):
        await _take_over(engine, work, trail, found[-1], since=since)
    return clear


async def _note_clear(engine: Engine, work: Work, *, generation: int, since: float) -> None:
    entry = engine.operations.entry(LOST_EVENT, outcome=NOTHING_STANDS, generation=generation, since=since)
    async with work.turn:
        work.operation = remember(changed(work.operation, generation=generation), entry)


def _doubtful(found: list[Found], verdict: Lost) -> Found:
    """The life that is taken over. Where a later one met with silence, that is the one that would be charged next: "not found"
    of its key is believed because a late charge under it is the same one, and so it may never be charged under another."""
    if verdict is not Lost.DOUBT or was_answered(found[-1].outcome):
        return found[-1]
    first = found[0].generation
    life = found[life_after([each.outcome for each in found], generation=first) - first]
    return replace(life, outcome=NO_ANSWER, asked=False)


async def _said_about(
    engine: Engine, work: Work, trail: Trail, *, first: int, since: float, ends: bool = False, passed: int = 0
) -> tuple[list[Found], Lost]:
    """What each life's key is said to have come to. Before an end keys are no help: the next life is charged under another one."""
    same_key = trail.gateway.keyed and not ends
    sure = same_key or engine.clock.now() - since >= trail.gateway.settle_seconds
    found: list[Found] = []
    while (verdict := judge_lost([each.outcome for each in found], sure=sure, passed=passed)) is Lost.LOOK:
        found.append(await _of_life(engine, work, trail, first + len(found)))
    return found, verdict


async def _of_life(engine: Engine, work: Work, trail: Trail, generation: int) -> Found:
    """What stands under the keys of one life: a kept order whose basket was replaced has charged under another one. Silence
    about that one is doubt about the first one, which is the one that would be charged next."""
    operation = work.operation
    replaceable = operation.request is not None  # only then it may have been kept, and replaced
    said: list[Found] = []
    for step in (trail.step, f"{trail.step}~1") if replaceable else (trail.step,):
        key = names.gateway_key(operation.id, step=step, generation=generation)
        found = Found(key, await look(engine, work, gateway=trail.gateway, key=key, generation=generation), generation)
        if not is_silent(found.outcome):
            return found if was_answered(found.outcome) or not said else replace(said[0], outcome=NO_ANSWER, asked=False)
        said.append(found)
    return said[0]


async def _take_over(engine: Engine, work: Work, trail: Trail, found: Found, *, since: float) -> Outcome:
    """Write the line that was lost, with what is known of it."""
    async with work.turn:
        record = _with_lost_line(engine, work.operation, trail, found, since=since)
        work.operation = await engine.operations.write(record, work.lease)
    return record.sends[-1].outcome


def _with_lost_line(engine: Engine, operation: Operation, trail: Trail, found: Found, *, since: float) -> Operation:
    gateway, charge, unknown = trail.gateway, trail.charge, isinstance(found.outcome, Unknown)
    amount_minor, currency = _figures(operation, trail, found.outcome)
    send = Send(
        number=1 + max((line.number for line in operation.sends), default=0),
        gateway=gateway.name,
        key=found.key,
        step=trail.step,
        generation=found.generation,
        kind=SendKind.CHARGE,
        amount_minor=amount_minor,
        currency=currency,
        sent_at=engine.clock.now(),
        keyed=gateway.keyed,
        parcel=seal_charge(engine.seal, operation, charge) if gateway.keyed and charge is not None else None,
        outcome=NO_ANSWER if unknown else found.outcome,
    )
    looked_for = found.generation if found.asked else found.generation - 1
    detail = {"outcome": "in doubt" if unknown else "taken over", "generation": looked_for, "since": since}
    entry = engine.operations.entry(LOST_EVENT, gateway=gateway.name, **detail)
    return remember(changed(operation, generation=found.generation, sends=(*operation.sends, send)), entry)


def _figures(operation: Operation, trail: Trail, outcome: Outcome) -> tuple[int | None, str | None]:
    """What was asked for there, as far as anybody knows."""
    if trail.charge is not None:
        return trail.charge.amount_minor, trail.charge.currency
    if operation.amount_minor is None and isinstance(outcome, Charged):
        return outcome.amount_minor, outcome.currency
    return operation.amount_minor, operation.currency
