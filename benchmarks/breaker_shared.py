"""Breakers of four processes on one store: how soon all have heard, and how many calls fail before. Nothing is asserted.

    python benchmarks/breaker_shared.py                          on SQLite, about a minute
    python benchmarks/breaker_shared.py --store redis            on a server that is started for it; also: postgresql
    python benchmarks/breaker_shared.py --store postgresql://..  on a server of your own
    python benchmarks/breaker_shared.py --rounds 3 --json        a look, for programs

Each round: four processes of `tests/breaker_process.py` have calls under way at a gateway that dies; each fails as often as
it is let. *Propagation* is the time from when one process that alone has calls opened, to when each of the others had heard.
*Failed calls*: how many all processes together sent to a gateway that is away, one at a time each; `slow` ones fail after a
tenth of a second, the others at once, faster than any store can tell it: those are bounded by each process's own threshold.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the servers are those of the tests

from postgres_server import running_postgres
from redis_servers import running_redis

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = 4
THRESHOLD = 5  # failures in a row, the default
ASKED = 20  # calls that each process would make of a gateway that is away


class Process:
    """One process, spoken to by lines."""

    def __init__(self, url: str, namespace: str, name: str) -> None:
        command = [sys.executable, str(ROOT / "tests" / "breaker_process.py"), url, namespace, name]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.opened_at: float | None = None
        self.answer()

    def send(self, words: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(words + "\n")
        self.popen.stdin.flush()

    def answer(self) -> dict[str, Any]:
        while True:
            said = self._read()
            if "label" not in said:
                return said

    def wait_until_opened(self) -> float:
        while self.opened_at is None:
            self._read()
        return self.opened_at

    def end(self) -> None:
        self.popen.kill()
        self.popen.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.popen.stdout is not None
        said: dict[str, Any] = json.loads(self.popen.stdout.readline())
        if said.get("label") == "opened" and self.opened_at is None:
            self.opened_at = said["at"]
        return said


def played(url: str, namespace: str) -> tuple[list[float], int, int]:
    """One round: milliseconds until each other process had heard; failed calls, slow ones and instant ones."""
    with ExitStack() as stack:
        four = []
        for number in range(PROCESSES):
            process = Process(url, namespace, f"p{number}")
            stack.callback(process.end)
            four.append(process)
        four[0].send(f"fail {ASKED}")
        first = four[0].wait_until_opened()
        heard = [(process.wait_until_opened() - first) * 1e3 for process in four[1:]]
        slow, instant = (_failed(words, url, f"{namespace} {words}", stack) for words in ("slow", "fail 1"))
        return heard, slow, instant


def _failed(words: str, url: str, namespace: str, stack: ExitStack) -> int:
    """How many calls went out after the gateway died, when all processes have them."""
    four = []
    for number in range(PROCESSES):
        process = Process(url, namespace, f"p{number}")
        stack.callback(process.end)
        four.append(process)
    went = 0
    for _ in range(ASKED):
        for process in four:
            process.send(words)
        went += sum(process.answer()["went"] for process in four)
    return went


@contextmanager
def store_at(store: str) -> Iterator[str]:
    """The address of a store that is there until the end of the block."""
    if store == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/shop.db"
    elif store in ("redis", "postgresql"):
        with running_redis() if store == "redis" else running_postgres() as server:
            yield server.url
    else:
        yield store


@click.command()
@click.option("--store", default="sqlite", show_default=True, help="sqlite, redis, postgresql: a new one; or an address.")
@click.option("--rounds", default=10, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(store: str, rounds: int, as_json: bool) -> None:
    """Breakers of four processes on one store."""
    with store_at(store) as url:
        played_rounds = [played(url, f"bench-{number}") for number in range(rounds)]
    heard = sorted(each for round in played_rounds for each in round[0])
    slow, instant = ([round[number] for round in played_rounds] for number in (1, 2))
    figures = {
        "propagation_ms_p50": round(statistics.median(heard), 1),
        "propagation_ms_p99": round(heard[min(len(heard) - 1, int(len(heard) * 0.99))], 1),
        "heard": len(heard),
        "failed_slow_calls": slow,
        "failed_instant_calls": instant,
        "failed_calls_goal": THRESHOLD + PROCESSES,
    }
    if as_json:
        click.echo(json.dumps(figures))
        return
    table = Table(title="shared breakers; goals: p99 under 50 ms, no more failed calls than threshold and calls under way")
    for name in ("propagation p50 ms", "p99 ms", "of", "failed slow calls, by round", "goal", "instant ones"):
        table.add_column(name, justify="right")
    table.add_row(
        str(figures["propagation_ms_p50"]),
        str(figures["propagation_ms_p99"]),
        str(figures["heard"]),
        " ".join(map(str, slow)),
        str(figures["failed_calls_goal"]),
        " ".join(map(str, instant)),
    )
    Console().print(table)


if __name__ == "__main__":
    main()
