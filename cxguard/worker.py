"""`cxguard worker module:app`: the duties of a guard in a process of their own, without HTTP.

The path is the one that a server gets. The app's lifespan is run as a server runs it, so that its clients and pools
are there when an order is placed, and so that `later=replay` finds the whole app around the handler. Then the guard's
queue and upkeep run until SIGTERM or SIGINT: what is in hand is finished first.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

from cxguard.engine.pausing import pause
from cxguard.engine.purchases import PurchaseListener
from cxguard.errors import ConfigurationError, CxguardError, StoreError
from cxguard.guard import Guard, Mode
from cxguard.rules import replay
from cxguard.stores.address import without_password

LOOK_SECONDS = 2.0  # between two looks at whether the store answers
STOP_SECONDS_MAX = 180.0  # the longest run, and the stop of the duties after it
WALK_MAX = 20_000  # parts of an app that are looked at; large ones have some thousand routes


class WorkerState(StrEnum):
    """What the worker is doing."""

    STARTING = "starting"
    STORE_AWAY = "store_away"
    WORKING = "working"
    STOPPING = "stopping"
    STOPPED = "stopped"


Say: TypeAlias = Callable[[WorkerState, str], None]
"""Told each change of state, with a line for people."""


# --- the app, and the guard in it


def load_target(target: str, *, factory: bool = False, app_dir: Path | None = None) -> Any:
    """What `module:name` stands for: an app, a function that makes one, or a guard.

    Args:
        factory: the name is a function to be called. One without parameters is called anyway.
        app_dir: where modules are looked for first; default: the working folder.

    Raises:
        ConfigurationError: there is no such module or name.
    """
    module_name, path = split_target(target)
    found: Any = _module(module_name, app_dir or Path.cwd())
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(f"{module_name!r} has no {path!r}: write module:app, with the name that the app has there")
        found = getattr(found, name)
    return _made(found, target) if factory or _is_factory(found) else found


def split_target(target: str) -> tuple[str, str]:
    """Module and name of `module:name`.

    Raises:
        ConfigurationError: it is not written so.
    """
    module_name, _, path = target.partition(":")
    if not module_name or not path or "://" in target:
        what = "a store, and no app" if "://" in target else "no app"
        raise ConfigurationError(
            f"{without_password(target)!r} names {what}: write module:app, the path that the server gets, for instance shop.main:app"
        )
    return module_name, path


def find_guard(app: Any, *, target: str) -> Guard:
    """The guard of an app, wherever its middleware stands; or *app* itself, if it is one.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    guards = list({id(part): part for part in parts_of(app) if isinstance(part, Guard)}.values())
    if len(guards) == 1:
        return guards[0]
    module = target.partition(":")[0]
    if guards:
        raise ConfigurationError(f"{target} has {len(guards)} guards: name the one that is meant, for instance {module}:guard")
    raise ConfigurationError(
        f"{target} has no guard: add one with app.add_middleware(GuardMiddleware, guard=guard), or name it itself: {module}:guard"
    )


def _module(name: str, app_dir: Path) -> Any:
    if str(app_dir) not in sys.path:
        sys.path.insert(0, str(app_dir))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports: its own traceback says it best
        raise ConfigurationError(f"there is no module {name!r} here: run this in the project's folder, or give --app-dir") from error


def _is_factory(found: Any) -> bool:
    if not inspect.isfunction(found):
        return False
    required = [one for one in inspect.signature(found).parameters.values() if one.default is one.empty and one.kind < one.VAR_POSITIONAL]
    return not required and not inspect.iscoroutinefunction(found)


def _made(factory: Any, target: str) -> Any:
    try:
        return factory()
    except TypeError as error:
        raise ConfigurationError(f"{target} could not be called without arguments ({error}): name a function that makes the app") from error


_LINKS = (
    *("guard", "app", "asgi_app", "asgi_handler", "application", "_asgi_app"),
    *("middleware_stack", "user_middleware", "middleware", "kwargs", "args", "router", "routes", "__wrapped__"),
)


def parts_of(app: Any) -> Iterator[Any]:
    """The app and what it consists of, the outer parts first: frameworks differ in names, and agree on wrapping."""
    waiting, seen = deque([app]), {id(app)}
    while waiting and len(seen) < WALK_MAX:
        part = waiting.popleft()
        yield part
        for inner in _inner(part):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


