"""Store servers that can be hurt: killed, frozen, filled up, and started again where they were."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
from postgres_server import PostgresServer, running_postgres
from redis_servers import RedisServer, running_cluster, running_redis

READY_SECONDS = 30
SMALL_LOG = "-c min_wal_size=2MB -c max_wal_size=8MB"


class Machine(Protocol):
    """One server process at one port."""

    port: int
    url: str

    def kill(self) -> None:
        """As a power cut does."""
        ...

    def start(self) -> None:
        """Again, at the same address, with what is on its disk; returns when it answers."""
        ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class PostgresMachine:
    """A PostgreSQL server with all its processes."""

    def __init__(self, server: PostgresServer) -> None:
        self.port, self.url = server.port, server.url
        self._server = server
        self._again: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):  # the first process ends the others as soon as one has died
                os.kill(pid, signal.SIGKILL)
        if self._again is not None:
            self._again.wait(READY_SECONDS)
            return
        with suppress(ChildProcessError):  # buried, or the next one takes it for alive
            os.waitpid(self._server.pid, 0)

    def start(self) -> None:
        """A server that gives up (a process of before, just killed, may still hold its memory or its port) is started once more."""
        asked = [str(self._server.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        for _ in range(READY_SECONDS * 10):
            if self._again is None or self._again.poll() is not None:
                self._again = self._started()
            if subprocess.run(asked, check=False).returncode == 0:
                return
            threading.Event().wait(0.1)
        raise AssertionError(f"PostgreSQL did not come back; its log ends with: {self._log.read_text(encoding='utf-8')[-2000:]}")

    def _started(self) -> subprocess.Popen[bytes]:
        data = self._server.data
        user = pwd.getpwuid(data.stat().st_uid).pw_name if os.getuid() == 0 else None
        command = [str(self._server.binaries / "postgres"), "-D", str(data), "-p", str(self.port), "-k", str(data.parent)]
        with self._log.open("ab") as log:
            return subprocess.Popen([*command, "-h", "127.0.0.1"], user=user, stdout=log, stderr=log, cwd=data.parent)

    @property
    def _log(self) -> Path:
        return self._server.data.parent / "log"

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """Leave not a byte on its disk, which has to be one of its own."""
        with self._ballast.open("ab", buffering=0) as ballast, suppress(OSError):
            while ballast.write(bytes(65_536)):
                pass

    def free_disk(self) -> None:
        """Give the room back, and start the server again if it has given up."""
        self._ballast.unlink()
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            self.kill()
            self.start()

    @property
    def _ballast(self) -> Path:
        return self._server.data.parent / "ballast"

    def run(self, text: str) -> None:
        """One statement, as an administrator gives it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(text.encode())

    def stop(self) -> None:
        """End the process that was started again; the first one belongs to `running_postgres`."""
        if self._again is not None:
            self.thaw()
            self._again.terminate()
            self._again.wait(READY_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        first = self._server.pid if self._again is None else self._again.pid
        with suppress(FileNotFoundError):
            children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()
            return [first, *map(int, children)]
        return []


class RedisMachine:
    """A Redis server that appends each write to its file."""

    def __init__(self, server: RedisServer) -> None:
        self.port, self.url = server.port, f"{server.url}?answer_seconds=1"  # two cores, for all of this
        self.server = server

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()

    def freeze(self) -> None:
        self.server.process.pause()

    def thaw(self) -> None:
        self.server.process.resume()

    def run(self, *words: str) -> Any:
        return self.server.run(*words)


@contextmanager
def postgres_machine(*, disk_mb: int | None = None) -> Iterator[PostgresMachine]:
    with running_postgres(disk_mb=disk_mb, options=SMALL_LOG if disk_mb is not None else "") as server:
        machine = PostgresMachine(server)
        try:
            yield machine
        finally:
            machine.stop()


@contextmanager
def redis_machine() -> Iterator[RedisMachine]:
    with running_redis() as server:
        yield RedisMachine(server)


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'guard.db'}"


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    with running_postgres() as server:
        yield server.url


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    with running_redis() as server:
        yield f"{server.url}?answer_seconds=2"


@contextmanager
def _redis_cluster(folder: Path) -> Iterator[str]:
    with running_cluster(appendfsync="everysec") as cluster:
        yield f"{cluster.url}?replicas=1&answer_seconds=2"


STORES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "redis": _redis,
    "redis-cluster": _redis_cluster,
}
"""Give a folder, get the store's address while the block runs."""
