"""What a handler's answer means, where its status does not say: the matchers of a rule's `reads=`.

reads={Reading.SUCCEEDED: redirects_to("/thank-you*"), Reading.DECLINED: page_has(".card-declined") & ~page_has(".retry")}
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote, urlsplit

from cxguard.core.money import MoneyState
from cxguard.core.reading import Case, HandlerAnswer, Matcher, Reading, read
from cxguard.errors import ConfigurationError
from cxguard.rules.match import spellings
from cxguard.rules.sources import json_member

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Condition:
    """A matcher that can be combined: `a | b`, `a & b`, `~a`."""

    name: str
    holds: Callable[[HandlerAnswer], bool]

    def __call__(self, answer: HandlerAnswer) -> bool:
        return self.holds(answer)

    def __or__(self, other: Matcher) -> Condition:
        return Condition(f"({self.name} | {_name(other)})", lambda answer: self.holds(answer) or other(answer))

    def __and__(self, other: Matcher) -> Condition:
        return Condition(f"({self.name} & {_name(other)})", lambda answer: self.holds(answer) and other(answer))

    def __invert__(self) -> Condition:
        return Condition(f"~{self.name}", lambda answer: not self.holds(answer))


def has_status(*statuses: int) -> Condition:
    """The answer's status is one of these."""
    return Condition(f"has_status{statuses}", lambda answer: answer.status in statuses)


def redirects_to(glob: str) -> Condition:
    """A redirect whose target matches *glob* (`/thank-you*`): its path, with the query if the pattern has a `?` written `[?]`."""

    def holds(answer: HandlerAnswer) -> bool:
        location = answer.header("location") if 300 <= answer.status <= 399 else None
        if location is None:
            return False
        target = urlsplit(location)
        return fnmatchcase(target.path, glob) or fnmatchcase(f"{target.path}?{target.query}", glob)

    return Condition(f"redirects_to({glob!r})", holds)


def only_respells(answer: HandlerAnswer, path: str) -> bool:
    """Whether a router sent a request for *path* on to its own spelling of it: nothing was tried yet."""
    location = answer.header("location") if 300 <= answer.status <= 399 else None
    target = unquote(urlsplit(location).path) if location else path
    return target != path and spellings(target) == spellings(path)


def reading_of(answer: HandlerAnswer | None, *, cases: Sequence[Case], charged_by: str, path: str, money: MoneyState) -> Reading:
    """What a run's answer means, also of a request that runs again. Where the guard charges, and the rule has no cases of its own,
    a redirect says nothing by itself, and the record says how it went.

    Args:
        path: what was asked for.
        money: on record after the run.
    """
    if answer is not None and only_respells(answer, path):
        return Reading.REJECTED
    reading = read(answer, cases)
    redirects = answer is not None and 300 <= answer.status < 400
    if reading is Reading.FAILED and redirects and not cases and charged_by == "guard":
        return Reading.DECLINED if money is MoneyState.DECLINED else Reading.SUCCEEDED
    return reading


def json_path(path: str, *, equals: Any = _ABSENT, in_: Collection[Any] | None = None) -> Condition:
    """A member of a JSON answer: is *equals*, is one of *in_*, or (with neither) is there and not null."""
    steps = tuple(path.split("."))

    def holds(answer: HandlerAnswer) -> bool:
        value = json_member(answer.json(), steps)
        if in_ is not None:
            return value is not None and any(_equal(value, one) for one in in_)
        return _equal(value, equals) if equals is not _ABSENT else value is not None

    asked = f", in_={in_!r}" if in_ is not None else "" if equals is _ABSENT else f", equals={equals!r}"
    return Condition(f"json_path({path!r}{asked})", holds)


