"""Imports point down only: every import of the package is read, those inside functions too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from servers import ROOT

PACKAGE = ROOT / "cxguard"

# From the top down. A part may import its own layer and what is below it, less what the tests here name.
LAYERS = {
    "start": ("cli", "demo"),
    "edges": ("asgi", "dashboard", "metrics", "worker"),
    "render": ("render",),
    "facade": ("guard", "library", ""),  # the empty name is `cxguard` itself
    "shell": ("engine",),
    "input and output": ("stores", "gateways", "seal"),
    "base": ("core", "rules", "config", "secret_file", "events", "logs", "errors", "clock", "threads"),
}
BESIDE = "testing"  # may import all below start; only start may import it
RANKS = {part: rank for rank, parts in enumerate(LAYERS.values()) for part in parts} | {BESIDE: 1}
EDGES = LAYERS["edges"]

NOT_PURE = {
    *("asyncio", "logging", "os", "pathlib", "random", "secrets", "socket"),
    *("sqlite3", "structlog", "subprocess", "threading", "time", "uuid"),
}
PURE_ELSEWHERE = {"python_multipart"}  # a parser that is fed bytes: no input, no output
EXTRAS = {
    *("httpx", "selectolax", "graphql", "uvicorn", "psycopg", "stripe", "prometheus_client"),
    *("django", "fastapi", "litestar", "quart", "a2wsgi", "itsdangerous"),
}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, and where it stands."""

    file: Path
    line: int
    name: str

    @property
    def part(self) -> str:
        """The part of the package that imports: the folder or module right below it."""
        return part_of(".".join(("cxguard", *self.file.relative_to(PACKAGE).with_suffix("").parts)))

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.name}"


def part_of(module: str) -> str:
    """`core` for `cxguard.core.money`; nothing for `cxguard` itself and for its `__init__`."""
    parts = module.split(".")[1:2]
    return "" if parts in ([], ["__init__"]) else parts[0]


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every file, ours and others'."""
    return tuple(found for file in sorted(PACKAGE.rglob("*.py")) for found in imports_of(file))


def imports_of(file: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(file, node.lineno, name) for name in _from(node, file))


def _from(node: ast.ImportFrom, file: Path) -> Iterator[str]:
    """`from cxguard import seal` imports the module `cxguard.seal`: each name is looked at."""
    base = node.module or ""
    if node.level:
        above = ("cxguard", *file.relative_to(PACKAGE).parts)[: -node.level]
        base = ".".join((*above, base)).rstrip(".")
    for alias in node.names:
        path = PACKAGE.parent.joinpath(*base.split("."), alias.name)
        is_module = path.is_dir() or path.with_suffix(".py").is_file()
        yield f"{base}.{alias.name}" if is_module else base


def ours() -> Iterator[Import]:
    return (found for found in imports() if found.name.split(".")[0] == "cxguard")


def test_the_imports_are_read() -> None:
    """The reader sees plain, from-, relative and inner imports; else the other tests would prove nothing."""
    names = {found.name for found in imports()}
    assert {"cxguard.core.money", "cxguard.errors", "dataclasses"} <= names


def test_a_relative_import_is_seen(tmp_path: Path) -> None:
    """`from . import x`, `from .. import x` and an import within a function come out with their full names."""
    code = "def f():\n    from ..core.money import fold\n    from .. import seal\n    import os.path\nfrom . import base\n"
    node = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    file = PACKAGE / "stores" / "memory.py"
    assert sorted(name for one in node for name in _from(one, file)) == ["cxguard.core.money", "cxguard.seal", "cxguard.stores.base"]


def test_every_part_has_a_layer() -> None:
    """A new folder or module of the package is given its place in LAYERS, or goes into one that has one."""
    parts = {part_of(".".join(("cxguard", *file.relative_to(PACKAGE).with_suffix("").parts))) for file in PACKAGE.rglob("*.py")}
    assert parts <= RANKS.keys()


def test_imports_point_down() -> None:
    """Nothing imports a layer above its own."""
    assert not [str(found) for found in ours() if RANKS[part_of(found.name)] < RANKS[found.part]]