def _inner(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        yield from part.values()
    elif isinstance(part, list | tuple):
        yield from part
    elif not isinstance(part, Guard | str | bytes | int | float | type | None):
        yield from (_attribute(part, name) for name in _LINKS)


def _attribute(part: Any, name: str) -> Any:
    try:
        return getattr(part, name, None)
    except Exception:  # noqa: BLE001 - proxies of frameworks raise outside of a request; there is no guard in them
        return None


# --- running


class Worker:
    """Runs the duties of *guard* until `stop`.

    Args:
        app: the app around the guard, whose lifespan is run; None: the guard alone.
        say: hears each change of state.

    Raises:
        ConfigurationError: there is nothing that this process could do.
    """

    def __init__(self, guard: Guard, *, app: Any = None, say: Say = lambda state, line: None) -> None:
        _check(guard, alone=app is None)
        guard.bus.listen(PurchaseListener(guard.recorder))
        guard.leave_absent_spool()
        self._guard = guard
        self._lifespan = Lifespan(app) if app is not None else None
        self._say = say
        self._state: WorkerState | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish what is in hand, then end `run`. From the worker's own loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Start, work, and stop.

        Raises:
            ConfigurationError: the app, the guard or its store can never work as they are set.
        """
        self._tell(WorkerState.STARTING, "starting")
        if self._lifespan is not None and not await self._lifespan.start():
            self._lifespan = None  # Django has none: the guard is started here
        try:
            _check_reruns(self._guard)
            while not self._stopping.is_set():
                await self._look()
                await pause(self._stopping, seconds=LOOK_SECONDS)
        finally:
            self._tell(WorkerState.STOPPING, "stopping: finishing what is in hand")
            await self._end()
        self._tell(WorkerState.STOPPED, "stopped")

    async def _look(self) -> None:
        """Begin to work as soon as the store answers; say when it goes away and when it is back."""
        try:
            await self._guard.start()
            self._guard.start_duties()
            await self._guard.store.clock()
        except StoreError as error:
            self._tell(WorkerState.STORE_AWAY, f"the store does not answer, looking again every {LOOK_SECONDS:g} s: {error}")
        else:
            names = [rule.name for rule in self._guard.rules] + list(self._guard.purposes)
            self._tell(WorkerState.WORKING, f"working on {self._guard.namespace!r}: {', '.join(names) or 'nothing'}")

    async def _end(self) -> None:
        await self._guard.stop_duties()  # while the app is whole: what is in hand may need all of it
        if self._lifespan is not None:
            await self._lifespan.stop()
        await self._guard.stop()

    def _tell(self, state: WorkerState, line: str) -> None:
        if state is not self._state:
            self._state = state
            self._say(state, line)


def _check(guard: Guard, *, alone: bool) -> None:
    if guard.mode is Mode.WATCH:
        raise ConfigurationError('a guard with mode="watch" keeps no orders, so a worker has nothing to do: start it with mode="guard"')
    if alone and any(rule.later is replay for rule in guard.rules):
        raise ConfigurationError("later=replay runs a kept request through the app: name the app, not the guard: cxguard worker module:app")


def _check_reruns(guard: Guard) -> None:
    """Once the app has started. A mounted app of a framework makes its middleware at its first request, and here comes none."""
    if not guard.reruns and any(rule.later is replay for rule in guard.rules):
        raise ConfigurationError(
            "later=replay runs a kept request through the app, and the guard stands in a mounted app, which this process cannot reach: "
            "put GuardMiddleware around the outer app, or around the mounted one: Mount(path, app=GuardMiddleware(inner, guard=guard))"
        )


async def run_worker(target: str, *, factory: bool = False, app_dir: Path | None = None, say: Say = lambda state, line: None) -> None:
    """`cxguard worker`: load, run, and stop on SIGTERM or SIGINT; a second signal gives up what is in hand, which lapses.

    Raises:
        ConfigurationError: as `load_target`, `find_guard` and `Worker` say.
        asyncio.CancelledError: a second signal came.
    """
    loaded = load_target(target, factory=factory, app_dir=app_dir)
    guard = find_guard(loaded, target=target)
    worker = Worker(guard, app=None if loaded is guard else loaded, say=say)
    with _Signals(worker):
        await worker.run()


class _Signals:
    """The first signal stops politely, the second at once."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._running = asyncio.current_task()
        self._heard = False

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._hear)

    def __exit__(self, *error: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def _hear(self) -> None:
        if self._heard and self._running is not None:
            self._running.cancel()
        self._heard = True
        self._worker.stop()


class Lifespan:
    """An app's lifespan, run in this process as a server runs it (ASGI, "Lifespan Protocol", version 2.0)."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._started, self._stopped = asyncio.Event(), asyncio.Event()
        self._complete = False
        self._failure: str | None = None
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Whether the app has a lifespan, which has then started.

        Raises:
            ConfigurationError: it has one, and it failed.
        """
        self._task = asyncio.create_task(self._run(), name="cxguard-lifespan")
        self._inbox.put_nowait({"type": "lifespan.startup"})
        await self._started.wait()
        if isinstance(self._error, CxguardError):
            raise self._error
        if self._failure is not None:
            raise ConfigurationError(f"the app did not start: {self._failure}; mend that, it would not serve requests either")
        return self._complete

    async def stop(self) -> None:
        """Let it end, for at most `STOP_SECONDS_MAX`. A failure to end is the app's own, and is logged by it."""
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._stopped.wait()
        except TimeoutError:
            pass
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, self._inbox.get, self._hear)
        except Exception as error:  # noqa: BLE001 - an app without lifespan says so by raising whatever it likes
            self._error = error
        finally:
            self._started.set()
            self._stopped.set()

    async def _hear(self, message: Any) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._complete = True
                self._started.set()
            case "lifespan.startup.failed":
                told = str(message.get("message", "")).strip().splitlines()
                self._failure = told[-1] if told else "it gave no reason"
                self._started.set()
            case _:
                self._stopped.set()
