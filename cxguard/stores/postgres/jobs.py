"""What callers ask a batch to do.

A `KnownJob` and those beside it need no look before they write: one round trip. The others name the rows that they need,
and work on them once these are locked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from cxguard.core.operation import Operation
from cxguard.stores.base import SessionBatch
from cxguard.stores.verbs import Table


@dataclass(frozen=True, slots=True)
class RecordJob:
    """A verb over records that are known by name.

    Attributes:
        numbers: how many lease tokens and revisions it may need.
        passes: it does not wait for a record that a transaction of somebody's holds.
    """

    run: Callable[[Table[Any]], Any]
    ids: tuple[str, ...]
    claims: tuple[str, ...] = ()
    numbers: int = 4
    passes: bool = False


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A verb over one record as we believe it to be: written only if it is so, else missed.

    Attributes:
        before: the record as this process saw it last; None: there should be none.
    """

    run: Callable[[Table[Any]], Any]
    id: str
    claims: tuple[str, ...] = ()
    before: Operation | None = None


@dataclass(frozen=True, slots=True)
class TakeJob:
    """Lease what is ripe."""

    namespace: str
    rules: tuple[str, ...]
    holder: str
    lease_seconds: float
    limit: int


@dataclass(frozen=True, slots=True)
class RenewJob:
    """Lengthen leases whose token still is the newest."""

    tokens: Mapping[str, int]
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class LeaveJob:
    """Give back leases (id -> token) on records that turned out to be a newer version's, and look at them later."""

    tokens: Mapping[str, int]


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


QuickJob: TypeAlias = KnownJob | TakeJob | RenewJob
Job: TypeAlias = RecordJob | LeaveJob | PruneJob | SwapJob | SessionJob
