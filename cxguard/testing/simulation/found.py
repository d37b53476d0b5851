"""Stories that broke a promise once: each is kept in a file of a folder, and told again by a test."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxguard.testing.simulation.run import Verdict
from cxguard.testing.simulation.world import Plan, Strike


@dataclass(frozen=True)
class Found:
    """One finding.

    Attributes:
        wrong: what was wrong, in the judge's words.
        bug: what the reason was, and how it was mended; empty: nobody knows yet.
        mutant: the name among `mutants.MUTANTS` that puts the bug back; empty: there is none.
    """

    seed: int
    plan: Plan
    wrong: tuple[str, ...]
    bug: str = ""
    mutant: str = ""


def keep(folder: Path, verdict: Verdict) -> Path:
    """Write down what *verdict* found. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seed_{verdict.seed}_{verdict.digest[:6]}.json"
    found = Found(verdict.seed, verdict.plan, verdict.wrong)
    path.write_text(json.dumps(asdict(found), indent=1) + "\n", "utf-8")
    return path


def kept(folder: Path) -> list[Found]:
    """All that was found, in the order of the files' names.

    Raises:
        TypeError: a plan has a member that plans do not have any more: see what is nearest to it now.
    """
    return [_read(json.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.json"))]


def _read(found: dict[str, Any]) -> Found:
    plan = {**found["plan"]}
    strikes = plan.pop("strikes", None)
    told = None if strikes is None else tuple(Strike(**each) for each in strikes)
    return Found(**{**found, "plan": Plan(**plan, strikes=told), "wrong": tuple(found["wrong"])})
