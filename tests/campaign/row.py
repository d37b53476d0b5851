"""The 55 faults (`faults.toml`): at which level each is tried, how, and which promises it is after."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import redis_faults
import server_faults
from campaign import gateway, processes, shoppers, surroundings
from campaign.playing import Scene

TABLE = Path(__file__).with_name("faults.toml")
STORES = ("sqlite", "postgresql", "redis", "redis-cluster")
NO_GUARD = "no guard"
ANY_STORE = ""  # of a test that stands for all of them, or needs none
SERVER_FAULTS = {**server_faults.FAULTS, **redis_faults.FAULTS}


class Level(StrEnum):
    """What stands for the world."""

    SIMULATED = "simulated"  # virtual time, one seed one story; or the pure core, over all its cells
    STORE = "store"  # a real store, hurt
    PROCESSES = "processes"  # a real shop, worker, gateway and store


class Way(StrEnum):
    """How a fault is tried."""

    PLAY = "play"
    SERVER = "server"
    TESTS = "tests"


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing to run: a scene or a server's fault on one store, or a test with all its parameters. Several faults may share it.

    Attributes:
        what: the scene, the server's fault, or the id of the test.
        bug: NO_GUARD, or a deliberate bug, that a scene is played with: it must go wrong then, and be seen to.
    """

    way: Way
    store: str
    what: str
    bug: str = ""

    @property
    def name(self) -> str:
        """Unique in the campaign, and the same in the next run of it."""
        if self.way is not Way.PLAY:
            return self.what
        return f"{self.what} [{self.store}]" + (f" with: {self.bug}" if self.bug else "")

    @property
    def settings(self) -> Mapping[str, str]:
        """Of the shop's processes."""
        if not self.bug:
            return {}
        return {"FLEET_UNGUARDED": "yes"} if self.bug == NO_GUARD else {"FLEET_MUTANT": self.bug}


@dataclass(frozen=True, slots=True)
class Row:
    """A fault.

    Attributes:
        kind: what it befalls.
        mutant: a deliberate bug with which its first scene must be seen to break a promise; empty: none was chosen.
    """

    number: int
    fault: str
    kind: str
    levels: tuple[Level, ...]
    promises: tuple[str, ...]
    plays: tuple[tuple[str, tuple[str, ...]], ...]
    servers: tuple[str, ...]
    tests: tuple[str, ...]
    mutant: str = ""

    def trials(self) -> Iterator[Trial]:
        """Everything that tries it: first what takes no server."""
        yield from (Trial(Way.TESTS, store_of(each), each) for each in self.tests)
        yield from (Trial(Way.SERVER, name.partition(":")[0], name) for name in self.servers)
        yield from (Trial(Way.PLAY, store, scene) for scene, stores in self.plays for store in stores)

    def unguarded(self) -> Iterator[Trial]:
        """Its scenes, in a shop that has no guard: all but those that befall the guard itself."""
        yield from (replace(trial, bug=NO_GUARD) for trial in self.trials() if trial.way is Way.PLAY and not scenes()[trial.what].guarded)

    def with_mutant(self) -> Iterator[Trial]:
        """Its first scene on each store, with the bug that was chosen for it."""
        plays = [trial for trial in self.trials() if trial.way is Way.PLAY]
        yield from (replace(trial, bug=self.mutant) for trial in plays if self.mutant and trial.what == plays[0].what)


def rows() -> tuple[Row, ...]:
    """As the table has them."""
    return tuple(_row(each) for each in tomllib.loads(TABLE.read_text("utf-8"))["fault"])


def _row(table: Mapping[str, Any]) -> Row:
    return Row(
        number=table["number"],
        fault=table["name"],
        kind=table["kind"],
        levels=tuple(Level(each) for each in table["levels"]),
        promises=tuple(table["promises"]),
        plays=tuple((play["scene"], tuple(play.get("stores", STORES))) for play in table.get("plays", ())),
        servers=tuple(table.get("servers", ())),
        tests=tuple(table.get("tests", ())),
        mutant=table.get("mutant", ""),
    )


def store_of(test: str) -> str:
    """The store that a test is about, by the file that it is in."""
    file = test.partition("::")[0].rpartition("/")[2]
    for part, store in {"redis_cluster": "redis-cluster", "redis": "redis", "postgres": "postgresql", "sqlite": "sqlite"}.items():
        if part in file:
            return store
    return ANY_STORE


def scenes() -> Mapping[str, Scene]:
    """All of them by name, made anew: a line to the gateway has a memory."""
    return {**processes.SCENES, **gateway.scenes(), **shoppers.SCENES, **surroundings.SCENES}
