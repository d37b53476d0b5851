"""An explanation as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from cxguard.asgi.explaining import Explanation, Facts
from cxguard.asgi.foretelling import ReadingRow, StateRow, Told
from cxguard.cli.order_views import order_json
from cxguard.cli.printing import amount, print_table, say
from cxguard.core.cards import redact

HANDLER = "the handler's own answer"


def explanation_json(found: Explanation) -> dict[str, Any]:
    """For programs; amounts as texts, so that no reader rounds them."""
    facts = asdict(found.facts) if found.facts else None
    if facts:
        facts["key"] = redact(facts["key"])
        facts["amount_minor"] = str(facts["amount_minor"]) if facts["amount_minor"] is not None else None
    stored = found.stored
    return {
        "request": {"method": found.method, "path": redact(found.path)},
        "guarded": found.guarded,
        "watched": found.watched,
        "rule": {"name": found.rule.name, "match": found.rule.match, "charged_by": found.rule.charged_by} if found.rule else None,
        "near": [{"rule": near.rule.name, "why": near.why} for near in found.near],
        "passes": found.passes or None,
        "refused": {"why": found.refusal, "told": asdict(found.told)} if found.told else None,
        "client": asdict(found.client) if found.client else None,
        "read": facts,
        "store": found.store or None,
        "stored": {"order": order_json(stored.operation), "leased": stored.leased, "meets": asdict(stored.meets)} if stored else None,
        "readings": [asdict(row) for row in found.readings],
        "states": [asdict(row) for row in found.states],
    }


def print_explanation(found: Explanation) -> None:
    """For people, from the request to the answers."""
    say(f"{found.method} {redact(found.path)}")
    if found.watched:
        say('  mode      watch: nothing of this is done, it is only counted; take mode="watch" away to have it')
    if found.rule is not None:
        say(f"  rule      {found.rule.name}, charged by the {found.rule.charged_by}")
    if found.client is not None:
        told = "can be told 'kept, not paid yet'" if found.client.can_be_told else "takes any 2xx for 'paid'"
        say(f"  client    {found.client.medium}, {found.client.audience}: {told}")
    if found.passes:
        say(f"  unguarded {found.passes}")
    for near in found.near:
        say(f"            {near.rule.match}: {near.why}")
    if found.told is not None:
        say(f"  refused   {found.refusal}")
        say(f"            {told_words(found.told)}")
    if found.facts is not None:
        _print_facts(found, found.facts)


def _print_facts(found: Explanation, facts: Facts) -> None:
    whose = "chosen by the client" if facts.chosen_by_client else "derived from the request"
    key = redact(facts.key) or "none: the owner's one current order"
    lines = {
        "owner": f"{facts.owner} (pseudonym), by {facts.owner_by}",
        "key": f"{key}, by {facts.key_by}: {whose}",
        "operation": facts.operation or "a new name for each order",
        "reference": facts.reference or "a new one for each order",
        "content": f"{facts.fingerprint}...",
        "purchase": facts.purchase or "not named: the same basket under another key is another order",
        "amount": amount(facts.amount_minor, facts.currency) or "not named by the rule",
        "outage": f"not kept: {facts.not_kept}" if facts.not_kept else "kept, and placed later",
        "store": found.store,
    }
    for name, value in lines.items():
        say(f"  {name:<10}{value}")
    if found.stored is not None:
        order, held = found.stored.operation, ", in somebody's hands now" if found.stored.leased else ""
        say(f"            {order.reference}: {order.state}, money {order.money}{held}")
        say(f"            now: {_meets(found.stored.meets)}")
    click.echo()
    print_table("When the handler has answered", ("reading", "money", "first", "order", "the client gets"), map(_reading, found.readings))
    print_table("When it comes again", ("the order is", "the request is", "what happens"), map(_state, found.states))


def told_words(told: Told) -> str:
    """`202 unknown: money unknown, order saved, do not pay again`."""
    members = [f"money {told.money}"] if told.money else []
    members += ["order saved"] if told.order_saved else []
    members += ["safe to pay again"] if told.safe_to_retry else ["do not pay again"]
    page = ", by its status page" if told.status == 303 else ""
    return f"{told.status} {told.situation}{page}: {', '.join(members)}"


def _reading(row: ReadingRow) -> tuple[str, ...]:
    return row.reading, row.money, row.asked, row.ending, told_words(row.told) if row.told else HANDLER


def _state(row: StateRow) -> tuple[str, ...]:
    return row.state, row.request, _meets(row)


def _meets(row: StateRow) -> str:
    return f"{row.does}\n{told_words(row.told)}" if row.told else row.does
