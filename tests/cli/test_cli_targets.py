"""The first argument of a command: what no store and no program could be called by is a mistake in the command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cxguard.cli import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("orders", "list", "shop.db"), "neither a store's address nor a program"),
        (("orders", "list", "sqlite://shop.db"), "too few slashes"),
        (("orders", "list", "memory://"), "ends with its process"),
        (("worker", "workshop"), "names no app"),
        (("worker", "postgres://me:secret@127.0.0.1:9/db"), "names a store, and no app: write module:app"),  # pragma: allowlist secret
        (("orders", "list", "redis://host:port"), "is no host and port"),
        (("doctor", "nosuch://host"), "there is no store for"),
        (("migrate-store", "memory://", "sqlite:///shop.db"), "ends with its process"),
    ],
)
def test_a_target_that_can_be_none_is_a_command_written_wrongly(arguments: tuple[str, ...], says: str) -> None:
    """Exit code 2, as the README says: a script's alarm for what was found must not go off. The last line says what to write."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert says in result.stderr.splitlines()[-1]
    assert "secret" not in result.stderr
