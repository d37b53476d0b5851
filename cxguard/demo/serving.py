"""Running an app as a process of the demo: a free port, one line that says where, and an end with its parent."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Mapping

import uvicorn

BACKLOG = 1_024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Who connects before the server is up waits in its backlog."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only where it made the socket: 40 ms an answer
    listener.bind((host, port))
    listener.listen(BACKLOG)
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def say_ready(facts: Mapping[str, str | int]) -> None:
    """Tell whoever started this process that it answers now: one line of JSON."""
    sys.stdout.write(json.dumps(dict(facts)) + "\n")
    sys.stdout.flush()


def end_with_parent(server: uvicorn.Server) -> None:
    """Stop *server* when standard input closes: a parent that was killed cannot leave us behind."""

    def wait() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=wait, name="parent", daemon=True).start()
