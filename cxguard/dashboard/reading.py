"""What the pages show, read from the store: counters, exact look-ups and keyset pages; nothing is counted by scanning."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from cxguard.core import names
from cxguard.core.breaker import Label
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.dashboard.rendering import ago
from cxguard.dashboard.words import amount_words
from cxguard.engine.breaker_cells import BreakerView
from cxguard.engine.report import build_report, report_rows
from cxguard.guard import Guard
from cxguard.stores.base import Query, Tally

LIST_MAX = 12  # rows of one list on the first page; the rest is one click away
PAGE_ROWS = 50
NEXT_MAX = 200  # unknown orders looked through for "the next one"
COST_ROWS_MAX = 8
GATEWAY_KEY_PREFIX = "cxg-"
OPEN = (State.RUNNING, State.QUEUED, State.HELD)
ENDED = (State.FINISHED, State.CANCELLED)
OPEN_WORD = "open"  # in the address: not ended yet
_KNOWN = tuple(money for money in MoneyState if money is not MoneyState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Row:
    """One order of a list. `name` is what its page is found by; `holder` has a live lease on it; `money` as it may be told."""

    operation: Operation
    name: str
    holder: str
    money: MoneyState


@dataclass(frozen=True, slots=True)
class GatewayLine:
    """One breaker: what it is for, what it does, and since when or until when."""

    gateway: str
    kind: str
    label: str
    more: str


@dataclass(frozen=True, slots=True)
class Now:
    """The first page."""

    at: float
    tally: Tally
    unknown_held: tuple[Row, ...]
    held: tuple[Row, ...]
    unknown_open: tuple[Row, ...]
    gateways: tuple[GatewayLine, ...]
    level: str

    @property
    def unknown(self) -> int:
        """Orders whose money is unknown."""
        return self.count(money=MoneyState.UNKNOWN)

    @property
    def unpaid(self) -> str:
        """The sum of what is kept unpaid, by currency."""
        sums = [amount_words(amount, currency) for currency, amount in sorted(self.tally.unpaid_minor.items()) if amount]
        return " + ".join(sums) or "–"

    @property
    def oldest_due(self) -> str:
        """How long the most urgent order has waited, or how long until it is due."""
        return "nothing waits" if self.tally.oldest_due_at is None else f"due {ago(self.tally.oldest_due_at, self.at)}"

    def count(self, state: State | None = None, money: MoneyState | None = None) -> int:
        """How many orders: the sum of the counters that match."""
        return count_of(self.tally, state, money)


@dataclass(frozen=True, slots=True)
class Costs:
    """What errors cost, as texts for a table; `dropped` facts about visits are missing in it."""

    rows: tuple[Mapping[str, str], ...]
    dropped: int


@dataclass(frozen=True, slots=True)
class Filters:
    """What the list of orders is narrowed to; empty members do not narrow.

    Attributes:
        contact: the hash of an e-mail address or a phone number: neither stands in an address.
    """

    state: str = ""
    money: str = ""
    rule: str = ""
    contact: str = ""
    after: str = ""

    def address(self, **changes: str) -> str:
        """The query of this list, or of it with *changes*."""
        members = {"state": self.state, "money": self.money, "rule": self.rule, "contact": self.contact, "after": self.after} | changes
        return urlencode({name: value for name, value in members.items() if value})


@dataclass(frozen=True, slots=True)
class OrderList:
    """One page of orders; `next` is the cursor of the page behind it.

    Attributes:
        left_out: so many may be older copies, of whose money nobody knows what it was narrowed to.
    """

    at: float
    rows: tuple[Row, ...]
    next: str | None
    left_out: int = 0
    stale: bool = False


async def read_now(guard: Guard) -> Now:
    """The first page without its costs: a handful of small reads, none of which grows with the number of orders."""
    at = await guard.store.clock()
    return Now(
        at=at,
        tally=await guard.store.tally(guard.namespace),
        unknown_held=await _rows(guard, at, (State.HELD,), (MoneyState.UNKNOWN,)),
        held=await _rows(guard, at, (State.HELD,), _KNOWN),
        unknown_open=await _rows(guard, at, (State.RUNNING, State.QUEUED, *ENDED), (MoneyState.UNKNOWN,)),
        gateways=gateway_lines(guard, now=at),
        level=str(guard.store.level),
    )


async def read_costs(guard: Guard) -> Costs:
    """What the errors cost: from counters, the dearest first."""
    report = await build_report(guard.store, namespace=guard.namespace)
    return Costs(tuple(report_rows(report)[:COST_ROWS_MAX]), report.dropped)


async def read_live(guard: Guard) -> dict[str, object]:
    """What the first page refreshes: texts by name, and a mark that changes with the lists. Figures are texts."""
    now = await read_now(guard)
    cells = {f"{state}-{money}": now.count(state, money) for state in State for money in MoneyState}
    cells |= {str(state): now.count(state) for state in State}
    texts = {name: str(count) for name, count in cells.items()}
    texts |= {"unknown": str(now.unknown), "unpaid": now.unpaid, "oldest": now.oldest_due}
    texts |= {f"gateway-{line.gateway}-{line.kind}": line.label for line in now.gateways}
    return {"at": str(now.at), "mark": list_mark(now), "texts": texts}


def list_mark(now: Now) -> str:
    """Changes when the lists of the first page do."""
    shown = [f"{row.operation.id}:{row.operation.revision}" for row in (*now.unknown_held, *now.held, *now.unknown_open)]
    return hashlib.sha256("\0".join(shown).encode()).hexdigest()[:12]


def count_of(tally: Tally, state: State | None = None, money: MoneyState | None = None) -> int:
    """The sum of the counters that match."""
    return sum(
        count
        for (of_state, of_money), count in tally.operations.items()
        if (state is None or of_state == state.value) and (money is None or of_money == money.value)
    )


async def read_orders(guard: Guard, filters: Filters) -> OrderList:
    """One page of orders, newest first. A cursor that is none leads to the first page, and says so."""
    at, stale = await guard.store.clock(), False
    try:
        found = await guard.store.search(_query(guard, filters, after=filters.after or None))
    except ValueError:
        found, stale = await guard.store.search(_query(guard, filters, after=None)), True
    rows = rows_of(guard, found.operations, at)
    listed = tuple(row for row in rows if filters.money in ("", row.money))
    return OrderList(at, listed, found.cursor, left_out=len(rows) - len(listed), stale=stale)


def filters_of(given: Mapping[str, str], *, rules: Sequence[str]) -> Filters:
    """The filters of an address; what is not known is left out."""
    state, money, rule, contact = (given.get(name, "") for name in ("state", "money", "rule", "contact"))
    return Filters(
        state=state if state in (*State, OPEN_WORD) else "",
        money=money if money in tuple(MoneyState) else "",
        rule=rule if rule in rules else "",
        contact=contact if contact.isalnum() and len(contact) <= 64 else "",
        after=given.get("after", "")[:64],
    )


async def find_by_words(guard: Guard, words: str) -> tuple[Operation | None, str]:
    """What somebody searches for: an order (a reference, or a gateway key), else the hash of a contact."""
    text = words.strip()
    query = None
    if reference := names.normalise_reference(text):
        query = Query(namespace=guard.namespace, reference=reference, limit=1)
    elif text.startswith(GATEWAY_KEY_PREFIX):
        query = Query(namespace=guard.namespace, gateway_key=text, limit=1)
    found = next(iter((await guard.store.search(query)).operations), None) if query else None
    return found, names.contact_hash(guard.engine.naming, namespace=guard.namespace, contact=text)


async def next_unknown(guard: Guard, *, after: str) -> str | None:
    """The name of the next order whose money is unknown: those that wait for a person first; after the last, the first."""
    found: list[str] = []
    for states in ((State.HELD,), tuple(state for state in State if state is not State.HELD)):
        query = Query(namespace=guard.namespace, states=states, money=(MoneyState.UNKNOWN,), limit=NEXT_MAX)
        found += [name_of(operation) for operation in _people_first((await guard.store.search(query)).operations)]
    if not found:
        return None
    place = found.index(after) + 1 if after in found else 0
    return found[place % len(found)]


def gateway_lines(guard: Guard, *, now: float) -> tuple[GatewayLine, ...]:
    """The breakers of all processes, as this one knows them at *now*."""
    return tuple(
        GatewayLine(view.gateway, f"{view.kind} {view.method}".strip(), view.label.value, breaker_words(view, now=now))
        for view in guard.engine.breakers.states()
    )


def name_of(operation: Operation) -> str:
    """What an order's page is found by: its reference; for a stub without one, its id."""
    return operation.reference or operation.id


