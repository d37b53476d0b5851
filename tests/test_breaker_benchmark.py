"""The benchmark of breakers runs, and ours does what it should beside the others."""

from __future__ import annotations

import json
import subprocess
import sys

from servers import ROOT


def test_ours_behaves_in_every_column() -> None:
    """Two probes of a hundred callers, one opening for thirty stragglers, and yes everywhere. The times are the benchmark's."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/breaker.py"), "--quick", "--json"], capture_output=True, text=True, timeout=110, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
    ours = next(each for each in json.loads(ended.stdout) if each["name"] == "cxguard")
    assert (ours["probes"], ours["opened_by_stragglers"]) == (2, 1)
    yes = ("trips_at_80_percent", "unmoved_by_declines", "unmoved_by_cancels", "recovers_after_dead_probe")
    assert all(ours[column] for column in yes)
