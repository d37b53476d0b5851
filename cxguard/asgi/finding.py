"""Find the order that a status link, or a repeated submit, is about: in the store, or in this machine's spool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cxguard.asgi.telling import SPOOLED_PURPOSE
from cxguard.core.money import MoneyState, Note
from cxguard.core.names import reference_of
from cxguard.core.operation import ENDED, Operation, State, money_of
from cxguard.core.spooling import SAME_AS, is_order, is_second_name, spooled_situation
from cxguard.engine.courier import STATUS_PURPOSE
from cxguard.engine.duties import PATIENCE_SECONDS
from cxguard.errors import LeaseLost, StoreError, StoreUnavailable
from cxguard.guard import Guard
from cxguard.stores.base import Query

LOOKS_AT_ONCE = 16  # at orders that are over, in one process: live checkouts need the gateway more
_LOOK = "cxguard-look-at-end"


@dataclass(frozen=True, slots=True)
class Found:
    """An order, and where it lies.

    Attributes:
        spooled: not in the store yet, so that nothing is known of what the store knows.
        here: in the spool of this very machine.
    """

    operation: Operation
    spooled: bool = False
    here: bool = False


async def find_order(guard: Guard, token: str) -> Found | None:
    """The order of a status link; None: it is no link of ours.

    Raises:
        StoreUnavailable: it may be there, and cannot be looked at now.
    """
    now, seal = guard.clock.now(), guard.engine.seal
    kept, promised = (seal.read_token(token, now=now, purpose=purpose) for purpose in (STATUS_PURPOSE, SPOOLED_PURPOSE))
    id = kept or promised
    return await look_up(guard, id, promised=promised is not None) if id is not None else None


async def look_up(guard: Guard, id: str, *, promised: bool) -> Found | None:
    """The order of that id.

    Args:
        promised: a link says that it was spooled: on another machine, if it is not here.

    Raises:
        StoreUnavailable: it may be there, and cannot be looked at now.
    """
    item = await guard.spool.get(id) if guard.spool is not None else None
    away, there = None, None
    try:
        there = await _there(guard, id)
    except StoreUnavailable as error:
        away = error
    charged = there is not None and money_of(there).state is MoneyState.CHARGED
    if item is not None and not charged and (there is None or is_order(item)) and spooled_situation(item) is not None:
        return Found(item, spooled=True, here=True)
    if there is not None:
        return Found(there)
    if promised:
        return Found(_promised(guard, id), spooled=True, here=item is not None)
    if away is not None:
        raise away
    return None


async def _there(guard: Guard, id: str) -> Operation | None:
    there = await guard.store.get(id)
    return await followed(guard, there) if there is not None and there.namespace == guard.namespace else None


async def followed(guard: Guard, operation: Operation) -> Operation:
    """The record that speaks for *operation*: another one, where the same purchase was spooled under a second name."""
    first = str(operation.extra.get(SAME_AS, ""))
    if not is_second_name(operation) or not first:
        return operation
    try:
        return await guard.store.get(first) or operation
    except StoreError:
        return operation


async def overtaker(guard: Guard, ended: Operation, claims: Sequence[str]) -> Operation | None:
    """The record that took the purchase from *ended* while it ran, which had claimed it by *claims*; None: nobody did,
    or nothing came of it.

    Raises:
        StoreUnavailable: somebody did, and it is not known who.
    """
    for claim in claims:
        if claim not in ended.claims:
            for other in (await guard.store.search(Query(guard.namespace, claim=claim, limit=1))).operations:
                if other.state not in ENDED or money_of(other).state in (MoneyState.CHARGED, MoneyState.UNKNOWN):
                    return other
    return None


async def looked_at(guard: Guard, seen: Operation) -> Operation:
    """*seen*, asked about first where it is over by an older copy of it: a life that the store has lost may be paid.

    Whoever waits for that does so for a moment only: until it is answered, it is told as unknown.
    """
    if seen.state not in ENDED or not guard.engine.epochs.doubts(seen):
        return seen
    if sum(task.get_name() == _LOOK for task in guard.runs) >= LOOKS_AT_ONCE:
        return seen
    task = asyncio.create_task(_looked_at_end(guard, seen), name=_LOOK)
    guard.runs.add(task)
    task.add_done_callback(guard.runs.discard)
    done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
    return task.result() if done else seen


async def _looked_at_end(guard: Guard, seen: Operation) -> Operation:
    try:
        return await guard.queue().look_at_end(seen)
    except (StoreError, LeaseLost):
        return seen  # somebody else has it, or nobody knows: the next look says more


async def note_where_it_lies(guard: Guard, found: Found, note: Note) -> Operation:
    """A fact goes with its order: into the spool where that lies here, so that it is in the store no later than the order.

    Raises:
        StoreUnavailable: nobody took it.
    """
    if found.here and guard.spool is not None:
        return await guard.spool.note(found.operation.id, note)
    return await guard.engine.operations.note_or_spool(found.operation.id, note)


def _promised(guard: Guard, id: str) -> Operation:
    """An order of which only the link is here: all that it says is that the order is saved."""
    return Operation(
        id=id,
        namespace=guard.namespace,
        rule="",
        owner="spooled elsewhere",
        reference=reference_of(id),
        fingerprint="",
        state=State.QUEUED,
        created_at=0.0,
        updated_at=0.0,
        kept=True,
    )
