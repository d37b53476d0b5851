"""Seeds that broke a promise once. Their stories go on changing with the simulator; what was wrong is mended for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxguard.testing.simulation.found import Found, keep, kept
from cxguard.testing.simulation.mutants import MUTANTS
from cxguard.testing.simulation.run import Verdict, play, quick
from cxguard.testing.simulation.world import Plan, Strike, Striking

FOUND = kept(Path(__file__).parent / "found")


@pytest.mark.parametrize("found", FOUND, ids=[str(found.seed) for found in FOUND])
def test_what_was_found_is_mended(found: Found) -> None:
    """The same seed, in the same kind of shop."""
    with quick():
        verdict = play(found.seed, change=lambda plan: found.plan)
    assert not verdict.wrong, str(verdict)
    assert found.bug, "say what the reason was"


def test_bugs_that_were_found_can_be_put_back() -> None:
    """So that the simulator is known to see them, also when their seeds tell other stories."""
    assert {found.mutant for found in FOUND} - {""} <= {mutant.name for mutant in MUTANTS}


def test_a_finding_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With the plan, and what struck where."""
    plan = Plan(keyed=False, strikes=(Strike(Striking.CRASH, 7), Strike(Striking.CANCEL, 2)))
    keep(tmp_path / "found", Verdict(3, plan, "d1935d", ("charged 2 times",), {}))  # type: ignore[arg-type]
    assert kept(tmp_path / "found") == [Found(3, plan, ("charged 2 times",))]
