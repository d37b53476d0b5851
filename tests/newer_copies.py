"""Copies of the package as a later version might be: beside the present one, on the same store, as real processes.

The copy is text that was changed a little before it is run: what a release changes, and nothing of the running code knows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cxguard

HERE = Path(cxguard.__file__).parent
NEW_MEMBER = "colour"  # of every record that a copy writes; the present version has never heard of it
_BODY = "    body = {name: value for name, value in operation.extra.items() if name not in _KNOWN}\n"
_WITH_MEMBER = _BODY + f'    body["{NEW_MEMBER}"] = "green"\n'


def newer_copy(folder: Path, *, record_version: int, migration: str = "") -> Path:
    """The package in *folder*, later; the folder is what goes first on PYTHONPATH.

    Args:
        record_version: what its records say. The present one: it has only added a member.
        migration: SQL of a migration that the present version does not know; its head says who may go on beside it.
    """
    copy = folder / "cxguard"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    _change(copy / "core" / "operation.py", "RECORD_VERSION = 1 ", f"RECORD_VERSION = {record_version} ")
    _change(copy / "stores" / "codec.py", _BODY, _WITH_MEMBER)
    if migration:
        (copy / "stores" / "postgres" / "migrations" / "0099_later.sql").write_text(migration, encoding="ascii")
    return folder


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert text.count(old) == 1, f"{file.name} has changed: say anew how a later version differs"
    file.write_text(text.replace(old, new), "utf-8")
