"""The list of changes to the core that may stay unnoticed is about the core as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = tomllib.loads((ROOT / "benchmarks/mutation.toml").read_text("utf-8"))


def _source(module: str) -> str:
    return " ".join((ROOT / "cxguard" / Path(*module.split(".")).with_suffix(".py")).read_text("utf-8").split())


def test_every_reason_is_about_a_line_that_is_there() -> None:
    """Whoever changes the line has it tried anew."""
    for survivor in [survivor for reason in LIST["reason"] for survivor in reason["survivors"]]:
        place, _, change = survivor.partition(": ")
        was = " ".join(change.partition(" => ")[0].removeprefix("async ").removeprefix("def ").split())  # a function's name is not among it
        assert was in _source(".".join(place.split(".")[:2])), f"mutation.toml: take out {survivor!r}, or write it as it is now"


def test_every_test_that_it_names_is_there() -> None:
    """A file that has gone would kill each mutant."""
    assert [file for files in LIST["tests"].values() for file in files if not (ROOT / file).is_file()] == []
