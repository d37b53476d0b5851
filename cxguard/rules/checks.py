"""What a rule may not say. Each refusal ends with the line to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cxguard.core.caps import Caps
from cxguard.core.currency import DECIMALS
from cxguard.core.limits import breaches
from cxguard.errors import ConfigurationError
from cxguard.rules.amounts import Major
from cxguard.rules.sources import Chain, PerPurchase, Source, name_of, parts_of

if TYPE_CHECKING:
    from cxguard.rules.rule import Rule

NAME_CHARACTERS_MAX = 120
_OWNER = 'owner=signed_session("visitor_id", secret=SECRET_KEY)'
_READS = 'reads={Reading.SUCCEEDED: redirects_to("/thank-you*")}'
_RESUME = 'resume_at="https://shop.example/checkout?resume={token}", resume_token=form_field("resume")'
_UNPROVEN = frozenset({"json_field", "form_field", "path_field"})
_GRAPHQL_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")


def check_rule(rule: Rule) -> None:
    """Refuse a rule that cannot be right.

    Raises:
        ConfigurationError: the first thing that is wrong, and the corrected line.
    """
    for check in (_sources, _owner, _key, _amount, _promises, _words, breaches, _times):
        for wrong, write in check(rule):
            raise ConfigurationError(f'Rule("{rule.match}"): {wrong}; write Rule("{rule.match}", ..., {write})')


def tuple_of(value: Any) -> tuple[Any, ...]:
    """One or several, as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


_Wrong = Iterator[tuple[str, str]]


def _sources(rule: Rule) -> _Wrong:
    named = {
        **{"owner": rule.owner, "key": rule.key, "contact": rule.contact},
        **{"amount_minor": rule.amount_minor, "consent": rule.consent, "quote_until": rule.quote_until},
        **{"resume_token": rule.resume_token},
    }
    given = [(name, value) for name, value in named.items() if value is not None]
    for name, value in [*given, *(("purchase", part) for part in rule.purchase)]:
        if isinstance(value, str):
            reader = "header" if name == "key" else "json_field"
            better = f'owner=signed_session("{value}", secret=SECRET_KEY)' if name == "owner" else f'{name}={reader}("{value}")'
            yield f"{name}={value!r} does not say where to read it", better
        elif not isinstance(value, Source | Chain | PerPurchase | Major) and not callable(value):
            yield f"{name}={value!r} is no source", _OWNER if name == "owner" else f'{name}=json_field("{name}")'
        elif isinstance(value, PerPurchase | Major) and name != {PerPurchase: "key", Major: "amount_minor"}[type(value)]:
            yield f"{name} cannot be read from {type(value).__name__}", _OWNER if name == "owner" else f'{name}=json_field("{name}")'


def _owner(rule: Rule) -> _Wrong:
    if rule.owner is None:
        yield "owner is missing, and has no default: a wrong one would show one shopper's answer to another", _OWNER
        return
    for part in parts_of(rule.owner):
        if isinstance(part, PerPurchase):
            yield "owner cannot be per_purchase", _OWNER
        elif isinstance(part, Source) and part.kind in _UNPROVEN:
            yield f"owner={part.name} can be typed in by anybody, who would then be shown this shopper's answer", _OWNER


def _key(rule: Rule) -> _Wrong:
    if rule.key is None:
        yield "key=None cannot tell two purchases apart", 'key=header("Idempotency-Key") | json_field("cart_id")'
    kinds = {part.kind for part in parts_of(rule.key) if isinstance(part, Source)}
    last = parts_of(rule.key)[-1]
    if isinstance(last, PerPurchase) and not 60 <= last.window_seconds <= 86_400:
        yield (
            f"window_seconds={last.window_seconds!r} is not from 60 to 86400 (an older basket is another visit's)",
            f'key=per_purchase(done="{last.done}", window_seconds=1800)',
        )
    if not rule.reads and (isinstance(last, PerPurchase) or "form_field" in kinds):
        yield (
            f"the key {name_of(last)} belongs to a page that may answer a failure with 200 or a redirect: reads= must say what success is",
            _READS,
        )


def _amount(rule: Rule) -> _Wrong:
    if (rule.amount_minor is None) is not (rule.currency is None):
        missing, given = ("currency", "amount_minor") if rule.currency is None else ("amount_minor", "currency")
        yield f"{given} without {missing} is no amount", f'{missing}=json_field("{missing.removesuffix("_minor")}")'
    if isinstance(rule.currency, str) and rule.currency not in DECIMALS:
        yield f"currency={rule.currency!r} is no code of ISO 4217, in capitals", 'currency="EUR"'
    elif isinstance(rule.currency, PerPurchase | Major):
        yield "currency cannot be read from that", 'currency="EUR"'


def _promises(rule: Rule) -> _Wrong:
    if rule.later is not None and not callable(rule.later) and type(rule.later).__name__ != "Replay":
        yield f"later={rule.later!r} cannot place an order", "later=place_order, terms=TERMS_VERSION"
    if rule.later is not None and not rule.terms:
        yield (
            "later= keeps orders and charges them later, which needs the version of the text that the shopper agreed to",
            'terms="2026-01"',
        )
    yield from _careful(rule)
    if rule.resolve is not None and not callable(rule.resolve):
        yield f"resolve={rule.resolve!r} cannot be asked", "resolve=ask_gateway"
    if rule.audience == "machine" and rule.later is not None:
        yield "a machine repeats by itself: what it sent is answered 503, never kept", 'audience="machine", later=None'
    if rule.audience == "machine" and rule.client_reads_202:
        yield "a machine is never told a 202", 'audience="machine", client_reads_202=False'
    if rule.rerun_safe and rule.charged_by == "guard":
        yield "rerun_safe is about a handler that charges by itself", 'charged_by="shop", rerun_safe=True'


