"""The mutants of one module: made by mutmut, looked at by mypy, tried by the tests that ask for that module.

The tests are collected once, and each mutant is tried in a fork of that process, by those tests that call its function, the
quickest first. There the function is given the mutant's code, so that it costs what it cost before. What ran while they were collected
has run without the mutant, and may be remembered: a mutant of such a function that survives is tried once more, in a process of
its own.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUND = ROOT / "mutants"  # a copy of the package, with one module changed, beside the tests
WHOLE = ("tests", "examples", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")
TIMES_SLOWER_MAX = 8  # a mutant with which a test takes so many times its processor time, and 5 s, never ends: it is noticed
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
    """What the mutants of one function have in common."""
    return name.rpartition(".")[2].rpartition("__mutmut_")[0]


class _Forks:
    """Instead of the tests' own run: one of them all as they are, then one for each mutant, in a fork, up to the first failure."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._functions: list[tuple[FunctionType, CodeType, dict[str, FunctionType]]] = []  # of the module: itself, its code, its mutants
        self._called: set[int] = set()  # their numbers, since it was emptied

    def in_place(self, mutants: dict[str, FunctionType], is_classmethod: bool = False) -> Callable[[FunctionType], FunctionType]:
        """Instead of mutmut's decorator, which asks the environment at each call whom to call."""

        def noted(function: FunctionType) -> FunctionType:
            self._functions.append((function, function.__code__, mutants))
            self._watch(len(self._functions) - 1)
            return function

        return noted

    def _watch(self, number: int) -> None:
        """Have its next call noted, at no cost to those after it: it gets a code that says so, and puts its own back."""
        function, _, _ = self._functions[number]
        function.__globals__["_note_call"] = self._note_call
        code = _noting.__code__
        function.__code__ = code.replace(co_consts=tuple(number if const == -1 else const for const in code.co_consts))

    def _note_call(self, number: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self._called.add(number)
        function, code, _ = self._functions[number]
        function.__code__ = code
        return function(*args, **named)

    def _seen(self) -> list[str]:
        """Those that were called, by mutmut's names, and none is any more."""
        seen = [_function(self._functions[number][2]["_mutmut_orig"].__name__) for number in sorted(self._called)]
        self._called.clear()
        for number in range(len(self._functions)):
            self._watch(number)
        return seen

    def pytest_configure(self, config: pytest.Config) -> None:
        """No shrinking: it is enough that a property fails. Loaded after conftest's own."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings(), phases=phases, database=None, max_examples=EXAMPLES_MAX, derandomize=True)
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Those that name a number of examples of their own, too."""
        for property_ in {getattr(item.obj, "__func__", item.obj) for item in items}:
            if own := getattr(property_, "_hypothesis_internal_use_settings", None):
                property_._hypothesis_internal_use_settings = _few(own)
        for walk in {item.cls for item in items if hasattr(item.cls, "settings")}:
            walk.settings = _few(walk.settings)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All of them, and what was seen into a file."""
        early = self._seen()
        gc.freeze()  # else each fork copies all that it looks through
        if _failed(lambda: self._measure(session)):
            pytest.exit("the tests fail without any mutant", returncode=1)
        measured: dict[str, tuple[float, list[str]]] = json.loads(Path("measured.json").read_text())
        items = sorted(session.items, key=lambda item: measured[item.nodeid][0])
        found = {}
        for name in self._names:
            reach = {item: measured[item.nodeid][0] for item in items if _function(name) in measured[item.nodeid][1]}
            found[name] = _failed(lambda name=name, reach=reach: self._try(session, name, reach))  # type: ignore[misc]
            Path("killed.json").write_text(json.dumps([found, early]))  # each time: whoever waits can look
        return True

    def _measure(self, session: pytest.Session) -> bool:
        """How long each test takes, and which functions of the module it calls."""
        measured = {}
        for item, after in _in_turn(session.items):
            begun = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            measured[item.nodeid] = time.process_time() - begun, self._seen()
        Path("measured.json").write_text(json.dumps(measured))
        return bool(session.testsfailed)

    def _try(self, session: pytest.Session, name: str, reach: dict[pytest.Item, float]) -> bool:
        """Put the mutant in, and see whether one of its tests fails, or does not end."""
        self._put_in(name.rpartition(".")[2])
        for item, after in _in_turn(list(reach)):
            most = int(time.process_time() + reach[item] * TIMES_SLOWER_MAX) + 5
            resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.testsfailed:
                return True
        return False

    def _put_in(self, name: str) -> None:
        for function, code, mutants in self._functions:
            function.__code__ = code
            if name in mutants:
                new = mutants[name]
                function.__code__, function.__defaults__, function.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def _few(own: Any) -> Any:
    from hypothesis import settings

    return settings(own, max_examples=min(own.max_examples, EXAMPLES_MAX))


def _noting(*args: Any, **named: Any) -> Any:
    return _note_call(-1, args, named)  # type: ignore[name-defined]  # noqa: F821  # in the globals of the function that gets this code


def _in_turn(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items, [*items, None][1:], strict=True)


def _failed(run: Callable[[], bool]) -> bool:
    """Whether *run* says so, or runs out of time, in a fork."""
    process = os.fork()
    if process:
        ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert ended in (0, 1, -signal.SIGXCPU), f"not a test has failed, but what tries the mutant: {ended}"
        return ended != 0
    code = 2
    try:
        code = int(run())
    finally:
        os._exit(code)


if __name__ == "__main__":
    from mutmut.mutation import trampoline

    names, tests = json.load(sys.stdin)
    forks = _Forks(names)
    trampoline.wrap_in_trampoline = forks.in_place  # type: ignore[assignment]
    raise SystemExit(pytest.main([*QUIET, *tests], plugins=[forks]))
