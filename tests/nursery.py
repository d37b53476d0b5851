"""Processes that are born warm: what all shops of the tests import is imported once, by a nurse that does nothing else.

A cold start of a guarded shop costs a second of a core, nearly all of it imports; the tests kill and start hundreds. The nurse
(the standard library's fork server) forks a child that has run nothing yet, and the child becomes the program: its own session,
environment, arguments and output, and a real process to kill. A pre-forking server with `--preload` does the same to a shop.

Only the tests' own programs are born here. What a reader would start (examples, commands, framework shops) starts cold, as it does there.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
PRELOADED = [
    *("uvicorn.main", "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"),
    *("httpx", "starlette.applications", "starlette.responses", "starlette.routing"),
    *("cxguard.asgi", "cxguard.engine.bridge", "cxguard.gateways.http"),
    *("cxguard.stores.sqlite", "cxguard.stores.redis", "cxguard.stores.postgres", "cxguard.stores.address"),
]
NURSE = multiprocessing.get_context("forkserver")
NURSE.set_forkserver_preload(PRELOADED)
# Starting a process looks after all that have ended, and whose end is read by two at once is lost.
ENDS = threading.Lock()


@dataclass(frozen=True)
class Life:
    """What a child is given on its way."""

    words: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    listener: socket.socket | None
    inward: Connection | None
    out: Connection


class Warm:
    """A program of the tests, with the ways of a `subprocess.Popen`: `python -m module *arguments`, born warm.

    Args:
        listener: its file number is the program's last argument.
        talks: it reads and answers: it has an input of its own, and its errors go where ours do. Else all it says is its output.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str],
        folder: Path = ROOT,
        listener: socket.socket | None = None,
        talks: bool = False,
    ) -> None:
        out, its_out = NURSE.Pipe(duplex=False)
        its_in, into = NURSE.Pipe(duplex=False) if talks else (None, None)
        life = Life((module, *arguments), dict(env), folder, listener, its_in, its_out)
        self._process = NURSE.Process(target=_live, args=(life,))
        with ENDS:
            self._process.start()
        its_out.close()
        if its_in is not None:
            its_in.close()
        self.stdout = _text(out, "r")
        self.stdin = _text(into, "w") if into is not None else None
        self.pid: int = self._process.pid or 0

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        with ENDS:
            return self._process.exitcode

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait for its end, and let go of its pipes."""
        self.wait()
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                pipe.close()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return code


def _text(end: Connection, mode: str) -> TextIO:
    """The same pipe as lines of text."""
    descriptor = os.dup(end.fileno())
    end.close()
    return os.fdopen(descriptor, mode, encoding="utf-8", errors="replace")


def _line_by_line(descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)


def _live(life: Life) -> None:
    """In the child: become the program."""
    os.setsid()
    os.dup2(life.out.fileno(), 1)
    if life.inward is None:
        os.dup2(life.out.fileno(), 2)
    else:
        os.dup2(life.inward.fileno(), 0)
        life.inward.close()
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    life.out.close()
    sys.stdout, sys.stderr = _line_by_line(1), _line_by_line(2)
    os.chdir(life.folder)
    os.environ.clear()
    os.environ.update(life.env)
    module, *arguments = life.words
    sys.argv = [module, *arguments, *([str(life.listener.fileno())] if life.listener is not None else [])]
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(life.folder)]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a child of the fork server leaves without
