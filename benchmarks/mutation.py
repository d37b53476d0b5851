"""What the tests would miss: the core and the engine are changed on purpose, line by line, and each time the tests must notice.

    make mutation                            all of the core: an hour or two
    make mutation ARGS="core.caps"           one module, or several
    make mutation ARGS="--sample 24 engine"  of each module of the engine at most 24 mutants, drawn by lot: two hours
    make mutation ARGS="--resume .."         goes on where the same command broke off, by what mutants/tried.jsonl tells
    make mutation ARGS="--json core.caps"    for programs

A mutant is a module with one deliberate change: a figure one higher, `<` for `<=`, an argument left out, `None` for a value. The
words of errors are let be. mypy finds some, the tests of `mutation.toml` kill others, in a fork of their process or in one of its
own. A survivor has a reason there: it makes no difference, or only to words for people. Ends with 1 where one has none, or where
of a module's mutants that mypy left fewer than nine in ten are killed (of a sample: as a whole).
"""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from mutant_making import ROOT, Sample, caught_by_mypy, lay_out, made, put_back
from mutant_trials import Conditions, forget, killed
from rich.console import Console
from rich.table import Table

KILLED_SHARE_MIN = 0.9
LIST = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of the mutants of one module: of all there are, or of those that were drawn."""

    module: str
    mutants: int
    drawn: int
    mypy: int
    killed: int
    survivors: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """How many of those that mypy left were killed, of 1."""
        return self.killed / (self.drawn - self.mypy) if self.drawn > self.mypy else 1.0

    @property
    def unexplained(self) -> list[str]:
        """The survivors that have no reason in the list."""
        reasons = {survivor for reason in LIST["reason"] for survivor in reason["survivors"]}
        return [survivor for survivor in self.survivors if survivor not in reasons]


def modules(package: str) -> list[str]:
    """Those of *package* (`core`) that do something."""
    files = sorted((ROOT / "cxguard" / package).glob("*.py"))
    return [f"{package}.{path.stem}" for path in files if "def " in path.read_text("utf-8")]


def together(names: list[str]) -> list[list[str]]:
    """Each module of the core is tried by its own tests; those of a package that has tests as a whole, by those, all at once."""
    shared = LIST["shared"]
    apart = [[name] for name in names if name.partition(".")[0] not in shared]
    return apart + [some for package in shared if (some := [name for name in names if name.partition(".")[0] == package])]


def conditions(module: str) -> Conditions:
    """The tests of the module's package, or the files that the list names for it, or all that are called after it."""
    package, _, name = module.partition(".")
    if shared := LIST["shared"].get(package):
        return Conditions(**shared)
    named: list[str] = LIST["tests"].get(module, [])
    called = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / package).glob(f"test_{name}*.py"))
    return Conditions(named or called, without=[], seconds=None)


def try_modules(names: list[str], sample: Sample | None) -> list[Tried]:
    """Make their mutants, and try those that mypy leaves."""
    changed = [made(name, sample=sample) for name in names]
    print(f"mutation: mypy looks at {sum(len(each.drawn) for each in changed):,} mutants", file=sys.stderr, flush=True)
    caught = caught_by_mypy(changed)
    left = {mutant.name: mutant.says for each in changed for mutant in each.drawn if mutant.name not in caught}
    noticed = killed(left, conditions(names[0])) if left else {}
    found = []
    for each in changed:
        tried = [mutant for mutant in each.drawn if mutant.name in left]
        survivors = [mutant.says for mutant in tried if not noticed[mutant.name]]
        mypy = len(each.drawn) - len(tried)
        found.append(Tried(each.module, each.mutants, len(each.drawn), mypy, len(tried) - len(survivors), survivors))
        put_back(each.module)
    return found


def show(found: list[Tried], console: Console) -> None:
    table = Table()
    for name in ("module", "mutants", "drawn", "mypy", "killed", "survived", "%"):
        table.add_column(name, justify="left" if name == "module" else "right")
    for tried in [*found, total(found)]:
        cells = (f"{cell:,}" for cell in (tried.mutants, tried.drawn, tried.mypy, tried.killed, len(tried.survivors)))
        table.add_row(tried.module, *cells, f"{tried.share * 100:.1f}")
    console.print(table)
    for survivor in [survivor for tried in found for survivor in tried.unexplained]:
        console.print(f"no reason: {survivor}", markup=False, soft_wrap=True)


def total(found: list[Tried]) -> Tried:
    """All of them as one."""
    mutants, drawn, mypy, noticed = (sum(column) for column in zip(*((t.mutants, t.drawn, t.mypy, t.killed) for t in found), strict=True))
    return Tried("all", mutants, drawn, mypy, noticed, [survivor for tried in found for survivor in tried.survivors])


@click.command()
@click.argument("names", nargs=-1)
@click.option("--sample", type=click.IntRange(1), help="At most so many mutants of each module, drawn by lot.")
@click.option("--seed", default=1, show_default=True, help="Which of them.")
@click.option("--resume", is_flag=True, help="Do not try again what mutants/tried.jsonl tells of.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(names: tuple[str, ...], sample: int | None, seed: int, resume: bool, as_json: bool) -> None:
    """Change the modules NAMES (core.caps, or engine for all of it; all of the core) on purpose, and see whether their tests notice."""
    lay_out()
    if not resume:
        forget()
    asked = [module for name in names or ["core"] for module in ([name] if "." in name else modules(name))]
    found = []
    for some in together(list(dict.fromkeys(asked))):
        found += try_modules(some, Sample(sample, seed) if sample else None)
        print(f"mutation: {some[-1]}, {total(found).share:.1%} of all so far", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps([asdict(tried) for tried in found], indent=1))
    else:
        show(found, Console())
    judged = [total(found)] if sample else found
    raise SystemExit(any(tried.unexplained for tried in found) or any(tried.share < KILLED_SHARE_MIN for tried in judged))


if __name__ == "__main__":
    main()
