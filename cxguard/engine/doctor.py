"""`cxguard doctor`: what is right and wrong with a guard's store, its secrets, its rules and its records, and what to do.

Each examination is one small function that gives findings; none changes anything. What only the app around a guard can
tell (CORS, lifespan) is looked at by the command line.
"""

from __future__ import annotations

import inspect
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cxguard.clock import Clock
from cxguard.core.operation import State
from cxguard.engine.observing import Finding
from cxguard.engine.recorder import counter_name
from cxguard.engine.report import WOULD_PREFIX
from cxguard.engine.stalls import STALLS_COUNTER
from cxguard.errors import ConfigurationError, StoreError, StoreUnfit
from cxguard.gateways.base import Gateway
from cxguard.rules import Rule
from cxguard.stores.base import Level, Store
from cxguard.stores.sqlite.place import file_system_of, free_bytes, read_mounts

FREE_BYTES_WARN = 1024**3  # a busy shop writes about 100 MB a day
FREE_BYTES_FAIL = 64 * 1024**2  # a little above where the store itself stops taking orders in
WAL_BYTES_WARN = 256 * 1024**2  # a checkpoint should have come long before
CLOCK_SECONDS_WARN = 2.0
OVERDUE_SECONDS_WARN = 300.0  # the queue looks twice a second
SQLITE_VERSION_MIN = (3, 51, 3)  # older ones can corrupt a WAL file
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


