"""The doctor's lines: each finding at its threshold, with its health and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from shopworld import rule

from cxguard.core.operation import Operation, State
from cxguard.engine import doctor
from cxguard.engine.doctor import Examined, Health, examine_counters, examine_file, examine_gateways, examine_records, examine_store
from cxguard.errors import ConfigurationError, StoreUnfit
from cxguard.rules import replay
from cxguard.stores.base import Level, SessionBatch
from cxguard.stores.memory import MemoryStore
from cxguard.testing import FaultyStore, ManualClock
from cxguard.testing.fake_gateway import FakeGateway
from cxguard.testing.faulty_store import Fault

DISK = "/dev/sda1 / ext4 rw 0 0\n"


def plain_later(op: Any) -> dict[str, int]:
    return {}


def told(examined: list[Examined]) -> dict[str, Health]:
    assert all(one.do for one in examined if one.health is not Health.OK), "what is wrong says what to do"
    return {one.about: one.health for one in examined}


@pytest.mark.parametrize(
    ("healths", "worst"),
    [
        ([], Health.OK),
        ([Health.OK, Health.OK], Health.OK),
        ([Health.OK, Health.WARN], Health.WARN),
        ([Health.FAIL, Health.WARN, Health.OK], Health.FAIL),
    ],
)
def test_the_worst_line_counts(healths: list[Health], worst: Health) -> None:
    """One `fail` is a failed examination, whatever else is well."""
    assert doctor.worst(Examined("x", health, "y") for health in healths) is worst


# --- the store


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("level", "health"),
    [(Level.MEMORY, Health.WARN), (Level.FSYNC, Health.OK), (Level.REPLICATED, Health.OK), (Level.BEST_EFFORT, Health.WARN)],
)
async def test_each_level_of_a_store_is_said(level: Level, health: Health) -> None:
    """What an acknowledgement stands for is the first thing to know."""

    class Store(FaultyStore):
        @property
        def level(self) -> Level:
            return level

    clock = ManualClock()
    (line,) = await examine_store(Store(MemoryStore(clock=clock)), clock)
    assert (line.health, line.about) == (health, "store")
    assert line.found.startswith(level.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(("apart_seconds", "health"), [(0.0, None), (1.9, None), (2.1, Health.WARN), (-60.0, Health.WARN)])
async def test_clocks_apart_are_found(apart_seconds: float, health: Health | None) -> None:
    """A machine whose clock is wrong promises wrong times."""
    clock, other = ManualClock(), ManualClock()
    other.advance(60 + apart_seconds)
    clock.advance(60)
    assert told(await examine_store(MemoryStore(clock=other), clock)).get("clock") is health


@pytest.mark.asyncio
async def test_a_store_that_is_away_fails() -> None:
    """No answer is a failure, with the store's own words."""
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    store.plan("start", Fault.NOT_DONE)
    assert told(await examine_store(store, clock)) == {"store": Health.FAIL}


@pytest.mark.asyncio
async def test_a_store_that_can_never_work_fails() -> None:
    """Its own text says what to write."""

    class Unfit(FaultyStore):
        async def start(self) -> None:
            raise ConfigurationError("make the folder")

    clock = ManualClock()
    (line,) = await examine_store(Unfit(MemoryStore(clock=clock)), clock)
    assert (line.health, line.do) == (Health.FAIL, "make the folder")


@pytest.mark.asyncio
async def test_a_store_that_may_lose_orders_fails() -> None:
    """It answers, but is not used; the line to write is in its text."""

    class Unfit(FaultyStore):
        async def start(self) -> None:
            raise StoreUnfit("run CONFIG SET maxmemory-policy noeviction")

    clock = ManualClock()
    (line,) = await examine_store(Unfit(MemoryStore(clock=clock)), clock)
    assert (line.health, line.do) == (Health.FAIL, "run CONFIG SET maxmemory-policy noeviction")
    assert "not used" in line.found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    path.touch(mode=0o600)
    return path


