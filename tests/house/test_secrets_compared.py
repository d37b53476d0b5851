"""Secrets are compared in constant time: every comparison of one is read from the code, and of the others each is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import ROOT

TIMED = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)  # these end at the first letter that differs
SECRET = re.compile(r"token|mac$|sign|digest|csrf|passw|secret|cookie|mark$|credential|authoriz|proven|check_value|scrypt|hash$")

# What looks like a secret by its name and is none, or is compared by something that nobody can have guessed.
HARMLESS = {
    "asgi/watch.py: secrets.randbelow(FORGET_ONE_IN) == 0": "dice",
    "dashboard/auth.py: mark in self._proven": "a keyed hash of the password, under a key of this process alone",
    "dashboard/forms.py: engine.seal.read_token(token, now=engine.clock.now(), purpose=_PURPOSE) == actor": "who is at the desk",
    "demo/gateway/ledger.py: source == token": "a test card's name in the demo's gateway",
    "engine/leases.py: lease.token in self._held": "a lease's number",
    "engine/losing.py: each.generation in doubtful.unproven": "lives, by their number",
    "engine/once.py: key not in signature.parameters": "a function's signature",
    "engine/relocating.py: known == mark": "the store's own mark, in the store",
    "engine/waiting.py: other.token != mine.token": "a lease's number",
    "engine/waiting.py: held.token == seen.lease.token": "a lease's number",
    "engine/waiting.py: watch.token == token": "a lease's number",
    "rules/checks.py: part.kind in _UNPROVEN": "kinds of sources",
    "seal.py: _to_text(raw) == token": "the token's own letters, written anew",
    "stores/postgres/store.py: before.lease.token == token": "a lease's number",
    "stores/sqlite/verbs.py: head.lease_token != token": "a lease's number",
    "stores/verbs.py: row.operation.lease.token != token": "a lease's number",
}

# Where a secret that somebody sends is compared with ours.
CONSTANT_TIME = {
    "cxguard/seal.py": "the signature of a status link, a resume link, or a form of the desk",
    "cxguard/rules/owners.py": "the signature of a session cookie",
    "cxguard/asgi/status.py": "the owner of an order",
    "cxguard/dashboard/auth.py": "a password of the desk",
    "cxguard/metrics.py": "the token of the metrics",
    "cxguard/config.py": "the check value of the naming secret",
    "cxguard/core/fingerprint.py": "the hash of a request",
    "cxguard/demo/shop/visitors.py": "the demo's visitor",
    "examples/webhook_once/app.py": "a webhook's signature",
}


def files() -> list[Path]:
    """What ships, and the examples; not what only tests use."""
    shipped = [path for path in (ROOT / "cxguard").rglob("*.py") if not path.is_relative_to(ROOT / "cxguard" / "testing")]
    return [*sorted(shipped), *sorted((ROOT / "examples").rglob("*.py"))]


def compared(tree: ast.AST) -> Iterator[ast.Compare]:
    """Comparisons that take longer the more is right, of something that is named like a secret."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare) or not any(isinstance(each, TIMED) for each in node.ops):
            continue
        if any(SECRET.search(name.lower()) for name in _names(node)):
            yield node


def _names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr


def _place(path: Path) -> str:
    return str(path.relative_to(ROOT)).removeprefix("cxguard/")


def test_no_secret_is_compared_letter_by_letter() -> None:
    """Each comparison by `==` or `in` of what is named like a secret is one of the harmless ones."""
    found = {f"{_place(path)}: {ast.unparse(node)}" for path in files() for node in compared(ast.parse(path.read_text("utf-8")))}
    assert found - HARMLESS.keys() == set()
    assert HARMLESS.keys() - found == set(), "no longer there"


@pytest.mark.parametrize(
    "line",
    ["given == self.token", "headers['x'] != signature", "mac in known", "a.password == b", "x if csrf != y else z", "check_value == s"],
)
def test_such_a_comparison_is_seen(line: str) -> None:
    """The reader sees what it is there for."""
    assert [ast.unparse(node) for node in compared(ast.parse(line))]


@pytest.mark.parametrize("file", CONSTANT_TIME)
def test_what_is_sent_to_us_is_compared_in_constant_time(file: str) -> None:
    """The place where the secret is judged calls `compare_digest`."""
    calls = [node for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert any(isinstance(call.func, ast.Attribute) and call.func.attr == "compare_digest" for call in calls)


def test_every_place_that_compares_in_constant_time_is_listed() -> None:
    """And nowhere else."""
    assert {str(path.relative_to(ROOT)) for path in files() if "compare_digest(" in path.read_text("utf-8")} == CONSTANT_TIME.keys()
