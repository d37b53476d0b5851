"""Many small shops in which everything goes wrong at once, judged by the gateway's ledger and by what shoppers heard.

More of them: `CXGUARD_INTERLEAVINGS=5000 pytest tests/engine/test_interleavings.py -n auto`. A seed that fails prints its story.
"""

from __future__ import annotations

import os

import pytest
from interleaving import end, story
from interleaving_judge import judge
from interleaving_world import World
from virtual_time import run_virtually

from cxguard.engine import breaker_sharing

CHUNK = 20  # seeds in one test
LOOK_SECONDS = 20.0  # between two looks at the shared breakers: at four a second, hours of quiet are all that would be played
SEEDS = int(os.environ.get("CXGUARD_INTERLEAVINGS", "60"))


async def told(seed: int) -> tuple[World, list[str]]:
    """One story from its first click to its last, and what was wrong with it."""
    world = World(seed)
    try:
        await story(world)
        return world, await judge(world)
    finally:
        await end(world)


@pytest.fixture(autouse=True)
def _seldom_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_sharing, "LOOK_SECONDS", LOOK_SECONDS)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nobody_is_charged_twice_told_wrong_or_left_waiting(first: int) -> None:
    """Late charges, lost answers, frozen and dead processes, outages, cancels, webhooks in any order: the promises hold."""
    for seed in range(first, min(first + CHUNK, SEEDS)):
        world, wrong = run_virtually(told(seed))
        assert not wrong, "\n".join([f"seed {seed}: {world.plan}", *wrong, *world.trace])


def test_the_same_seed_tells_the_same_story() -> None:
    """Otherwise a failure could not be looked at twice."""
    first, again = run_virtually(told(7))[0], run_virtually(told(7))[0]
    assert first.trace == again.trace
