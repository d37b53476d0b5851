"""A few scenes of the fault campaign, and a soak of some seconds. `benchmarks/faults.py` and `benchmarks/soak.py` are the long runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from campaign.playing import Scene, played
from campaign.row import scenes
from campaign.soaking import JUDGED_SECONDS, Sample, growth, soaked

pytestmark = [pytest.mark.long, pytest.mark.server]
ORDERS = 60
SOME = [("frozen past its lease", "postgresql"), ("answers lost on the way", "redis")]
SAMPLES = 36


def short(name: str) -> Scene:
    return replace(scenes()[name], orders=ORDERS)


@pytest.mark.asyncio
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "store"), SOME, ids=[f"{name}, {store}" for name, store in SOME])
async def test_promises_hold_through_a_fault(name: str, store: str, tmp_path: Path) -> None:
    """It came about, and nobody was charged twice, told wrong or lost."""
    shown = await played(short(name), tmp_path, store)
    assert shown.failures() == []


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_judge_sees_a_shop_without_a_guard(tmp_path: Path) -> None:
    """The same fault behind no guard: charged twice, and told "declined" over a charge."""
    scene = short("answers lost on the way").changed({"FLEET_UNGUARDED": "yes"})
    shown = await played(scene, tmp_path, "sqlite")
    assert min(shown.wrong["P1"], shown.wrong["P2"]) > 0


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_soak_of_some_seconds_goes_wrong_nowhere(tmp_path: Path) -> None:
    """A fault every few seconds, the store's death among them; the judge counts nothing, and the survivors are looked at throughout."""
    found = await soaked(tmp_path, "postgresql", seconds=16.0, every_seconds=3.0)
    assert found.failures() == []
    assert found.faults["the store hurt"] >= 1
    assert len(found.samples) >= 10


def samples(*, memory_kb: int = 0, files: int = 0, seconds: float = 0.0) -> list[Sample]:
    """Looks at a process that grows by so much from one to the next."""
    return [
        Sample(n * 10.0, {"app": 80_000 + n * memory_kb}, {"app": 20 + n * files}, 0.02 + n * seconds, 0.5 + n * seconds)
        for n in range(SAMPLES)
    ]


@pytest.mark.parametrize(
    ("grows", "what"),
    [({"memory_kb": 1_000}, ["memory"]), ({"files": 1}, ["open files"]), ({"seconds": 0.4}, ["p50", "p99"])],
    ids=["memory", "files", "waits"],
)
def test_growth_is_seen(grows: dict[str, float], what: list[str]) -> None:
    """A leak of a megabyte or a file in ten seconds, or answers that come ever later."""
    found = growth(samples(**grows))  # type: ignore[arg-type]
    assert [any(line.startswith(each) for line in found) for each in what] == [True] * len(found)


def test_what_stays_as_it_is_has_not_grown() -> None:
    """Nor is a run judged that is too short to say anything."""
    assert growth(samples()) == []
    assert samples()[-1].at >= JUDGED_SECONDS
