"""Free ports for servers that have to come back at the same one."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence

LOWEST, HIGHEST = 10_240, 22_767  # below those that Linux gives to whoever connects (32768 on), and so is what lies 10,000 above


def free_port() -> int:
    """A port that nobody listens at. Nobody who connects gets it while its server is down."""
    return free_ports(1)[0]


def free_ports(count: int, *, and_above: int = 0) -> Sequence[int]:
    """So many; nobody listens *and_above* them, either."""
    ports: set[int] = set()
    while len(ports) < count:
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST + 1)
        if all(_is_free(each) for each in {port, port + and_above}):
            ports.add(port)
    return list(ports)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what was said there last may still echo
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
