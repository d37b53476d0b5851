"""The demo's processes: started, waited for, and surely ended, each by its own number."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cxguard

READY_SECONDS_MAX = 20.0  # a cold start on a busy machine
STOP_SECONDS_MAX = 4.0  # then it is killed
_ROOT = Path(cxguard.__file__).parent.parent


class ChildFailed(RuntimeError):
    """The process ended, or said nothing, before it was ready. The text shows the end of its log."""


@dataclass(slots=True)
class Child:
    """A running process and what it said when it was ready."""

    process: asyncio.subprocess.Process
    facts: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.facts["url"]

    @property
    def pid(self) -> int:
        return self.process.pid

    async def stop(self) -> None:
        """End it: politely, then for sure. Harmless if it has ended."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self.process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it as a power cut would, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            try:
                self.process.send_signal(number)
            except ProcessLookupError:
                return


@asynccontextmanager
async def running(
    module: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """`python -m module arguments` while the block runs; it has said where it answers when the block begins."""
    child = await start(module, arguments, log=log, environment=environment)
    try:
        yield child
    finally:
        await asyncio.shield(child.stop())


async def start(module: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> Child:
    """Start a process in a session of its own (Ctrl-C reaches only us) that ends when we do, and wait until it is ready.

    Raises:
        ChildFailed: it was not ready within READY_SECONDS_MAX.
    """
    with log.open("ab") as errors:
        process = await _spawn([sys.executable, "-m", module, *arguments], errors=errors, environment=environment)
    child = Child(process, facts={})
    try:
        child.facts = await _ready(process, log=log)
    except BaseException:
        await child.kill()
        raise
    return child


async def _spawn(command: Sequence[str], *, errors: IO[bytes], environment: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    given = {**os.environ, **(environment or {})}
    path = os.pathsep.join(part for part in (str(_ROOT), given.get("PYTHONPATH", "")) if part)
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,  # held open: a child started with --with-parent ends when it closes
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
        env={**given, "PYTHONPATH": path},
    )


async def _ready(process: asyncio.subprocess.Process, *, log: Path) -> Mapping[str, str]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            line = await process.stdout.readline()
    except TimeoutError:
        raise ChildFailed(f"not ready after {READY_SECONDS_MAX:g} s; its log ends: {_tail(log)}") from None
    if not line:
        raise ChildFailed(f"ended before it was ready; its log ends: {_tail(log)}")
    facts = json.loads(line)
    return {name: str(value) for name, value in facts.items()}


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-2_000:]
