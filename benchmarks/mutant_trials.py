"""Mutants, each tried by the tests that call its function.

The tests are collected once, and each mutant is tried in a fork of that process, by those tests that call its function: first the
ones that have noticed others of the function or its module, then one case of every test, the quickest first. There the function is
given the mutant's code, so that it costs what it cost before. What ran while they were collected has run without the mutant, and
may be remembered: a mutant of such a function that survives is tried once more, in a process of its own.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutant_making import GROUND

TRIED = GROUND / "tried.jsonl"  # what became of each: whoever waits can look, and a broken run can go on
MEASURED = GROUND / "measured.json"  # what each test costs and calls
TIMES_SLOWER_MAX = 8  # a mutant with which a test takes so many times its processor time, and 5 s, never ends: it is noticed
WAITING_SECONDS_MAX = 20  # beside as many times the time by the clock: with such a mutant a test waits for ever
NOTICED = GROUND / "noticed.txt"  # by which test the last one was
BEST_MAX = 5
EXAMPLES_MAX = 30  # of each property of hypothesis: fewer than in the gate, so a kill here is one there
QUIET = ("-x", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", "scratch")
ALONE_SECONDS_MAX, TOLD_EVERY = 600, 20


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which tests try a mutant: files and folders, without those that ask for certain fixtures or have such a mark, and for how long."""

    tests: list[str]
    without: list[str]
    seconds: float | None  # of a processor for each mutant; then it has survived
    also: dict[str, list[str]] = field(default_factory=dict)  # by module, its own tests in full, for what has survived


@dataclass(frozen=True, slots=True)
class Cost:
    """What a test took without any mutant, and which functions it called."""

    processor_seconds: float
    clock_seconds: float
    called: list[str]


def forget() -> None:
    """Nothing has been tried yet."""
    TRIED.unlink(missing_ok=True)
    MEASURED.unlink(missing_ok=True)


def killed(mutants: dict[str, str], conditions: Conditions) -> dict[str, bool]:
    """By name whether the tests notice the mutant; *mutants* has what each says, too. Those that were tried are not tried again."""
    tried = _tried(mutants)
    if untried := {name: says for name, says in mutants.items() if name not in tried}:
        _run("forks", asdict(conditions), untried, check=True)
        tried = _tried(mutants)
    sound: list[Conditions] = []
    for name in [name for name, noticed in tried.items() if noticed is None]:
        alone = _own_tests(conditions, name) or conditions
        if alone not in sound:
            assert _alone_fails(alone, "") is False, f"the tests fail without any mutant: {alone.tests}"
            sound.append(alone)
        tried[name] = _alone_fails(alone, name)
        _tell(name, mutants[name], bool(tried[name]))
    return {name: bool(noticed) for name, noticed in tried.items()}


def _alone_fails(conditions: Conditions, name: str) -> bool:
    """In a process of its own, with that mutant in; not to be collected, or not to end, is to fail, too."""
    ended = _run("alone", asdict(conditions), name, under_test=name).returncode
    assert ended not in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED), f"no tests: {conditions.tests}"
    return ended != 0


def _own_tests(conditions: Conditions, name: str) -> Conditions | None:
    tests = conditions.also.get(name.rpartition(".")[0].partition(".")[2], [])
    return replace(conditions, tests=tests, without=[]) if tests else None


def _run(way: str, *task: Any, under_test: str = "", check: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(GROUND), "MUTANT_UNDER_TEST": under_test}
    command, told = [sys.executable, __file__, way], json.dumps(task)
    return subprocess.run(command, input=told, cwd=GROUND, env=environment, text=True, check=check, stdout=subprocess.DEVNULL)


def _tried(mutants: dict[str, str]) -> dict[str, bool | None]:
    """None: has survived, but must be tried alone."""
    told = [json.loads(line) for line in TRIED.read_text("utf-8").splitlines()] if TRIED.exists() else []
    return {each["name"]: each["killed"] for each in told if mutants.get(each["name"]) == each["says"]}


def _tell(name: str, says: str, noticed: bool | None) -> None:
    with TRIED.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, "says": says, "killed": noticed}) + "\n")


def _function(name: str) -> str:
    """What the mutants of one function have in common."""
    return name.rpartition("__mutmut_")[0]


class _Collected:
    """Leaves out the tests that must not run here."""

    def __init__(self, without: list[str]) -> None:
        self._without = set(without)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if not self._without.intersection({*item.fixturenames, *_marks(item)})]


def _marks(item: Any) -> Iterator[str]:
    return (mark.name for mark in item.iter_markers())


