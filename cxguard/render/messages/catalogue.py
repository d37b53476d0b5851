"""The message catalogue: what a situation is called and said in each locale, checked whole when it is loaded.

Every locale has every message; a shop may put its own texts over ours, message by message, each with a version of its
own, so that the record of what a shopper was shown stays true. A text that claims what is not known is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from cxguard.core.answer import SPECS, AnswerSpec, MoneyTold, Situation
from cxguard.core.asks import WORDS
from cxguard.core.honesty import check_words
from cxguard.core.outcomes import DeclineReason
from cxguard.errors import ConfigurationError

FALLBACK = "en"
SHIPPED = ("en", "de", "fr")
PLACEHOLDERS = frozenset({"shop", "reference", "amount", "minutes", "time", "until"})
TEXT_CHARS_MAX = 2_000  # a message is read by somebody who worries; more than a page is not
_VARIANTS = frozenset(MoneyTold) | frozenset(DeclineReason) | WORDS
_OF_AN_ORDER = frozenset({situation for situation, spec in SPECS.items() if spec.order_saved}) | {
    Situation.CANCELLED,
    Situation.GAVE_UP,
    Situation.REFUNDED,
}
"""Situations that are always about an order: its reference is known, and the text has to name it."""

Texts: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By locale: message keys with their members, and `ui` with the labels. The shape of the TOML files, `messages` left out."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message in one locale. `variants` are used instead of `text` by money or by a decline's reason."""

    key: str
    version: int
    title: str
    text: str
    variants: Mapping[str, str]

    @property
    def label(self) -> str:
        """Names the message in records and counters: `kept@1`."""
        return f"{self.key}@{self.version}"

    def text_for(self, *choices: str) -> str:
        """The text of the first choice that has one of its own."""
        return next((self.variants[choice] for choice in choices if choice in self.variants), self.text)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All messages and labels, by locale."""

    messages: Mapping[str, Mapping[str, Message]]
    labels: Mapping[str, Mapping[str, str]]

    def message(self, locale: str, key: str) -> Message:
        """A message; in the fallback's words if the locale is not there."""
        return self.messages.get(locale, self.messages[FALLBACK])[key]

    def ui(self, locale: str) -> Mapping[str, str]:
        """The labels of the pages."""
        return self.labels.get(locale, self.labels[FALLBACK])

    def choose(self, accept_language: str) -> str:
        """The best locale for an `Accept-Language` header; ours by its primary subtag, or the fallback.

        Source: RFC 9110, section 12.5.4; matching by RFC 4647, section 3.4 (lookup).
        """
        for wanted in _wanted(accept_language):
            for locale in (wanted, wanted.partition("-")[0]):
                if locale in self.messages:
                    return locale
        return FALLBACK


def load_catalogue(own: Texts | Path | str | None = None, *, specs: Mapping[Situation, AnswerSpec] = SPECS) -> Catalogue:
    """Read our texts, put the shop's own over them, and check the whole.

    Args:
        own: by locale, or a folder of `LOCALE.toml` files shaped like ours.
        specs: the table in use: whose words each message is.

    Raises:
        ConfigurationError: a message is missing, unreadable, or says what is not known. The text says how to mend it.
    """
    return _our_own() if own is None and specs == SPECS else _loaded(own, specs)


@cache
def _our_own() -> Catalogue:
    """For all shops that say nothing else: reading and checking it takes longer than hundred checkouts."""
    return _loaded(None, SPECS)


def _loaded(own: Texts | Path | str | None, specs: Mapping[Situation, AnswerSpec]) -> Catalogue:
    shipped = {locale: _read(resources.files(__package__).joinpath(f"{locale}.toml").read_text("utf-8")) for locale in SHIPPED}
    situations = {spec.message: situation for situation, spec in specs.items()}
    given = own if isinstance(own, Mapping) else _read_folder(own)
    _check_shape(given, frozenset(situations) | shipped[FALLBACK].keys())
    texts = _merge(shipped, given)
    messages: dict[str, dict[str, Message]] = {}
    labels: dict[str, dict[str, str]] = {}
    for locale, members in texts.items():
        labels[locale] = _labels(locale, members.get("ui", {}), shipped[FALLBACK]["ui"])
        messages[locale] = {key: _message(locale, key, members.get(key)) for key in situations}
        for key, situation in situations.items():
            _check(messages[locale][key], situation, locale=locale, money=specs[situation].money)
    return Catalogue(messages, labels)


def _read(text: str) -> dict[str, Any]:
    document = tomllib.loads(text)
    return {**document.get("messages", {}), "ui": document.get("ui", {})}


def _read_folder(folder: Path | str | None) -> dict[str, dict[str, Any]]:
    if folder is None:
        return {}
    if not isinstance(folder, str | Path):
        raise ConfigurationError(f"messages={type(folder).__name__} is no folder and no texts: {_SHAPE}")
    files = sorted(Path(folder).glob("*.toml"))
    if not files:
        raise ConfigurationError(f"there is no text in {folder}: put LOCALE.toml files there, or leave `messages=` out")
    try:
        return {file.stem.lower(): _read(file.read_text("utf-8")) for file in files}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"a text in {folder} cannot be read as TOML: {error}") from error


