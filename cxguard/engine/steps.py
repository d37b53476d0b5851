"""The steps of one operation in hand: an irreversible call is run once, and its result kept.

    begin     the step is on record before the call
    the call  happens, or may have happened
    finish    the end is on record, with the result; or without it, when the result cannot be kept

A result that cannot be kept does not undo its call, and the run that made the call still has it: the run goes on, and the
step is on record as done. Only whoever comes back to it later, after a crash, has nothing to go on with: then a person does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cxguard.core.operation import Step, changed, remember
from cxguard.engine.charging import Work
from cxguard.engine.codecs import Codec
from cxguard.engine.cold import RESULT_BYTES_MAX, open_member, seal_member
from cxguard.engine.engine import Engine
from cxguard.errors import AlreadyFinished, ConfigurationError, StepMismatch, StepResultLost, StepUnfinished

STEPS_MAX = 64  # steps of one operation: more is a job queue's work


@dataclass(frozen=True, slots=True)
class Called:
    """One call of `op.step`.

    Attributes:
        arguments: keyed hash of what it is called with.
        function: which code, as far as its name tells.
    """

    name: str
    arguments: str
    function: str
    repeatable: bool
    codec: Codec[Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """The result of an earlier call."""

    value: Any


class Steps:
    """What one holder knows of its operation's steps."""

    def __init__(self, engine: Engine, work: Work) -> None:
        self._engine = engine
        self._work = work
        self._functions: dict[str, str] = {}

    def kept(self, called: Called, *, finished: bool) -> Kept | None:
        """The kept result; None: it is to be run.

        Raises:
            AlreadyFinished, StepMismatch, StepUnfinished, StepResultLost: it may not be run.
        """
        operation, name = self._work.operation, called.name
        if self._functions.setdefault(name, called.function) != called.function:
            raise StepMismatch(f"the step name {name!r} is used for two functions in one run: give each call a name of its own")
        known = next((step for step in operation.steps if step.name == name), None)
        if known is None:
            if finished:
                raise AlreadyFinished(f"order {operation.reference} has ended without a step {name!r}: nothing was run")
            return None
        if known.arguments != called.arguments:
            raise StepMismatch(f"step {name!r} ran with other arguments before: give each call a name of its own")
        if known.ended_at is not None and known.result is not None:
            return Kept(self._read(known.result, called))
        if called.repeatable and not finished:
            return None
        if known.ended_at is not None:
            raise StepResultLost(f"step {name!r} of order {operation.reference} is done, and its result could not be kept: {_MEND}")
        raise StepUnfinished(f"step {name!r} of order {operation.reference} began and has no recorded end: see whether it happened")

    def _read(self, sealed: bytes, called: Called) -> Any:
        operation = self._work.operation
        data = open_member(self._engine.seal, operation, _member(called.name), sealed)
        try:
            return called.codec.loads(data)
        except Exception as error:
            raise StepResultLost(
                f"the kept result of step {called.name!r} of order {operation.reference} cannot be read ({type(error).__name__}): "
                "run the version of the shop, or the codec, that wrote it"
            ) from error

    async def begin(self, called: Called) -> None:
        """Put the step on record. Raises as `Operations.write`."""
        async with self._work.turn:
            operation = self._work.operation
            others = tuple(step for step in operation.steps if step.name != called.name)
            if len(others) >= STEPS_MAX:
                raise StepMismatch(f"an operation has at most {STEPS_MAX} steps: put the rest into operations of their own")
            now = self._engine.clock.now()
            begun = Step(name=called.name, generation=operation.generation, arguments=called.arguments, began_at=now)
            self._work.operation = await self._engine.operations.write(changed(operation, steps=(*others, begun)), self._work.lease)

    async def finish(self, called: Called, value: Any) -> None:
        """Put its end on record, with the result if it can be kept. Raises as `Operations.write`."""
        data, why = _bytes_of(value, called.codec)
        now = self._engine.clock.now()
        async with self._work.turn:
            operation = self._work.operation
            sealed = seal_member(self._engine.seal, operation, _member(called.name), data) if data is not None else None
            steps = tuple(replace(step, ended_at=now, result=sealed) if step.name == called.name else step for step in operation.steps)
            entry = self._engine.operations.entry("step.finished", name=called.name, **({"not_kept": why} if why else {}))
            self._work.operation = await self._engine.operations.write(remember(changed(operation, steps=steps), entry), self._work.lease)
        if why:
            self._engine.operations.emit("step.not_kept", self._work.operation, step=called.name, why=why)


_MEND = "see what it did, and end the order by hand; return less, or give op.step a codec"


def check_call(name: object, call: object) -> None:
    """Refuse what is no step before it is on record: one that began and did not end is a person's.

    Raises:
        ConfigurationError: no name, or the result of a call instead of what is to be called.
    """
    given = type(name).__name__ if not isinstance(name, str) else type(call).__name__ if not callable(call) else ""
    if given:
        what = "function" if isinstance(name, str) else "name"
        raise ConfigurationError(
            f'op.step got a {given} instead of a {what}: write op.step("create invoice", create_invoice, order_id); nothing was written'
        )


def function_name(call: Callable[..., Any]) -> str:
    """Which code a step runs, for finding a name that is used twice."""
    return f"{getattr(call, '__module__', '')}.{getattr(call, '__qualname__', type(call).__qualname__)}"


def _member(name: str) -> str:
    return f"step:{name}"


def _bytes_of(value: Any, codec: Codec[Any]) -> tuple[bytes | None, str]:
    """The result as it is kept; or nothing, and why: never what the error said, which may quote a person's data."""
    try:
        data = codec.dumps(value)
    except Exception as error:  # noqa: BLE001 - the call has happened, whatever a codec raises
        return None, type(error).__name__
    if not isinstance(data, bytes):
        return None, "not_bytes"
    if len(data) > RESULT_BYTES_MAX:
        return None, "too_large"
    try:
        codec.loads(data)
    except Exception as error:  # noqa: BLE001 - kept bytes that nobody can read are no result
        return None, f"unreadable:{type(error).__name__}"
    return data, ""
