"""The request to send, in the `.http` form that editors and REST clients share. Pure: text in, requests out.

    @shopper = ann                            a value of the file's own
    POST /pay                                 the path; a host that stands here is left out, since the command names it
    Content-Type: application/json
    Idempotency-Key: {{key}}                  the key; new for each purchase, and the same when it is sent again
    X-Shopper: {{shopper}}

    {"cart": "cart-{{$uuid}}", "amount": 4999}

    ### another payload                       optional: what is sent under a key that was used already
    POST /pay
    ...

`{{$uuid}}` (also `{{$guid}}`, `{{$random.uuid}}`) goes with the key: new for each purchase. Lines that begin with `#` or
`//` are comments above the body. The parsers that are published read more, and none is kept up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from cxguard.errors import ConfigurationError

KEY = "{{key}}"
METHODS = ("POST", "PATCH", "PUT", "DELETE")
_SEPARATOR = re.compile(r"^###.*$", re.MULTILINE)
_VARIABLE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_VALUE = re.compile(r"^@(\w+)\s*=\s*(.*?)\s*$")
_HEADER = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*(.*?)[ \t]*$")
_FRESH = frozenset({"$uuid", "$guid", "$random.uuid"})

EXAMPLE = 'POST /pay\nContent-Type: application/json\nIdempotency-Key: {{key}}\n\n{"cart": "{{$uuid}}", "amount": 4999}'


@dataclass(frozen=True, slots=True)
class Template:
    """A request with places for the key and what goes with it."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def key_headers(self) -> tuple[str, ...]:
        """The names of the headers that carry the key."""
        return tuple(name for name, value in self.headers if KEY in value)

    def filled(self, *, key: str, fresh: str, without: tuple[str, ...] = ()) -> Sendable:
        """The request of one purchase.

        Args:
            fresh: stands for `{{$uuid}}`.
            without: names of headers that are left out.
        """

        def fill(text: str) -> str:
            return _VARIABLE.sub(lambda found: key if found[1] == "key" else fresh, text)

        headers = tuple((name, fill(value)) for name, value in self.headers if name not in without)
        return Sendable(self.method, fill(self.path), headers, fill(self.body).encode())


@dataclass(frozen=True, slots=True)
class Sendable:
    """A request as it goes out."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def read_http_file(text: str) -> tuple[Template, Template | None]:
    """The request, and the one with another payload if the file has a second.

    Raises:
        ConfigurationError: the file is none, or has no place for the key. The text says what to write.
    """
    parts = [part for part in _SEPARATOR.split(text.replace("\r\n", "\n")) if _lines(part)]
    if not parts:
        raise _wrong("there is no request in it")
    values = {found[1]: found[2] for line in text.splitlines() if (found := _VALUE.match(line))}
    first = _template(parts[0], values)
    if KEY not in "".join((first.path, *(value for _, value in first.headers), first.body)):
        raise _wrong("it has no place for the key: write {{key}} where it goes")
    return first, _template(parts[1], values) if len(parts) > 1 else None


def _lines(part: str) -> list[str]:
    """What is left of a request when comments and values above its body are taken out, from the request line on."""
    head, blank, body = part.strip("\n").partition("\n\n")
    kept = [line for line in head.split("\n") if line.strip() and not line.startswith(("#", "//", "@"))]
    if not kept and blank:
        return _lines(body)  # values or comments stand alone above the request
    return [*kept, "", body] if blank and kept else kept


def _template(part: str, values: Mapping[str, str]) -> Template:
    lines = _lines(part)
    end = lines.index("") if "" in lines else len(lines)
    method, path = _request_line(lines[0])
    with_values = _values_in(values)
    return Template(
        method,
        with_values(path),
        tuple((name, with_values(value)) for name, value in map(_header, lines[1:end])),
        with_values("\n".join(lines[end + 1 :]).strip("\n")),
    )


def _request_line(line: str) -> tuple[str, str]:
    method, _, target = line.strip().partition(" ")
    target = target.strip().removesuffix(" HTTP/1.1").removesuffix(" HTTP/2").strip()
    if method not in METHODS or not target:
        raise _wrong(f"{line.strip()!r} is no request line: it begins with one of {', '.join(METHODS)}, then the path")
    parts = urlsplit(re.sub(r"^\{\{\s*(?:url|host|baseUrl)\s*\}\}", "", target))
    path = parts.path or "/"
    return method, f"{path}?{parts.query}" if parts.query else path


def _header(line: str) -> tuple[str, str]:
    found = _HEADER.match(line)
    if found is None:
        raise _wrong(f"{line.strip()!r} is no header: an empty line stands between the headers and the body")
    return found[1], _VARIABLE.sub(lambda each: f"{{{{{each[1]}}}}}", found[2])


def _values_in(values: Mapping[str, str]) -> Callable[[str], str]:
    """Puts the file's own values in, and leaves the key and what is fresh for later."""

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name == "key" or name in _FRESH:
            return f"{{{{{name}}}}}"
        if name not in values:
            raise _wrong(f"{{{{{name}}}}} is not known: write @{name} = ... in its first lines, or use {{{{key}}}} or {{{{$uuid}}}}")
        return values[name]

    return lambda text: _VARIABLE.sub(put, text)


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"the request file cannot be used: {what}. For instance:\n{EXAMPLE}")
