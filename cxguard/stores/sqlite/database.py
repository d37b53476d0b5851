"""Opening the file: its settings, its schema on first use, and errors that say what to do."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import apsw

from cxguard.errors import ConfigurationError, NotADatabase, StoreDamaged, StoreError, StoreUnavailable
from cxguard.stores.sqlite.statements import SCHEMA, STATEMENTS

SCHEMA_VERSION = 1
BUSY_SECONDS = 3.0  # how long another program may hold the file: less than a batch's patience
CACHE_KIBIBYTES = 32_768  # pages of one connection; the names of a million records fit
STATEMENTS_CACHED = 128  # more than there are
CHECK_BYTES_MAX = 256 * 1024 * 1024  # a quick check reads all of the file: beyond this only the small tables, `doctor` reads on
LOG_BYTES_KEPT = 64 * 1024 * 1024  # a log file that has grown larger is cut back to this


def connect(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> apsw.Connection:
    """A connection with every setting that the level `fsync` rests on.

    `synchronous=FULL`: the log is on the disk before a commit is told. `fullfsync`: macOS asks its disks for it by name.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # orders are nobody else's to read
    connection = apsw.Connection(
        str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX, statementcachesize=STATEMENTS_CACHED
    )
    connection.set_busy_timeout(int(busy_seconds * 1000))
    if connection.execute("PRAGMA journal_mode = WAL").fetchall() != [("wal",)]:
        raise ConfigurationError(f"the file system of {path} cannot hold a write-ahead log: put the store on a local disk")
    for setting in (
        "synchronous = FULL",
        "fullfsync = ON",
        "checkpoint_fullfsync = ON",
        f"cache_size = -{CACHE_KIBIBYTES}",
        "temp_store = MEMORY",
        "wal_autocheckpoint = 0",  # another thread does it
        f"journal_size_limit = {LOG_BYTES_KEPT}",
    ):
        connection.execute(f"PRAGMA {setting}").fetchall()
    return connection


def prepare(connection: apsw.Connection, path: Path) -> str:
    """Make the schema on first use, check what is there; the file's epoch.

    The epoch is a random name made with the file. A copy that is put back in its place has the same one: a restore
    cannot be told from a restart here, which is why orders are restored by hand (see `doctor`).
    """
    connection.execute(STATEMENTS["begin"])
    try:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()}
        if not tables:
            _make_schema(connection)
        elif not {"meta", "operations"} <= tables:
            raise ConfigurationError(f"{path} is another program's database: give cxguard a file of its own")
        _check_version(connection, path)
        connection.execute(STATEMENTS["commit"])
    except BaseException:
        connection.execute(STATEMENTS["rollback"])
        raise
    return _meta(connection, "epoch")


def quick_check(connection: apsw.Connection, path: Path) -> None:
    """Read the file through, a very large one in part.

    Raises:
        StoreDamaged: it is.
    """
    whole = path.stat().st_size <= CHECK_BYTES_MAX
    found = [row[0] for row in connection.execute(f"PRAGMA quick_check({'1' if whole else 'meta'})").fetchall()]
    if found != ["ok"]:
        raise StoreDamaged(f"{path} is damaged ({str(found[0])[:200]}): stop every process that uses it and restore it from a backup")


def told(error: apsw.Error, path: Path) -> StoreError | ConfigurationError:
    """What an error of SQLite means for us, with what to do about it."""
    match error:
        case apsw.NotADBError():
            return NotADatabase(f"{path} is not a SQLite database: name another file, or move this one away")
        case apsw.CorruptError():
            return StoreDamaged(f"{path} is damaged ({error}): stop every process that uses it and restore it from a backup")
        case apsw.FullError():
            return StoreUnavailable(f"the disk of {path} is full: nothing was kept; free some space, then try again")
        case apsw.BusyError() | apsw.LockedError():
            return StoreUnavailable(f"another program holds {path} (a shell, a backup?): nothing was kept; end it, then try again")
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            return StoreUnavailable(f"cannot write to {path} ({error}): give this user the right to read and write it and its folder")
        case _:
            return StoreUnavailable(f"{path} does not answer ({error}): look at its disk, and look before you act again")


def _make_schema(connection: apsw.Connection) -> None:
    connection.execute(SCHEMA).fetchall()
    connection.execute("INSERT INTO numbers (one, last) VALUES (1, 0)")
    connection.execute(STATEMENTS["set_meta"], ("schema_version", str(SCHEMA_VERSION)))
    connection.execute(STATEMENTS["set_meta"], ("epoch", uuid.uuid4().hex))


def _check_version(connection: apsw.Connection, path: Path) -> None:
    version = _meta(connection, "schema_version")
    if version != str(SCHEMA_VERSION):
        raise ConfigurationError(
            f"{path} has schema {version}, this cxguard knows {SCHEMA_VERSION}: install the newer cxguard, or name another file"
        )


def _meta(connection: apsw.Connection, name: str) -> str:
    rows = connection.execute(STATEMENTS["get_meta"], (name,)).fetchall()
    return str(rows[0][0]) if rows else ""