class _Functions:
    """The functions that have mutants: which were called, and which mutant is put in."""

    def __init__(self) -> None:
        self._known: list[tuple[FunctionType, CodeType, dict[str, FunctionType]]] = []  # itself, its code, its mutants
        self._called: set[int] = set()  # their numbers, since it was emptied
        self._instead: dict[int, FunctionType] = {}  # of those that have cells: their code takes no other's place

    def in_place(self, mutants: dict[str, FunctionType], is_classmethod: bool = False) -> Callable[[FunctionType], FunctionType]:
        """Instead of mutmut's decorator, which asks the environment at each call whom to call."""

        def noted(function: FunctionType) -> FunctionType:
            number = len(self._known)
            self._known.append((function, function.__code__, mutants))
            if function.__code__.co_freevars:
                return self._through(number, function)
            self._watch(number)
            return function

        return noted

    def _through(self, number: int, function: FunctionType) -> Any:
        @functools.wraps(function)
        def through(*args: Any, **named: Any) -> Any:
            self._called.add(number)
            return self._instead.get(number, function)(*args, **named)

        return through

    def _watch(self, number: int) -> None:
        """Have its next call noted, at no cost to those after it: it gets a code that says so, and puts its own back."""
        function, code, _ = self._known[number]
        if not code.co_freevars:
            function.__globals__["_note_call"] = self._note_call
            function.__code__ = _noting_code(number)

    def _note_call(self, number: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self._called.add(number)
        function, code, _ = self._known[number]
        function.__code__ = code
        return function(*args, **named)

    def seen(self) -> list[str]:
        """Those that were called, by mutmut's names, and none is any more."""
        seen = [self._name(number) for number in sorted(self._called)]
        for number in self._called:
            self._watch(number)
        self._called.clear()
        return seen

    def names(self) -> set[str]:
        """Of all of them."""
        return {self._name(number) for number in range(len(self._known))}

    def _name(self, number: int) -> str:
        function, _, mutants = self._known[number]
        return f"{function.__module__}.{_function(mutants['_mutmut_orig'].__name__)}"

    def put_in(self, name: str) -> None:
        for number, (function, code, mutants) in enumerate(self._known):
            new = mutants.get(name.rpartition(".")[2]) if self._name(number) == _function(name) else None
            if code.co_freevars:
                self._instead = {**self._instead, number: new} if new else self._instead
                continue
            function.__code__ = new.__code__ if new else code
            if new:
                function.__defaults__, function.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


class _Forks:
    """Instead of the tests' own run: one of them all as they are, then one for each mutant, in a fork, up to the first failure."""

    def __init__(self, functions: _Functions, mutants: dict[str, str], conditions: Conditions) -> None:
        self._functions = functions
        self._mutants = mutants
        self._conditions = conditions
        self._best: dict[str, list[str]] = {}  # by function and by module, the tests that have noticed its mutants

    def pytest_configure(self, config: pytest.Config) -> None:
        """No shrinking: it is enough that a property fails. Loaded after conftest's own."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings(), phases=phases, database=None, max_examples=EXAMPLES_MAX, derandomize=True)
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Those that name a number of examples of their own, too."""
        for property_ in {getattr(item.obj, "__func__", item.obj) for item in items}:
            if own := getattr(property_, "_hypothesis_internal_use_settings", None):
                property_._hypothesis_internal_use_settings = _few(own)
        for walk in {item.cls for item in items if hasattr(item.cls, "settings")}:
            walk.settings = _few(walk.settings)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All of them, and what was seen into a file."""
        early = self._functions.seen()
        gc.freeze()  # else each fork copies all that it looks through
        costs = self._costs(session)
        for number, (name, says) in enumerate(self._mutants.items()):
            noticed = self._noticed(session, name, costs)
            again = not noticed and (_function(name) in early or _own_tests(self._conditions, name))
            _tell(name, says, None if again else noticed)
            if number % TOLD_EVERY == 0:
                _say(f"{number + 1:,} of {len(self._mutants):,} mutants tried: {says.partition(':')[0]}")
        return True

    def _costs(self, session: pytest.Session) -> dict[str, Cost]:
        """What a broken run has measured, if it is all there."""
        of, costs = json.loads(MEASURED.read_text()) if MEASURED.exists() else ([], {})
        if not (set(of) >= self._functions.names() and costs.keys() >= {item.nodeid for item in session.items}):
            _say(f"{len(session.items)} tests without any mutant")
            if _failed(lambda: self._measure(session)):
                pytest.exit("the tests fail without any mutant", returncode=1)
            _, costs = json.loads(MEASURED.read_text())
        return {test: Cost(*cost) for test, cost in costs.items()}

    def _noticed(self, session: pytest.Session, name: str, costs: dict[str, Cost]) -> bool:
        called = (item for item in session.items if _function(name) in costs[item.nodeid].called)
        reached = sorted(called, key=lambda item: costs[item.nodeid].processor_seconds)
        best = [*self._best.get(_function(name), []), *self._best.get(name.rpartition(".")[0], [])]
        cases = _cases(reached)
        reached.sort(key=lambda item: (item.nodeid not in best, cases[item.nodeid]))
        NOTICED.write_text("")
        noticed = _failed(lambda: self._try(session, name, {item: costs[item.nodeid] for item in reached}))
        if test := NOTICED.read_text():
            for these in (_function(name), name.rpartition(".")[0]):
                self._best[these] = [test, *self._best.get(these, [])][:BEST_MAX]
        return noticed

    def _measure(self, session: pytest.Session) -> bool:
        """How long each test takes, and which functions it calls."""
        measured: dict[str, tuple[float, float, list[str]]] = {}
        for item, after in _in_turn(session.items):
            begun, at = time.process_time(), time.monotonic()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            measured[item.nodeid] = time.process_time() - begun, time.monotonic() - at, self._functions.seen()
            if session.testsfailed:
                _say(f"fails without any mutant: {item.nodeid}")
                return True
        MEASURED.write_text(json.dumps([sorted(self._functions.names()), measured]))
        return False

    def _try(self, session: pytest.Session, name: str, reach: dict[pytest.Item, Cost]) -> bool:
        """Put the mutant in, and see whether one of its tests fails, or does not end."""
        self._functions.put_in(name)
        for item, after in _in_turn(_within(reach, self._conditions.seconds)):
            most = int(time.process_time() + reach[item].processor_seconds * TIMES_SLOWER_MAX) + 5
            resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
            signal.alarm(int(reach[item].clock_seconds * TIMES_SLOWER_MAX) + WAITING_SECONDS_MAX)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.testsfailed:
                NOTICED.write_text(item.nodeid)
                return True
        return False


def _cases(items: list[pytest.Item]) -> dict[str, int]:
    """The how-manieth case of its test each is: one of every test goes before the second of any."""
    seen: Counter[str] = Counter()
    cases = {}
    for item in items:
        test = item.nodeid.partition("[")[0]
        cases[item.nodeid] = seen[test]
        seen[test] += 1
    return cases


def _within(reach: dict[pytest.Item, Cost], seconds: float | None) -> list[pytest.Item]:
    """As many of them, the quickest first, as fit into the time."""
    fit, spent = [], 0.0
    for item, cost in reach.items():
        spent += cost.processor_seconds
        if seconds is None or spent <= seconds or not fit:
            fit.append(item)
    return fit


def _few(own: Any) -> Any:
    from hypothesis import settings

    return settings(own, max_examples=min(own.max_examples, EXAMPLES_MAX))


def _noting(*args: Any, **named: Any) -> Any:
    return _note_call(-1, args, named)  # type: ignore[name-defined]  # noqa: F821  # in the globals of the function that gets this code


@functools.cache
def _noting_code(number: int) -> CodeType:
    code = _noting.__code__
    return code.replace(co_consts=tuple(number if const == -1 else const for const in code.co_consts))


def _in_turn(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items, [*items, None][1:], strict=True)


def _say(what: str) -> None:
    print(f"mutation: {what}", file=sys.stderr, flush=True)


def _failed(run: Callable[[], bool]) -> bool:
    """Whether *run* says so, or runs out of time, in a fork."""
    process = os.fork()
    if process:
        ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert ended in (0, 1, -signal.SIGXCPU, -signal.SIGALRM), f"not a test has failed, but what tries the mutant: {ended}"
        return ended != 0
    code = 2
    try:
        code = int(run())
    finally:
        os._exit(code)


def _in_forks(conditions: Conditions, mutants: dict[str, str]) -> int:
    from mutmut.mutation import trampoline

    functions = _Functions()
    trampoline.wrap_in_trampoline = functions.in_place  # type: ignore[assignment]
    plugins = [_Collected(conditions.without), _Forks(functions, mutants, conditions)]
    return pytest.main([*QUIET, "--timeout", "0", *conditions.tests], plugins=plugins)


def _alone(conditions: Conditions) -> int:
    """Whichever mutant the environment names."""
    return pytest.main([*QUIET, "--timeout", str(ALONE_SECONDS_MAX), *conditions.tests], plugins=[_Collected(conditions.without)])


if __name__ == "__main__":
    conditions, told = json.load(sys.stdin)
    asked = Conditions(**conditions)
    raise SystemExit(_in_forks(asked, told) if sys.argv[1] == "forks" else _alone(asked))
