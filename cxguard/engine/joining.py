"""Duplicates of a submit: the first one in a process asks the store, the others join it, and one read tells them all.

What is remembered in this process can only make a duplicate wait. Every other word comes from the store, asked or read after
the duplicate came: so nobody is told what the store does not hold.
"""

from __future__ import annotations

from dataclasses import replace

from cxguard.core.decide import Do
from cxguard.core.operation import Operation
from cxguard.engine.engine import Engine
from cxguard.engine.entering import Begun, Submission, begin
from cxguard.engine.waiting import Change
from cxguard.stores.base import Level

_WORDS = frozenset({Do.REPLAY, Do.TELL, Do.MISMATCH, Do.FOREIGN, Do.DUPLICATE})  # nothing has to be taken for them


async def begin_or_wait(engine: Engine, submission: Submission, *, wait_seconds: float) -> Begun:
    """Enter *submission*; while somebody else is at it, wait that long for their answer, within the submission's deadline.

    Raises:
        StoreUnavailable: nothing is known; nothing may be run.
    """
    until = min(engine.clock.monotonic() + wait_seconds, submission.deadline)
    begun = await _begin_or_join(engine, submission, until=until)
    while begun.do is Do.WAIT:
        left = until - engine.clock.monotonic()
        operations = engine.operations
        change = await operations.waiting.for_change(operations.store, begun.operation, seconds=left) if left > 0 else None
        if change is None:
            return await _read_at_last(engine, begun)
        told = await _told_by(engine, submission, change) if not begun.claim else None
        begun = told or await _begin_or_join(engine, submission, until=until)
    return begun


async def _begin_or_join(engine: Engine, submission: Submission, *, until: float) -> Begun:
    """Wait with those of this process who wait already; only when there is nobody to wait for, ask the store."""
    seconds = until - engine.clock.monotonic()
    seen = await engine.operations.waiting.at_work(submission.fresh.id, seconds=seconds) if seconds > 0 else None
    if seen is not None and _decided(engine, submission, seen, leased=True) is Do.WAIT:
        return Begun(Do.WAIT, seen, remembered=True)
    return await begin(engine, submission)


async def _told_by(engine: Engine, submission: Submission, change: Change) -> Begun | None:
    """What to tell by a record that was read, where nothing has to be taken; None: it has to be asked for."""
    there = change.operation
    if there is None or (there.lease is not None and there.lease.until <= engine.clock.now()):
        return None
    if engine.operations.store.level is Level.REPLICATED:
        return None  # a read does not say whether what it finds has been replicated; who asks hears that, too
    do = _decided(engine, submission, there, leased=there.lease is not None)
    if do is Do.WAIT:
        return Begun(do, there)
    if do not in _WORDS:
        return None
    await engine.operations.whereabouts.check()
    return Begun(do, there)


async def _read_at_last(engine: Engine, begun: Begun) -> Begun:
    """The time is over: what is told is as the record is now, and not as it is remembered here."""
    if not begun.remembered:
        return begun
    there = await engine.operations.store.get(begun.operation.id)
    return replace(begun, operation=there or begun.operation, remembered=False)


def _decided(engine: Engine, submission: Submission, seen: Operation, *, leased: bool) -> Do:
    return engine.operations.decide(seen, submission.submit_of, submission.terms, leased=leased)
