"""Rules: what they may say, and the line that each refusal prints instead."""

from __future__ import annotations

import importlib.util
from dataclasses import fields, replace
from typing import Any

import pytest

from cxguard.core.reading import Reading
from cxguard.errors import ConfigurationError
from cxguard.rules import Rule, cookie, fixed, form_field, header, json_field, major, path_field, per_purchase, redirects_to, replay

OWNER = cookie("visitor")
READS = {Reading.SUCCEEDED: redirects_to("/thank-you*")}
SIGNED = 'owner=signed_session("visitor_id", secret=SECRET_KEY)'
RESUME = 'resume_at="https://shop.example/checkout?resume={token}", resume_token=form_field("resume")'
SAYS_SUCCESS = 'reads={Reading.SUCCEEDED: redirects_to("/thank-you*")}'


async def place(op: object) -> None:
    return None


TEXTS: list[tuple[dict[str, Any], str, str]] = [
    ({"owner": None}, "owner is missing, and has no default: a wrong one would show one shopper's answer to another", SIGNED),
    ({"owner": "visitor"}, "owner='visitor' does not say where to read it", 'owner=signed_session("visitor", secret=SECRET_KEY)'),
    ({"gateway": object()}, "gateway=object is no name", 'gateway="http:shop:live"'),
    ({"name": 5}, "name='5' is not up to 120 printable characters", 'name="pay"'),
    ({"key": None}, "key=None cannot tell two purchases apart", 'key=header("Idempotency-Key") | json_field("cart_id")'),
    ({"owner": 7}, "owner=7 is no source", SIGNED),
    ({"key": 7}, "key=7 is no source", 'key=json_field("key")'),
    (
        {"owner": form_field("user")},
        'owner=form_field("user") can be typed in by anybody, who would then be shown this shopper\'s answer',
        SIGNED,
    ),
    (
        {"owner": cookie("a") | path_field("user")},
        'owner=path_field("user") can be typed in by anybody, who would then be shown this shopper\'s answer',
        SIGNED,
    ),
    ({"owner": per_purchase("GET /done")}, "owner cannot be read from PerPurchase", SIGNED),
    ({"can_wait": "no"}, "can_wait='no' is neither a truth value nor a function of the request", "can_wait=False"),
    (
        {"consent": json_field("agrees")},
        "consent= is about being charged later, and nothing is kept without later=",
        "later=place_order, terms=TERMS_VERSION",
    ),
    (
        {"consent": json_field("agrees"), "later": place, "terms": "1"},
        "consent= without amount_minor= has no ceiling: the shopper agrees to an amount",
        'amount_minor=json_field("amount")',
    ),
    ({"consent": "agrees"}, "consent='agrees' does not say where to read it", 'consent=json_field("agrees")'),
    ({"revalidate": "look", "later": place, "terms": "1"}, "revalidate='look' cannot be asked", "revalidate=look_at_price_and_stock"),
    (
        {"revalidate": place},
        "revalidate= is about a later charge, and nothing is kept without later=",
        "later=place_order, terms=TERMS_VERSION",
    ),
    (
        {"resume_at": "https://shop.example/checkout?resume={token}", "later": place, "terms": "1"},
        "resume_at and resume_token belong together: the page that a shopper is sent to, and what its submit carries",
        RESUME,
    ),
    (
        {"resume_at": "https://shop.example/checkout", "resume_token": json_field("resume"), "later": place, "terms": "1"},
        "resume_at='https://shop.example/checkout' is no address with {token} in it",
        RESUME,
    ),
    (
        {"resume_at": "javascript:{token}", "resume_token": json_field("resume"), "later": place, "terms": "1"},
        "resume_at='javascript:{token}' is no address with {token} in it",
        RESUME,
    ),
    (
        {"resume_at": "/checkout?resume={token}", "resume_token": json_field("resume")},
        "resume_at= is about orders that are kept, and nothing is kept without later=",
        "later=place_order, terms=TERMS_VERSION",
    ),
    ({"caps": 500}, "caps=500 is no Caps", "caps=Caps(order_minor=50_000)"),
    ({"owner": cookie("a") | per_purchase("GET /done")}, "owner cannot be per_purchase", SIGNED),
    ({"key": "Idempotency-Key"}, "key='Idempotency-Key' does not say where to read it", 'key=header("Idempotency-Key")'),
    ({"purchase": "cart_id"}, "purchase='cart_id' does not say where to read it", 'purchase=json_field("cart_id")'),
    ({"contact": "email"}, "contact='email' does not say where to read it", 'contact=json_field("email")'),
    ({"contact": major(json_field("a"))}, "contact cannot be read from Major", 'contact=json_field("contact")'),
    (
        {"key": form_field("cart")},
        'the key form_field("cart") belongs to a page that may answer a failure with 200 or a redirect: reads= must say what success is',
        SAYS_SUCCESS,
    ),
    (
        {"key": header("Idempotency-Key") | per_purchase("GET /thank-you*")},
        'the key per_purchase(done="GET /thank-you*") belongs to a page that may answer a failure with 200 or a redirect: '
        "reads= must say what success is",
        SAYS_SUCCESS,
    ),
    (
        {"key": per_purchase("GET /done", window_seconds=5), "reads": READS},
        "window_seconds=5 is not from 60 to 86400 (an older basket is another visit's)",
        'key=per_purchase(done="GET /done", window_seconds=1800)',
    ),
    ({"amount_minor": json_field("amount")}, "amount_minor without currency is no amount", 'currency=json_field("currency")'),
    ({"currency": "EUR"}, "currency without amount_minor is no amount", 'amount_minor=json_field("amount")'),
    (
        {"amount_minor": json_field("a"), "currency": "Euro"},
        "currency='Euro' is no code of ISO 4217, in capitals",
        'currency="EUR"',
    ),
    ({"later": "replay", "terms": "1"}, "later='replay' cannot place an order", "later=place_order, terms=TERMS_VERSION"),
    (
        {"later": replay},
        "later= keeps orders and charges them later, which needs the version of the text that the shopper agreed to",
        'terms="2026-01"',
    ),
    ({"resolve": "stripe"}, "resolve='stripe' cannot be asked", "resolve=ask_gateway"),
    (
        {"audience": "machine", "later": place, "terms": "1"},
        "a machine repeats by itself: what it sent is answered 503, never kept",
        'audience="machine", later=None',
    ),
    ({"audience": "machine", "client_reads_202": True}, "a machine is never told a 202", 'audience="machine", client_reads_202=False'),
    ({"rerun_safe": True}, "rerun_safe is about a handler that charges by itself", 'charged_by="shop", rerun_safe=True'),
    ({"charged_by": "stripe"}, "charged_by='stripe' is neither guard nor shop", 'charged_by="guard"'),
    ({"audience": "robot"}, "audience='robot' is neither browser nor machine", 'audience="browser"'),
    ({"ignore_fields": "csrf"}, "ignore_fields='csrf' is no tuple of names", "ignore_fields=('csrf',)"),
    ({"ignore_fields": (1,)}, "ignore_fields=(1,) is no tuple of names", "ignore_fields=('csrf_token',)"),
    ({"name": "a\nb"}, "name='a\\nb' is not up to 120 printable characters", 'name="pay"'),
    ({"name": "x" * 121}, f"name={'x' * 40!r} is not up to 120 printable characters", 'name="pay"'),
    (
        {"graphql_mutation": "checkout complete"},
        "graphql_mutation='checkout complete' is no name of a mutation field",
        'graphql_mutation="checkoutComplete"',
    ),
    ({"wait_seconds": 12}, "wait_seconds=12 is longer than deadline_seconds=10", "wait_seconds=5"),
    (
        {"deadline_seconds": 30, "run_seconds_max": 20},
        "run_seconds_max=20 is shorter than deadline_seconds=30",
        "run_seconds_max=120",
    ),
    (
        {"keep_seconds": 3600, "give_up_seconds": 7200},
        "keep_seconds=3600 is shorter than give_up_seconds=7200: the record would go first",
        "keep_seconds=2592000",
    ),
    (
        {"keep_seconds": 3600, "give_up_seconds": 600, "duplicate_window_seconds": 7200},
        "keep_seconds=3600 is shorter than the 7200 s in which the same purchase is taken for a repeat: the record would go first, "
        "and it would be charged again",
        "keep_seconds=2592000",
    ),
    (
        {"deadline_seconds": 61},
        "deadline_seconds=61 is not a number from 1 to 60 (a shopper who waits longer has pressed the button again)",
        "deadline_seconds=10",
    ),
    (
        {"give_up_seconds": 86_401},
        "give_up_seconds=86401 is not a number from 60 to 86400 (nobody wants yesterday's order charged today)",
        "give_up_seconds=86400",
    ),
    (
        {"body_bytes_max": 65_536.0},
        "body_bytes_max=65536.0 is not a whole number from 1024 to 16777216 "
        "(a checkout's body is a few kB, and every one is held in memory)",
        "body_bytes_max=65536",
    ),
]


