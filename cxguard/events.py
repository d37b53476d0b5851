"""Facts that others may hear: what happened, in the past tense, with no secret in them.

`EVENTS` is the whole table; a name that is not in it cannot be made into an `Event`. The `Bus` tells each listener at
once, in the caller's thread: a listener must be quick, and whatever it raises stays here. Values that a person typed,
raw idempotency keys, cookies and card data never belong into an event: names, counts, amounts and references do.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cxguard.errors import ConfigurationError

_log = logging.getLogger("cxguard.events")


@dataclass(frozen=True, slots=True)
class EventKind:
    """One line of the event table: what the event means, and which members its detail may have."""

    meaning: str
    members: frozenset[str] = frozenset()


def _kind(meaning: str, *members: str) -> EventKind:
    return EventKind(meaning, frozenset(members))


EVENTS: Mapping[str, EventKind] = {
    # the operation and its key
    "operation.opened": _kind("a submission won its key and is being worked on", "generation"),
    "operation.replayed": _kind("a repeated submission got the stored answer", "status"),
    "operation.mismatched": _kind("a key came again with other content and was refused", "status"),
    "operation.in_flight": _kind("a repeated submission met one that still runs", "status"),
    "operation.duplicate": _kind("the same purchase came under another key and was not run again", "state", "money"),
    "operation.finished": _kind("the work has ended and its answer is stored", "money", "amount_minor", "currency", "why"),
    "operation.released": _kind("nothing was charged, so the key is free again", "why"),
    "operation.flagged": _kind("the handler failed after a good answer; a person should look", "why", "status"),
    "step.not_kept": _kind("a step is done, and its result could not be kept: nobody can go on after it but this run", "step", "why"),
    # the order that is kept for later
    "order.queued": _kind("an order was kept for later", "why", "due_at", "give_up_at"),
    "order.not_kept": _kind("an order does not wait for later; over a cap, `why` says which", "why", "amount_minor", "currency"),
    "order.price_lowered": _kind(
        "a kept order costs less now, and that is what will be charged", "accepted_minor", "amount_minor", "currency"
    ),
    "order.placed": _kind("a kept order was placed and paid", "amount_minor", "currency", "attempts"),
    "order.resumed": _kind("its shopper goes on with an order that waited for them", "why", "generation"),
    "order.cancelled": _kind("an order ended without a charge", "why", "by"),
    "order.held": _kind("an order waits for a person, the shopper or proof", "why", "waiting_for", "money"),
    "order.requeued": _kind("somebody put a held order back into the queue", "by", "due_at"),
    "order.taken": _kind("a person has an order in hand: nobody else acts on it until then", "by", "until"),
    "order.given_back": _kind("a person gave an order back", "by"),
    "order.cancel_asked": _kind("an order is to end as soon as that is safe", "by"),
    "order.remarked": _kind("a person wrote a remark", "by"),
    # the money
    "payment.sent": _kind(
        "a line was written and a gateway is about to be called", "gateway", "kind", "number", "generation", "amount_minor", "currency"
    ),
    "payment.answered": _kind("a gateway answered a send", "gateway", "kind", "number", "outcome", "why", "duration_seconds"),
    "payment.rerouted": _kind("surely not charged at one gateway, so the next one is asked", "gateway", "to", "why"),
    "payment.noted": _kind("a fact about a payment came from elsewhere", "source", "kind", "stub"),
    "payment.resolved": _kind("an unknown payment is known now", "gateway", "outcome", "how"),
    "payment.false_decline_stopped": _kind("'not paid' was about to be told though a charge may stand", "reading", "money"),
    "payment.captured": _kind("reserved money was taken", "gateway", "amount_minor", "currency", "why", "by"),
    "payment.refunded": _kind("money went back", "gateway", "amount_minor", "currency", "why", "by"),
    "reconcile.break_found": _kind("the gateway's books and ours differ", "kind", "gateway", "ours", "theirs", "payment"),
    # what shoppers are told beside the page
    "shopper.told": _kind("the shop's `notify` took a notice for the shopper of a kept order", "kind"),
    "shopper.not_told": _kind("`notify` failed; it is tried again, unless `final`", "kind", "why", "tries", "final"),
    # leases, gateways and the store
    "lease.lost": _kind("a holder was too late: another one has the operation"),
    "lease.rescued": _kind("an operation was taken over from a holder that went silent", "state", "money"),
    "breaker.opened": _kind(
        "a gateway failed too often: no more calls",
        *("gateway", "kind", "method", "why", "revision", "open_seconds", "forced", "by", "shadow", "would_reject"),
    ),
    "breaker.half_opened": _kind(
        "a gateway is being tried with a few calls", "gateway", "kind", "method", "revision", "shadow", "would_reject"
    ),
    "breaker.closed": _kind("a gateway works again", "gateway", "kind", "method", "revision", "forced", "by", "shadow", "would_reject"),
    "store.unavailable": _kind("the store did not answer", "verb", "why"),
    "store.recovered": _kind("the store answers again", "away_seconds"),
    "order.spooled": _kind("an order was kept on this machine, because the store is away", "why", "amount_minor", "currency"),
    "spool.forwarded": _kind("what was kept on a machine was brought to the store", "became", "age_seconds"),
    "spool.refused": _kind("the spool took an order in no more, so it was refused", "why"),
    "spool.damaged": _kind(
        "a damaged spool was put aside at the start, and a new one with what could still be read took its place",
        *("path", "aside", "taken_over"),
    ),
    "store.began_anew": _kind("the store may have lost its last writes (a failover, a restore): new orders are looked up first", "epoch"),
    "loop.stalled": _kind("the event loop stood still, and every request with it", "seconds"),
    "duty.failed": _kind("one round of a background duty failed; the next one will come", "duty", "why"),
    # the request, the shopper
    "request.refused": _kind("a request on a ruled path was refused before anything ran", "why", "status", "method", "path"),
    "key.missing": _kind("a ruled request came without a key", "method", "path", "guarded"),
    "owner.unstable": _kind("the same visitor came under two owners: the key cannot protect them", "how"),
    "exposure.recorded": _kind(
        "a shopper was shown an error, or waited too long",
        *("stage", "message", "version", "text", "cause", "by", "status", "field_name"),
        *("basket_minor", "currency", "items", "market", "language", "device"),
    ),
    "session.dropped": _kind("facts about sessions were lost", "count", "why"),
}


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `at` is wall-clock seconds since the epoch; an empty name member means: not about one.

    Raises:
        ConfigurationError: the name is not in `EVENTS`.
    """

    name: str
    at: float
    operation: str = ""
    reference: str = ""
    rule: str = ""
    session: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in EVENTS:
            raise ConfigurationError(f"there is no event {self.name!r}: add a line to EVENTS in cxguard/events.py, or use one of its names")


