"""What strikes at a chosen point: a death at the n-th turn of a process, a cancel at the n-th await of the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from cxguard.testing.simulation.world import Striking, World

if TYPE_CHECKING:
    from cxguard.testing.simulation.process import Process


def doom(world: World, process: Process, *, number: int, life: int) -> None:
    """Let the process die where the plan says so: its *number* in the shop, and how often it has been started before."""
    for strike in world.plan.strikes or ():
        if strike.striking is Striking.CRASH and (strike.process, strike.life) == (number, life):
            process.party.dies_at_turn = process.party.turns + strike.at


async def request(world: World, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do the *work* of a request, whose awaits are counted, and cancelled where the plan says so."""
    await _Counted(world, work())


class _Counted:
    """Gives on whatever *work* waits for; before the chosen wait the task is asked to stop, as a server asks."""

    def __init__(self, world: World, work: Coroutine[Any, Any, None]) -> None:
        self._world = world
        self._work = work
        self._at = {strike.at for strike in world.plan.strikes or () if strike.striking is Striking.CANCEL}

    def __await__(self) -> Generator[Any, Any, None]:
        send: Any = lambda: self._work.send(None)  # noqa: E731
        while True:
            try:
                waits_for = send()
            except StopIteration:
                return
            self._count()
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the work's
                send = _thrower(self._work, error)
            else:
                send = lambda: self._work.send(None)  # noqa: E731

    def _count(self) -> None:
        world = self._world
        world.awaits += not world.calm
        if not world.calm and world.awaits in self._at:
            world.happens("struck by a cancel")
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


def _thrower(work: Coroutine[Any, Any, None], error: BaseException) -> Any:
    return lambda: work.throw(error)
