"""Hints between processes on one SQLite file: across processes, past dead ones, under long paths, and never in the way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from cxguard.errors import StoreUnavailable
from cxguard.stores.base import EVERYTHING
from cxguard.stores.sqlite import ears

LISTENER = """
import asyncio, sys
from pathlib import Path
from cxguard.stores.sqlite import ears
asyncio.run(ears.listen(Path(sys.argv[1]), lambda topic: print(repr(topic), flush=True)))
"""


def listening(path: Path) -> subprocess.Popen[str]:
    """A process that listens, and has begun to."""
    process = subprocess.Popen([sys.executable, "-c", LISTENER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "''\n"
    return process


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_another_process_hears(tmp_path: Path) -> None:
    """Both of two processes hear each topic."""
    listeners = [listening(tmp_path / "shop.db") for _ in range(2)]
    try:
        ears.announce(tmp_path / "shop.db", ["breakers:shop", "queue:shop"])
        assert [heard(process) for _ in range(2) for process in listeners] == ["'breakers:shop'"] * 2 + ["'queue:shop'"] * 2
    finally:
        for process in listeners:
            ended(process)


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    """Its socket is removed by the next hint, and the others hear as ever."""
    path = tmp_path / "shop.db"
    killed, alive = listening(path), listening(path)
    ended(killed)
    try:
        ears.announce(path, ["queue:shop"])
        assert heard(alive) == "'queue:shop'"
        assert len(list(ears.folder_of(path).iterdir())) == 1
    finally:
        ended(alive)


def test_a_process_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Ten thousand hints to one that is stopped: they are lost, and nobody waits."""
    path = tmp_path / "shop.db"
    process = listening(path)
    try:
        process.send_signal(19)  # SIGSTOP
        for _ in range(10_000):
            ears.announce(path, ["queue:shop"])
    finally:
        ended(process)


@pytest.mark.asyncio
async def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    """Longer than a socket's address can be."""
    folder = tmp_path / ("deep" * 40)
    folder.mkdir()
    got: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(ears.listen(folder / "shop.db", got.put_nowait))
    assert await got.get() == EVERYTHING
    ears.announce(folder / "shop.db", ["queue:shop"])
    assert await got.get() == "queue:shop"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert list(ears.folder_of(folder / "shop.db").iterdir()) == []


@pytest.mark.asyncio
async def test_where_no_socket_can_be_made_it_says_so(tmp_path: Path) -> None:
    """No folder, no hints: whoever listens is told, and looks by itself."""
    with pytest.raises(StoreUnavailable, match="looks by itself"):
        await ears.listen(tmp_path / "nowhere" / "shop.db", print)


def test_announcing_where_nobody_ever_listened(tmp_path: Path) -> None:
    """Nothing is made, nothing fails."""
    ears.announce(tmp_path / "shop.db", ["queue:shop"])
    assert list(tmp_path.iterdir()) == []
