"""The reading verbs, on a connection of their own: they neither wait for writers nor hold them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import errors

from cxguard.core.money import MoneyState
from cxguard.core.names import id_prefix
from cxguard.core.operation import Operation, State
from cxguard.stores.base import Page, Query, SessionRow, Tally, Versioned
from cxguard.stores.postgres.connection import Server
from cxguard.stores.postgres.rows import operation_of
from cxguard.stores.record import check_query, cursor_text

_EXACT = {
    "reference": "(o.reference = %(reference)s OR (o.reference IS NULL AND o.id >= %(id_from)s AND o.id < %(id_to)s))",
    "gateway_key": "o.id IN (SELECT g.id FROM {schema}.gateway_keys g WHERE g.key = %(gateway_key)s)",
    "claim": "o.id IN (SELECT c.id FROM {schema}.claims c WHERE c.key = %(claim)s)",
    "session": "o.session = %(session)s",
    "contact_hash": "o.contact_hash = %(contact_hash)s",
    "kept_by": r"""o.state = 'queued' AND substring(o.body from '"owner":"([^"\\]*)"') = %(kept_by)s""",
    "rule": "o.rule = %(rule)s",
}
_LOOK_UPS = _EXACT.keys() - {"rule"}


async def get_operation(server: Server, id: str) -> Operation | None:
    row = await _one(server, "find", id=id)
    return operation_of(row) if row is not None else None


async def search_operations(server: Server, query: Query) -> Page:
    text, values = _listing(query)
    rows = await _all(server, text.replace("{schema}", server.sql["schema"]).replace("{whole}", server.sql["whole"]), values)
    page = tuple(operation_of(row) for row in rows[: query.limit])
    if len(rows) <= query.limit:
        return Page(page)
    last = page[-1].due_at if query.due else page[-1].created_at
    return Page(page, cursor_text(last or 0.0, rows[query.limit - 1][0]))


async def read_tally(server: Server, namespace: str) -> Tally:
    rows = await _all(server, server.sql["tally"], {"namespace": namespace})
    oldest = await _one(server, "oldest_due", namespace=namespace)
    return Tally(
        operations={(first, second): value for kind, first, second, value in rows if kind == "operations"},
        unpaid_minor={first: value for kind, first, _, value in rows if kind == "unpaid"},
        oldest_due_at=oldest[0] if oldest is not None else None,
    )


async def read_place(server: Server) -> tuple[Any, ...]:
    """The database's name, and its server's identifier and timeline."""
    return await _fact(server, "place")


async def is_open(server: Server, name: str) -> bool:
    """Whether that transaction has no end yet. One that this server has never heard of was another server's, and ended with it."""
    try:
        return bool((await _fact(server, "is_open", name=name))[0])
    except errors.InvalidParameterValue:
        return False


async def load_value(server: Server, key: str) -> Versioned:
    row = await _one(server, "load", key=key)
    return Versioned(row[0], bytes(row[1])) if row is not None else Versioned(0, b"")


async def read_sessions(server: Server, ids: Sequence[str]) -> Mapping[str, SessionRow]:
    rows = await _all(server, server.sql["sessions"], {"ids": list(ids)})
    return {row[0]: SessionRow(row[0], row[1], bytes(row[2]), row[3]) for row in rows}


async def read_counters(server: Server, prefix: str) -> Mapping[str, float]:
    return dict(await _all(server, server.sql["counters"], {"prefix": prefix}))


async def read_clock(server: Server) -> float:
    row = await _one(server, "now")
    assert row is not None, "the server has a clock"
    return float(row[0])


def _listing(query: Query) -> tuple[str, dict[str, Any]]:
    """The statement of a look-up or list: only what the query names is in it, so that the planner sees which index fits."""
    after = check_query(query)
    values = {name: getattr(query, name) for name in ("namespace", *_EXACT) if getattr(query, name) is not None}
    values["limit"] = query.limit + 1
    if query.reference is not None:
        prefix = id_prefix(query.reference)
        values["id_from"], values["id_to"] = (prefix, prefix + "g") if prefix is not None else ("", "")  # "g" follows every hex digit
    if after is not None:
        values["time"], values["number"] = after
    place, order, sign = ("due_at", "o.due_at, o.seq", ">") if query.due else ("created_at", "o.created_at DESC, o.seq DESC", "<")
    where = ["o.namespace = %(namespace)s", *(text for name, text in _EXACT.items() if name in values)]
    if query.due:
        where.append("o.due_at IS NOT NULL")
    if after is not None:
        where.append(f"(o.{place}, o.seq) {sign} (%(time)s, %(number)s)")
    groups = _groups(query, looked_up=values.keys() & _LOOK_UPS != set())
    lists = [_list(where + group, order) for group in groups]
    union = " UNION ALL ".join(f"({each})" for each in lists)
    chosen = f"o.id IN (SELECT u.id FROM ({union}) u)"  # noqa: S608 - our own words; each value is a parameter
    return f"SELECT {{whole}} FROM {{schema}}.operations o WHERE {chosen} ORDER BY {order} LIMIT %(limit)s", values  # noqa: S608


def _groups(query: Query, *, looked_up: bool) -> list[list[str]]:
    """Conditions on state and money: one group for each pair in a long list, which the index has in order; else one in all."""
    states = State if query.states is None else query.states
    kinds = MoneyState if query.money is None else query.money
    if not looked_up and not query.due:
        pairs = [[f"o.state = {_quoted(state)}", f"o.money = {_quoted(kind)}"] for state in states for kind in kinds]
        return pairs or [["false"]]  # none of no states
    narrowed = []
    if query.states is not None:
        narrowed.append(f"o.state = ANY(ARRAY[{', '.join(map(_quoted, states))}]::text[])")
    if query.money is not None:
        narrowed.append(f"o.money = ANY(ARRAY[{', '.join(map(_quoted, kinds))}]::text[])")
    return [narrowed]


def _quoted(word: str) -> str:
    """One of our own words, as SQL writes it."""
    if not str(word).isidentifier():
        raise ValueError(f"{str(word)[:40]!r} is no state of an operation or of money")
    return f"'{word!s}'"


def _list(where: Sequence[str], order: str) -> str:
    return f"SELECT o.id FROM {{schema}}.operations o WHERE {' AND '.join(where)} ORDER BY {order} LIMIT %(limit)s"  # noqa: S608


async def _one(server: Server, statement: str, /, **values: Any) -> tuple[Any, ...] | None:
    rows = await _all(server, server.sql[statement], values)
    return rows[0] if rows else None


async def _fact(server: Server, statement: str, /, **values: Any) -> tuple[Any, ...]:
    row = await _one(server, statement, **values)
    assert row is not None, "this question has one answer"
    return row


async def _all(server: Server, text: str, values: Mapping[str, Any]) -> list[Any]:
    return await (await server.connection.execute(text.encode(), values)).fetchall()
