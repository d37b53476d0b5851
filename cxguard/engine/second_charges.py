"""After a failover an order is charged as soon as nothing is found, though a life that the store has lost may still be charging
under another key. Once that must have shown up the gateways are asked; a second charge goes back, and one beside a decline is a
person's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cxguard.core import names
from cxguard.core.lost import (
    LIVES_MAX,
    LOST_BACK_SECONDS,
    LOST_EVENT,
    NOTHING_STANDS,
    SILENT_MAX,
    first_life,
    is_silent,
    last_clear,
    put_off,
    second_look_at,
    steps_of_life,
)
from cxguard.core.money import NO_ANSWER
from cxguard.core.operation import Operation, changed, money_of, remember
from cxguard.core.outcomes import Charged, NeedsShopper, Outcome, Unknown
from cxguard.engine.charging import Work
from cxguard.engine.engine import Engine
from cxguard.engine.looking import look, was_answered
from cxguard.engine.losing import with_lost_line
from cxguard.engine.trails import Found, Trail, trails_of

PUT_OFF_SECONDS = 300.0  # a gateway that says nothing is asked again: the second charge is there, and nobody waits for the word


async def look_for_second(engine: Engine, work: Work, gateways: Sequence[str]) -> None:
    """Ask whether another life has charged, too, if it is time to. What is found is written as a line of the order, in hand:
    the queue gives the later one back.

    Args:
        gateways: those of its rule or purpose, by name.

    Raises:
        StoreUnavailable: what was said could not be kept.
    """
    before, at = work.operation, second_look_at(work.operation)
    if at is None or engine.clock.now() < at:
        return
    since = last_clear(before)["since"]
    for trail in trails_of(engine, before, gateways):
        if not await _ask(engine, work, trail, since=since) and engine.clock.now() - since < LOST_BACK_SECONDS:
            later = put_off(before, until=engine.clock.now() + PUT_OFF_SECONDS)
            work.operation = changed(work.operation, history=later.history)
            return
    entry = engine.operations.entry(LOST_EVENT, outcome=NOTHING_STANDS, generation=before.generation, since=since, proven=True)
    work.operation = remember(work.operation, entry)


async def _ask(engine: Engine, work: Work, trail: Trail, *, since: float) -> bool:
    """Whether the gateway has answered for each life that there may have been."""
    ours, silent = {*money_of(work.operation).charged_keys}, 0
    for life, keys in _lives(work.operation, trail.step):
        others = [key for key in keys if key not in ours]
        said = [await _said(engine, work, trail, key, life) for key in others]
        if not all(is_silent(each) or was_answered(each) for each in said):
            return False
        for key, outcome in zip(others, said, strict=True):
            if isinstance(outcome, Charged) or (isinstance(outcome, Unknown) and not is_silent(outcome)):
                _write_down(engine, work, trail, Found(key, NO_ANSWER, life), since=since)
        silent = silent + 1 if others == keys and all(map(is_silent, said)) else 0
        if silent >= SILENT_MAX and life >= work.operation.generation:
            break
    return True


def _lives(operation: Operation, step: str) -> Iterator[tuple[int, list[str]]]:
    """The lives that there may have been, and the keys of each."""
    for life in range(first_life(operation), operation.generation + LIVES_MAX):
        steps = steps_of_life(operation, step, generation=life)
        yield life, [names.gateway_key(operation.id, step=each, generation=life) for each in steps]


async def _said(engine: Engine, work: Work, trail: Trail, key: str, life: int) -> Outcome:
    """A payment that waits for its shopper is called off: the order is paid."""
    said = await look(engine, work, gateway=trail.gateway, key=key, generation=life)
    if isinstance(said, NeedsShopper):
        return await look(engine, work, gateway=trail.gateway, key=key, generation=life, cancel=True)
    return said


def _write_down(engine: Engine, work: Work, trail: Trail, found: Found, *, since: float) -> None:
    """The line that was lost. What it came to is a fact of its own already; without one, of another amount, a person looks."""
    record = with_lost_line(engine, work.operation, trail, found, since=since)
    work.operation = changed(record, generation=work.operation.generation)
