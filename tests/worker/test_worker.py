"""Finding the app and its guard, running a lifespan, and the states of a worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import workshop
from fastapi import FastAPI
from litestar import Litestar
from litestar.middleware import DefineMiddleware
from quart import Quart
from shopworld import KEYS, SECRET, SHOP, rule
from starlette.applications import Starlette
from starlette.routing import Mount

from cxguard.asgi import GuardMiddleware
from cxguard.errors import ConfigurationError
from cxguard.guard import Guard
from cxguard.rules import Rule, replay
from cxguard.stores.memory import MemoryStore
from cxguard.testing import FaultyStore, ManualClock
from cxguard.testing.faulty_store import Fault
from cxguard.worker import Lifespan, Worker, WorkerState, find_guard, load_target

HERE = Path(__file__).parent.parent


def guard_of(*rules: Rule, store: Any = None, **options: Any) -> Guard:
    clock = ManualClock()
    return Guard(store or MemoryStore(clock=clock), rules=rules, shop=SHOP, secret=SECRET, keys=KEYS, clock=clock, duties=False, **options)


# --- loading


def test_an_app_is_loaded_by_its_path() -> None:
    """`module:name` gives what a server gets; dots go on into it."""
    assert load_target("workshop:app", app_dir=HERE) is workshop.app
    assert load_target("workshop:guard.store", app_dir=HERE) is workshop.guard.store


def test_a_factory_is_called() -> None:
    """A function without parameters makes the app, named as a factory or not; one with parameters is no factory."""
    assert isinstance(load_target("workshop:make_app", app_dir=HERE), Starlette)
    assert isinstance(load_target("workshop:make_app", factory=True, app_dir=HERE), Starlette)
    assert load_target("workshop:pay", app_dir=HERE) is workshop.pay


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("workshop", "names no app: write module:app"),
        (":app", "names no app: write module:app"),
        ("no_such_module:app", "there is no module 'no_such_module' here"),
        ("workshop.inner:app", "there is no module 'workshop.inner' here"),
        ("workshop:nothing", "'workshop' has no 'nothing'"),
        ("workshop:app.nothing", "'workshop' has no 'app.nothing'"),
    ],
)
def test_a_wrong_path_is_refused_with_what_to_write(target: str, says: str) -> None:
    """Each mistake in the path has its own sentence."""
    with pytest.raises(ConfigurationError, match=says):
        load_target(target, app_dir=HERE)


def test_a_factory_that_wants_arguments_is_refused() -> None:
    """--factory on something else says so, instead of a traceback from within."""
    with pytest.raises(ConfigurationError, match="could not be called without arguments"):
        load_target("workshop:pay", factory=True, app_dir=HERE)


def test_a_module_that_fails_by_itself_shows_its_own_error(tmp_path: Path) -> None:
    """What a module cannot import is the module's own trouble, and keeps its traceback."""
    (tmp_path / "shop_with_a_bug.py").write_text("import module_that_nobody_has\n")
    with pytest.raises(ModuleNotFoundError, match="module_that_nobody_has"):
        load_target("shop_with_a_bug:app", app_dir=tmp_path)


# --- finding the guard


def starlette_added(guard: Guard) -> Any:
    app = Starlette()
    app.add_middleware(GuardMiddleware, guard=guard)
    return app


def starlette_built(guard: Guard) -> Any:
    app = starlette_added(guard)
    app.middleware_stack = app.build_middleware_stack()
    app.user_middleware = []
    return app


def fastapi_added(guard: Guard) -> Any:
    app = FastAPI()
    app.add_middleware(GuardMiddleware, guard=guard)
    return app


def mounted(guard: Guard) -> Any:
    return Starlette(routes=[Mount("/shop", app=starlette_added(guard))])


def quart_wrapped(guard: Guard) -> Any:
    app = Quart("shop")
    app.asgi_app = GuardMiddleware(app.asgi_app, guard=guard)  # type: ignore[method-assign,assignment,arg-type]
    return app


def litestar_defined(guard: Guard) -> Any:
    return Litestar(middleware=[DefineMiddleware(GuardMiddleware, guard=guard)])  # type: ignore[arg-type]


class _Wrapper:
    def __init__(self, app: Any) -> None:
        self.app = app

    @property
    def application(self) -> Any:
        raise RuntimeError("only within a request")


@pytest.mark.parametrize(
    "put",
    [
        lambda guard: guard,
        lambda guard: GuardMiddleware(Starlette(), guard=guard),
        lambda guard: _Wrapper(GuardMiddleware(Starlette(), guard=guard)),
        starlette_added,
        starlette_built,
        fastapi_added,
        mounted,
        quart_wrapped,
        litestar_defined,
    ],
)
def test_the_guard_is_found_wherever_it_stands(put: Any) -> None:
    """Outermost, added, built, mounted, or the framework's own way: it is the same guard."""
    guard = guard_of()
    assert find_guard(put(guard), target="m:app") is guard


def test_no_guard_is_refused_with_what_to_write() -> None:
    """An app without a guard has nothing for a worker to do."""
    with pytest.raises(ConfigurationError, match=r"m:app has no guard: add one with app.add_middleware\(GuardMiddleware, guard=guard\)"):
        find_guard(Starlette(), target="m:app")


def test_two_guards_are_refused_with_what_to_write() -> None:
    """Which one is meant has to be said."""
    app = GuardMiddleware(GuardMiddleware(Starlette(), guard=guard_of()), guard=guard_of())
    with pytest.raises(ConfigurationError, match="m:app has 2 guards: name the one that is meant, for instance m:guard"):
        find_guard(app, target="m:app")


