"""Who owns a request: read from something verified, and the same before and after login.

A session cookie's *value* is no owner: Starlette, Quart and Django write it anew when it changes. What it holds, the
visitor or user id, is. `signed_session` reads it where the guard stands outside the session middleware, checking the
very signature that the framework wrote.

Source: itsdangerous 2.2, `TimestampSigner` and `URLSafeTimedSerializer`; Django 5.2, `django.core.signing`; Starlette 1.x,
    `SessionMiddleware`; Quart 0.20, `SecureCookieSessionInterface`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cxguard.clock import Clock, SystemClock
from cxguard.errors import ConfigurationError
from cxguard.rules.sources import Arrival, Source

SESSION_SECONDS_MAX = 1_209_600.0  # 14 days: the default of Starlette and Django
SESSION_BYTES_MAX = 65_536  # unpacked; cookies themselves stop at 4 kB
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Framework(StrEnum):
    """Whose signed session cookie."""

    STARLETTE = "starlette"  # FastAPI, too
    DJANGO = "django"  # SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    QUART = "quart"  # Flask, too


@dataclass(frozen=True, slots=True)
class _Format:
    cookie: str
    separator: str
    sign: Callable[[bytes, bytes], bytes]
    stamp: Callable[[str], int]
    max_age_seconds: float


def signed_session(
    name: str,
    *,
    secret: str | Sequence[str],
    framework: Framework | str = Framework.STARLETTE,
    cookie: str | None = None,
    max_age_seconds: float | None = None,
    clock: Clock | None = None,
) -> Source:
    """A member of a session that lives in a signed cookie: the visitor's or the user's id.

    Args:
        secret: the framework's own secret; several while it rotates.
        cookie: the session cookie's name; default: the framework's (`session`, Django's `sessionid`).
        max_age_seconds: older cookies count as absent; default: the framework's.

    Raises:
        ConfigurationError: no secret, or another framework.
    """
    if framework not in set(Framework):
        raise ConfigurationError(
            f'signed_session has no framework={framework!r}; write signed_session({name!r}, secret=..., framework="starlette")'
        )
    secrets = tuple(secret) if isinstance(secret, list | tuple) else (secret,)
    if not secrets or not all(isinstance(each, str) and each for each in secrets):
        raise ConfigurationError(
            f"signed_session needs the framework's own secret, as text; write signed_session({name!r}, secret=SECRET_KEY)"
        )
    form = _FORMATS[Framework(framework)]
    age, now = max_age_seconds or form.max_age_seconds, (clock or SystemClock()).now

    def read(arrival: Arrival) -> Any:
        session = _open_session(arrival.snapshot.cookie(cookie or form.cookie), form, secrets=secrets, signed_after=now() - age)
        return session.get(name)

    return Source("signed_session", name, read)


def fixed(owner: str) -> Source:
    """One owner for all requests of a rule: for webhooks, whose sender the app has verified."""
    return Source("fixed", owner, lambda arrival: owner)


def scope_session(name: str) -> Source:
    """A member of `scope["session"]`: for a guard inside the session middleware."""

    def read(arrival: Arrival) -> Any:
        session = arrival.scope.get("session")
        return session.get(name) if isinstance(session, Mapping) else None

    return Source("scope_session", name, read)


def scope_user(attribute: str = "id") -> Source:
    """An attribute of `scope["user"]`, if that user is authenticated: for a guard inside the authentication middleware."""

    def read(arrival: Arrival) -> Any:
        user = arrival.scope.get("user")
        return getattr(user, attribute, None) if getattr(user, "is_authenticated", False) is True else None

    return Source("scope_user", attribute, read)


# --- signed cookies


def _open_session(cookie: str | None, form: _Format, *, secrets: Sequence[str], signed_after: float) -> Mapping[str, Any]:
    """What the cookie holds if its signature is good and young enough; else nothing, as the framework does."""
    signed, _, signature = (cookie or "").rpartition(form.separator)
    payload, _, stamp = signed.rpartition(form.separator)
    if not payload or not any(_same(form.sign(key.encode(), signed.encode()), signature) for key in secrets):
        return {}
    try:
        if form.stamp(stamp) < signed_after:
            return {}
        session = json.loads(_unpacked(payload))
    except (ValueError, binascii.Error, zlib.error, RecursionError):
        return {}
    return session if isinstance(session, dict) else {}


def _unpacked(payload: str) -> bytes:
    """The signed content: URL-safe base64, after a leading point also packed."""
    raw = _b64decode(payload.removeprefix("."))
    return zlib.decompressobj().decompress(raw, SESSION_BYTES_MAX) if payload.startswith(".") else raw


def _same(signature: bytes, written: str) -> bool:
    return hmac.compare_digest(base64.urlsafe_b64encode(signature).rstrip(b"="), written.encode("latin-1", "replace"))


def _b64decode(text: str) -> bytes:
    plain = text.replace("+", "-").replace("/", "_").rstrip("=")  # Starlette's payload is standard base64, the others' URL-safe
    return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))


def _starlette(secret: bytes, signed: bytes) -> bytes:
    key = hashlib.sha1(b"itsdangerous.Signersigner" + secret, usedforsecurity=False).digest()
    return hmac.digest(key, signed, "sha1")


def _quart(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(hmac.digest(secret, b"cookie-session", "sha1"), signed, "sha1")


def _django(secret: bytes, signed: bytes) -> bytes:
    key = hashlib.sha256(b"django.contrib.sessions.backends.signed_cookiessigner" + secret).digest()
    return hmac.digest(key, signed, "sha256")


def _seconds(stamp: str) -> int:
    return int.from_bytes(_b64decode(stamp), "big")


def _base62_seconds(stamp: str) -> int:
    seconds = 0
    for letter in stamp[:12]:
        seconds = seconds * 62 + _BASE62.index(letter)
    return seconds


_FORMATS = {
    Framework.STARLETTE: _Format("session", ".", _starlette, _seconds, SESSION_SECONDS_MAX),
    Framework.DJANGO: _Format("sessionid", ":", _django, _base62_seconds, SESSION_SECONDS_MAX),
    Framework.QUART: _Format("session", ".", _quart, _seconds, 2_678_400.0),  # 31 days: Flask's permanent sessions
}