def rows_of(guard: Guard, operations: Sequence[Operation], at: float) -> tuple[Row, ...]:
    """Records as rows of a list, at *at* on the store's clock."""
    doubts = guard.engine.epochs.doubts
    return tuple(Row(each, name_of(each), _holder(each, at), MoneyState.UNKNOWN if doubts(each) else each.money) for each in operations)


def _people_first(operations: Sequence[Operation]) -> list[Operation]:
    """What waits for a person stands before what waits for the shopper or the gateway."""
    return sorted(operations, key=lambda operation: operation.waiting_for is not WaitingFor.AGENT)


async def _rows(guard: Guard, at: float, states: tuple[State, ...], money: tuple[MoneyState, ...]) -> tuple[Row, ...]:
    query = Query(namespace=guard.namespace, states=states, money=tuple(money), limit=LIST_MAX)
    return rows_of(guard, _people_first((await guard.store.search(query)).operations), at)


def _query(guard: Guard, filters: Filters, *, after: str | None) -> Query:
    states = OPEN if filters.state == OPEN_WORD else (State(filters.state),) if filters.state else None
    return Query(
        namespace=guard.namespace,
        states=states,
        money=(filters.money,) if filters.money else None,
        rule=filters.rule or None,
        contact_hash=filters.contact or None,
        after=after,
        limit=PAGE_ROWS,
    )


def breaker_words(view: BreakerView, *, now: float) -> str:
    """Why it is as it is, and until when."""
    parts = []
    if view.forced_reason:
        parts.append(f"by hand{f' of {view.forced_by}' if view.forced_by else ''}: {view.forced_reason}")
    elif view.label is not Label.CLOSED and view.why:
        parts.append(view.why.replace("_", " "))
    if view.until is not None and view.until > now:
        parts.append(f"{'until' if view.forced_reason else 'tried again'} {ago(view.until, now)}")
    if view.throttled_until is not None:
        parts.append(f"asked for silence, ends {ago(view.throttled_until, now)}")
    if view.apart:
        parts.append("only in this process: the others see no failures")
    if view.shadow:
        parts.append(f"in shadow: rejects nothing, would have turned away {view.would_reject}")
    if view.rate is not None:
        parts.append(f"coming back: {view.rate:g} a second")
    return ", ".join(parts)


def _holder(operation: Operation, at: float) -> str:
    return operation.lease.holder if operation.lease is not None and operation.lease.until > at else ""
