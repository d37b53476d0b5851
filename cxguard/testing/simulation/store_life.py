"""What befalls the store's server: it is away and comes back as it was, or an older copy of it takes over."""

from __future__ import annotations

from cxguard.core.operation import Operation
from cxguard.stores.memory import MemoryCopy
from cxguard.testing.simulation.loop import passed
from cxguard.testing.simulation.world import ACTIVE_SECONDS, SMALL_SECONDS, World

LAGS = (0.0, 0.005, 0.05, 0.5, 3.0)  # seconds that a replica is behind, and dies with
QUIET_SECONDS = 5.0  # in which there may be nothing to lose
AWAY = (0.1, 0.5, 3.0, 8.0)  # seconds until a server is back, or another one in its place
POWER_CUTS = 0.4  # of the times that the store goes away
AWAY_FOR_LONG = (3.0, 12.0, 40.0)  # where a spool takes orders in meanwhile


async def store_trouble(world: World) -> None:
    """Restarts, failovers and power cuts, as the plan has them: soon in a small story."""
    dice, plan = world.dice, world.plan
    until = SMALL_SECONDS if plan.small else ACTIVE_SECONDS
    away = AWAY_FOR_LONG if plan.spool else AWAY
    while world.clock.monotonic() < until:
        await passed(dice.uniform(0.0, 2 * SMALL_SECONDS) if plan.small else dice.uniform(3.0, 25.0))
        if plan.spool and dice.random() < POWER_CUTS:
            world.spawn(power_cut(world))
        if plan.loses_tail and (not plan.store_restarts or dice.random() < 0.5):
            copy = world.memory.copied()
            await world.stirred(QUIET_SECONDS)
            await passed(dice.choice(LAGS))
            await restart(world, copy, seconds=dice.choice(away))
        else:
            await restart(world, None, seconds=dice.choice(away))


async def power_cut(world: World) -> None:
    """All that runs on the shop's machine dies at once, a moment from now; its disk stays."""
    await passed(world.dice.uniform(0.0, 15.0))
    world.happens("power cut")
    world.log("power cut")
    for process in world.processes:
        process.party.dies_at_turn = process.party.turns + 1


async def restart(world: World, copy: MemoryCopy | None, *, seconds: float) -> None:
    """The server goes, with every answer that was on its way; after *seconds* it is back, or holds no more than *copy*."""
    world.away = True
    world.store_life += 1
    world.happens("store restarted" if copy is None else "store failed over")
    world.log("store", "away for", seconds, "comes back as it was" if copy is None else "an older copy takes over")
    if copy is not None:
        lose_tail(world, copy)
    await passed(seconds)
    world.away = False
    world.stir()


def lose_tail(world: World, copy: MemoryCopy) -> None:
    """From now on the store is *copy*; what it lost, and which leases it knows, is noted for the judge."""
    there, kept = world.memory.copied().operations, copy.operations
    gone = {id: each for id, each in there.items() if kept.get(id) is not each}
    world.lost |= {each.reference for id, each in gone.items() if id not in kept}
    world.taken_back |= set(gone)
    world.memory.go_back(copy)
    ahead = world.store_clock.now() - world.clock.monotonic()
    world.leases = {id: (each.lease.token, each.lease.until - ahead) for id, each in kept.items() if each.lease is not None}
    world.states = {id: each.state for id, each in kept.items()}
    world.in_hand = {id: (token, there[id].state) for id, (token, _) in world.leases.items() if id in there and _holds(there[id], token)}
    world.log("store", "lost", *sorted(each.reference for each in gone.values()))
    if gone:
        world.happens("store lost its tail")


def _holds(operation: Operation, token: int) -> bool:
    return operation.lease is not None and operation.lease.token == token
