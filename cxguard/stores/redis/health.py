"""What the servers of a store are like: whether they may be trusted, what a write has survived, and which life of the data it is."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from cxguard.errors import ConfigurationError, StoreError, StoreUnavailable, StoreUnfit
from cxguard.stores.base import Level
from cxguard.stores.redis.settings import Address, Kind, RedisSettings
from cxguard.stores.redis.wire import Wire, code_of, refused

OTHERS_LATELY_SECONDS = 2.0  # a server that was heard of within it is there: longer than a call takes


class NotPrimary(StoreUnavailable):
    """Nothing was sent: this server is a replica, and another one may have its part of the data."""


Failed = TypeVar("Failed", bound=StoreError | ConfigurationError)


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What one server says about itself.

    Attributes:
        history: its replication id: another one after a failover, or after a restart.
        always: each write is on its disk before it is answered.
    """

    primary: bool
    history: str
    policy: str
    appends: bool
    always: bool


async def examine(wire: Wire) -> ServerReport:
    """Ask a server about itself.

    Raises:
        StoreUnavailable: it does not answer, or not to this user.
    """
    info, append = await wire.ask([("INFO",), ("CONFIG", "GET", "appendfsync")])
    if code_of(info):
        raise refused(info)
    told = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    if told.get("loading") == "1":
        raise StoreUnavailable("Redis is still reading its data: ask again in a moment")
    appends = told.get("aof_enabled") == "1"
    return ServerReport(
        primary=told.get("role") == "master",
        history=told.get("master_replid", ""),
        policy=told.get("maxmemory_policy", ""),
        appends=appends,
        always=appends and isinstance(append, list) and append[1:] == [b"always"],
    )


def require_fit(report: ServerReport, settings: RedisSettings) -> None:
    """Refuse a server that may lose what it acknowledged.

    Raises:
        StoreUnfit: the text has the line to write.
        NotPrimary: it is a replica.
    """
    if not report.primary:
        raise NotPrimary("this Redis is a replica, which takes no writes: give the primary's address, or Sentinel's")
    if settings.may_lose_orders:
        return
    if report.policy != "noeviction":
        raise StoreUnfit(
            f"this Redis throws keys away when its memory is full (maxmemory-policy {report.policy}), orders too: run "
            "`redis-cli CONFIG SET maxmemory-policy noeviction` and write it into redis.conf"
        )
    if not report.appends:
        raise StoreUnfit(
            "this Redis keeps no append-only file: a restart would lose orders: run `redis-cli CONFIG SET appendonly yes` "
            "and write it into redis.conf, with `appendfsync always` on a single server"
        )


class Health:
    """What is known of all servers of one store. Told by every connection, whichever event loop it belongs to."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._reports: Mapping[int, ServerReport] = {}
        self._lives: Mapping[int, str] = {}
        self._answered: dict[Address, float] = {}  # monotonic
        self.partitions = 0  # 0: not known yet
        self.servers: tuple[Address, ...] = ()  # all of a cluster, when it last named them
        self.epoch = ""
        self.level = Level.BEST_EFFORT

    def saw(self, report: ServerReport, lives: Mapping[int, str]) -> None:
        """Remember what a server said, and which life each of its partitions has."""
        with self._lock:
            self._remember(report, lives)

    def heard(self, address: Address) -> None:
        """Remember that a server has just done what was asked."""
        self._answered[address] = time.monotonic()

    def others_answer(self, address: Address | None) -> bool:
        """Whether another server than this one has done so lately."""
        now = time.monotonic()
        return any(other != address and now - at < OTHERS_LATELY_SECONDS for other, at in tuple(self._answered.items()))

    def met(self, servers: Iterable[Address]) -> None:
        """Remember the servers of a cluster: those in the settings may all be gone one day."""
        self.servers = tuple(servers)

    def _remember(self, report: ServerReport, lives: Mapping[int, str]) -> None:
        self._reports = {**self._reports, **dict.fromkeys(lives, report)}
        self._lives = {**self._lives, **lives}
        self.level = self._level()
        if len(self._lives) == self.partitions:
            self.epoch = _digest(sorted({each.history for each in self._reports.values()}), [self._lives[n] for n in sorted(self._lives)])

    def _level(self) -> Level:
        reports = self._reports.values()
        if self._settings.may_lose_orders and not all(_is_fit(report) for report in reports):
            return Level.BEST_EFFORT
        if self._settings.replicas:
            return Level.REPLICATED
        # behind Sentinel, and in a cluster, a replica may take over that has not heard of the last writes
        single = self._settings.kind is Kind.SERVER
        return Level.FSYNC if single and all(report.always for report in reports) else Level.BEST_EFFORT


def _is_fit(report: ServerReport) -> bool:
    return report.policy == "noeviction" and report.appends


def _digest(*lists: Iterable[str]) -> str:
    text = "\n\n".join("\n".join(names) for names in lists)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def again(error: Failed) -> Failed:
    """The same error for one more caller: each adds a traceback to its own."""
    return type(error)(*error.args)
