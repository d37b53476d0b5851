"""Filling a text with what is known: the same rules for plain text and for a page.

{name}       the value; a dash when it is not known
[[ ... ]]    goes away as a whole when a value in it is not known
**words**    important words: <strong> on a page, the bare words elsewhere
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_NAMED = re.compile(r"\{(\w+)\}")
_STRONG = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_NOT_KNOWN = "–"


def fill(text: str, values: Mapping[str, str | None]) -> str:
    """*text* as plain text."""
    return _STRONG.sub(r"\1", _filled(text, values))


def fill_markup(text: str, values: Mapping[str, str | Markup | None]) -> Markup:
    """*text* for a page. The text and every value are escaped, save those values that are markup already."""
    safe = {name: None if value is None else str(escape(value)) for name, value in values.items()}
    strong = _STRONG.sub(r"<strong>\1</strong>", str(escape(text)))
    return Markup(_filled(strong, safe))  # noqa: S704 - escaped above, value by value


def _filled(text: str, values: Mapping[str, str | None]) -> str:
    def optional(match: re.Match[str]) -> str:
        return match[1] if all(values.get(name) for name in _NAMED.findall(match[1])) else ""

    def named(match: re.Match[str]) -> str:
        return values.get(match[1]) or _NOT_KNOWN

    return _NAMED.sub(named, _OPTIONAL.sub(optional, text))
