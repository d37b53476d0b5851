"""Owners: read from sessions that the frameworks themselves signed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.core.signing import JSONSerializer, TimestampSigner
from quart import Quart
from quart.sessions import SecureCookieSessionInterface
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from cxguard.clock import SystemClock
from cxguard.core.snapshot import Snapshot
from cxguard.errors import ConfigurationError
from cxguard.rules import Arrival, Framework, fixed, resolve_source, scope_session, scope_user, signed_session

SECRET = "a secret of the framework, not of the guard"
DJANGO_SALT = "django.contrib.sessions.backends.signed_cookies"
DAY = 86_400


class LaterClock:
    """A clock that is ahead."""

    def __init__(self, seconds: float) -> None:
        self._ahead = seconds

    def now(self) -> float:
        return SystemClock().now() + self._ahead

    def monotonic(self) -> float:
        return SystemClock().monotonic()


async def starlette_cookie(session: Mapping[str, Any], *, secret: str = SECRET) -> str:
    """What Starlette's own middleware sets for this session."""
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["session"].update(session)
        await PlainTextResponse("ok")(scope, receive, send)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    await SessionMiddleware(app, secret_key=secret)(scope, receive, send)
    cookies = SimpleCookie(dict(sent[0]["headers"])[b"set-cookie"].decode())
    return cookies["session"].value


def django_cookie(session: Mapping[str, Any], *, secret: str = SECRET) -> str:
    """What Django's signed-cookie session backend writes."""
    signer = TimestampSigner(key=secret, salt=DJANGO_SALT, fallback_keys=[])
    return signer.sign_object(dict(session), serializer=JSONSerializer, compress=True)


def quart_cookie(session: Mapping[str, Any], *, secret: str = SECRET) -> str:
    """What Quart's session interface writes."""
    app = Quart(__name__)
    app.secret_key = secret
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return str(serializer.dumps(dict(session)))


async def cookie_of(framework: Framework, session: Mapping[str, Any], *, secret: str = SECRET) -> tuple[str, str]:
    """The cookie's name and value."""
    if framework is Framework.STARLETTE:
        return "session", await starlette_cookie(session, secret=secret)
    if framework is Framework.DJANGO:
        return "sessionid", django_cookie(session, secret=secret)
    return "session", quart_cookie(session, secret=secret)


async def owner_of(source: Any, cookie: tuple[str, str] | None, scope: Mapping[str, Any] | None = None) -> str | None:
    headers = (("cookie", f"theme=dark; {cookie[0]}={cookie[1]}"),) if cookie else ()
    found = await resolve_source(source, Arrival(Snapshot("POST", "/pay", "", headers, b""), scope or {}))
    return found.value if found else None


FRAMEWORKS = list(Framework)
SESSIONS = [{"visitor_id": "v-7"}, {"visitor_id": "v-7", "basket": list(range(200)), "note": "grün"}]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.asyncio
async def test_sessions_of_the_frameworks_are_read(framework: Framework, session: Mapping[str, Any]) -> None:
    """A visitor's id is read from the very cookie that the framework wrote, small or compressed."""
    cookie = await cookie_of(framework, session)
    assert await owner_of(signed_session("visitor_id", secret=SECRET, framework=framework), cookie) == "v-7"


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.asyncio
async def test_number_ids_are_read(framework: Framework) -> None:
    """A user's number is an owner."""
    cookie = await cookie_of(framework, {"user_id": 7})
    assert await owner_of(signed_session("user_id", secret=SECRET, framework=framework), cookie) == "7"


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.asyncio
async def test_another_secret_is_nobody(framework: Framework) -> None:
    """A cookie that somebody else signed names no owner."""
    cookie = await cookie_of(framework, {"visitor_id": "v-7"}, secret="somebody else's")
    assert await owner_of(signed_session("visitor_id", secret=SECRET, framework=framework), cookie) is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.asyncio
