"""One batch's view of the file: statements by name, the next numbers, and counters that are written once at its end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from cxguard.clock import Clock
from cxguard.stores.record import CLOCK_STEP_SECONDS, back_until, set_back_seconds
from cxguard.stores.sqlite.rows import Row
from cxguard.stores.sqlite.statements import STATEMENTS

Counter = tuple[str, str, str, str]  # namespace, kind, first, second


class Transaction:
    """Alive between BEGIN IMMEDIATE and COMMIT: nobody else writes meanwhile, so that reading first is safe."""

    __slots__ = ("_check_room", "_connection", "_counts", "_last_number", "_numbers_given", "_room_checked", "clock")

    def __init__(self, connection: apsw.Connection, *, clock: Clock, check_room: Callable[[], None]) -> None:
        self._connection = connection
        self._counts: defaultdict[Counter, int] = defaultdict(int)
        self._last_number = 0
        self._numbers_given = 0
        self._check_room = check_room
        self._room_checked = False
        self.clock = clock

    def follow_clock(self) -> None:
        """Before anything else: leases and due times go back with a clock that was set back since anybody wrote, in whichever process."""
        now, row = self.clock.now(), self.one("get_meta", ("clock",))
        read_at = float(row[0]) if row is not None else now
        seconds = set_back_seconds(read_at=read_at, now=now)
        if seconds:
            self.run("bring_times_back", (seconds, read_at, now, back_until(read_at=read_at, now=now)))
        if row is None or seconds or now > read_at + CLOCK_STEP_SECONDS:
            self.run("put_meta", ("clock", repr(now)))

    def one(self, name: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a statement, or None."""
        rows = self._connection.execute(STATEMENTS[name], values).fetchall()
        return rows[0] if rows else None

    def all(self, name: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._connection.execute(STATEMENTS[name], values).fetchall()

    def run(self, name: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(STATEMENTS[name], values)

    def insert(self, name: str, values: Sequence[Any]) -> int:
        """Run an INSERT; the new row's seq."""
        self._connection.execute(STATEMENTS[name], values)
        return self._connection.last_insert_rowid()

    def changed(self) -> int:
        """How many rows the last statement changed."""
        return self._connection.changes()

    def number(self) -> int:
        """The next lease token or revision: one sequence for both, never going back, kept in the same commit."""
        if not self._numbers_given:
            row = self.one("last_number")
            assert row is not None, "made with the schema"
            self._last_number = row[0]
        self._numbers_given += 1
        return self._last_number + self._numbers_given

    def check_room(self) -> None:
        """Refuse a new order while the disk is almost full; asked once a batch."""
        if not self._room_checked:
            self._check_room()
            self._room_checked = True

    def count(self, namespace: str, kind: str, *, first: str, second: str, by: int) -> None:
        """Add to a counter of the tally."""
        self._counts[namespace, kind, first, second] += by

    def finish(self) -> None:
        """Write what was gathered; the caller commits."""
        if self._numbers_given:
            self.run("set_last_number", (self._last_number + self._numbers_given,))
        for counter, by in self._counts.items():
            if by:
                self.run("add_tally", (*counter, by))
