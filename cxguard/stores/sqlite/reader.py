"""What the reading thread does: one short read after the other. See `WorkerThread`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

from cxguard.stores.sqlite.database import connect, told

Read = Callable[[apsw.Connection], Any]


class Reader:
    """Each read is its own: one that fails fails alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None

    def open(self) -> None:
        try:
            self._connection = connect(self._path)
            self._connection.execute("PRAGMA query_only = ON")
        except apsw.Error as error:
            raise told(error, self._path) from error

    def run(self, items: Sequence[Read]) -> Sequence[Any]:
        return [self._answer(item) for item in items]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _answer(self, item: Read) -> Any:
        assert self._connection is not None, "opened first"
        try:
            return item(self._connection)
        except apsw.Error as error:
            return told(error, self._path)
        except ValueError as error:
            return error
