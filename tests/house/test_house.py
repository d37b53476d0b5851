"""The house keeps its own rules: sizes, names, and nothing of the machine that it was written on."""

from __future__ import annotations

import ast
import contextlib
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import ROOT

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
BODY_LINES_USUAL, BODY_LINES_MOST = 10, 35
OURS = ("cxguard", "tests", "examples", "benchmarks")
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "tools"}


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project that is there; those that git ignores are not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    return tuple(ROOT / name for name in listed if name and (ROOT / name).is_file())


def code() -> Iterator[Path]:
    return (path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in OURS)


def texts() -> Iterator[tuple[str, str]]:
    for path in tracked():
        try:
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a picture


@cache
def functions(path: Path) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return tuple(node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_the_project_is_under_version_control() -> None:
    """The other tests here read the list of tracked files: it is not empty."""
    assert ROOT / "pyproject.toml" in tracked()


def test_files_are_short() -> None:
    """A file of 400 lines has two subjects."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in code()}
    assert not {name: length for name, length in lengths.items() if length >= FILE_LINES_MAX}


def test_functions_are_short() -> None:
    """No function is longer than a screen."""
    long = {
        f"{path.relative_to(ROOT)}:{one.name}": body_lines(one)
        for path in code()
        for one in functions(path)
        if body_lines(one) > FUNCTION_LINES_MAX
    }
    assert not long


def test_functions_are_usually_small() -> None:
    """The typical function is under 10 lines, and 95 of 100 are under 35."""
    lengths = sorted(body_lines(one) for path in code() if path.is_relative_to(ROOT / "cxguard") for one in functions(path))
    assert statistics.median(lengths) < BODY_LINES_USUAL
    assert lengths[int(len(lengths) * 0.95)] < BODY_LINES_MOST


def test_no_file_is_called_after_nothing() -> None:
    """A file is named by what it means."""
    assert not [str(path.relative_to(ROOT)) for path in tracked() if NAMELESS & {path.stem, *path.relative_to(ROOT).parts[:-1]}]


def test_test_files_have_names_of_their_own() -> None:
    """Two test files of one name would be one module."""
    names = [path.name for path in code() if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def test_every_test_says_what_holds() -> None:
    """Each test has one sentence for what it proves."""
    silent = [
        f"{path.relative_to(ROOT)}:{one.lineno} {one.name}"
        for path in code()
        if path.name.startswith("test_") or path.is_relative_to(ROOT / "cxguard" / "testing" / "contract")
        for one in functions(path)
        if one.name.startswith("test_") and not ast.get_docstring(one)
    ]
    assert not silent


# Written apart, so that this file does not name what it forbids.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.{}])/" + r"(?:home|root|Users|work|farm|mnt)/\w"),
    "a package registry's address": re.compile("pypi" + r"\.org|python" + r"hosted\.|registry" + r"\.npmjs|index" + "-url"),
    "work that is left for later": re.compile(r"(?:#|//|--|\*)\s*(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b|\bfor " + r"now\b(?! in\b)"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_of_the_workshop_is_left(what: str) -> None:
    """The project speaks of itself alone, and is finished where it stands."""
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found


def test_constraints_pin_names_alone() -> None:
    """Each line of the constraints is a name and a version: no address, no folder."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert all(line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line) for line in lines)


def test_every_dependency_is_pinned_for_development() -> None:
    """What pyproject asks for stands in the constraints, with all that it asks for in its turn, also on the oldest Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    assert _needed([Requirement(one) for one in asked]) - {"cxguard"} <= pinned


OLDEST = {"python_version": "3.11", "python_full_version": "3.11.0"}


def _needed(asked: list[Requirement]) -> set[str]:
    """The names of what is asked for, and of what that needs, extras included."""
    known: dict[str, str] = {}
    while asked:
        one = asked.pop()
        if str(one) not in known:
            known[str(one)] = canonicalize_name(one.name)
            asked += [needed for needed in _requirements_of(one.name) if _applies(needed, one.extras)]
    return set(known.values())


def _requirements_of(name: str) -> list[Requirement]:
    with contextlib.suppress(PackageNotFoundError):  # only another Python needs it
        return [Requirement(line) for line in requires(name) or ()]
    return []


def _applies(needed: Requirement, extras: set[str]) -> bool:
    environments = [{**python, "extra": extra} for python in ({}, OLDEST) for extra in ("", *extras)]
    return needed.marker is None or any(needed.marker.evaluate(environment) for environment in environments)


def test_the_readme_names_real_targets() -> None:
    """Each `make x` of the README is a target of the Makefile."""
    named = set(re.findall(r"\bmake ([a-z]+)\b", _code_of((ROOT / "README.md").read_text("utf-8"))))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert named <= targets


def test_the_readme_names_real_commands() -> None:
    """Each `cxguard x` of the README is a command of the program."""
    named = set(re.findall(r"(?m)(?:^|`|\$ |bin/)cxguard ([a-z]+)\b", _code_of((ROOT / "README.md").read_text("utf-8"))))
    if named:
        from click import Context

        from cxguard.cli import main

        assert named <= set(main.list_commands(Context(main)))


def _code_of(markdown: str) -> str:
    """What stands between backticks, in blocks and in lines: the rest is prose, where `make` is a word."""
    return "\n".join(re.findall(r"(?s)```.*?```|`[^`\n]+`", markdown))
