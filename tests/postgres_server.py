"""A real PostgreSQL server for tests, on a free port: the machine's own binaries, or those inside `pgserver`."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ports import free_port

READY_SECONDS = 30


@dataclass(frozen=True)
class PostgresServer:
    """A running server. *data* is its folder, *pid* its first process."""

    url: str
    port: int
    data: Path
    binaries: Path
    pid: int


def postgres_binaries() -> Path | None:
    """Where `initdb` and `postgres` are; None when nobody brought them."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    spec = find_spec("pgserver")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
        return folder if (folder / "initdb").exists() else None
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def running_postgres(*, options: str = "", disk_mb: int | None = None) -> Iterator[PostgresServer]:
    """Start a server, and end it (and only it) afterwards. With *disk_mb*, on a disk of its own in memory: needs root."""
    binaries = postgres_binaries()
    assert binaries is not None, "no PostgreSQL here: install it, or `pip install pgserver`"
    user = _user()
    with _folder(user, disk_mb=disk_mb) as folder:
        data, port = folder / "data", free_port()
        if disk_mb is not None:
            _initdb(binaries, data, "--wal-segsize=1", user=user)
        else:
            subprocess.run(["cp", "-a", str(_made_once(binaries, user)), str(data)], check=True, user=user, cwd=folder)
        with _serving(binaries, data, port=port, user=user, options=options) as server:
            yield server


@cache
def _made_once(binaries: Path, user: str | None) -> Path:
    """A folder of data as `initdb` leaves it, which takes a second of a core: each server gets a copy."""
    folder = Path(tempfile.mkdtemp(prefix="cxguard-initdb-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    _initdb(binaries, folder / "data", user=user)
    return folder / "data"


def _initdb(binaries: Path, data: Path, *options: str, user: str | None) -> None:
    command = [str(binaries / "initdb"), "-D", str(data), "-U", "shop", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C", *options]
    subprocess.run(command, check=True, user=user, stdout=subprocess.DEVNULL, cwd=data.parent)


@contextmanager
def _folder(user: str | None, *, disk_mb: int | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cxguard-postgres-"))
    if disk_mb is not None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", str(folder)], check=True)
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    try:
        yield folder
    finally:
        if disk_mb is not None:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A server that follows *primary*, and ends afterwards."""
    user, folder = _user(), Path(tempfile.mkdtemp(prefix="cxguard-standby-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data, port = folder / "data", free_port()
    copy = [str(primary.binaries / "pg_basebackup"), "-D", str(data), "-d", primary.url, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
    subprocess.run(copy, check=True, user=user, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        with _serving(primary.binaries, data, port=port, user=user, options="") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _serving(binaries: Path, data: Path, *, port: int, user: str | None, options: str) -> Iterator[PostgresServer]:
    folder = data.parent
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", *options.split()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, user=user, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_until_ready(binaries, port)
        yield PostgresServer(f"postgresql://shop@127.0.0.1:{port}/postgres", port, data, binaries, process.pid)
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: its folder goes, so there is nothing to bring to the disk
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _user() -> str | None:
    """PostgreSQL refuses to run as root; None: we are somebody else already."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _wait_until_ready(binaries: Path, port: int) -> None:
    """`pg_isready` asks once a call; the server needs a second or two."""
    for _ in range(READY_SECONDS * 10):
        asked = subprocess.run([str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"], check=False)
        if asked.returncode == 0:
            return
        threading.Event().wait(0.1)
    raise AssertionError("PostgreSQL did not become ready")
