"""The reading verbs, on a connection of their own: they neither wait for writers nor hold them up."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import apsw

from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State
from cxguard.stores.base import Page, Query, SessionRow, Tally, Versioned
from cxguard.stores.record import check_query, cursor_text
from cxguard.stores.sqlite.rows import Row, id_range, operation_of
from cxguard.stores.sqlite.statements import STATEMENTS

Place = tuple[float, int]
FIRST: Mapping[bool, Place] = {True: (float("-inf"), 0), False: (float("inf"), 0)}  # before the first page: by due


def get_operation(connection: apsw.Connection, id: str) -> Operation | None:
    rows = _all(connection, "find", (id,))
    return operation_of(rows[0]) if rows else None


def search_operations(connection: apsw.Connection, query: Query) -> Page:
    with _snapshot(connection):
        places = _places(connection, query)
        page = places[: query.limit]
        operations = tuple(operation_of(_all(connection, "find_by_seq", (seq,))[0]) for _, seq in page)
    return Page(operations, cursor_text(*page[-1]) if len(places) > len(page) else None)


def read_tally(connection: apsw.Connection, namespace: str) -> Tally:
    with _snapshot(connection):
        rows = _all(connection, "tally", (namespace,))
        oldest = _all(connection, "oldest_due", (namespace,))
    return Tally(
        operations={(first, second): value for kind, first, second, value in rows if kind == "operations"},
        unpaid_minor={first: value for kind, first, _, value in rows if kind == "unpaid"},
        oldest_due_at=oldest[0][0] if oldest else None,
    )


def used_bytes(connection: apsw.Connection) -> int:
    """What the records take; pages that are free again do not count."""
    pages, free, size = (connection.pragma(name) for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def load_value(connection: apsw.Connection, key: str) -> Versioned:
    rows = _all(connection, "load", (key,))
    return Versioned(*rows[0]) if rows else Versioned(0, b"")


def read_sessions(connection: apsw.Connection, ids: Sequence[str]) -> Mapping[str, SessionRow]:
    rows = _all(connection, "sessions", (json.dumps(list(ids)),))
    return {row[0]: SessionRow(*row) for row in rows}


def read_counters(connection: apsw.Connection, prefix: str) -> Mapping[str, float]:
    return dict(_all(connection, "counters", (prefix,)))


def _places(connection: apsw.Connection, query: Query) -> list[Place]:
    """Where the page's records are, and one more if there is a next page."""
    values = _values(query)
    look_up = _look_up(query)
    if look_up is not None:
        return _all(connection, look_up + ("_due" if query.due else ""), values)
    if query.due:
        return _all(connection, "due", values)
    groups = [
        _all(connection, "listed", {**values, "state": state, "kind": kind})
        for state in (State if query.states is None else query.states)
        for kind in (MoneyState if query.money is None else query.money)
    ]
    return list(islice(heapq.merge(*groups, reverse=True), query.limit + 1))


def _look_up(query: Query) -> str | None:
    """The statement of the narrowest name that the query gives."""
    for name in ("reference", "gateway_key", "claim", "kept_by", "session", "contact_hash"):
        if getattr(query, name) is not None:
            return f"by_{name}"
    return None


def _values(query: Query) -> dict[str, Any]:
    time, number = check_query(query) or FIRST[query.due]
    id_low, id_high = id_range(query.reference) if query.reference is not None else ("", "")
    return {
        "namespace": query.namespace,
        "reference": query.reference,
        "id_low": id_low,
        "id_high": id_high,
        "contact_hash": query.contact_hash,
        "session": query.session,
        "gateway_key": query.gateway_key,
        "claim": query.claim,
        "kept_by": query.kept_by,
        "rule": query.rule,
        "states": json.dumps(query.states) if query.states is not None else None,
        "money": json.dumps(query.money) if query.money is not None else None,
        "time": time,
        "number": number,
        "limit": query.limit + 1,
    }


def _all(connection: apsw.Connection, name: str, values: Any = ()) -> list[Row]:
    return connection.execute(STATEMENTS[name], values).fetchall()


@contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[None]:
    """All reads inside see the same moment."""
    connection.execute(STATEMENTS["begin_reading"])
    try:
        yield
    finally:
        connection.execute(STATEMENTS["rollback"])
