"""The example that tests itself: its test passes, and fails when the guard is taken away."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from example_ground import EXAMPLES
from servers import ROOT

pytestmark = pytest.mark.server
SECONDS_MAX = 100.0


def run_of(guard: str) -> subprocess.CompletedProcess[str]:
    """The example's own test, in a pytest of its own."""
    command = [sys.executable, "-m", "pytest", str(EXAMPLES / "tested_shop"), "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"SHOP_GUARD": guard, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def test_tested_shop_passes_its_own_test() -> None:
    """Double clicks, lost answers, a client that leaves, and a process that is really killed."""
    done = run_of("on")
    assert done.returncode == 0, done.stdout


def test_tested_shop_fails_its_own_test_without_the_guard() -> None:
    """A check that cannot fail is no check. What it prints names each case, promise and answer."""
    done = run_of("off")
    assert done.returncode == 1
    assert "6 of 6 cases broke a promise" in done.stdout
    assert "killed: the gateway charged, then the shop's process was killed, and started again" in done.stdout
    assert "  charged once       NO: 3 charges stand in the gateway's books" in done.stdout
    assert "Traceback" not in done.stdout
