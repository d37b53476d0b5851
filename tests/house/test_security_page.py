"""SECURITY.md is kept: each threat names its guard, and the tests that prove it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest
from servers import ROOT

TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
HEAD = "| threat | what stands in the way | proved by |"


def rows() -> Iterator[list[str]]:
    """The cells of each threat's row."""
    for line in TEXT.splitlines():
        if line.startswith("| ") and line != HEAD and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's tests, those in classes too."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    found = ast.walk(ast.parse(file.read_text("utf-8")))
    return frozenset(node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_threat_has_a_guard_and_a_test() -> None:
    """No row is half: three cells, and the last names at least one test."""
    halves = [row for row in rows() if len(row) != 3 or not all(row) or not NAMED.search(row[2])]
    assert halves == []
    assert len(list(rows())) >= 40


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED.findall(TEXT)}))
def test_every_test_that_is_named_is_there(path: str) -> None:
    """A test that was renamed is renamed here, too."""
    assert [name for where, name in NAMED.findall(TEXT) if where == path and name not in names_in(path)] == []


def test_nothing_but_tests_stands_in_the_last_column() -> None:
    """A word there that is no test would look like proof."""
    assert [row[2] for row in rows() if NAMED.sub("", row[2]).strip(", ")] == []


def test_no_heading_is_empty() -> None:
    """Each part of the page has its threats, but for the last: what nothing stands in the way of."""
    parts = re.split(r"(?m)^## ", TEXT)[1:]
    assert [part.splitlines()[0] for part in parts if HEAD not in part] == ["What it does not protect against"]
