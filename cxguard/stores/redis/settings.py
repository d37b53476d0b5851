"""A Redis address, read once and checked.

redis://shop:PASSWORD@host:6379/0
rediss://host/0?ssl_ca_certs=/etc/ssl/redis.pem
redis+sentinel://h1,h2,h3/service
redis+cluster://h1,h2,h3?replicas=1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from cxguard.errors import ConfigurationError
from cxguard.stores.redis.partitions import PARTITIONS, PARTITIONS_MAX

PORT = 6379
SENTINEL_PORT = 26379
CHECK_SECONDS = 10.0  # somebody may change a server's settings while it runs
ANSWER_SECONDS = 0.25  # a server that is well answers in one millisecond; a shopper waits behind this
REPLICAS_MAX = 16
PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class Kind(StrEnum):
    """What an address leads to."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Address(NamedTuple):
    """One server's own address."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """What a Redis store is told.

    Attributes:
        service: what Sentinel calls the primary.
        login, sentinel_login: user and password, for redis-py's connections; TLS settings are in `tls`.
        database: always 0 in a cluster.
        prefix: what each key begins with: another prefix is another store.
        partitions: how many, from the first use on; None: 16 in a cluster, else 1.
        replicas: how many replicas must have each write before it counts.
        may_lose_orders: use a server that evicts keys or keeps no append-only file, against our advice.
        answer_seconds: how long one call may take.
        check_seconds: how often each server is asked whether it is still fit.
    """

    kind: Kind
    addresses: tuple[Address, ...]
    service: str = ""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    database: int = 0
    prefix: str = "cxguard"
    partitions: int | None = None
    replicas: int = 0
    may_lose_orders: bool = False
    answer_seconds: float = ANSWER_SECONDS
    check_seconds: float = CHECK_SECONDS

    @property
    def partitions_wanted(self) -> int:
        """How many partitions there are, or must be: known also while no server answers."""
        if self.partitions is not None:
            return self.partitions
        return PARTITIONS if self.kind is Kind.CLUSTER else 1


_SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": (Kind.SERVER, False),
    "rediss": (Kind.SERVER, True),
    "redis+sentinel": (Kind.SENTINEL, False),
    "rediss+sentinel": (Kind.SENTINEL, True),
    "redis+cluster": (Kind.CLUSTER, False),
    "rediss+cluster": (Kind.CLUSTER, True),
}
_TLS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})


def read_settings(url: str) -> RedisSettings:
    """Read an address.

    Raises:
        ConfigurationError: it cannot be one. The text names no password.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError('that is no address of a Redis: write "redis://host:6379/0"')
    kind, tls = _SCHEMES[parts.scheme]
    user, _, hosts = parts.netloc.rpartition("@")
    options = _options(parts.query, tls=tls)
    place = unquote(parts.path.strip("/"))
    return RedisSettings(
        kind=kind,
        addresses=_addresses(hosts, kind=kind),
        service=_service(place) if kind is Kind.SENTINEL else "",
        login=_login(user),
        database=_database(place, kind=kind),
        **options,
    )


def _addresses(hosts: str, *, kind: Kind) -> tuple[Address, ...]:
    port = SENTINEL_PORT if kind is Kind.SENTINEL else PORT
    found = tuple(_address(each.strip(), port=port) for each in hosts.split(",") if each.strip())
    if not found or (kind is Kind.SERVER and len(found) > 1):
        example = "redis://host:6379/0" if kind is Kind.SERVER else f"redis+{kind}://h1,h2,h3"
        raise ConfigurationError(f'this address names {len(found)} servers: write "{example}"')
    return found


def _address(text: str, *, port: int) -> Address:
    split = SplitResult("redis", text, "", "", "")
    try:
        return Address(split.hostname or "localhost", split.port or port)
    except ValueError:
        raise ConfigurationError(f'{text!r} is no host and port: write "host:{port}"') from None


def _login(user: str) -> Mapping[str, str]:
    name, _, password = user.partition(":")
    given = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in given.items() if value}


def _service(place: str) -> str:
    if not place or "/" in place:
        raise ConfigurationError('Sentinel is asked for a service by its name: write "redis+sentinel://h1,h2,h3/mymaster"')
    return place


def _database(place: str, *, kind: Kind) -> int:
    if kind is Kind.SENTINEL or not place:
        return 0
    if not place.isascii() or not place.isdigit() or (kind is Kind.CLUSTER and place != "0"):
        raise ConfigurationError(f'{place[:40]!r} is no database: write "redis://host:6379/0"; a cluster has only 0')
    return int(place)


def _options(query: str, *, tls: bool) -> dict[str, Any]:
    options: dict[str, Any] = {}
    safe: dict[str, Any] = {}
    sentinel: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _TLS and tls:
            safe[name] = value not in ("0", "false", "no") if name == "ssl_check_hostname" else value
        elif name in ("sentinel_username", "sentinel_password"):
            sentinel[name.removeprefix("sentinel_")] = value
        elif name in _OPTIONS:
            options[name] = _OPTIONS[name](value)
        else:
            known = ", ".join(sorted({*_OPTIONS, *(_TLS if tls else ())}))
            raise ConfigurationError(f"a Redis address has no option {name[:40]!r}: there are {known}")
    return {**options, "sentinel_login": sentinel, "tls": safe if tls else None}


def _whole(name: str, lowest: int, highest: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and lowest <= int(value) <= highest):
            raise ConfigurationError(f"{name}={value[:20]!r} in the Redis address: write {name}= and a number from {lowest} to {highest}")
        return int(value)

    return read


def _prefix(value: str) -> str:
    if not PREFIX.fullmatch(value):
        raise ConfigurationError(f"prefix={value[:60]!r} in the Redis address: use 1 to 40 letters, digits, dots, dashes or underscores")
    return value


def _yes(value: str) -> bool:
    if value != "yes":
        raise ConfigurationError("may_lose_orders has one value: write may_lose_orders=yes, or leave it out")
    return True


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.02 <= seconds <= 10.0:
        raise ConfigurationError(f"answer_seconds={value[:20]!r} in the Redis address: write 0.02 to 10; a shopper waits behind it")
    return seconds


_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "replicas": _whole("replicas", 1, REPLICAS_MAX),
    "partitions": _whole("partitions", 1, PARTITIONS_MAX),
    "prefix": _prefix,
    "may_lose_orders": _yes,
    "answer_seconds": _seconds,
}
