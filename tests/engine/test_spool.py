"""The spool itself, and its forwarding: bounds, several machines, crashes, forks, and the end of everything in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from servers import ROOT
from shopworld import KEYS, SECRET, Worlds
from spoolworld import keeping, spool_world

from cxguard.clock import SystemClock
from cxguard.config import Secrets, Settings
from cxguard.core.money import MoneyState
from cxguard.core.operation import State, money_of
from cxguard.core.outcomes import Charged, Declined
from cxguard.engine.doctor import Health
from cxguard.engine.forwarding import Forwarded
from cxguard.engine.spool import LEASE_SECONDS, Spool, SpoolFigures
from cxguard.engine.spool_doctor import FORWARD_SECONDS_WARN, examine_spool, spool_missing
from cxguard.errors import ConfigurationError, SpoolFull
from cxguard.events import Event
from cxguard.rules import json_field
from cxguard.testing import Fault, ManualClock
from cxguard.testing.contract.base import charged_note, queued, sample
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
BOTH = pytest.mark.parametrize("fault", [Fault.NOT_DONE, Fault.ANSWER_LOST])
NAMES = Secrets(SECRET, tuple(KEYS), "a test")


@pytest_asyncio.fixture
async def world() -> AsyncIterator[Worlds]:
    async with AsyncExitStack() as stack:
        yield Worlds(stack)


def bounded(folder: Path, clock: Any = None, **bounds: int) -> Spool:
    limits = {"items_max": 100, "bytes_max": 2**24, **bounds}
    return Spool(folder / "spool.db", clock=clock or ManualClock(), namespace="shop", holder="test", **limits)


async def lay(spool: Spool, name: str) -> None:
    """An order that nobody compares with another one."""
    await spool.lay(queued(name), lambda there: pytest.fail("there is none"), None)  # type: ignore[arg-type]


async def test_it_is_bounded_in_items(tmp_path: Path) -> None:
    """The third of two is refused, with what to do; facts about money still find their place."""
    spool = bounded(tmp_path, items_max=2)
    await spool.start(NAMES)
    await lay(spool, "a")
    await lay(spool, "b")
    with pytest.raises(SpoolFull, match="bring the store back"):
        await lay(spool, "c")
    assert (await spool.note(sample("d").id, charged_note())).notes
    await spool.stop()


async def test_it_is_bounded_in_bytes(tmp_path: Path) -> None:
    """Large requests fill it before their number does; what is erased makes room again."""
    spool = bounded(tmp_path, bytes_max=2_000_000)
    await spool.start(NAMES)
    order = queued("a", request=bytes(2_000_000))
    await spool.lay(order, lambda there: pytest.fail("there is none"), None)  # type: ignore[arg-type]
    with pytest.raises(SpoolFull):
        await lay(spool, "b")
    held = await spool.seize((await spool.due(limit=1))[0])
    assert held is not None
    await spool.erase(held)
    await lay(spool, "b")
    await spool.stop()


async def test_it_leaves_the_disk_its_room(tmp_path: Path) -> None:
    """Less free space than its bound: nothing is taken in."""
    spool = bounded(tmp_path, free_bytes_min=2**60)
    await spool.start(NAMES)
    with pytest.raises(Exception, match="almost full"):
        await lay(spool, "a")
    await spool.stop()


async def test_orders_that_were_named_with_another_secret_are_not_touched(tmp_path: Path) -> None:
    """Their ids would be others here: the program does not start."""
    first = bounded(tmp_path)
    await first.start(NAMES)
    await first.stop()
    with pytest.raises(ConfigurationError, match="another naming secret"):
        await bounded(tmp_path).start(Secrets(bytes(range(7, 47)), tuple(KEYS), "elsewhere"))


async def test_no_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    """A path with a slip in it is found out at the start, and not in an outage."""
    with pytest.raises(ConfigurationError, match="no folder"):
        await bounded(tmp_path / "nowhere").start(NAMES)


async def test_the_oldest_go_first(world: Worlds, tmp_path: Path) -> None:
    """In the order in which they came."""
    shop = await spool_world(world, tmp_path)
    shop.go_away()
    for number in range(3):
        await shop.press(key=f"k{number}", cart=f"c{number}")
        shop.clock.advance(1.0)
    due = await shop.spool.due(limit=10)
    assert [one.created_at for one in due] == sorted(one.created_at for one in due)
    await shop.come_back()
    assert await shop.guard.forwarding().run_once(limit=2) == Forwarded(forwarded=2)
    assert [one.id for one in await shop.waiting()] == [due[2].id]


@pytest.mark.parametrize(("set_back_seconds", "due"), [(0.0, 0), (3_600.0, 1)])
async def test_a_clock_that_was_set_back_keeps_no_order_waiting(tmp_path: Path, set_back_seconds: float, due: int) -> None:
    """Given back while the clock was an hour ahead: it does not wait until that hour has come."""
    clock = ManualClock()
    spool = bounded(tmp_path, clock)
    await spool.start(NAMES)
    await lay(spool, "a")
    clock.jump(3_600.0)
    held = await spool.seize((await spool.due(limit=1))[0])
    assert held is not None
    await spool.give_back(held, seconds=60.0)
    clock.jump(-set_back_seconds)
    assert len(await spool.due(limit=1)) == due
    await spool.stop()


async def test_order_in_the_hands_of_the_dead_does_not_wait_for_an_hour_that_never_came(tmp_path: Path) -> None:
    """Taken by a process that died while the clock was an hour ahead: what was left of its lease is waited for, and no more."""
    clock = ManualClock()
    spool = bounded(tmp_path, clock)
    await spool.start(NAMES)
    await lay(spool, "a")
    clock.jump(3_600.0)
    assert await spool.seize((await spool.due(limit=1))[0]) is not None
    clock.jump(-3_600.0)
    (offered,) = await spool.due(limit=1)
    assert await spool.seize(offered) is None
    assert await spool.due(limit=1) == ()
    clock.advance(LEASE_SECONDS)
    assert await spool.seize((await spool.due(limit=1))[0]) is not None
    await spool.stop()


async def test_an_order_is_kept_while_the_store_refuses_us(world: Worlds, tmp_path: Path) -> None:
    """Its password was changed, and this process has the old one: nobody can order the less for it."""
    shop = await spool_world(world, tmp_path)

    def refuse(verb: str) -> None:
        raise ConfigurationError("Redis refuses us (WRONGPASS)")

    shop.faulty.decide = refuse
    assert (await shop.press()).status_code == 202
    await shop.come_back()
    assert (await shop.guard.forwarding().run_once()).forwarded == 1


async def test_nothing_is_lost_while_the_store_stays_away(world: Worlds, tmp_path: Path) -> None:
    """A round without the store changes nothing."""
    shop = await spool_world(world, tmp_path)
    shop.go_away()
    await shop.press()
    before = await shop.waiting()
    assert await shop.guard.forwarding().run_once() == Forwarded(away=1)
    assert await shop.waiting() == before


@BOTH
@pytest.mark.parametrize("verb", ["clock", "open", "seize", "save", "note", "get"])
async def test_a_lost_call_while_it_forwards_is_harmless(world: Worlds, tmp_path: Path, verb: str, fault: Fault) -> None:
    """Each verb fails in turn, not done or unheard; the order was in the store before, lapsed, and has a fact beside it."""
    shop = await spool_world(world, tmp_path)
    shop.go_away(Fault.ANSWER_LOST)
    told = await shop.press()
    await shop.client.post(f"{told.json()['status_url']}/say", data={"what": "slow"}, headers={"accept": "application/json"})
    await shop.come_back()
    shop.clock.advance(60.0)
    shop.faulty.plan(verb, fault, times=2)
    for _ in range(4):
        await shop.guard.forwarding().run_once()
        shop.clock.advance(5.0)
        assert shop.guard.store_breaker is not None
        await shop.guard.store_breaker.probe_once()
    await shop.rest()
    assert (len(shop.gateway.standing), await shop.waiting()) == (1, ())


async def test_an_order_in_two_spools_and_in_the_store_is_one_order(world: Worlds, tmp_path: Path) -> None:
    """Two machines were told of it, and the store had it before: charged once, and each press's link leads to it."""
    (tmp_path / "b").mkdir()
    one = await spool_world(world, tmp_path)
    two = await spool_world(world, tmp_path / "b", gateway=one.gateway)
    two.faulty.store = one.faulty.store
    one.go_away(Fault.ANSWER_LOST)
    two.go_away()
    told = [await one.press(), await two.press()]
    assert len({answer.json()["reference"] for answer in told}) == 1
    await one.come_back()
    await two.come_back()
    two.clock.advance(one.clock.now() - two.clock.now())
    await asyncio.gather(one.forward(), two.forward())
    for shop in (one, two):
        await shop.rest()
    assert len(one.gateway.standing) == 1
    assert [(await shop.page(answer))["situation"] for shop, answer in zip((one, two), told, strict=True)] == ["placed", "placed"]