@pytest.mark.parametrize(("settings", "wrong", "write"), TEXTS)
def test_refusals_print_the_corrected_line(settings: dict[str, Any], wrong: str, write: str) -> None:
    """Each thing that a rule may not say is refused with what is wrong and the line of Python to write."""
    with pytest.raises(ConfigurationError) as refused:
        Rule("POST /checkout/pay", **{"owner": OWNER, **settings})
    assert str(refused.value) == f'Rule("POST /checkout/pay"): {wrong}; write Rule("POST /checkout/pay", ..., {write})'


LIMITS = [one for one in fields(Rule) if "least" in one.metadata]


@pytest.mark.parametrize("one", LIMITS, ids=lambda one: one.name)
def test_every_number_has_a_unit_a_range_and_a_reason(one: Any) -> None:
    """Each number's name ends with its unit, its default lies within its range, and the reason is a sentence."""
    assert one.name.endswith(("_seconds", "_seconds_max", "_bytes_max"))
    assert one.metadata["least"] <= one.default <= one.metadata["most"]
    assert len(one.metadata["why"]) > 30


@pytest.mark.parametrize("wrong", ["least", "most", float("nan"), float("inf"), True, "5", None], ids=str)
@pytest.mark.parametrize("one", LIMITS, ids=lambda one: one.name)
def test_numbers_outside_their_range_are_refused(one: Any, wrong: object) -> None:
    """Just below, just above, not a number, infinite, a truth value or text: each is refused by name and default."""
    edges = {"least": one.metadata["least"] - 0.25, "most": one.metadata["most"] + 1}
    value = edges.get(wrong, wrong) if isinstance(wrong, str) else wrong
    settings: dict[str, Any] = {one.name: value}
    with pytest.raises(ConfigurationError, match=rf"{one.name}=.* write Rule\(\"POST /pay\", ..., {one.name}="):
        Rule("POST /pay", owner=OWNER, **settings)


