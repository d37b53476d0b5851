"""Hints between the processes on one file: each that listens has a datagram socket in a folder beside it.

A hint is sent to every socket there, and costs a system call for each. It never waits: a process that is busy has other
hints to read, and looks by itself anyway. A socket that nobody reads was left by a process that died: it is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cxguard.errors import StoreUnavailable
from cxguard.stores.base import EVERYTHING, TOPIC_CHARS_MAX

PATH_BYTES_MAX = 100  # a socket's address has room for little more, on every system
EARS_MAX = 256  # told of one hint; processes of one machine


def folder_of(path: Path) -> Path:
    """Where the sockets of a store's listeners are."""
    return path.with_name(path.name + "-ears")


def announce(path: Path, topics: Sequence[str]) -> None:
    """Send *topics* to every process that listens at the store of *path*. Where none ever did, to nobody."""
    folder = folder_of(path)
    with contextlib.suppress(FileNotFoundError), _reached(folder) as address, _socket() as sender:
        for name in sorted(each.name for each in folder.iterdir())[:EARS_MAX]:
            for topic in topics:
                _send(sender, topic.encode("ascii"), address / name)


async def listen(path: Path, hear: Callable[[str], None]) -> None:
    """Call *hear* with what is announced at the store of *path*, until cancelled.

    Raises:
        StoreUnavailable: no socket can be made there; whoever listens looks by itself.
    """
    folder, name = folder_of(path), f"{os.getpid()}-{secrets.token_hex(4)}"
    loop = asyncio.get_running_loop()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with _socket() as ear:
            with _reached(folder) as address:
                ear.bind(str(address / name))
            try:
                hear(EVERYTHING)
                while True:
                    hear((await loop.sock_recv(ear, TOPIC_CHARS_MAX)).decode("ascii", "replace"))
            finally:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"no hints from other processes at {folder} ({error}): whoever listens looks by itself") from error


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


@contextmanager
def _reached(folder: Path) -> Iterator[Path]:
    """The folder under a name short enough for a socket's address: on Linux one by an open descriptor always is."""
    if not Path("/proc/self/fd").is_dir():
        if len(os.fsencode(folder)) > PATH_BYTES_MAX - 24:
            raise OSError(f"the path of {folder} is too long for a socket")
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _send(sender: socket.socket, topic: bytes, ear: Path) -> None:
    try:
        sender.sendto(topic, str(ear))
    except ConnectionRefusedError:
        ear.unlink(missing_ok=True)  # nobody reads it any more
    except OSError:
        pass  # full, or gone since: only a hint
