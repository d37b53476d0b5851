"""A request as values: what rules read, fingerprints hash, and a kept order seals until it runs again.

Parsing is strict, because a guard that reads a body otherwise than the shop's own code does can be led past:
a member twice, invalid UTF-8, half a document are refused, never repaired. Whatever was parsed is kept, so that
key, owner, amount and fingerprint of one request cost one parse.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from cxguard.core.forms import FORM_TYPES, REMEMBERED_CHARS_MAX, ContentType, Form, content_type_of, read_form
from cxguard.errors import BadBody, BadHeader, UnsupportedMedia

Parsed = TypeVar("Parsed")

SNAPSHOT_VERSION = 1
CHECKED_BYTES_MAX = 65_536  # a longer body is read only where a source or an ignored field needs it
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"  # a byte-order mark, and whitespace
_HEAD = struct.Struct(">BI")  # format version, length of the head in bytes


class Wants(StrEnum):
    """What the client can show: a page, or JSON (problem documents too)."""

    HTML = "html"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One request, complete.

    Attributes:
        path: decoded, with the mount in front: what the guard's rules are matched against.
        query: as it came, without the question mark.
        headers: names in lower case, both parts latin-1, in the order in which they came.
        scheme, root_path: how it came to the app, for running it again: frameworks route below the one, and check the
            origin of a form by the other.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    scheme: str = "https"
    root_path: str = ""
    _parsed: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any], *, body: bytes) -> Snapshot:
        """Take the request out of an ASGI scope. *body* is the whole body."""
        headers = tuple([(_header_name(name), value.decode("latin-1")) for name, value in scope["headers"]])
        query = scope.get("query_string", b"").decode("latin-1")
        return cls(scope["method"], full_path(scope), query, headers, body, scope.get("scheme", "http"), scope.get("root_path") or "")

    def header_all(self, name: str) -> Sequence[str]:
        """Every value of a header, by its lower-case name."""
        by_name: dict[str, list[str]] | None = self._parsed.get("headers")
        if by_name is None:
            by_name = self._parsed["headers"] = _by_name(self.headers)
        return by_name.get(name, [])

    def header(self, name: str) -> str | None:
        """The one value of a header, by its lower-case name.

        Raises:
            BadHeader: it came more than once, and proxies and frameworks differ in which one they believe.
        """
        values = self.header_all(name)
        if len(values) > 1:
            raise BadHeader(f"the header {name} came {len(values)} times: send it once")
        return values[0] if values else None

    def cookie(self, name: str) -> str | None:
        """A cookie's value. Of several with one name the last counts, as in the frameworks that read it after us."""
        cookies: dict[str, str] | None = self._parsed.get("cookies")
        if cookies is None:
            cookies = self._parsed["cookies"] = _cookies(self.header_all("cookie"))
        return cookies.get(name)

    @property
    def content_type(self) -> ContentType:
        """Media type in lower case (empty if there is none), and its parameters."""
        return content_type_of(self.header("content-type") or "")

    @property
    def is_json(self) -> bool:
        """Whether the body is declared as JSON, of whatever kind."""
        known: bool | None = self._parsed.get("is_json")
        if known is None:
            media_type = self.content_type.media_type
            known = media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
            self._parsed["is_json"] = known
        return known

    @property
    def holds_json(self) -> bool:
        """Whether the body is JSON, also where it is declared as text (as `fetch` does by itself), as a form, or not at all: much
        code of shops reads it all the same."""
        return self.is_json or self.once("holds_json", self._is_undeclared_json)

    def _is_undeclared_json(self) -> bool:
        if self.body[:64].lstrip(_BEFORE_JSON)[:1] not in (b"{", b"["):
            return False
        try:
            self.json()
        except BadBody:
            return False
        return True

    @property
    def is_form(self) -> bool:
        """Whether the body is declared as a form."""
        return self.content_type.media_type in FORM_TYPES

    def json(self) -> Any:
        """The body as JSON; numbers with a point as `Decimal`, so that what was written is what is compared.

        Raises:
            BadBody: not JSON, not UTF-8, or an object with one member twice.
        """
        if "json" not in self._parsed:
            self._parsed["json"] = read_json(self.body)
        return self._parsed["json"]

    def form(self) -> Form:
        """The body as a form, urlencoded or multipart.

        Raises:
            UnsupportedMedia: it is not declared as a form.
            BadBody: it is not the form that it claims to be.
        """
        form: Form | None = self._parsed.get("form")
        if form is None:
            if not self.is_form:
                raise UnsupportedMedia(f"the content type {self.content_type.media_type or '(none)'!r} is not a form: send a form")
            form = self._parsed["form"] = read_form(self.content_type, self.body)
        return form

    def check_body(self) -> None:
        """Refuse a body that is not what its content type says, before anything is opened for it.

        Raises:
            BadBody: not the JSON or form that it claims to be.
        """
        if self.body and len(self.body) <= CHECKED_BYTES_MAX:
            if self.is_json:
                self.json()
            elif self.is_form:
                self.form()

    def once(self, name: Hashable, find: Callable[[], Parsed]) -> Parsed:
        """What *find* says about this request, asked only the first time."""
        if name not in self._parsed:
            self._parsed[name] = find()
        found: Parsed = self._parsed[name]
        return found

    def wants(self) -> Wants:
        """What to answer with, by `Accept`; where that leaves it open, by what the request itself is."""
        return _negotiate(self)

    @property
    def is_htmx(self) -> bool:
        """Whether htmx sent it."""
        return "true" in self.header_all("hx-request")

    @property
    def prefers_async(self) -> bool:
        """Whether the client said `Prefer: respond-async`: it knows what a 202 means."""
        headers = self.header_all("prefer")
        preferences = ",".join(headers).lower().split(",") if headers else ()
        return any(preference.partition(";")[0].strip() == "respond-async" for preference in preferences)

    def to_bytes(self) -> bytes:
        """For sealing and keeping; `from_bytes` reads it back, byte for byte."""
        head = json.dumps([self.method, self.path, self.query, self.headers, self.scheme, self.root_path]).encode("ascii")
        return _HEAD.pack(SNAPSHOT_VERSION, len(head)) + head + self.body

    @classmethod
    def from_bytes(cls, kept: bytes) -> Snapshot:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: written by a newer cxguard, or not a snapshot: run the version that wrote it.
        """
        version, length = _HEAD.unpack_from(kept) if len(kept) >= _HEAD.size else (0, 0)
        if version != SNAPSHOT_VERSION:
            raise ValueError(f"a snapshot of version {version} cannot be read here: run the cxguard that wrote it")
        try:
            method, path, query, headers, scheme, root_path = json.loads(kept[_HEAD.size : _HEAD.size + length])
            pairs = tuple((name, value) for name, value in headers)
        except (ValueError, TypeError) as error:
            raise ValueError("a snapshot's head cannot be read here: run the cxguard that wrote it") from error
        return cls(method, path, query, pairs, kept[_HEAD.size + length :], scheme, root_path)


def _header_name(raw: bytes) -> str:
    return _known_name(raw) if len(raw) <= REMEMBERED_CHARS_MAX else raw.decode("latin-1").lower()


@lru_cache(maxsize=1024)  # clients send the same few dozen names all day
def _known_name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


def _by_name(headers: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


def full_path(scope: Mapping[str, Any]) -> str:
    """The path with the mount in front. Servers differ in whether `path` has it already."""
    path: str = scope["path"]
    root: str = scope.get("root_path") or ""
    if not root or path == root or path.startswith(root.rstrip("/") + "/"):
        return path
    return root.rstrip("/") + path


def mount_of(scope: Mapping[str, Any]) -> str:
    """What stands in front of the app's own paths, and of ours: `/shop`, or nothing. Some write it with a slash at the end."""
    root: str = scope.get("root_path") or ""
    return root.rstrip("/")


