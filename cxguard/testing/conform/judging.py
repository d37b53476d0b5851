"""What a case has to look like. Pure: answers and counts in, a result out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cxguard.testing.answers import Answer, differences, is_paid

SHOWN_MAX = 6  # different answers in one line of the table


class Verdict(StrEnum):
    """How a case ended."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. `why`: what is wrong, or why it was not tried; empty where all is well."""

    case: str
    expected: str
    seen: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one case has shown.

    Attributes:
        answers: in their order.
        effects: how many took place; None where nobody counts them.
        again: the same request once more, when all was over; None where it was not sent.
    """

    answers: Sequence[Answer]
    effects: int | None = None
    again: Answer | None = None

    def __str__(self) -> str:
        sent = (*self.answers, *((self.again,) if self.again is not None else ()))
        statuses = Counter("no answer" if answer.status is None else str(answer.status) for answer in sent)
        shown = ", ".join(f"{times} x {status}" if times > 1 else status for status, times in list(statuses.items())[:SHOWN_MAX])
        return shown if self.effects is None else f"{shown}; {count_of(self.effects)}"


def count_of(effects: int) -> str:
    return f"{effects} effect{'' if effects == 1 else 's'}"


def result(case: str, expected: str, seen: Seen, wrong: Iterator[str]) -> Result:
    """The line of a case that was tried."""
    found = "; ".join(dict.fromkeys(wrong))
    return Result(case, expected, str(seen), Verdict.FAIL if found else Verdict.PASS, found)


def succeeds_once(seen: Seen) -> Iterator[str]:
    """A yes, and one effect."""
    yield from (f"not a success: {answer}" for answer in seen.answers if not answer.is_success)
    yield from effects_are(seen, 1)


def is_refused(seen: Seen, status: int) -> Iterator[str]:
    """One status, and no effect."""
    yield from (f"answered {answer}" for answer in seen.answers if answer.status != status)
    yield from effects_are(seen, 0)


def is_replayed(first: Answer, seen: Seen) -> Iterator[str]:
    """The first answer again, and no further effect."""
    for answer in seen.answers:
        yield from differences(first, answer)
    yield from effects_are(seen, 0)


def at_once(seen: Seen) -> Iterator[str]:
    """One answer for all, or "still running"; then the same answer again; one effect."""
    yes = [answer for answer in seen.answers if answer.is_success]
    others = [answer for answer in seen.answers if not answer.is_success and answer.status != 409]
    if not yes:
        yield "none succeeded"
    yield from (f"answered {answer}" for answer in others)
    yield from _all_one([*yes, *((seen.again,) if seen.again is not None else ())])
    yield from effects_are(seen, 1)


def are_different(seen: Seen) -> Iterator[str]:
    """Each key its own success, none the replay of another."""
    yield from (f"not a success: {answer}" for answer in seen.answers if not answer.is_success)
    if seen.effects is not None:
        yield from effects_are(seen, len(seen.answers))
    elif len({answer.body for answer in seen.answers}) < len(seen.answers):
        yield "two keys got one body: was it one effect? Say where effects are counted (--effects), or let the answer name its order"


def ends_once(seen: Seen) -> Iterator[str]:
    """However it broke off: in the end "paid", the same answer again, and one effect."""
    yes = [answer for answer in seen.answers if is_paid(answer)]
    if not yes:
        last = seen.answers[-1] if seen.answers else "nothing"
        yield f"no end: the last answer was {last}"
    elif seen.again is not None:
        yield from differences(yes[-1], seen.again)
    yield from effects_are(seen, 1)


def effects_are(seen: Seen, count: int) -> Iterator[str]:
    """As many as there should be, where they are counted."""
    if seen.effects not in (None, count):
        yield f"{count_of(seen.effects or 0)}, not {count}"


def _all_one(answers: Sequence[Answer]) -> Iterator[str]:
    for answer in answers[1:]:
        yield from differences(answers[0], answer)
