"""A fleet that shops for long, with a fault every few seconds, and whether anything grows: memory, open files, waits.

Two processes are never killed: the survivors, whose growth is judged, once the run is long enough to say anything:
memory, files and waits of the last third are compared with those of the middle one; the first is for warming up.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from campaign.playing import LEASE_SECONDS, control, pause
from fleet_places import Place
from fleet_shoppers import Street, wishes
from fleet_world import Fleet, Say, Told, fleet_running
from store_machines import STORES, postgres_machine

SEED = 23
APPS, WORKERS = 3, 2
SAMPLES_MIN, SAMPLE_SECONDS_MAX = 18, 10.0
JUDGED_SECONDS = 300.0  # below, caches are still filling
MEMORY_SHARE, MEMORY_KB = 0.05, 8_192  # more growth than the larger one, from the middle third to the last, is a leak
FILES = 10
P50_TIMES, P50_SECONDS = 1.5, 0.02
P99_TIMES, P99_SECONDS = 1.5, 0.5
CLOSING_SECONDS = 150.0
STORES_SOAKED = ("sqlite", "postgresql")

Hurt = Callable[[Fleet], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One look.

    Attributes:
        memory_kb, files: of each survivor.
        p50_seconds, p99_seconds: of the answers since the look before; None: there was none.
    """

    at: float
    memory_kb: Mapping[str, int]
    files: Mapping[str, int]
    p50_seconds: float | None
    p99_seconds: float | None


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a long run has shown."""

    told: Told
    faults: Mapping[str, int]
    samples: Sequence[Sample]

    def failures(self) -> list[str]:
        wrong = [f"{name}: {number}, not 0" for name, number in self.told.wrong().items() if number]
        stories = list(self.told.stories) if wrong else []
        return wrong + stories + (growth(self.samples) if self.samples[-1].at >= JUDGED_SECONDS else [])


def growth(samples: Sequence[Sample]) -> list[str]:
    """What is larger in the last third than it was in the middle one, by more than chance."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    found = []
    for name in samples[0].memory_kb:
        before, after = (statistics.median(each.memory_kb[name] for each in part) for part in (middle, last))
        if after - before > max(MEMORY_KB, before * MEMORY_SHARE):
            found.append(f"memory of {name} grew from {before:,.0f} to {after:,.0f} kB")
        few, many = (max(each.files[name] for each in part) for part in (middle, last))
        if many > few + FILES:
            found.append(f"open files of {name} grew from {few} to {many}")
    return (
        found + _slower(middle, last, "p50_seconds", P50_TIMES, P50_SECONDS) + _slower(middle, last, "p99_seconds", P99_TIMES, P99_SECONDS)
    )


def _slower(middle: Sequence[Sample], last: Sequence[Sample], name: str, times: float, seconds: float) -> list[str]:
    waits = [[wait for each in part if (wait := getattr(each, name)) is not None] for part in (middle, last)]
    if not all(waits):
        return []
    before, after = map(statistics.median, waits)
    return [f"{name[:3]} grew from {before * 1000:.0f} to {after * 1000:.0f} ms"] if after > before * times + seconds else []


async def soaked(
    folder: Path, store: str, *, seconds: float, rate: float = 5.0, every_seconds: float = 10.0, say: Say = lambda line: None
) -> Soaked:
    """Shop for so long, with a fault every so often, and judge."""
    async with (
        _store(store, folder) as (url, hurt),
        fleet_running(folder, store_url=url, apps=APPS, workers=WORKERS, lease_seconds=LEASE_SECONDS, say=say) as fleet,
    ):
        watch = _Watch(fleet, every_seconds=min(SAMPLE_SECONDS_MAX, seconds / SAMPLES_MIN), say=say)
        faults: Counter[str] = Counter()

        async def during() -> None:
            looking = asyncio.ensure_future(watch.look_on())
            try:
                await _hurt_on(fleet, hurt, faults, seconds=seconds, every_seconds=every_seconds, say=say)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

        wanted = wishes(round(seconds * rate), rate=rate, seed=SEED)
        told = await fleet.through(wanted, during=during, seconds_max=seconds + CLOSING_SECONDS)
    return Soaked(told, dict(faults), watch.samples)


