"""Who may come in: the shop's own word for it, or a short list of names and passwords."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from cxguard.engine.casefile import ACTOR_CHARS_MAX
from cxguard.errors import ConfigurationError
from cxguard.threads import Threads

Who: TypeAlias = str | Response | None
Auth: TypeAlias = Callable[[Request], Who | Awaitable[Who]]
"""The name of whoever asks; None: nobody who may come in. A `Response` (a redirect to the shop's login) is sent as it is."""

CLOSED = """\
from cxguard.dashboard import BasicAuth, dashboard

app.mount("/ops", dashboard(guard, auth=lambda request: request.session.get("staff")))     # your shop's own sign-in
app.mount("/ops", dashboard(guard, auth=BasicAuth({"anna": "scrypt$..."})))                # or names and passwords\
"""
_COST, _BLOCK, _PARALLEL, _SALT_BYTES = 2**14, 8, 1, 16  # 16 MiB and some 50 ms for each guess (RFC 7914; OWASP's floor)
_HEADER_CHARS_MAX = 1_000
_PROVEN_MAX = 64  # sign-ins that need no second look: a shop's staff
_LOOKED_AT_MAX = 32  # at once; the next of a flood of guesses hears that at once, and costs nothing
_in_thread = Threads("cxguard-sign-in", most=1)  # one core at most is busy with guesses: the shop beside the desk needs the others


def password_hash(password: str) -> str:
    """What stands in the settings instead of a password."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt${_text(salt)}${_text(_scrypt(password, salt))}"


class BasicAuth:
    """HTTP Basic sign-in for a short list of people. Behind TLS only: the browser sends the password with each request.

    Args:
        people: name -> what `password_hash` made of the password.

    Raises:
        ConfigurationError: a value is not such a hash: passwords never stand in settings.
    """

    challenge = 'Basic realm="cxguard desk", charset="UTF-8"'

    def __init__(self, people: Mapping[str, str]) -> None:
        for name, stored in people.items():
            if not name or ":" in name or _parts(stored) is None:
                raise ConfigurationError(
                    f"BasicAuth cannot use the entry of {name!r}: write BasicAuth({{{name!r}: password_hash(...)}}), "
                    'with the hash that `python -c "from cxguard.dashboard import password_hash; print(password_hash(input()))"` prints'
                )
        self._people = dict(people)
        self._nobody = password_hash(secrets.token_hex(8))  # an unknown name costs the same time as a wrong password
        self._secret = secrets.token_bytes(32)
        self._proven: dict[bytes, None] = {}
        self._looked_at = 0

    async def __call__(self, request: Request) -> Who:
        """The name, if its password is right; while too many ask at once, an answer that says so."""
        given = _credentials(request.headers.get("authorization", ""))
        if given is None:
            return None
        name, password = given
        stored = self._people.get(name, self._nobody)
        mark = hmac.digest(self._secret, f"{stored}\0{password}".encode(), "sha256")
        if mark in self._proven:
            return name
        if self._looked_at >= _LOOKED_AT_MAX:
            return Response("too many sign in at this moment: try again\n", 429, {"retry-after": "2"}, media_type="text/plain")
        if not await self._is_right(password, stored) or name not in self._people:
            return None
        self._proven = dict(list(self._proven.items())[-_PROVEN_MAX:]) | {mark: None}
        return name

    async def _is_right(self, password: str, stored: str) -> bool:
        self._looked_at += 1
        try:
            return bool(await _in_thread(_fits, password, stored))
        finally:
            self._looked_at -= 1


async def who_is(auth: Auth, request: Request) -> Who:
    """Ask *auth*. A name that cannot stand in a record is nobody's.

    Raises:
        ConfigurationError: it says yes, and not who: each thing that is done here stands under a name.
    """
    found = auth(request)
    who: object = await found if inspect.isawaitable(found) else found
    if isinstance(who, str):
        return who if who.strip() and len(who) <= ACTOR_CHARS_MAX and who.isprintable() else None
    if isinstance(who, Response):
        return who
    if who is None or who is False:
        return None
    raise ConfigurationError(f'auth= gave a {type(who).__name__}, and no name: write auth=lambda request: request.session.get("name")')


def _credentials(header: str) -> tuple[str, str] | None:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "basic" or len(header) > _HEADER_CHARS_MAX:
        return None
    try:
        name, colon, password = base64.b64decode(token.strip(), validate=True).decode().partition(":")
    except ValueError:  # no base64, not even ASCII, or no text in it
        return None
    return (name, password) if colon else None


def _fits(password: str, stored: str) -> bool:
    parts = _parts(stored)
    return parts is not None and hmac.compare_digest(_scrypt(password, parts[0]), parts[1])


def _parts(stored: str) -> tuple[bytes, bytes] | None:
    match stored.split("$"):
        case ["scrypt", salt, digest]:
            try:
                return base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
            except binascii.Error:
                return None
    return None


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
