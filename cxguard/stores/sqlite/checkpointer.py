"""Carries the log over into the file, in a thread and on a connection of its own: no writer waits for that fsync."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import apsw

from cxguard.stores.sqlite.database import connect

LOG_PAGES = 2000  # 8 MB of log: often enough to stay short, seldom enough that a page is carried over once for many changes


class Checkpointer:
    """Sleeps until the log has grown. Its work is never needed for an answer: any error is left to the writer to meet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wanted = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def log_has(self, pages: int) -> None:
        """Called by the writer after each commit."""
        if pages < LOG_PAGES:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name="cxguard-checkpoint", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        self._ended = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _live(self) -> None:
        connection: apsw.Connection | None = None
        try:
            while self._wanted.wait() and not self._ended:
                self._wanted.clear()
                with suppress(apsw.Error):  # busy: somebody else is at it; anything worse the writer will meet itself
                    connection = connection or connect(self._path)
                    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        finally:
            if connection is not None:
                connection.close()
