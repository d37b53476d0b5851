"""What the tests of the core would miss: it is changed on purpose, line by line, and each time the tests must notice.

    make mutation                         all of the core: an hour or two
    make mutation ARGS="core.caps"        one module, or several
    make mutation ARGS="--json core.caps" the same for programs

A mutant is a module with one deliberate change: a figure one higher, `<` for `<=`, an argument left out, `None` for a value. The
words of errors are let be. mypy finds some, the tests of `mutation.toml` kill others, in a fork of their process or in one of its
own. A survivor has a reason there: it makes no difference, or only to words for people. Ends with 1 where one has none, or where
of a module's mutants that mypy left fewer than nine in ten are killed.
"""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from mutant_trials import ROOT, caught_by_mypy, killed, lay_out, made, put_back
from rich.console import Console
from rich.table import Table

KILLED_SHARE_MIN = 0.9
LIST = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of the mutants of one module."""

    module: str
    mutants: int
    mypy: int
    killed: int
    survivors: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """How many of those that mypy left were killed, of 1."""
        return self.killed / (self.mutants - self.mypy) if self.mutants > self.mypy else 1.0

    @property
    def unexplained(self) -> list[str]:
        """The survivors that have no reason in the list."""
        reasons = {survivor for reason in LIST["reason"] for survivor in reason["survivors"]}
        return [survivor for survivor in self.survivors if survivor not in reasons]


def modules() -> list[str]:
    """Those of the core that do something."""
    return [f"core.{path.stem}" for path in sorted((ROOT / "cxguard/core").glob("*.py")) if "def " in path.read_text("utf-8")]


def tests_of(module: str) -> list[str]:
    """The files that the list names, or all that are called after the module."""
    package, _, name = module.partition(".")
    named: list[str] = LIST["tests"].get(module, [])
    return named or sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / package).glob(f"test_{name}*.py"))


def try_module(module: str) -> Tried:
    """Make its mutants, and try those that mypy leaves."""
    mutants = made(module)
    caught = caught_by_mypy(module, mutants)
    left = {mutant.name: mutant.says for mutant in mutants if mutant.name not in caught}
    noticed = killed(list(left), tests_of(module)) if left else {}
    put_back(module)
    survivors = [says for name, says in left.items() if not noticed[name]]
    return Tried(module, len(mutants), len(caught), len(left) - len(survivors), survivors)


def show(found: list[Tried], console: Console) -> None:
    table = Table()
    for name in ("module", "mutants", "mypy", "killed", "survived", "%"):
        table.add_column(name, justify="left" if name == "module" else "right")
    for tried in found:
        cells = (f"{cell:,}" for cell in (tried.mutants, tried.mypy, tried.killed, len(tried.survivors)))
        table.add_row(tried.module, *cells, f"{tried.share * 100:.1f}")
    console.print(table)
    for survivor in [survivor for tried in found for survivor in tried.unexplained]:
        console.print(f"no reason: {survivor}", markup=False, soft_wrap=True)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Change the modules NAMES (core.caps; all of the core) on purpose, and see whether their tests notice."""
    lay_out()
    found = []
    for name in names or modules():
        found.append(try_module(name))
        print(f"mutation: {name}, {found[-1].share:.1%} of {found[-1].mutants}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps([asdict(tried) for tried in found], indent=1))
    else:
        show(found, Console())
    raise SystemExit(any(tried.unexplained or tried.share < KILLED_SHARE_MIN for tried in found))


if __name__ == "__main__":
    main()
