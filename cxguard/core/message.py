"""What an error said to the shopper, without anything that a person typed.

Our own answers are named by their catalogue key and version. The shop's own text is kept as words: digits, e-mail
addresses, quoted parts and the values of the very request are replaced, so that "Card 4111... of Ann is not valid" and
the same about Bob are one message, and nobody's data is in it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

TEXT_MAX = 200  # characters of the shop's own text: a sentence or two
_READ_MAX = 1_000  # characters looked at, so that a page of text costs nothing
TYPED_MAX = 1_000  # values of one request that are looked for: as many as a form may have fields
_TYPED_CHARS_MIN = 2  # one letter is part of every word
_PASSES_MAX = 20  # until nothing changes: cutting one part out may bring two quotation marks together
_HOLE = "…"

# Possessive and anchored at a token's start: linear on any input.
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]++(?:@|%40)[\w.%-]*+")
_NUMBERED = re.compile(r"(?<![0-9A-Za-z_-])[A-Za-z_-]*+\d[0-9A-Za-z_-]*+")
_NUMBERS = re.compile(r"#(?:[\s.,:/+()-]{0,3}#)+")
_QUOTED = re.compile(r"\"[^\"]{1,80}\"|“[^”]{1,80}”|„[^“”]{1,80}[“”]|«[^»]{1,80}»|`[^`]{1,80}`|(?<!\w)['‘][^'’]{1,80}['’](?!\w)")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of our catalogue (*key* and *version*), or the shop's own words (*text*, cleaned here in any case)."""

    key: str = ""
    version: int = 0
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", clean_label(self.key, chars_max=80))
        object.__setattr__(self, "text", clean_text(self.text))

    @property
    def label(self) -> str:
        """Names the message in counters and tables: `declined@3`, or `"the shop's own text"`."""
        return f"{self.key}@{self.version}" if self.key else f'"{self.text}"'


def message_of(label: str) -> Message:
    """Read what `Message.label` wrote."""
    if label.startswith('"'):
        return Message(text=label[1:].removesuffix('"'))
    key, _, version = label.rpartition("@")
    return Message(key=key, version=int(version) if version.isdecimal() else 0) if key else Message(key=label)


def clean_text(text: str, typed: Iterable[str] = ()) -> str:
    """The words of *text*, at most `TEXT_MAX` characters, without digits and without what a person typed.

    Args:
        typed: values of the request that was answered (form fields, JSON strings); they are cut out wherever they occur
            as whole words, also as a URL, a form or JSON would write them. At most `TYPED_MAX` are looked at, the longest first.
    """
    words = _plain(text)
    there = words.casefold()
    plain = sorted({_plain(value) for value in typed}, key=len, reverse=True)[:TYPED_MAX]
    for value in sorted({written for each in plain for written in _writings(each)}, key=len, reverse=True):
        if len(value) >= _TYPED_CHARS_MIN and value.casefold() in there:
            words = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", _HOLE, words, flags=re.IGNORECASE)
    for _ in range(_PASSES_MAX):
        cleaned = _cut(_QUOTED.sub(_HOLE, _NUMBERS.sub("#", _NUMBERED.sub("#", _EMAIL.sub(_HOLE, words)))))
        if cleaned == words:
            break
        words = cleaned
    return words


def _writings(value: str) -> tuple[str, ...]:
    """How *value* may stand in a text that quotes what was sent: a form's body, a query, JSON."""
    if value.isalnum() and value.isascii():
        return (value,)
    safe = value.encode(errors="replace").decode()
    return (value, quote_plus(safe, safe="*"), quote(safe, safe=""), quote(safe), json.dumps(value)[1:-1])


def _plain(text: str) -> str:
    """One writing for what looks the same: printable, composed, and one space between words."""
    return " ".join(_printable(unicodedata.normalize("NFC", text[:_READ_MAX])).split())


def _cut(words: str) -> str:
    return words if len(words) <= TEXT_MAX else words[: TEXT_MAX - 1].rstrip("#… ") + _HOLE


def clean_label(text: str, *, chars_max: int = 32) -> str:
    """A short printable name (market, language, device class), or what is left of it."""
    return " ".join(_printable(text[:_READ_MAX]).split())[:chars_max].strip()


def _printable(text: str) -> str:
    """Control characters become spaces; invisible and direction-changing ones go."""
    kinds = ((char, unicodedata.category(char)) for char in text)
    return "".join(" " if kind == "Cc" else char for char, kind in kinds if kind not in ("Cf", "Cs", "Co", "Cn"))