@asynccontextmanager
async def _store(store: str, folder: Path) -> AsyncIterator[tuple[str, Hurt]]:
    """Its address, and what can be done to it."""
    if store == "postgresql":
        with postgres_machine() as machine:

            async def killed(fleet: Fleet) -> None:
                machine.kill()
                await asyncio.to_thread(machine.start)

            yield machine.url, killed
        return
    with STORES[store](folder) as url:
        yield url, _file_held


async def _file_held(fleet: Fleet) -> None:
    """Another program holds the file for a moment."""
    file = fleet.judge_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=5.0, check_same_thread=False)) as connection:
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        await pause(1.5)
        connection.rollback()


# --- the faults


def _gateway(script: str) -> Hurt:
    async def hurt(fleet: Fleet) -> None:
        await control(fleet, "PUT", "/control", script=f"{script}, healthy")

    return hurt


async def _app_killed(fleet: Fleet) -> None:
    await fleet.apps[1].kill()
    await fleet.apps[1].again()


async def _worker_killed(fleet: Fleet) -> None:
    await fleet.workers[1].kill()
    await fleet.workers[1].again()


async def _app_frozen(fleet: Fleet) -> None:
    fleet.apps[2].freeze()
    await pause(LEASE_SECONDS + 1.0)
    fleet.apps[2].thaw()


async def _app_ended(fleet: Fleet) -> None:
    await fleet.apps[2].stop()
    await fleet.apps[2].again()


async def _hurt_on(fleet: Fleet, store: Hurt, faults: Counter[str], *, seconds: float, every_seconds: float, say: Say) -> None:
    """One fault after another until the time is over."""
    all_faults: list[tuple[str, Hurt]] = [
        ("a process of the shop killed", _app_killed),
        ("gateway charges, and answers 500", _gateway("error_after 2s")),
        ("the store hurt", store),
        ("a worker killed", _worker_killed),
        ("gateway refuses", _gateway("refuse 3s")),
        ("a process frozen past its lease", _app_frozen),
        ("gateway charges, and never answers", _gateway("time_out_after 2s")),
        ("a process of the shop ended", _app_ended),
        ("gateway throttles", _gateway("throttle 2s")),
    ]
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    number = 0
    while (next_at := loop.time() + every_seconds) <= ends_at:
        name, hurt = all_faults[number % len(all_faults)]
        say(f"fault {number + 1}: {name}")
        await hurt(fleet)
        faults[name] += 1
        number += 1
        await pause(max(0.0, next_at - loop.time()))


# --- the looks


@dataclass
class _Watch:
    """Looks at the survivors, and at what shoppers waited."""

    fleet: Fleet
    every_seconds: float
    say: Say
    samples: list[Sample] = field(default_factory=list)
    _waits_seen: int = 0

    async def look_on(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await pause(self.every_seconds)
            street = self.fleet.street
            assert street is not None, "they are shopping"
            self.samples.append(self._sample(loop.time() - began, street))
            self.say(line_of(self.samples[-1]))

    def _sample(self, at: float, street: Street) -> Sample:
        waits = sorted(street.waits[self._waits_seen :])
        self._waits_seen = len(street.waits)
        survivors: dict[str, Place] = {"app": self.fleet.apps[0], "worker": self.fleet.workers[0]}
        return Sample(
            at=at,
            memory_kb={name: _memory_kb(place.pid) for name, place in survivors.items()},
            files={name: len([*Path(f"/proc/{place.pid}/fd").iterdir()]) for name, place in survivors.items()},
            p50_seconds=waits[len(waits) // 2] if waits else None,
            p99_seconds=waits[int(len(waits) * 0.99)] if waits else None,
        )


def _memory_kb(pid: int) -> int:
    """Resident."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def line_of(sample: Sample) -> str:
    """One look, in a line."""
    waits = "no answers" if sample.p50_seconds is None else f"p50 {sample.p50_seconds * 1000:.0f} ms, p99 {sample.p99_seconds or 0.0:.2f} s"
    places = "; ".join(f"{name} {sample.memory_kb[name] / 1024:.1f} MB, {sample.files[name]} files" for name in sample.memory_kb)
    return f"{sample.at:.0f} s: {places}; {waits}"
