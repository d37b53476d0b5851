"""How the answers of a service are judged: each rule, kept and broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cxguard.testing.answers import Answer
from cxguard.testing.conform import judging
from cxguard.testing.conform.judging import Seen, Verdict
from cxguard.testing.conform.service import at_pointer, counted

JSON = {"content-type": "application/json", "date": "today"}
YES = Answer(201, JSON, b'{"order": 1}')
LATER = Answer(201, {**JSON, "date": "tomorrow"}, b'{"order": 1}')
OTHER = Answer(201, JSON, b'{"order": 2}')
MOVED = Answer(201, {**JSON, "location": "/orders/2"}, b'{"order": 1}')
CONFLICT, MISMATCH, MISSING, ERROR = Answer(409), Answer(422), Answer(400), Answer(500)
PAID = Answer(202, JSON, b'{"money": "charged"}')
GONE = Answer(None, why="ConnectError")

Rule = Callable[[Seen], Iterator[str]]


def refused(status: int) -> Rule:
    return lambda seen: judging.is_refused(seen, status)


def replayed(seen: Seen) -> Iterator[str]:
    return judging.is_replayed(YES, seen)


@pytest.mark.parametrize(
    ("rule", "seen", "wrong"),
    [
        (judging.succeeds_once, Seen([YES], 1), ""),
        (judging.succeeds_once, Seen([YES], 2), "2 effects, not 1"),
        (judging.succeeds_once, Seen([PAID]), "not a success"),
        (refused(400), Seen([MISSING], 0), ""),
        (refused(400), Seen([YES], 1), "1 effect, not 0"),
        (refused(422), Seen([MISMATCH]), ""),
        (refused(422), Seen([YES]), "answered 201"),
        (replayed, Seen([YES, LATER], 0), ""),
        (replayed, Seen([OTHER]), "another body"),
        (replayed, Seen([CONFLICT]), "status 409 after 201"),
        (replayed, Seen([MOVED]), "location '/orders/2' after None"),
        (replayed, Seen([YES], 1), "1 effect, not 0"),
        (judging.at_once, Seen([YES, LATER, CONFLICT], 1, again=YES), ""),
        (judging.at_once, Seen([CONFLICT, CONFLICT], 1, again=YES), "none succeeded"),
        (judging.at_once, Seen([YES, ERROR], 1, again=YES), "answered 500"),
        (judging.at_once, Seen([YES, OTHER], 1, again=YES), "another body"),
        (judging.at_once, Seen([YES, YES], again=OTHER), "another body"),
        (judging.at_once, Seen([YES, YES], 2, again=YES), "2 effects, not 1"),
        (judging.are_different, Seen([YES, OTHER]), ""),
        (judging.are_different, Seen([YES, YES]), "two keys got one body"),
        (judging.are_different, Seen([YES, YES], 2), ""),
        (judging.are_different, Seen([YES, OTHER], 1), "1 effect, not 2"),
        (judging.ends_once, Seen([GONE, CONFLICT, YES], 1, again=YES), ""),
        (judging.ends_once, Seen([GONE, PAID, YES], 1, again=YES), ""),
        (judging.ends_once, Seen([GONE, PAID], 1, again=PAID), "no end: the last answer was 202"),
        (judging.ends_once, Seen([GONE, CONFLICT], 1, again=CONFLICT), "no end: the last answer was 409"),
        (judging.ends_once, Seen([GONE, YES], 2, again=YES), "2 effects, not 1"),
        (judging.ends_once, Seen([YES], 1, again=OTHER), "another body"),
    ],
)
def test_each_rule_is_judged(rule: Rule, seen: Seen, wrong: str) -> None:
    """What is as it should be passes, and what is not is named."""
    told = judging.result("case", "expected", seen, rule(seen))
    assert told.verdict is (Verdict.FAIL if wrong else Verdict.PASS)
    assert wrong in told.why


def test_what_was_seen_is_short() -> None:
    """Equal answers are counted, and so are effects."""
    assert str(Seen([YES, YES, GONE], 1, again=CONFLICT)) == "2 x 201, no answer, 409; 1 effect"


@pytest.mark.parametrize(
    ("pointer", "count"), [("/payments", 2), ("/figures/charges", 7), ("/a~1b", 1), ("", None), ("/none", None), ("/payments/0", None)]
)
def test_effects_are_counted_at_a_pointer(pointer: str, count: int | None) -> None:
    """A list's length, or a number; anything else is an error."""
    document = {"payments": [{}, {}], "figures": {"charges": 7}, "a/b": [1]}
    if count is not None:
        assert counted(at_pointer(document, pointer)) == count
        return
    with pytest.raises((LookupError, ValueError)):
        counted(at_pointer(document, pointer))
