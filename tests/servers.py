"""Real processes for tests: started on a free port, waited for without sleeping, ended by their own number.

    def test_x(serve):
        shop = serve("examples.shop:app", env={"SHOP_GATEWAY": "..."})
        httpx.get(shop.url + "/basket")
        shop.kill()                                   # as a power cut would
        shop = serve("examples.shop:app", port=shop.port)   # the same address again
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from nursery import ROOT, Warm

READY_SECONDS_MAX = 30.0  # a cold start of a large framework on a busy machine
STOP_SECONDS_MAX = 10.0  # then it is killed
TAIL_CHARS = 4_000  # of the log, shown when a process was not ready
BACKLOG = 1_024
READY = "Uvicorn running on"
LOOK_PAUSE_SECONDS = 0.05


class NotReady(AssertionError):
    """The process ended, or did not say that it is ready, in time. The text ends with its log."""


class Process:
    """One process of its own group, whose output a thread keeps in memory, so that a full pipe never stops it."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], ready: str, pass_fds: Sequence[int] = ()) -> None:
        self.command = tuple(command)
        self._ready_text = ready
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._popen = self._born({**_environment(), **env}, pass_fds)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def log(self) -> str:
        """What it has written so far, to both of its outputs."""
        return "".join(self._lines)

    @property
    def ready_line(self) -> str:
        """The line that said: ready."""
        return next((line for line in self._lines if self._ready_text in line), "")

    def wait_ready(self) -> None:
        """Until the line has come.

        Raises:
            NotReady: it ended before, or said nothing for READY_SECONDS_MAX. It has been killed.
        """
        self._wait_for(self._ready_text, seconds_max=READY_SECONDS_MAX)
        if not self.ready_line:
            self.kill()
            raise NotReady(f"{' '.join(self.command)} was not ready, exit code {self.exit_code}; its log ends:\n{self.log[-TAIL_CHARS:]}")

    def wait_log(self, text: str, *, seconds_max: float = 10.0) -> None:
        """Until a line of its log contains *text*: for a fact that a test has to wait for."""
        self._wait_for(text, seconds_max=seconds_max)
        assert text in self.log, f"{text!r} is not in the log after {seconds_max:g} s; it ends:\n{self.log[-TAIL_CHARS:]}"

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def wait_gone(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self._gone()

    def pause(self) -> None:
        """Freeze it where it stands: it keeps its sockets and answers nothing."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would, with its children, and wait until it is gone. Harmless if it has ended."""
        self._signal(signal.SIGKILL)
        self._gone()

    def stop(self) -> int:
        """End it politely, and for sure if that takes too long. Returns its exit code."""
        self._signal(signal.SIGCONT)  # a frozen one could not hear
        self._signal(signal.SIGTERM)
        try:
            self._popen.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        return self._gone()

    def _born(self, env: Mapping[str, str], pass_fds: Sequence[int]) -> subprocess.Popen[str] | Warm:
        return subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(pass_fds),
            start_new_session=True,  # its children are ended with it, and Ctrl-C reaches the tests alone
            text=True,
            errors="replace",
        )

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _gone(self) -> int:
        code = self._popen.wait(STOP_SECONDS_MAX)
        self._reader.join(STOP_SECONDS_MAX)
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        return code

    def _wait_for(self, text: str, *, seconds_max: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._ended or text in self.log, seconds_max)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._hear(line)
        self._hear("", ended=True)

    def _hear(self, line: str, *, ended: bool = False) -> None:
        with self._news:
            self._lines.append(line)
            self._ended = ended
            self._news.notify_all()


class Server(Process):
    """A process that answers at `url`."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], ready: str, port: int, pass_fds: Sequence[int] = ()) -> None:
        super().__init__(command, env=env, ready=ready, pass_fds=pass_fds)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


class WarmServer(Server):
    """One of the tests' own shops: it is born with its imports done, which saves the second that each start costs."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], ready: str, listener: socket.socket) -> None:
        self._listener = listener
        super().__init__(command, env=env, ready=ready, port=listener.getsockname()[1])

    def _born(self, env: Mapping[str, str], pass_fds: Sequence[int]) -> Warm:
        _, _, module, *arguments = self.command
        return Warm(module, *arguments, env=env, listener=self._listener)


def between_looks() -> None:
    """Leave the cores to whom a test looks at: asked again and again without a pause, a shop has none left to do it."""
    threading.Event().wait(LOOK_PAUSE_SECONDS)


AnyProcess = TypeVar("AnyProcess", bound=Process)


class Serve(Protocol):
    """Starts `uvicorn app` and waits until it answers. `port` 0 takes a free one; `options` are uvicorn's own."""

    def __call__(self, app: str, *, env: Mapping[str, str] = ..., port: int = 0, options: Sequence[str] = ()) -> Server: ...


class Spawn(Protocol):
    """Starts any command and waits until a line of its output contains `ready`."""

    def __call__(self, command: Sequence[str], *, ready: str, env: Mapping[str, str] = ...) -> Process: ...


def listening(port: int = 0) -> socket.socket:
    """A listening socket on loopback: nobody else can take the port between asking for it and using it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only where it made the socket: 40 ms an answer
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    return listener


@contextmanager
def started() -> Iterator[tuple[Serve, Spawn]]:
    """The two starters; whatever they started has ended when the block ends."""
    processes: list[Process] = []

    def serve(app: str, *, env: Mapping[str, str] | None = None, port: int = 0, options: Sequence[str] = ()) -> Server:
        with listening(port) as listener:
            # The server gets the socket itself, so the address is ours from now on, also while it starts.
            server = _server(app, env=env or {}, options=options, listener=listener)
        return _awaited(server, processes)

    def spawn(command: Sequence[str], *, ready: str, env: Mapping[str, str] | None = None) -> Process:
        return _awaited(Process(command, env=env or {}, ready=ready), processes)

    try:
        yield serve, spawn
    finally:
        _end(processes)


def _server(app: str, *, env: Mapping[str, str], options: Sequence[str], listener: socket.socket) -> Server:
    command = [sys.executable, "-m", "uvicorn", app, "--no-use-colors", *options, "--fd"]
    if _is_ours(app) and not any(name.startswith("PYTHON") for name in env):
        return WarmServer(command, env=env, ready=READY, listener=listener)
    number, port = listener.fileno(), listener.getsockname()[1]
    return Server([*command, str(number)], env=env, ready=READY, port=port, pass_fds=[number])


def _is_ours(app: str) -> bool:
    """Whether it lies beside the tests: only those are born warm."""
    path = Path(*app.partition(":")[0].split(".")).with_suffix(".py")
    return path.parts[0] == "tests" or (ROOT / "tests" / path).is_file()


def _awaited(process: AnyProcess, processes: list[Process]) -> AnyProcess:
    processes.append(process)
    process.wait_ready()
    return process


def _end(processes: Sequence[Process]) -> None:
    enders = [threading.Thread(target=process.stop) for process in processes]  # all at once: one slow end is enough
    for thread in enders:
        thread.start()
    for thread in enders:
        thread.join()


def _environment() -> dict[str, str]:
    """Ours, with the project's own modules in reach, and output that does not wait in a buffer."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CXGUARD_", "PYTEST_"))}
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONUNBUFFERED": "1"}

