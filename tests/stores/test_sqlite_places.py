"""Where a SQLite store may lie, and what is said of a place where it may not."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cxguard.clock import SystemClock
from cxguard.errors import ConfigurationError
from cxguard.stores.sqlite import SQLiteStore
from cxguard.stores.sqlite.place import check_file_system, file_system_of


async def refusal(path: Path) -> ConfigurationError:
    """The error of a start that must fail."""
    store = SQLiteStore(path, clock=SystemClock())
    with pytest.raises(ConfigurationError) as caught:
        await store.start()
    await store.stop()
    return caught.value


@pytest.mark.asyncio
async def test_missing_folder_is_named(tmp_path: Path) -> None:
    """A folder that is not there is a mistake in the settings, and the text says how to make it."""
    error = await refusal(tmp_path / "none" / "shop.db")
    assert f"mkdir -p {tmp_path / 'none'}" in str(error)


@pytest.mark.asyncio
async def test_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    """A folder's name is answered with the name of a file in it."""
    error = await refusal(tmp_path)
    assert "name a file in it" in str(error)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_place_without_the_right_to_write_is_refused(what: str) -> None:
    """A read-only folder or file is refused at start, for a user who is not root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "shop.db").touch()
        (folder / "shop.db").chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        said = as_nobody(START, folder / "shop.db")
        folder.chmod(0o777)
    assert re.search(r"ConfigurationError: cannot write to .*give this user the right", said)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/data/shop", "ext4"),
        ("/net/share/data", "nfs4"),
        ("/net/share2", "ext4"),
        ("/net/my share/x", "cifs"),
        ("/net/share/local", "xfs"),
        ("/over/x", "tmpfs"),
    ],
)
def test_file_system_is_found_by_the_longest_mount(folder: str, kind: str) -> None:
    """The mount that is deepest, and the last one there, is the one a folder is on."""
    mounts = (
        "/dev/vda / ext4 rw 0 0\nserver:/x /net/share nfs4 rw 0 0\n//s/y /net/my\\040share cifs rw 0 0\n"
        "/dev/vdb /net/share/local xfs rw 0 0\ns:/z /over nfs rw 0 0\ntmpfs /over tmpfs rw 0 0\nbroken\n"
    )
    assert file_system_of(Path(folder), mounts) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "9p"])
def test_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    """A network file system does not hold the locks that the log needs."""
    with pytest.raises(ConfigurationError, match=re.escape(f"({kind}): put the store on a disk of this machine")):
        check_file_system(tmp_path, mounts=f"x / {kind} rw 0 0\n")


def test_unknown_mounts_are_no_obstacle(tmp_path: Path) -> None:
    """A system that does not tell its mounts is not refused for that."""
    check_file_system(tmp_path, mounts="")


def as_nobody(script: str, path: Path) -> str:
    """Run *script* as a user without rights; what it said."""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


START = """
import asyncio, os, sys
from cxguard.clock import SystemClock
from cxguard.stores.sqlite import SQLiteStore
if os.getuid() == 0:
    os.setuid(65534)
asyncio.run(SQLiteStore(sys.argv[1], clock=SystemClock()).start())
"""