def test_the_walk_through_an_app_ends() -> None:
    """An app that contains itself is walked once."""
    circle = _Wrapper(None)
    circle.app = circle
    with pytest.raises(ConfigurationError, match="has no guard"):
        find_guard(circle, target="m:app")


# --- the lifespan


@pytest.mark.asyncio
async def test_a_lifespan_runs_around_the_work() -> None:
    """It has begun before `start` returns, and has ended when `stop` does."""
    lifespan = Lifespan(workshop.make_app())
    workshop.pool.clear()
    with pytest.raises(ConfigurationError, match="there is no folder"):  # /nowhere: the guard says so, not we
        await lifespan.start()


@pytest.mark.asyncio
async def test_an_app_without_lifespan_is_told_apart() -> None:
    """Django raises at once: no lifespan, and no failure."""

    async def django(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")

    async def quiet(scope: Any, receive: Any, send: Any) -> None:
        return

    assert not await Lifespan(django).start()
    assert not await Lifespan(quiet).start()


@pytest.mark.asyncio
async def test_a_lifespan_that_fails_stops_the_worker() -> None:
    """An app that would serve no request places no order either: its own last line says why."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "Traceback ...\nConnectionError: no database"})

    with pytest.raises(ConfigurationError, match="the app did not start: ConnectionError: no database"):
        await Lifespan(broken).start()


# --- the worker


class Told:
    """What a worker says, and an event for each state."""

    def __init__(self) -> None:
        self.states: list[WorkerState] = []
        self.events = {state: asyncio.Event() for state in WorkerState}

    def __call__(self, state: WorkerState, line: str) -> None:
        assert line
        self.states.append(state)
        self.events[state].set()


@pytest.mark.asyncio
async def test_a_worker_starts_the_guard_where_no_lifespan_does() -> None:
    """Without a lifespan the guard is started and stopped by the worker itself, duties included."""

    async def django(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("not lifespan")

    guard, told = guard_of(rule()), Told()
    worker = Worker(guard, app=GuardMiddleware(django, guard=guard), say=told)
    running = asyncio.create_task(worker.run())
    await told.events[WorkerState.WORKING].wait()
    assert guard.started
    worker.stop()
    await running
    assert told.states == [WorkerState.STARTING, WorkerState.WORKING, WorkerState.STOPPING, WorkerState.STOPPED]
    assert not guard.started


@pytest.mark.asyncio
async def test_a_worker_that_cannot_reach_the_guarded_app_says_so() -> None:
    """A mounted app's middleware is made at its first request; a worker that cannot run kept requests again must not look as if."""
    guard = guard_of(rule(later=replay, terms="1"))
    inner = Starlette()
    inner.add_middleware(GuardMiddleware, guard=guard)
    with pytest.raises(ConfigurationError, match="put GuardMiddleware around the outer app"):
        await Worker(guard, app=Starlette(routes=[Mount("/shop", app=inner)])).run()
    assert not guard.started


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker says that the store is away, goes on looking, and works as soon as it answers."""
    monkeypatch.setattr("cxguard.worker.LOOK_SECONDS", 0.001)
    store = FaultyStore(MemoryStore(clock=ManualClock()))
    store.plan("start", Fault.NOT_DONE, times=3)
    guard, told = guard_of(rule(), store=store), Told()
    worker = Worker(guard, say=told)
    running = asyncio.create_task(worker.run())
    await told.events[WorkerState.WORKING].wait()
    worker.stop()
    await running
    assert told.states[:3] == [WorkerState.STARTING, WorkerState.STORE_AWAY, WorkerState.WORKING]


@pytest.mark.asyncio
async def test_a_store_that_goes_away_later_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going and coming back are two lines, not one for each look."""
    monkeypatch.setattr("cxguard.worker.LOOK_SECONDS", 0.001)
    store = FaultyStore(MemoryStore(clock=ManualClock()))
    guard, told = guard_of(rule(), store=store), Told()
    worker = Worker(guard, say=told)
    running = asyncio.create_task(worker.run())
    await told.events[WorkerState.WORKING].wait()
    told.events[WorkerState.WORKING].clear()
    store.plan("clock", Fault.NOT_DONE, times=3)
    await told.events[WorkerState.WORKING].wait()
    worker.stop()
    await running
    assert told.states[1:4] == [WorkerState.WORKING, WorkerState.STORE_AWAY, WorkerState.WORKING]


@pytest.mark.parametrize(
    ("guard", "says"),
    [
        (lambda: guard_of(rule(), mode="watch"), 'mode="watch" keeps no orders'),
        (lambda: guard_of(rule(later=replay, terms="1")), "name the app, not the guard"),
    ],
)
def test_a_worker_that_could_do_nothing_is_refused(guard: Any, says: str) -> None:
    """Watching keeps nothing to work on, and a replay needs the app."""
    with pytest.raises(ConfigurationError, match=says):
        Worker(guard())


@pytest.mark.asyncio
async def test_wrong_settings_end_the_worker() -> None:
    """What can never work is not waited for."""

    class Unfit(FaultyStore):
        async def start(self) -> None:
            raise ConfigurationError("there is no folder for the store")

    with pytest.raises(ConfigurationError, match="no folder"):
        await Worker(guard_of(rule(), store=Unfit(MemoryStore(clock=ManualClock())))).run()
