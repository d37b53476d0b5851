"""A file that is damaged, put aside under another name with what belongs to it, so that a new one can take its place."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

MARK = ".damaged-"

Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Which file lies there: its place on its disk, whatever its name. None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def lock_of(path: Path) -> Path:
    """The file beside it that says whose turn to write it is. It is made with it, so it says that a store lies here, too."""
    return path.with_name(f"{path.name}.lock")


def set_aside(path: Path, seen: Identity | None) -> Path | None:
    """Give the file another name; its new path. None: it is not the one that was *seen* any more, another process was first.

    Its log goes before it: a new file beside the old one's log would take over what stands in that.

    Raises:
        OSError: it stays where it is.
    """
    lock = os.open(lock_of(path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if seen is None or identity(path) != seen:
            return None
        aside = path.with_name(f"{path.name}{MARK}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{seen[1]}")
        for end in ("-wal", "-shm", ""):
            one = path.with_name(path.name + end)
            if one.exists():
                one.rename(aside.with_name(aside.name + end))
        return aside
    finally:
        os.close(lock)


def those_aside(path: Path) -> list[Path]:
    """The files that were put aside from *path*, the oldest first."""
    return sorted(one for one in path.parent.glob(f"{path.name}{MARK}*") if not one.name.endswith(("-wal", "-shm")))
