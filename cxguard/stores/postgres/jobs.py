"""What callers ask a batch to write: each names the rows that it needs, and works on them once they are locked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from cxguard.stores.base import SessionBatch
from cxguard.stores.verbs import Table


@dataclass(frozen=True, slots=True)
class RecordJob:
    """A verb over records that are known by name.

    Attributes:
        numbers: how many lease tokens and revisions it may need.
    """

    run: Callable[[Table[Any]], Any]
    ids: tuple[str, ...]
    claims: tuple[str, ...] = ()
    numbers: int = 4


@dataclass(frozen=True, slots=True)
class TakeJob:
    """Lease what is ripe."""

    namespace: str
    rules: tuple[str, ...]
    holder: str
    lease_seconds: float
    limit: int


@dataclass(frozen=True, slots=True)
class PruneJob:
    """Forget what may be forgotten."""

    namespace: str
    limit: int


@dataclass(frozen=True, slots=True)
class SwapJob:
    """Replace a small value by its revision."""

    key: str
    revision: int
    value: bytes


@dataclass(frozen=True, slots=True)
class SessionJob:
    """Write sessions and counters, or nothing."""

    batch: SessionBatch


Job: TypeAlias = RecordJob | TakeJob | PruneJob | SwapJob | SessionJob