async def test_old_secret_still_reads_while_it_rotates(framework: Framework) -> None:
    """While a secret rotates, the owners under the old one stay known."""
    cookie = await cookie_of(framework, {"visitor_id": "v-7"}, secret="the old one")
    assert await owner_of(signed_session("visitor_id", secret=[SECRET, "the old one"], framework=framework), cookie) == "v-7"


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.asyncio
async def test_any_changed_letter_is_nobody(framework: Framework) -> None:
    """Change any one letter of the cookie, cut it or add to it: nobody."""
    name, value = await cookie_of(framework, {"visitor_id": "v-7"})
    source = signed_session("visitor_id", secret=SECRET, framework=framework)
    spoilt = [value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :] for at in range(len(value))]
    for wrong in [*spoilt[:-1], value[:-2], value + "AA", "", ".", "..", ":::", value.replace(".", "").replace(":", "")]:
        assert await owner_of(source, (name, wrong)) is None, wrong


@pytest.mark.parametrize(("framework", "days"), [(Framework.STARLETTE, 14), (Framework.DJANGO, 14), (Framework.QUART, 31)])
@pytest.mark.asyncio
async def test_session_ends_when_the_framework_ends_it(framework: Framework, days: int) -> None:
    """A cookie counts as long as it does for the framework, and no longer."""
    cookie = await cookie_of(framework, {"visitor_id": "v-7"})
    for ahead, owner in ((days * DAY - 60, "v-7"), (days * DAY + 60, None)):
        source = signed_session("visitor_id", secret=SECRET, framework=framework, clock=LaterClock(ahead))
        assert await owner_of(source, cookie) == owner


@pytest.mark.asyncio
async def test_own_name_and_age_of_the_cookie() -> None:
    """A shop that renamed its cookie, or shortened its life, says so."""
    value = await starlette_cookie({"visitor_id": "v-7"})
    source = signed_session("visitor_id", secret=SECRET, cookie="shop_session", max_age_seconds=60)
    assert await owner_of(source, ("shop_session", value)) == "v-7"
    assert await owner_of(source, ("session", value)) is None
    late = signed_session("visitor_id", secret=SECRET, max_age_seconds=60, clock=LaterClock(120))
    assert await owner_of(late, ("session", value)) is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.asyncio
async def test_session_without_the_member_is_nobody(framework: Framework) -> None:
    """No cookie, or one without the member, names nobody."""
    source = signed_session("visitor_id", secret=SECRET, framework=framework)
    assert await owner_of(source, await cookie_of(framework, {"theme": "dark"})) is None
    assert await owner_of(source, None) is None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: signed_session("visitor_id", secret=SECRET, framework="rails"),
            "signed_session has no framework='rails'; write signed_session('visitor_id', secret=..., framework=\"starlette\")",
        ),
        (
            lambda: signed_session("visitor_id", secret=""),
            "signed_session needs the framework's own secret, as text; write signed_session('visitor_id', secret=SECRET_KEY)",
        ),
        (
            lambda: signed_session("visitor_id", secret=[]),
            "signed_session needs the framework's own secret, as text; write signed_session('visitor_id', secret=SECRET_KEY)",
        ),
    ],
)
def test_refusals_print_the_corrected_line(make: Callable[[], object], text: str) -> None:
    """An unknown framework or a missing secret is refused at start, with the line to write."""
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert str(refused.value) == text


# --- owners in the scope


@dataclass
class User:
    id: int = 7
    is_authenticated: bool = True


@dataclass
class OldUser:
    """Its `is_authenticated` is a method, and a method is true even for nobody."""

    id: int = 7

    def is_authenticated(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("scope", "owner"),
    [
        ({"user": User()}, "7"),
        ({"user": User(is_authenticated=False)}, None),
        ({"user": OldUser()}, None),
        ({"user": None}, None),
        ({}, None),
    ],
)
@pytest.mark.asyncio
async def test_user_of_the_scope(scope: Mapping[str, Any], owner: str | None) -> None:
    """Only a user whom the framework has authenticated owns anything."""
    assert await owner_of(scope_user(), None, scope) == owner


@pytest.mark.parametrize(
    ("scope", "owner"), [({"session": {"visitor_id": "v-7"}}, "v-7"), ({"session": {}}, None), ({"session": None}, None), ({}, None)]
)
@pytest.mark.asyncio
async def test_session_of_the_scope(scope: Mapping[str, Any], owner: str | None) -> None:
    """Inside the session middleware, the session is read from the scope."""
    assert await owner_of(scope_session("visitor_id"), None, scope) == owner


@pytest.mark.asyncio
async def test_fixed_owner() -> None:
    """A webhook's requests all have one owner: its sender."""
    assert await owner_of(fixed("stripe"), None) == "stripe"
