"""Who may act on what, kept beside the store: two leases that live at once, or a late save that is taken, break a promise.

The gateway's key would hide either: what one guard lets through, the next one stops. So this one is judged by itself.
"""

from __future__ import annotations

from typing import Any

from cxguard.core.operation import Operation, State
from cxguard.testing.simulation.world import World

ROUNDING_SECONDS = 0.001  # of times that are sums of others
_RUNNING, _QUEUED, _HELD, _FINISHED, _CANCELLED = State.RUNNING, State.QUEUED, State.HELD, State.FINISHED, State.CANCELLED
TURNS = frozenset(
    {
        *((None, each) for each in State),  # seen for the first time, or again after the store has gone back
        *((_RUNNING, each) for each in State),
        *((_QUEUED, each) for each in State),
        *((_HELD, each) for each in State),
        *((ended, each) for ended in (_FINISHED, _CANCELLED) for each in (_RUNNING, _QUEUED, _HELD)),
    }
)  # what is over never becomes the other end without having been begun anew, or held, in between


class LeaseLedger:
    """The memory store, and a second opinion on its leases."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._world.memory, verb)

    async def note(self, *args: Any, **named: Any) -> Any:
        noted = await self._world.memory.note(*args, **named)
        self._world.stir()
        return noted

    async def open(self, operation: Operation, **named: Any) -> Any:
        opened = await self._world.memory.open(operation, **named)
        if opened.won:
            self._turn(opened.operation, token=0)
            self._grant(opened.operation)
        return opened

    async def seize(self, seen: Any, **named: Any) -> Any:
        opened = await self._world.memory.seize(seen, **named)
        if opened.won:
            self._grant(opened.operation)
        return opened

    async def take(self, **named: Any) -> tuple[Operation, ...]:
        taken = await self._world.memory.take(**named)
        for operation in taken:
            self._grant(operation)
        return taken

    async def renew(self, tokens: Any, *, lease_seconds: float) -> frozenset[str]:
        lost = await self._world.memory.renew(tokens, lease_seconds=lease_seconds)
        for id in set(tokens) - lost:
            self._world.leases[id] = (tokens[id], self._world.clock.monotonic() + lease_seconds)
        return lost

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        saved = await self._world.memory.save(operation, token=token, keep_lease=keep_lease, gone=gone)
        newest, _ = self._world.leases.get(operation.id, (token, 0.0))
        if newest != token:
            self._world.broken.append(f"a save with lease {token} of {operation.reference} was taken after lease {newest}")
        self._turn(saved, token)
        self._world.stir()
        if not keep_lease:
            self._world.leases.pop(operation.id, None)
        return saved

    def _turn(self, operation: Operation, token: int) -> None:
        """Count each turn that an order really took, and remember whose its gateway keys are."""
        self._world.keys.update({send.key: operation.id for send in operation.sends})
        holder, state = self._world.in_hand.pop(operation.id, (0, None))
        before = state if token and token == holder else self._world.states.get(operation.id)
        if before is not operation.state:
            if (before, operation.state) not in TURNS:
                self._world.broken.append(f"{operation.reference} went from {before} to {operation.state}")
            self._world.states[operation.id] = operation.state
            self._world.happens(f"order {before or 'new'} > {operation.state}")

    def _grant(self, operation: Operation) -> None:
        if operation.lease is None:
            return
        world, now = self._world, self._world.clock.monotonic()
        token, until = world.leases.get(operation.id, (operation.lease.token, 0.0))
        if token != operation.lease.token and until - ROUNDING_SECONDS > now:
            world.overlapping.add(operation.id)
            if not world.happened["store clock set"]:  # else it took one for over that was not
                world.broken.append(f"lease {operation.lease.token} of {operation.reference} was given while {token} lived")
        world.leases[operation.id] = (operation.lease.token, now + operation.lease.until - world.store_clock.now())
        self._world.stir()
