"""Breakers of four real processes on one store: what they tell one another, and that together they keep what is promised."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from nursery import Warm
from postgres_server import PostgresServer, running_postgres

PROCESSES = 4
LEASE_SECONDS = 2.0  # see `breaker_process.POLICY`
PATIENCE_SECONDS = 10.0  # of who asks the store for a probe: on a machine that is busy it is late, and then each goes by itself

pytestmark = pytest.mark.server


class Process:
    """A process with breakers. What it says about labels is kept apart from its answers."""

    def __init__(self, url: str, namespace: str, name: str) -> None:
        self.popen = Warm("breaker_process", url, namespace, name, f"{PATIENCE_SECONDS}", env=os.environ, talks=True)
        self.labels: list[dict[str, Any]] = []
        assert self.line()["ready"]

    def line(self) -> dict[str, Any]:
        """The next answer."""
        while True:
            said = self._read()
            if "label" not in said:
                return said
            self.labels.append(said)

    def label(self, name: str) -> dict[str, Any]:
        """Wait until the breaker is said to have that label."""
        while True:
            for said in self.labels:
                if said["label"] == name:
                    return said
            self.labels.append(self._read())

    def ask(self, words: str) -> dict[str, Any]:
        self.send(words)
        return self.line()

    def send(self, words: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(words + "\n")
        self.popen.stdin.flush()

    def end(self) -> None:
        self.popen.kill()
        self.popen.close()

    def _read(self) -> dict[str, Any]:
        text = self.popen.stdout.readline()
        assert text, "the process has died"
        said: dict[str, Any] = json.loads(text)
        return said


@contextmanager
def processes(url: str) -> Iterator[list[Process]]:
    namespace, started = secrets.token_hex(4), []  # tests share a server
    with ExitStack() as stack:
        for number in range(PROCESSES):
            process = Process(url, namespace, f"p{number}")
            stack.callback(process.end)
            started.append(process)
        yield started


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url


@pytest.fixture
def four(url: str) -> Iterator[list[Process]]:
    with processes(url) as started:
        yield started


def opened(four: list[Process]) -> None:
    """Two failures in each, and it is open everywhere."""
    for process in four:
        process.ask("fail 2")
    for process in four:
        process.label("opened")


def test_what_one_finds_out_all_hear(four: list[Process]) -> None:
    """Alone it is the proof: five failures of one process open it in the three that had no call, with one revision."""
    four[0].ask("fail 5")
    assert [process.label("opened")["revision"] for process in four] == [2] * PROCESSES
    assert [process.ask("well 10")["went"] for process in four[1:]] == [0] * 3


def test_two_probes_of_two_hundred_calls(four: list[Process]) -> None:
    """Fifty calls at once in each of four processes when the pause is over: two go, and they close it for all."""
    opened(four)
    for process in four:
        process.send("hold 50")
    held = [process.line() for process in four]
    assert (sum(each["went"] for each in held), sum(each["probes"] for each in held)) == (2, 2)
    for process in four:
        process.ask("end well")
    assert {process.label("closed")["revision"] for process in four} == {4}


def test_stragglers_make_one_transition(four: list[Process]) -> None:
    """Thirty-two calls under way over four processes fail: the revision moves by one, and each tells it once."""
    for process in four:
        assert process.ask("hold 8")["went"] == 8
    for process in four:
        process.send("end fail")
    assert [process.line()["ended"] for process in four] == [8] * PROCESSES
    for process in four:
        process.label("opened")
        process.ask("tell")
        assert process.ask("state")["states"] == [["open", 2, False]]
        assert [said["label"] for said in process.labels] == ["opened"]


def test_a_dead_holders_probes_lapse(four: list[Process]) -> None:
    """The process with both probes is killed: at the end of their lease, not before, another one gets one."""
    opened(four)
    assert [four[0].ask("hold 1")["probes"] for _ in range(2)] == [1, 1]
    began = four[0].label("half_opened")["at"]
    four[0].end()
    got = four[1].ask("probe")
    assert got["probe"]
    assert got["at"] - began > LEASE_SECONDS - 0.5  # it was leased a moment before that was told


def test_one_with_a_broken_network_stops_itself_alone(four: list[Process]) -> None:
    """The others have good calls: its failures open its own copy, and nobody else's."""
    for process in four[1:]:
        process.ask("well 3")
        process.ask("tell")
    four[0].ask("fail 5")
    four[0].label("opened")
    for process in four:
        process.ask("tell")
    assert [process.ask("state")["states"] for process in four] == [[["open", 2, True]], *[[["closed", 1, False]]] * 3]


def test_while_the_store_is_dead_each_goes_by_itself() -> None:
    """The server is killed: one process opens by its own failures and probes by its own rule, and nobody hangs."""
    with running_postgres() as server, processes(server.url) as four:
        os.kill(server.pid, signal.SIGKILL)
        assert four[0].ask("fail 6")["went"] == 5
        four[0].label("opened")
        assert four[0].ask("hold 1") == {"went": 1, "probes": 1}
        assert four[1].ask("well 10")["went"] == 10