class Health(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Examined:
    """One line: what was looked at, what was found, and what to do about it."""

    about: str
    health: Health
    found: str
    do: str = ""


def ok(about: str, found: str) -> Examined:
    return Examined(about, Health.OK, found)


def warn(about: str, found: str, do: str) -> Examined:
    return Examined(about, Health.WARN, found, do)


def fail(about: str, found: str, do: str) -> Examined:
    return Examined(about, Health.FAIL, found, do)


def worst(examined: Iterable[Examined]) -> Health:
    """The worst of all lines."""
    found = {one.health for one in examined}
    return next((health for health in (Health.FAIL, Health.WARN) if health in found), Health.OK)


# --- the store


async def examine_store(store: Store, clock: Clock) -> list[Examined]:
    """Whether it opens, what its acknowledgement stands for, and whether its clock goes right. The store stays open."""
    try:
        await store.start()
        offset = abs(await store.clock() - clock.now())
    except ConfigurationError as error:
        return [fail("store", "cannot be opened", str(error))]
    except StoreUnfit as error:
        return [fail("store", "may lose what it acknowledges, so it is not used", str(error))]
    except StoreError as error:
        return [fail("store", "does not answer", str(error))]
    found = [_level(store.level)]
    if offset > CLOCK_SECONDS_WARN:
        found.append(warn("clock", f"{offset:.1f} s apart from the store's", "let a time service (chrony, systemd-timesyncd) set both"))
    return found


def _level(level: Level) -> Examined:
    match level:
        case Level.MEMORY:
            return warn("store", "memory: everything ends with the process", 'for a shop write Guard("sqlite:///shop.db", ...)')
        case Level.FSYNC:
            return ok("store", "fsync: what is acknowledged is on this machine's disk; for one machine, any number of processes")
        case Level.REPLICATED:
            return ok("store", "replicated: what is acknowledged is on more than one machine")
        case Level.BEST_EFFORT:
            do = "on Redis: write ?replicas=1 behind the address, or on a single server `appendfsync always`; or take PostgreSQL"
            return warn("store", "best-effort: a failover or a power cut may lose what was acknowledged", do)


def examine_file(path: Path, *, mounts: str | None = None, in_container: bool | None = None) -> list[Examined]:
    """Where the file of an embedded store lies, who can read it, and whether there is room."""
    mounted = read_mounts() if mounts is None else mounts
    contained = any(mark.exists() for mark in CONTAINER_MARKS) if in_container is None else in_container
    found = [_file_system(path, file_system_of(path.parent.resolve(), mounted), contained=contained), _room(free_bytes(path.parent))]
    others = path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if others:
        found.append(warn("file", f"{path} can be read by other users", f"run: chmod 600 {path}"))
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size > WAL_BYTES_WARN:
        size = wal.stat().st_size // 1024**2
        found.append(
            warn("wal", f"{size} MB wait to be moved into the file", "end whatever reads it without end (a backup, an open shell)")
        )
    return found


def _file_system(path: Path, kind: str | None, *, contained: bool) -> Examined:
    if kind in ("tmpfs", "ramfs"):
        return fail("disk", f"{path.parent} is in memory ({kind}): orders end with the machine", "put the store on a disk")
    if kind in ("overlay", "aufs"):
        return fail("disk", f"{path.parent} is the container's own layer: orders end with the container", "mount a volume there")
    if contained:
        do = "make sure that all processes of the shop mount this very volume, on this one machine"
        return warn("disk", f"in a container, on a volume ({kind or 'unknown'})", do)
    return ok("disk", f"a disk of this machine ({kind or 'unknown'})")


def _room(free: int) -> Examined:
    size = f"{free // 1024**2} MB free"
    if free < FREE_BYTES_FAIL:
        return fail("room", size, "make room: no new order is taken in any more")
    if free < FREE_BYTES_WARN:
        return warn("room", size, "make room: a busy shop writes some 100 MB a day")
    return ok("room", size)


def examine_sqlite() -> Examined:
    """The SQLite that is really loaded."""
    import apsw

    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < SQLITE_VERSION_MIN:
        return fail("sqlite", f"{version} can corrupt a WAL file", "run: pip install --upgrade apsw")
    return ok("sqlite", version)


# --- what is on record


async def examine_records(store: Store, *, namespace: str) -> list[Examined]:
    """Whether somebody works on what is due, and what waits for a person."""
    tally = await store.tally(namespace)
    now = await store.clock()
    counts = {state: sum(count for (of, _), count in tally.operations.items() if of == state) for state in State}
    found = [ok("orders", ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none yet")]
    late = now - tally.oldest_due_at if tally.oldest_due_at is not None else 0.0
    if late > OVERDUE_SECONDS_WARN:
        do = "run a worker: cxguard worker module:app; or see which rule of these orders is gone: cxguard orders list TARGET --due"
        found.append(fail("queue", f"an order has been due for {late / 60:.0f} minutes: nobody works on it", do))
    else:
        found.append(ok("queue", "nothing is overdue"))
    if counts[State.HELD]:
        do = "look at them: cxguard orders list TARGET --state held, or the dashboard"
        found.append(warn("desk", f"{counts[State.HELD]} orders wait for a person, a shopper or proof", do))
    return found


_COUNTED: Mapping[str, tuple[str, Health, str, str]] = {
    WOULD_PREFIX + Finding.OWNERS_UNSTABLE: (
        "owner",
        Health.FAIL,
        "{count} requests came under an owner that does not last",
        'owner= must survive login and every answer: write owner=signed_session("visitor_id", secret=...)',
    ),
    WOULD_PREFIX + Finding.OWNERS_MISSING: (
        "owner",
        Health.WARN,
        "for {count} requests nobody could be named as the owner",
        "they would be refused with 401: give the visitor an id before the checkout, and read it in owner=",
    ),
    WOULD_PREFIX + Finding.CARDS: (
        "cards",
        Health.WARN,
        "{count} requests carried card data",
        "they are never kept for later: send the gateway's token, not the card",
    ),
    STALLS_COUNTER: (
        "loop",
        Health.WARN,
        "{count} times the event loop stood still for a second or more, and every request with it",
        "a handler blocks: use the async client of the gateway's SDK, or make the route a plain `def`",
    ),
    "session.dropped": (
        "visits",
        Health.WARN,
        "{count} facts about visits were lost",
        "the store was away too long, or too slow: the report's figures lack them",
    ),
}


async def examine_counters(store: Store, *, namespace: str) -> list[Examined]:
    """What was counted and should not have been."""
    found = []
    for name, (about, health, text, do) in _COUNTED.items():
        counters = await store.counters(counter_name(namespace, name))
        count = round(counters.get(counter_name(namespace, name), 0))
        if count:
            found.append(Examined(about, health, text.format(count=count), do))
    return found


# --- the guard


def examine_rules(rules: Sequence[Rule], *, funnel: bool, gateways: bool = True) -> Iterator[Examined]:
    """What the rules promise, and what they leave open.

    Args:
        funnel, gateways: the guard has one, or some.
    """
    if not rules:
        yield warn("rules", "none: no request is guarded", 'write Guard(..., rules=[Rule("POST /checkout/pay", owner=...)])')
    for rule in rules:
        yield _rule(rule, gateways=gateways)
    if not funnel:
        yield warn(
            "funnel", "none: the report knows nothing of visits", 'write Guard(..., funnel=Funnel(cart="GET /cart", pay="POST ..."))'
        )
    elif find_spec("selectolax") is None:
        yield warn("funnel", "errors on the shop's own pages are not seen", "run: pip install 'cxguard[html]'")


def _rule(rule: Rule, *, gateways: bool) -> Examined:
    about = f"rule {rule.name}"
    if rule.charged_by == "guard" and rule.audience == "browser" and not gateways:
        do = 'write Guard(..., gateways=[HttpGateway(...)]); or, where the shop\'s own code charges, Rule(..., charged_by="shop")'
        return warn(about, "charged by the guard, which has no gateway: op.charge raises", do)
    if rule.charged_by == "shop" and rule.resolve is None and not rule.rerun_safe:
        do = "write resolve=..., which asks your gateway what became of an order; or charge with op.charge"
        return warn(about, "a charge of unknown end waits for a person", do)
    if inspect.isfunction(rule.later) and not inspect.iscoroutinefunction(rule.later):
        return warn(about, "later= is no async function: unless it gives an awaitable, no kept order is placed", "write `async def`")
    return ok(about, "kept through an outage" if rule.later is not None else "in an outage: refused, not charged, basket kept")


async def examine_gateways(gateways: Iterable[Gateway]) -> list[Examined]:
    """Whether each gateway answers, if its adapter has a `check`; and what it cannot do."""
    return [one for gateway in gateways for one in await _gateway(gateway)]


async def _gateway(gateway: Gateway) -> list[Examined]:
    about = f"gateway {gateway.name}"
    found = []
    if not gateway.keyed:
        found.append(
            warn(about, "has no idempotency keys: an unknown charge is never sent again", "it is looked up, or waits for a person")
        )
    check: Any = getattr(gateway, "check", None)
    if check is None:
        return found or [ok(about, "keys are honoured; its adapter has no check of its own")]
    try:
        await check()
    except Exception as error:  # noqa: BLE001 - an adapter may fail in any way; that is what is asked
        return [*found, fail(about, f"did not answer: {type(error).__name__}", "see whether this machine reaches it, and its credentials")]
    return [*found, ok(about, "answers")]