def page_has(selector: str) -> Condition:
    """An element of an HTML answer matches this CSS selector.

    Raises:
        ConfigurationError: the HTML parser is not installed, or the selector cannot be read.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser, SelectolaxError
    except ImportError as error:
        raise ConfigurationError(f"page_has({selector!r}) needs an HTML parser: run pip install 'cxguard[html]'") from error
    try:
        LexborHTMLParser("<p></p>").css_first(selector)
    except SelectolaxError as error:
        raise ConfigurationError(f'page_has({selector!r}) is no CSS selector; write for instance page_has(".order-confirmed")') from error
    return Condition(f"page_has({selector!r})", lambda answer: LexborHTMLParser(answer.content()).css_first(selector) is not None)


def graphql_errors(code: str | None = None) -> Condition:
    """A GraphQL answer with errors; with *code*, with one whose `extensions.code` it is."""

    def holds(answer: HandlerAnswer) -> bool:
        errors = json_member(answer.json(), ("errors",))
        if not isinstance(errors, list) or code is None:
            return bool(errors)
        return any(json_member(error, ("extensions", "code")) == code for error in errors)

    return Condition(f"graphql_errors({code!r})" if code else "graphql_errors()", holds)


def graphql_cases(charged_by: str) -> tuple[Case, ...]:
    """How the answer of a mutation is read whose rule has no `reads=`: GraphQL tells of a failure with status 200.

    Errors without data came before anything was run, unless one names the field that it came from, or is the server's own. With
    data, the root field that is null has failed. Nobody knows how far such a field had come: where the guard charges its record
    says so, where the shop does nobody does.
    """
    failed = Reading.REJECTED if charged_by == "guard" else Reading.FAILED
    return ((_refused_whole, Reading.REJECTED), (_root_failed, failed))


def _refused_whole(answer: HandlerAnswer) -> bool:
    told = _with_errors(answer)
    return bool(told) and not any("data" in one or _came_from_within(one["errors"]) for one in told)


def _came_from_within(errors: Any) -> bool:
    """Whether something was run, although there are no data: only what is run has a path."""
    told = errors if isinstance(errors, list) else [errors]
    codes = [json_member(error, ("extensions", "code")) for error in told]
    return any(isinstance(error, dict) and error.get("path") for error in told) or "INTERNAL_SERVER_ERROR" in codes


def _root_failed(answer: HandlerAnswer) -> bool:
    return any(_is_null(one.get("data")) for one in _with_errors(answer))


def _with_errors(answer: HandlerAnswer) -> list[dict[str, Any]]:
    """The answers with errors, of one request or of a batch; none where the status tells already."""
    value = answer.json() if 200 <= answer.status <= 299 else None
    several = value if isinstance(value, list) else [value]
    return [one for one in several if isinstance(one, dict) and one.get("errors")]


def _is_null(data: Any) -> bool:
    return not isinstance(data, dict) or any(value is None for value in data.values())


def cases_of(reads: Mapping[Reading, Matcher] | Sequence[Case]) -> tuple[Case, ...]:
    """A rule's `reads=`, written as a mapping or as a list of (matcher, reading), as cases in order.

    Raises:
        ConfigurationError: a matcher that cannot be called, or a reading that is none.
    """
    pairs = [(matcher, reading) for reading, matcher in reads.items()] if isinstance(reads, Mapping) else list(reads)
    for pair in pairs:
        matcher, reading = pair if isinstance(pair, tuple) and len(pair) == 2 else (pair, None)
        if not callable(matcher) or reading not in set(Reading):
            raise ConfigurationError(
                f'reads= cannot read {_name(matcher)} as {reading!r}; write reads={{Reading.SUCCEEDED: redirects_to("/thank-you*")}}'
            )
    return tuple((matcher, Reading(reading)) for matcher, reading in pairs)


def _equal(value: Any, wanted: Any) -> bool:
    """Equal, and not merely `True == 1`."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _name(matcher: Any) -> str:
    return matcher.name if isinstance(matcher, Condition) else getattr(matcher, "__name__", repr(matcher))