@pytest.mark.parametrize(
    ("mounts", "in_container", "health"),
    [
        (DISK, False, Health.OK),
        (DISK, True, Health.WARN),
        ("overlay / overlay rw 0 0\n", True, Health.FAIL),
        ("tmpfs FOLDER tmpfs rw 0 0\n" + DISK, False, Health.FAIL),
        ("", False, Health.OK),
    ],
)
def test_where_the_file_lies_matters(file: Path, mounts: str, in_container: bool, health: Health) -> None:
    """A container's own layer and memory lose every order; a volume has to be the same for all processes."""
    mounts = mounts.replace("FOLDER", str(file.parent))
    assert told(examine_file(file, mounts=mounts, in_container=in_container))["disk"] is health


def test_a_file_that_others_can_read_is_found(file: Path) -> None:
    """Its mode is mended with one command."""
    assert "file" not in told(examine_file(file, mounts=DISK, in_container=False))
    file.chmod(0o644)
    (line,) = [one for one in examine_file(file, mounts=DISK, in_container=False) if one.about == "file"]
    assert line.do == f"run: chmod 600 {file}"


def test_a_log_that_was_never_moved_is_found(file: Path) -> None:
    """A write-ahead log that grows without end has somebody who reads without end."""
    wal = file.with_name("shop.db-wal")
    wal.touch()
    os.truncate(wal, doctor.WAL_BYTES_WARN + 1)  # a hole: takes no room
    (line,) = [one for one in examine_file(file, mounts=DISK, in_container=False) if one.about == "wal"]
    assert (line.health, line.do) == (Health.WARN, "end whatever reads it without end (a backup, an open shell)")
    assert line.found == f"{doctor.WAL_BYTES_WARN // 1024**2} MB wait to be moved into the file"


@pytest.mark.parametrize(
    ("free", "health", "do"),
    [
        (doctor.FREE_BYTES_FAIL - 1, Health.FAIL, "make room: no new order is taken in any more"),
        (doctor.FREE_BYTES_WARN - 1, Health.WARN, "make room: a busy shop writes some 100 MB a day"),
        (doctor.FREE_BYTES_WARN, Health.OK, ""),
    ],
)
def test_room_on_the_disk_is_judged(monkeypatch: pytest.MonkeyPatch, file: Path, free: int, health: Health, do: str) -> None:
    """Before the store refuses new orders, the doctor does."""
    monkeypatch.setattr(doctor, "free_bytes", lambda folder: free)
    (line,) = [one for one in examine_file(file, mounts=DISK, in_container=False) if one.about == "room"]
    assert (line.health, line.do, line.found) == (health, do, f"{free // 1024**2} MB free")


def test_the_loaded_sqlite_is_named() -> None:
    """The version that really runs, not the one that Python has."""
    line = doctor.examine_sqlite()
    assert (line.about, line.health) == ("sqlite", Health.OK)


# --- records and counters