async def test_two_processes_forward_one_spool(world: Worlds, tmp_path: Path) -> None:
    """At the same moment: each order once."""
    shop = await spool_world(world, tmp_path)
    shop.go_away()
    for number in range(12):
        await shop.press(key=f"k{number}", cart=f"c{number}", owner=f"ann{number}")
    await shop.come_back()
    await asyncio.gather(*(shop.guard.forwarding().run_once() for _ in range(3)))
    await shop.rest(rounds=12)  # charges come back by a ramp
    assert (len(shop.gateway.standing), await shop.waiting()) == (12, ())


async def test_an_order_that_was_cancelled_after_a_cut_short_forwarding_stays_cancelled(world: Worlds, tmp_path: Path) -> None:
    """Opened in the store, not erased, cancelled there, and forwarded again: no next life, also under a derived key."""
    shop = await spool_world(world, tmp_path, keeping(key=json_field("cart")))
    shop.go_away()
    told = await shop.press(key=None)
    await shop.come_back()
    (item,) = await shop.spool.due(limit=1)
    shop.gateway.will(*[Does.NOT_CHARGED] * 20)
    await shop.forward()
    await shop.client.post(f"{told.json()['status_url']}/cancel", headers={"accept": "application/json"})
    await shop.spool.lay(item, lambda there: pytest.fail("it is gone"), None)  # type: ignore[arg-type]
    shop.clock.advance(60.0)
    await shop.rest()
    assert (len(shop.gateway.standing), (await shop.page(told))["situation"]) == (0, "cancelled")


