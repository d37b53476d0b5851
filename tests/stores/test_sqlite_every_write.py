"""A process dies, or its disk fails, at a write or a flush of the store's file: what it had said before is true of what is left.

All points, and not every so-manieth: `CXGUARD_SQLITE_EVERY=1 python -m pytest tests/stores/test_sqlite_every_write.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from servers import ROOT

EVERY = int(os.environ.get("CXGUARD_SQLITE_EVERY", "23"))
POINTS_MIN = 100  # of one life, which does each kind of write at least once
MEMORY = Path("/dev/shm")  # a death of the process loses nothing that the system has: no need to wait for a disk
DIES, REFUSED, LIVED = -9, 3, 0


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as made:
        yield Path(made)


def lives(folder: Path, way: str, *, every: int = EVERY) -> dict[str, Any]:
    """What was found over all points."""
    command = [sys.executable, "-m", "sqlite_points", str(folder), way, str(every)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["points"] >= POINTS_MIN
    return found


@pytest.mark.parametrize("way", ["kill", "torn", "late"])
def test_killed_at_a_write_it_has_all_that_it_said(folder: Path, way: str) -> None:
    """Before the write, after half of it, or after it and before SQLite knows: the file is whole, and nothing acknowledged is gone."""
    found = lives(folder, way)
    assert set(found["codes"]) == {DIES}, "each died where it was told to"
    assert found["wrong"] == {}


@pytest.mark.parametrize("way", ["eio", "full"])
def test_disk_that_fails_at_a_write_takes_nothing_back(folder: Path, way: str) -> None:
    """An error of the disk is told in our own words, and what was said before it stays true."""
    found = lives(folder, way)
    assert set(found["codes"]) == {REFUSED}, "each met the error, and said so"
    assert found["wrong"] == {}


def test_disk_that_forgets_is_seen(folder: Path) -> None:
    """The judge is no formality: a disk that says "written" and has not leaves what was said untrue."""
    found = lives(folder, "swallow", every=2 * EVERY)
    assert found["wrong"]
    assert LIVED in found["codes"]