def test_edges_do_not_know_each_other() -> None:
    """Middleware, dashboard and worker can each be taken away."""
    between = [found for found in ours() if found.part in EDGES and part_of(found.name) in EDGES]
    assert not [str(found) for found in between if part_of(found.name) != found.part]


def test_the_core_imports_the_core() -> None:
    """The core imports itself, the errors, and pure parts of the standard library."""
    of_core = [found for found in imports() if found.part == "core"]
    tops = {found: found.name.split(".")[0] for found in of_core}
    wrong = [
        found
        for found in of_core
        if (tops[found] == "cxguard" and part_of(found.name) not in ("core", "errors"))
        or tops[found] in NOT_PURE
        or tops[found] not in sys.stdlib_module_names | PURE_ELSEWHERE | {"cxguard"}
    ]
    assert not [str(found) for found in wrong]


def test_the_core_awaits_nothing() -> None:
    """No coroutine, and no wait, in the core."""
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    files = sorted((PACKAGE / "core").rglob("*.py"))
    found = [(file.name, node.lineno) for file in files for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, waits)]
    assert not found


def test_the_core_does_not_look_at_the_clock() -> None:
    """Times are passed in: no `now()`, `today()` or `utcnow()` in the core."""
    reads = {"now", "today", "utcnow"}
    found = [
        (file.name, node.lineno)
        for file in sorted((PACKAGE / "core").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in reads
    ]
    assert not found


def test_only_start_knows_the_testing_module() -> None:
    """What ships to a shop does not lean on fakes."""
    outside = [found for found in ours() if part_of(found.name) == BESIDE and found.part not in (BESIDE, *LAYERS["start"])]
    assert not [str(found) for found in outside]


BANNED = {
    "starlette.middleware.base": "pure ASGI only: it costs 230 us and breaks context variables",
    "pickle": "a store's bytes are not code",
    "requests": "it blocks",
}


def test_banned_modules_stay_out() -> None:
    """Modules that were measured and found wanting are not imported anywhere."""
    assert not [str(found) for found in imports() if any(found.name == name or found.name.startswith(f"{name}.") for name in BANNED)]


def test_only_logs_know_structlog() -> None:
    """Everybody else takes `cxguard.logs.get_logger`: left to itself, structlog prints local variables, to standard output."""
    assert not [str(found) for found in imports() if found.name.split(".")[0] == "structlog" and found.file.name != "logs.py"]


@pytest.mark.parametrize("attribute", ["wait_for", "BaseHTTPMiddleware"])
def test_banned_calls_stay_out(attribute: str) -> None:
    """`asyncio.wait_for` loses cancellations on Python 3.11, and BaseHTTPMiddleware breaks context variables."""
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr == attribute and ast.unparse(node.value) in ("asyncio", "base"))
        or (isinstance(node, ast.alias) and node.name == attribute)
        or (isinstance(node, ast.Name) and node.id == attribute)
    ]
    assert not found


def test_only_the_clock_reads_the_time() -> None:
    """`time.time` and `datetime.now` stand in clock.py alone: everybody else is given a clock, which a test can move."""
    reads = ("time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow")
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.name != "clock.py"
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in reads
    ]
    assert not found


ALONE = """
import importlib, sys
for name in {extras!r}:
    sys.modules[name] = None          # an import of it fails, as where it is not installed
assert importlib.import_module({module!r}).__file__, "an empty folder"
loaded = [name for name, module in sys.modules.items() if module is not None]
print(",".join(name for name in loaded if name.split(".")[0] == "cxguard"))
"""


def _loaded_with(module: str) -> set[str]:
    code = ALONE.format(extras=sorted(EXTRAS), module=module)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.strip().split(","))


@pytest.mark.parametrize("module", ["cxguard", "cxguard.asgi", "cxguard.dashboard", "cxguard.worker", "cxguard.render", "cxguard.cli"])
def test_each_works_alone(module: str) -> None:
    """In a fresh interpreter without a single extra installed, it imports, and brings no edge along but itself."""
    parts = {part_of(name) for name in _loaded_with(module)}
    assert not parts & ({*EDGES, "demo", BESIDE} - {part_of(module)})
