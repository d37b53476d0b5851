"""The list of faults is whole, and everything that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from campaign.playing import PROMISES
from campaign.row import Level, Row, Way, rows, scenes
from redis_faults import FAULTS as REDIS_FAULTS
from server_faults import FAULTS as SERVER_FAULTS
from servers import ROOT

from cxguard.testing.simulation.mutants import MUTANTS

FAULTS, MUTANTS_MIN = 55, 6
ELSEWHERE = {"postgresql: disk full", "redis: clock set"}  # in the list only where a disk may be mounted, and where there is a compiler
REAL = re.compile(r"\b(?:serve|spawn|Popen|subprocess|sys\.executable|server|fork|Process)\b")


def test_each_fault_has_one_row() -> None:
    """1 to 55, each once."""
    assert sorted(row.number for row in rows()) == list(range(1, FAULTS + 1))


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row.number))
def test_each_row_says_level_promises_and_how(row: Row) -> None:
    """It is tried by something, at a level, for a promise."""
    assert row.levels
    assert row.promises
    assert set(row.promises) <= set(PROMISES)
    assert [*row.trials()]


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row.number))
def test_each_thing_that_a_row_names_is_there(row: Row) -> None:
    """Tests, scenes, and what servers go through."""
    assert not [test for test in row.tests if not _has_test(*test.rsplit("::", maxsplit=1))]
    assert not [scene for scene, _ in row.plays if scene not in scenes()]
    assert not [name for name in row.servers if name not in {**SERVER_FAULTS, **REDIS_FAULTS}.keys() | ELSEWHERE]


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row.number))
def test_each_row_is_tried_at_its_levels(row: Row) -> None:
    """With real processes by a scene, or by a test that starts some; on a store by a fault of its server, or by a test of it."""
    trials = [*row.trials()]
    real = [trial for trial in trials if trial.way is not Way.TESTS or REAL.search(_text(trial.what.partition("::")[0]))]
    assert real or not {Level.STORE, Level.PROCESSES} & set(row.levels)
    assert any(trial.way is Way.TESTS for trial in trials) or Level.SIMULATED not in row.levels


def test_enough_scenes_have_a_bug_that_the_judge_must_see() -> None:
    """Each of these bugs is there, and its fault has a scene to play."""
    chosen = [row for row in rows() if row.mutant]
    assert len(chosen) >= MUTANTS_MIN
    assert {row.mutant for row in chosen} <= {mutant.name for mutant in MUTANTS}
    assert all(row.plays for row in chosen)


def test_readme_counts_them() -> None:
    """Its table has as many faults, tests and plays of each kind as the list."""
    counts = []
    for kind in dict.fromkeys(row.kind for row in rows()):
        of_kind = [row for row in rows() if row.kind == kind]
        trials = {trial.name: trial for row in of_kind for trial in row.trials()}.values()
        tests = sum(trial.way is Way.TESTS for trial in trials)
        counts.append((str(len(of_kind)), str(tests), str(len(trials) - tests)))
    told = re.search(r"(?s)\| what it befalls \|.*?\n\n", _text("README.md"))
    assert told is not None
    assert [tuple(re.findall(r"\| (\d+) (?=\|)", line)) for line in told[0].splitlines()[2:] if line] == counts


def test_each_scene_is_played() -> None:
    """No scene lies idle."""
    assert set(scenes()) == {scene for row in rows() for scene, _ in row.plays}


def _has_test(path: str, name: str) -> bool:
    """Also one that a class has from the contract suite."""
    path, _, suite = path.partition("::")
    texts = [_text(path)] if not suite else [file.read_text("utf-8") for file in (ROOT / "cxguard/testing/contract").glob("*.py")]
    return any(re.search(rf"(?m)^\s*(?:async )?def {name}\(", text) for text in texts)


def _text(path: str) -> str:
    file: Path = ROOT / path
    return file.read_text("utf-8") if file.is_file() else ""
