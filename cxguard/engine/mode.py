"""Whether a guard acts, where its pages live, and what it is called as a holder of leases."""

from __future__ import annotations

import os
import re
import secrets
import socket
from enum import StrEnum

from cxguard.errors import ConfigurationError


class Mode(StrEnum):
    """Whether the guard acts."""

    GUARD = "guard"
    WATCH = "watch"  # changes no byte and holds no request: records what it would have done


_PREFIX = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~\-]+)+")  # nothing in a link means something else


def mode_of(mode: Mode | str) -> Mode:
    """The mode, by its name.

    Raises:
        ConfigurationError: there is none of that name.
    """
    try:
        return Mode(mode)
    except ValueError:
        raise ConfigurationError(f'mode={mode!r} is none: write Guard(..., mode="guard") or mode="watch"') from None


def prefix_of(prefix: str) -> str:
    """The path below which the status pages live.

    Raises:
        ConfigurationError: it cannot be one.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(f'prefix={prefix!r} cannot be a path: write Guard(..., prefix="/_cxguard")')
    return prefix


def holder_name() -> str:
    """Who holds a lease: this process, told apart from an earlier one with the same number."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(3)}"