_SHAPE = 'write Guard(..., messages={"en": {"kept": {"version": 101, "title": ..., "text": ...}}}), or a folder of LOCALE.toml files'


def _check_shape(given: Texts, known: Collection[str]) -> None:
    """A text under a wrong name would never be shown, and ours would be instead."""
    for locale, members in given.items():
        if not isinstance(locale, str) or not isinstance(members, Mapping):
            raise ConfigurationError(f"the texts of {locale!r} in messages= are no table of messages: {_SHAPE}")
        for key, member in members.items():
            if not isinstance(member, Mapping):
                raise ConfigurationError(f"the {locale} text of {key} in messages= is no table: {_SHAPE}")
            if key not in known:
                raise ConfigurationError(f"there is no message {key!r}, as in the {locale} texts: there are {', '.join(sorted(known))}")


def _merge(shipped: dict[str, dict[str, Any]], own: Texts) -> dict[str, dict[str, Any]]:
    merged = {locale: dict(members) for locale, members in shipped.items()}
    for locale, members in own.items():
        base = merged.setdefault(locale.lower(), {})
        for key, member in members.items():
            if key != "ui" and key in base and not isinstance(member.get("version"), int):
                raise ConfigurationError(
                    f"the {locale} text of {key} has no version: add version = {base[key]['version'] + 100}, and raise it with every change"
                )
            base[key] = {**base.get(key, {}), **member} if key == "ui" else _over(base.get(key, {}), member)
    return merged


def _over(base: Mapping[str, Any], member: Mapping[str, Any]) -> dict[str, Any]:
    """An own `text` replaces ours with all its variants: they would say something else beside it."""
    kept = {name: value for name, value in base.items() if "text" not in member or not name.startswith("text_")}
    return {**kept, **member}


def _labels(locale: str, own: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    missing = sorted(wanted.keys() - own.keys())
    if missing:
        raise ConfigurationError(f"the locale {locale} has no label {missing[0]!r}: add {missing[0]} = {wanted[missing[0]]!r} under [ui]")
    wrong = next((name for name, label in own.items() if not isinstance(label, str)), None)
    if wrong is not None:
        raise ConfigurationError(f"the label {wrong!r} of the locale {locale} is no text: write {wrong} = {wanted.get(wrong, '...')!r}")
    return dict(own)


def _message(locale: str, key: str, member: Mapping[str, Any] | None) -> Message:
    if not member or not isinstance(member.get("title"), str) or not isinstance(member.get("text"), str):
        raise ConfigurationError(f"the locale {locale} has no message {key!r} with a title and a text: add [messages.{key}]")
    version = member.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigurationError(f"the {locale} message {key} has no version: add version = 1, and raise it with every change")
    variants = {name.removeprefix("text_"): str(value).strip() for name, value in member.items() if name.startswith("text_")}
    return Message(key, version, member["title"].strip(), member["text"].strip(), variants)


# --- checks

_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_NAMED = re.compile(r"\{(\w*)\}")


def _check(message: Message, situation: Situation, *, locale: str, money: MoneyTold | None) -> None:
    unknown = sorted(message.variants.keys() - _VARIANTS)
    if unknown:
        raise ConfigurationError(f"the {locale} message {message.key} has text_{unknown[0]}, which is never used: take it out")
    language = locale.partition("-")[0]
    check_words(situation, message.title, language=language, money=money, warning=False)
    for variant, text in (("", message.text), *message.variants.items()):
        _check_placeholders(text, f"the {locale} text of {message.key}", of_an_order=situation in _OF_AN_ORDER)
        said_of = MoneyTold(variant) if variant in frozenset(MoneyTold) else money
        check_words(situation, text.replace("**", ""), language=language, money=said_of)


def _check_placeholders(text: str, name: str, *, of_an_order: bool) -> None:
    named = set(_NAMED.findall(text))
    if len(text) > TEXT_CHARS_MAX:
        raise ConfigurationError(f"{name} has {len(text)} characters: a message has at most {TEXT_CHARS_MAX}")
    if named - PLACEHOLDERS:
        raise ConfigurationError(f"{name} has {{{min(named - PLACEHOLDERS)}}}: there are only {', '.join(sorted(PLACEHOLDERS))}")
    if of_an_order and "reference" not in named:
        raise ConfigurationError(f"{name} does not name the order: add {{reference}}, so that the shopper can ask for it")
    loose = set(_NAMED.findall(_OPTIONAL.sub("", text))) - ({"shop", "reference"} if of_an_order else {"shop"})
    if loose:
        raise ConfigurationError(f"{name} has {{{min(loose)}}}, which is not always known: write [[ ... {{{min(loose)}}} ...]] around it")


# --- Accept-Language

_LANGUAGES_MAX = 20  # of one header; a browser sends a handful
_RANGE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?")


def _wanted(accept_language: str) -> list[str]:
    found = []
    for item in accept_language.split(",")[:_LANGUAGES_MAX]:
        match = _RANGE.fullmatch(item)
        if match and float(match[2] or 1) > 0:
            found.append((float(match[2] or 1), match[1].lower()))
    return [tag for _, tag in sorted(found, key=lambda pair: -pair[0])]
