"""A long hunt is broken off and gone on with, and says at its end what a short one would have said."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from servers import ROOT

SCRIPT = ROOT / "benchmarks/hunt.py"
COMMIT = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def hunt() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hunt", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hunt"] = module
    spec.loader.exec_module(module)
    return module


def options(results: Path, seeds: int) -> list[str]:
    return ["--json", "--seeds", str(seeds), "--chunk", "2", "--results", str(results)]


def reported(hunt: ModuleType, results: Path, *, seeds: int = 4, chunk: int = 2) -> tuple[int, dict[str, Any]]:
    """How it ends without playing anything, and what it says."""
    ended = CliRunner().invoke(hunt.main, [*options(results, seeds), "--chunk", str(chunk), "--report"])
    return ended.exit_code, json.loads(ended.stdout)


def line(first: int, *, commit: str = COMMIT, count: int = 2, **members: Any) -> str:
    return json.dumps({"commit": commit, "first": first, "count": count, "seconds": 1.5, **members}) + "\n"


def test_a_hunt_that_was_broken_off_goes_on(hunt: ModuleType, tmp_path: Path) -> None:
    """Only what is not in the file is played: the chunk whose line was cut off, and the last, smaller one."""
    results = tmp_path / "hunt.jsonl"
    results.write_text(line(0, happened={"death": 7_000}) + line(2)[:-20])
    ended = subprocess.run([sys.executable, str(SCRIPT), *options(results, 5)], capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["stories"], told["first"], told["last"], told["chunks_missing"]) == (5, 0, 4, 0)
    assert told["happened"]["death"] >= 7_000
    assert told["happened"]["order new > running"] >= 3
    assert reported(hunt, results, seeds=5) == (0, told), "nothing is left to play"


def test_a_broken_promise_is_named_and_ends_the_hunt_with_1(hunt: ModuleType, tmp_path: Path) -> None:
    """With its seed, and the first promise that it broke."""
    results = tmp_path / "hunt.jsonl"
    results.write_text(line(0) + line(2, failed={"3": "charged 2 times"}))
    code, told = reported(hunt, results)
    assert code == 1
    assert told["failed"] == {"3": "charged 2 times"}
    assert (told["commit"], told["stories"], told["core_seconds"]) == (COMMIT, 4, 3)


@pytest.mark.parametrize("other", [line(2, commit="0" * 40), line(2, count=1), line(4)], ids=["commit", "size", "seeds"])
def test_what_other_hunts_have_played_does_not_count(hunt: ModuleType, tmp_path: Path, other: str) -> None:
    """Chunks of another commit, of another size, or of seeds that were not asked for: a part is missing still."""
    results = tmp_path / "hunt.jsonl"
    results.write_text(line(0) + other)
    code, told = reported(hunt, results)
    assert code == 1
    assert (told["stories"], told["chunks_missing"]) == (2, 1)


def test_a_thousand_stories_without_some_fault_are_no_proof(hunt: ModuleType, tmp_path: Path) -> None:
    """What never came about was not tried."""
    results = tmp_path / "hunt.jsonl"
    results.write_text(line(0, count=1_000))
    code, told = reported(hunt, results, seeds=1_000, chunk=1_000)
    assert code == 1
    assert "power cut" in told["never"]
