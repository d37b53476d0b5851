"""Which guarded mutation a GraphQL request selects, by a real parser.

A request is any of: a JSON body, a batch of them in a list, a form with the same fields, a multipart form whose
`operations` field is the JSON (files elsewhere), a body that is the document itself, or a `query` in the URL.
Where servers differ in what they would run (several operations and no name, say), all of it counts: to be refused once
too often costs a shopper a second click, to be led past costs a second charge.

Source: GraphQL specification (October 2021), sections 2 and 6; GraphQL over HTTP (draft); GraphQL multipart request
    specification (jaydenseric); Apollo, "Automatic persisted queries".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from graphql import (
    BooleanValueNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    parse,
)

from cxguard.core.snapshot import Snapshot, read_json
from cxguard.errors import BadBody, HiddenMutation, SeveralMutations

TOKENS_MAX = 5_000  # a checkout's mutation has a few hundred; more is an attack on the parser
BATCH_MAX = 50  # requests in one batch
SELECTIONS_MAX = 5_000  # looked at in one document: fragments that spread each other twice make 2^40 of a kilobyte
_MEMBERS = frozenset({"query", "operationName", "variables", "extensions", "operations"})
_HASHED = ("id", "documentId", "doc_id", "queryId", "query_id")


@dataclass(frozen=True, slots=True)
class _Request:
    """One GraphQL request of a body. `query` is None when it is persisted elsewhere."""

    query: str | None
    operation_name: str | None
    variables: Mapping[str, Any]


def selected_mutation(snapshot: Snapshot, ruled: frozenset[str]) -> str | None:
    """The one mutation of *ruled* that this request selects; None if it selects none of them.

    Raises:
        SeveralMutations: it selects more than one, or one of them twice.
        HiddenMutation: a persisted hash may stand for one.
        BadBody: it cannot be read, and may hold one.
    """
    selected: list[str] = []
    for request in _requests(snapshot):
        if request.query is None:
            raise HiddenMutation("a persisted hash may stand for a guarded mutation: send the whole query text with it")
        if any(name in request.query for name in ruled):  # names cannot be escaped: a text without one selects none
            selected += [name for name in _selected(request) if name in ruled]
    if len(selected) > 1:
        raise SeveralMutations(f"the request selects {' and '.join(sorted(selected))}: send each guarded mutation in a request of its own")
    return selected[0] if selected else None


def variables_of(snapshot: Snapshot) -> Mapping[str, Any]:
    """The variables of a request; of a batch, all of them, the first request's in front."""
    merged: dict[str, Any] = {}
    for request in _requests(snapshot):
        merged = {**request.variables, **merged}
    return merged


# --- taking the requests out of a body


def _requests(snapshot: Snapshot) -> Iterator[_Request]:
    in_url = _once_each(parse_qsl(snapshot.query))
    if "query" in in_url:
        yield _from_fields(in_url)
    content = list(_contents(snapshot))
    if len(content) > BATCH_MAX:
        raise BadBody(f"the batch has {len(content)} requests: send at most {BATCH_MAX}")
    for one in content:
        if not isinstance(one, dict):
            raise BadBody("a GraphQL request is a JSON object with a query: send that")
        yield from _one(one)


def _contents(snapshot: Snapshot) -> Iterable[Any]:
    """The objects of the body, before anything is believed about them."""
    media_type = snapshot.content_type.media_type
    if not snapshot.body:
        return []
    if media_type == "application/graphql":
        return [{"query": _text(snapshot.body)}]
    if snapshot.is_form:
        fields = _once_each(snapshot.form().fields)
        return _listed(read_json(fields["operations"].encode())) if "operations" in fields else [_decoded(fields)]
    return _listed(snapshot.json())


