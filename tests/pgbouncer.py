"""A real PgBouncer in front of a PostgreSQL server of the tests, in transaction mode: each transaction may get another connection."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from ports import free_port
from postgres_server import PostgresServer

READY_SECONDS = 10
SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


def pgbouncer_binary() -> str | None:
    """Where it is; None when nobody installed it."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pooled(server: PostgresServer, *, user: str = "shop") -> Iterator[str]:
    """The address of a pooler in front of *server*: three connections for everybody, each transaction on whichever was free last."""
    binary = pgbouncer_binary()
    assert binary is not None, "no PgBouncer here: apt-get install pgbouncer"
    folder, port = Path(tempfile.mkdtemp(prefix="cxguard-pgbouncer-")), free_port()
    settings = folder / "pgbouncer.ini"
    text = SETTINGS.format(server=server.port, port=port).replace("host=127.0.0.1", f"host=127.0.0.1 user={user}")
    settings.write_text(text, "utf-8")
    owner = _owner()
    if owner is not None:
        os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, str(settings)], user=owner, stdout=log, stderr=log, cwd=folder)
    url = f"postgresql://{user}@127.0.0.1:{port}/postgres"
    try:
        _wait_until_ready(url)
        yield url
    finally:
        process.kill()  # politely, it would wait for its clients
        process.wait(READY_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(url: str) -> None:
    for _ in range(READY_SECONDS * 10):
        try:
            psycopg.connect(url, connect_timeout=2, prepare_threshold=None).close()
            return
        except psycopg.OperationalError:
            threading.Event().wait(0.1)
    raise AssertionError("PgBouncer did not become ready")


def _owner() -> str | None:
    """It refuses to run as root; None: we are somebody else already."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
