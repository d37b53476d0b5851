"""Whether the simulator finds bugs that are there: each is put in, and a story breaks a promise."""

from __future__ import annotations

import pytest

from cxguard.testing.simulation.mutants import MUTANTS, Mutant, seeds_to_catch
from cxguard.testing.simulation.run import play, quick

SHALLOW = [mutant for mutant in MUTANTS if not mutant.deep]  # the deep ones: `cxguard simulate --mutants`
STORIES_MAX = 300


@pytest.mark.parametrize("mutant", SHALLOW, ids=[mutant.name for mutant in SHALLOW])
def test_the_bug_is_caught(mutant: Mutant) -> None:
    """Within a few stories one is charged twice, told wrong, or left waiting."""
    assert seeds_to_catch(mutant, start=0, most=STORIES_MAX) is not None


def test_a_webhook_that_was_taken_in_and_forgotten_is_seen() -> None:
    """The gateway tells it no more, so it is looked for on the records, wherever it lay first."""
    forgets = next(mutant for mutant in MUTANTS if mutant.name == "save loses notes")
    with quick(), forgets.alive():
        wrong = (each for seed in range(STORIES_MAX) for each in play(seed, change=forgets.plan).wrong)
        assert any("a webhook told of" in each for each in wrong)
