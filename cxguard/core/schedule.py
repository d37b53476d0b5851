"""When to try again, when to stop, and how many to start at once after an outage.

Randomness is passed in as *jitter* (0 to 1): it only ever shortens a pause, so every pause here is an upper limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

BACKOFF_SECONDS = 5.0  # a restart of the other side takes about so long
BACKOFF_SECONDS_MAX = 900.0  # a shopper who was told "by four o'clock" is not kept waiting an hour more for one unlucky try
ATTEMPTS_MAX = 140  # about one day at the default backoff, jitter included; then the shopper is told
QUEUE_SECONDS_MAX = 86_400.0  # no order waits longer for its charge: prices, stock and consent are a day old by then
JITTER_SHARE = 0.5  # of a pause: enough to pull apart what failed in the same second

# Asking costs nothing and a shopper waits for the word, so quick at first; a gateway's own records settle in minutes.
RESOLVE_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)


def backoff_seconds(attempts: int, *, jitter: float = 0.0) -> float:
    """The pause before an order is tried again: 5 s, doubling, at most 15 minutes.

    Args:
        attempts: how often it was tried so far; 0 counts as 1.
        jitter: 0 to 1.
    """
    doublings = min(max(attempts, 1) - 1, 30)  # 2**30 pauses are past any limit, and no float overflows
    return _shortened(min(BACKOFF_SECONDS * 2.0**doublings, BACKOFF_SECONDS_MAX), jitter)


def resolve_pause_seconds(looks: int, *, jitter: float = 0.0) -> float:
    """The pause before the gateway is asked again what became of a charge: 1, 2, 5, 10 s, ... at most 5 minutes.

    Args:
        looks: how often it was asked so far; 0 counts as 1.
        jitter: 0 to 1.
    """
    return _shortened(RESOLVE_PAUSES_SECONDS[min(max(looks, 1), len(RESOLVE_PAUSES_SECONDS)) - 1], jitter)


def give_up_at(accepted_at: float, *, keep_seconds: float = QUEUE_SECONDS_MAX, ends_at: Iterable[float | None] = ()) -> float:
    """The order's own end: the rule's time, a day at most, and never past the end of what it rests on.

    Args:
        ends_at: when the authorisation, the token or the quote ends; None: it does not.
    """
    ends = [end for end in ends_at if end is not None]
    return min([accepted_at + min(keep_seconds, QUEUE_SECONDS_MAX), *ends])


def _shortened(seconds: float, jitter: float) -> float:
    return seconds * (1.0 - JITTER_SHARE * min(max(jitter, 0.0), 1.0))


# --- the ramp after an outage

RAMP_GROWTH = 1.5  # from one second to the next: well under 2, so that uneven answers cannot make more than double of it
RAMP_START = 1.0  # a second: with fewer, a second would see none, and the next one more than twice that and one
RAMP_AHEAD_SECONDS = 0.1  # a live checkout may go so much before its time, and the queue waits it out
RAMP_AFTER_SECONDS = 0.04  # a place is left for live checkouts so long, while some have to go without
RAMP_CALM_SECONDS = 3.0  # nothing was turned away for so long: the demand is met, the ramp is over
RAMP_SECONDS_MAX = 20.0  # without a failure: by then it could have grown a thousandfold, so what is left are chance bursts
RAMP_BURST_SECONDS = 0.05  # what nobody asked for in time is lost after this: starts stay spread over the second
_SLOTS_A_SECOND = 10
_SLOTS = 15  # counted: longer than the pause between two starts of a ramp that begins
_COUNTED_SECONDS = _SLOTS / _SLOTS_A_SECOND
_NO_COUNTS = (0,) * _SLOTS


@dataclass(frozen=True, slots=True)
class Ramp:
    """How many charges may start now, after a gateway came back: one a second, then more while all go well.

    The rate grows by half from second to second, and is never much above what started *and* went well lately. Starts
    are spread evenly. So, wherever its seconds begin, the gateway never sees more than twice what it saw in the one
    before, and one. A failure brings it back to one. Checkouts that a shopper waits for come before queued orders, of
    which one a second may take its turn with them.

    Attributes:
        rate: starts a second, as of *rate_at*.
        next_at: when the next one may start.
        began_at: when it began, or last saw a failure.
        slot: the newest tenth of a second that is counted.
        started, well: counts by tenth of a second, oldest first, over the last second and a half.
        refused_at: when somebody was last turned away; the ramp is over when that is long ago.
        live_refused_at: the same for a checkout with a shopper waiting.
        queued_at: when the last queued order started.
    """

    rate: float
    rate_at: float
    next_at: float
    began_at: float
    slot: int
    started: tuple[int, ...] = _NO_COUNTS
    well: tuple[int, ...] = _NO_COUNTS
    refused_at: float = 0.0
    live_refused_at: float = float("-inf")
    queued_at: float = float("-inf")


def begin_ramp(now: float, *, after_seconds: float = 0.0) -> Ramp:
    """A ramp that starts with one, *after_seconds* from now (a probe may just have been charged)."""
    return Ramp(rate=RAMP_START, rate_at=now, next_at=now + after_seconds, began_at=now, slot=_slot(now), refused_at=now)


def allow(ramp: Ramp, now: float, *, wanted: int = 1, queued: bool = False) -> tuple[Ramp, int]:
    """Book up to *wanted* starts. Returns how many may start; those are counted as started."""
    ramp = _brought_to(ramp, now)
    allowed = max(0, min(wanted, _room(ramp, now, queued=queued)))
    if allowed:
        next_at = ramp.next_at + allowed / ramp.rate
        if not any(ramp.started[-_SLOTS_A_SECOND - 1 :]):
            next_at = max(next_at, now + 1.0)  # there was none for a second: twice none, and one
        queued_at = now if queued else ramp.queued_at
        ramp = replace(ramp, next_at=next_at, started=_counted(ramp.started, allowed), queued_at=queued_at)
    if allowed < wanted:
        live_refused_at = ramp.live_refused_at if queued else now
        ramp = replace(ramp, refused_at=now, live_refused_at=live_refused_at)
    return ramp, allowed


def room(ramp: Ramp, now: float, *, queued: bool = False) -> int:
    """How many might start now."""
    return max(0, _room(_brought_to(ramp, now), now, queued=queued))


def went_well(ramp: Ramp, now: float) -> Ramp:
    """A charge got its answer: the next one may come sooner."""
    ramp = _brought_to(ramp, now)
    return replace(ramp, well=_counted(ramp.well, 1))


def went_badly(ramp: Ramp, now: float) -> Ramp:
    """A charge failed: back to one, and that not at once, or each of many failures would let another in."""
    ramp = _brought_to(ramp, now)
    next_at = max(ramp.next_at, now + 1.0)
    return replace(ramp, rate=RAMP_START, next_at=next_at, began_at=now, well=_NO_COUNTS, refused_at=now)


def is_over(ramp: Ramp, now: float) -> bool:
    """Whether the demand has been met for a while, or could have been, so that nothing needs to be counted any more."""
    return abs(now - ramp.refused_at) > RAMP_CALM_SECONDS or abs(now - ramp.began_at) > RAMP_SECONDS_MAX


def _room(ramp: Ramp, now: float, *, queued: bool) -> int:
    """By what live checkouts may borrow from the time to come, the queue has to wait: so they always come first."""
    from_at = ramp.next_at
    if not queued and ramp.rate * RAMP_AHEAD_SECONDS >= 1.0:
        from_at -= RAMP_AHEAD_SECONDS
    if queued and now - ramp.live_refused_at < 1.0 and now - ramp.queued_at < 1.0:
        from_at += RAMP_AFTER_SECONDS
    return int((now - from_at) * ramp.rate) + 1 if now >= from_at else 0


def _brought_to(ramp: Ramp, now: float) -> Ramp:
    """The same ramp at *now*: old counts gone, the rate grown. A clock that was set back by more than a moment starts anew."""
    passed_seconds = now - ramp.rate_at
    if passed_seconds < -RAMP_CALM_SECONDS:
        return begin_ramp(now)
    slots = min(max(_slot(now) - ramp.slot, 0), _SLOTS)
    started = ramp.started[slots:] + (0,) * slots
    well = ramp.well[slots:] + (0,) * slots
    grown = ramp.rate * RAMP_GROWTH ** min(max(passed_seconds, 0.0), 1.0)
    return replace(
        ramp,
        rate=min(grown, RAMP_GROWTH * min(sum(started), sum(well)) / _COUNTED_SECONDS + RAMP_START),
        rate_at=max(now, ramp.rate_at),
        next_at=max(ramp.next_at, now - RAMP_BURST_SECONDS),
        slot=ramp.slot + slots if slots < _SLOTS else _slot(now),
        started=started,
        well=well,
    )


def _slot(now: float) -> int:
    return int(now * _SLOTS_A_SECOND)


def _counted(counts: tuple[int, ...], more: int) -> tuple[int, ...]:
    return (*counts[:-1], counts[-1] + more)
