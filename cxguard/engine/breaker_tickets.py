"""What a call is told at a breaker: a ticket, to be handed back, or a rejection.

Nearly every call meets a closed breaker and ends well. Such a call takes a plain ticket, which knows nothing but the
*calm* it was given in, and handing it back adds one to a number there. Everything else is looked at closely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cxguard.core.breaker import Heard
from cxguard.core.outcomes import Charged, NotCharged, Outcome
from cxguard.engine.hearing import heard_from

if TYPE_CHECKING:
    from cxguard.engine.breaker_cells import Cell

OVER: Final = float("-inf")  # the end of a calm that has ended already


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that may be a probe, if the store, which all processes share, leases it one."""

    cell: Cell
    queued: bool
    operation_id: str


@dataclass(slots=True)  # not frozen: that costs as much as all the rest of a rejection
class Rejected:
    """The call must not be made. Nothing was sent.

    Attributes:
        by_ramp: the gateway works, and is only given its calls back gently: the next turn is a moment away.
        wanted: it may yet be a probe, see `Breakers.enter`.
    """

    retry_after_seconds: float
    by_ramp: bool = False
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, as its ticket tells it."""

    cell: Cell
    era: int
    heard: Heard | None  # None: nothing was learnt
    probe_id: str = ""
    retry_after_seconds: float | None = None
    ramped: bool = False


@dataclass(slots=True, eq=False)
class Calm:
    """A stretch of at most half a window in which a closed breaker hears only good answers. Over with anything else.

    Attributes:
        era: that of the cell, see there.
        ends: monotonic; from then on an answer has to be looked at.
        well: good answers so far. Two threads may lose one of the other's: a rate is none the worse for it.
    """

    cell: Cell
    era: int
    ends: float
    slow_seconds: float
    monotonic: Callable[[], float]
    tell: Callable[[Ended], None]
    well: int = 0


class Ticket:
    """The right to make one call. Hand it back once: by `settle`, or by `abandon` when nothing was learnt."""

    __slots__ = ("_calm",)

    _calm: Calm | None

    @property
    def is_probe(self) -> bool:
        """Whether this call finds out if the gateway works again."""
        return False

    def settle(self, outcome: Outcome, duration_seconds: float) -> None:
        """Tell how the call ended. A second word changes nothing."""
        calm = self._calm
        if calm is None:
            return
        self._calm = None
        if type(outcome) is Charged and duration_seconds < calm.slow_seconds and calm.monotonic() < calm.ends:
            calm.well += 1
            return
        heard = heard_from(outcome, late=duration_seconds >= calm.slow_seconds, probe=False)
        calm.tell(Ended(calm.cell, calm.era, heard, retry_after_seconds=_asked_seconds(outcome)))

    def abandon(self) -> None:
        """The call was cancelled, or never made: it says nothing about the gateway."""
        self._calm = None


class CountedTicket(Ticket):
    """A ticket of a breaker that is not calm: for a probe, a turn of the ramp, or a call after a failure."""

    __slots__ = ("_cell", "_era", "_open", "_probe_id", "_ramped", "_slow_seconds", "_tell")

    def __init__(self, cell: Cell, era: int, slow_seconds: float, tell: Callable[[Ended], None], *, probe_id: str, ramped: bool) -> None:
        self._calm = None
        self._cell = cell
        self._era = era
        self._slow_seconds = slow_seconds
        self._tell = tell
        self._probe_id = probe_id
        self._ramped = ramped
        self._open = True

    @property
    def is_probe(self) -> bool:
        return bool(self._probe_id)

    def settle(self, outcome: Outcome, duration_seconds: float) -> None:
        heard = heard_from(outcome, late=duration_seconds >= self._slow_seconds, probe=self.is_probe)
        self._end(heard, _asked_seconds(outcome))

    def abandon(self) -> None:
        self._end(None, None)

    def _end(self, heard: Heard | None, retry_after_seconds: float | None) -> None:
        if self._open:
            self._open = False
            self._tell(Ended(self._cell, self._era, heard, self._probe_id, retry_after_seconds, self._ramped))


def _asked_seconds(outcome: Outcome) -> float | None:
    return outcome.retry_after_seconds if isinstance(outcome, NotCharged) else None
