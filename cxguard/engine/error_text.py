"""What the shop itself said in an error answer: the sentence that the shopper read, found in JSON or on the page.

Many shops answer a failure with 200 and a red box, so a page's alert elements count whatever the status. The text is
raw: `core.message.Message` takes out digits and what a person typed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

BODY_BYTES_MAX = 256 * 1024  # of a page: the alert of a checkout page stands before that
TEXT_MAX = 1_000  # characters
DEPTH_MAX = 4  # of errors within errors in JSON

_ALERTS = '[role="alert"], .alert, .error, .errors, .errorlist, .alert-danger, .alert-error, .form-error, .error-message'
_NO_ERROR = frozenset({"alert-success", "alert-info", "alert-primary", "success", "hidden", "d-none", "is-hidden"})
_PERHAPS = frozenset({"alert-warning", "warning"})  # on a good answer: "only two left", not an error
_JSON_MEMBERS = ("detail", "message", "error_description", "error", "errors", "msg", "title", "reason")
_ERROR_MEMBERS = ("error", "errors", "error_description")


class _Node(Protocol):
    """What is used of the HTML parser's elements."""

    @property
    def attributes(self) -> Mapping[str, str | None]: ...

    @property
    def parent(self) -> _Node | None: ...

    def text(self, *, separator: str) -> str: ...


def shop_error_text(status: int, content_type: str, body: bytes) -> str:
    """The shop's own error text, or an empty string where there is none. Never raises.

    JSON counts from 400 on, or with a member `error` or `errors`, or `success: false`; plain text from 400 on; a page's
    alert elements with any status, its heading from 500 on. Without an HTML parser (the extra `html`) pages give nothing.
    """
    kind = content_type.partition(";")[0].strip().lower()
    text = _decoded(body[:BODY_BYTES_MAX], content_type)
    if kind == "application/json" or kind.endswith("+json"):
        found = _json_text(status, text)
    elif kind in ("text/html", "application/xhtml+xml"):
        found = _page_text(status, text)
    elif kind == "text/plain" and status >= 400:
        found = text
    else:
        found = ""
    return " ".join(found.split())[:TEXT_MAX]


def _decoded(body: bytes, content_type: str) -> str:
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip().strip("\"'") or "utf-8"
    try:
        return body.decode(charset, errors="replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", errors="replace")


def _json_text(status: int, text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if status < 400 and not _says_error(value):
        return ""
    return next(_sentences(value, depth=0), "")


def _says_error(value: Any) -> bool:
    return isinstance(value, dict) and (any(value.get(name) for name in _ERROR_MEMBERS) or value.get("success") is False)


def _sentences(value: Any, *, depth: int) -> Iterator[str]:
    """Sentences in the usual members, the most telling first; never a field's name or value as such."""
    if depth > DEPTH_MAX:
        return
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, dict):
        for name in _JSON_MEMBERS:
            yield from _sentences(value.get(name), depth=depth + 1)
        if depth == 1:  # {"errors": {"card": ["is not valid"]}}
            for member in value.values():
                if isinstance(member, list):
                    yield from _sentences(member, depth=depth + 1)
    elif isinstance(value, list):
        for member in value[:10]:
            yield from _sentences(member, depth=depth + 1)


def _page_text(status: int, text: str) -> str:
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        return ""
    page = LexborHTMLParser(text)
    for node in page.css(_ALERTS):
        found = " ".join(node.text(separator=" ").split())
        if found and not _is_hidden(node, _NO_ERROR if status >= 400 else _NO_ERROR | _PERHAPS):
            return found
    heading = page.css_first("h1") or page.css_first("title")
    return heading.text(separator=" ") if status >= 500 and heading is not None else ""


def _is_hidden(node: _Node | None, no_error: frozenset[str]) -> bool:
    """Hidden, or good news: a box that waits for a script, or that says "added to your basket"."""
    while node is not None:
        attributes = node.attributes
        classes = set((attributes.get("class") or "").split())
        style = (attributes.get("style") or "").replace(" ", "").lower()
        if "hidden" in attributes or attributes.get("aria-hidden") == "true" or classes & no_error or "display:none" in style:
            return True
        node = node.parent
    return False