Listener: TypeAlias = Callable[[Event], None]


class Bus:
    """Tells every listener of each event, at once and in the caller's thread. Never raises into the caller.

    Attributes:
        errors: how often a listener raised, by the listener's name. The first time of each is logged.
        undeclared: members that were sent but are not in the table, as `event:member`. They are still delivered.
    """

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self.errors: dict[str, int] = {}
        self.undeclared: set[str] = set()

    def listen(self, listener: Listener) -> None:
        """Add a listener: a plain function that is quick. Adding it twice is adding it once.

        Raises:
            ConfigurationError: it is a coroutine function, which would never run.
        """
        if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(getattr(listener, "__call__", None)):  # noqa: B004
            raise ConfigurationError(f"{_name(listener)} is async and would never run: use a plain `def` that puts the event on a queue")
        if listener not in self._listeners:
            self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Listener) -> None:
        """Remove a listener; one that is not there is no error."""
        self._listeners = tuple(known for known in self._listeners if known != listener)

    def emit(self, event: Event) -> None:
        """Tell all listeners, in the order in which they came."""
        if not event.detail.keys() <= EVENTS[event.name].members:
            self._note_undeclared(event)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  a listener may fail in any way; a checkout may not fail with it
                self._note_error(listener, event=event, error=error)

    def _note_error(self, listener: Listener, *, event: Event, error: Exception) -> None:
        name = _name(listener)
        self.errors[name] = self.errors.get(name, 0) + 1
        if self.errors[name] == 1:  # the class alone: an error's text may quote what a shopper typed
            _log.error("listener %s failed on %s with %s; later failures are only counted", name, event.name, type(error).__name__)

    def _note_undeclared(self, event: Event) -> None:
        for member in event.detail.keys() - EVENTS[event.name].members:
            label = f"{event.name}:{member}"
            if label not in self.undeclared:
                self.undeclared.add(label)
                _log.warning("event member %s is not in the event table", label)


def _name(listener: Listener) -> str:
    return getattr(listener, "__qualname__", type(listener).__qualname__)