def record(state: State, *, due_at: float | None = None) -> Operation:
    return Operation(
        id=f"{state}".ljust(64, "0"),
        namespace="shop",
        rule="r",
        owner="o",
        reference="7K3M-9QXA-2TFV",
        fingerprint="f",
        state=state,
        created_at=0.0,
        updated_at=0.0,
        due_at=due_at,
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(("late_seconds", "health"), [(299, Health.OK), (300, Health.OK), (301, Health.FAIL)])
async def test_an_overdue_order_means_that_nobody_works(late_seconds: float, health: Health) -> None:
    """Five minutes past its time an order has no worker."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    await store.open(record(State.QUEUED, due_at=clock.now()), holder="h", attempt="a", lease_seconds=None)
    clock.advance(late_seconds)
    assert told(await examine_records(store, namespace="shop"))["queue"] is health
    clock.advance(7_200.0 - late_seconds)
    assert "due for 120 minutes: nobody works on it" in [one.found for one in await examine_records(store, namespace="shop")][-1]


@pytest.mark.asyncio
async def test_held_orders_are_shown_to_a_person() -> None:
    """Somebody has to look at them, and is told where."""
    store = MemoryStore(clock=ManualClock())
    assert told(await examine_records(store, namespace="shop")) == {"orders": Health.OK, "queue": Health.OK}
    await store.open(record(State.HELD), holder="h", attempt="a", lease_seconds=None)
    assert told(await examine_records(store, namespace="shop"))["desk"] is Health.WARN


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("counter", "about", "health"),
    [
        ("would.owners.unstable", "owner", Health.FAIL),
        ("would.owners.missing", "owner", Health.WARN),
        ("would.bodies.with_card", "cards", Health.WARN),
        ("session.dropped", "visits", Health.WARN),
    ],
)
async def test_what_was_counted_and_should_not_have_been(counter: str, about: str, health: Health) -> None:
    """An owner that does not last fails: a guard with it would charge again. Zero is no finding."""
    store = MemoryStore(clock=ManualClock())
    assert await examine_counters(store, namespace="shop") == []
    await store.record(SessionBatch("b", counters={f"shop:{counter}": 2.0}))
    (line,) = await examine_counters(store, namespace="shop")
    assert (line.about, line.health) == (about, health)
    assert "2" in line.found


# --- rules and gateways


@pytest.mark.parametrize(
    ("rules", "funnel", "healths"),
    [
        ((), False, {"rules": Health.WARN, "funnel": Health.WARN}),
        ((rule(),), True, {"rule POST /pay": Health.OK}),
        ((rule(later=replay, terms="1"),), True, {"rule POST /pay": Health.OK}),
        ((rule(charged_by="shop"),), True, {"rule POST /pay": Health.WARN}),
        ((rule(later=plain_later, terms="1"),), True, {"rule POST /pay": Health.WARN}),
    ],
)
def test_rules_say_what_they_leave_open(rules: Any, funnel: bool, healths: dict[str, Health]) -> None:
    """A shop's own charge that nobody can ask about waits for a person: that is worth a line."""
    assert told(list(doctor.examine_rules(rules, funnel=funnel))) == healths


def test_a_rule_whose_later_cannot_be_awaited_says_what_to_write() -> None:
    """Each kept order would fail when its turn comes."""

    def later(op: object) -> None:
        """Places it, and gives nothing to wait for."""

    (line,) = doctor.examine_rules((rule(later=later, terms="1"),), funnel=True)
    assert line.found == "later= is no async function: unless it gives an awaitable, no kept order is placed"
    assert (line.health, line.do) == (Health.WARN, "write `async def`")


@pytest.mark.parametrize(
    ("options", "found"),
    [({"later": replay, "terms": "1"}, "kept through an outage"), ({}, "in an outage: refused, not charged, basket kept")],
)
def test_a_rule_says_what_becomes_of_its_orders_in_an_outage(options: dict[str, Any], found: str) -> None:
    """Whoever reads it may have thought otherwise."""
    assert [one.found for one in doctor.examine_rules((rule(**options),), funnel=True)] == [found]


@pytest.mark.parametrize(
    ("options", "health"),
    [({}, Health.WARN), ({"charged_by": "shop", "rerun_safe": True}, Health.OK), ({"audience": "machine"}, Health.OK)],
)
def test_a_rule_whose_guard_has_no_gateway_is_told(options: dict[str, Any], health: Health) -> None:
    """Each of its charges would raise; a webhook's rule charges nothing. Both ways out are lines that can be written."""
    (line,) = doctor.examine_rules((rule(**options),), funnel=True, gateways=False)
    do = 'write Guard(..., gateways=[HttpGateway(...)]); or, where the shop\'s own code charges, Rule(..., charged_by="shop")'
    assert (line.about, line.health, line.do) == ("rule POST /pay", health, do if health is Health.WARN else "")


class Checked(FakeGateway):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(name="fake:test")
        self.error = error

    async def check(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("gateway", "health"),
    [(FakeGateway(name="fake:test"), Health.OK), (Checked(), Health.OK), (Checked(OSError("no route")), Health.FAIL)],
)
async def test_gateways_are_asked_if_they_can_be(gateway: FakeGateway, health: Health) -> None:
    """A gateway that cannot be reached is found before a shopper finds it."""
    assert told(await examine_gateways([gateway])) == {"gateway fake:test": health}


@pytest.mark.asyncio
async def test_a_gateway_that_does_not_answer_is_told_with_what_was_raised() -> None:
    """By its kind: the text may quote a credential."""
    (line,) = await examine_gateways([Checked(OSError("no route"))])
    assert (line.found, line.do) == ("did not answer: OSError", "see whether this machine reaches it, and its credentials")


@pytest.mark.asyncio
async def test_a_gateway_that_cannot_be_asked_is_not_said_to_answer() -> None:
    """What is known of it is said, and no more."""
    line, answers = await examine_gateways([FakeGateway(name="fake:test"), Checked()])
    assert answers.found == "answers"
    assert line.found == "keys are honoured; its adapter has no check of its own"
