"""After the store has lost its tail, before the first charge of an order and before it ends as not charged: has a lost
record, or a lost life of this one, paid already?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from cxguard.core import names
from cxguard.core.lost import (
    IN_DOUBT,
    LIVES_MAX,
    LOST_EVENT,
    NOT_FOUND,
    NOTHING_STANDS,
    TAKEN_OVER,
    Lost,
    first_life,
    is_silent,
    life_after,
    may_come_back,
    own_life,
    steps_of_life,
    was_taken_over,
)
from cxguard.core.money import NO_ANSWER, NoteKind, Send, SendKind, next_number, unanswered
from cxguard.core.operation import ENDED, Operation, changed, remember
from cxguard.core.outcomes import Charged, NotCharged, Outcome, Unknown
from cxguard.engine.charging import Work
from cxguard.engine.cold import seal_charge
from cxguard.engine.engine import Engine
from cxguard.engine.looking import has_other_figures, keep_fact, look, was_answered
from cxguard.engine.routing import Route
from cxguard.engine.trails import Found, Search, Trail, elsewhere, is_settled, said_about, settles_at, trails_of, unproven
from cxguard.gateways.base import Charge, Gateway

ASKED_AGAIN_SECONDS = 300.0  # a gateway that this charge cannot go to, and that does not answer, keeps no order from being charged


@dataclass(frozen=True, slots=True)
class Clear:
    """Where nothing stands, as far as the gateway says; under the keys of the *unproven* lives a charge may be under way."""

    trail: Trail
    found: list[Found]
    unproven: frozenset[int]


async def look_for_lost(
    engine: Engine, work: Work, routes: Sequence[Route], *, gateways: Sequence[str], key_of: Callable[[Charge, str], str]
) -> Outcome | None:
    """Ask every gateway about the keys of every life that a lost record may have had. None: nothing stands, charge.

    A charge that is found is written as the order's own. In doubt the record says that it is unknown, as if the send had
    been ours (it was), and is resolved like any other. What was sent before the failover may still be on its way under the
    very key that is charged now: it has a line of its own then, which "not charged" in answer to a later send leaves open.

    Args:
        gateways: those of its rule or purpose: a try with another card may have gone where *routes* do not.
        key_of: under which key a charge is sent for a step.

    Raises:
        LeaseLost, StoreUnavailable: nothing was sent.
    """
    since = await _since(engine, work.operation, charging=True)
    if since is None:
        return None
    trails = [Trail(route.gateway, route.step, route.charge) for route in routes]
    search, others = _search(work, since), elsewhere(engine, gateways, step=trails[0].step, there={each.step for each in trails})
    paid, until = await _done_elsewhere(engine, work, others, search)
    if paid is not None:
        return paid
    until = until if until < inf else engine.clock.now() + ASKED_AGAIN_SECONDS
    lost = await _follow(engine, work, trails, since, until=until)
    if lost is None and not is_settled(engine, trails[0].gateway, since):
        late = Found(key_of(routes[0].charge, routes[0].step), NO_ANSWER, work.operation.generation)
        async with work.turn:  # written with the line of the charge itself
            record = with_lost_line(engine, work.operation, trails[0], late, since=since)
            work.operation = record if record.kept else _never_sent_again(record)
    return lost


def _never_sent_again(operation: Operation) -> Operation:
    """Nobody agreed to a charge later on: if nothing of the last line shows up, its key is free."""
    *before, last = operation.sends
    return changed(operation, sends=(*before, replace(last, parcel=None)))


async def look_before_end(engine: Engine, work: Work, gateways: Sequence[str], *, doubts: bool = True) -> None:
    """The same before an order ends as one that was not charged: the record then says what stands, or that it is unknown.

    Args:
        work: of an order that is over already, too: it stays so, and whoever asked finds out from its facts what stands.
        gateways: those of its rule or purpose, by name, in order; none: the guard's first.
        doubts: without an answer it is unknown; else it is what it seemed to be.
    """
    since = await _since(engine, work.operation)
    if since is not None:
        await _follow(engine, work, trails_of(engine, work.operation, gateways), since, ends=True, doubts=doubts)


async def may_be_copy(engine: Engine, operation: Operation) -> bool:
    """Whether the store may have lost a later word about *operation*, that nobody has asked about since.

    Raises:
        StoreUnavailable: nobody knows now.
    """
    return await _since(engine, operation) is not None


async def _since(engine: Engine, operation: Operation, *, charging: bool = False) -> float | None:
    changed_at = await engine.epochs.changed_at()
    return changed_at if may_come_back(operation, changed_at, engine.clock.now(), charging=charging) else None


def _search(work: Work, since: float, *, ends: bool = False) -> Search:
    first = first_life(work.operation)
    return Search(since, first, passed=own_life(work.operation) - first, ends=ends)


async def _follow(
    engine: Engine, work: Work, trails: Sequence[Trail], since: float, *, ends: bool = False, doubts: bool = True, until: float = 0.0
) -> Outcome | None:
    """Args: until: when the gateways are asked again, if nothing is found now: no look before is proof."""
    search, present = _search(work, since, ends=ends), work.operation.generation
    over, life, clear = work.operation.state in ENDED, present, []
    for trail in trails:
        found, verdict = await said_about(engine, work, trail, search)
        if verdict is Lost.DOUBT and not doubts:
            return None
        if verdict is not Lost.CLEAR and over and not has_other_figures(found[-1].outcome):
            return None  # its facts are on record, for a person where it was paid; silence is asked again
        if verdict is not Lost.CLEAR:
            return await _take_over(engine, work, trail, _doubtful(found, verdict), since=since)
        clear.append(Clear(trail, found, frozenset(unproven(engine, trail, found, since))))
        life = max(life, life_after([each.outcome for each in found], generation=search.first))
    passed = [frozenset(each for each in one.unproven if each < present) for one in clear]
    if len(set(passed)) > 1 or any(len(each) > 1 for each in passed):
        doubtful = next(one for one, lives in zip(clear, passed, strict=True) if lives)
        silent = next(each for each in doubtful.found if each.generation in doubtful.unproven)
        return await _take_over(engine, work, doubtful.trail, silent, since=since)
    life = max(present, life - 1) if ends else life  # what ends, ends with what its last life came to
    more: dict[str, Any] = {"key_of": min(passed[0])} if passed and passed[0] else {}
    later = until > engine.clock.now()
    until = max(until, *(settles_at(engine, one.trail.gateway, since) for one in clear))
    if until > engine.clock.now():
        more["settles_at"] = until
    proven = not any(one.unproven for one in clear) and not later
    await _note_clear(engine, work, generation=life, since=since, proven=proven, **more)
    return None


async def look_again(engine: Engine, work: Work, send: Send, *, gateway: Gateway, gateways: Sequence[str]) -> float | None:
    """Whether the very same may be sent again: no other lost try of the order has paid, as far as the gateways say now.

    Args:
        gateways: those of its rule or purpose, by name, in order.

    Returns:
        0.0: it may. Seconds: not before, because one may still be under way under another key. None: it is another case now,
        or nobody has answered.

    Raises:
        LeaseLost, StoreUnavailable: nothing was sent.
    """
    since = await _since(engine, work.operation, charging=True)
    if since is None:
        return 0.0
    trail, first = Trail(gateway, send.step), _life_of(work.operation, send)
    search = Search(since, first, passed=send.generation - first)
    found, verdict = await said_about(engine, work, trail, search)
    if verdict is not Lost.CLEAR or not is_silent(found[0].outcome):
        if found[-1].key != send.key and was_answered(found[-1].outcome):
            await _take_over(engine, work, trail, found[-1], since=since)
        return None
    others = found if len(steps_of_life(work.operation, send.step, generation=first)) > 1 else found[1:]
    trails = elsewhere(engine, gateways, step=send.step.partition("@")[0], there={send.step})
    paid, until = await _done_elsewhere(engine, work, trails, search)
    if paid is not None or until == inf:
        return None
    until = max(until, settles_at(engine, gateway, since) if unproven(engine, trail, others, since) else 0.0)
    if until > engine.clock.now():
        return until - engine.clock.now()
    await _note_clear(engine, work, generation=send.generation, since=since, proven=not unproven(engine, trail, found, since))
    return 0.0


async def _done_elsewhere(engine: Engine, work: Work, trails: Sequence[Trail], search: Search) -> tuple[Outcome | None, float]:
    """What another try of the order has come to at a gateway that is not asked to charge now; else until when one may still be
    charging there: `inf`, if it does not answer."""
    until = 0.0
    for trail in trails:
        found, verdict = await said_about(engine, work, trail, search)
        last = found[-1].outcome
        if not was_answered(last):
            until = inf
        elif verdict is not Lost.CLEAR and not is_silent(last):
            return await _take_over(engine, work, trail, found[-1], since=search.since), 0.0
        elif unproven(engine, trail, found, search.since):
            until = max(until, settles_at(engine, trail.gateway, search.since))
    return None, until


def _life_of(operation: Operation, send: Send) -> int:
    """The life that its key is of: an earlier one than its own, where that was still open."""
    lives = range(send.generation, max(0, send.generation - LIVES_MAX), -1)
    return next((life for life in lives if names.gateway_key(operation.id, step=send.step, generation=life) == send.key), send.generation)


async def look_up(engine: Engine, work: Work, *, gateway: Gateway, key: str, cancel: bool = False) -> None:
    """Ask what became of *key*. Where the only doubt is a line for what the store has lost, "not found" is believed once that
    must have shown up, if the same is not to be sent again: so no such order is left to a person."""
    said = await look(engine, work, gateway=gateway, key=key, cancel=cancel)
    if said != Unknown(NOT_FOUND) or (changed_at := await engine.epochs.changed_at()) is None:
        return
    lines = unanswered(work.operation.sends, work.operation.notes, key)
    doubts = bool(lines) and all(was_taken_over(work.operation, line) for line in lines)
    again = any(line.parcel is not None for line in lines) and not cancel
    if not doubts or (again and not _was_refused(work.operation, key, since=settles_at(engine, gateway, changed_at))):
        return
    if is_settled(engine, gateway, changed_at):
        await keep_fact(engine, work, NotCharged("not found after a failover"), key=key, source=f"settled:{gateway.name}")
        before = work.operation.generation
        async with work.turn:
            work.operation = changed(work.operation, generation=own_life(work.operation))
        await carry_wish(engine, work, before)


def _was_refused(operation: Operation, key: str, *, since: float) -> bool:
    """Whether the very same was sent again since then, and turned down."""
    return any(send.key == key and send.sent_at >= since and isinstance(send.outcome, NotCharged) for send in operation.sends)


async def _note_clear(engine: Engine, work: Work, *, generation: int, since: float, proven: bool, **more: Any) -> None:
    entry = engine.operations.entry(LOST_EVENT, outcome=NOTHING_STANDS, generation=generation, since=since, proven=proven, **more)
    before = work.operation.generation
    async with work.turn:
        work.operation = remember(changed(work.operation, generation=generation), entry)
        if generation != before:  # written at once: who wants to cancel from now on means this life
            work.operation = await engine.operations.write(work.operation, work.lease)
    await carry_wish(engine, work, before)


async def carry_wish(engine: Engine, work: Work, before: int) -> None:
    """A wish to cancel the life that was the present one is about the order as its shopper knows it."""
    operation = work.operation
    wish = next((note for note in operation.notes if note.kind is NoteKind.CANCEL and note.generation == before), None)
    if wish is None or operation.cancel_asked:
        return
    mine = replace(wish, generation=operation.generation, event_id=f"cancel:{operation.generation}")
    noted = await engine.operations.note(operation.id, mine)
    async with work.turn:
        work.operation = changed(work.operation, notes=noted.notes)


def _doubtful(found: list[Found], verdict: Lost) -> Found:
    """The life that is taken over. Where a later one met with silence, that is the one that would be charged next: "not found"
    of its key is believed because a late charge under it is the same one, and so it may never be charged under another."""
    if verdict is not Lost.DOUBT or was_answered(found[-1].outcome):
        return found[-1]
    first = found[0].generation
    life = found[life_after([each.outcome for each in found], generation=first) - first]
    return replace(life, outcome=NO_ANSWER)


async def _take_over(engine: Engine, work: Work, trail: Trail, found: Found, *, since: float) -> Outcome:
    """Write the line that was lost, with what is known of it."""
    before = work.operation.generation
    async with work.turn:
        record = with_lost_line(engine, work.operation, trail, found, since=since)
        work.operation = await engine.operations.write(record, work.lease)
    await carry_wish(engine, work, before)
    return record.sends[-1].outcome


def with_lost_line(engine: Engine, operation: Operation, trail: Trail, found: Found, *, since: float) -> Operation:
    gateway, charge, unknown = trail.gateway, trail.charge, isinstance(found.outcome, Unknown)
    amount_minor, currency = _figures(operation, trail, found)
    send = Send(
        number=next_number(operation.sends, operation.notes),
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
    lives = {"generation": found.generation, "before": operation.generation, "since": since}
    entry = engine.operations.entry(
        LOST_EVENT, gateway=gateway.name, outcome=IN_DOUBT if unknown else TAKEN_OVER, number=send.number, **lives
    )
    return remember(changed(operation, generation=found.generation, sends=(*operation.sends, send)), entry)


def _figures(operation: Operation, trail: Trail, found: Found) -> tuple[int | None, str | None]:
    """What was asked for there, as far as anybody knows."""
    if trail.charge is not None:
        return trail.charge.amount_minor, trail.charge.currency
    if operation.amount_minor is None and isinstance(found.outcome, Charged):
        return found.outcome.amount_minor, found.outcome.currency
    sent = [(send.amount_minor, send.currency) for send in operation.sends if send.key == found.key]
    return sent[-1] if sent else (operation.amount_minor, operation.currency)