def _once_each(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fields by name. Of two with one name, servers differ in which one they believe."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields and name in _MEMBERS:
            raise BadBody(f"the request has the field {name!r} twice: send it once")
        fields[name] = value
    return fields


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _one(body: Mapping[str, Any]) -> Iterator[_Request]:
    query, name, variables = body.get("query"), body.get("operationName"), body.get("variables")
    if query is not None and not isinstance(query, str):
        raise BadBody("the query of a GraphQL request is text: send it as a string")
    hashed = any(body.get(member) for member in _HASHED) or bool(_extension(body, "persistedQuery"))
    if query or hashed:
        yield _Request(query or None, name if isinstance(name, str) and name else None, variables if isinstance(variables, dict) else {})


def _extension(body: Mapping[str, Any], name: str) -> Any:
    extensions = body.get("extensions")
    return extensions.get(name) if isinstance(extensions, dict) else None


def _from_fields(fields: Mapping[str, str]) -> _Request:
    return next(_one(_decoded(fields)), _Request("", None, {}))


def _decoded(fields: Mapping[str, str]) -> dict[str, Any]:
    """Form or URL fields: `variables` and `extensions` are JSON in them."""
    decoded: dict[str, Any] = dict(fields)
    for name in ("variables", "extensions"):
        if fields.get(name):
            decoded[name] = read_json(fields[name].encode())
    return decoded


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadBody("the GraphQL document is not UTF-8: send it in UTF-8") from error


# --- what a document selects


def _selected(request: _Request) -> list[str]:
    try:
        return list(_root_fields(request))
    except RecursionError as error:
        raise BadBody("the fragments of the GraphQL document nest too deeply: send a plain document") from error


def _root_fields(request: _Request) -> Iterator[str]:
    document = _parsed(request.query or "")
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    named = [node for node in operations if node.name is not None and node.name.value == request.operation_name]
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    reading = _Reading(fragments, iter(range(SELECTIONS_MAX)))
    for operation in named or operations:
        if operation.operation is OperationType.MUTATION:
            variables = {**_defaults(operation), **request.variables}
            yield from _fields(operation.selection_set, reading, variables=variables, inside=())


@dataclass(frozen=True, slots=True)
class _Reading:
    """One document being read: its fragments, and how many selections may still be looked at."""

    fragments: Mapping[str, FragmentDefinitionNode]
    left: Iterator[int]


def _parsed(query: str) -> DocumentNode:
    try:
        return parse(query, no_location=True, max_tokens=TOKENS_MAX)
    except (GraphQLError, RecursionError) as error:
        raise BadBody("the GraphQL document cannot be read, and names a guarded mutation: send a plain, valid document") from error


def _fields(selections: SelectionSetNode, reading: _Reading, *, variables: Mapping[str, Any], inside: tuple[str, ...]) -> Iterator[str]:
    fragments = reading.fragments
    for node in selections.selections:
        if next(reading.left, None) is None:
            raise BadBody(f"the GraphQL document selects more than {SELECTIONS_MAX} fields, fragments counted each time: send fewer")
        if not _included(node, variables):
            continue
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, reading, variables=variables, inside=inside)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in inside and node.name.value in fragments:
            fragment = fragments[node.name.value]
            yield from _fields(fragment.selection_set, reading, variables=variables, inside=(*inside, node.name.value))


def _included(node: SelectionNode, variables: Mapping[str, Any]) -> bool:
    """Whether `@skip` and `@include` surely leave it out; what cannot be told counts as selected."""
    for directive in node.directives or ():
        condition = next((argument.value for argument in directive.arguments or () if argument.name.value == "if"), None)
        value = _boolean(condition, variables)
        if (directive.name.value, value) in (("skip", True), ("include", False)):
            return False
    return True


def _boolean(node: ValueNode | None, variables: Mapping[str, Any]) -> bool | None:
    value = variables.get(node.name.value) if isinstance(node, VariableNode) else node.value if isinstance(node, BooleanValueNode) else None
    return value if isinstance(value, bool) else None


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    return {
        definition.variable.name.value: definition.default_value.value
        for definition in operation.variable_definitions or ()
        if isinstance(definition.default_value, BooleanValueNode)
    }
