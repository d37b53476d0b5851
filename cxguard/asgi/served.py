"""Notice that a shopper has seen the confirmation page: under `per_purchase` the next submit is then a new purchase."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from cxguard.asgi.identify import current_claim
from cxguard.asgi.types import App, Message, Receive, Scope, Send
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State
from cxguard.core.reading import HandlerAnswer
from cxguard.core.snapshot import Snapshot, below_root, full_path
from cxguard.engine.cold import open_answer
from cxguard.errors import BadRequest, SealError, StoreError
from cxguard.guard import Guard
from cxguard.logs import get_logger
from cxguard.rules import Arrival, Rule, resolve_owner
from cxguard.stores.base import Query

_log = get_logger("served")


async def serve_confirmation(guard: Guard, rules: Sequence[Rule], app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a confirmation page through; once it was served well, put that on record. Never in the shopper's way."""
    status = 0

    async def watched(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    await app(scope, receive, watched)
    if 200 <= status < 300:
        for rule in rules:
            await _note(guard, rule, scope)


async def _note(guard: Guard, rule: Rule, scope: Scope) -> None:
    try:
        owner = guard.owner_name(await resolve_owner(rule, Arrival(Snapshot.from_scope(scope, body=b""), scope)))
        found = await guard.store.search(Query(namespace=guard.namespace, claim=current_claim(guard, rule, owner), limit=1))
        for operation in found.operations:
            if operation.state in (State.FINISHED, State.CANCELLED) and not _of_another(guard, rule, operation, scope):
                note = Note(f"served:{operation.generation}", NoteKind.SERVED, guard.clock.now(), source="confirmation")
                await guard.engine.operations.note(operation.id, note)
    except (BadRequest, StoreError) as error:  # then the window ends the purchase
        _log.warning("confirmation.not_noted", why=type(error).__name__)


def _of_another(guard: Guard, rule: Rule, operation: Operation, scope: Scope) -> bool:
    """Whether the order's own answer leads to another confirmation page than this one: that of an older order, in an old tab."""
    try:
        stored = open_answer(guard.engine.seal, operation)
    except SealError:
        return False
    root = scope.get("root_path") or ""
    own = urlsplit((stored.header("location") or "") if isinstance(stored, HandlerAnswer) else "")
    place = unquote(own.path)
    written = (place, below_root(place, root), root.rstrip("/") + place)  # a proxy may take it off, and put it on again
    if rule.done is None or not any(rule.done.regex.fullmatch(each) for each in written):
        return False
    asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return _parts_ways(below_root(full_path(scope), root), below_root(place, root)) or _differs(parse_qsl(own.query), asked)


def _parts_ways(one: str, other: str) -> bool:
    """Whether two paths name two things. A page for all orders, which one's own page leads on to, or back, names none."""
    return any(mine != theirs for mine, theirs in zip(one.strip("/").split("/"), other.strip("/").split("/"), strict=False))


def _differs(own: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]) -> bool:
    """Whether a value of the own page is another one here. A page may drop them once it has read them."""
    return any(name in dict(asked) and (name, value) not in asked for name, value in own)
