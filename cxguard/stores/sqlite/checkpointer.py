"""Carries the log over into the file, in a thread and on a connection of its own: no writer waits for that fsync.

While others write, a pass never catches up with the log's end, and a log that is never carried over whole grows for
ever. So the thread makes passes until only a short tail is left, and the writer carries that over between two batches,
when nobody else writes: the next commit then begins the log anew.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import apsw

from cxguard.stores.sqlite.database import connect

LOG_PAGES = 500  # 2 MB of log: its fsync is short enough that a commit on the same disk does not wait long behind it
TAIL_PAGES = 100  # about 1 ms of the writer's time
PASSES_MAX = 8  # each is shorter than the one before; the tail of the last is carried over whatever its length


class Checkpointer:
    """Sleeps until the log has grown. Nothing here is needed for an answer: any error is left for the writer to meet.

    Attributes:
        tail_ready: the writer should call `carry_tail` after its next commit, before it gives up its turn.
    """

    def __init__(self, path: Path) -> None:
        self.tail_ready = False
        self._path = path
        self._pages = 0
        self._wanted = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def log_has(self, pages: int) -> None:
        """Called by the writer after each commit."""
        self._pages = pages
        if pages < LOG_PAGES or self.tail_ready:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name="cxguard-checkpoint", daemon=True)
            self._thread.start()
        self._wanted.set()

    def carry_tail(self, connection: apsw.Connection) -> None:
        """Called by the writer, on its own connection."""
        self.tail_ready = False
        with suppress(apsw.Error):  # another process is at it
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def close(self) -> None:
        self._ended = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _live(self) -> None:
        connection: apsw.Connection | None = None
        try:
            while self._wanted.wait():
                self._wanted.clear()
                if self._ended:  # read after the clearing, which may have wiped out the wish to end
                    return
                with suppress(apsw.Error):  # busy: another process is at it; anything worse the writer will meet itself
                    connection = connection or connect(self._path)
                    self._carry(connection)
        finally:
            if connection is not None:
                connection.close()

    def _carry(self, connection: apsw.Connection) -> None:
        for _ in range(PASSES_MAX):
            _, carried = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if self._ended or self._pages - carried <= TAIL_PAGES:
                break
        self.tail_ready = True
