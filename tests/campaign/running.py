"""Runs what the faults are tried by, each once, and adds up what was found by fault and promise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from campaign.playing import PROMISES, played, shown
from campaign.processes import may_limit_memory
from campaign.row import SERVER_FAULTS, Row, Trial, Way, scenes
from fleet_world import Say
from server_faults import judged
from servers import ROOT

TEST_SECONDS_MAX = 600  # of one test with all its parameters
LONG_FORM = {"CXGUARD_SQLITE_EVERY": "1", "CXGUARD_PAYMENT_RUNS": "1000"}  # more than `make test` has time for


@dataclass(frozen=True, slots=True)
class Result:
    """What one trial has shown.

    Attributes:
        wrong: how often each promise was broken, of those that were looked at. Of tests: each failure counts for all.
        happened: how often the fault came about; of tests: how many ran.
        not_tried: why it could not be tried here; empty: it was.
        failures: in words.
    """

    wrong: Mapping[str, int] = field(default_factory=dict)
    happened: int = 0
    orders: int = 0
    seconds: float = 0.0
    not_tried: str = ""
    failures: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run(trial: Trial, *, say: Say = lambda line: None) -> Result:
    """One trial, in a folder of its own. What breaks before it can be judged is a failure, too."""
    try:
        with TemporaryDirectory() as folder:
            match trial.way:
                case Way.TESTS:
                    return _tested(trial.what, Path(folder))
                case Way.SERVER:
                    return _server(trial.what, Path(folder), say)
                case Way.PLAY:
                    return _played(trial, Path(folder), say)
    except Exception as error:
        return Result(failures=(f"not judged: {type(error).__name__}: {str(error)[:500]}",))


def _played(trial: Trial, folder: Path, say: Say) -> Result:
    if trial.what == "out of memory" and (why := may_limit_memory()):
        return Result(not_tried=why)
    scene = scenes()[trial.what].changed(trial.settings)
    found = asyncio.run(played(scene, folder, trial.store, say=say))
    return Result(found.wrong, found.happened, found.orders, found.seconds, failures=tuple(found.failures()))


def _server(name: str, folder: Path, say: Say) -> Result:
    if name not in SERVER_FAULTS:
        return Result(not_tried="what it needs is not here: root, to mount a disk, or a C compiler")
    told = asyncio.run(judged(SERVER_FAULTS[name], folder, say=say))
    found = shown(told, happened=1)  # it is done before the shoppers are waited for
    return Result(found.wrong, found.happened, found.orders, found.seconds, failures=tuple(found.failures()))


def _tested(test: str, folder: Path) -> Result:
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", test]
    env = {**os.environ, **LONG_FORM}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TEST_SECONDS_MAX, check=False)
    if not report.exists():
        return Result(failures=(f"not run: {done.stdout[-500:]}",))
    found = Counter(_end_of(case) for case in ET.parse(report).iter("testcase"))
    if not found["passed"] and not found["failed"]:
        return Result(not_tried="skipped: what it needs is not here")
    failures = (f"{found['failed']} of {found.total()} failed",) if found["failed"] else ()
    seconds = sum(float(suite.get("time", 0.0)) for suite in ET.parse(report).iter("testsuite"))
    wrong = dict.fromkeys(PROMISES, found["failed"])
    return Result(wrong, found["passed"] + found["failed"], 0, seconds, failures=failures)


def _end_of(case: ET.Element) -> str:
    ends = {child.tag for child in case}
    return "failed" if ends & {"failure", "error"} else "skipped" if "skipped" in ends else "passed"


@dataclass(frozen=True, slots=True)
class Line:
    """One fault, with all that it was tried by.

    Attributes:
        wrong: by promise: how often it was broken; None: nobody looked.
        missing: what has not been run, or could not be.
    """

    row: Row
    tests: int
    plays: int
    happened: int
    orders: int
    wrong: Mapping[str, int | None]
    failures: Sequence[str]
    missing: Sequence[str]

    @property
    def verdict(self) -> str:
        if self.failures or any(self.wrong.values()):
            return "broken"
        return "held" if not self.missing else "held, in part" if self.happened else "not tried"

    def to_json(self) -> dict[str, Any]:
        row = {"number": self.row.number, "fault": self.row.fault, "levels": [*self.row.levels]}
        return {
            **row,
            "result": self.verdict,
            "came_about": self.happened,
            "orders": self.orders,
            "tests": self.tests,
            "plays": self.plays,
            "wrong": dict(self.wrong),
            "failures": [*self.failures],
            "missing": [*self.missing],
        }


def line_of(row: Row, results: Mapping[str, Result], *, trials: Sequence[Trial]) -> Line:
    """Add up what *trials* of a fault have shown. A test speaks for the promises that the fault is after."""
    there = [(trial, results[trial.name]) for trial in trials if trial.name in results]
    missing = [trial.name for trial in trials if trial.name not in results]
    missing += [f"{trial.name}: {result.not_tried}" for trial, result in there if result.not_tried]
    ran = [(trial, result) for trial, result in there if not result.not_tried]
    wrong = {promise: _added(row, promise, ran) for promise in PROMISES}
    return Line(
        row=row,
        tests=sum(result.happened for trial, result in ran if trial.way is Way.TESTS),
        plays=sum(trial.way is not Way.TESTS for trial, _ in ran),
        happened=sum(result.happened for _, result in ran),
        orders=sum(result.orders for _, result in ran),
        wrong=wrong,
        failures=[f"{trial.name}: {failure}" for trial, result in ran for failure in result.failures],
        missing=missing,
    )


def _added(row: Row, promise: str, ran: Sequence[tuple[Trial, Result]]) -> int | None:
    looked = [
        result.wrong[promise]
        for trial, result in ran
        if promise in result.wrong and (trial.way is not Way.TESTS or promise in row.promises)
    ]
    return sum(looked) if looked else None
