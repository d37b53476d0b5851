"""Form bodies, urlencoded and multipart, read strictly; and the content type that says which."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cxguard.errors import BadBody

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELDS_MAX = 1000  # a checkout form has dozens; more is an attack on the parser
REMEMBERED_CHARS_MAX = 256  # of a header, between requests: whoever sends longer ones must not fill the memory with them
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
# What browsers send. Python knows more, of which some read the same bytes as other text, and some take quadratic time.
CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"})
FORM_TYPES = frozenset({URLENCODED, MULTIPART})


@dataclass(frozen=True, slots=True)
class ContentType:
    """A parsed content type. `media_type` is lower case, empty if the header was absent."""

    media_type: str
    charset: str = "utf-8"
    boundary: bytes = b""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a multipart form."""

    name: str
    filename: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """Text fields and files, each in the order in which they came."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[Upload, ...] = ()

    def field(self, name: str) -> str | None:
        """The one value of a text field; None if it is absent.

        Raises:
            BadBody: it came more than once.
        """
        values = [value for known, value in self.fields if known == name]
        if len(values) > 1:
            raise BadBody(f"the form has the field {name!r} {len(values)} times: send it once")
        return values[0] if values else None


def content_type_of(header: str) -> ContentType:
    """Parse a content type header; kept, because a shop sees the same few all day."""
    return _known_type(header) if len(header) <= REMEMBERED_CHARS_MAX else _content_type(header)


@lru_cache(maxsize=256)
def _known_type(header: str) -> ContentType:
    return _content_type(header)


def _content_type(header: str) -> ContentType:
    media_type, options = parse_options_header(header)
    charset = _named(options.get(b"charset", b"")) or "utf-8"
    return ContentType(_named(media_type), charset, options.get(b"boundary", b""))


def _named(name: bytes | bytearray) -> str:
    """A name in a header, in the one writing of it."""
    return name.decode("latin-1").strip().lower()


def read_form(content_type: ContentType, body: bytes) -> Form:
    """Read a form body.

    Raises:
        BadBody: cut short, not text in the declared charset, or more than `FIELDS_MAX` fields.
    """
    try:
        if codecs.lookup(content_type.charset).name not in CHARSETS:
            raise LookupError(content_type.charset)
        if content_type.media_type == URLENCODED:
            return _urlencoded(body, charset=content_type.charset)
        return _multipart(content_type, body)
    except (UnicodeError, LookupError) as error:
        raise BadBody(f"the form is not text in {content_type.charset[:40]!r}: send it in UTF-8") from error
    except (FormParserError, ValueError) as error:
        raise BadBody("the form is cut short, malformed or has too many fields: send the whole form") from error


def _urlencoded(body: bytes, *, charset: str) -> Form:
    pairs = parse_qsl(body.decode(charset), keep_blank_values=True, encoding=charset, errors="strict", max_num_fields=FIELDS_MAX)
    return Form(tuple(pairs))


def _multipart(content_type: ContentType, body: bytes) -> Form:
    if not content_type.boundary:
        raise BadBody("the multipart form names no boundary: let the client write the content type itself")
    reader = _PartReader()
    parser = MultipartParser(content_type.boundary, reader.callbacks())
    parser.write(body)
    parser.finalize()
    if not reader.ended:
        raise BadBody("the multipart form is cut short: send the whole form")
    return reader.form(content_type.charset)


@dataclass(slots=True)
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)


class _PartReader:
    """Collects what the parser calls out."""

    def __init__(self) -> None:
        self.ended = False
        self._parts: list[_Part] = []
        self._name = bytearray()
        self._value = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._parts[-1].content.extend(data[start:end]),
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_end": self._end,
        }

    def form(self, charset: str) -> Form:
        fields: list[tuple[str, str]] = []
        files: list[Upload] = []
        for part, options in self._named_parts():
            name = options[b"name"].decode(charset)
            if b"filename" in options:
                media_type = _named(part.headers.get("content-type", b""))
                files.append(Upload(name, options[b"filename"].decode(charset), media_type, bytes(part.content)))
            else:
                fields.append((name, part.content.decode(charset)))
        return Form(tuple(fields), tuple(files))

    def _named_parts(self) -> Iterator[tuple[_Part, dict[bytes, bytes]]]:
        for part in self._parts:
            _, options = parse_options_header(part.headers.get("content-disposition"))
            if b"name" not in options:
                raise BadBody("a part of the multipart form has no name: name each field")
            yield part, options

    def _begin(self) -> None:
        if len(self._parts) >= FIELDS_MAX:
            raise ValueError("too many parts")
        self._parts.append(_Part())

    def _end_header(self) -> None:
        self._parts[-1].headers[_named(self._name)] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self.ended = True