async def test_a_no_that_came_meanwhile_is_not_believed_of_a_later_send(world: Worlds, tmp_path: Path) -> None:
    """A webhook's decline waits in the spool; another machine sent the same key again since."""
    shop = await spool_world(world, tmp_path)
    shop.gateway.otherwise = Does.UNKNOWN
    await shop.press()
    (order,) = await shop.orders()
    key = order.sends[0].key
    shop.go_away()
    await shop.guard.note(Declined(), event_id="evt_1", gateway_key=key)
    await shop.come_back()
    shop.clock.advance(60.0)
    await shop.shop.rest()  # sends the very same again
    await shop.forward()
    (order,) = await shop.orders()
    assert len(order.sends) > 1
    assert money_of(order).state is MoneyState.UNKNOWN


async def test_a_fact_about_an_order_that_nobody_knows_becomes_a_stub(world: Worlds, tmp_path: Path) -> None:
    """As it would have, had the store been there."""
    heard: list[Event] = []
    shop = await spool_world(world, tmp_path, listeners=[heard.append])
    shop.go_away()
    paid = Charged(1000, "EUR", payment_id="p")
    await shop.guard.note(paid, event_id="evt_1", gateway_key="cxg-elsewhere", source="webhook of the shop")
    await shop.come_back()
    await shop.forward()
    (stub,) = await shop.orders()
    assert (stub.state, stub.owner, money_of(stub).state) == (State.HELD, "", MoneyState.CHARGED)
    assert [note.source for note in stub.notes] == ["webhook of the shop"]
    (told,) = [event.detail for event in heard if event.name == "payment.noted"]
    assert told == {"source": "webhook of the shop", "kind": "outcome", "stub": True}


async def test_an_order_that_nobody_could_foresee_keeps_no_other_back(world: Worlds, tmp_path: Path) -> None:
    """One that raises is put aside; the next one is forwarded."""
    shop = await spool_world(world, tmp_path)
    shop.go_away()
    await shop.press(key="bad")
    await shop.press(key="good", owner="bob")
    await shop.come_back()
    broken = (await shop.spool.due(limit=1))[0].id
    honest = shop.faulty.store.open

    async def raises(operation: Any, **named: Any) -> Any:
        if operation.id == broken:
            raise ValueError("a bug")
        return await honest(operation, **named)

    shop.faulty.store.open = raises  # type: ignore[method-assign]
    assert await shop.guard.forwarding().run_once() == Forwarded(forwarded=1, failed=1)


