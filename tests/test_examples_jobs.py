"""The example of prefork workers is run, and one of them is killed in the middle of a charge."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from servers import ROOT, Spawn
from test_examples_gateways import Demo

pytestmark = [pytest.mark.long, pytest.mark.server]


def jobs_in(folder: Path, *orders: str) -> None:
    folder.mkdir(exist_ok=True)
    for order in orders:
        job = {"order": order, "amount_minor": 4999, "currency": "EUR", "source": f"tok_ok_{order}"}
        (folder / f"{order}.json").write_text(json.dumps(job), "utf-8")


def test_celery_style_worker_pays_each_order_once_although_a_worker_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    """Killed while the gateway has its charge; the job is delivered again; every order is charged once."""
    demo = Demo(spawn([sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(tmp_path / "gateway.db")], ready="control_url"))
    jobs = tmp_path / "jobs"
    jobs_in(jobs, "1001", "1002", "1003")
    command = [sys.executable, str(ROOT / "examples/celery_style_worker/worker.py"), demo.url, str(jobs)]
    demo.ask("POST", "/control/hold", count=2)
    first = spawn(command, ready="workers ")
    demo.ask("GET", "/control/held?count=2&seconds=20")
    for pid in first.ready_line.split()[1:]:
        os.kill(int(pid), signal.SIGKILL)
    first.wait_log("no more jobs")
    demo.ask("POST", "/control/release")
    jobs_in(jobs, "1002")  # and one is delivered twice
    done: set[str] = set()
    for _ in range(20):  # a lease of a dead worker has to lapse first
        spawn(command, ready="no more jobs")
        done = {path.name.partition(".")[0] for path in jobs.glob("*.done")}
        if done == {"1001", "1002", "1003"}:
            break
    assert done == {"1001", "1002", "1003"}
    sources = sorted(payment["source"] for payment in demo.standing())
    assert sources == ["tok_ok_1001", "tok_ok_1002", "tok_ok_1003"]