def below_root(path: str, root: str) -> str:
    """A full path as the app sees it that is served below *root*."""
    return path.removeprefix(root.rstrip("/")) or "/"


# --- JSON, strictly


def read_json(body: bytes) -> Any:
    """Read one JSON document (UTF-8, a byte-order mark is skipped), or raise `BadBody`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8 (byte {error.start}): send JSON in UTF-8") from error
    try:
        return _DECODER.decode(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise BadBody(f"the body is not JSON (line {error.lineno}, column {error.colno}): send the whole document") from error
    except (RecursionError, ValueError, ArithmeticError) as error:  # too deep; thousands of digits; an exponent beyond any
        raise BadBody("the body nests too deeply or holds too long a number: send a plain document") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadBody(f"the body has the member {twice[:40]!r} twice in one object: send each member once")
    return members


def _no_constant(text: str) -> NoReturn:
    raise BadBody(f"{text} is not JSON: send a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=Decimal, parse_constant=_no_constant)


# --- cookies


def _cookies(headers: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in headers:
        for pair in header.split(";"):
            name, equals, value = pair.partition("=")
            if equals:
                found[name.strip()] = _unquoted(value.strip())
    return found


_ESCAPED = re.compile(r"\\([0-3][0-7]{2}|.)")


def _unquoted(value: str) -> str:
    """Undo the quoting that Python's own cookie writer applies."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)) if len(match[1]) == 3 else match[1], value[1:-1])


# --- what the client wants

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml", "text/*"})


def _negotiate(snapshot: Snapshot) -> Wants:
    accept = ",".join(snapshot.header_all("accept"))
    liked = _liked_as_ever(accept) if len(accept) <= REMEMBERED_CHARS_MAX else _liked_best(accept)
    return liked or _by_the_request_itself(snapshot)


@lru_cache(maxsize=256)  # browsers and programs send the same few all day
def _liked_as_ever(accept: str) -> Wants | None:
    return _liked_best(accept)


def _liked_best(accept: str) -> Wants | None:
    """Page or JSON by the `Accept` header; None where it leaves that open."""
    html = json_ = 0.0
    first: Wants | None = None
    for media_type, quality in _accepted(accept):
        if media_type in _HTML_TYPES:
            html, first = max(html, quality), first or Wants.HTML
        elif media_type == "application/json" or media_type.endswith("+json"):
            json_, first = max(json_, quality), first or Wants.JSON
    if html != json_:
        return Wants.HTML if html > json_ else Wants.JSON
    return first if html else None


def _by_the_request_itself(snapshot: Snapshot) -> Wants:
    """`*/*` or nothing: a script's request is answered in JSON, a form that a browser submits with a page.

    htmx is a script, and puts what it gets into the page.
    """
    if snapshot.is_htmx:
        return Wants.HTML
    if "empty" in snapshot.header_all("sec-fetch-dest") or snapshot.header_all("x-requested-with"):
        return Wants.JSON
    navigates = "navigate" in snapshot.header_all("sec-fetch-mode")
    forms = any(content_type_of(header).media_type in FORM_TYPES for header in snapshot.header_all("content-type"))
    return Wants.HTML if navigates or forms else Wants.JSON


def _accepted(accept: str) -> Iterator[tuple[str, float]]:
    for item in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        quality = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        yield media_type, _quality(quality)


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text) else 0.0