def _careful(rule: Rule) -> _Wrong:
    """What a merchant says about orders that wait."""
    if not isinstance(rule.can_wait, bool) and not callable(rule.can_wait):
        yield f"can_wait={rule.can_wait!r} is neither a truth value nor a function of the request", "can_wait=False"
    if rule.consent is not None and rule.later is None:
        yield "consent= is about being charged later, and nothing is kept without later=", "later=place_order, terms=TERMS_VERSION"
    elif rule.consent is not None and rule.amount_minor is None:
        yield "consent= without amount_minor= has no ceiling: the shopper agrees to an amount", 'amount_minor=json_field("amount")'
    if rule.revalidate is not None and not callable(rule.revalidate):
        yield f"revalidate={rule.revalidate!r} cannot be asked", "revalidate=look_at_price_and_stock"
    for name in ("revalidate", "quote_until"):
        if getattr(rule, name) is not None and rule.later is None:
            yield f"{name}= is about a later charge, and nothing is kept without later=", "later=place_order, terms=TERMS_VERSION"
    if bool(rule.resume_at) is not (rule.resume_token is not None):
        yield "resume_at and resume_token belong together: the page that a shopper is sent to, and what its submit carries", _RESUME
    elif rule.resume_at and not (rule.resume_at.startswith(("https://", "http://", "/")) and rule.resume_at.count("{token}") == 1):
        yield f"resume_at={rule.resume_at!r} is no address with {{token}} in it", _RESUME
    elif rule.resume_at and rule.later is None:
        yield "resume_at= is about orders that are kept, and nothing is kept without later=", "later=place_order, terms=TERMS_VERSION"
    if rule.caps is not None and not isinstance(rule.caps, Caps):
        yield f"caps={rule.caps!r} is no Caps", "caps=Caps(order_minor=50_000)"


def _words(rule: Rule) -> _Wrong:
    for name, value, choices in (("charged_by", rule.charged_by, ("guard", "shop")), ("audience", rule.audience, ("browser", "machine"))):
        if value not in choices:
            yield f"{name}={value!r} is neither {choices[0]} nor {choices[1]}", f'{name}="{choices[0]}"'
    if not isinstance(rule.ignore_fields, tuple) or not all(isinstance(one, str) for one in rule.ignore_fields):
        yield f"ignore_fields={rule.ignore_fields!r} is no tuple of names", f"ignore_fields=({_first_name(rule.ignore_fields)!r},)"
    if not all(isinstance(one, str) for one in rule.gateways):
        yield f"gateway={type(rule.gateway).__name__} is no name", 'gateway="http:shop:live"'
    if not isinstance(rule.name, str) or len(rule.name) > NAME_CHARACTERS_MAX or not rule.name.isprintable():
        yield f"name={str(rule.name)[:40]!r} is not up to {NAME_CHARACTERS_MAX} printable characters", 'name="pay"'
    if rule.graphql_mutation and not _GRAPHQL_NAME.fullmatch(rule.graphql_mutation):
        yield f"graphql_mutation={rule.graphql_mutation!r} is no name of a mutation field", 'graphql_mutation="checkoutComplete"'
    elif rule.graphql_mutation and find_spec("graphql") is None:
        yield "graphql_mutation needs a GraphQL parser: run pip install 'cxguard[graphql]'", f'graphql_mutation="{rule.graphql_mutation}"'


def _times(rule: Rule) -> _Wrong:
    if rule.wait_seconds > rule.deadline_seconds:
        yield (
            f"wait_seconds={rule.wait_seconds:g} is longer than deadline_seconds={rule.deadline_seconds:g}",
            f"wait_seconds={rule.deadline_seconds / 2:g}",
        )
    if rule.run_seconds_max < rule.deadline_seconds:
        yield (
            f"run_seconds_max={rule.run_seconds_max:g} is shorter than deadline_seconds={rule.deadline_seconds:g}",
            f"run_seconds_max={max(120.0, rule.deadline_seconds):g}",
        )
    last = parts_of(rule.key)[-1]
    window_seconds = max(rule.duplicate_window_seconds, last.window_seconds if isinstance(last, PerPurchase) else 0.0)
    if rule.keep_seconds < window_seconds:
        yield (
            f"keep_seconds={rule.keep_seconds:g} is shorter than the {window_seconds:g} s in which the same purchase is taken for a "
            "repeat: the record would go first, and it would be charged again",
            f"keep_seconds={max(2_592_000.0, window_seconds):.0f}",
        )
    if rule.keep_seconds < rule.give_up_seconds:
        yield (
            f"keep_seconds={rule.keep_seconds:g} is shorter than give_up_seconds={rule.give_up_seconds:g}: the record would go first",
            f"keep_seconds={max(2_592_000.0, rule.give_up_seconds):.0f}",
        )


def _first_name(value: Any) -> str:
    return value if isinstance(value, str) else "csrf_token"
