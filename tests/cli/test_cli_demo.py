"""`cxguard demo`, as a program sees it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from servers import ROOT

KEYS = ("wanted", "paid_once", "charged_twice", "declined", "false_declines", "false_paid", "lost", "cancelled_told", "open")
ENDS = ("paid_once", "charged_twice", "declined", "cancelled_told", "lost", "open")


@pytest.mark.long
@pytest.mark.server
def test_the_demo_prints_both_verdicts_and_nothing_else() -> None:
    """`--headless --json` prints one document with the two verdicts, whose ends add up, and ends with 0."""
    command = [sys.executable, "-m", "cxguard.cli", "demo", "--headless", "--json", "--shoppers", "60", "--seed", "11"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    assert list(verdicts) == ["unguarded", "guarded"]
    for verdict in verdicts.values():
        assert tuple(verdict) == KEYS
        assert verdict["wanted"] == sum(verdict[end] for end in ENDS) == 60
