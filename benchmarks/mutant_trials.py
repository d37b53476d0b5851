"""The mutants of one module: made by mutmut, looked at by mypy, tried by the tests that ask for that module.

The tests are collected once, and each mutant is tried in a fork of that process, which takes a moment. What ran while they were
collected has run without the mutant, and may be remembered: a mutant of such a function that survives is tried once more, in a
process of its own.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUND = ROOT / "mutants"  # a copy of the package, with one module changed, beside the tests
WHOLE = ("tests", "examples", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")
TIMES_SLOWER_MAX = 8  # a mutant that takes so many times the processor time of the tests, and 5 s, never ends: it is noticed
EXAMPLES_MAX = 30  # of each property of hypothesis: fewer than in the gate, so a kill here is one there
QUIET = ("-x", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "600")
_JOINT = "\u01c1"  # what mutmut writes around the name of a method's class


@dataclass(frozen=True, slots=True)
class Mutant:
    """One deliberate change: its name for mutmut, and for people its function, the line as it was, and as it is."""

    name: str
    says: str
    lines: range


def lay_out() -> None:
    """A fresh copy of the package, and the tests beside it."""
    GROUND.mkdir(exist_ok=True)
    shutil.rmtree(GROUND / "cxguard", ignore_errors=True)
    shutil.copytree(ROOT / "cxguard", GROUND / "cxguard", ignore=shutil.ignore_patterns("__pycache__"))
    for name in WHOLE:
        (GROUND / name).unlink(missing_ok=True)
        (GROUND / name).symlink_to(ROOT / name)


def made(module: str) -> list[Mutant]:
    """Write all mutants of *module* (`core.caps`) into the copy: each function calls the one that the environment names."""
    from mutmut.mutation.file_mutation import mutate_file_contents

    file = Path("cxguard", *module.split(".")).with_suffix(".py")
    text = mutate_file_contents(str(file), (ROOT / file).read_text("utf-8")).code
    (GROUND / file).write_text(text, "utf-8")
    return list(_mutants(text, module))


def put_back(module: str) -> None:
    """The copy is as it was."""
    file = Path("cxguard", *module.split(".")).with_suffix(".py")
    shutil.copy(ROOT / file, GROUND / file)


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


def caught_by_mypy(module: str, mutants: list[Mutant]) -> set[str]:
    """The names of those that mypy, as `make check` runs it, does not let through."""
    file = "/".join(("cxguard", *module.split("."))) + ".py"
    command = [sys.executable, "-m", "mypy", "--output", "json", "--disable-error-code", "unused-ignore", file]
    said = subprocess.run(command, cwd=GROUND, capture_output=True, text=True, check=False)
    errors = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    lines = {error["line"] for error in errors if error["file"] == file and error["severity"] == "error"}
    return {mutant.name for mutant in mutants if lines.intersection(mutant.lines)}


def killed(names: list[str], tests: list[str]) -> dict[str, bool]:
    """By name, whether *tests* notice the mutant."""
    environment = {**os.environ, "PYTHONPATH": str(GROUND), "MUTANT_UNDER_TEST": ""}
    task, told = json.dumps([names, tests]), GROUND / "killed.json"
    told.unlink(missing_ok=True)
    subprocess.run([sys.executable, __file__], input=task, cwd=GROUND, env=environment, text=True, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, bool]
    found, early = json.loads(told.read_text())
    alone = [sys.executable, "-m", "pytest", *QUIET, *tests]
    for name in [name for name, noticed in found.items() if not noticed and _function(name) in early]:
        again = {**environment, "MUTANT_UNDER_TEST": name}
        found[name] = subprocess.run(alone, cwd=GROUND, env=again, stdout=subprocess.DEVNULL, check=False).returncode != 0
    return found


def _function(name: str) -> str:
    return name.rpartition(".")[2].rpartition("__mutmut_")[0]


class _Forks:
    """Instead of the tests' own run: one of them all as they are, then one for each mutant, in a fork, up to the first failure."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._early: set[str] = set()  # the functions that have run before the first fork

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name.endswith("__mutmut_orig"):
            self._early.add(_function(frame.f_code.co_name))

    def pytest_configure(self, config: pytest.Config) -> None:
        """No shrinking: it is enough that a property fails. Loaded after conftest's own."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings(), phases=phases, database=None, max_examples=EXAMPLES_MAX, derandomize=True)
        settings.load_profile("mutants")
        sys.setprofile(self._see)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All of them, and what was seen into a file."""
        sys.setprofile(None)
        gc.freeze()  # else each fork copies all that it looks through
        before = _processor_seconds()
        if _noticed(session, "", cpu_seconds_max=600):
            pytest.exit("the tests fail without any mutant", returncode=1)
        seconds: dict[str, float] = json.loads(Path("seconds.json").read_text())
        session.items.sort(key=lambda item: seconds[item.nodeid])
        most = int((_processor_seconds() - before) * TIMES_SLOWER_MAX) + 5
        found = {name: _noticed(session, name, cpu_seconds_max=most) for name in self._names}
        Path("killed.json").write_text(json.dumps([found, sorted(self._early)]))
        return True


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _noticed(session: pytest.Session, name: str, *, cpu_seconds_max: int) -> bool:
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1] != 0
    code = 1
    try:
        os.environ["MUTANT_UNDER_TEST"] = name
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds_max, cpu_seconds_max + 1))
        code = int(_fails(session))
    finally:
        os._exit(code)


def _fails(session: pytest.Session) -> bool:
    following: list[Any] = [*session.items[1:], None]
    seconds: dict[str, float] = {}
    for item, after in zip(session.items, following, strict=True):
        begun = time.process_time()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        seconds[item.nodeid] = time.process_time() - begun
        if session.testsfailed:
            return True
    Path("seconds.json").write_text(json.dumps(seconds))
    return False


if __name__ == "__main__":
    names, tests = json.load(sys.stdin)
    raise SystemExit(pytest.main([*QUIET, *tests], plugins=[_Forks(names)]))
