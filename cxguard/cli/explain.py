"""`cxguard explain`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import click

from cxguard.asgi.explaining import Explanation, explain
from cxguard.asgi.types import Scope
from cxguard.cli.explanation_views import explanation_json, print_explanation
from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import find_target
from cxguard.cli.printing import as_json, print_json
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.errors import ConfigurationError
from cxguard.guard import Guard

BODY_BYTES_MAX = 32 * 1024 * 1024  # twice the largest body that any rule may allow: enough to see it refused


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """`NAME=VALUE` or `Name: value`."""

    def __init__(self, between: str) -> None:
        self.name = f"name{between}value"
        self._between = between

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value[0], value[1]
        name, found, rest = str(value).partition(self._between)
        if not found or not name.strip():
            self.fail(f"{value!r} has no {self._between!r} after a name", param, ctx)
        return name.strip(), rest.strip() if self._between == ":" else rest


@click.command("explain", short_help="What the guard would make of one request, and why.", epilog=EXIT_CODES)
@click.argument("program")
@click.argument("request")
@click.option("-H", "--header", "headers", multiple=True, type=Pair(":"), help="A header; may be given more than once.")
@click.option("--body", default="", help="The body, or @file. JSON, unless a Content-Type header says otherwise.")
@click.option("--form", "fields", multiple=True, type=Pair("="), help="A field of a form body; may be given more than once.")
@click.option("--cookie", "cookies", multiple=True, type=Pair("="), help="A cookie; may be given more than once.")
@click.option("--session", "session", multiple=True, type=Pair("="), help="A member of the framework's session.")
@click.option("--user", default="", help="The id of a user whom the framework has authenticated.")
@as_json
def command(
    program: str,
    request: str,
    headers: Sequence[tuple[str, str]],
    body: str,
    fields: Sequence[tuple[str, str]],
    cookies: Sequence[tuple[str, str]],
    session: Sequence[tuple[str, str]],
    user: str,
    as_json: bool,
) -> None:
    """Say what the guard of PROGRAM (shop.main:app) would make of REQUEST ('POST /pay'), and why.

    The handler is not run and nothing is written, to the store or elsewhere; the rule's own callables are asked. Shows the
    rule or what kept the nearest ones from matching, owner (a pseudonym), key, amount, what the store has for it now, and
    what this client is told for each reading of the handler's answer and in each state of the order. Ends with 1 when no
    rule is for the request, or it would be refused.

    \b
    Examples:
      cxguard explain shop.main:app 'POST /pay' --body '{"cart_id": "c1", "amount": 4999}' -H 'Idempotency-Key: k1'
      cxguard explain shop.main:app 'POST /checkout' --form basket_id=b1 --cookie session=eyJ2...
      cxguard explain shop.main:app 'POST /graphql' --body @pay.json -H 'Prefer: respond-async' --json
    """
    if fields and body:
        raise click.UsageError("give --body or --form, not both")
    content, kind = (urlencode(fields).encode(), "application/x-www-form-urlencoded") if fields else (_body(body), "application/json")
    scope = _scope(request, headers, cookies, content_type=kind if content else "")
    if session:
        scope["session"] = dict(session)
    if user:
        scope["user"] = _User(user)
    found = asyncio.run(_explain(find_target(_program(program)).guard, scope, content))
    print_json(explanation_json(found)) if as_json else print_explanation(found)
    if not found.guarded and not (found.rule is not None and found.passes):
        raise SystemExit(1)


class _User:
    """A user as `scope_user` reads it, whatever its attribute is called."""

    is_authenticated = True

    def __init__(self, id: str) -> None:
        self._id = id

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._id


def _program(text: str) -> str:
    if "://" in text:
        raise click.UsageError(f"{text!r} is an address, and rules are in a program: write shop.main:app")
    return text


def _body(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    try:
        with Path(text[1:]).open("rb") as file:
            return file.read(BODY_BYTES_MAX)
    except OSError as error:
        raise click.UsageError(f"{text[1:]} cannot be read: {error.strerror}") from error


def _scope(request: str, headers: Sequence[tuple[str, str]], cookies: Sequence[tuple[str, str]], *, content_type: str) -> Scope:
    """The request as a server would hand it on."""
    method, _, target = request.strip().partition(" ")
    url = urlsplit(target.strip())
    if not method.isalpha() or not url.path.startswith("/"):
        raise click.UsageError(f"{request!r} is no request: write method and path, for instance 'POST /checkout/pay'")
    sent = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    names = {name for name, _ in sent}
    if b"host" not in names:
        sent.insert(0, (b"host", (url.netloc or "localhost").encode("latin-1", "replace")))
    if content_type and b"content-type" not in names:
        sent.append((b"content-type", content_type.encode()))
    if cookies:
        sent.append((b"cookie", "; ".join(f"{name}={value}" for name, value in cookies).encode("latin-1", "replace")))
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "https",
        "path": unquote(url.path),
        "raw_path": url.path.encode("latin-1", "replace"),
        "query_string": url.query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": sent,
        "client": ("127.0.0.1", 0),
        "server": (url.hostname or "localhost", 443),
        "state": {},
    }


async def _explain(guard: Guard, scope: Scope, body: bytes) -> Explanation:
    async with _looking(guard) as (looking, note):
        found = await explain(looking, scope, body)
        return found if not note else _noted(found, note)


def _noted(found: Explanation, note: str) -> Explanation:
    from dataclasses import replace

    return replace(found, store=note if not found.store else f"{found.store}; {note}")


@asynccontextmanager
async def _looking(guard: Guard) -> AsyncIterator[tuple[Guard, str]]:
    """The guard, for looking. A shop without secrets yet gets made-up ones, and is told that its names are made up, too."""
    looking, note = guard.for_looking(), ""
    try:
        await looking.start(duties=False)
    except ConfigurationError:
        if (await looking.store.load(f"{SECRET_CHECK}:{guard.namespace}")).revision:
            raise  # it has records, and their secret is not here
        looking = guard.for_looking(made_up_secrets=True)
        note = "no secrets yet: operation, reference, owner and purchase will have other names"
        await looking.start(duties=False)
    try:
        yield looking, note
    finally:
        await looking.stop()
