"""How stories are dealt: by the dice alone, or a small one again and again, struck at each point where something can strike.

The dice find what nobody thought of. A crash at each turn of a process, and a cancel at each await of a request, leave no
point out (CHESS: Musuvathi et al., "Finding and reproducing Heisenbugs in concurrent programs", 2008, tries small stories
wholly in the same way). Of pairs there are too many: they are sampled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from functools import partial

from cxguard.testing.simulation.run import Verdict, play
from cxguard.testing.simulation.world import Plan, Strike, Striking

PAIRS = 40  # of each small story


class Strategy(StrEnum):
    """How the stories of a seed are dealt."""

    DICE = "dice"  # one big story, in which everything may go wrong
    PRIORITIES = "priorities"  # the same, and who goes on is chosen by priorities that change now and then
    CRASHES = "crashes"  # a small one, and a process dies at each of its turns
    CANCELS = "cancels"  # a small one, and the server cancels a request at each of its awaits
    PAIRS = "pairs"  # a small one, struck twice, at points that the dice choose


def small(plan: Plan) -> Plan:
    """One shopper, and nothing that goes wrong by itself but at the gateway: whatever else happens is the strike's."""
    calm = {"trouble": False, "stalls": False, "by_priority": False, "store_jumps": False, "store_restarts": False}
    return replace(plan, **calm, loses_tail=False, spool=False, store_faults=0.0, shoppers_max=1, strikes=())  # type: ignore[arg-type]


def stories(seed: int, strategy: Strategy) -> Iterator[Verdict]:
    """What the seed stands for under *strategy*, judged. Within `quick`."""
    if strategy is Strategy.DICE:
        yield play(seed)
    elif strategy is Strategy.PRIORITIES:
        yield play(seed, change=lambda plan: replace(plan, by_priority=True))
    else:
        first = play(seed, change=small)
        yield first
        for strikes in _strikes(seed, strategy, first):
            yield play(seed, change=partial(_struck, strikes=strikes))


def _struck(plan: Plan, *, strikes: tuple[Strike, ...]) -> Plan:
    return replace(small(plan), strikes=strikes)


def _strikes(seed: int, strategy: Strategy, first: Verdict) -> Iterator[tuple[Strike, ...]]:
    crashes = [Strike(Striking.CRASH, at, process) for process, turns in enumerate(first.turns) for at in range(1, turns + 1)]
    cancels = [Strike(Striking.CANCEL, at) for at in range(1, first.awaits + 1)]
    match strategy:
        case Strategy.CRASHES:
            yield from ((strike,) for strike in crashes)
        case Strategy.CANCELS:
            yield from ((strike,) for strike in cancels)
        case _:
            dice = random.Random(f"pairs {seed}")
            for _ in range(PAIRS):
                second = dice.choice([*crashes, *cancels])
                yield dice.choice(crashes), replace(second, life=1) if second.striking is Striking.CRASH else second
