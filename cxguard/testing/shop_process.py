"""A shop as a process: started by a command, waited for until its address answers, really killed, started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Self
from urllib.parse import urlsplit

READY_SECONDS_MAX = 30.0  # a cold start of a large framework on a busy machine
STOP_SECONDS_MAX = 10.0  # then it is killed
LOOK_SECONDS = 0.05
TAIL_CHARACTERS = 2_000  # of its output, shown when it did not start


class NotStarted(AssertionError):
    """Nobody answers at the shop's address. The text ends with what the command printed."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens at, at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class ShopProcess:
    """A command that serves a shop at *url*.

        async with ShopProcess([sys.executable, "-m", "uvicorn", "shop:app", "--port", str(port)], url=url) as shop:
            await shop.kill()
            await shop.start()

    The command is a list, or a line for the shell. It may run on, or end with 0 once it has started a server elsewhere
    (`systemctl start shop`); then *kill_command* says how that one is killed.

    Args:
        url: answers when the shop is ready; host and port are looked at.
        environment: set beside the variables of this process.
        kill_command: run instead of killing the process, with all its children, by number.
    """

    def __init__(
        self, command: Sequence[str] | str, *, url: str, environment: Mapping[str, str] | None = None, kill_command: str | None = None
    ) -> None:
        self.url = url
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._kill_command = kill_command
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        address = urlsplit(url)
        self._address = (address.hostname or "127.0.0.1", address.port or (443 if address.scheme == "https" else 80))

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self._output is not None:
            self._output.close()

    async def start(self) -> None:
        """Run the command, and wait until the address takes connections.

        Raises:
            NotStarted: the command failed, or nobody took a connection within READY_SECONDS_MAX.
        """
        await asyncio.to_thread(self._start)

    async def kill(self) -> None:
        """End it as a power cut would, with its children, and wait until it is gone.

        Raises:
            NotStarted: the kill command failed, or the address still answers, so the shop may still run.
        """
        await asyncio.to_thread(self._kill)

    async def stop(self) -> None:
        """End it politely, and for sure if that takes too long. Harmless if it has ended."""
        await asyncio.to_thread(self._stop)

    def _start(self) -> None:
        if self._output is None:
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process may write
        self._process = subprocess.Popen(
            self._command,
            shell=isinstance(self._command, str),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its children are killed with it, and Ctrl-C reaches us alone
        )
        try:
            self._wait(lambda: self.answers() or bool(self._process and self._process.poll()), "nobody answers")
            if self._process.poll():
                raise self._problem(f"nobody answers, the command ended with {self._process.poll()}")
        except NotStarted:
            self._stop()
            raise

    def answers(self) -> bool:
        """Whether the address takes connections."""
        try:
            socket.create_connection(self._address, timeout=1.0).close()
        except OSError:
            return False
        return True

    def _kill(self) -> None:
        if self._kill_command is not None:
            done = subprocess.run(self._kill_command, shell=True, capture_output=True, text=True, timeout=READY_SECONDS_MAX, check=False)
            if done.returncode != 0:
                raise NotStarted(f"the shop was not killed: {self._kill_command!r} ended with {done.returncode}: {done.stderr.strip()}")
        else:
            self._signal(signal.SIGKILL)
        process = self._process
        self._wait(lambda: (process is None or process.poll() is not None) and not self.answers(), "still there after it was killed")

    def _stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._gone()
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._gone()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return

    def _gone(self) -> None:
        if self._process is not None:
            self._process.wait(STOP_SECONDS_MAX)

    def _wait(self, until: Callable[[], bool], otherwise: str) -> None:
        give_up = time.monotonic() + READY_SECONDS_MAX
        while not until():
            if time.monotonic() > give_up:
                raise self._problem(f"{otherwise}, {READY_SECONDS_MAX:g} s long")
            time.sleep(LOOK_SECONDS)

    def _problem(self, what: str) -> NotStarted:
        return NotStarted(f"{what}: {self.url}, started by: {self._shown}; its output ends:\n{self._tail()}")

    @property
    def _shown(self) -> str:
        return self._command if isinstance(self._command, str) else " ".join(self._command)

    def _tail(self) -> str:
        assert self._output is not None
        self._output.seek(0)
        return self._output.read().decode("utf-8", "replace")[-TAIL_CHARACTERS:]
