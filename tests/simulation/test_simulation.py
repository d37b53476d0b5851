"""Many small shops in which everything goes wrong at once, judged by the gateway's ledger and by what shoppers heard.

More of them: `cxguard simulate --seeds 1000000`; fewer: `CXGUARD_SEEDS=500`. A seed that fails prints its story.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from cxguard.testing.simulation.run import COMMON, play, play_many, quick

CHUNK = 250  # seeds in one test
SEEDS = int(os.environ.get("CXGUARD_SEEDS", "20000"))
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_nobody_is_charged_twice_told_wrong_or_left_waiting(first: int) -> None:
    """Late charges, lost answers, frozen and dead processes, outages, cancels, webhooks in any order: the promises hold."""
    happened: Counter[str] = Counter()
    for verdict in play_many(range(first, first + CHUNK)):
        assert not verdict.wrong, str(verdict)
        happened.update(verdict.happened)
    assert not COMMON - set(happened), "what never came about was not tried"


def test_a_seed_is_the_same_story_in_every_process() -> None:
    """Whatever the order of sets there; otherwise a failure could not be looked at twice."""
    code = "from cxguard.testing.simulation.run import play_many; print(*(each.digest for each in play_many(range(8))))"
    told = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert len(set(told.pop().split())) == 8


def test_a_story_is_the_same_after_others() -> None:
    """Nothing of one story reaches the next."""
    with quick():
        alone = play(7).digest
    assert [each.digest for each in play_many(range(5, 8))][-1] == alone
