"""A file that only its owner can read, made once, however many processes start at the same moment."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from cxguard.errors import ConfigurationError

SECRET_FILE_BYTES_MAX = 65_536  # a few keys; anything longer is not ours
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_or_make(path: Path, *, used_before: bool, make: Callable[[], str]) -> list[str]:
    """The file's lines; an absent one is written with what *make* returns, unless *used_before*.

    One process writes, under a lock on the file itself, and the bytes are on the disk before the lock goes: whoever
    comes later reads what the first one wrote. An empty file is one whose maker died before writing: it is absent.

    Raises:
        ConfigurationError: others can read it; it cannot be read or made here; it is gone but the database is not.
    """
    if used_before and not (path.exists() and path.stat().st_size):
        raise ConfigurationError(
            f"{path} is gone, but the database beside it has records that were named and sealed with it: nothing is charged. "
            "Restore that file from the backup, or move the database away to start afresh"
        )
    try:
        file = _opened(path)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        return _locked_lines(file, path, make)
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        os.close(file)  # ends the lock, too


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # a mounted secret may be read-only
        except FileNotFoundError:
            raise error from None


def _locked_lines(file: int, path: Path, make: Callable[[], str]) -> list[str]:
    fcntl.flock(file, fcntl.LOCK_EX)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_mode & _OTHERS:
        raise ConfigurationError(f"{path} can be read by others, and it holds secrets: run `chmod 600 {path}`")
    if found.st_size == 0:
        _write(file, path, make().encode())
    return os.pread(file, SECRET_FILE_BYTES_MAX, 0).decode(errors="replace").splitlines()


def _write(file: int, path: Path, content: bytes) -> None:
    try:
        os.write(file, content)
        os.fsync(file)
    except OSError:
        os.ftruncate(file, 0)  # a full disk must not leave half a secret: empty counts as absent
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be read or made ({error.strerror}): run as the user who owns the folder, "
        "or set CXGUARD_SECRET and CXGUARD_KEYS in the environment"
    )