async def test_the_shop_works_on_while_its_own_disk_is_the_one_that_fails(world: Worlds, tmp_path: Path) -> None:
    """A spool that cannot be opened is none: the store is there, and orders go through."""
    (tmp_path / "spool.db").write_bytes(b"")
    shop = await spool_world(world, tmp_path)
    assert (await shop.press()).status_code == 201


async def test_what_listeners_hear(world: Worlds, tmp_path: Path) -> None:
    """Away once, spooled and forwarded once each, back once."""
    heard: list[str] = []
    shop = await spool_world(world, tmp_path, listeners=[lambda event: heard.append(event.name)])
    shop.go_away()
    await shop.press()
    await shop.press()
    await shop.come_back()
    await shop.forward()
    ours = [name for name in heard if name.startswith(("store.", "spool.", "order."))]
    assert ours == ["order.spooled", "store.unavailable", "store.recovered", "order.queued", "spool.forwarded"]


FORK = """
import asyncio, os, sys
from shopworld import KEYS, SECRET
from cxguard.clock import SystemClock
from cxguard.config import Secrets
from cxguard.engine.spool import Spool
from cxguard.testing.contract.base import queued

spool = Spool(sys.argv[1], clock=SystemClock(), namespace="shop", holder="test", items_max=1000, bytes_max=2**30)

async def lay(name):
    for number in range(10):
        await spool.lay(queued(f"{name} {number}"), None, None)

async def before():
    await spool.start(Secrets(SECRET, tuple(KEYS), "a test"))
    await lay("before")

asyncio.run(before())
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        asyncio.run(lay(f"child {child}"))
        os._exit(0)
    children.append(pid)
asyncio.run(lay("parent"))
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
"""


def forked(file: Path) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", FORK, str(file)]
    return subprocess.run(command, env={**os.environ, **path}, capture_output=True, text=True, timeout=60, check=False)


async def test_children_of_a_fork_spool_beside_their_parent(tmp_path: Path) -> None:
    """A server that opens everything and then forks: every order of each process is there."""
    done = await asyncio.to_thread(forked, tmp_path / "spool.db")
    assert done.stdout == "[0, 0, 0]\n", done.stderr
    spool = bounded(tmp_path, SystemClock())
    await spool.start(NAMES)
    assert (await spool.figures()).orders == 50
    await spool.stop()


@pytest.mark.parametrize(
    ("figures", "away", "health"),
    [
        (SpoolFigures(0, 0, None, 0), False, Health.OK),
        (SpoolFigures(3, 1, 990.0, 0), False, Health.OK),
        (SpoolFigures(3, 1, 990.0, 0), True, Health.WARN),
        (SpoolFigures(3, 1, 0.0, 0), False, Health.FAIL),
        (SpoolFigures(6_000, 0, 990.0, 0), True, Health.WARN),
    ],
)
async def test_the_doctor_says_how_the_spool_is(figures: SpoolFigures, away: bool, health: Health) -> None:
    """Empty, filling while the store is away, or full of what nobody forwards though it answers."""
    assert examine_spool(figures, now=1_000.0, settings=Settings(), away=away).health is health
    assert spool_missing().do.startswith("to keep orders meanwhile, ")


async def test_the_doctor_says_what_waits_in_the_spool_and_for_how_long() -> None:
    """In whole minutes and megabytes; after two minutes somebody should have forwarded it."""
    figures = SpoolFigures(3, 1, 400.0, 5 * 1024**2)
    told = examine_spool(figures, now=1_000.0, settings=Settings(), away=True)
    assert (told.about, told.found) == ("spool", "3 orders and 1 facts wait, 5 MB, the oldest for 10 minutes")
    for waiting_seconds, health in ((FORWARD_SECONDS_WARN, Health.OK), (FORWARD_SECONDS_WARN + 1.0, Health.FAIL)):
        figures = SpoolFigures(3, 1, 1_000.0 - waiting_seconds, 0)
        assert examine_spool(figures, now=1_000.0, settings=Settings(), away=False).health is health
    assert examine_spool(SpoolFigures(0, 0, None, 0), now=1_000.0, settings=Settings(), away=False).about == "spool"