def test_defaults_of_the_blueprint() -> None:
    """The defaults that documents and messages speak of."""
    rule = Rule("POST /pay", owner=OWNER)
    assert (rule.deadline_seconds, rule.wait_seconds, rule.lease_seconds, rule.run_seconds_max) == (10, 5, 30, 120)
    assert (rule.body_bytes_max, rule.body_seconds_max, rule.answer_bytes_max, rule.settle_seconds) == (65_536, 10, 2**20, 0.2)
    assert (rule.double_click_seconds, rule.duplicate_window_seconds, rule.give_up_seconds) == (10, 900, 86_400)
    assert rule.keep_seconds == 30 * 86_400
    assert (rule.key_required, rule.audience, rule.charged_by, rule.client_reads_202, rule.rerun_safe) == (
        True,
        "browser",
        "guard",
        False,
        False,
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [({}, "POST /pay"), ({"graphql_mutation": "pay"}, "POST /pay pay"), ({"name": "pay order"}, "pay order")],
)
def test_names(settings: dict[str, Any], name: str) -> None:
    """A rule is named by its match, and its mutation, unless it names itself."""
    assert Rule("POST /pay", owner=OWNER, **settings).name == name


def test_what_is_ready_after_the_check() -> None:
    """A checked rule has its pattern, its cases and its confirmation page at hand."""
    rule = Rule(
        "POST /{shop}/pay",
        owner=OWNER,
        key=header("Idempotency-Key") | per_purchase("GET /thank-you*"),
        reads=READS,
        purchase=json_field("cart"),
    )  # type: ignore[arg-type]
    assert rule.params("/fern/pay") == {"shop": "fern"}
    assert [reading for _, reading in rule.cases] == [Reading.SUCCEEDED]
    assert rule.per_purchase is not None and rule.done is not None and rule.done.regex.fullmatch("/thank-you/17")
    assert len(rule.purchase) == 1


def test_changed_rule_is_checked_again() -> None:
    """A copy with another setting is checked as a new rule is."""
    rule = Rule("POST /pay", owner=OWNER)
    assert replace(rule, wait_seconds=1).wait_seconds == 1
    with pytest.raises(ConfigurationError, match="wait_seconds=-1"):
        replace(rule, wait_seconds=-1)


def test_webhook_rule() -> None:
    """A rule for machines with one owner for all is fine."""
    rule = Rule("POST /hooks/stripe", owner=fixed("stripe"), key=json_field("id"), audience="machine")
    assert rule.audience == "machine"


def test_missing_graphql_parser_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the GraphQL parser, the error says what to install."""
    monkeypatch.setattr("cxguard.rules.checks.find_spec", lambda name: None if name == "graphql" else importlib.util.find_spec(name))
    with pytest.raises(ConfigurationError) as refused:
        Rule("POST /graphql", owner=OWNER, graphql_mutation="pay")
    assert "graphql_mutation needs a GraphQL parser: run pip install 'cxguard[graphql]'" in str(refused.value)
