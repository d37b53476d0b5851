"""GraphQL: which guarded mutation a request selects, however it is written."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from cxguard.core.snapshot import Snapshot
from cxguard.errors import BadBody, HiddenMutation, SeveralMutations
from cxguard.rules.graphql_reading import selected_mutation, variables_of

RULED = frozenset({"pay", "refund"})
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def request(body: Any, *, content_type: str = JSON, query: str = "") -> Snapshot:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Snapshot("POST", "/graphql", query, (("content-type", content_type),), raw)


def multipart(operations: Any) -> Snapshot:
    def part(name: str, content: str, more: str = "") -> str:
        return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{content}\r\n'

    body = (
        part("operations", json.dumps(operations)) + part("map", '{"0": ["variables.file"]}') + part("0", "dear shop", '; filename="l.txt"')
    )
    return request((body + "--b--\r\n").encode(), content_type="multipart/form-data; boundary=b")


FRAGMENTS = "fragment F on Mutation { ...G } fragment G on Mutation { ... on Mutation { pay { id } } }"

SELECTIONS: list[tuple[dict[str, Any], str | None]] = [
    ({"query": "mutation { pay { id } }"}, "pay"),
    ({"query": "mutation { like pay { id } }"}, "pay"),
    ({"query": "mutation Pay { pay { id } }", "operationName": "Pay"}, "pay"),
    ({"query": "mutation { p: pay { id } }"}, "pay"),
    ({"query": "mutation { pay: like { id } }"}, None),
    ({"query": "{ pay }"}, None),
    ({"query": "query { pay }"}, None),
    ({"query": "subscription { pay }"}, None),
    ({"query": "mutation { like { pay } }"}, None),
    ({"query": 'mutation { like(note: "pay") }'}, None),
    ({"query": "mutation { like } # pay"}, None),
    ({"query": "mutation { prepay { id } }"}, None),
    ({"query": "mutation { like }"}, None),
    ({"query": "query A { a } mutation B { pay { id } }", "operationName": "A"}, None),
    ({"query": "query A { a } mutation B { pay { id } }", "operationName": "B"}, "pay"),
    ({"query": "query A { a } mutation B { pay { id } }"}, "pay"),
    ({"query": "query A { a } mutation B { pay { id } }", "operationName": "C"}, "pay"),
    ({"query": "query A { a } mutation B { pay { id } }", "operationName": ""}, "pay"),
    ({"query": "query A { a } mutation B { pay { id } }", "operationName": None}, "pay"),
    ({"query": "mutation { ... on Mutation { pay { id } } }"}, "pay"),
    ({"query": "mutation { ... { pay { id } } }"}, "pay"),
    ({"query": f"mutation {{ ...F }} {FRAGMENTS}"}, "pay"),
    ({"query": f"mutation {{ like }} {FRAGMENTS}"}, None),
    ({"query": "mutation { ...F } fragment F on Mutation { ...F pay { id } }"}, "pay"),
    ({"query": "mutation { ...Missing pay { id } }"}, "pay"),
    ({"query": "mutation { pay @skip(if: true) { id } like }"}, None),
    ({"query": "mutation { pay @skip(if: false) { id } }"}, "pay"),
    ({"query": "mutation { pay @include(if: false) { id } like }"}, None),
    ({"query": "mutation { pay @include(if: true) @skip(if: true) { id } like }"}, None),
    ({"query": "mutation ($v: Boolean!) { pay @include(if: $v) { id } }", "variables": {"v": False}}, None),
    ({"query": "mutation ($v: Boolean!) { pay @include(if: $v) { id } }", "variables": {"v": True}}, "pay"),
    ({"query": "mutation ($v: Boolean = false) { pay @include(if: $v) { id } }"}, None),
    ({"query": "mutation ($v: Boolean = false) { pay @include(if: $v) { id } }", "variables": {"v": True}}, "pay"),
    ({"query": "mutation ($v: Boolean!) { pay @include(if: $v) { id } }"}, "pay"),
    ({"query": "mutation ($v: Boolean!) { pay @include(if: $v) { id } }", "variables": {"v": "false"}}, "pay"),
    ({"query": "mutation { ...F @skip(if: true) } fragment F on Mutation { pay { id } }"}, None),
    ({"query": "mutation { ... @include(if: false) { pay { id } } }"}, None),
    ({"query": "mutation { pay @other { id } }"}, "pay"),
    ({"query": "mutation { pay @skip { id } }"}, "pay"),
    ({"query": "mutation { pay { id } }", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}}, "pay"),
    ({"query": "mutation { pay { id } }", "variables": [1]}, "pay"),
    ({}, None),
    ({"query": None}, None),
    ({"query": ""}, None),
]


@pytest.mark.parametrize(("body", "mutation"), SELECTIONS)
def test_selections_in_json(body: dict[str, Any], mutation: str | None) -> None:
    """Operation, aliases, fragments, directives and variables decide what is selected; what cannot be told counts."""
    assert selected_mutation(request(body), RULED) == mutation


@pytest.mark.parametrize(("body", "mutation"), SELECTIONS)
def test_selections_in_every_encoding(body: dict[str, Any], mutation: str | None) -> None:
    """A batch of one, a form and a multipart form select what the JSON body selects."""
    assert selected_mutation(request([body]), RULED) == mutation
    assert selected_mutation(multipart(body), RULED) == mutation
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items() if value is not None}
    assert selected_mutation(request(urlencode(fields).encode(), content_type=FORM), RULED) == mutation


@pytest.mark.parametrize(
    ("snapshot", "mutation"),
    [
        (request(b"mutation { pay { id } }", content_type="application/graphql"), "pay"),
        (request(b"{ a }", content_type="application/graphql"), None),
        (request(b"", query=urlencode({"query": "mutation { pay { id } }"})), "pay"),
        (
            request(
                {"query": "{ a }"},
                query=urlencode({"query": "mutation ($v: Boolean) { pay @skip(if: $v) { id } }", "variables": '{"v": true}'}),
            ),
            None,
        ),
        (request([{"query": "{ a }"}, {"query": "mutation { pay { id } }"}]), "pay"),
        (multipart([{"query": "{ a }"}, {"query": "mutation { pay { id } }"}]), "pay"),
        (request([]), None),
        (request(b""), None),
    ],
)
def test_other_places(snapshot: Snapshot, mutation: str | None) -> None:
    """A bare document, the URL, and batches are read as well."""
    assert selected_mutation(snapshot, RULED) == mutation


@pytest.mark.parametrize(
    "snapshot",
    [
        request({"query": "mutation { pay { id } refund { id } }"}),
        request({"query": "mutation { a: pay { id } b: pay { id } }"}),
        request({"query": "mutation { pay { id } ...F } fragment F on Mutation { refund { id } }"}),
        request({"query": "mutation A { pay { id } } mutation B { refund { id } }"}),
        request([{"query": "mutation { pay { id } }"}, {"query": "mutation { pay { id } }"}]),
        request({"query": "mutation { pay { id } }"}, query=urlencode({"query": "mutation { refund { id } }"})),
    ],
)
def test_more_than_one_is_refused(snapshot: Snapshot) -> None:
    """Two guarded mutations, or one twice, cannot share one answer."""
    with pytest.raises(SeveralMutations, match="send each guarded mutation in a request of its own"):
        selected_mutation(snapshot, RULED)


@pytest.mark.parametrize(
    "body",
    [
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}},
        {"query": "", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "ab"}}},
        {"query": None, "id": "ab"},
        {"documentId": "ab", "variables": {}},
        {"doc_id": 17},
        [{"query": "{ a }"}, {"documentId": "ab"}],
    ],
)
def test_hidden_mutations_are_refused(body: Any) -> None:
    """A hash without its text may stand for a payment: the client is made to send the whole."""
    with pytest.raises(HiddenMutation, match="send the whole query text") as refused:
        selected_mutation(request(body), RULED)
    assert refused.value.graphql_code == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    ("snapshot", "says"),
    [
        (request({"query": "mutation { pay { id }"}), "cannot be read, and names a guarded mutation"),
        (request({"query": "mutation { pay " + "{ a " * 3000 + "} " * 3000 + "}"}), "cannot be read, and names a guarded mutation"),
        (request({"query": "mutation { pay { " + "a " * 6000 + "} }"}), "cannot be read, and names a guarded mutation"),
        (request({"query": ["mutation { pay }"]}), "the query of a GraphQL request is text"),
        (request("mutation"), "is a JSON object with a query"),
        (request([1]), "is a JSON object with a query"),
        (request([{"query": "{ a }"}] * 51), "the batch has 51 requests"),
        (request(b'{"query": "{ a }", "query": "mutation { pay }"}'), "the member 'query' twice"),
        (request(b"\xff", content_type="application/graphql"), "is not UTF-8"),
        (request(b"query=mutation&variables={", content_type=FORM), "is not JSON"),
        (request(b"query={a}&query=mutation{pay}", content_type=FORM), "the field 'query' twice"),
        (request(b"", query="query={a}&query=mutation{pay}"), "the field 'query' twice"),
    ],
)
def test_what_cannot_be_read_is_refused(snapshot: Snapshot, says: str) -> None:
    """Broken, monstrous or ambiguous requests do not lead past the guard."""
    with pytest.raises(BadBody, match=says):
        selected_mutation(snapshot, RULED)


def test_broken_query_about_something_else_passes() -> None:
    """A document that names no guarded mutation is none of our business, broken or not."""
    assert selected_mutation(request({"query": "mutation { like( }"}), RULED) is None


def test_variables_of_every_encoding() -> None:
    """Variables are found in JSON, forms, multipart forms and batches."""
    body = {"query": "{ a }", "variables": {"cartId": "7"}}
    fields = urlencode({"query": "{ a }", "variables": '{"cartId": "7"}'}).encode()
    for snapshot in (request(body), request([{"query": "{ b }"}, body]), multipart(body), request(fields, content_type=FORM)):
        assert variables_of(snapshot)["cartId"] == "7"


@pytest.mark.parametrize("depth", [40, 250])
def test_fragments_that_multiply_are_refused_at_once(depth: int) -> None:
    """A kilobyte in which each fragment spreads the next one twice selects 2^40 fields: nobody counts them."""
    spread = " ".join(f"fragment f{number} on M {{ ...f{number + 1} ...f{number + 1} }}" for number in range(depth))
    document = f"mutation {{ ...f0 }} {spread} fragment f{depth} on M {{ like }} # pay"
    with pytest.raises(BadBody, match="selects more than"):
        selected_mutation(request({"query": document}), RULED)


def test_a_long_chain_of_fragments_is_read_or_refused() -> None:
    """However deep the caller already stands."""
    chain = " ".join(f"fragment f{number} on M {{ ...f{number + 1} }}" for number in range(550))
    snapshot = request({"query": f"mutation {{ ...f0 }} {chain} fragment f550 on M {{ pay }}"})

    def below(depth: int) -> str | None:
        return below(depth - 1) if depth else selected_mutation(snapshot, RULED)

    assert selected_mutation(snapshot, RULED) == "pay"
    with pytest.raises(BadBody, match="nest too deeply"):
        below(600)
