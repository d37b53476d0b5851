"""The disk of the shop's machine, with the spool on it: what was flushed is there after a death, what was not is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cxguard.testing.faulty_store import FaultyStore
from cxguard.testing.simulation.world import World

if TYPE_CHECKING:
    from cxguard.testing.simulation.process import Process


class Disk:
    """The spool's file, as one process reaches it.

    A process that dies before the flush leaves nothing of a write, one that dies after it leaves all of it, and hears nothing.
    """

    def __init__(self, world: World, process: Process) -> None:
        assert world.spool is not None
        self._world = world
        self._process = process
        self._file = FaultyStore(world.spool, decide=world.disk_fault)

    async def used_bytes(self) -> int:
        return 0

    def __getattr__(self, verb: str) -> Any:
        there = getattr(self._file, verb)
        if not callable(there):
            return there

        async def through(*args: Any, **named: Any) -> Any:
            await self._process.hop()
            answer = await there(*args, **named)
            self._world.stir()
            await self._process.hop()
            return answer

        self.__dict__[verb] = through
        return through
