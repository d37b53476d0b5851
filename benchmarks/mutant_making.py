"""The mutants of a module: made by mutmut, and looked at by mypy, in a copy of the package beside the tests."""

from __future__ import annotations

import ast
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GROUND = ROOT / "mutants"  # a copy of the package, with some modules changed, beside the tests
WHOLE = ("tests", "examples", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")
_JOINT = "\u01c1"  # what mutmut writes around the name of a method's class


@dataclass(frozen=True, slots=True)
class Sample:
    """How many mutants of each module are drawn, and the seed that says which."""

    most: int
    seed: int


@dataclass(frozen=True, slots=True)
class Mutant:
    """One deliberate change: its name for mutmut, and for people its function, the line as it was, and as it is."""

    name: str
    says: str
    lines: range


@dataclass(frozen=True, slots=True)
class Changed:
    """A module in the copy: how many mutants there are of it, and those that were drawn."""

    module: str
    mutants: int
    drawn: list[Mutant]


def lay_out() -> None:
    """A fresh copy of the package, and the tests beside it."""
    GROUND.mkdir(exist_ok=True)
    shutil.rmtree(GROUND / "cxguard", ignore_errors=True)
    shutil.copytree(ROOT / "cxguard", GROUND / "cxguard", ignore=shutil.ignore_patterns("__pycache__"))
    for name in WHOLE:
        (GROUND / name).unlink(missing_ok=True)
        (GROUND / name).symlink_to(ROOT / name)


def made(module: str, *, sample: Sample | None = None) -> Changed:
    """Write the mutants of *module* (`core.caps`) into the copy, all or a sample: each function calls the one that is asked for."""
    from libcst import FunctionDef
    from mutmut.mutation.file_mutation import combine_mutations_to_source, create_mutations

    file = _file(module)
    whole, changes, *left_out = create_mutations(str(file), (ROOT / file).read_text("utf-8"))
    changes = [change for change in changes if isinstance(change.contained_by_top_level_function, FunctionDef)]
    drawn = changes if sample is None else _drawn(changes, sample, module)
    text = combine_mutations_to_source(whole, drawn, *left_out).code
    (GROUND / file).write_text(text, "utf-8")
    return Changed(module, len(changes), list(_mutants(text, module)))


def put_back(module: str) -> None:
    """The copy is as it was."""
    shutil.copy(ROOT / _file(module), GROUND / _file(module))


def _file(module: str) -> Path:
    return Path("cxguard", *module.split(".")).with_suffix(".py")


def _drawn(changes: list[Any], sample: Sample, module: str) -> list[Any]:
    """Of each module its own: whichever others are asked for."""
    dice = random.Random(f"{sample.seed} {module}")
    numbers = dice.sample(range(len(changes)), min(sample.most, len(changes)))
    return [changes[number] for number in sorted(numbers)]


def _mutants(text: str, module: str) -> Iterator[Mutant]:
    found = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    source = text.splitlines()
    for name, node in found.items():
        stem, _, number = name.rpartition("__mutmut_")
        if number.isdigit():
            changed = _changed(_lines(source, found[f"{stem}__mutmut_orig"]), _lines(source, node))
            says = f"{module}.{stem[2:].replace(_JOINT, '.')}: {changed}"
            yield Mutant(f"cxguard.{module}.{name}", says, range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _lines(text: list[str], node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    first, *others = text[node.lineno - 1 : node.end_lineno]
    return [first.replace(node.name, "", 1), *others]


def _changed(was: list[str], now: list[str]) -> str:
    differ = [codes for codes in SequenceMatcher(None, was, now, autojunk=False).get_opcodes() if codes[0] != "equal"]
    before = " ".join(line.strip() for _, begin, end, _, _ in differ for line in was[begin:end])
    return f"{before} => {' '.join(line.strip() for _, _, _, begin, end in differ for line in now[begin:end])}"


def caught_by_mypy(changed: list[Changed]) -> set[str]:
    """The names of those that mypy, as `make check` runs it, does not let through."""
    mutants = {_file(each.module).as_posix(): each.drawn for each in changed}
    command = [sys.executable, "-m", "mypy", "--output", "json", "--disable-error-code", "unused-ignore", *mutants]
    said = subprocess.run(command, cwd=GROUND, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), f"not a mutant, but mypy has failed: {said.stdout[-500:]}{said.stderr[-500:]}"
    errors = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    wrong = {(error["file"], error["line"]) for error in errors if error["severity"] == "error"}
    return {mutant.name for file, some in mutants.items() for mutant in some if any((file, line) in wrong for line in mutant.lines)}
