"""What befalls the store's server: it is away and comes back as it was, or an older copy of it takes over."""

from __future__ import annotations

from cxguard.core.operation import Operation
from cxguard.stores.memory import MemoryCopy
from cxguard.testing.simulation.loop import passed
from cxguard.testing.simulation.world import ACTIVE_SECONDS, SMALL_SECONDS, World

LAGS = (0.0, 0.05, 0.5, 1.0, 3.0)  # seconds that a replica is behind, and dies with
QUIET_SECONDS = 5.0  # in which there may be nothing to lose
AWAY = (0.1, 0.5, 3.0, 8.0)  # seconds until a server is back, or another one in its place
TROUBLES_MAX = 20  # of a big story
POWER_CUTS = 0.4  # of the times that the store goes away
POWER_CUT_SECONDS = 4.0  # after its going, or its coming back, within which the power is cut
AWAY_FOR_LONG = (3.0, 12.0, 40.0)  # where a spool takes orders in meanwhile
FLAPS = 0.5  # of the servers that come back go away once more, as one does that is still ill
FLAP_SECONDS = 4.0  # within which they do: what waited for the store is on its way to it
GATEWAY_TOO = 0.7  # of the times that the store fails over, what ails it ails the way to the gateway, too


async def store_trouble(world: World) -> None:
    """Restarts, failovers and power cuts, as the plan has them: soon in a small story."""
    dice, plan = world.dice, world.plan
    soonest, latest = (0.0, SMALL_SECONDS / 2) if plan.small else (3.0, 25.0)
    for _ in range(1 if plan.small else TROUBLES_MAX):
        await passed(dice.uniform(soonest, latest))
        if world.clock.monotonic() > ACTIVE_SECONDS:
            return
        seconds = dice.choice(AWAY_FOR_LONG if plan.spool else AWAY)
        if plan.spool and dice.random() < POWER_CUTS:
            world.spawn(power_cut(world, dice.choice([0.0, seconds])))
        if plan.loses_tail and (not plan.store_restarts or dice.random() < 0.5):
            await fail_over(world, seconds)
        else:
            await restart(world, None, seconds=seconds)
        if dice.random() < FLAPS:
            await passed(dice.uniform(0.0, FLAP_SECONDS))
            await restart(world, None, seconds=dice.choice(AWAY))


async def fail_over(world: World, seconds: float) -> None:
    """An older copy takes over; what is written meanwhile is lost."""
    dice = world.dice
    copy = world.memory.copied()
    if dice.random() < GATEWAY_TOO:
        world.happens("outage")
        world.bad_until = world.clock.monotonic() + dice.uniform(5.0, 40.0)
    await world.stirred(QUIET_SECONDS)
    await passed(dice.choice(LAGS))
    await restart(world, copy, seconds=seconds)


async def power_cut(world: World, seconds: float) -> None:
    """All that runs on the shop's machine dies at once, *seconds* and a moment from now; its disk stays."""
    await passed(seconds + world.dice.uniform(0.0, POWER_CUT_SECONDS))
    if world.calm:
        return
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
    known = {id: world.leases[id] for id in world.leases.keys() - gone.keys()}  # however the store's clock was set since
    copied = {id: (each.lease.token, each.lease.until - ahead) for id, each in kept.items() if each.lease is not None}
    world.leases = {id: known.get(id, lease) for id, lease in copied.items()}
    world.states = {id: each.state for id, each in kept.items()}
    world.in_hand = {id: (token, there[id].state) for id, (token, _) in world.leases.items() if id in there and _holds(there[id], token)}
    world.log("store", "lost", *sorted(each.reference for each in gone.values()))
    if gone:
        world.happens("store lost its tail")


def _holds(operation: Operation, token: int) -> bool:
    return operation.lease is not None and operation.lease.token == token
