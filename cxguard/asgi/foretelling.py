"""What a client would be told in each case, from the very tables that answer it: nothing runs and nothing is written.

A record is imagined in each state that matters, and judged by `core.decide`; a run is imagined with each reading and each
end of its money, and judged by `core.conclude`. The words come from the same teller as every answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cxguard.asgi.identify import Identity
from cxguard.asgi.telling import TOLD_IN_SCOPE, Teller
from cxguard.asgi.types import Scope
from cxguard.core import names
from cxguard.core.conclude import Run, Say, conclude
from cxguard.core.decide import Do, decide
from cxguard.core.money import MoneyState, Send, SendKind
from cxguard.core.operation import Operation, State, WaitingFor, changed, ended_at, money_of, refolded
from cxguard.core.outcomes import Charged, Declined, NotCharged, Outcome, Unknown
from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.core.resolve import SHOP
from cxguard.engine.charging import GATEWAY_DOWN, Work
from cxguard.engine.end_record import record_at_end
from cxguard.engine.ending import can_resolve
from cxguard.engine.entering import Begun, Submission
from cxguard.engine.leases import HeldLease
from cxguard.engine.shop_reading import ASKED_STATUSES, read_shop_charge
from cxguard.guard import Guard

SAME, OTHER, CLAIM = "the same again", "other content, same key", "the same purchase, another key"

DOES: Mapping[Do, str] = {
    Do.RUN: "the handler runs",
    Do.REPLAY: "the stored answer, byte for byte; nothing runs",
    Do.WAIT: "waits for the first one's answer, up to wait_seconds",
    Do.TELL: "nothing runs",
    Do.MISMATCH: "refused: the key belongs to another request",
    Do.FOREIGN: "nothing runs: somebody else's order has this name",
    Do.DUPLICATE: "nothing runs: it looks like that order",
    Do.RESCUE: "asks what became of it, then runs the handler, or tells",
    Do.RESOLVE: "asks the gateway once, then tells",
    Do.RERUN: "the handler runs again, in the same life of the order",
    Do.REOPEN: "the handler runs again: in the order's next life, or in this one where nobody was told of its last try",
    Do.REPLACE: "this request takes the place of the kept one; nothing is charged twice",
    Do.SUPERSEDE: "a new order beside the old one: the handler runs",
    Do.AGAIN: "a confirmed second purchase: the handler runs",
}
TELLING = frozenset({Do.WAIT, Do.TELL, Do.MISMATCH, Do.FOREIGN, Do.DUPLICATE})


@dataclass(frozen=True, slots=True)
class Told:
    """One answer of ours, as this client would get it."""

    status: int
    situation: str
    money: str | None
    order_saved: bool
    safe_to_retry: bool
    location: str = ""


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """What becomes of a run whose handler's answer has this reading.

    Attributes:
        asked: what the rule's `resolve` hook, or the gateway, says first; empty: nobody is asked.
        told: None: the handler's own answer goes out.
    """

    reading: str
    money: str
    asked: str
    ending: str
    told: Told | None


@dataclass(frozen=True, slots=True)
class StateRow:
    """What a request meets that finds its order in this state."""

    state: str
    request: str
    do: str
    does: str
    told: Told | None


class Foreteller:
    """Imagines one request's order in every state.

    Args:
        keeps: the order would be kept through an outage.
    """

    def __init__(self, guard: Guard, teller: Teller, scope: Scope, identity: Identity, submission: Submission, *, keeps: bool) -> None:
        self._guard = guard
        self._teller = teller
        self._scope = scope
        self._identity = identity
        self._submission = submission
        self._keeps = keeps
        self._fresh = submission.fresh
        self._shop = submission.fresh.charged_by == SHOP
        self._now = guard.clock.now()

    def summary(self, answer: HandlerAnswer) -> Told:
        """The answer that the teller has just made."""
        told = self._scope[TOLD_IN_SCOPE]
        money = told.money.value if told.money is not None else None
        where = answer.header("location") or ""
        return Told(answer.status, told.situation.value, money, told.order_saved, told.safe_to_retry, where)

    # --- a record that is there

    def meeting(self, operation: Operation, *, request: str = SAME, leased: bool = False, state: str = "") -> StateRow:
        """What this request comes to when the store has *operation* for it."""
        submit = self._submission.submit_of(operation)
        submit = replace(submit, same_request=False) if request == OTHER else submit
        policy = self._submission.terms.policy
        claim = request == CLAIM
        doubted = claim and self._guard.engine.operations.doubts(operation)
        now = self._now - self._guard.engine.operations.leaps.seconds_since(ended_at(operation))
        do = decide(operation, submit, policy, leased=leased, claim=claim, now=now, doubted=doubted)
        told = None
        if do in TELLING:
            identity = self._identity
            told = self.summary(self._teller.begun(Begun(do, operation), identity.telling, identity.snapshot))
        return StateRow(state or str(operation.state), request, do.value, DOES[do], told)

    def states(self) -> Iterator[StateRow]:
        """Every state that matters, met by the same request again, and by another one under its key."""
        yield StateRow("new", SAME, Do.RUN.value, DOES[Do.RUN], None)
        for name, operation, leased in self._imagined():
            yield self.meeting(operation, leased=leased, state=name)
            yield self.meeting(operation, request=OTHER, leased=leased, state=name)
        if self._fresh.claims and self._submission.terms.policy.current_seconds is None:
            yield self.meeting(self._ended(MoneyState.CHARGED, at=self._now), request=CLAIM, state="finished: paid, just now")
            yield self.meeting(self._in(State.QUEUED, MoneyState.NONE, kept=True), request=CLAIM, state="queued: kept")

    def _imagined(self) -> Iterator[tuple[str, Operation, bool]]:
        window = self._identity.rule.duplicate_window_seconds
        charged, declined, unknown, none = MoneyState.CHARGED, MoneyState.DECLINED, MoneyState.UNKNOWN, MoneyState.NONE
        under_way = unknown if self._shop else none
        yield "in flight", self._in(State.RUNNING, under_way), True
        yield "in flight, its process died", self._in(State.RUNNING, under_way), False
        yield "finished: paid, just now", self._ended(charged, at=self._now), False
        yield f"finished: paid, over {window:g} s ago", self._ended(charged, at=self._now - window - 1.0), False
        yield "finished: declined, just now", self._ended(declined, at=self._now), False
        yield "unknown", self._in(State.QUEUED, unknown, why="charge_unknown", due_at=self._now), False
        yield "held", self._in(State.HELD, unknown, waiting_for=WaitingFor.AGENT, why="charge_unknown"), False
        if self._submission.tenor.has_later:
            yield "queued: kept", self._in(State.QUEUED, none, kept=True, give_up_at=self._now, due_at=self._now), False

    def _ended(self, money: MoneyState, *, at: float) -> Operation:
        return self._in(State.FINISHED, money, answer=b"kept", answered_at=at, updated_at=at)

    def _in(self, state: State, money: MoneyState, **members: Any) -> Operation:
        return changed(self._with(money), state=state, **members)

    # --- a run

    def readings(self) -> Iterator[ReadingRow]:
        """Every reading with every end that its money may have; last, a gateway that is away."""
        for reading in Reading:
            yield from self._by_shop(reading) if self._shop else self._by_guard(reading)
        yield self._row(None, self._with(MoneyState.NONE), asked="", outage=True)

    def _by_guard(self, reading: Reading) -> Iterator[ReadingRow]:
        """The record speaks: what `op.charge` learned, whatever the handler says."""
        for money in (MoneyState.CHARGED, MoneyState.DECLINED, MoneyState.NONE, MoneyState.UNKNOWN):
            yield self._row(reading, self._with(money), asked="")

    def _by_shop(self, reading: Reading) -> Iterator[ReadingRow]:
        """The answer speaks; where the rule has a hook, a bad one is asked about first."""
        believed = self._believed(reading)
        if self._submission.tenor.ask is None or reading is Reading.SUCCEEDED:
            yield self._row(reading, believed, asked="")
            return
        if reading is Reading.REJECTED:
            yield self._row(reading, believed, asked="", note=f" (not {', '.join(map(str, sorted(ASKED_STATUSES)))})")
        agrees = self._with(MoneyState.NONE) if reading is Reading.FAILED else believed
        yield self._row(reading, agrees, asked="resolve says: not charged")
        yield self._row(reading, self._with(MoneyState.CHARGED), asked="resolve says: charged")
        yield self._row(reading, self._with(MoneyState.UNKNOWN), asked="resolve cannot say")

    def _believed(self, reading: Reading) -> Operation:
        """The record after the shop's answer was taken at its word."""
        clock = self._guard.clock
        lease = HeldLease(self._fresh.id, 0, lease_seconds=0.0, safe_until=0.0, run_until=0.0, clock=clock)
        work = Work(self._fresh, lease, deadline=0.0, turn=asyncio.Lock())
        read_shop_charge(work, reading)
        return work.operation

    def _row(self, reading: Reading | None, operation: Operation, *, asked: str, outage: bool = False, note: str = "") -> ReadingRow:
        engine, tenor, money = self._guard.engine, self._submission.tenor, money_of(operation)
        run = Run(
            money=money,
            reading=reading,
            deferred=GATEWAY_DOWN if outage else "",
            may_keep=self._keeps and outage,
            has_later=tenor.has_later,
            can_resolve=can_resolve(engine, operation, tenor),
        )
        conclusion = conclude(run)
        record = refolded(record_at_end(engine, operation, tenor, conclusion))
        told = None
        if conclusion.say is not Say.HANDLER:
            identity = self._identity
            told = self.summary(self._teller.concluded(conclusion.say, record, identity.telling, identity.snapshot))
        words = f"{reading.value}{note}" if reading is not None else "none: the breaker is open"
        return ReadingRow(words, money.state.value, asked, conclusion.ending.value, told)

    def _with(self, money: MoneyState) -> Operation:
        """The fresh record with its money so far."""
        if money is MoneyState.NONE and not self._shop:
            return self._fresh
        send = self._fresh.sends[-1] if self._fresh.sends else self._send()
        return refolded(changed(self._fresh, sends=(replace(send, outcome=self._outcome(money)),)))

    def _send(self) -> Send:
        fresh = self._fresh
        return Send(
            number=1,
            gateway=next(iter((*self._identity.rule.gateways, *self._guard.gateways)), ""),
            key=names.gateway_key(fresh.id, step="charge", generation=fresh.generation),
            step="charge",
            generation=fresh.generation,
            kind=SendKind.CHARGE,
            amount_minor=fresh.amount_minor,
            currency=fresh.currency,
            sent_at=self._now,
        )

    def _outcome(self, money: MoneyState) -> Outcome:
        match money:
            case MoneyState.CHARGED:
                return Charged(self._fresh.amount_minor or 0, self._fresh.currency or "")
            case MoneyState.DECLINED:
                return Declined()
            case MoneyState.NONE:
                return NotCharged("imagined")
            case _:
                return Unknown("imagined")
