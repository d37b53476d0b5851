"""Where the processes of a fleet run: each may be killed, frozen and started again, at the same address."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cxguard.demo.processes import Child, start


@dataclass
class Place:
    """One process, and the next one in its place.

    Attributes:
        environment: what the next one is started with; a change holds from then on.
        deaths: how often one has ended here.
    """

    module: str
    arguments: tuple[str, ...]
    log: Path
    environment: dict[str, str]
    child: Child
    deaths: int = 0

    @property
    def url(self) -> str:
        return self.child.url

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def runs(self) -> bool:
        return self.child.process.returncode is None

    async def kill(self) -> None:
        """As a power cut does."""
        self.deaths += 1
        await self.child.kill()

    async def stop(self) -> None:
        """Politely; then for sure."""
        self.thaw()
        await self.child.stop()

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self.runs:
            self.signal(signal.SIGCONT)

    async def gone(self, *, seconds_max: float) -> bool:
        """Wait for its end by itself; whether it came."""
        try:
            async with asyncio.timeout(seconds_max):
                await self.child.process.wait()
        except TimeoutError:
            return False
        self.deaths += 1
        return True

    async def again(self) -> None:
        """Start the next one here, at the address of the one before."""
        port = ["--port", self.url.rpartition(":")[2]] if "url" in self.child.facts else []
        self.child = await start(self.module, [*self.arguments, *port], log=self.log, environment=self.environment)


@asynccontextmanager
async def placed(module: str, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> AsyncIterator[Place]:
    """A process while the block runs; whoever is in its place at the end is ended."""
    child = await start(module, arguments, log=log, environment=environment)
    place = Place(module, tuple(arguments), log, dict(environment), child)
    try:
        yield place
    finally:
        await asyncio.shield(place.stop())
