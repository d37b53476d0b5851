"""What can still be read of a file that is damaged: whole records only, as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from cxguard.core.operation import RECORD_VERSION, Operation
from cxguard.stores.base import Versioned
from cxguard.stores.sqlite.rows import Row, operation_of
from cxguard.stores.sqlite.statements import STATEMENTS

_WAYS = ("seqs_up", "seqs_down", "seqs_due")  # where one meets a damaged page, another comes from behind it


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was read.

    Attributes:
        operations: with all their facts, the oldest first; none that nobody may act on.
        value: the small value that was asked for; None: it could not be read.
    """

    operations: tuple[Operation, ...] = ()
    value: Versioned | None = None


def salvage(path: Path, *, key: str) -> Salvaged:
    """Read what is whole. The file stays as it is.

    Args:
        key: of a small value that says whose records they are.
    """
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error:
        return Salvaged()
    try:
        seqs = sorted({seq for way in _WAYS for seq in _walked(connection, way)})
        found = [_record(connection, seq) for seq in seqs]
        return Salvaged(tuple(one for one in found if one is not None), _value(connection, key))
    finally:
        connection.close()


def _walked(connection: apsw.Connection, way: str) -> Iterator[int]:
    """As far as it goes."""
    with suppress(apsw.Error):
        for (seq,) in connection.execute(STATEMENTS[way]):
            if isinstance(seq, int):
                yield seq


def _record(connection: apsw.Connection, seq: int) -> Operation | None:
    try:
        rows = connection.execute(STATEMENTS["find_by_seq"], (seq,)).fetchall()
        notes = connection.execute(STATEMENTS["note_count"], (seq,)).fetchall()
        operation = operation_of(rows[0]) if rows else None
    except Exception:  # noqa: BLE001 - whatever stands in a damaged row, it is no record
        return None
    whole = operation is not None and operation.version <= RECORD_VERSION and notes == [(len(operation.notes),)]
    return operation if whole else None


def _value(connection: apsw.Connection, key: str) -> Versioned | None:
    try:
        rows: list[Row] = connection.execute(STATEMENTS["load"], (key,)).fetchall()
    except apsw.Error:
        return None
    return Versioned(*rows[0]) if rows else None
