"""All rules of a guard: look-ups, and rules that cannot live together."""

from __future__ import annotations

import json

import pytest

from cxguard.core.reading import Reading
from cxguard.core.snapshot import Snapshot
from cxguard.errors import ConfigurationError, SeveralMutations
from cxguard.rules import Rule, cookie, match_rules, per_purchase, redirects_to

OWNER = cookie("visitor")
PAY = Rule("POST /checkout/pay", owner=OWNER)
ORDER = Rule("POST /orders/{id}/pay", owner=OWNER)
CART = Rule("PUT /cart/*", owner=OWNER)
BOOK = match_rules([PAY, ORDER, CART])


@pytest.mark.parametrize(
    ("method", "path", "rule"),
    [
        ("POST", "/checkout/pay", PAY),
        ("POST", "/orders/17/pay", ORDER),
        ("PUT", "/cart/items/1", CART),
        ("GET", "/checkout/pay", None),
        ("HEAD", "/checkout/pay", None),
        ("POST", "/checkout/pay/", PAY),
        ("POST", "//checkout//pay", PAY),
        ("POST", "/checkout/pay\n", PAY),
        ("POST", "checkout/pay", PAY),
        ("POST", "https://shop.example/checkout/pay", PAY),
        ("post", "/checkout/pay", PAY),
        ("POST", "/orders/17/pay/", ORDER),
        ("POST", "//orders/17/pay", ORDER),
        ("POST", "/orders//pay", None),
        ("POST", "/checkout/pay/more", None),
        ("POST", "/Checkout/Pay", None),
        ("get", "/checkout/pay", None),
        ("POST", "/", None),
        ("PUT", "/checkout/pay", None),
        ("", "", None),
    ],
)
def test_find(method: str, path: str, rule: Rule | None) -> None:
    """A request has the rule of its method and path, also where it spells them otherwise than the rule, or none."""
    assert BOOK.find(method, path) is rule


def test_rules_by_name() -> None:
    """A record's rule is found by its name; one of another guard is not."""
    assert BOOK.by_name("POST /checkout/pay") is PAY
    assert BOOK.by_name("nothing") is None


def test_a_plain_rule_needs_no_choice() -> None:
    """Without GraphQL, what was found is what counts."""
    assert BOOK.choose(PAY, Snapshot("POST", "/checkout/pay", "", (), b"")) is PAY


def test_confirmation_pages() -> None:
    """A confirmation page is known as that of its rule, and no other page is."""
    reads = {Reading.SUCCEEDED: redirects_to("/thank-you*")}
    rule = Rule("POST /buy", owner=OWNER, key=per_purchase("GET /thank-you*"), reads=reads)
    book = match_rules([PAY, rule])
    assert list(book.confirmed_by("GET", "/thank-you/17")) == [rule]
    assert not book.confirmed_by("GET", "/") and not book.confirmed_by("POST", "/thank-you") and not BOOK.confirmed_by("GET", "/thank-you")


def test_a_guard_may_have_no_rules() -> None:
    """A guard for scripts alone has no rules, and finds none."""
    assert match_rules([]).find("POST", "/pay") is None


TEXTS = [
    (
        [Rule("POST /pay", owner=OWNER), Rule("POST /pay", owner=OWNER, name="again")],
        'two rules can match the same request: Rule("POST /pay") and Rule("POST /pay"); write one Rule("POST /pay", ...)',
    ),
    (
        [Rule("POST /orders/new", owner=OWNER), Rule("POST /orders/{id}", owner=OWNER)],
        'two rules can match the same request: Rule("POST /orders/new") and Rule("POST /orders/{id}"); '
        'write Rule("POST /orders/{id:int}", ...) if it is a number, or one rule for both',
    ),
    (
        [Rule("POST /cart*", owner=OWNER), Rule("POST /cart/pay", owner=OWNER)],
        'two rules can match the same request: Rule("POST /cart*") and Rule("POST /cart/pay"); '
        'write Rule("POST /cart/...", ...) so that it leaves the other out, or one rule for both',
    ),
    (
        [Rule("POST /graphql", owner=OWNER, graphql_mutation="pay"), Rule("POST /graphql", owner=OWNER)],
        'two rules can match the same request: Rule("POST /graphql") and Rule("POST /graphql"); '
        'write Rule("POST /graphql", ..., graphql_mutation="...") with a mutation of its own',
    ),
    (
        [Rule("POST /graphql", owner=OWNER, graphql_mutation="pay"), Rule("POST /graphql", owner=OWNER, graphql_mutation="pay", name="x")],
        'two rules can match the same request: Rule("POST /graphql") and Rule("POST /graphql"); '
        'write Rule("POST /graphql", ..., graphql_mutation="...") with a mutation of its own',
    ),
    (
        [Rule("POST /pay", owner=OWNER, name="pay"), Rule("POST /refund", owner=OWNER, name="pay")],
        'two rules have the name \'pay\': their orders would meet; write Rule("POST /refund", ..., name="POST /refund")',
    ),
]


@pytest.mark.parametrize(("rules", "text"), TEXTS)
def test_rules_that_cannot_live_together(rules: list[Rule], text: str) -> None:
    """Two rules for one request, or of one name, are refused at start with the line to write."""
    with pytest.raises(ConfigurationError) as refused:
        match_rules(rules)
    assert str(refused.value) == text


# --- several mutations at one address

PAY_MUTATION = Rule("POST /graphql", owner=OWNER, graphql_mutation="pay")
REFUND_MUTATION = Rule("POST /graphql", owner=OWNER, graphql_mutation="refund", body_bytes_max=100_000)


def graphql(query: str) -> Snapshot:
    return Snapshot("POST", "/graphql", "", (("content-type", "application/json"),), json.dumps({"query": query}).encode())


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("mutation { pay { id } }", PAY_MUTATION),
        ("mutation { refund { id } }", REFUND_MUTATION),
        ("mutation { like { id } }", None),
        ("{ pay }", None),
    ],
)
def test_mutation_chooses_the_rule(query: str, rule: Rule | None) -> None:
    """Of the rules at one address, the selected mutation's is chosen; other requests pass unguarded."""
    book = match_rules([PAY_MUTATION, REFUND_MUTATION])
    found = book.find("POST", "/graphql")
    assert found is not None and book.choose(found, graphql(query)) is rule


def test_longest_body_counts_until_it_is_read() -> None:
    """Before the body is read, the rule with the longest one stands for all at its address."""
    for rules in ([PAY_MUTATION, REFUND_MUTATION], [REFUND_MUTATION, PAY_MUTATION]):
        assert match_rules(rules).find("POST", "/graphql") is REFUND_MUTATION


def test_two_guarded_mutations_are_refused() -> None:
    """One answer cannot speak for a payment and a refund."""
    book = match_rules([PAY_MUTATION, REFUND_MUTATION])
    with pytest.raises(SeveralMutations):
        book.choose(PAY_MUTATION, graphql("mutation { pay { id } refund { id } }"))
